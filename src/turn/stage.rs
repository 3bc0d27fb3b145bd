//! The stage: calls, process events and time in; placements, turns and findings out.
//!
//! What comes out for finished calls depends on finished calls and process events only, in their order. Calls under way
//! and ticks change when something is shown, never what.

use std::collections::{BTreeSet, HashMap};

use crate::event::{Nanos, ProcId, ProcessEvent};
use crate::price::{Appraisal, Cost, Prices};
use crate::wire::{Call, CallId, Role};

use super::auxiliary::Why;
use super::chain::{Digest, Folds, run_of, words_digest};
use super::delegation::{Ask, Delegations, Tree};
use super::findings::{Findings, Seen};
use super::graph::{Graph, Node, Who, tools_digest};
use super::open::{OpenTurn, Start, end_of, failure};
use super::place::{Conversation, Place, TurnPlace};
use super::processes::Processes;
use super::recent::Recent;
use super::settle::{SHOWN_ALWAYS, show};
use super::spine::{Chain, Memo};
use super::{Agent, Finding, Placement, SessionId, TurnId, TurnStatus, TurnUpdate, chain, profile};

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
    /// A turn with an answer is settled when nothing came for so long.
    pub settle_answered: Nanos,
    /// A turn without an answer is settled when nothing came for so long.
    pub settle_unanswered: Nanos,
    /// What calls cost.
    pub prices: Prices,
}

pub(super) const MINUTE: u64 = 60 * 1_000_000_000;

impl Default for Config {
    fn default() -> Config {
        Config {
            max_calls: 65_536,
            max_open_turns: 4_096,
            settle_answered: Nanos(60 * MINUTE),
            settle_unanswered: Nanos(24 * 60 * MINUTE),
            prices: Prices::embedded(),
        }
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

impl Counters {
    /// By name, for `/api/health`.
    pub fn named(&self) -> std::collections::BTreeMap<&'static str, u64> {
        std::collections::BTreeMap::from([
            ("calls", self.calls),
            ("auxiliary", self.auxiliary),
            ("hops", self.hops),
            ("turns", self.turns),
            ("turns_evicted", self.turns_evicted),
            ("findings", self.findings),
        ])
    }
}

/// A summary that a conversation may go on from.
#[derive(Clone, Debug)]
pub(super) struct Summary {
    /// A piece of its text, white space collapsed.
    pub piece: String,
    /// The conversation it summarises.
    pub conversation: u64,
}

/// Puts calls together.
#[derive(Debug)]
pub struct Stage {
    pub(super) config: Config,
    pub(super) counters: Counters,
    pub(super) memo: Memo,
    pub(super) graph: Graph,
    pub(super) processes: Processes,
    pub(super) delegations: Delegations,
    pub(super) turns: HashMap<TurnId, OpenTurn>,
    pub(super) quiet: BTreeSet<(Nanos, TurnId)>,
    pub(super) conversations: Recent<u64, Conversation>,
    next_conversation: u64,
    pub(super) hints: Recent<Digest, SessionId>,
    pub(super) process_sessions: Recent<ProcId, (SessionId, u64)>,
    pub(super) summaries: Vec<Summary>,
    under_way: Recent<CallId, Option<TurnId>>,
    pub(super) findings: Findings,
    found: Vec<Finding>,
}

/// How many summaries are kept.
const SUMMARIES: usize = 64;
impl Default for Stage {
    fn default() -> Stage {
        Stage::new(Config::default())
    }
}

impl Stage {
    /// A stage with these bounds.
    pub fn new(config: Config) -> Stage {
        Stage {
            counters: Counters::default(),
            memo: Memo::new(config.max_calls.saturating_mul(2)),
            graph: Graph::new(config.max_calls),
            processes: Processes::default(),
            delegations: Delegations::default(),
            turns: HashMap::new(),
            quiet: BTreeSet::new(),
            conversations: Recent::new(config.max_calls),
            next_conversation: 0,
            hints: Recent::new(config.max_calls),
            process_sessions: Recent::new(config.max_open_turns),
            summaries: Vec::new(),
            under_way: Recent::new(config.max_open_turns),
            findings: Findings::new(config.max_open_turns),
            found: Vec::new(),
            config,
        }
    }

    /// Takes one input, and appends what follows from it.
    pub fn push(&mut self, input: Input<'_>, out: &mut Vec<TurnUpdate>) {
        match input {
            Input::Process(event) => self.process(event, out),
            Input::Progress(call) => self.progress(call, out),
            Input::Done(call) => self.done(call, out),
            Input::Tick(at) => self.tick(at, out),
            Input::End => self.end(out),
        }
    }

