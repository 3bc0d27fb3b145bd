//! Token counts of every dialect, into buckets that do not overlap.
//!
//! The one surprising fact: the same name means different things. `input_tokens` excludes cached tokens where Anthropic
//! says it and includes them where OpenAI does; whether output includes reasoning is told by the total. So a dialect is
//! recognised by the names that stand beside a count, not by the vendor.

use crate::wire::Usage;
use crate::wire::json::Raw;

/// Counts as sent, later ones over earlier ones: streams repeat and complete them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Counts {
    /// Input as sent.
    pub(crate) input: Option<u64>,
    pub(crate) output: Option<u64>,
    pub(crate) total: Option<u64>,
    pub(crate) cache_read: Option<u64>,
    pub(crate) cache_write: Option<u64>,
    pub(crate) cache_write_5m: Option<u64>,
    pub(crate) cache_write_1h: Option<u64>,
    /// Input that had to be computed (DeepSeek's miss).
    pub(crate) cache_miss: Option<u64>,
    pub(crate) reasoning: Option<u64>,
    /// Input beside the prompt (results of Gemini's own tools).
    pub(crate) tool_input: Option<u64>,
    /// True when `input` leaves out what was read from or written to a cache.
    pub(crate) input_excludes_cache: bool,
    /// True when `output` leaves out reasoning whatever the total says.
    pub(crate) output_excludes_reasoning: bool,
    /// The output count is a placeholder that a later event replaces.
    pub(crate) output_provisional: bool,
}

impl Counts {
    /// Reads a usage object of any dialect over what is known.
    pub(crate) fn read(&mut self, usage: Raw<'_>) {
        let mut seen_output = false;
        let mut write_split = false;
        let mut write_total = None;
        for (key, value) in usage.fields() {
            match &*key {
                "prompt_tokens"
                | "input_tokens"
                | "promptTokenCount"
                | "total_input_tokens"
                | "inputTokens"
                | "prompt_eval_count"
                | "inputTokenCount"
                | "inputTextTokenCount"
                | "prompt_token_count" => {
                    over(&mut self.input, value);
                    self.input_excludes_cache |= matches!(&*key, "inputTokens" | "inputTokenCount");
                }
                "completion_tokens"
                | "output_tokens"
                | "candidatesTokenCount"
                | "responseTokenCount"
                | "total_output_tokens"
                | "outputTokens"
                | "eval_count"
                | "outputTokenCount"
                | "generation_token_count"
                | "tokenCount" => {
                    over(&mut self.output, value);
                    seen_output = true;
                    self.output_excludes_reasoning |= matches!(&*key, "total_output_tokens");
                }
                "total_tokens" | "totalTokenCount" | "totalTokens" => over(&mut self.total, value),
                "cache_read_input_tokens" | "cacheReadInputTokens" | "cacheReadInputTokenCount" => {
                    over(&mut self.cache_read, value);
                    self.input_excludes_cache |=
                        &*key != "cache_read_input_tokens" || usage.some("input_tokens").is_some();
                }
                "cache_creation_input_tokens" | "cacheWriteInputTokens" | "cacheWriteInputTokenCount" => {
                    write_total = value.u64();
                    self.input_excludes_cache |=
                        &*key != "cache_creation_input_tokens" || usage.some("input_tokens").is_some();
                }
                "cached_tokens"
                | "cachedContentTokenCount"
                | "total_cached_tokens"
                | "prompt_cache_hit_tokens"
                | "num_cached_tokens" => over(&mut self.cache_read, value),
                "prompt_cache_miss_tokens" => over(&mut self.cache_miss, value),
                "thoughtsTokenCount" | "total_thought_tokens" | "reasoning_tokens" => over(&mut self.reasoning, value),
                "toolUsePromptTokenCount" | "total_tool_use_tokens" => over(&mut self.tool_input, value),
                "prompt_tokens_details" | "input_tokens_details" | "input_token_details" | "prompt_token_details" => {
                    self.input_details(value);
                }
                "completion_tokens_details" | "output_tokens_details" | "output_token_details" => {
                    for name in ["reasoning_tokens", "thinking_tokens"] {
                        value.get(name).into_iter().for_each(|count| over(&mut self.reasoning, count));
                    }
                }
                "cache_creation" => write_split |= self.lifetimes(value),
                "cacheDetails" => write_split |= self.cache_details(value),
                "billed_units" | "tokens" => {}
                _ => {}
            }
        }
        self.cohere(usage);
        if let Some(total) = write_total {
            self.set_write(total, write_split);
        }
        if seen_output {
            self.output_provisional = false;
        }
    }

