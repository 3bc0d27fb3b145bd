//! Where a call belongs: the decision, without changing anything.

use std::sync::Arc;

use crate::wire::{Call, Content, Message, Role};

use super::auxiliary::{self, Why};
use super::chain::{Fold, Folds, words_digest};
use super::delegation::{AskId, Beginning};
use super::graph::{Found, NodeId, Probe, Relation, Who};
use super::hop::find_hop;
use super::spine::{Chain, Change, Memo};
use super::stage::{Stage, Summary, session_id, session_of_hint};
use super::tail::{self, Tail};
use super::{SessionId, TurnId};

/// Where a call belongs.
pub(super) enum Place {
    /// In no turn.
    Auxiliary {
        /// Why.
        why: Why,
        /// Its session, where it can be known.
        session: Option<SessionId>,
        /// The conversation it is about.
        conversation: Option<u64>,
    },
    /// It is the same call as a finished one, seen nearer to the server.
    HopOf {
        /// That one.
        node: NodeId,
    },
    /// It is the same call as a finished one, seen nearer to the client.
    Encloses {
        /// That one.
        node: NodeId,
    },
    /// In a turn.
    Turn(TurnPlace),
}

/// A place in a turn.
pub(super) struct TurnPlace {
    /// The call it continues.
    pub found: Option<Found>,
    /// The turn it goes on with; a new one if none.
    pub join: Option<TurnId>,
    /// Its session.
    pub session: SessionId,
    /// Its conversation; a new one if none.
    pub conversation: Option<u64>,
    /// The turn, and the tool call where known, that a new turn runs in.
    pub parent: Option<(TurnId, Option<AskId>)>,
    /// The prompt of a new turn.
    pub prompt: String,
    /// The first new message.
    pub tail: usize,
    /// True when the call goes on from a summary of its conversation.
    pub compacted: bool,
    /// What became of the messages of the call before.
    pub change: Change,
    /// Where the call's chain ends: its folds, and its last run.
    pub last: Option<(Folds, Fold)>,
}

/// What is known of a conversation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Conversation {
    /// Its session.
    pub session: SessionId,
    /// Its latest turn.
    pub last_turn: TurnId,
    /// The turn it began in, for a sub-agent.
    pub parent: Option<TurnId>,
}

/// How the chain of a call's messages is had.
type ChainOf = for<'m> fn(&'m mut Memo, &[Arc<Message>], Folds) -> Chain<'m>;

impl Stage {
    /// Decides about a call that is done.
    pub(super) fn place(&mut self, call: &Call) -> Place {
        self.decide(call, Memo::chain)
    }

    /// Decides about a call that is under way, which changes nothing of what is known.
    pub(super) fn place_for_now(&mut self, call: &Call) -> Place {
        self.decide(call, Memo::glance)
    }

    fn decide(&mut self, call: &Call, chain: ChainOf) -> Place {
        let who = Who::of(call);
        if let Some(why) = auxiliary::why(call) {
            return self.place_auxiliary(call, why, &who, chain);
        }
        let (start, by_response) = self.previous(call, &who);
        let Chain { positions, base, change } = chain(&mut self.memo, &call.messages, start);
        if let Some(hop) = find_hop(&self.graph, call, positions, &who) {
            return hop;
        }
        let probe = Probe { call, positions, base, who: &who };
        let found = by_response
            .map(|node| Found { node, relation: Relation::Continues, tail: 0 })
            .or_else(|| self.graph.find_by_prefix(&probe))
            // Behind a summary an agent may keep the last answers, which would lead to an earlier place.
            .or_else(|| summarised(&self.summaries, call).is_none().then(|| self.graph.find_by_answer(&probe))?);
        let last = positions.last().map(|position| (position.folds, position.run));
        let mut place = match found {
            Some(found) => self.place_continued(call, found, &who),
            None => self.place_root(call, &who),
        };
        (place.change, place.last) = (change, last);
        Place::Turn(place)
    }

    fn previous(&self, call: &Call, who: &Who) -> (Folds, Option<NodeId>) {
        let previous = call.previous_response_id.as_deref().filter(|id| !id.is_empty());
        let node = previous.and_then(|id| self.graph.by_response(id, who));
        (self.start_of(call), node)
    }

    fn place_auxiliary(&mut self, call: &Call, why: Why, who: &Who, chain: ChainOf) -> Place {
        let by_hint = who.hint.map(|hint| self.session_of(hint));
        let by_process = who.process.and_then(|process| self.process_sessions.peek(&process).copied());
        let found = if why == Why::Summary || by_hint.is_none() && by_process.is_none() && why != Why::Operation {
            let Chain { positions, base, .. } = chain(&mut self.memo, &call.messages, Folds::START);
            self.graph.find(&Probe { call, positions, base, who }).and_then(|found| self.graph.node(found.node))
        } else {
            None
        };
        let session = by_hint.or(found.map(|node| node.session)).or(by_process.map(|(session, _)| session));
        let conversation = found.map(|node| node.conversation).or(by_process.map(|(_, conversation)| conversation));
        Place::Auxiliary { why, session, conversation }
    }

    fn session_of(&self, hint: super::chain::Digest) -> SessionId {
        self.hints.peek(&hint).copied().unwrap_or_else(|| session_of_hint(hint))
    }

