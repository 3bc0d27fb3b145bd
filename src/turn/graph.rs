//! The conversation graph: finished calls, and how a new call finds the one it continues.
//!
//! Every finished call is a node under two folds: `at`, its request, and `after`, its request and answer. A new call looks its
//! own prefixes up from the end, so that the longest known prefix is met first. What no fold finds (an agent trimmed or
//! rewrote its history) is found by the last answers that are still in it, or by tool-call ids, and must then agree in
//! more than one respect. Who sent a call (process, connection, session header) only ever decides between candidates.
//!
//! Bounded: the oldest nodes are forgotten.

use std::collections::{HashMap, VecDeque};

use crate::event::{ConnId, Nanos, ProcId};
use crate::wire::{Call, CallId, Content, Role, WireApi};

use super::chain::{Digest, DigestMap, Fold, Folds, Position, Speaker, words_digest};
use super::{SessionId, TurnId};

/// A node's number; numbers are never reused.
pub(super) type NodeId = u64;

/// Which conversation a node belongs to.
pub(super) type ConversationId = u64;

/// A finished call.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// The call.
    pub call_id: CallId,
    /// Its conversation.
    pub conversation: ConversationId,
    /// Its session.
    pub session: SessionId,
    /// Its turn; none for a call that only prepared another (a warm-up).
    pub turn: Option<TurnId>,
    /// The folds of the request.
    pub at: Folds,
    /// The folds of the request and each answer, the main one first.
    pub after: Vec<Folds>,
    /// The run of the main answer, and whether it is distinctive.
    pub answer: Option<(Fold, bool)>,
    /// The run before the answer.
    pub asked: Option<Fold>,
    /// The names of the tools the answer asked for, as one digest; 0 for none.
    pub tools: Digest,
    /// Ids of the tool calls in the answer.
    pub tool_ids: Vec<Digest>,
    /// The response's id.
    pub response: Option<Digest>,
    /// The node it continues.
    pub parent: Option<NodeId>,
    /// How many calls continue it.
    pub children: u32,
    /// True when it has no usable answer (failed, aborted, cut).
    pub unanswered: bool,
    /// The API it speaks.
    pub api: WireApi,
    /// Who.
    pub who: Who,
    /// The server, as far as known.
    pub server: Option<Digest>,
    /// The client's end, as far as known.
    pub client: Option<Digest>,
    /// First byte of the request.
    pub started: Nanos,
    /// Last byte of the answer.
    pub ended: Nanos,
    /// The prompt of a node without a turn.
    pub prompt: Option<String>,
    /// Hops of this call that were seen.
    pub hops: Vec<CallId>,
}

/// By what a sender can be told apart from another; never what makes a continuation.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Who {
    /// The process.
    pub process: Option<ProcId>,
    /// The connection.
    pub conn: ConnId,
    /// The session header's digest.
    pub hint: Option<Digest>,
}

impl Who {
    /// Of a call.
    pub fn of(call: &Call) -> Who {
        Who {
            process: call.process,
            conn: call.conn,
            hint: call.conversation_hint.as_deref().filter(|hint| !hint.is_empty()).map(words_digest),
        }
    }

    /// How much speaks for the same sender.
    fn likeness(&self, other: &Who) -> i32 {
        let same = |a: bool, b: bool, equal: bool, for_it: i32, against: i32| match (a && b, equal) {
            (true, true) => for_it,
            (true, false) => -against,
            (false, _) => 0,
        };
        same(self.hint.is_some(), other.hint.is_some(), self.hint == other.hint, 8, 8)
            + same(self.process.is_some(), other.process.is_some(), self.process == other.process, 4, 2)
            + if self.conn == other.conn { 3 } else { 0 }
    }

    /// True when nothing says that it is somebody else.
    pub fn may_be(&self, other: &Who) -> bool {
        let differs = |a: bool, b: bool, equal: bool| a && b && !equal;
        !differs(self.hint.is_some(), other.hint.is_some(), self.hint == other.hint)
            && !differs(self.process.is_some(), other.process.is_some(), self.process == other.process)
    }
}

/// How a call was found to continue another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Relation {
    /// It has the other's request and answer as its beginning (or names its response).
    Continues,
    /// It has the other's request as its beginning and says more, without the answer.
    Extends,
    /// It repeats the request of a call that got no answer.
    Retries,
}

/// What a call continues.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Found {
    /// The earlier call.
    pub node: NodeId,
    /// How.
    pub relation: Relation,
    /// The first message that is new.
    pub tail: usize,
}

/// A call as the graph looks at it.
pub(super) struct Probe<'a> {
    /// The call.
    pub call: &'a Call,
    /// Its chain.
    pub positions: &'a [Position],
    /// How many messages of the call stand before the chain's first.
    pub base: usize,
    /// The sender.
    pub who: &'a Who,
}

