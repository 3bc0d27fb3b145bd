//! Which calls are housekeeping: kept and marked, in no turn.
//!
//! A rule must hold for calls of agents nobody has seen, and must never take a person's own question for housekeeping.
//! So instructions to make a title count only in a system message of a call that offers no tools, and a user message
//! counts only by a sentence that a known agent writes (`profile` holds those).

use serde_json::Value;

use crate::flaw::Flaw;
use crate::wire::{Call, Content, Message, Role};

use super::phrases::Phrases;
use super::profile;

static SUMMARY_SENTENCES: Phrases = Phrases::new(profile::SUMMARY_SENTENCES);
static SUMMARY_SYSTEMS: Phrases = Phrases::new(profile::SUMMARY_SYSTEMS);
static MONITOR_SYSTEMS: Phrases = Phrases::new(profile::MONITOR_SYSTEMS);
static SIDE_SYSTEMS: Phrases = Phrases::new(profile::SIDE_SYSTEMS);
static TITLE_VERBS: Phrases = Phrases::new(profile::TITLE_VERBS);
static TITLE_OWNERS: Phrases = Phrases::new(profile::TITLE_OWNERS);

/// Why a call is auxiliary.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Why {
    /// Not a conversation: embeddings, token counts, moderation, MCP.
    Operation,
    /// It asks for one token, or for no answer at all (a warm-up, a refused upgrade to WebSocket): a probe.
    Probe,
    /// A title, a topic, a routing decision, a check: a side call.
    SideCall,
    /// It summarises the conversation, so that it can go on shorter.
    Summary,
}

/// Decides on one call.
pub(super) fn why(call: &Call) -> Option<Why> {
    if !call.operation.is_conversation() {
        return Some(Why::Operation);
    }
    if is_probe(call) || is_empty_get(call) {
        return Some(Why::Probe);
    }
    let ask = last_user_text(call);
    let ask = ask.trim_start();
    if starts_with_any(ask, profile::SUMMARY_REQUESTS) || SUMMARY_SENTENCES.are_in(head(ask, 600)) {
        return Some(Why::Summary);
    }
    if starts_with_any(ask, profile::SIDE_REQUESTS) {
        return Some(Why::SideCall);
    }
    let system = system_head(call);
    if SUMMARY_SYSTEMS.are_in(&system) && call.tools_offered.is_empty() {
        return Some(Why::Summary);
    }
    if MONITOR_SYSTEMS.are_in(&system)
        || call.tools_offered.is_empty() && (SIDE_SYSTEMS.are_in(&system) || asks_for_title(&system))
    {
        return Some(Why::SideCall);
    }
    None
}

fn is_probe(call: &Call) -> bool {
    let number = |key: &str| call.parameters.get(key).and_then(Value::as_u64);
    let nested = |outer: &str, key: &str| call.parameters.get(outer).and_then(|o| o.get(key)).and_then(Value::as_u64);
    let limit = number("max_tokens")
        .or_else(|| number("max_completion_tokens"))
        .or_else(|| number("max_output_tokens"))
        .or_else(|| number("maxOutputTokens"))
        .or_else(|| nested("generationConfig", "maxOutputTokens"))
        .or_else(|| nested("generation_config", "max_output_tokens"))
        .or_else(|| nested("options", "num_predict"));
    let says_nothing = call.method == "GET" && call.messages.is_empty() && call.request.body_len == 0;
    let seen_whole = !call.flaws.contains(&Flaw::NoRequest) && !call.flaws.contains(&Flaw::Gap);
    says_nothing && seen_whole || limit == Some(1) || call.parameters.get("generate") == Some(&Value::Bool(false))
}

/// A WebSocket that was refused, a look at what is there: it asks nothing.
fn is_empty_get(call: &Call) -> bool {
    call.method == "GET" && call.messages.is_empty() && call.output.is_empty()
}

/// True for instructions to give a conversation its title.
fn asks_for_title(system: &str) -> bool {
    let around = |from: usize, to: usize| {
        let bytes = system.as_bytes().get(from..to.min(system.len())).unwrap_or_default();
        String::from_utf8_lossy(bytes).into_owned()
    };
    system.match_indices("title").take(16).any(|(at, _)| {
        let (before, after) = (around(at.saturating_sub(60), at), around(at, at + 80));
        TITLE_VERBS.are_in(&before) && (TITLE_OWNERS.are_in(&after) || TITLE_OWNERS.are_in(&before))
    })
}

/// The text that the call ends with, when a user says it.
fn last_user_text(call: &Call) -> &str {
    let Some(last) = call.messages.iter().rev().find(|message| message.role != Role::System) else { return "" };
    if last.role != Role::User {
        return "";
    }
    last_text(last)
}

fn last_text(message: &Message) -> &str {
    let texts = message.content.iter().rev().filter_map(|content| match content {
        Content::Text { text } if !text.trim_start().starts_with("<system-reminder>") => Some(text.as_str()),
        _ => None,
    });
    texts.into_iter().next().unwrap_or_default()
}

/// The first part of the system messages, in lower case.
fn system_head(call: &Call) -> String {
    let mut text = String::new();
    for message in call.messages.iter().take_while(|message| message.role == Role::System) {
        for content in &message.content {
            if let Content::Text { text: part } = content {
                text.push_str(head(part, 2_000));
                text.push('\n');
            }
            if text.len() > 6_000 {
                break;
            }
        }
    }
    text.make_ascii_lowercase();
    text
}

/// At most the first `len` bytes, cut at a character.
fn head(text: &str, len: usize) -> &str {
    let mut len = len.min(text.len());
    while !text.is_char_boundary(len) {
        len -= 1;
    }
    text.get(..len).unwrap_or_default()
}

fn starts_with_any(text: &str, prefixes: &[&str]) -> bool {
    prefixes.iter().any(|prefix| text.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conversation_s_title_is_told_from_other_titles() {
        for system in [
            "generate a concise, sentence-case title (3-7 words) that captures the main topic of this coding session.",
            "you will generate a short title based on the first message a user begins a conversation with",
            "write a short thread title for the messages below",
        ] {
            assert!(asks_for_title(system), "{system}");
        }
        for system in ["you write titles for blog posts", "you are a chat assistant for a library; know every title"] {
            assert!(!asks_for_title(system), "{system}");
        }
    }
}
