//! Which processes there are, who started whom, and which have ended: from process events alone.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::event::{ProcId, ProcessChange, ProcessEvent, ProcessInfo};

/// How many processes are remembered, and how many generations are looked through.
const BOUND: usize = 65_536;
const DEPTH: usize = 64;

#[derive(Debug, Default)]
struct Known {
    parent: Option<ProcId>,
    info: Option<Arc<ProcessInfo>>,
    ended: bool,
}

/// The process tree.
#[derive(Debug, Default)]
pub(super) struct Processes {
    known: HashMap<ProcId, Known>,
    order: VecDeque<ProcId>,
}

impl Processes {
    /// Takes one event.
    pub fn push(&mut self, event: &ProcessEvent) {
        if !self.known.contains_key(&event.process) {
            self.order.push_back(event.process);
            if self.order.len() > BOUND
                && let Some(oldest) = self.order.pop_front()
            {
                self.known.remove(&oldest);
            }
        }
        let inherited = match &event.change {
            ProcessChange::Fork { parent } => self.known.get(parent).and_then(|parent| parent.info.clone()),
            _ => None,
        };
        let known = self.known.entry(event.process).or_default();
        match &event.change {
            ProcessChange::Exec { parent, info } => {
                known.parent = parent.or(known.parent);
                known.info = Some(info.clone());
            }
            ProcessChange::Fork { parent } => {
                known.parent = Some(*parent);
                known.info = known.info.take().or(inherited);
            }
            ProcessChange::Exit { .. } => known.ended = true,
        }
    }

    /// What a process runs, where known.
    pub fn info(&self, process: ProcId) -> Option<&ProcessInfo> {
        self.known.get(&process)?.info.as_deref()
    }

    /// True when its end was seen.
    pub fn has_ended(&self, process: ProcId) -> bool {
        self.known.get(&process).is_some_and(|known| known.ended)
    }

    /// The process and those that started it, nearest first.
    pub fn ancestry(&self, process: ProcId) -> impl Iterator<Item = ProcId> {
        std::iter::successors(Some(process), |process| self.known.get(process)?.parent).take(DEPTH)
    }

    /// True when `process` was started, directly or not, by `ancestor`.
    pub fn descends(&self, process: ProcId, ancestor: ProcId) -> bool {
        process != ancestor && self.ancestry(process).any(|known| known == ancestor)
    }
}
