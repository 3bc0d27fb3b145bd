//! What calls cost, and how large a model's context window is: an embedded table of list prices (`ORIGIN.md`), and a user's own rules.
//!
//! Pure: the table is data of the program. What is not known stays unknown and is never 0; money is counted in picodollars, so that
//! sums are exact and the same in any order.

mod name;
mod table;

use serde::{Deserialize, Serialize};

use crate::wire::{Call, Operation, Usage};

pub use table::Prices;

/// Picodollars in a dollar.
const DOLLAR: f64 = 1e12;

/// What some calls cost, in picodollars (a millionth of a millionth of a US dollar), by class of token as [`Usage`] has them.
/// `None` is "not known", or that there were no such tokens.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Cost {
    /// Input that was neither read from a cache nor written to one.
    pub input_uncached: Option<u64>,
    /// Input read from a cache.
    pub cache_read: Option<u64>,
    /// Input written to a cache of five minutes.
    pub cache_write_5m: Option<u64>,
    /// Input written to a cache of an hour.
    pub cache_write_1h: Option<u64>,
    /// Output that is not reasoning.
    pub output_text: Option<u64>,
    /// Reasoning.
    pub output_reasoning: Option<u64>,
    /// False when there is more that could not be told: a count of tokens was not sent, or a call's model has no known price.
    pub complete: bool,
}

impl Cost {
    /// The classes, in picodollars, in the order of the fields.
    pub fn classes(&self) -> [Option<u64>; 6] {
        [
            self.input_uncached,
            self.cache_read,
            self.cache_write_5m,
            self.cache_write_1h,
            self.output_text,
            self.output_reasoning,
        ]
    }

    /// All classes together, in picodollars.
    pub fn total(&self) -> u64 {
        self.classes().into_iter().flatten().fold(0, u64::saturating_add)
    }

    /// Picodollars as dollars.
    pub fn dollars(picodollars: u64) -> f64 {
        picodollars as f64 / DOLLAR
    }

    /// Adds class by class.
    pub fn add(&mut self, other: &Cost) {
        fn sum(into: &mut Option<u64>, more: Option<u64>) {
            if let Some(more) = more {
                *into = Some(into.unwrap_or(0).saturating_add(more));
            }
        }
        sum(&mut self.input_uncached, other.input_uncached);
        sum(&mut self.cache_read, other.cache_read);
        sum(&mut self.cache_write_5m, other.cache_write_5m);
        sum(&mut self.cache_write_1h, other.cache_write_1h);
        sum(&mut self.output_text, other.output_text);
        sum(&mut self.output_reasoning, other.output_reasoning);
        self.complete &= other.complete;
    }
}

/// A user's own price: `[[price]]` in the configuration. Prices are dollars for a million tokens.
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rule {
    /// The model's name as sent or as answered; `*` stands for any characters.
    pub model: String,
    /// Input.
    pub input: Option<f64>,
    /// Output.
    pub output: Option<f64>,
    /// Input read from a cache; as input when left out.
    pub cache_read: Option<f64>,
    /// Input written to a cache; as input when left out.
    pub cache_write: Option<f64>,
    /// Input written to a cache of an hour; as `cache_write` when left out.
    pub cache_write_1h: Option<f64>,
    /// Reasoning; as output when left out.
    pub reasoning: Option<f64>,
    /// The context window in tokens.
    pub context: Option<u64>,
}

/// The service tier that a price is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Tier {
    Standard,
    Priority,
    Flex,
    Batch,
}

impl Tier {
    fn of(call: &Call) -> Tier {
        match call.service_tier.as_deref().map(str::to_ascii_lowercase).as_deref() {
            Some("priority") => Tier::Priority,
            Some("flex") => Tier::Flex,
            Some("batch") => Tier::Batch,
            _ => Tier::Standard,
        }
    }
}

/// Prices of the six classes, in picodollars a token.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Rates {
    input: Option<u64>,
    output: Option<u64>,
    cache_read: Option<u64>,
    cache_write: Option<u64>,
    cache_write_1h: Option<u64>,
    reasoning: Option<u64>,
}

impl Rates {
    /// These, and where they say nothing, others.
    fn or(self, other: Rates) -> Rates {
        Rates {
            input: self.input.or(other.input),
            output: self.output.or(other.output),
            cache_read: self.cache_read.or(other.cache_read),
            cache_write: self.cache_write.or(other.cache_write),
            cache_write_1h: self.cache_write_1h.or(other.cache_write_1h),
            reasoning: self.reasoning.or(other.reasoning),
        }
    }
}

/// What is known of a model.
#[derive(Clone, PartialEq, Debug, Default)]
struct Model {
    context: Option<u64>,
    /// Above so many input tokens, in that tier: these rates.
    rates: Vec<(u64, Tier, Rates)>,
    /// An hour's cache write costs twice the input where the table does not say (Anthropic's rule).
    anthropic: bool,
}

