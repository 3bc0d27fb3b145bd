//! When a turn is handed on, and when it is over: by the next turn, the end of its process, time, or the end of all.

use crate::event::{Nanos, ProcessChange, ProcessEvent};

use super::open::OpenTurn;
use super::stage::{MINUTE, Stage};
use super::{TurnId, TurnStatus, TurnUpdate};

/// Turns of up to this many steps are handed on at every change; longer ones when they grew by a sixteenth, changed their
/// status, or a second passed for each 32 steps.
pub(super) const SHOWN_ALWAYS: usize = 64;

impl Stage {
    pub(super) fn process(&mut self, event: &ProcessEvent, out: &mut Vec<TurnUpdate>) {
        self.processes.push(event);
        if !matches!(event.change, ProcessChange::Exit { .. }) {
            return;
        }
        let mut left: Vec<TurnId> = self
            .turns
            .values()
            .filter(|open| open.last_process == Some(event.process))
            .map(|open| open.turn.id)
            .collect();
        left.sort_unstable();
        for id in left {
            let Some(open) = self.turns.get_mut(&id) else { continue };
            if open.is_in_progress() {
                open.set_status(TurnStatus::Interrupted);
                show(open, event.at, true, out);
            } else if open.is_answered() {
                self.settle(id, None, out);
            }
        }
    }

    /// A new turn of a conversation ends the one before.
    pub(super) fn supersede(&mut self, conversation: u64, at: Nanos, out: &mut Vec<TurnUpdate>) {
        let Some(before) = self.conversations.peek(&conversation).map(|known| known.last_turn) else { return };
        let Some(open) = self.turns.get_mut(&before) else { return };
        if open.is_in_progress() {
            open.set_status(TurnStatus::Interrupted);
        }
        if open.is_answered() && !open.expects_sub_turn() {
            self.settle(before, None, out);
        } else {
            show(open, at, false, out);
        }
    }

    pub(super) fn tick(&mut self, at: Nanos, out: &mut Vec<TurnUpdate>) {
        let due = Nanos(at.0.saturating_sub(self.config.settle_answered.0));
        let quiet: Vec<TurnId> = self.quiet.range(..(due, TurnId([0; 16]))).map(|(_, id)| *id).collect();
        for id in quiet {
            if self.is_settled(id, at) {
                self.settle(id, None, out);
            }
        }
        // Only turns that changed lately can be waiting to be shown.
        let lately = Nanos(at.0.saturating_sub(2 * MINUTE));
        let recent: Vec<TurnId> = self.quiet.range((lately, TurnId([0; 16]))..).map(|(_, id)| *id).collect();
        for id in recent {
            if let Some(open) = self.turns.get_mut(&id) {
                show(open, at, false, out);
            }
        }
    }

    /// True when a turn has been quiet for so long that nothing continues it.
    pub(super) fn is_settled(&self, id: TurnId, at: Nanos) -> bool {
        self.turns.get(&id).is_none_or(|open| {
            let limit = if open.is_in_progress() { self.config.settle_unanswered } else { self.config.settle_answered };
            at.since(open.last_end) > limit
        })
    }

    /// Hands a turn on for the last time and forgets it.
    pub(super) fn settle(&mut self, id: TurnId, unfinished: Option<TurnStatus>, out: &mut Vec<TurnUpdate>) {
        let Some(mut open) = self.turns.remove(&id) else { return };
        self.quiet.remove(&(open.last_end, id));
        self.findings.forget(id);
        if open.is_in_progress() {
            let ended =
                open.last_process.is_some_and(|process| self.processes.has_ended(process)) || self.is_given_up(&open);
            let status = if ended { TurnStatus::Interrupted } else { unfinished.unwrap_or(TurnStatus::Interrupted) };
            open.set_status(status);
        }
        open.turn.settled = true;
        out.push(TurnUpdate::Turn(Box::new(open.turn)));
    }

    /// True for a sub-agent's turn whose parent had its tool result and went on after the turn's last call: nobody waits for it.
    fn is_given_up(&self, open: &OpenTurn) -> bool {
        let answered = open.runs_in.and_then(|ask| self.delegations.ask(ask)).and_then(|ask| ask.answered);
        answered.is_some_and(|at| at >= open.last_end)
    }

    pub(super) fn evict(&mut self, out: &mut Vec<TurnUpdate>) {
        while self.turns.len() > self.config.max_open_turns {
            let Some((_, id)) = self.quiet.first().copied() else { return };
            self.counters.turns_evicted += 1;
            self.settle(id, Some(TurnStatus::Cut), out);
        }
    }

    pub(super) fn end(&mut self, out: &mut Vec<TurnUpdate>) {
        let mut left: Vec<(Nanos, TurnId)> =
            self.turns.values().map(|open| (open.turn.started_at, open.turn.id)).collect();
        left.sort_unstable();
        for (_, id) in left {
            self.settle(id, Some(TurnStatus::Cut), out);
        }
    }
}

/// Hands a turn on, unless it is long and was shown lately.
pub(super) fn show(open: &mut OpenTurn, at: Nanos, always: bool, out: &mut Vec<TurnUpdate>) {
    let (steps, shown_at, changed) = open.shown;
    let length = open.turn.steps.len();
    let grown = length <= SHOWN_ALWAYS || length >= steps + steps / 16;
    let waited = at.since(shown_at).0 >= 1_000_000_000 * (1 + length as u64 / 32);
    if !changed || !(always || grown || waited || !open.is_in_progress()) {
        return;
    }
    open.shown = (length, at, false);
    out.push(TurnUpdate::Turn(Box::new(open.turn.clone())));
}
