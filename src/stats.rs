//! Every counter of every stage, in one place.
//!
//! Stages count in plain integers of their own; whoever runs a stage publishes its counters here after each batch. A
//! stage that runs on several workers has one slot per worker, and the board adds them up when it is read.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Named counters of one stage. Monotonic.
pub type Counters = BTreeMap<&'static str, u64>;

/// The board that `/api/health` and the summary read.
#[derive(Default)]
pub struct Board {
    slots: Mutex<BTreeMap<(&'static str, usize), Counters>>,
}

impl Board {
    /// Replaces what `stage`'s `worker` has counted so far.
    pub fn publish(&self, stage: &'static str, worker: usize, counters: Counters) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.insert((stage, worker), counters);
    }

    /// All counters by stage, added up over workers.
    pub fn read(&self) -> BTreeMap<&'static str, Counters> {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let mut stages: BTreeMap<&'static str, Counters> = BTreeMap::new();
        for ((stage, _), counters) in slots.iter() {
            let sums = stages.entry(stage).or_default();
            for (name, count) in counters {
                *sums.entry(name).or_default() += count;
            }
        }
        stages
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_of_a_stage_are_added_up_and_a_later_value_replaces_the_earlier() {
        let board = Board::default();
        board.publish("http", 0, BTreeMap::from([("exchanges", 1)]));
        board.publish("http", 0, BTreeMap::from([("exchanges", 5)]));
        board.publish("http", 1, BTreeMap::from([("exchanges", 2), ("cut", 1)]));
        assert_eq!(board.read()["http"], BTreeMap::from([("cut", 1), ("exchanges", 7)]));
    }
}