    fn input_details(&mut self, details: Raw<'_>) {
        self.input_excludes_cache = false;
        for (key, value) in details.fields() {
            match &*key {
                "cached_tokens" | "cache_read_tokens" => over(&mut self.cache_read, value),
                "cache_write_tokens" | "cache_creation_tokens" | "cached_creation_tokens" => {
                    over(&mut self.cache_write, value);
                }
                "cache_creation_token_details" => {
                    self.lifetimes(value);
                }
                _ => {}
            }
        }
    }

    /// Anthropic's split of cache writes by lifetime; true when it is one.
    fn lifetimes(&mut self, split: Raw<'_>) -> bool {
        let buckets = [
            ("ephemeral_5m_input_tokens", &mut self.cache_write_5m),
            ("ephemeral_1h_input_tokens", &mut self.cache_write_1h),
        ];
        for (name, bucket) in buckets {
            split.get(name).into_iter().for_each(|count| over(bucket, count));
        }
        split.is_object()
    }

    /// Bedrock's `[{"ttl":"5m","inputTokens":n}]`.
    fn cache_details(&mut self, details: Raw<'_>) -> bool {
        for entry in details.elements() {
            let count = entry.get("inputTokens").and_then(Raw::u64);
            match entry.str_of("ttl").as_deref() {
                Some("1h") => self.cache_write_1h = count,
                Some(_) => self.cache_write_5m = count,
                None => {}
            }
        }
        details.is_array()
    }

    /// Cohere bills other numbers than it counts: the counted tokens are the tokens.
    fn cohere(&mut self, usage: Raw<'_>) {
        let Some(counts) = usage.some("tokens").filter(|t| t.is_object()).or_else(|| usage.some("billed_units")) else {
            return;
        };
        counts.get("input_tokens").into_iter().for_each(|count| over(&mut self.input, count));
        counts.get("output_tokens").into_iter().for_each(|count| over(&mut self.output, count));
    }

    /// The total of cache writes came: alone it lives five minutes, unless an earlier split explains it.
    fn set_write(&mut self, total: u64, split_came_too: bool) {
        self.cache_write = Some(total);
        let known = self.cache_write_5m.unwrap_or(0).saturating_add(self.cache_write_1h.unwrap_or(0));
        if split_came_too || (known == total && (self.cache_write_5m.is_some() || self.cache_write_1h.is_some())) {
            return;
        }
        let hour = self.cache_write_1h.filter(|hour| *hour <= total);
        self.cache_write_1h = hour;
        self.cache_write_5m = Some(total - hour.unwrap_or(0));
    }

    /// The buckets.
    pub(crate) fn usage(&self) -> Usage {
        let (write_5m, write_1h) = match (self.cache_write_5m, self.cache_write_1h, self.cache_write) {
            (None, None, write) => (write, None),
            (five, hour, _) => (five, hour),
        };
        let cached = sum(&[self.cache_read, write_5m, write_1h]);
        let mut usage = Usage {
            cache_read: self.cache_read,
            cache_write_5m: write_5m,
            cache_write_1h: write_1h,
            ..Usage::default()
        };
        let input = self.input.map(|input| input.saturating_add(self.tool_input.unwrap_or(0)));
        // More cached than there is input: then the input cannot include it.
        let excludes = self.input_excludes_cache || input.is_some_and(|input| cached.unwrap_or(0) > input);
        if let Some(input) = input {
            let uncached = if excludes { input } else { input.saturating_sub(cached.unwrap_or(0)) };
            usage.input_uncached = Some(uncached);
            usage.input_total = Some(uncached.saturating_add(cached.unwrap_or(0)));
        } else if self.cache_miss.is_some() {
            usage.input_uncached = self.cache_miss;
            usage.input_total = sum(&[self.cache_miss, cached]);
        } else if self.output.is_none() && cached.is_none() {
            usage.input_total = self.total;
            usage.input_uncached = self.total;
        } else if let Some(cached) = cached {
            usage.input_total = Some(cached);
        }
        self.split_output(input, &mut usage);
        usage
    }