impl Probe<'_> {
    fn like(&self, position: &Position) -> Like<'_> {
        Like {
            who: self.who,
            strict: Some(position.folds.strict),
            results: Some((self.call, self.base + position.message)),
        }
    }
}

/// What tells the right one of several nodes that fit equally.
struct Like<'a> {
    who: &'a Who,
    /// The fold with tool results.
    strict: Option<Fold>,
    /// The results in a call's messages from one on: the ids of the right node's tool calls are among them.
    results: Option<(&'a Call, usize)>,
}

/// A repeated request is a retry within this time.
const RETRY_WITHIN: Nanos = Nanos(15 * 60 * 1_000_000_000);
/// How many of the last answers of a call are tried when no fold finds its parent.
const ANSWERS_TRIED: usize = 6;
/// How many nodes are kept under one key.
const NODES_PER_KEY: usize = 64;
/// What a candidate without a common prefix needs.
const SCORE_NEEDED: i32 = 5;

/// The finished calls.
#[derive(Debug)]
pub(super) struct Graph {
    nodes: HashMap<NodeId, Node>,
    order: VecDeque<NodeId>,
    next: NodeId,
    bound: usize,
    after: DigestMap<Fold, Vec<NodeId>>,
    at: DigestMap<Fold, Vec<NodeId>>,
    answers: DigestMap<Fold, Vec<NodeId>>,
    tool_ids: DigestMap<Digest, Vec<NodeId>>,
    responses: DigestMap<Digest, Vec<NodeId>>,
}

impl Graph {
    /// Keeps at most `bound` calls.
    pub fn new(bound: usize) -> Graph {
        Graph {
            nodes: HashMap::new(),
            order: VecDeque::new(),
            next: 0,
            bound: bound.max(1),
            after: DigestMap::default(),
            at: DigestMap::default(),
            answers: DigestMap::default(),
            tool_ids: DigestMap::default(),
            responses: DigestMap::default(),
        }
    }

