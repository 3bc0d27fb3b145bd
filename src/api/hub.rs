//! What is under way: calls and turns in progress and those just done, and a broadcast of each change.
//!
//! The pipeline publishes and never waits: the state is behind a short lock, and a subscriber that is too slow misses events and is told so.
//! Nothing is turned into JSON unless somebody listens or asks.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use tokio::sync::broadcast;

use crate::event::{Nanos, ProcId, ProcessChange, ProcessEvent, ProcessInfo};
use crate::store::{CallDetail, CallSummary, FindingRow, ProcessBrief, TurnSummary};
use crate::turn::{Finding, Placement, Turn, TurnId, TurnStatus};
use crate::wire::{Call, CallId, CallState};

/// Calls in progress that are kept; beyond that the oldest are forgotten here (never in the store).
const CALLS_MAX: usize = 4_096;
/// Calls just done that are kept until the store surely has them.
const DONE_MAX: usize = 512;
/// ... unless their bodies are larger than this in all.
const DONE_BYTES: usize = 32 << 20;
/// Turns that are kept.
const TURNS_MAX: usize = 1_024;
/// Processes whose image is remembered.
const PROCESSES_MAX: usize = 65_536;
/// Events that a subscriber may be behind.
const BACKLOG: usize = 1_024;

/// What the pipeline tells the hub.
#[derive(Clone, PartialEq, Debug)]
pub enum Update {
    /// A call, in progress or done ([`Call::state`]).
    Call(Arc<Call>),
    /// Where a call belongs.
    Placement(Placement),
    /// A turn as it stands.
    Turn(Arc<Turn>),
    /// A finding.
    Finding(Arc<Finding>),
    /// Something happened to a process.
    Process(ProcessEvent),
}

/// An event of `/api/stream`.
#[derive(Clone, Debug)]
pub(crate) struct StreamEvent {
    pub name: &'static str,
    pub data: Arc<str>,
}

/// A call of the hub.
#[derive(Clone, Debug)]
pub(crate) struct LiveCall {
    pub call: Arc<Call>,
    pub place: Option<Placement>,
    pub process: Option<ProcessBrief>,
}

impl LiveCall {
    pub(crate) fn summary(&self) -> CallSummary {
        CallSummary::of(&self.call, self.place.as_ref(), self.process.clone())
    }

    pub(crate) fn detail(&self) -> CallDetail {
        CallDetail::of(&self.call, self.place.as_ref(), self.process.clone())
    }

    pub(crate) fn started(&self) -> Nanos {
        self.call.times.request_first
    }
}

#[derive(Default)]
struct Live {
    calls: HashMap<CallId, (Arc<Call>, Option<Placement>)>,
    /// In order of arrival; ids that are gone are skipped.
    calls_by_age: VecDeque<CallId>,
    done_by_age: VecDeque<(CallId, usize)>,
    done_bytes: usize,
    turns: HashMap<TurnId, Arc<Turn>>,
    turns_by_age: VecDeque<TurnId>,
    processes: HashMap<ProcId, Arc<ProcessInfo>>,
    processes_by_age: VecDeque<ProcId>,
    /// Placements that came before the hub knew the call done.
    events: Option<broadcast::Sender<StreamEvent>>,
}

/// The live state.
pub struct Hub {
    live: Mutex<Live>,
}

impl Default for Hub {
    fn default() -> Hub {
        Hub::new()
    }
}

impl Hub {
    /// An empty hub.
    pub fn new() -> Hub {
        let live = Live { events: Some(broadcast::Sender::new(BACKLOG)), ..Live::default() };
        Hub { live: Mutex::new(live) }
    }

    /// Takes what happened. Never waits for a reader.
    pub fn publish(&self, update: Update) {
        let mut live = self.lock();
        match update {
            Update::Call(call) => live.call(call),
            Update::Placement(place) => live.place(place),
            Update::Turn(turn) => live.turn(turn),
            Update::Finding(finding) => live.emit("finding", || FindingRow::of(&finding)),
            Update::Process(event) => live.process(&event),
        }
    }

    /// Ends all streams; later subscribers get nothing.
    pub(crate) fn close(&self) {
        self.lock().events = None;
    }

    /// All later events; `None` once closed.
    pub(crate) fn subscribe(&self) -> Option<broadcast::Receiver<StreamEvent>> {
        self.lock().events.as_ref().map(broadcast::Sender::subscribe)
    }

    /// Calls in progress and just done, newest first.
    pub(crate) fn calls(&self) -> Vec<LiveCall> {
        let live = self.lock();
        let mut calls: Vec<LiveCall> = live.calls.values().map(|(call, place)| live.live_call(call, *place)).collect();
        drop(live);
        calls.sort_by_key(|live| std::cmp::Reverse((live.started(), live.call.id.to_string())));
        calls
    }

    /// One call by the hex digits of its id.
    pub(crate) fn call(&self, id: &str) -> Option<LiveCall> {
        let id = CallId(parse_id(id)?);
        let live = self.lock();
        live.calls.get(&id).map(|(call, place)| live.live_call(call, *place))
    }

