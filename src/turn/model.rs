//! The turn: from a user's prompt to the final answer, through all tool calls. Only data lives here; `turn::graph`
//! builds it and `docs/turns.md` explains the rules.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::event::{Nanos, ProcId};
use crate::price::Cost;
use crate::wire::{CallId, Usage};

/// A turn's id: a hash over its session and its first call, so that a replay gives the same id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TurnId(pub [u8; 16]);

/// A session's id: a hash over the agent's own conversation id where it sends one, else over the first call.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SessionId(pub [u8; 16]);

impl fmt::Display for TurnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for TurnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// How a turn stands.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TurnStatus {
    /// The final answer came.
    Complete,
    /// More is expected: a call is under way, or a tool result is awaited.
    InProgress,
    /// A new prompt came, or the agent ended, before the answer.
    Interrupted,
    /// The last call failed and nothing followed.
    Failed,
    /// The observation ended, or bytes were lost, before the answer.
    Cut,
}

impl TurnStatus {
    /// The name in output, API and console.
    pub fn as_str(self) -> &'static str {
        match self {
            TurnStatus::Complete => "complete",
            TurnStatus::InProgress => "in_progress",
            TurnStatus::Interrupted => "interrupted",
            TurnStatus::Failed => "failed",
            TurnStatus::Cut => "cut",
        }
    }
}

/// Which agent made a turn.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Agent {
    /// `claude-code`, `codex`, `gemini-cli`, ..., `openai-python`, ..., or `unknown`.
    pub kind: String,
    /// Its version, where it says so.
    pub version: Option<String>,
    /// What it was recognised by (`user-agent`, `process`, `headers`, `tools`, `system prompt`, `parent turn`).
    pub recognised_by: Option<String>,
}

/// One step of a turn, in order.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Step {
    /// The model was called.
    Call {
        /// Which call.
        call_id: CallId,
        /// When it began.
        at: Nanos,
        /// How long it took, where it ended.
        duration: Option<Nanos>,
    },
    /// The model asked for a tool, and (later) the result came.
    Tool {
        /// The call that asked.
        call_id: CallId,
        /// The id as sent; empty where the API has none.
        id: String,
        /// The tool's name.
        name: String,
        /// The arguments.
        arguments: Value,
        /// When the model had asked.
        at: Nanos,
        /// From the request to the call that carries the result; `None` while it is awaited.
        duration: Option<Nanos>,
        /// The result's text, where it came; shared, because a turn is handed on at each of its calls.
        result: Option<Arc<str>>,
        /// The result's size in bytes, where it came.
        result_bytes: Option<u64>,
        /// True when the client marked the result as an error.
        is_error: bool,
        /// The sub-agent's turn that ran inside this tool call.
        sub_turn: Option<TurnId>,
    },
}

/// Where the wall time of a turn went.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct TimeSplit {
    /// A model call was under way.
    pub model: Nanos,
    /// No call was under way and a tool result was awaited.
    pub tool: Nanos,
    /// Waiting for the user (between an interruption or question and the next call).
    pub user: Nanos,
    /// The rest.
    pub idle: Nanos,
}

/// One turn.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Turn {
    /// The id.
    pub id: TurnId,
    /// Its session.
    pub session_id: SessionId,
    /// The turn whose tool call started this one (a sub-agent's).
    pub parent_turn_id: Option<TurnId>,
    /// The agent.
    pub agent: Agent,
    /// The process that made the first call, where known.
    pub process: Option<ProcId>,
    /// How it stands.
    pub status: TurnStatus,
    /// The user's prompt.
    pub prompt: String,
    /// The final answer; empty while there is none.
    pub answer: String,
    /// The steps in order.
    pub steps: Vec<Step>,
    /// The calls in order.
    pub call_ids: Vec<CallId>,
    /// How many tool calls the model made.
    pub tool_calls: u32,
    /// Models that answered, with the number of calls of each.
    pub models: BTreeMap<String, u32>,
    /// Tokens of all calls.
    pub usage: Usage,
    /// What all calls cost at list price, as far as known.
    #[serde(default)]
    pub cost: Option<Cost>,
    /// How many calls failed.
    pub errors: u32,
    /// When the first call began.
    pub started_at: Nanos,
    /// When the last call ended, where it did.
    pub ended_at: Option<Nanos>,
    /// Where the time went.
    pub time: TimeSplit,
    /// True when nothing will change this turn any more: its last update. A turn that is complete, failed or interrupted
    /// but not settled may be taken up again (a retry, a background task that reports back).
    #[serde(default)]
    pub settled: bool,
}

impl Turn {
    /// From the first call's start to the last call's end.
    pub fn duration(&self) -> Option<Nanos> {
        self.ended_at.map(|end| end.since(self.started_at))
    }
}

/// How bad a finding is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Good to know.
    Info,
    /// Look at it.
    Warning,
    /// Act.
    Critical,
}

/// Something a person should look at.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Finding {
    /// What kind (`loop`, `stalled_tool`, `cut_stream`, `retry_storm`, `model_substitution`, ...; docs/turns.md lists them).
    pub kind: String,
    /// How bad.
    pub severity: Severity,
    /// One plain sentence.
    pub sentence: String,
    /// The turn, where it belongs to one.
    pub turn_id: Option<TurnId>,
    /// The session, where it belongs to one.
    pub session_id: Option<SessionId>,
    /// The calls that show it.
    pub call_ids: Vec<CallId>,
    /// When it became true.
    pub at: Nanos,
}

/// Where a call belongs and what it cost, decided when the call is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Placement {
    /// The call.
    pub call_id: CallId,
    /// Its turn; `None` for calls outside conversations.
    pub turn_id: Option<TurnId>,
    /// Its session.
    pub session_id: Option<SessionId>,
    /// True for housekeeping (titles, probes, token counts, embeddings): kept, marked, in no turn.
    pub auxiliary: bool,
    /// The logical call of which this one is a hop: a proxy passed that call on, or it was seen at its other end too.
    /// A hop has the turn and session of its logical call, and is not in `Turn::call_ids`.
    pub hop_of: Option<CallId>,
    /// What it cost at list price, where known; a hop costs nothing of its own.
    pub cost: Option<Cost>,
}

/// What the turn stage hands on.
#[derive(Clone, PartialEq, Debug)]
pub enum TurnUpdate {
    /// A call has (or changed) its place.
    Placed(Placement),
    /// A turn began or changed; the last update of a turn is `settled` and has a final status.
    Turn(Box<Turn>),
    /// A turn that was shown while its first call was under way turned out to be none (the call belongs elsewhere):
    /// forget it.
    Dropped(TurnId),
    /// A finding was made.
    Finding(Box<Finding>),
}