    /// What was counted so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    fn progress(&mut self, call: &Call, out: &mut Vec<TurnUpdate>) {
        if self.under_way.peek(&call.id).is_some() {
            return;
        }
        let placed = match self.place_for_now(call) {
            Place::Turn(place) => self.preview(call, &place, out),
            Place::Auxiliary { session, .. } => {
                out.push(TurnUpdate::Placed(Placement {
                    call_id: call.id,
                    turn_id: None,
                    session_id: session,
                    auxiliary: true,
                    hop_of: None,
                    cost: None,
                }));
                None
            }
            Place::HopOf { .. } | Place::Encloses { .. } => None,
        };
        self.under_way.insert(call.id, placed);
    }

    /// Shows a turn as it will be with this call, without changing it.
    fn preview(&mut self, call: &Call, place: &TurnPlace, out: &mut Vec<TurnUpdate>) -> Option<TurnId> {
        let known = place.join.and_then(|id| self.turns.get(&id));
        let (turn_id, new) = match known {
            Some(open) => (open.turn.id, None),
            None => {
                let id = turn_id(place.session, call.id);
                (id, Some(self.begin(call, place, id)))
            }
        };
        out.push(TurnUpdate::Placed(Placement {
            call_id: call.id,
            turn_id: Some(turn_id),
            session_id: Some(place.session),
            auxiliary: false,
            hop_of: None,
            cost: None,
        }));
        if known.is_some_and(|open| open.turn.steps.len() > SHOWN_ALWAYS) {
            return None;
        }
        let is_new = new.is_some();
        let mut open = new.or_else(|| known.cloned())?;
        open.preview(call);
        out.push(TurnUpdate::Turn(Box::new(open.turn)));
        is_new.then_some(turn_id)
    }

    fn begin(&self, call: &Call, place: &TurnPlace, id: TurnId) -> OpenTurn {
        let ancestry: Vec<ProcId> = call.process.iter().flat_map(|process| self.processes.ancestry(*process)).collect();
        let infos = ancestry.iter().filter_map(|process| self.processes.info(*process));
        let start = Start {
            id,
            session: place.session,
            parent: place.parent.map(|(turn, _)| turn),
            agent: self.agent_of(profile::recognise(call, infos), place),
            prompt: place.prompt.clone(),
            hint: Who::of(call).hint,
        };
        OpenTurn::new(start, call)
    }

    /// A sub-agent that only its library can be recognised by is of its parent's kind.
    fn agent_of(&self, agent: Agent, place: &TurnPlace) -> Agent {
        let Some((parent, Some(ask))) = place.parent.filter(|_| !profile::is_agent(&agent.kind)) else { return agent };
        let delegated = self.delegations.ask(ask).is_some_and(|ask| ask.delegates);
        let parent = self.turns.get(&parent).map(|open| &open.turn.agent);
        match parent.filter(|parent| delegated && profile::is_agent(&parent.kind)) {
            Some(parent) => Agent { recognised_by: Some("parent turn".into()), ..parent.clone() },
            None => agent,
        }
    }

    fn done(&mut self, call: &Call, out: &mut Vec<TurnUpdate>) {
        self.counters.calls += 1;
        let shown = self.under_way.remove(&call.id).flatten();
        let appraisal = self.config.prices.appraise(call);
        let cost = appraisal.cost;
        let placement = match self.place(call) {
            Place::Auxiliary { why, session, conversation } => self.auxiliary(call, cost, why, session, conversation),
            Place::HopOf { node } => self.hop(call.id, node),
            Place::Encloses { node } => self.enclose(call, cost, node, out),
            Place::Turn(place) => self.add(call, appraisal, &place, out),
        };
        if let Some(shown) = shown.filter(|shown| placement.turn_id != Some(*shown) && !self.turns.contains_key(shown))
        {
            out.push(TurnUpdate::Dropped(shown));
        }
        out.push(TurnUpdate::Placed(placement));
        if let Some(open) = placement.turn_id.and_then(|id| self.turns.get_mut(&id)) {
            show(open, end_of(call), false, out);
        }
        self.counters.findings += self.found.len() as u64;
        out.extend(self.found.drain(..).map(|finding| TurnUpdate::Finding(Box::new(finding))));
        self.evict(out);
    }

    fn auxiliary(
        &mut self,
        call: &Call,
        cost: Option<Cost>,
        why: Why,
        session: Option<SessionId>,
        of: Option<u64>,
    ) -> Placement {
        self.counters.auxiliary += 1;
        if let (Why::Summary, Some(conversation)) = (why, of) {
            self.keep_summary(call, conversation);
        }
        if why == Why::Probe && call.response_id.is_some() {
            // A warm-up: the next call may continue it by its response's id.
            self.insert_node(call, None, None, session.unwrap_or(session_id(call.id)), 0);
        }
        Placement { call_id: call.id, turn_id: None, session_id: session, auxiliary: true, hop_of: None, cost }
    }

