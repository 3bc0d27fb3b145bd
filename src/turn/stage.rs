//! The stage: calls, process events and time in; placements, turns and findings out.

use crate::event::{Nanos, ProcessEvent};
use crate::wire::Call;

use super::TurnUpdate;

/// What the stage takes, in event-time order; `Done` calls in the order of their last bytes.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// Something happened to a process.
    Process(&'a ProcessEvent),
    /// A call is under way. Only for display: nothing that comes out for `Done` depends on it.
    Progress(&'a Call),
    /// A call is over.
    Done(&'a Call),
    /// Time passed.
    Tick(Nanos),
    /// The observation is over: every open turn gets its final status.
    End,
}

/// Bounds of the stage.
#[derive(Clone, Debug)]
pub struct Config {
    /// How many calls stay known as possible parents of later ones.
    pub max_calls: usize,
    /// How many turns may be open at once; the one quiet for longest is closed first.
    pub max_open_turns: usize,
}

impl Default for Config {
    fn default() -> Config {
        Config { max_calls: 65_536, max_open_turns: 4_096 }
    }
}

/// What the stage counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Calls taken.
    pub calls: u64,
    /// Of them, auxiliary ones.
    pub auxiliary: u64,
    /// Of them, hops of another call.
    pub hops: u64,
    /// Turns begun.
    pub turns: u64,
    /// Turns closed early because too many were open.
    pub turns_evicted: u64,
    /// Findings made.
    pub findings: u64,
}

/// Puts calls together.
#[derive(Debug, Default)]
pub struct Stage {
    counters: Counters,
}

impl Stage {
    /// A stage with these bounds.
    pub fn new(_config: Config) -> Stage {
        Stage::default()
    }

    /// Takes one input, and appends what follows from it.
    pub fn push(&mut self, _input: Input<'_>, _out: &mut Vec<TurnUpdate>) {}

    /// What was counted so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }
}