    /// A node that is still known.
    pub fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(&id)
    }

    /// A node that is still known, to change what no index depends on.
    pub fn node_mut(&mut self, id: NodeId) -> Option<&mut Node> {
        self.nodes.get_mut(&id)
    }

    /// The latest call with this response id, best sender first.
    pub fn by_response(&self, id: &str, who: &Who) -> Option<NodeId> {
        self.best_where(self.responses.get(&words_digest(id))?, &Like { who, strict: None, results: None }, |_| true)
    }

    /// Adds a node.
    pub fn insert(&mut self, node: Node) -> NodeId {
        let id = self.next;
        self.next += 1;
        for folds in &node.after {
            remember(self.after.entry(folds.chain).or_default(), id);
        }
        remember(self.at.entry(node.at.chain).or_default(), id);
        if let Some((run, _)) = node.answer {
            remember(self.answers.entry(run).or_default(), id);
        }
        for tool_id in &node.tool_ids {
            remember(self.tool_ids.entry(*tool_id).or_default(), id);
        }
        if let Some(response) = node.response {
            remember(self.responses.entry(response).or_default(), id);
        }
        if let Some(parent) = node.parent.and_then(|parent| self.nodes.get_mut(&parent)) {
            parent.children += 1;
        }
        self.nodes.insert(id, node);
        self.order.push_back(id);
        while self.order.len() > self.bound {
            self.forget_oldest();
        }
        id
    }

    fn forget_oldest(&mut self) {
        let Some(id) = self.order.pop_front() else { return };
        let Some(node) = self.nodes.remove(&id) else { return };
        for folds in &node.after {
            forget(&mut self.after, folds.chain, id);
        }
        forget(&mut self.at, node.at.chain, id);
        if let Some((run, _)) = node.answer {
            forget(&mut self.answers, run, id);
        }
        for tool_id in &node.tool_ids {
            forget(&mut self.tool_ids, *tool_id, id);
        }
        if let Some(response) = node.response {
            forget(&mut self.responses, response, id);
        }
    }

    /// Other finished calls with the same request.
    pub fn same_request(&self, at: Fold) -> impl Iterator<Item = (NodeId, &Node)> {
        let ids = self.at.get(&at).map(Vec::as_slice).unwrap_or_default();
        ids.iter().rev().filter_map(|id| self.nodes.get(id).map(|node| (*id, node)))
    }

    /// What the call continues, if anything.
    pub fn find(&self, probe: &Probe<'_>) -> Option<Found> {
        self.find_by_prefix(probe).or_else(|| self.find_by_answer(probe))
    }

    /// By the longest known beginning.
    pub fn find_by_prefix(&self, probe: &Probe<'_>) -> Option<Found> {
        for (index, position) in probe.positions.iter().enumerate().rev() {
            // A node without an answer has one fold for both; it is a parent only as a retry or an extension.
            if let Some(ids) = self.after.get(&position.folds.chain)
                && let Some(node) = self.best_where(ids, &probe.like(position), |_| true)
                && self.nodes.get(&node).is_some_and(|node| node.answer.is_some())
            {
                return Some(Found { node, relation: Relation::Continues, tail: probe.base + position.next });
            }
            if let Some(found) = self.find_at(probe, index) {
                return Some(found);
            }
        }
        None
    }

    /// Calls whose whole request ends at a position.
    fn find_at(&self, probe: &Probe<'_>, index: usize) -> Option<Found> {
        let position = probe.positions.get(index)?;
        let ids = self.at.get(&position.folds.chain)?;
        let Some(next) = probe.positions.get(index + 1) else {
            return self.find_retried(probe, position, ids);
        };
        if next.speaker == Speaker::Model {
            let end = run_end(probe.positions, index + 1);
            let node = self.best_where(ids, &probe.like(position), |node| {
                if node.unanswered { node.who.may_be(probe.who) } else { is_respelled(node, probe, index + 1, end) }
            })?;
            let tail = probe.base + probe.positions.get(end)?.next;
            return Some(Found { node, relation: Relation::Continues, tail });
        }
        let node = self.best_where(ids, &probe.like(position), |node| {
            node.who.may_be(probe.who)
                && (node.unanswered || node.who.likeness(probe.who) > 0 && node.children == 0 && index > 0)
        })?;
        Some(Found { node, relation: Relation::Extends, tail: probe.base + position.next })
    }

    fn find_retried(&self, probe: &Probe<'_>, position: &Position, ids: &[NodeId]) -> Option<Found> {
        let started = probe.call.times.request_first;
        // A first request is little to go by; deeper in a conversation a retry may go to another vendor.
        let deep = probe.positions.iter().rev().any(|position| position.speaker == Speaker::Model);
        let node = self.best_where(ids, &probe.like(position), |node| {
            node.unanswered
                && node.who.may_be(probe.who)
                && started.since(node.ended) <= RETRY_WITHIN
                && (deep || node.api == probe.call.wire_api)
        })?;
        Some(Found { node, relation: Relation::Retries, tail: probe.base + position.next })
    }

    /// By the last answers in the history, and by the ids of tool results.
    pub fn find_by_answer(&self, probe: &Probe<'_>) -> Option<Found> {
        let mut tried = 0;
        let mut end = probe.positions.len();
        while tried < ANSWERS_TRIED {
            let earlier = probe.positions.get(..end).unwrap_or_default();
            let Some(index) = earlier.iter().rposition(|p| p.speaker == Speaker::Model) else { break };
            let begin = run_begin(probe.positions, index);
            if let Some(found) = self.find_answer(probe, begin, index) {
                return Some(found);
            }
            tried += 1;
            end = begin;
            if end == 0 {
                break;
            }
        }
        self.find_by_tool_ids(probe)
    }

    fn find_answer(&self, probe: &Probe<'_>, begin: usize, index: usize) -> Option<Found> {
        let position = probe.positions.get(index)?;
        let asked = begin.checked_sub(1).and_then(|before| probe.positions.get(before)).map(|before| before.run);
        let node = self
            .answers
            .get(&position.run)?
            .iter()
            .rev()
            .filter_map(|id| self.nodes.get(id).map(|node| (id, node)))
            .map(|(id, node)| {
                let mut score = node.who.likeness(probe.who);
                score += if position.distinctive { 3 } else { 0 };
                score += if asked.is_some() && asked == node.asked { 2 } else { 0 };
                score += self.earlier_agrees(probe.positions, begin, node);
                score += if has_tool_id(probe.call, probe.base + position.next, node) { 3 } else { 0 };
                (score, *id)
            })
            .max_by_key(|(score, id)| (*score, *id))
            .filter(|(score, _)| *score >= SCORE_NEEDED)?
            .1;
        Some(Found { node, relation: Relation::Continues, tail: probe.base + position.next })
    }

    /// What the exchange before an answer (which begins at a position) adds: short words mean little alone and more in a row.
    fn earlier_agrees(&self, positions: &[Position], begin: usize, node: &Node) -> i32 {
        let before = |end: usize| {
            let end = end.checked_sub(1)?;
            Some((run_begin(positions, end), positions.get(end)?))
        };
        let Some(parent) = node.parent.and_then(|parent| self.nodes.get(&parent)) else { return 0 };
        let Some((asked, _)) = before(begin) else { return 0 };
        let Some((answered, answer)) = before(asked) else { return 0 };
        if answer.speaker != Speaker::Model || parent.answer.is_none_or(|(run, _)| run != answer.run) {
            return 0;
        }
        let question = before(answered).map(|(_, question)| question.run);
        2 + i32::from(question.is_some() && question == parent.asked)
    }

    /// The history is gone (server-side state), but tool results answer a known call by its id.
    fn find_by_tool_ids(&self, probe: &Probe<'_>) -> Option<Found> {
        let from = probe.positions.iter().rposition(|p| p.speaker == Speaker::Model).map_or(0, |index| index + 1);
        let first = probe.base + probe.positions.get(from)?.message;
        for id in result_ids(probe.call, first).take(64) {
            let Some(ids) = self.tool_ids.get(&words_digest(id)) else { continue };
            let node = self.best_where(ids, &Like { who: probe.who, strict: None, results: None }, |node| {
                id.len() >= 12 && node.who.likeness(probe.who) > -8 || node.who.likeness(probe.who) >= 3
            });
            if let Some(node) = node {
                return Some(Found { node, relation: Relation::Continues, tail: first });
            }
        }
        None
    }

    /// The likeliest of some nodes: the same sender, the ids of its tool calls, the same tool results, not continued by
    /// others, the latest.
    fn best_where(&self, ids: &[NodeId], like: &Like<'_>, accept: impl Fn(&Node) -> bool) -> Option<NodeId> {
        let alone = ids.len() == 1;
        ids.iter()
            .filter_map(|id| self.nodes.get(id).map(|node| (*id, node)))
            .filter(|(_, node)| accept(node))
            .map(|(id, node)| {
                let mut score = node.who.likeness(like.who);
                score += if like.strict.is_some_and(|strict| node.has_strict(strict)) { 3 } else { 0 };
                let answers = |(call, from)| has_tool_id(call, from, node);
                score += if !alone && like.results.is_some_and(answers) { 6 } else { 0 };
                score += if node.children == 0 { 2 } else { 0 };
                (score, id)
            })
            .max()
            .map(|(_, id)| id)
    }
}

