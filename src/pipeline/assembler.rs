//! The assembler: takes all updates in event-time order, asks `turn` where they belong, and hands facts to the outlets.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::outlet::{Fact, Outlet};
use super::summary::Summary;
use crate::capture::Status;
use crate::event::{Event, Nanos, ProcId, ProcessChange, ProcessEvent, ProcessInfo};
use crate::price::Prices;
use crate::turn::{self, Placement, TurnUpdate};
use crate::wire::{Call, CallId, CallState, CallUpdate};

/// What the assembler puts into order.
pub(super) struct Ordered {
    at: Nanos,
    kind: Kind,
}

enum Kind {
    Process(ProcessEvent),
    Update(CallUpdate),
    Tick,
}

impl Ordered {
    /// A process event or a tick; anything else belongs to a connection and does not come here.
    pub(super) fn event(event: Event) -> Ordered {
        let at = event.at();
        match event {
            Event::Process(process) => Ordered { at, kind: Kind::Process(process) },
            _ => Ordered { at, kind: Kind::Tick },
        }
    }

    /// A call update that was made at event time `at`.
    pub(super) fn update(at: Nanos, update: CallUpdate) -> Ordered {
        Ordered { at, kind: Kind::Update(update) }
    }

    /// Processes before the calls of the same instant, ticks after them; calls by connection. The sort is stable, so
    /// that updates of one connection keep their order.
    fn key(&self) -> (Nanos, u8, u64) {
        match &self.kind {
            Kind::Process(_) => (self.at, 0, 0),
            Kind::Update(CallUpdate::Progress(call) | CallUpdate::Done(call)) => (self.at, 1, call.conn.0),
            Kind::Tick => (self.at, 2, 0),
        }
    }
}

/// Turns updates into facts.
pub(super) struct Assembler {
    turn: turn::Stage,
    updates: Vec<TurnUpdate>,
    processes: HashMap<ProcId, Arc<ProcessInfo>>,
    /// Where calls that are still under way belong, as last said.
    places: HashMap<CallId, Placement>,
    /// Calls that were told of and are not done.
    begun: HashSet<CallId>,
    /// Calls whose answer is complete while their exchange is not over.
    answered: HashMap<CallId, Arc<Call>>,
    /// Of these, the ones that `turn` took as done because their process went on.
    settled: HashSet<CallId>,
    outlets: Vec<Box<dyn Outlet>>,
    /// Some outlet wants calls that are under way.
    shows_progress: bool,
    summary: Summary,
}

impl Assembler {
    pub(super) fn new(outlets: Vec<Box<dyn Outlet>>, prices: Prices) -> Assembler {
        Assembler {
            turn: turn::Stage::new(turn::Config { prices, ..turn::Config::default() }),
            updates: Vec::new(),
            processes: HashMap::new(),
            places: HashMap::new(),
            begun: HashSet::new(),
            answered: HashMap::new(),
            settled: HashSet::new(),
            shows_progress: outlets.iter().any(|outlet| outlet.shows_progress()),
            outlets,
            summary: Summary::default(),
        }
    }

    /// Takes everything of one batch.
    pub(super) fn take(&mut self, mut batch: Vec<Ordered>) {
        batch.sort_by_key(Ordered::key);
        for Ordered { at, kind } in batch {
            match kind {
                Kind::Process(event) => self.process(&event),
                Kind::Update(CallUpdate::Progress(call)) => self.progress(at, call),
                Kind::Update(CallUpdate::Done(call)) => self.done(Arc::new(*call)),
                Kind::Tick => self.push(turn::Input::Tick(at)),
            }
        }
        self.outlets.iter_mut().for_each(|outlet| outlet.batch_end());
    }

    /// Ends every turn, and the outlets.
    pub(super) fn finish(mut self, source: &dyn Status) -> Summary {
        self.push(turn::Input::End);
        self.summary.turn_counters = self.counters();
        self.summary.source = source.counters();
        source.encrypted().iter().for_each(|one| self.emit(&Fact::Encrypted(one)));
        self.outlets.iter_mut().for_each(|outlet| outlet.finish());
        self.summary
    }

