//! What a run came to: the lines that heron prints when it ends.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::turn::{Placement, Turn, TurnId};
use crate::wire::{Call, Usage};

/// Totals of a run.
#[derive(Default)]
pub struct Summary {
    /// Calls that are done, housekeeping included.
    pub calls: u64,
    /// Of these, housekeeping.
    pub auxiliary: u64,
    /// Calls that failed.
    pub errors: u64,
    /// Calls with a flaw.
    pub flawed: u64,
    /// Turns.
    pub turns: BTreeSet<TurnId>,
    /// Findings.
    pub findings: u64,
    /// Tokens of all calls.
    pub usage: Usage,
    /// The source's counters at the end.
    pub source: BTreeMap<&'static str, u64>,
    /// The turn stage's counters at the end.
    pub turn_counters: BTreeMap<&'static str, u64>,
}

/// Counters of the sources that mean lost bytes or events.
const LOSSES: &[&str] = &[
    "ring_full",
    "read_fault",
    "map_full",
    "lost_bytes",
    "missed_bytes",
    "kernel_drops",
    "tape_cut",
    "file_cut",
    "snapped_bytes",
    "capture_drops",
    "interface_drops",
    "probe_missing_packets",
    "probe_bad_version",
];

/// Whether a source's counter means lost bytes or events.
pub fn is_loss(counter: &str) -> bool {
    LOSSES.contains(&counter)
}

impl Summary {
    pub(super) fn add_call(&mut self, call: &Call, place: Option<&Placement>) {
        self.calls += 1;
        self.auxiliary += u64::from(place.is_some_and(|place| place.auxiliary));
        self.errors += u64::from(call.error.is_some());
        self.flawed += u64::from(!call.flaws.is_empty());
        self.usage.add(&call.usage);
    }

    pub(super) fn add_turn(&mut self, turn: &Turn) {
        self.turns.insert(turn.id);
    }

    /// What was lost, by name; empty when nothing was.
    pub fn losses(&self) -> Vec<(&'static str, u64)> {
        LOSSES.iter().filter_map(|name| self.source.get(name).map(|n| (*name, *n))).filter(|(_, n)| *n > 0).collect()
    }
}

fn plural(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", plural(self.calls, "call"))?;
        if self.auxiliary > 0 {
            write!(f, " ({} auxiliary)", self.auxiliary)?;
        }
        write!(f, ", {}", plural(self.turns.len() as u64, "turn"))?;
        let tokens = |known: Option<u64>| known.map_or_else(|| "unknown".to_owned(), |n| n.to_string());
        write!(f, ", tokens: {} in, {} out", tokens(self.usage.input_total), tokens(self.usage.output_total))?;
        write!(f, ", {}", plural(self.errors, "error"))?;
        if self.findings > 0 {
            write!(f, ", {}", plural(self.findings, "finding"))?;
        }
        if self.flawed > 0 {
            write!(f, ", {} incomplete", self.flawed)?;
        }
        match self.losses().as_slice() {
            [] => write!(f, ", nothing lost"),
            losses => {
                let said: Vec<String> = losses.iter().map(|(name, n)| format!("{name} {n}")).collect();
                write!(f, ", LOST: {}", said.join(", "))
            }
        }
    }
}