    fn keep_summary(&mut self, call: &Call, conversation: u64) {
        let text = call.answer_text();
        let start = text.find("<summary>").map_or(0, |at| at + "<summary>".len());
        let text = text.get(start..).unwrap_or_default();
        let text = text.split("</summary>").next().unwrap_or_default();
        let piece = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let piece: String = piece.chars().take(120).collect();
        if piece.len() < 24 {
            return;
        }
        if self.summaries.len() >= SUMMARIES {
            self.summaries.remove(0);
        }
        self.summaries.push(Summary { piece, conversation });
    }

    fn add(&mut self, call: &Call, appraisal: Appraisal, place: &TurnPlace, out: &mut Vec<TurnUpdate>) -> Placement {
        let who = Who::of(call);
        let join = place.join.filter(|id| self.turns.contains_key(id));
        let conversation = place.conversation.unwrap_or_else(|| {
            self.next_conversation += 1;
            self.next_conversation
        });
        let id = join.unwrap_or_else(|| turn_id(place.session, call.id));
        if join.is_none() {
            self.counters.turns += 1;
            self.supersede(conversation, end_of(call), out);
            let mut open = self.begin(call, place, id);
            open.runs_in = place.parent.and_then(|(_, ask)| ask);
            self.quiet.insert((open.last_end, id));
            self.turns.insert(id, open);
            self.link_parent(place, id, call, out);
        }
        let before = self.conversations.peek(&conversation).map(|known| known.last_turn);
        self.extend(call, appraisal, place, (id, conversation), before);
        self.conversations.insert(
            conversation,
            Conversation { session: place.session, last_turn: id, parent: place.parent.map(|(turn, _)| turn) },
        );
        if let Some(hint) = who.hint
            && self.hints.touch(&hint).is_none()
        {
            self.hints.insert(hint, place.session);
        }
        if let Some(process) = who.process {
            self.process_sessions.insert(process, (place.session, conversation));
        }
        self.insert_node(call, Some(id), Some(place), place.session, conversation);
        Placement {
            call_id: call.id,
            turn_id: Some(id),
            session_id: Some(place.session),
            auxiliary: false,
            hop_of: None,
            cost: appraisal.cost,
        }
    }

    /// Adds the call to its turn, makes its tool calls known as places where sub-agents may begin, and looks at it.
    fn extend(
        &mut self,
        call: &Call,
        appraisal: Appraisal,
        place: &TurnPlace,
        (id, conversation): (TurnId, u64),
        before: Option<TurnId>,
    ) {
        let Some(open) = self.turns.get_mut(&id) else { return };
        self.quiet.remove(&(open.last_end, id));
        let delegations = &mut self.delegations;
        let added = open.add(call, appraisal.cost, place.tail, |ask, at| delegations.answered(ask, at));
        for asked in &added.asked {
            // Some agents start a tool before the answer's last byte.
            let at = call.times.first_token.unwrap_or(end_of(call));
            let ask = Ask::new(id, place.session, conversation, asked.step, Who::of(call), at);
            let number = delegations.insert(ask, &asked.call.name, &asked.call.arguments);
            open.set_ask(asked.step, number);
        }
        if open.is_in_progress() && open.last_process.is_some_and(|process| self.processes.has_ended(process)) {
            open.set_status(TurnStatus::Interrupted);
        }
        self.quiet.insert((open.last_end, id));
        let parent = place.found.and_then(|found| self.graph.node(found.node)).map(|node| node.call_id);
        let seen = Seen {
            call,
            open,
            added: &added,
            tail: place.tail,
            before: parent,
            change: place.change,
            window: appraisal.context_window,
        };
        self.found.extend(self.findings.call(&seen, before));
        if place.compacted {
            self.found.push(self.findings.compacted(id, place.session, call));
        }
    }

    fn link_parent(&mut self, place: &TurnPlace, id: TurnId, call: &Call, out: &mut Vec<TurnUpdate>) {
        let Some((parent, Some(ask))) = place.parent else { return };
        self.delegations.claim(ask);
        let Some(step) = self.delegations.ask(ask).map(|ask| ask.step) else { return };
        if let Some(open) = self.turns.get_mut(&parent) {
            open.set_sub_turn(step, id);
            show(open, end_of(call), false, out);
        }
    }

