//! Rules about tools: repeated for nothing, alternating, stalled, always failing.

use std::collections::{BTreeMap, VecDeque};

use serde_json::Value;

use crate::event::Nanos;
use crate::turn::chain::{Digest, value_digest, words_digest};
use crate::turn::delegation::delegates;
use crate::turn::open::asks_user;
use crate::turn::{Severity, Step};
use crate::wire::CallId;

use super::{Said, Seen, joined, span};

/// The same call with the same result so often in a row is a loop.
const REPEATS: usize = 3;
/// Two states that alternate so often are a loop too.
const ALTERNATIONS: usize = 3;
/// A tool that takes so long is stalled.
const STALLED: Nanos = Nanos(30_000_000_000);
/// A tool that failed so often, and never worked, always fails.
const FAILURES: u32 = 3;
const TOOLS_KNOWN: usize = 64;
const KEPT: usize = 2 * ALTERNATIONS;

/// What is remembered of a turn's tools.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// The last tool calls: what was asked and what came back, as one digest, with the call.
    last: VecDeque<(Digest, CallId, String)>,
    /// Results and failures by tool.
    outcomes: BTreeMap<String, Outcomes>,
}

#[derive(Debug, Default)]
struct Outcomes {
    worked: bool,
    failed: u32,
    calls: Vec<CallId>,
}

/// A tool call whose result came.
struct Ran<'a> {
    call_id: CallId,
    name: &'a str,
    arguments: &'a Value,
    duration: Nanos,
    result: &'a str,
    failed: bool,
}

pub(super) fn look(seen: &Seen<'_>, memory: &mut Memory, said: &mut Vec<Said>) {
    for step in &seen.added.answered {
        let Some(Step::Tool {
            call_id, name, arguments, duration: Some(duration), result: Some(result), is_error, ..
        }) = seen.open.turn.steps.get(*step)
        else {
            continue;
        };
        let failed = *is_error || reads_as_failure(result);
        let ran = Ran { call_id: *call_id, name, arguments, duration: *duration, result, failed };
        memory.remember(&ran);
        said.extend(memory.repeated(&ran));
        said.extend(memory.alternating());
        said.extend(stalled(&ran));
        said.extend(memory.always_fails(&ran));
    }
}

impl Memory {
    fn remember(&mut self, ran: &Ran<'_>) {
        if !waits(ran.name) {
            let digest = joined(&[words_digest(ran.name), value_digest(ran.arguments), words_digest(ran.result)]);
            self.last.push_back((digest, ran.call_id, ran.name.to_owned()));
        }
        while self.last.len() > KEPT {
            self.last.pop_front();
        }
        if self.outcomes.len() < TOOLS_KNOWN || self.outcomes.contains_key(ran.name) {
            let outcomes = self.outcomes.entry(ran.name.to_owned()).or_default();
            outcomes.worked |= !ran.failed;
            outcomes.failed += u32::from(ran.failed);
            if ran.failed && outcomes.calls.len() < 16 {
                outcomes.calls.push(ran.call_id);
            }
        }
    }

    fn repeated(&self, ran: &Ran<'_>) -> Option<Said> {
        let last: Vec<_> = self.last.iter().rev().take(REPEATS).collect();
        let (digest, _, name) = last.first()?;
        if last.len() < REPEATS || name != ran.name || last.iter().any(|(other, _, _)| other != digest) {
            return None;
        }
        // Equal calls side by side in one answer are no loop: each must follow the result of the one before.
        let mut calls: Vec<CallId> = last.iter().rev().map(|(_, call, _)| *call).collect();
        calls.dedup();
        (calls.len() == REPEATS).then(|| {
            let sentence =
                format!("{name} was called {REPEATS} times in a row with the same arguments and gave the same result.");
            Said::new("loop", Severity::Warning, sentence, calls).about(name)
        })
    }

    fn alternating(&self) -> Option<Said> {
        if self.last.len() < 2 * ALTERNATIONS {
            return None;
        }
        let (a, b) = (self.last.front()?, self.last.get(1)?);
        let alternate = self
            .last
            .iter()
            .enumerate()
            .all(|(place, (digest, _, _))| *digest == if place % 2 == 0 { a.0 } else { b.0 });
        let mut calls: Vec<CallId> = self.last.iter().map(|(_, call, _)| *call).collect();
        calls.dedup();
        (alternate && a.0 != b.0 && calls.len() > ALTERNATIONS).then(|| {
            let sentence = format!(
                "{} and {} have taken turns {ALTERNATIONS} times with the same arguments and the same results.",
                a.2, b.2
            );
            Said::new("alternation", Severity::Warning, sentence, calls)
        })
    }

    fn always_fails(&self, ran: &Ran<'_>) -> Option<Said> {
        let outcomes = self.outcomes.get(ran.name)?;
        (ran.failed && !outcomes.worked && outcomes.failed >= FAILURES).then(|| {
            let sentence =
                format!("{} has failed every time it was called, {} times so far.", ran.name, outcomes.failed);
            Said::new("failing_tool", Severity::Warning, sentence, outcomes.calls.clone()).about(ran.name)
        })
    }
}

fn stalled(ran: &Ran<'_>) -> Option<Said> {
    if ran.duration < STALLED
        || delegates(ran.name)
        || asks_user(ran.name)
        || waits(ran.name)
        || is_told_to_wait(ran.arguments)
    {
        return None;
    }
    let sentence = format!(
        "{} took {} between the model's request and its result; the model's calls themselves went through.",
        ran.name,
        span(ran.duration)
    );
    Some(Said::new("stalled_tool", Severity::Warning, sentence, vec![ran.call_id]).about(ran.name))
}

/// Tools that look after something that runs: that they repeat themselves or take long says nothing.
fn waits(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["wait", "sleep", "poll", "status", "output", "stdin", "monitor"].iter().any(|word| name.contains(word))
}

/// The model said itself that it would take long.
fn is_told_to_wait(arguments: &Value) -> bool {
    let Some(arguments) = arguments.as_object() else { return false };
    arguments.iter().any(|(key, value)| {
        let long = key.to_ascii_lowercase();
        (long.contains("timeout") || long.contains("yield_time")) && value.as_f64().is_some_and(|n| n > 0.0)
            || value.as_str().is_some_and(|text| text.contains("sleep "))
    })
}

/// Results of APIs that have no mark for errors.
fn reads_as_failure(result: &str) -> bool {
    let result = result.trim_start();
    let begins = [
        "Error:",
        "Error ",
        "error:",
        "ERROR:",
        "Traceback (most recent call last)",
        "Tool execution failed",
        "Exception:",
    ];
    if begins.iter().any(|start| result.starts_with(start)) {
        return true;
    }
    ["Exit code: ", "Exit code ", "exit code: ", "exit_code: "].iter().any(|start| {
        result.strip_prefix(start).is_some_and(|rest| rest.starts_with(|c: char| ('1'..='9').contains(&c)))
    })
}