impl Model {
    /// The rates of a request as a whole: the price of a long context holds for all of its tokens.
    fn rates(&self, input: u64, tier: Tier) -> Rates {
        let long = self.rates.iter().map(|(above, ..)| *above).filter(|above| input > *above).max().unwrap_or(0);
        let of = |above: u64, tier: Tier| {
            self.rates
                .iter()
                .find(|(a, t, _)| *a == above && *t == tier)
                .map(|(_, _, rates)| *rates)
                .unwrap_or_default()
        };
        let tiers = [(long, tier), (long, Tier::Standard), (0, tier), (0, Tier::Standard)];
        let mut rates = tiers.into_iter().fold(Rates::default(), |rates, (above, tier)| rates.or(of(above, tier)));
        if self.anthropic && of(long, tier).cache_write_1h.is_none() {
            rates.cache_write_1h = rates.input.map(|input| input.saturating_mul(2));
        }
        rates
    }

    fn cost(&self, usage: &Usage, tier: Tier, answers: bool) -> Option<Cost> {
        let input = usage.input_total.or(usage.input_uncached);
        if usage.is_unknown() {
            return None;
        }
        let rates = self.rates(input.unwrap_or(0), tier);
        let price = |tokens: Option<u64>, rate: Option<u64>| Some(tokens?.saturating_mul(rate?));
        let split = [usage.input_uncached, usage.cache_read, usage.cache_write_5m, usage.cache_write_1h];
        let uncached = if split.iter().all(Option::is_none) { usage.input_total } else { usage.input_uncached };
        let text = usage
            .output_text
            .or_else(|| usage.output_total.map(|total| total.saturating_sub(usage.output_reasoning.unwrap_or(0))));
        let cost = Cost {
            input_uncached: price(uncached, rates.input),
            cache_read: price(usage.cache_read, rates.cache_read.or(rates.input)),
            cache_write_5m: price(usage.cache_write_5m, rates.cache_write.or(rates.input)),
            cache_write_1h: price(usage.cache_write_1h, rates.cache_write_1h.or(rates.cache_write).or(rates.input)),
            output_text: price(text, rates.output),
            output_reasoning: price(usage.output_reasoning, rates.reasoning.or(rates.output)),
            complete: input.is_some()
                && rates.input.is_some()
                && (!answers || text.is_some() && rates.output.is_some()),
        };
        cost.classes().iter().any(Option::is_some).then_some(cost)
    }
}

/// What the table says about one call.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Appraisal {
    /// What it cost at list price; `None` when nothing is known of it.
    pub cost: Option<Cost>,
    /// How many input tokens fit its model.
    pub context_window: Option<u64>,
}