    fn insert_node(
        &mut self,
        call: &Call,
        turn: Option<TurnId>,
        place: Option<&TurnPlace>,
        session: SessionId,
        conversation: u64,
    ) {
        let start = self.start_of(call);
        let last = match place {
            Some(place) => place.last,
            None => {
                let positions = self.memo.chain(&call.messages, start).positions;
                positions.last().map(|position| (position.folds, position.run))
            }
        };
        let at = last.map_or(start, |(folds, _)| folds);
        let answers: Vec<Vec<chain::Atom>> = call.output.iter().take(8).map(chain::atoms).collect();
        let continued = self.continued_answers(call, start);
        let main = answers.first().filter(|atoms| !atoms.is_empty());
        let node = Node {
            call_id: call.id,
            conversation,
            session,
            turn,
            at,
            after: if answers.is_empty() {
                vec![at]
            } else {
                answers.iter().map(|atoms| at.extend(atoms)).chain(continued).collect()
            },
            answer: main.map(|atoms| run_of(atoms)),
            asked: last.map(|(_, run)| run),
            tools: tools_digest(call.output.first().into_iter().flat_map(|message| message.content.iter())),
            tool_ids: call.tool_calls().filter(|t| !t.id.is_empty()).take(64).map(|t| words_digest(&t.id)).collect(),
            response: call.response_id.as_deref().filter(|id| !id.is_empty()).map(words_digest),
            parent: place.and_then(|place| place.found).map(|found| found.node),
            children: 0,
            unanswered: failure(call).is_some() || main.is_none(),
            api: call.wire_api,
            who: Who::of(call),
            server: server_of(call),
            client: client_of(call),
            started: call.times.request_first,
            ended: end_of(call),
            prompt: if turn.is_none() { super::tail::read(&call.messages).prompt() } else { None },
            hops: Vec::new(),
        };
        self.graph.insert(node);
    }

    /// An answer that goes on where the call's last message stops (a prefill) is kept by clients as one message: the folds
    /// with that.
    fn continued_answers(&mut self, call: &Call, start: Folds) -> Vec<Folds> {
        let (Some(last), Some(answer)) = (call.messages.last(), call.output.first()) else { return Vec::new() };
        if last.role != Role::Assistant {
            return Vec::new();
        }
        let Chain { positions, base, .. } = self.memo.chain(&call.messages, start);
        let place = call.messages.len() - 1 - base.min(call.messages.len() - 1);
        let kept = positions.partition_point(|position| position.message < place);
        let before = kept.checked_sub(1).and_then(|kept| positions.get(kept)).map_or(start, |position| position.folds);
        chain::joined(last, answer).iter().map(|message| before.extend(&chain::atoms(message))).collect()
    }

    /// Where a call's chain starts: after the answer it names, or from nothing.
    pub(super) fn start_of(&self, call: &Call) -> Folds {
        let previous = call.previous_response_id.as_deref().filter(|id| !id.is_empty());
        let node = previous.and_then(|id| self.graph.by_response(id, &Who::of(call)));
        node.and_then(|id| self.graph.node(id)).and_then(|node| node.after.first().copied()).unwrap_or(Folds::START)
    }
}

impl Tree for Stage {
    fn descends(&self, process: ProcId, ancestor: ProcId) -> bool {
        self.processes.descends(process, ancestor)
    }

    fn open_turns_of(&self, process: Option<ProcId>, hint: Option<Digest>) -> usize {
        let same = |open: &&OpenTurn| {
            open.is_in_progress()
                && open.turn.parent_turn_id.is_none()
                && (open.last_process == process || hint.is_some() && open.hint == hint)
        };
        self.turns.values().filter(same).take(2).count()
    }
}

/// The server as far as it can be told from another.
pub(super) fn server_of(call: &Call) -> Option<Digest> {
    let server = call.server.as_ref().map(ToString::to_string).or_else(|| call.authority.clone())?;
    Some(words_digest(&server))
}

/// The client's end of the connection, where known.
pub(super) fn client_of(call: &Call) -> Option<Digest> {
    call.client.as_ref().map(|client| words_digest(&client.to_string()))
}

/// The session of a conversation without an id of its own.
pub(super) fn session_id(first: CallId) -> SessionId {
    SessionId(digest_of(b"session", &first.0, &[]))
}

/// The session of a conversation that carries an id.
pub(super) fn session_of_hint(hint: Digest) -> SessionId {
    SessionId(digest_of(b"hint", &hint.to_le_bytes(), &[]))
}

fn turn_id(session: SessionId, first: CallId) -> TurnId {
    TurnId(digest_of(b"turn", &session.0, &first.0))
}

fn digest_of(kind: &[u8], a: &[u8], b: &[u8]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(kind).update(a).update(b);
    let mut bytes = [0; 16];
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}
