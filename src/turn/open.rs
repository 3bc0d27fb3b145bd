//! A turn under construction: calls and tool results go in, steps, status and times come out.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::event::{CloseHow, Nanos, ProcId};
use crate::flaw::Flaw;
use crate::price::Cost;
use crate::wire::{Call, CallId, Content, Finish, Message, Role, ToolCall, Usage};

use super::chain::Digest;
use super::delegation::{AskId, delegates};
use super::{Agent, SessionId, Step, TimeSplit, Turn, TurnId, TurnStatus};

/// A tool result is kept up to this size; `result_bytes` tells the whole.
const RESULT_BYTES: usize = 65_536;
/// A turn keeps at most this many steps; the calls still count.
const STEPS: usize = 50_000;

/// A tool call whose result is awaited.
#[derive(Clone, Debug)]
struct Awaited {
    step: usize,
    id: String,
    name: String,
    ask: Option<AskId>,
    of_user: bool,
}

/// What a new turn begins with.
pub(super) struct Start {
    /// The id.
    pub id: TurnId,
    /// The session.
    pub session: SessionId,
    /// The turn whose tool call it runs in.
    pub parent: Option<TurnId>,
    /// The agent.
    pub agent: Agent,
    /// The prompt.
    pub prompt: String,
    /// The session header's digest.
    pub hint: Option<Digest>,
}

/// A tool call that a call's answer asked for.
pub(super) struct Asked<'a> {
    /// The step it became.
    pub step: usize,
    /// The tool call.
    pub call: &'a ToolCall,
}

/// What a call added to its turn.
#[derive(Default)]
pub(super) struct Added<'a> {
    /// The tool calls its answer asks for.
    pub asked: Vec<Asked<'a>>,
    /// The steps whose results it brought.
    pub answered: Vec<usize>,
}

/// A turn under construction.
#[derive(Clone, Debug)]
pub(super) struct OpenTurn {
    /// As it stands.
    pub turn: Turn,
    /// The session header's digest of its first call.
    pub hint: Option<Digest>,
    /// The tool call that it runs in, for a sub-agent's.
    pub runs_in: Option<AskId>,
    /// The process of its last call.
    pub last_process: Option<ProcId>,
    /// The last byte of its last call.
    pub last_end: Nanos,
    /// The status without regard to processes and to what came after.
    own_status: TurnStatus,
    awaited: Vec<Awaited>,
    covered: Nanos,
    /// The last call, and the tokens and costs before it.
    before_last: (CallId, Usage, Spent),
    spent: Spent,
    /// The number of steps when it was last handed on, when that was, and whether it changed since.
    pub shown: (usize, Nanos, bool),
}

/// What some calls cost.
#[derive(Clone, Copy, Debug, Default)]
struct Spent {
    known: Option<Cost>,
    /// True when a call that was answered has no known cost.
    missing: bool,
}

impl Spent {
    fn add(&mut self, call: &Call, cost: Option<Cost>) {
        match (cost, &mut self.known) {
            (Some(cost), Some(known)) => known.add(&cost),
            (Some(cost), known) => *known = Some(cost),
            (None, _) => self.missing |= !call.output.is_empty() || !call.usage.is_unknown(),
        }
    }
}

/// How many messages beside tool calls and their results may stand between the pieces of one answer.
const INTERLEAVED: usize = 8;

impl OpenTurn {
    /// An empty turn; its first call follows.
    pub fn new(start: Start, call: &Call) -> OpenTurn {
        let turn = Turn {
            id: start.id,
            session_id: start.session,
            parent_turn_id: start.parent,
            agent: start.agent,
            process: call.process,
            status: TurnStatus::InProgress,
            prompt: start.prompt,
            answer: String::new(),
            steps: Vec::new(),
            call_ids: Vec::new(),
            tool_calls: 0,
            models: BTreeMap::new(),
            usage: Usage::default(),
            cost: None,
            errors: 0,
            started_at: call.times.request_first,
            ended_at: None,
            time: TimeSplit::default(),
            settled: false,
        };
        OpenTurn {
            turn,
            hint: start.hint,
            runs_in: None,
            last_process: call.process,
            last_end: call.times.request_first,
            own_status: TurnStatus::InProgress,
            awaited: Vec::new(),
            covered: call.times.request_first,
            before_last: (call.id, Usage::default(), Spent::default()),
            spent: Spent::default(),
            shown: (0, Nanos(0), true),
        }
    }