impl Prices {
    /// Looks a call's model up.
    pub fn appraise(&self, call: &Call) -> Appraisal {
        let Some(model) = self.model_of(call) else { return Appraisal::default() };
        // Counting tokens is free, and sound and pictures have prices of their own, which a count of tokens does not tell apart.
        let cost = match call.operation {
            Operation::Chat | Operation::GenerateContent | Operation::TextCompletion => {
                model.cost(&call.usage, Tier::of(call), true)
            }
            Operation::Embeddings | Operation::Rerank => model.cost(&call.usage, Tier::of(call), false),
            _ => None,
        };
        Appraisal { cost, context_window: model.context }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "# made\n\
        anthropic\tclaude-x-1\t200000\t=3000000/15000000/300000/3750000/6000000\tb=1500000/7500000/150000/1875000\n\
        openai\tgpt-x\t1000000\t=2000000/8000000/200000\tp=4000000/16000000/400000\tf=1000000/4000000\t>272000=4000000/12000000/400000\n\
        gcp.gemini\tgemini-x\t\t=1000000/4000000///\t>200000=2000000/6000000\n\
        openai\tembed\t8000\t=20000\n\
        alibaba_cloud\tthink\t\t=100000/400000////1200000\n";

    fn usage(input: [u64; 4], output: [u64; 2]) -> Usage {
        let known = |count: u64| (count > 0).then_some(count);
        Usage {
            input_uncached: Some(input[0]),
            cache_read: known(input[1]),
            cache_write_5m: known(input[2]),
            cache_write_1h: known(input[3]),
            output_text: Some(output[0]),
            output_reasoning: known(output[1]),
            input_total: Some(input.iter().sum()),
            output_total: Some(output.iter().sum()),
        }
    }

    fn cost(provider: &str, model: &str, tier: Tier, usage: Usage) -> Option<Cost> {
        Prices::parse(TABLE).find(provider, model)?.cost(&usage, tier, true)
    }

    #[test]
    fn every_class_has_its_price() {
        let cost = cost("anthropic", "claude-x-1", Tier::Standard, usage([10, 1_000, 100, 200], [50, 7])).unwrap();
        assert_eq!(
            cost.classes(),
            [
                Some(30_000_000),
                Some(300_000_000),
                Some(375_000_000),
                Some(1_200_000_000),
                Some(750_000_000),
                Some(105_000_000)
            ]
        );
        assert_eq!((cost.total(), cost.complete), (2_760_000_000, true));
        assert!((Cost::dollars(cost.total()) - 0.00276).abs() < 1e-12);
    }

    #[test]
    fn reasoning_has_its_own_price_where_there_is_one() {
        let cost = cost("alibaba_cloud", "think", Tier::Standard, usage([0, 0, 0, 0], [10, 10])).unwrap();
        assert_eq!((cost.output_text, cost.output_reasoning), (Some(4_000_000), Some(12_000_000)));
    }

    #[test]
    fn a_tier_and_a_long_context_change_the_price_of_the_whole_request() {
        let at = |tier, input| cost("openai", "gpt-x", tier, usage([input, 0, 0, 0], [1, 0])).unwrap();
        assert_eq!(at(Tier::Standard, 272_000).input_uncached, Some(272_000 * 2_000_000));
        assert_eq!(at(Tier::Standard, 272_001).input_uncached, Some(272_001 * 4_000_000));
        assert_eq!(at(Tier::Standard, 272_001).output_text, Some(12_000_000));
        assert_eq!(at(Tier::Priority, 10).total(), 40_000_000 + 16_000_000);
        assert_eq!(at(Tier::Flex, 10).total(), 10_000_000 + 4_000_000);
        assert_eq!(at(Tier::Batch, 10).total(), 20_000_000 + 8_000_000, "the table has no price for this tier");
        let cached = cost("openai", "gpt-x", Tier::Flex, usage([0, 10, 0, 0], [1, 0])).unwrap();
        assert_eq!(cached.cache_read, Some(2_000_000), "nor for its cached reads");
    }

    #[test]
    fn an_hour_s_cache_write_of_anthropic_is_twice_the_input() {
        let cost = cost("anthropic", "claude-x-1", Tier::Batch, usage([0, 0, 0, 10], [1, 0])).unwrap();
        assert_eq!(cost.cache_write_1h, Some(30_000_000));
    }

    #[test]
    fn cached_tokens_without_a_price_of_their_own_cost_what_input_costs() {
        let cost = cost("gcp.gemini", "gemini-x", Tier::Standard, usage([0, 10, 5, 0], [1, 0])).unwrap();
        assert_eq!((cost.cache_read, cost.cache_write_5m), (Some(10_000_000), Some(5_000_000)));
    }

    #[test]
    fn what_is_not_known_is_not_zero() {
        assert_eq!(cost("anthropic", "nobody-knows", Tier::Standard, usage([10, 0, 0, 0], [1, 0])), None);
        assert_eq!(cost("anthropic", "claude-x-1", Tier::Standard, Usage::default()), None);
        let half = Usage { input_uncached: Some(10), input_total: Some(10), ..Usage::default() };
        let cost = cost("anthropic", "claude-x-1", Tier::Standard, half).unwrap();
        assert_eq!((cost.output_text, cost.total(), cost.complete), (None, 30_000_000, false));
        let embedding =
            Prices::parse(TABLE).find("openai", "embed").unwrap().cost(&half, Tier::Standard, false).unwrap();
        assert_eq!((embedding.total(), embedding.complete), (200_000, true));
    }

    #[test]
    fn a_total_without_a_split_is_input() {
        let total = Usage { input_total: Some(100), output_total: Some(10), ..Usage::default() };
        let cost = cost("openai", "gpt-x", Tier::Standard, total).unwrap();
        assert_eq!((cost.input_uncached, cost.output_text), (Some(200_000_000), Some(80_000_000)));
    }

    #[test]
    fn sums_keep_what_is_known_and_say_when_something_is_missing() {
        let mut sum = Cost { input_uncached: Some(1), complete: true, ..Cost::default() };
        sum.add(&Cost { cache_read: Some(2), complete: true, ..Cost::default() });
        assert_eq!((sum.total(), sum.complete), (3, true));
        sum.add(&Cost { output_text: Some(u64::MAX), complete: false, ..Cost::default() });
        assert_eq!((sum.total(), sum.complete), (u64::MAX, false));
    }

    #[test]
    fn a_user_s_rule_goes_before_the_table() {
        let rule = Rule { model: "claude-x*".into(), input: Some(1.5), output: Some(2.0), ..Rule::default() };
        let prices = Prices::parse(TABLE).with_rules(&[rule]);
        let cost =
            prices.find("anthropic", "claude-x-1").unwrap().cost(&usage([2, 2, 0, 0], [1, 0]), Tier::Standard, true);
        assert_eq!(cost.unwrap().classes()[..2], [Some(3_000_000), Some(3_000_000)]);
        assert!(prices.find("any", "claude-y").is_none());
    }
}
