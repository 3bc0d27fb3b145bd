//! Rules about single answers: cut short, stalled, refused for load, cut by a token limit, given by another model.

use crate::event::{CloseHow, Nanos};
use crate::turn::Severity;
use crate::turn::open::failure;
use crate::wire::{Call, CallId, Finish};

use super::{Said, Seen, span};

/// So many failed calls in a row are a storm.
const STORM: usize = 3;
/// A silence of this length inside an answer is a stall.
const SILENCE: Nanos = Nanos(30_000_000_000);

pub(super) fn look(seen: &Seen<'_>, failed: &mut Vec<CallId>, said: &mut Vec<Said>) {
    let call = seen.call;
    said.extend(cut_stream(call));
    said.extend(stalled_stream(call));
    said.extend(rate_limited(call));
    said.extend(retry_storm(call, failed));
    said.extend(truncated(call));
    said.extend(substituted(call));
}

fn cut_stream(call: &Call) -> Option<Said> {
    let error = call.error.as_ref()?;
    let answering = call.times.first_token.is_some() || !call.output.is_empty();
    let in_stream = call.status.is_some_and(|status| status < 400) && answering;
    let stopped = matches!(error.kind.as_str(), "cut" | "timeout")
        || error.kind == "reset"
        || !matches!(error.kind.as_str(), "aborted" | "cancelled");
    let observed = !matches!(call.ended_by, Some(CloseHow::SourceEnd | CloseHow::ProcessExit));
    (in_stream && stopped && observed && call.finish.is_none_or(|finish| finish == Finish::Error)).then(|| {
        let sentence = format!(
            "The answer stopped short although its status was {}: {}.",
            call.status.unwrap_or_default(),
            if error.message.is_empty() { &error.kind } else { error.message.trim_end_matches('.') }
        );
        Said::new("cut_stream", Severity::Warning, sentence, vec![call.id]).about(&call.id.to_string())
    })
}

fn stalled_stream(call: &Call) -> Option<Said> {
    let longest = Nanos(call.times.token_gaps.iter().copied().max()?);
    (longest >= SILENCE).then(|| {
        let sentence = format!("The answer stood still for {} in the middle.", span(longest));
        Said::new("stalled_stream", Severity::Warning, sentence, vec![call.id])
    })
}

fn is_rate_limit(call: &Call) -> bool {
    call.status == Some(429)
        || call
            .error
            .as_ref()
            .is_some_and(|error| error.kind.contains("rate_limit") || error.kind == "RESOURCE_EXHAUSTED")
}

fn rate_limited(call: &Call) -> Option<Said> {
    is_rate_limit(call).then(|| {
        let sentence = "The provider refused a call because of its rate limit.".to_owned();
        Said::new("rate_limit", Severity::Info, sentence, vec![call.id])
    })
}

fn retry_storm(call: &Call, failed: &mut Vec<CallId>) -> Option<Said> {
    let load = is_rate_limit(call) || call.status.is_some_and(|status| status >= 500);
    if failure(call).is_none() {
        failed.clear();
    } else if load && failed.len() < 64 {
        failed.push(call.id);
    }
    (load && failed.len() >= STORM).then(|| {
        let sentence = format!("{STORM} calls in a row were refused or failed, and the agent kept trying.");
        Said::new("retry_storm", Severity::Warning, sentence, failed.clone())
    })
}

fn truncated(call: &Call) -> Option<Said> {
    (call.finish == Some(Finish::Length)).then(|| {
        let sentence = "An answer was cut by its token limit.".to_owned();
        Said::new("truncated_answer", Severity::Warning, sentence, vec![call.id])
    })
}

fn substituted(call: &Call) -> Option<Said> {
    let (asked, answered) = (call.request_model.as_deref()?, call.response_model.as_deref()?);
    let routed =
        call.provider.contains("azure") || call.server_kind.as_deref().is_some_and(|kind| kind != "openrouter");
    if routed || failure(call).is_some() || same_model(asked, answered) {
        return None;
    }
    let sentence = format!("{asked} was asked for, and {answered} answered.");
    Some(
        Said::new("model_substitution", Severity::Warning, sentence, vec![call.id])
            .about(&format!("{asked} {answered}")),
    )
}

/// True when two names may mean the same model: one may carry a vendor, a date, a version, a region or a variant more.
fn same_model(asked: &str, answered: &str) -> bool {
    let (asked, answered) = (plain(asked), plain(answered));
    if asked.is_empty() || answered.is_empty() || is_router(&asked) {
        return true;
    }
    let (short, long) = if asked.len() <= answered.len() { (&asked, &answered) } else { (&answered, &asked) };
    let Some(rest) = long.strip_prefix(short.as_str()) else { return false };
    rest.split(['-', ':', '@', '.', '_']).all(says_no_model)
}

/// Names that leave the choice to the server.
fn is_router(name: &str) -> bool {
    ["auto", "default", "router", "best", "any"].iter().any(|word| name == *word || name.ends_with(&format!("-{word}")))
}

/// A part of a name that names a version rather than a model.
fn says_no_model(part: &str) -> bool {
    part.is_empty()
        || part.len() >= 2 && part.chars().all(|c| c.is_ascii_digit())
        || part.strip_prefix('v').is_some_and(|rest| rest.chars().all(|c| c.is_ascii_digit()))
        || matches!(part, "latest" | "preview" | "exp" | "stable" | "0" | "1m" | "thinking" | "fp8" | "instruct" | "it")
}

/// A name in lower case, without vendor, region and path.
fn plain(name: &str) -> String {
    let name = name.to_ascii_lowercase();
    let name = name.rsplit('/').next().unwrap_or_default();
    let vendors =
        ["us.", "eu.", "apac.", "global.", "anthropic.", "amazon.", "meta.", "mistral.", "cohere.", "openai."];
    let mut name = name;
    while let Some(rest) = vendors.iter().find_map(|vendor| name.strip_prefix(vendor)) {
        name = rest;
    }
    name.split('[').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_or_a_vendor_makes_no_other_model() {
        for (asked, answered) in [
            ("claude-sonnet-4-5", "claude-sonnet-4-5-20250929"),
            ("claude-3-5-sonnet-latest", "claude-3-5-sonnet"),
            ("gpt-4o", "gpt-4o-2024-08-06"),
            ("anthropic/claude-opus-4.1", "claude-opus-4.1"),
            ("us.anthropic.claude-sonnet-4-20250514-v1:0", "claude-sonnet-4-20250514"),
            ("models/gemini-2.5-pro", "gemini-2.5-pro"),
            ("llama3", "llama3:latest"),
            ("openrouter/auto", "gpt-5"),
            ("claude-opus-4-6[1m]", "claude-opus-4-6"),
        ] {
            assert!(same_model(asked, answered), "{asked} {answered}");
        }
    }

    #[test]
    fn a_smaller_or_another_model_is_another() {
        for (asked, answered) in [
            ("gpt-5", "gpt-5-mini"),
            ("claude-opus-4-5", "claude-haiku-4-5"),
            ("gpt-4o", "gpt-4o-mini-2024-07-18"),
            ("gemini-2.5-pro", "gemini-2.5-flash"),
        ] {
            assert!(!same_model(asked, answered), "{asked} {answered}");
        }
    }
}