    /// Takes a finished call whose new messages begin at `tail`; `answered` hears which tool calls got their results.
    pub fn add<'c>(
        &mut self,
        call: &'c Call,
        cost: Option<Cost>,
        tail: usize,
        mut answered: impl FnMut(AskId, Nanos),
    ) -> Added<'c> {
        self.split_time(call);
        let mut added = Added::default();
        self.take_interleaved_results(call, tail, &mut added.answered, &mut answered);
        for message in call.messages.iter().skip(tail).filter(|message| message.role != Role::Assistant) {
            self.take_results(message, call.times.request_first, &mut added.answered, &mut answered);
        }
        let end = end_of(call);
        self.before_last = (call.id, self.turn.usage, self.spent);
        self.turn.usage.add(&call.usage);
        self.spend(call, cost);
        self.turn.call_ids.push(call.id);
        self.push_step(Step::Call {
            call_id: call.id,
            at: call.times.request_first,
            duration: call.times.last_byte.map(|last| last.since(call.times.request_first)),
        });
        if let Some(model) = call.response_model.as_ref().or(call.request_model.as_ref()) {
            *self.turn.models.entry(model.clone()).or_default() += 1;
        }
        if failure(call).is_some() {
            self.turn.errors += 1;
        }
        if failure(call).is_none() {
            // The model has gone on: what was not answered by now will not be.
            self.awaited.clear();
        }
        added.asked = self.take_tool_calls(call, end);
        self.own_status = status_after(call, !added.asked.is_empty());
        self.turn.answer = match self.own_status {
            TurnStatus::Complete | TurnStatus::Cut => answer_of(call),
            _ => String::new(),
        };
        self.turn.status = self.own_status;
        self.turn.ended_at = Some(self.turn.ended_at.unwrap_or_default().max(end));
        self.last_end = self.last_end.max(end);
        self.last_process = call.process.or(self.last_process);
        self.shown.2 = true;
        added
    }

    /// Shows a call that is under way.
    pub fn preview(&mut self, call: &Call) {
        self.turn.call_ids.push(call.id);
        self.push_step(Step::Call { call_id: call.id, at: call.times.request_first, duration: None });
        self.turn.status = TurnStatus::InProgress;
        self.turn.ended_at = None;
    }

    fn spend(&mut self, call: &Call, cost: Option<Cost>) {
        self.spent.add(call, cost);
        self.turn.cost = self.spent.known.map(|cost| Cost { complete: cost.complete && !self.spent.missing, ..cost });
    }

    fn push_step(&mut self, step: Step) {
        if self.turn.steps.len() < STEPS {
            self.turn.steps.push(step);
        }
    }

    fn split_time(&mut self, call: &Call) {
        let begin = call.times.request_first;
        let end = end_of(call);
        let gap = begin.since(self.covered);
        let bucket = if self.awaited.iter().any(|awaited| awaited.of_user) {
            &mut self.turn.time.user
        } else if !self.awaited.is_empty() {
            &mut self.turn.time.tool
        } else {
            &mut self.turn.time.idle
        };
        bucket.0 = bucket.0.saturating_add(gap.0);
        let model = end.since(begin.max(self.covered));
        self.turn.time.model.0 = self.turn.time.model.0.saturating_add(model.0);
        self.covered = self.covered.max(end);
    }

    /// A client may send each result right behind its own tool call: then all but the last stand before the new messages,
    /// between the pieces of the answer that it sends back. Only an id tells them from older ones.
    fn take_interleaved_results(
        &mut self,
        call: &Call,
        tail: usize,
        steps: &mut Vec<usize>,
        answered: &mut impl FnMut(AskId, Nanos),
    ) {
        let first = tail.saturating_sub(2 * self.awaited.len() + INTERLEAVED);
        for message in call.messages.iter().take(tail).skip(first) {
            let is_awaited = |content: &Content| match content {
                Content::ToolResult { id, .. } => !id.is_empty() && self.awaited.iter().any(|a| a.id == *id),
                _ => false,
            };
            if message.content.iter().any(is_awaited) {
                self.take_results(message, call.times.request_first, steps, answered);
            }
        }
    }

    fn take_results(
        &mut self,
        message: &Message,
        at: Nanos,
        steps: &mut Vec<usize>,
        answered: &mut impl FnMut(AskId, Nanos),
    ) {
        for content in &message.content {
            let Content::ToolResult { id, name, text, is_error } = content else { continue };
            let Some(index) = self.awaiting(id, name.as_deref()) else { continue };
            let awaited = self.awaited.remove(index);
            if let Some(ask) = awaited.ask {
                answered(ask, at);
            }
            self.set_result(awaited.step, at, text, *is_error);
            steps.push(awaited.step);
        }
    }

    /// The awaited tool call that a result belongs to: by id, else by name, else the first.
    fn awaiting(&self, id: &str, name: Option<&str>) -> Option<usize> {
        let by_id = self.awaited.iter().position(|awaited| !id.is_empty() && awaited.id == id);
        by_id
            .or_else(|| self.awaited.iter().position(|awaited| name.is_some_and(|name| awaited.name == name)))
            .or_else(|| (!self.awaited.is_empty() && name.is_none()).then_some(0))
    }

    fn set_result(&mut self, step: usize, at: Nanos, text: &str, error: bool) {
        let Some(Step::Tool { at: asked, duration, result, result_bytes, is_error, .. }) =
            self.turn.steps.get_mut(step)
        else {
            return;
        };
        *duration = Some(at.since(*asked));
        *result_bytes = Some(text.len() as u64);
        *result = Some(head(text, RESULT_BYTES).into());
        *is_error = error;
    }

    fn take_tool_calls<'c>(&mut self, call: &'c Call, end: Nanos) -> Vec<Asked<'c>> {
        let mut asked = Vec::new();
        for tool in call.tool_calls() {
            let step = self.turn.steps.len();
            self.turn.tool_calls += 1;
            self.push_step(Step::Tool {
                call_id: call.id,
                id: tool.id.clone(),
                name: tool.name.clone(),
                arguments: tool.arguments.clone(),
                at: end,
                duration: None,
                result: None,
                result_bytes: None,
                is_error: false,
                sub_turn: None,
            });
            if tool.server_side {
                self.take_server_result(call, &tool.id, step, end);
                continue;
            }
            self.awaited.push(Awaited {
                step,
                id: tool.id.clone(),
                name: tool.name.clone(),
                ask: None,
                of_user: asks_user(&tool.name),
            });
            asked.push(Asked { step, call: tool });
        }
        asked
    }

    /// A tool that the provider runs has its result in the same answer.
    fn take_server_result(&mut self, call: &Call, tool_id: &str, step: usize, end: Nanos) {
        let contents = call.output.first().map(|message| message.content.as_slice()).unwrap_or_default();
        let result = contents.iter().find_map(|content| match content {
            Content::ToolResult { id, text, is_error, .. } if id == tool_id => Some((text, *is_error)),
            _ => None,
        });
        if let Some((text, is_error)) = result {
            self.set_result(step, end, text, is_error);
        }
    }

    /// Remembers under which number a tool call can be delegated to.
    pub fn set_ask(&mut self, step: usize, ask: AskId) {
        if let Some(awaited) = self.awaited.iter_mut().find(|awaited| awaited.step == step) {
            awaited.ask = Some(ask);
        }
    }

    /// A sub-agent's turn ran inside a tool call.
    pub fn set_sub_turn(&mut self, at_step: usize, turn: TurnId) {
        if let Some(Step::Tool { sub_turn, .. }) = self.turn.steps.get_mut(at_step) {
            sub_turn.get_or_insert(turn);
            self.shown.2 = true;
        }
    }

    /// `inner` was a hop of `outer`, which takes its place.
    pub fn replace_call(&mut self, inner: CallId, outer: &Call, cost: Option<Cost>) {
        self.turn.call_ids.iter_mut().filter(|id| **id == inner).for_each(|id| *id = outer.id);
        for step in &mut self.turn.steps {
            match step {
                Step::Call { call_id, at, duration } if *call_id == inner => {
                    *call_id = outer.id;
                    *at = outer.times.request_first;
                    *duration = outer.duration();
                }
                Step::Tool { call_id, .. } if *call_id == inner => *call_id = outer.id,
                _ => {}
            }
        }
        if self.before_last.0 == inner && !outer.usage.is_unknown() {
            (self.turn.usage, self.spent) = (self.before_last.1, self.before_last.2);
            self.turn.usage.add(&outer.usage);
            self.spend(outer, cost);
            self.before_last.0 = outer.id;
        }
        if self.turn.call_ids.first() == Some(&outer.id) {
            let earlier = self.turn.started_at.since(outer.times.request_first);
            self.turn.time.model.0 = self.turn.time.model.0.saturating_add(earlier.0);
            self.turn.started_at = self.turn.started_at.min(outer.times.request_first);
            self.turn.process = outer.process.or(self.turn.process);
        }
        let end = end_of(outer);
        self.turn.time.model.0 = self.turn.time.model.0.saturating_add(end.since(self.covered).0);
        self.covered = self.covered.max(end);
        self.turn.ended_at = Some(self.turn.ended_at.unwrap_or_default().max(end));
        self.last_end = self.last_end.max(end);
        self.shown.2 = true;
    }

    /// Gives the turn a status that comes from outside it.
    pub fn set_status(&mut self, status: TurnStatus) {
        if self.turn.status != status {
            self.turn.status = status;
            self.shown.2 = true;
        }
    }

    /// True when the final answer came.
    pub fn is_answered(&self) -> bool {
        self.turn.status == TurnStatus::Complete
    }

    /// True when a sub-agent may still begin in one of its tool calls.
    pub fn expects_sub_turn(&self) -> bool {
        self.turn.steps.iter().rev().take(1_024).any(|step| match step {
            Step::Tool { name, sub_turn: None, .. } => delegates(name),
            _ => false,
        })
    }

    /// True while a result of a tool or an answer is awaited.
    pub fn is_in_progress(&self) -> bool {
        self.turn.status == TurnStatus::InProgress
    }
}