impl Node {
    fn has_strict(&self, strict: Fold) -> bool {
        self.at.strict == strict || self.after.iter().any(|folds| folds.strict == strict)
    }
}

/// The answer in the history is not the one that was given, but may be the same in other words: it asks for the same
/// tools, or comes from the same sender.
fn is_respelled(node: &Node, probe: &Probe<'_>, from: usize, to: usize) -> bool {
    let mut messages: Vec<usize> =
        probe.positions.get(from..=to).unwrap_or_default().iter().map(|position| position.message).collect();
    messages.dedup();
    let names = messages
        .into_iter()
        .filter_map(|message| probe.call.messages.get(probe.base + message))
        .flat_map(|message| message.content.iter());
    tools_digest(names) == node.tools && (node.tools != 0 || node.who.likeness(probe.who) > 0)
}

/// The last position of the run that `index` belongs to.
fn run_end(positions: &[Position], index: usize) -> usize {
    let Some(speaker) = positions.get(index).map(|p| p.speaker) else { return index };
    let more = positions.iter().skip(index + 1).take_while(|p| p.speaker == speaker).count();
    index + more
}

/// The first position of the run that `index` belongs to.
fn run_begin(positions: &[Position], index: usize) -> usize {
    let Some(speaker) = positions.get(index).map(|p| p.speaker) else { return index };
    let before = positions.get(..index).unwrap_or_default();
    index - before.iter().rev().take_while(|p| p.speaker == speaker).count()
}

/// The names of the tools that some contents ask for; 0 for none.
pub(super) fn tools_digest<'a>(contents: impl Iterator<Item = &'a Content>) -> Digest {
    contents
        .filter_map(|content| match content {
            Content::ToolCall(call) => Some(words_digest(&call.name)),
            _ => None,
        })
        .fold(0, |all, name| if all == 0 { name } else { Fold(all).push(name).0 })
}

fn has_tool_id(call: &Call, from: usize, node: &Node) -> bool {
    result_ids(call, from).any(|id| node.tool_ids.contains(&words_digest(id)))
}

/// The ids of the tool results from a message on.
fn result_ids(call: &Call, from: usize) -> impl Iterator<Item = &str> {
    call.messages
        .iter()
        .skip(from)
        .filter(|message| message.role != Role::Assistant)
        .flat_map(|message| message.content.iter())
        .filter_map(|content| match content {
            Content::ToolResult { id, .. } if !id.is_empty() => Some(id.as_str()),
            _ => None,
        })
}

fn remember(ids: &mut Vec<NodeId>, id: NodeId) {
    if ids.last() == Some(&id) {
        return;
    }
    if ids.len() >= NODES_PER_KEY {
        ids.remove(0);
    }
    ids.push(id);
}

fn forget<K: std::hash::Hash + Eq>(map: &mut DigestMap<K, Vec<NodeId>>, key: K, id: NodeId) {
    if let Some(ids) = map.get_mut(&key) {
        ids.retain(|known| *known != id);
        if ids.is_empty() {
            map.remove(&key);
        }
    }
}