    /// Turns in progress and just ended, newest first.
    pub(crate) fn turns(&self) -> Vec<(Arc<Turn>, TurnSummary)> {
        let live = self.lock();
        let mut turns: Vec<(Arc<Turn>, TurnSummary)> =
            live.turns.values().map(|turn| (Arc::clone(turn), live.turn_summary(turn))).collect();
        drop(live);
        turns.sort_by_key(|(turn, _)| std::cmp::Reverse((turn.started_at, turn.id.to_string())));
        turns
    }

    /// One turn by the hex digits of its id.
    pub(crate) fn turn(&self, id: &str) -> Option<(Arc<Turn>, TurnSummary)> {
        let id = TurnId(parse_id(id)?);
        let live = self.lock();
        live.turns.get(&id).map(|turn| (Arc::clone(turn), live.turn_summary(turn)))
    }

    fn lock(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Live {
    fn call(&mut self, call: Arc<Call>) {
        let id = call.id;
        let weight = call.request.body.len() + call.response.body.len();
        let was = self.calls.get(&id).map(|(call, place)| (call.state, *place));
        if was.is_some_and(|(state, _)| state == CallState::Done) && call.state == CallState::InProgress {
            return;
        }
        let place = was.and_then(|(_, place)| place);
        if was.is_none() {
            self.calls_by_age.push_back(id);
        }
        if call.state == CallState::Done && was.is_none_or(|(state, _)| state == CallState::InProgress) {
            self.done_by_age.push_back((id, weight));
            self.done_bytes += weight;
        }
        self.calls.insert(id, (Arc::clone(&call), place));
        self.emit_call(&call, place);
        self.forget_calls();
    }

    fn place(&mut self, place: Placement) {
        let Some((call, known)) = self.calls.get_mut(&place.call_id) else { return };
        if *known == Some(place) {
            return;
        }
        *known = Some(place);
        let call = Arc::clone(call);
        self.emit_call(&call, Some(place));
    }

    fn turn(&mut self, turn: Arc<Turn>) {
        if self.turns.insert(turn.id, Arc::clone(&turn)).is_none() {
            self.turns_by_age.push_back(turn.id);
        }
        if self.listened_to() {
            let summary = self.turn_summary(&turn);
            self.emit("turn", || summary);
        }
        while self.turns.len() > TURNS_MAX {
            let Some(oldest) = self.turns_by_age.pop_front() else { break };
            self.turns.remove(&oldest);
        }
    }

    fn process(&mut self, event: &ProcessEvent) {
        let info = match &event.change {
            ProcessChange::Exec { info, .. } => Arc::clone(info),
            ProcessChange::Fork { parent } => match self.processes.get(parent) {
                Some(info) => Arc::clone(info),
                None => return,
            },
            ProcessChange::Exit { .. } => return,
        };
        if self.processes.insert(event.process, info).is_none() {
            self.processes_by_age.push_back(event.process);
        }
        while self.processes.len() > PROCESSES_MAX {
            let Some(oldest) = self.processes_by_age.pop_front() else { break };
            self.processes.remove(&oldest);
        }
    }

    fn forget_calls(&mut self) {
        while self.done_by_age.len() > DONE_MAX || self.done_bytes > DONE_BYTES {
            let Some((oldest, weight)) = self.done_by_age.pop_front() else { break };
            self.done_bytes = self.done_bytes.saturating_sub(weight);
            self.calls.remove(&oldest);
        }
        while self.calls.len() > CALLS_MAX || self.calls_by_age.len() > 2 * CALLS_MAX {
            let Some(oldest) = self.calls_by_age.pop_front() else { break };
            // A call that is done is accounted for above; only one under way is forgotten here.
            if self.calls.get(&oldest).is_some_and(|(call, _)| call.state == CallState::InProgress) {
                self.calls.remove(&oldest);
            }
        }
    }

    fn live_call(&self, call: &Arc<Call>, place: Option<Placement>) -> LiveCall {
        LiveCall { call: Arc::clone(call), place, process: self.brief(call.process) }
    }

    fn turn_summary(&self, turn: &Turn) -> TurnSummary {
        TurnSummary::of(turn, self.brief(turn.process))
    }

    fn brief(&self, process: Option<ProcId>) -> Option<ProcessBrief> {
        process.map(|id| ProcessBrief::of(id, self.processes.get(&id).map(|info| &**info)))
    }

    fn listened_to(&self) -> bool {
        self.events.as_ref().is_some_and(|events| events.receiver_count() > 0)
    }

    fn emit_call(&self, call: &Arc<Call>, place: Option<Placement>) {
        self.emit("call", || self.live_call(call, place).summary());
    }

    fn emit<T: Serialize>(&self, name: &'static str, data: impl FnOnce() -> T) {
        if !self.listened_to() {
            return;
        }
        if let (Some(events), Ok(json)) = (&self.events, serde_json::to_string(&data())) {
            // Without a receiver the event is nobody's.
            let _ = events.send(StreamEvent { name, data: json.into() });
        }
    }
}

/// Is a turn still under way?
pub(crate) fn is_open(turn: &Turn) -> bool {
    turn.status == TurnStatus::InProgress
}

fn parse_id(hex: &str) -> Option<[u8; 16]> {
    if hex.len() != 32 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    u128::from_str_radix(hex, 16).ok().map(u128::to_be_bytes)
}