    pub(super) fn counters(&self) -> BTreeMap<&'static str, u64> {
        self.turn.counters().named()
    }

    fn process(&mut self, event: &ProcessEvent) {
        match &event.change {
            ProcessChange::Exec { info, .. } => {
                self.processes.insert(event.process, info.clone());
            }
            ProcessChange::Fork { parent } => {
                if let Some(info) = self.processes.get(parent).cloned() {
                    self.processes.insert(event.process, info);
                }
            }
            // Calls of a process may be decoded after its end, so its description stays.
            ProcessChange::Exit { .. } => {}
        }
        self.emit(&Fact::Process(event));
        self.push(turn::Input::Process(event));
    }

    fn progress(&mut self, at: Nanos, call: Box<Call>) {
        // Its request alone says that answers were read: how often it is told of afterwards depends on who looks on.
        if self.begun.insert(call.id) && !call.answered {
            self.settle_before(&call);
        }
        if self.shows_progress {
            if !self.settled.contains(&call.id) {
                self.push(turn::Input::Progress(&call));
            }
            let place = self.places.get(&call.id).copied();
            self.emit_call(Arc::new(Call::clone(&call)), place, false);
        }
        if call.answered {
            let mut answered = call;
            answered.state = CallState::Done;
            answered.times.last_byte = Some(at);
            self.answered.insert(answered.id, Arc::new(*answered));
        }
    }

    /// A client that makes its next call has read the answers before it, also where it left the last bytes of their
    /// exchanges on the wire: `turn` is to know those answers first.
    fn settle_before(&mut self, next: &Call) {
        if self.answered.is_empty() {
            return;
        }
        let began = next.times.request_first;
        let mut before: Vec<Arc<Call>> = self
            .answered
            .values()
            .filter(|call| call.id != next.id && call.process == next.process && call.times.request_first < began)
            .cloned()
            .collect();
        before.sort_by_key(|call| (call.times.last_byte, call.id));
        for call in before {
            self.answered.remove(&call.id);
            self.settled.insert(call.id);
            self.push(turn::Input::Done(&call));
        }
    }

    fn done(&mut self, call: Arc<Call>) {
        self.begun.remove(&call.id);
        self.answered.remove(&call.id);
        if !self.settled.remove(&call.id) {
            self.settle_before(&call);
            self.push(turn::Input::Done(&call));
        }
        let place = self.places.remove(&call.id);
        self.summary.add_call(&call, place.as_ref());
        self.emit_call(call, place, true);
    }

    fn emit_call(&mut self, call: Arc<Call>, place: Option<Placement>, done: bool) {
        let process = call.process.and_then(|id| self.processes.get(&id).cloned());
        self.emit(&Fact::Call { call, place, process, done });
    }

    /// Feeds `turn` and hands on what it says. A place of a call that is being told now is kept for its own fact.
    fn push(&mut self, input: turn::Input<'_>) {
        let told = match &input {
            turn::Input::Progress(call) | turn::Input::Done(call) => Some(call.id),
            _ => None,
        };
        self.turn.push(input, &mut self.updates);
        for update in std::mem::take(&mut self.updates) {
            match update {
                TurnUpdate::Placed(place) if told == Some(place.call_id) => {
                    self.places.insert(place.call_id, place);
                }
                TurnUpdate::Placed(place) => {
                    if let Some(known) = self.places.get_mut(&place.call_id) {
                        *known = place;
                    }
                    self.emit(&Fact::Placed(place));
                }
                TurnUpdate::Turn(turn) => {
                    self.summary.add_turn(&turn);
                    let process = turn.process.and_then(|id| self.processes.get(&id).cloned());
                    self.emit(&Fact::Turn { turn: Arc::new(*turn), process });
                }
                TurnUpdate::Dropped(id) => {
                    self.summary.turns.remove(&id);
                    self.emit(&Fact::Dropped(id));
                }
                TurnUpdate::Finding(finding) => {
                    self.summary.findings += 1;
                    self.emit(&Fact::Finding(Arc::new(*finding)));
                }
            }
        }
    }

    fn emit(&mut self, fact: &Fact<'_>) {
        self.outlets.iter_mut().for_each(|outlet| outlet.take(fact));
    }
}
