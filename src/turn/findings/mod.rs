//! Findings: what a person would want to be told. Each rule looks at one finished call in its turn, and says one plain sentence with
//! the calls that show it.
//!
//! The first rule of all rules: a clean run has no finding. So each asks for evidence that an ordinary run does not give,
//! and says a thing once per turn.

mod content;
mod context;
mod cost;
mod marks;
mod secrets;
mod streams;
mod tools;

use std::collections::{HashMap, HashSet};

use crate::event::Nanos;
use crate::wire::{Call, CallId, Usage};

use super::chain::Digest;
use super::open::{Added, OpenTurn, end_of};
use super::recent::Recent;
use super::spine::Change;
use super::{Finding, SessionId, Severity, TurnId};

/// A finished call, where it came to stand.
pub(super) struct Seen<'a> {
    /// The call.
    pub call: &'a Call,
    /// Its turn, with the call in it.
    pub open: &'a OpenTurn,
    /// What the call added to the turn.
    pub added: &'a Added<'a>,
    /// The first message that is new.
    pub tail: usize,
    /// The call it continues.
    pub before: Option<CallId>,
    /// What became of the messages of that one.
    pub change: Change,
    /// The context window of its model.
    pub window: Option<u64>,
}

/// What a rule says.
pub(super) struct Said {
    kind: &'static str,
    severity: Severity,
    sentence: String,
    calls: Vec<CallId>,
    /// A thing is said once per turn and key.
    key: String,
}

impl Said {
    fn new(kind: &'static str, severity: Severity, sentence: String, calls: Vec<CallId>) -> Said {
        Said { kind, severity, sentence, calls, key: String::new() }
    }

    /// Tells several things of one kind apart.
    fn about(mut self, key: &str) -> Said {
        self.key = key.to_owned();
        self
    }
}

/// What the rules remember of a turn.
#[derive(Debug, Default)]
struct Watch {
    said: HashSet<(&'static str, String)>,
    tools: tools::Memory,
    failed: Vec<CallId>,
    before: Option<context::Before>,
}

/// The rules and their memory.
#[derive(Debug)]
pub(super) struct Findings {
    watches: HashMap<TurnId, Watch>,
    sessions: Recent<SessionId, cost::Session>,
}

impl Findings {
    /// Remembers the costs of at least `bound` sessions.
    pub fn new(bound: usize) -> Findings {
        Findings { watches: HashMap::new(), sessions: Recent::new(bound) }
    }

    /// Looks at a finished call of a turn. `inherit` is the turn before in the same conversation, for its prompt cache.
    pub fn call(&mut self, seen: &Seen<'_>, inherit: Option<TurnId>) -> Vec<Finding> {
        let turn = &seen.open.turn;
        let before = inherit.and_then(|id| self.watches.get(&id)).and_then(|watch| watch.before.clone());
        let watch = self.watches.entry(turn.id).or_default();
        if watch.before.is_none() {
            watch.before = before;
        }
        let mut said = Vec::new();
        tools::look(seen, &mut watch.tools, &mut said);
        streams::look(seen, &mut watch.failed, &mut said);
        context::look(seen, &mut watch.before, &mut said);
        content::look(seen, &mut said);
        if self.sessions.peek(&turn.session_id).is_none() {
            self.sessions.insert(turn.session_id, cost::Session::default());
        }
        if let Some(session) = self.sessions.touch(&turn.session_id) {
            cost::look(seen, session, &mut said);
        }
        let at = end_of(seen.call);
        said.retain(|said| watch.said.insert((said.kind, said.key.clone())));
        said.into_iter().map(|said| finding(said, turn.id, turn.session_id, at)).collect()
    }

    /// A conversation went on from its own summary.
    pub fn compacted(&self, turn: TurnId, session: SessionId, call: &Call) -> Finding {
        let sentence = "The conversation had grown too long and goes on from a summary of itself.".to_owned();
        let said = Said::new("compaction", Severity::Info, sentence, vec![call.id]);
        finding(said, turn, session, end_of(call))
    }

    /// A turn is over for good.
    pub fn forget(&mut self, turn: TurnId) {
        self.watches.remove(&turn);
    }
}

fn finding(said: Said, turn: TurnId, session: SessionId, at: Nanos) -> Finding {
    Finding {
        kind: said.kind.to_owned(),
        severity: said.severity,
        sentence: said.sentence,
        turn_id: Some(turn),
        session_id: Some(session),
        call_ids: said.calls,
        at,
    }
}

/// Seconds for a sentence: `47 s`, `3 min`.
fn span(nanos: Nanos) -> String {
    let seconds = nanos.0 / 1_000_000_000;
    if seconds < 180 { format!("{seconds} s") } else { format!("{} min", seconds / 60) }
}

/// A number of tokens for a sentence: `950`, `45,000`.
fn tokens(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// All input tokens of a call, as far as known.
fn input_of(usage: &Usage) -> Option<u64> {
    usage.input_total.or_else(|| {
        let parts = [usage.input_uncached, usage.cache_read, usage.cache_write_5m, usage.cache_write_1h];
        parts.iter().any(Option::is_some).then(|| parts.into_iter().flatten().sum())
    })
}

/// One digest of several.
fn joined(parts: &[Digest]) -> Digest {
    parts.iter().fold(super::chain::Fold::START, |fold, part| fold.push(*part)).0
}