/// When a call was over, as far as was seen.
pub(super) fn end_of(call: &Call) -> Nanos {
    let times = &call.times;
    [times.last_byte, times.first_token, times.response_head, times.request_last]
        .into_iter()
        .flatten()
        .fold(times.request_first, Nanos::max)
}

/// How a call failed, as a status of its turn; `None` when it did not.
pub(super) fn failure(call: &Call) -> Option<TurnStatus> {
    let by_kind = call.error.as_ref().map(|error| match error.kind.as_str() {
        "aborted" | "cancelled" | "canceled" => TurnStatus::Interrupted,
        "cut" => TurnStatus::Cut,
        _ => TurnStatus::Failed,
    });
    by_kind.or_else(|| call.status.is_some_and(|status| status >= 400).then_some(TurnStatus::Failed)).or_else(|| {
        if call.finish.is_some() {
            return (call.finish == Some(Finish::Error)).then_some(TurnStatus::Failed);
        }
        match call.ended_by {
            Some(CloseHow::ProcessExit) => Some(TurnStatus::Interrupted),
            Some(CloseHow::SourceEnd | CloseHow::Idle) => Some(TurnStatus::Cut),
            _ => call.flaws.iter().any(|flaw| matches!(flaw, Flaw::Cut)).then_some(TurnStatus::Cut),
        }
    })
}

