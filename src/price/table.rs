//! The table: read once from the embedded file, looked up by provider and model.

use std::collections::HashMap;
use std::io::Read;
use std::sync::{Arc, OnceLock};

use crate::wire::Call;

use super::name::{self, matches};
use super::{Model, Rates, Rule, Tier};

static EMBEDDED: &[u8] = include_bytes!("table.tsv.gz");

/// List prices and context windows.
#[derive(Clone, Debug, Default)]
pub struct Prices {
    models: Arc<HashMap<String, HashMap<String, Model>>>,
    rules: Vec<(String, Model)>,
}

/// Servers on which a model costs no list price whatever its name.
const SELF_HOSTED: &[&str] = &["vllm", "sglang", "llama.cpp", "ollama", "tgi", "lmstudio", "lm-studio", "localai"];

impl Prices {
    /// The embedded table. Read at first use, then shared.
    pub fn embedded() -> Prices {
        static READ: OnceLock<Prices> = OnceLock::new();
        READ.get_or_init(|| {
            let mut text = String::new();
            // The file is part of the program; a test reads it. If it could not be read nothing would have a price.
            let _ = flate2::read::GzDecoder::new(EMBEDDED).read_to_string(&mut text);
            Prices::parse(&text)
        })
        .clone()
    }

    /// The same with rules of the user, which go before the table. Earlier ones win.
    pub fn with_rules(mut self, rules: &[Rule]) -> Prices {
        self.rules.extend(rules.iter().map(|rule| (rule.model.to_ascii_lowercase(), model_of_rule(rule))));
        self
    }

    /// Reads a table (`testdata/generate/prices.py` says what a line is). What is no such line is left out.
    pub(super) fn parse(text: &str) -> Prices {
        let mut models: HashMap<String, HashMap<String, Model>> = HashMap::new();
        let mut undated = Vec::new();
        for (provider, name, model) in text.lines().filter_map(line) {
            let of = models.entry(provider.to_owned()).or_default();
            if let Some(short) = name::without_date(&name) {
                undated.push((provider.to_owned(), short.to_owned(), model.clone()));
            }
            of.insert(name, model);
        }
        // Clients may leave the date out. The latest comes last.
        undated.reverse();
        for (provider, name, model) in undated {
            models.entry(provider).or_default().entry(name).or_insert(model);
        }
        Prices { models: Arc::new(models), rules: Vec::new() }
    }

    /// The model that answered a call, or the one asked for where that is not known.
    pub(super) fn model_of(&self, call: &Call) -> Option<&Model> {
        let names = [&call.response_model, &call.request_model];
        let names = || names.into_iter().flatten().map(|name| name.to_ascii_lowercase());
        if let Some(found) = names().find_map(|name| self.by_rule(&name)) {
            return Some(found);
        }
        if call.server_kind.as_deref().is_some_and(|kind| SELF_HOSTED.contains(&kind)) || call.provider == "ollama" {
            return None;
        }
        names().find_map(|name| self.find(&call.provider, &name))
    }

    fn by_rule(&self, name: &str) -> Option<&Model> {
        self.rules.iter().find(|(pattern, _)| matches(pattern, name)).map(|(_, model)| model)
    }

    /// The model of this name at this provider; where a gateway or a cloud is not in the table with it, at its maker.
    pub(super) fn find(&self, provider: &str, model: &str) -> Option<&Model> {
        let model = model.to_ascii_lowercase();
        if let Some(found) = self.by_rule(&model) {
            return Some(found);
        }
        let at = |provider: &str, name: &str| self.models.get(provider)?.get(&name::key(name));
        let spellings = name::spellings(&model);
        spellings.iter().find_map(|name| at(provider, name)).or_else(|| {
            let plain = spellings.last()?;
            spellings.iter().find_map(|name| at(name::maker(&model, plain)?, name))
        })
    }
}

fn line(line: &str) -> Option<(&str, String, Model)> {
    let mut fields = line.split('\t');
    let (provider, name, context) = (fields.next()?, fields.next()?, fields.next()?);
    let rates: Vec<(u64, Tier, Rates)> = fields.filter_map(rates).collect();
    let anthropic = name.contains("claude");
    Some((provider, name::key(name), Model { context: context.parse().ok(), rates, anthropic }))
}

