//! Which tool call a conversation began in: sub-agents, and agents that a tool runs.
//!
//! The evidence, from the best down: the conversation's prompt *is* an argument of a tool call; the prompt and an argument
//! contain one another; the conversation began, in the same agent or in a process that it started, while a tool call
//! awaited its result. A sub-agent in the background outlives its tool call, so delegating calls stay known afterwards.

use std::cell::LazyCell;
use std::collections::{BTreeMap, VecDeque};

use serde_json::Value;

use memchr::memmem;

use crate::event::{Nanos, ProcId};

use super::chain::{Digest, DigestMap, words_digest};
use super::graph::{ConversationId, Who};
use super::prompt;
use super::{SessionId, TurnId};

/// A tool call's number here.
pub(super) type AskId = u64;

/// How many tool calls are remembered.
const BOUND: usize = 4_096;
/// How many of the latest are looked through where there is no index.
const SCANNED: usize = 256;
/// How many arguments of a tool call are looked at, and how long a text must be to be found inside another.
const ARGUMENTS: usize = 32;
const CONTAINED_BYTES: usize = 12;
/// Longer texts are compared as a whole only.
const SCANNED_BYTES: usize = 65_536;

/// A tool call that a conversation may begin in.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    /// The turn that asked.
    pub turn: TurnId,
    /// Its session.
    pub session: SessionId,
    /// Its conversation.
    pub conversation: ConversationId,
    /// Which step of the turn.
    pub step: usize,
    /// Who asked.
    pub who: Who,
    /// When the model had asked.
    pub asked: Nanos,
    /// When the result was sent.
    pub answered: Option<Nanos>,
    /// How many conversations began in it.
    pub claims: u32,
    /// True when the tool's name says that it starts or instructs an agent.
    pub delegates: bool,
    /// Digests and texts of its arguments.
    arguments: Vec<(Digest, String)>,
}

impl Ask {
    /// A tool call that was just asked for.
    pub fn new(
        turn: TurnId,
        session: SessionId,
        conversation: ConversationId,
        step: usize,
        who: Who,
        asked: Nanos,
    ) -> Ask {
        Ask {
            turn,
            session,
            conversation,
            step,
            who,
            asked,
            answered: None,
            claims: 0,
            delegates: false,
            arguments: Vec::new(),
        }
    }

    fn is_pending_at(&self, at: Nanos) -> bool {
        self.asked <= at && self.answered.is_none_or(|answered| answered >= at)
    }
}

/// The tool calls.
#[derive(Debug, Default)]
pub(super) struct Delegations {
    asks: BTreeMap<AskId, Ask>,
    by_argument: DigestMap<Digest, VecDeque<AskId>>,
    next: AskId,
}

/// A conversation that begins.
pub(super) struct Beginning<'a> {
    /// Its prompts.
    pub prompts: &'a [String],
    /// Who sends it.
    pub who: &'a Who,
    /// When.
    pub at: Nanos,
    /// The conversation a new prompt of which this is, where it goes on.
    pub conversation: Option<ConversationId>,
    /// True when the header of a sub-agent says so.
    pub says_sub_agent: bool,
}

/// What the process tree says.
pub(super) trait Tree {
    /// True when the second process started the first.
    fn descends(&self, process: ProcId, ancestor: ProcId) -> bool;
    /// How many turns of top-level conversations of a process are open.
    fn open_turns_of(&self, process: Option<ProcId>, hint: Option<Digest>) -> usize;
}

impl Delegations {
    /// Adds a tool call.
    pub fn insert(&mut self, mut ask: Ask, name: &str, arguments: &Value) -> AskId {
        let id = self.next;
        self.next += 1;
        ask.delegates = delegates(name);
        ask.arguments = texts(arguments)
            .into_iter()
            .map(|text| (words_digest(&prompt::read(text).words), text.to_owned()))
            .filter(|(_, text)| ask.delegates || text.len() <= SCANNED_BYTES)
            .collect();
        for (digest, _) in &ask.arguments {
            self.by_argument.entry(*digest).or_default().push_back(id);
        }
        self.asks.insert(id, ask);
        while self.asks.len() > BOUND {
            let Some((oldest, ask)) = self.asks.pop_first() else { break };
            for (digest, _) in &ask.arguments {
                if let Some(ids) = self.by_argument.get_mut(digest) {
                    ids.retain(|id| *id != oldest);
                    if ids.is_empty() {
                        self.by_argument.remove(digest);
                    }
                }
            }
        }
        id
    }

    /// The result of a tool call was sent.
    pub fn answered(&mut self, id: AskId, at: Nanos) {
        if let Some(ask) = self.asks.get_mut(&id) {
            ask.answered.get_or_insert(at);
        }
    }

    /// A conversation began in a tool call.
    pub fn claim(&mut self, id: AskId) {
        if let Some(ask) = self.asks.get_mut(&id) {
            ask.claims += 1;
        }
    }

    /// A tool call that is still known.
    pub fn ask(&self, id: AskId) -> Option<&Ask> {
        self.asks.get(&id)
    }

    /// The tool call that a conversation, or a new prompt in it, began in.
    pub fn find(&self, beginning: &Beginning<'_>, tree: &impl Tree) -> Option<AskId> {
        self.by_equal_text(beginning, tree)
            .or_else(|| self.by_contained_text(beginning, tree))
            .or_else(|| self.by_time(beginning, tree))
    }

    fn by_equal_text(&self, beginning: &Beginning<'_>, tree: &impl Tree) -> Option<AskId> {
        let whole = beginning.prompts.join("\n");
        let digests = std::iter::once(whole.as_str())
            .chain(beginning.prompts.iter().map(String::as_str))
            .filter(|text| !text.is_empty())
            .map(words_digest);
        digests.filter_map(|digest| self.by_argument.get(&digest)).find_map(|ids| {
            self.best(ids.iter().copied(), beginning, |ask| {
                ask.delegates || ask.is_pending_at(beginning.at) && is_inside(ask, beginning, tree)
            })
        })
    }