fn status_after(call: &Call, asks_tools: bool) -> TurnStatus {
    if let Some(failed) = failure(call) {
        return failed;
    }
    if call.finish == Some(Finish::Pause) {
        return TurnStatus::InProgress;
    }
    if asks_tools && !is_forced_tool(call) && final_tool(call).is_none() {
        return TurnStatus::InProgress;
    }
    TurnStatus::Complete
}

/// A call that was made to use one named tool: how libraries ask for structured output. Its tool call is the answer.
fn is_forced_tool(call: &Call) -> bool {
    let Some(Value::Object(choice)) = call.parameters.get("tool_choice") else { return false };
    let named = choice.contains_key("name") || choice.get("function").is_some_and(|f| f.get("name").is_some());
    named && call.tools_offered.len() <= 1
}

/// Tools by which a model hands in its answer: nothing has to come back.
const FINAL_TOOLS: &[&str] = &[
    "attempt_completion",
    "complete_task",
    "task_complete",
    "final_answer",
    "final_result",
    "final_response",
    "submit_answer",
    "submit_result",
    "submit_final_answer",
    "structuredoutput",
    "structured_output",
];

/// The tool call by which an answer is handed in, when an answer asks for nothing else.
fn final_tool(call: &Call) -> Option<&ToolCall> {
    let mut asked = call.tool_calls().filter(|tool| !tool.server_side);
    let only = asked.next().filter(|_| asked.next().is_none())?;
    FINAL_TOOLS.contains(&only.name.to_ascii_lowercase().as_str()).then_some(only)
}

/// The answer's text, or what was handed in.
fn answer_of(call: &Call) -> String {
    let text = call.answer_text();
    let handed_in = || {
        let arguments = final_tool(call)?.arguments.as_object()?;
        ["result", "output", "answer", "response", "summary"].iter().find_map(|key| arguments.get(*key)?.as_str())
    };
    if text.trim().is_empty() { handed_in().unwrap_or_default().to_owned() } else { text }
}

/// Tools whose result is what a person answers.
pub(super) fn asks_user(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    [
        "askuserquestion",
        "ask_user",
        "ask_followup_question",
        "request_user_input",
        "exitplanmode",
        "clarify",
        "question",
    ]
    .iter()
    .any(|known| name.contains(known))
}

/// At most the first `len` bytes, cut at a character.
fn head(text: &str, len: usize) -> &str {
    let mut len = len.min(text.len());
    while !text.is_char_boundary(len) {
        len -= 1;
    }
    text.get(..len).unwrap_or_default()
}