    fn place_continued(&mut self, call: &Call, found: Found, who: &Who) -> TurnPlace {
        let Some(node) = self.graph.node(found.node).cloned() else { return self.place_root(call, who) };
        let tail = tail::read(call.messages.get(found.tail..).unwrap_or_default());
        let Some(turn) = node.turn else {
            let mut place = self.place_root(call, who);
            place.found = Some(found);
            place.tail = found.tail;
            place.prompt = tail.prompt().or(node.prompt).unwrap_or(place.prompt);
            return place;
        };
        let begins = found.relation != Relation::Retries && !tail.prompts.is_empty();
        let open = !self.is_settled(turn, call.times.request_first);
        let known = self.conversations.peek(&node.conversation).copied();
        let join = (!begins && open).then_some(turn);
        let parent = if join.is_some() {
            None
        } else {
            let inherited = known.and_then(|known| known.parent).map(|parent| (parent, None));
            inherited
                .and_then(|inherited| self.parent_of(call, &tail, who, Some(node.conversation)).or(Some(inherited)))
        };
        TurnPlace {
            found: Some(found),
            join,
            session: node.session,
            conversation: Some(node.conversation),
            parent,
            prompt: match join {
                Some(_) => String::new(),
                None => tail.prompt().or_else(|| tail::last_prompt(&call.messages)).unwrap_or_default(),
            },
            tail: found.tail,
            compacted: false,
            change: Change::Unknown,
            last: None,
        }
    }

    fn place_root(&mut self, call: &Call, who: &Who) -> TurnPlace {
        let tail = tail::read(&call.messages);
        if let Some(place) = self.place_compacted(call, &tail, who) {
            return place;
        }
        let parent = self.parent_of(call, &tail, who, None);
        let session = parent
            .and_then(|(_, ask)| ask)
            .and_then(|ask| self.delegations.ask(ask))
            .map(|ask| ask.session)
            .or_else(|| who.hint.map(|hint| self.session_of(hint)))
            .unwrap_or_else(|| session_id(call.id));
        TurnPlace {
            found: None,
            join: None,
            session,
            conversation: None,
            parent,
            prompt: tail
                .prompt()
                .or_else(|| tail::last_prompt(&call.messages))
                .or_else(|| tail.others.last().cloned())
                .unwrap_or_default(),
            tail: 0,
            compacted: false,
            change: Change::Unknown,
            last: None,
        }
    }

    fn parent_of(
        &self,
        call: &Call,
        tail: &Tail,
        who: &Who,
        conversation: Option<u64>,
    ) -> Option<(TurnId, Option<AskId>)> {
        let beginning = Beginning {
            prompts: &tail.prompts,
            who,
            at: call.times.request_first,
            conversation,
            says_sub_agent: says_sub_agent(call),
        };
        let ask = self.delegations.find(&beginning, self)?;
        self.delegations.ask(ask).map(|known| (known.turn, Some(ask)))
    }

    /// A conversation that begins with the summary of another goes on with that one.
    fn place_compacted(&self, call: &Call, tail: &Tail, who: &Who) -> Option<TurnPlace> {
        let conversation = summarised(&self.summaries, call).or_else(|| {
            let by_process = who.process.and_then(|process| self.process_sessions.peek(&process));
            by_process.filter(|_| tail.summary).map(|(_, conversation)| *conversation)
        })?;
        let known = self.conversations.peek(&conversation)?;
        let open =
            self.turns.get(&known.last_turn).filter(|_| !self.is_settled(known.last_turn, call.times.request_first));
        // An agent may keep the last exchange behind the summary: words that were answered there are not new.
        let new_words = tail.prompts.last().filter(|_| !tail.answered);
        let join = open.filter(|open| match new_words {
            None => open.is_in_progress(),
            Some(words) => words_digest(words) == words_digest(&open.turn.prompt),
        });
        Some(TurnPlace {
            found: None,
            join: join.map(|open| open.turn.id),
            session: known.session,
            conversation: Some(conversation),
            parent: known.parent.map(|parent| (parent, None)),
            prompt: tail.prompts.last().or(tail.others.last()).cloned().unwrap_or_default(),
            tail: call.messages.len(),
            compacted: true,
            change: Change::Unknown,
            last: None,
        })
    }
}

/// The conversation whose summary is in the first messages of a call.
fn summarised(summaries: &[Summary], call: &Call) -> Option<u64> {
    if summaries.is_empty() {
        return None;
    }
    let early = call.messages.iter().filter(|message| message.role != Role::System).take(32);
    let mut text = String::new();
    for content in early.flat_map(|message| message.content.iter()) {
        if let Content::Text { text: part } = content
            && part.len() >= 24
        {
            part.split_whitespace().take(4_096).for_each(|word| {
                text.push_str(word);
                text.push(' ');
            });
        }
    }
    summaries.iter().rev().find(|summary| text.contains(&summary.piece)).map(|summary| summary.conversation)
}

/// Headers by which an agent says that a sub-agent calls.
fn says_sub_agent(call: &Call) -> bool {
    call.request_header("x-claude-code-parent-agent-id").is_some() || call.request_header("x-openai-subagent").is_some()
}
