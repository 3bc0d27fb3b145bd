//! Rules about the context: the prompt cache broken, the window nearly full.

use crate::event::Nanos;
use crate::turn::Severity;
use crate::turn::chain::{Digest, words_digest};
use crate::turn::open::{end_of, failure};
use crate::turn::spine::Change;
use crate::wire::{Call, CallId, Message, MessageHash, Role, Usage};

use super::{Said, Seen, input_of, joined, tokens};

/// Fewer cached tokens than this are not worth a word.
const CACHED: u64 = 2_000;
/// The default lifetime of a prompt cache.
const LIFETIME: Nanos = Nanos(5 * 60 * 1_000_000_000);
/// A context this full is near its limit.
const FULL_PERCENT: u64 = 90;

/// The first messages are compared here; later ones are compared with the kept chain.
const HEAD: usize = 16;

/// What is remembered of the call before.
#[derive(Clone, Debug)]
pub(super) struct Before {
    call_id: CallId,
    model: Option<String>,
    ended: Nanos,
    cached: u64,
    system: Digest,
    tools: Digest,
    /// The content addresses of its first messages.
    head: Vec<MessageHash>,
}

pub(super) fn look(seen: &Seen<'_>, before: &mut Option<Before>, said: &mut Vec<Said>) {
    said.extend(limit_reached(seen.call));
    if failure(seen.call).is_some() {
        return;
    }
    said.extend(nearly_full(seen));
    let cached = cached_of(&seen.call.usage);
    let now = (cached >= CACHED || before.is_some()).then(|| Before::of(seen.call, cached));
    if let (Some(was), Some(now)) = (&before, &now)
        && seen.before == Some(was.call_id)
    {
        said.extend(broken_cache(seen, was, now));
    }
    *before = now.filter(|now| now.cached >= CACHED);
}

/// Tokens that the next call can read from the cache.
fn cached_of(usage: &Usage) -> u64 {
    [usage.cache_read, usage.cache_write_5m, usage.cache_write_1h].into_iter().flatten().sum()
}

impl Before {
    fn of(call: &Call, cached: u64) -> Before {
        let first = call.messages.iter().take_while(|message| message.role == Role::System);
        let tools: Vec<Digest> = call.tools_offered.iter().map(|tool| words_digest(&tool.name)).collect();
        let system: Vec<Digest> = first.map(|message| Digest::from_le_bytes(message.hash.0)).collect();
        Before {
            call_id: call.id,
            model: call.request_model.clone(),
            ended: end_of(call),
            cached,
            system: joined(&system),
            tools: joined(&tools),
            head: call.messages.iter().take(HEAD).map(|message| message.hash).collect(),
        }
    }
}

fn broken_cache(seen: &Seen<'_>, was: &Before, now: &Before) -> Option<Said> {
    let call = seen.call;
    let read = call.usage.cache_read?;
    let expired = call.times.request_first.since(was.ended) >= LIFETIME;
    let input = input_of(&call.usage)?;
    if was.cached < CACHED || expired || was.model != now.model || read >= was.cached / 2 || input < was.cached {
        return None;
    }
    let what = if was.tools != now.tools {
        "the tools that are offered changed".to_owned()
    } else if was.system != now.system {
        "the system prompt changed".to_owned()
    } else {
        let head = was.head.iter().zip(&now.head).position(|(was, now)| was != now);
        match head.map_or(seen.change, Change::At) {
            Change::At(place) => match call.messages.get(place) {
                Some(message) => {
                    format!("message {} of {} ({}) changed", place + 1, call.messages.len(), role_of(message))
                }
                None => "messages were left out".to_owned(),
            },
            Change::None => "no message changed".to_owned(),
            Change::Unknown => "what was sent before changed".to_owned(),
        }
    };
    let sentence = format!(
        "The prompt cache broke: about {} tokens were read again, because {what} since the call before.",
        tokens(was.cached - read)
    )
    .replace(", because no message", "; no message");
    Some(Said::new("cache_break", Severity::Warning, sentence, vec![was.call_id, call.id]))
}

fn role_of(message: &Message) -> &'static str {
    match message.role {
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Tool => "tool result",
        Role::System => "system",
    }
}

fn nearly_full(seen: &Seen<'_>) -> Option<Said> {
    let (call, window) = (seen.call, window_of(seen)?);
    let input = input_of(&call.usage)?;
    // More than the window fits only when the window is not the one of the table.
    (input <= window && input * 100 >= window * FULL_PERCENT).then(|| {
        let sentence = format!("The context is nearly full: {} of {} tokens.", tokens(input), tokens(window));
        Said::new("context_limit", Severity::Warning, sentence, vec![call.id])
    })
}

/// The context window, unless the call asks for a larger one than its model's usual.
fn window_of(seen: &Seen<'_>) -> Option<u64> {
    let call = seen.call;
    let beta = call.request_header("anthropic-beta").is_some_and(|beta| beta.contains("context-1m"));
    let larger = [&call.request_model, &call.response_model].into_iter().flatten().any(|name| name.contains("[1m]"));
    seen.window.filter(|_| !beta && !larger)
}

fn limit_reached(call: &Call) -> Option<Said> {
    let error = call.error.as_ref()?;
    let text = format!("{} {}", error.kind, error.message).to_ascii_lowercase();
    let signs = [
        "context_length_exceeded",
        "prompt is too long",
        "maximum context length",
        "context window",
        "input token count exceeds",
        "input is too long",
    ];
    signs.iter().any(|sign| text.contains(sign)).then(|| {
        let sentence = "A call was refused because the conversation does not fit the model's context.".to_owned();
        Said::new("context_limit", Severity::Critical, sentence, vec![call.id]).about("refused")
    })
}