    fn by_contained_text(&self, beginning: &Beginning<'_>, tree: &impl Tree) -> Option<AskId> {
        let prompt = beginning.prompts.join("\n");
        if prompt.len() < CONTAINED_BYTES || prompt.len() > SCANNED_BYTES {
            return None;
        }
        let latest = self.asks.keys().rev().take(SCANNED).copied();
        let finder = LazyCell::new(|| memmem::Finder::new(&prompt));
        self.best(latest, beginning, |ask| {
            let contains = |argument: &str| {
                finder.find(argument.as_bytes()).is_some()
                    || argument.len() >= 2 * CONTAINED_BYTES
                        && memmem::find(prompt.as_bytes(), argument.as_bytes()).is_some()
            };
            ask.is_pending_at(beginning.at)
                && (ask.delegates || is_inside(ask, beginning, tree))
                && ask.arguments.iter().any(|(_, argument)| contains(argument.trim()))
        })
    }

    fn by_time(&self, beginning: &Beginning<'_>, tree: &impl Tree) -> Option<AskId> {
        if beginning.conversation.is_some() {
            return None;
        }
        let latest = self.asks.keys().rev().take(SCANNED).copied();
        self.best(latest, beginning, |ask| {
            if !ask.is_pending_at(beginning.at) {
                return false;
            }
            let child = match (beginning.who.process, ask.who.process) {
                (Some(process), Some(ancestor)) => tree.descends(process, ancestor),
                _ => false,
            };
            let same_sender = ask.who.may_be(beginning.who)
                && (ask.who.hint.is_some() && ask.who.hint == beginning.who.hint
                    || ask.who.process.is_some() && ask.who.process == beginning.who.process);
            let alone =
                beginning.says_sub_agent || ask.claims == 0 && tree.open_turns_of(ask.who.process, ask.who.hint) <= 1;
            child || ask.delegates && same_sender && alone
        })
    }

    /// The likeliest: nobody's yet, of the same sender, the earliest of those that ask for the same.
    fn best(
        &self,
        ids: impl Iterator<Item = AskId>,
        beginning: &Beginning<'_>,
        accept: impl Fn(&Ask) -> bool,
    ) -> Option<AskId> {
        ids.filter_map(|id| self.asks.get(&id).map(|ask| (id, ask)))
            .filter(|(_, ask)| ask.asked <= beginning.at && Some(ask.conversation) != beginning.conversation)
            .filter(|(_, ask)| accept(ask))
            .max_by_key(|(id, ask)| {
                let pending = ask.is_pending_at(beginning.at);
                (pending, ask.claims == 0, ask.who.may_be(beginning.who), std::cmp::Reverse(*id))
            })
            .map(|(id, _)| id)
    }
}

/// A tool that is not known to delegate must run in the same agent, or in a process below it.
fn is_inside(ask: &Ask, beginning: &Beginning<'_>, tree: &impl Tree) -> bool {
    match (beginning.who.process, ask.who.process) {
        (Some(process), Some(asker)) => process == asker || tree.descends(process, asker),
        _ => true,
    }
}

/// True when a tool's name says that it hands work to an agent.
pub(super) fn delegates(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    // An extension and its tool: `subagent__execute_task`.
    let of_agents = name.split_once("__").is_some_and(|(extension, _)| extension.contains("subagent"));
    let name = name.rsplit("__").next().unwrap_or(&name);
    if matches!(name, "task" | "agent" | "new_task" | "start_task" | "run_task" | "sessions_spawn" | "sessions_send") {
        return true;
    }
    let acts_on_running_ones = ["wait", "close", "list", "output", "stop", "kill", "status", "result"];
    if acts_on_running_ones.iter().any(|verb| name.contains(verb)) {
        return false;
    }
    of_agents
        || name.contains("agent")
        || name.contains("coworker")
        || name.contains("delegate")
        || name.contains("handoff")
        || name.contains("sendmessage")
        || name == "send_message"
        || name == "send_input"
        || name.contains("spawn")
}

/// The texts in a tool call's arguments. Iterative and bounded: depth and number are the model's choice.
fn texts(arguments: &Value) -> Vec<&str> {
    let mut found = Vec::new();
    let mut queue = VecDeque::from([arguments]);
    let mut looked_at = 0;
    while let Some(value) = queue.pop_front() {
        looked_at += 1;
        if found.len() >= ARGUMENTS || looked_at > 1_024 {
            break;
        }
        match value {
            Value::String(text) if text.trim().len() > 1 => found.push(text.as_str()),
            Value::Array(items) => queue.extend(items.iter().take(ARGUMENTS)),
            Value::Object(entries) => queue.extend(entries.values().take(ARGUMENTS)),
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_that_hand_work_to_an_agent_are_known_by_name() {
        for name in [
            "Task",
            "Agent",
            "spawn_agent",
            "delegate_task",
            "mcp__x__run_subagent",
            "sessions_spawn",
            "SendMessage",
            "subagent__execute_task",
            "delegate_work_to_coworker",
            "invoke_agent",
            "agentic_fetch",
        ] {
            assert!(delegates(name), "{name}");
        }
        for name in [
            "TaskCreate",
            "TaskUpdate",
            "TaskOutput",
            "wait_agent",
            "close_agent",
            "Bash",
            "TodoWrite",
            "developer__shell",
            "transfer_to_billing",
        ] {
            assert!(!delegates(name), "{name}");
        }
    }
}