    /// Where the split is not sent all output counts as text, so that the buckets always sum up.
    fn split_output(&self, input: Option<u64>, usage: &mut Usage) {
        if self.output_provisional {
            return;
        }
        let (Some(output), reasoning) = (self.output, self.reasoning) else {
            usage.output_reasoning = self.reasoning;
            usage.output_total = self.reasoning;
            return;
        };
        let thought = reasoning.unwrap_or(0);
        let excludes = match (input, self.total) {
            (Some(input), Some(total)) if thought > 0 && input + output == total => false,
            (Some(input), Some(total)) if thought > 0 && input + output + thought == total => true,
            _ => self.output_excludes_reasoning || thought > output,
        };
        let text = if excludes { output } else { output.saturating_sub(thought) };
        usage.output_text = Some(text);
        usage.output_reasoning = reasoning;
        usage.output_total = Some(text.saturating_add(thought));
    }
}

/// A count over an earlier one; null and nonsense change nothing.
fn over(bucket: &mut Option<u64>, value: Raw<'_>) {
    if let Some(count) = value.u64() {
        *bucket = Some(count.min(1 << 50));
    }
}

fn sum(counts: &[Option<u64>]) -> Option<u64> {
    counts.iter().flatten().copied().reduce(u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(texts: &[&str]) -> Usage {
        let mut counts = Counts::default();
        texts.iter().for_each(|text| counts.read(Raw::new(text.as_bytes())));
        counts.usage()
    }

    /// input_uncached, cache_read, 5m, 1h, output_text, reasoning, input_total, output_total
    fn buckets(of: Usage) -> [Option<u64>; 8] {
        [
            of.input_uncached,
            of.cache_read,
            of.cache_write_5m,
            of.cache_write_1h,
            of.output_text,
            of.output_reasoning,
            of.input_total,
            of.output_total,
        ]
    }

    #[test]
    fn openai_input_includes_cached_and_output_includes_reasoning() {
        let usage = read(&[r#"{"prompt_tokens":120,"completion_tokens":45,"total_tokens":165,
            "prompt_tokens_details":{"cached_tokens":64},"completion_tokens_details":{"reasoning_tokens":20}}"#]);
        assert_eq!(buckets(usage), [Some(56), Some(64), None, None, Some(25), Some(20), Some(120), Some(45)]);
    }

    #[test]
    fn anthropic_input_excludes_cached_and_the_delta_keeps_the_split() {
        let start = r#"{"input_tokens":5,"cache_creation_input_tokens":1253,"cache_read_input_tokens":128955,
            "cache_creation":{"ephemeral_5m_input_tokens":253,"ephemeral_1h_input_tokens":1000},"output_tokens":1}"#;
        let delta = r#"{"input_tokens":5,"cache_creation_input_tokens":1253,"cache_read_input_tokens":128955,
            "output_tokens":89,"output_tokens_details":{"thinking_tokens":40}}"#;
        let expected = [Some(5), Some(128_955), Some(253), Some(1000), Some(49), Some(40), Some(130_213), Some(89)];
        assert_eq!(buckets(read(&[start, delta])), expected);
    }

    #[test]
    fn writes_without_a_split_live_five_minutes() {
        let usage = read(&[r#"{"input_tokens":5,"cache_creation_input_tokens":10,"output_tokens":1}"#]);
        assert_eq!(buckets(usage), [Some(5), None, Some(10), None, Some(1), None, Some(15), Some(1)]);
    }

    #[test]
    fn gemini_thoughts_are_beside_the_candidates_unless_the_total_says_otherwise() {
        let beside = r#"{"promptTokenCount":100,"cachedContentTokenCount":40,"candidatesTokenCount":17,
            "thoughtsTokenCount":12,"totalTokenCount":129}"#;
        assert_eq!(buckets(read(&[beside])), [Some(60), Some(40), None, None, Some(17), Some(12), Some(100), Some(29)]);
        let inside =
            r#"{"promptTokenCount":100,"candidatesTokenCount":29,"thoughtsTokenCount":12,"totalTokenCount":129}"#;
        assert_eq!(buckets(read(&[inside])), [Some(100), None, None, None, Some(17), Some(12), Some(100), Some(29)]);
    }

    #[test]
    fn deepseek_hit_and_miss_make_the_input() {
        let usage = read(&[r#"{"prompt_tokens":12,"completion_tokens":30,"total_tokens":42,
            "prompt_tokens_details":{"cached_tokens":2},"completion_tokens_details":{"reasoning_tokens":18},
            "prompt_cache_hit_tokens":2,"prompt_cache_miss_tokens":10}"#]);
        assert_eq!(buckets(usage), [Some(10), Some(2), None, None, Some(12), Some(18), Some(12), Some(30)]);
    }

    #[test]
    fn mixed_dialects_are_read_for_what_they_are() {
        // LiteLLM: OpenAI's names, cached included, Anthropic's names beside.
        let inclusive = r#"{"prompt_tokens":100,"completion_tokens":7,"total_tokens":107,
            "cache_read_input_tokens":60,"cache_creation_input_tokens":30}"#;
        assert_eq!(
            buckets(read(&[inclusive])),
            [Some(10), Some(60), Some(30), None, Some(7), None, Some(100), Some(7)]
        );
        // OpenAI's shape, Anthropic's names: cached excluded.
        let exclusive = r#"{"input_tokens":10,"output_tokens":7,"cache_read_input_tokens":3}"#;
        assert_eq!(buckets(read(&[exclusive])), [Some(10), Some(3), None, None, Some(7), None, Some(13), Some(7)]);
    }

    #[test]
    fn bedrock_cohere_ollama_and_embeddings() {
        let converse = r#"{"inputTokens":5,"outputTokens":89,"totalTokens":130302,"cacheReadInputTokens":128955,
            "cacheWriteInputTokens":1253,"cacheDetails":[{"ttl":"5m","inputTokens":253},{"ttl":"1h","inputTokens":1000}]}"#;
        assert_eq!(
            buckets(read(&[converse])),
            [Some(5), Some(128_955), Some(253), Some(1000), Some(89), None, Some(130_213), Some(89)]
        );
        let cohere = r#"{"billed_units":{"input_tokens":17,"output_tokens":12},"tokens":{"input_tokens":215,"output_tokens":28},"cached_tokens":64}"#;
        assert_eq!(buckets(read(&[cohere])), [Some(151), Some(64), None, None, Some(28), None, Some(215), Some(28)]);
        let embeddings = r#"{"prompt_tokens":2,"total_tokens":2}"#;
        assert_eq!(buckets(read(&[embeddings])), [Some(2), None, None, None, None, None, Some(2), None]);
        let rerank = r#"{"total_tokens":56}"#;
        assert_eq!(buckets(read(&[rerank])), [Some(56), None, None, None, None, None, Some(56), None]);
    }

    #[test]
    fn unknown_is_not_zero() {
        assert!(read(&[]).is_unknown());
        assert!(read(&["{}"]).is_unknown());
        assert!(read(&["null"]).is_unknown());
        assert!(read(&[r#"{"prompt_tokens":null,"completion_tokens":"x"}"#]).is_unknown());
    }
}