fn rates(field: &str) -> Option<(u64, Tier, Rates)> {
    let (label, prices) = field.split_once('=')?;
    let (label, tier) = match label.chars().last() {
        Some('p') => (label.strip_suffix('p')?, Tier::Priority),
        Some('f') => (label.strip_suffix('f')?, Tier::Flex),
        Some('b') => (label.strip_suffix('b')?, Tier::Batch),
        _ => (label, Tier::Standard),
    };
    let above = match label.strip_prefix('>') {
        Some(above) => above.parse().ok()?,
        None => 0,
    };
    let mut prices = prices.split('/').map(|price| price.parse().ok());
    let mut next = || prices.next().flatten();
    let rates = Rates {
        input: next(),
        output: next(),
        cache_read: next(),
        cache_write: next(),
        cache_write_1h: next(),
        reasoning: next(),
    };
    Some((above, tier, rates))
}

fn model_of_rule(rule: &Rule) -> Model {
    // Dollars a million tokens are as many micro-dollars, or millions of picodollars, a token.
    let price = |dollars: Option<f64>| dollars.map(|dollars| (dollars * 1e6).round().clamp(0.0, 1e15) as u64);
    let rates = Rates {
        input: price(rule.input),
        output: price(rule.output),
        cache_read: price(rule.cache_read),
        cache_write: price(rule.cache_write),
        cache_write_1h: price(rule.cache_write_1h),
        reasoning: price(rule.reasoning),
    };
    Model { context: rule.context, rates: vec![(0, Tier::Standard, rates)], anthropic: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(provider: &str, model: &str) -> Option<u64> {
        Prices::embedded().find(provider, model).map(|model| model.rates(0, Tier::Standard).input.unwrap_or(0))
    }

    #[test]
    fn the_embedded_table_is_whole() {
        let prices = Prices::embedded();
        let count: usize = prices.models.values().map(HashMap::len).sum();
        assert!(count > 2_000, "{count} models");
        for of in prices.models.values() {
            for (name, model) in of {
                let standard = model.rates(0, Tier::Standard);
                assert!(standard.input.is_some() || standard.output.is_some(), "{name}");
            }
        }
    }

    #[test]
    fn names_are_met_as_clients_and_servers_spell_them() {
        let sonnet = Some(3_000_000);
        for (provider, model) in [
            ("anthropic", "claude-sonnet-4-5"),
            ("anthropic", "claude-sonnet-4-5-20250929"),
            ("anthropic", "Claude-Sonnet-4-5[1m]"),
            ("openrouter", "anthropic/claude-sonnet-4.5"),
            ("aws.bedrock", "anthropic.claude-sonnet-4-5-20250929-v1:0"),
            ("aws.bedrock", "global.anthropic.claude-sonnet-4-5-20250929-v1:0"),
            ("aws.bedrock", "claude-sonnet-4-5-20250929"),
            ("gcp.vertex_ai", "claude-sonnet-4-5@20250929"),
            ("github_copilot", "claude-sonnet-4.5"),
            ("openai", "anthropic/claude-sonnet-4-5"),
        ] {
            assert_eq!(input(provider, model), sonnet, "{provider} {model}");
        }
        assert_eq!(input("openai", "gpt-4o-2024-08-06"), Some(2_500_000));
        assert_eq!(input("azure.ai.openai", "gpt-4o-2024-08-06"), Some(2_500_000));
        assert_eq!(input("gcp.gemini", "models/gemini-2.5-pro"), Some(1_250_000));
        assert_eq!(input("gcp.vertex_ai", "publishers/google/models/gemini-2.5-pro"), Some(1_250_000));
    }

    #[test]
    fn a_smaller_or_an_unknown_model_is_not_taken_for_a_known_one() {
        assert_ne!(input("openai", "gpt-5-mini"), input("openai", "gpt-5"));
        for (provider, model) in [
            ("openai", "gpt-5-nobody"),
            ("openai", "my-model"),
            ("openai", ""),
            ("", ""),
            ("openai", "llama-3.3-70b"),
            ("x", "gpt-oss-20b"),
        ] {
            assert_eq!(input(provider, model), None, "{provider} {model}");
        }
    }

    #[test]
    fn lines_that_are_none_are_left_out() {
        let prices = Prices::parse("# head\n\nx\ny\tz\nopenai\tm\t\tnonsense\t=1/2\t>x=3\n");
        assert_eq!(prices.find("openai", "m").map(|model| model.rates.len()), Some(1));
        assert_eq!(prices.models.len(), 1);
    }
}
