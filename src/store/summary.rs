//! The shapes that go out: what the API answers and the console shows, the same for a live call and a stored one.
//!
//! Field names are those of `docs/output.md` and `docs/api.md`. Credentials are taken out when a shape is made.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::attributes;
use crate::event::{Nanos, ProcId, ProcessInfo};
use crate::price::Cost;
use crate::redact;
use crate::turn::{Finding, Placement, Step, Turn};
use crate::wire::{Call, CallState, Content, Half, Message, Role, ToolOffered, Usage};

/// How many characters of a prompt or an answer a list shows.
const PREVIEW_CHARS: usize = 240;

/// What a call says of its process.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct ProcessBrief {
    pub pid: u32,
    pub exe: String,
    pub comm: String,
    pub cmdline: Vec<String>,
}

impl ProcessBrief {
    /// Of a process whose image may be unknown.
    pub fn of(process: ProcId, info: Option<&ProcessInfo>) -> ProcessBrief {
        let (exe, comm, cmdline) = info
            .map(|info| (info.exe.clone(), info.comm.clone(), redact::arguments(&info.cmdline)))
            .unwrap_or_default();
        ProcessBrief { pid: process.pid, exe, comm, cmdline }
    }
}

/// `error` of a call.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct ErrorBrief {
    pub kind: String,
    pub message: String,
}

/// `cost`: US dollars at list price by class of token, as `usage` has them; null where not known.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct CostBrief {
    pub input_uncached: Option<f64>,
    pub cache_read: Option<f64>,
    pub cache_write_5m: Option<f64>,
    pub cache_write_1h: Option<f64>,
    pub output_text: Option<f64>,
    pub output_reasoning: Option<f64>,
    pub total: f64,
    pub currency: String,
    /// False when there is more that is not known: the price of a call's model, or a number of tokens.
    pub complete: bool,
}

impl CostBrief {
    /// Of costs in picodollars.
    pub fn of(cost: &Cost) -> CostBrief {
        let dollars = |picodollars: Option<u64>| picodollars.map(Cost::dollars);
        CostBrief {
            input_uncached: dollars(cost.input_uncached),
            cache_read: dollars(cost.cache_read),
            cache_write_5m: dollars(cost.cache_write_5m),
            cache_write_1h: dollars(cost.cache_write_1h),
            output_text: dollars(cost.output_text),
            output_reasoning: dollars(cost.output_reasoning),
            total: Cost::dollars(cost.total()),
            currency: "USD".to_owned(),
            complete: cost.complete,
        }
    }
}

/// A call as lists show it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct CallSummary {
    pub id: String,
    pub turn_id: Option<String>,
    pub session_id: Option<String>,
    pub wire_api: String,
    pub provider: String,
    pub operation: String,
    pub request_model: Option<String>,
    pub response_model: Option<String>,
    pub stream: bool,
    pub status: Option<u16>,
    pub error: Option<ErrorBrief>,
    pub finish_reason: Option<String>,
    pub auxiliary: bool,
    pub usage: Usage,
    pub tool_calls: Value,
    pub tools_offered: u64,
    pub messages: u64,
    pub request_bytes: u64,
    pub response_bytes: u64,
    pub started_at: String,
    pub ttft_ms: Option<f64>,
    pub duration_ms: Option<f64>,
    pub flaws: Vec<String>,
    pub process: Option<ProcessBrief>,
    pub client: Option<String>,
    pub server: Option<String>,
    /// `in_progress` or `done`.
    pub state: String,
    /// The beginning of the answer; while it streams, its end.
    pub preview: String,
    /// The beginning of the newest message of the user.
    pub prompt: String,
    /// The server software where the bytes show it.
    pub server_kind: Option<String>,
    /// The call of which this one is a hop through a proxy.
    pub hop_of: Option<String>,
    /// What it cost, where known; nothing for a hop.
    pub cost: Option<CostBrief>,
}

impl CallSummary {
    /// Of a call, with its place and its process as far as they are known.
    pub fn of(call: &Call, place: Option<&Placement>, process: Option<ProcessBrief>) -> CallSummary {
        let tool_calls = call
            .tool_calls()
            .map(|tool| serde_json::json!({"id": tool.id, "name": tool.name, "arguments": tool.arguments}));
        CallSummary {
            id: call.id.to_string(),
            turn_id: place.and_then(|place| place.turn_id).map(|id| id.to_string()),
            session_id: place.and_then(|place| place.session_id).map(|id| id.to_string()),
            wire_api: call.wire_api.as_str().to_owned(),
            provider: call.provider.clone(),
            operation: call.operation.as_str().to_owned(),
            request_model: call.request_model.clone(),
            response_model: call.response_model.clone(),
            stream: call.stream,
            status: call.status,
            error: call.error.as_ref().map(|e| ErrorBrief { kind: e.kind.clone(), message: e.message.clone() }),
            finish_reason: call.finish_reason.clone(),
            auxiliary: place.is_some_and(|place| place.auxiliary),
            usage: call.usage,
            tool_calls: Value::Array(tool_calls.collect()),
            tools_offered: call.tools_offered.len() as u64,
            messages: call.messages.len() as u64,
            request_bytes: call.request.body_len,
            response_bytes: call.response.body_len,
            started_at: call.times.request_first.rfc3339(),
            ttft_ms: call.time_to_first_token().map(Nanos::as_millis_f64),
            duration_ms: call.duration().map(Nanos::as_millis_f64),
            flaws: call.flaws.iter().map(|flaw| flaw.as_str().to_owned()).collect(),
            process: process.or_else(|| call.process.map(|id| ProcessBrief::of(id, None))),
            client: call.client.as_ref().map(ToString::to_string),
            server: call.server.as_ref().map(ToString::to_string),
            state: state_name(call.state).to_owned(),
            preview: preview(call),
            prompt: prompt(call),
            server_kind: call.server_kind.clone(),
            hop_of: place.and_then(|place| place.hop_of).map(|id| id.to_string()),
            cost: place.and_then(|place| place.cost).as_ref().map(CostBrief::of),
        }
    }
}

fn state_name(state: CallState) -> &'static str {
    match state {
        CallState::InProgress => "in_progress",
        CallState::Done => "done",
    }
}

fn preview(call: &Call) -> String {
    let Some(answer) = call.output.first() else { return String::new() };
    let text = answer.content.iter().rev().find_map(|content| match content {
        Content::Text { text } | Content::Refusal { text } if !text.trim().is_empty() => Some(text),
        _ => None,
    });
    let thinking = || {
        answer.content.iter().rev().find_map(|content| match content {
            Content::Thinking { text } => Some(text),
            _ => None,
        })
    };
    let text = text.or_else(thinking).map(String::as_str).unwrap_or_default();
    match call.state {
        CallState::InProgress => last_chars(text.trim(), PREVIEW_CHARS),
        CallState::Done => first_chars(text.trim(), PREVIEW_CHARS),
    }
}

fn prompt(call: &Call) -> String {
    let texts = call.messages.iter().rev().filter(|message| message.role == Role::User).find_map(|message| {
        message.content.iter().rev().find_map(|content| match content {
            Content::Text { text } if !text.trim().is_empty() => Some(text.trim()),
            _ => None,
        })
    });
    first_chars(texts.unwrap_or_default(), PREVIEW_CHARS)
}

fn first_chars(text: &str, count: usize) -> String {
    text.chars().take(count).collect()
}

fn last_chars(text: &str, count: usize) -> String {
    match text.char_indices().rev().nth(count.saturating_sub(1)) {
        Some((start, _)) => text.get(start..).unwrap_or_default().to_owned(),
        None => text.to_owned(),
    }
}

/// One header.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct NamedValue {
    pub name: String,
    pub value: String,
}

/// One half of the exchange: headers without credentials, and the body's size.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct HalfDetail {
    pub headers: Vec<NamedValue>,
    pub body_bytes: u64,
    /// How many bytes of the body were kept; less than `body_bytes` when a bound cut it.
    pub kept_bytes: u64,
    pub content_type: Option<String>,
    pub content_encoding: Option<String>,
}

impl HalfDetail {
    fn of(half: &Half) -> HalfDetail {
        let value = |name: &str| {
            half.headers.iter().find(|h| h.name.eq_ignore_ascii_case(name)).map(|header| header.value.clone())
        };
        HalfDetail {
            headers: half
                .headers
                .iter()
                .map(|h| NamedValue { name: h.name.clone(), value: redact::header(&h.name, &h.value) })
                .collect(),
            body_bytes: half.body_len,
            kept_bytes: half.body.len() as u64,
            content_type: value("content-type"),
            content_encoding: value("content-encoding"),
        }
    }
}

/// Percentiles of the gaps between content tokens, in milliseconds.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Gaps {
    pub count: u64,
    pub p50: Option<f64>,
    pub p90: Option<f64>,
    pub p99: Option<f64>,
    pub max: Option<f64>,
}

/// When things happened, RFC 3339.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Timing {
    pub request_first: String,
    pub request_last: Option<String>,
    pub response_head: Option<String>,
    pub first_token: Option<String>,
    pub last_byte: Option<String>,
    pub token_gaps_ms: Gaps,
}

impl Timing {
    fn of(call: &Call) -> Timing {
        let times = &call.times;
        let mut gaps = times.token_gaps.clone();
        gaps.sort_unstable();
        let at = |share: usize| gaps.get((gaps.len().saturating_sub(1)) * share / 100).map(|gap| *gap as f64 / 1e6);
        Timing {
            request_first: times.request_first.rfc3339(),
            request_last: times.request_last.map(Nanos::rfc3339),
            response_head: times.response_head.map(Nanos::rfc3339),
            first_token: times.first_token.map(Nanos::rfc3339),
            last_byte: times.last_byte.map(Nanos::rfc3339),
            token_gaps_ms: Gaps { count: gaps.len() as u64, p50: at(50), p90: at(90), p99: at(99), max: at(100) },
        }
    }
}

/// A message of a conversation.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct MessageDetail {
    pub role: String,
    pub content: Value,
    pub hash: String,
}

impl MessageDetail {
    /// Of a decoded message.
    pub fn of(message: &Message) -> MessageDetail {
        MessageDetail {
            role: role_name(message.role).to_owned(),
            content: serde_json::to_value(&message.content).unwrap_or_default(),
            hash: message.hash.to_string(),
        }
    }
}

pub(super) fn role_name(role: Role) -> &'static str {
    match role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Tool => "tool",
    }
}

/// What a call's detail says beyond its summary, its messages and its tools; stored as one JSON object.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[allow(missing_docs)]
pub(super) struct StoredDetail {
    pub method: String,
    pub target: String,
    pub authority: Option<String>,
    pub protocol: String,
    pub transport: Option<String>,
    pub parameters: Map<String, Value>,
    pub request: HalfDetail,
    pub response: HalfDetail,
    pub output: Vec<MessageDetail>,
    pub timing: Timing,
    pub finish: Option<String>,
    pub response_id: Option<String>,
    pub previous_response_id: Option<String>,
    pub conversation: Option<String>,
    pub service_tier: Option<String>,
    pub ended_by: Option<String>,
}

impl StoredDetail {
    pub(super) fn of(call: &Call) -> StoredDetail {
        use crate::event::Transport;
        StoredDetail {
            method: call.method.clone(),
            target: redact::target(&call.target),
            authority: call.authority.clone(),
            protocol: call.protocol.as_str().to_owned(),
            transport: call.transport.as_ref().map(|transport| match transport {
                Transport::Plain => "plain".to_owned(),
                Transport::Tls(library) => format!("tls:{library}"),
            }),
            parameters: call.parameters.clone(),
            request: HalfDetail::of(&call.request),
            response: HalfDetail::of(&call.response),
            output: call.output.iter().map(MessageDetail::of).collect(),
            timing: Timing::of(call),
            finish: call.finish.and_then(name_of),
            response_id: call.response_id.clone(),
            previous_response_id: call.previous_response_id.clone(),
            conversation: call.conversation_hint.clone(),
            service_tier: call.service_tier.clone(),
            ended_by: call.ended_by.map(|how| format!("{how:?}").to_lowercase()),
        }
    }
}

fn name_of(value: impl Serialize) -> Option<String> {
    serde_json::to_value(value).ok()?.as_str().map(str::to_owned)
}

/// Everything about one call but its bodies.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs)]
pub struct CallDetail {
    pub summary: CallSummary,
    pub(super) stored: StoredDetail,
    pub conversation_messages: Vec<MessageDetail>,
    pub tools: Value,
}

impl CallDetail {
    /// Of a call that is still in memory.
    pub fn of(call: &Call, place: Option<&Placement>, process: Option<ProcessBrief>) -> CallDetail {
        CallDetail {
            summary: CallSummary::of(call, place, process),
            stored: StoredDetail::of(call),
            conversation_messages: call.messages.iter().map(|message| MessageDetail::of(message)).collect(),
            tools: tools_value(&call.tools_offered),
        }
    }

    /// The request's half.
    pub fn request(&self) -> &HalfDetail {
        &self.stored.request
    }

    /// The response's half.
    pub fn response(&self) -> &HalfDetail {
        &self.stored.response
    }

    /// The detail as JSON. `messages`, a number in the summary, is the list here; the number is `message_count`.
    pub fn to_json(&self) -> Value {
        let mut object = match serde_json::to_value(&self.summary) {
            Ok(Value::Object(object)) => object,
            _ => Map::new(),
        };
        if let Ok(Value::Object(stored)) = serde_json::to_value(&self.stored) {
            object.extend(stored);
        }
        object.insert("message_count".to_owned(), self.summary.messages.into());
        object.insert("messages".to_owned(), serde_json::to_value(&self.conversation_messages).unwrap_or_default());
        object.insert("tools".to_owned(), self.tools.clone());
        object.insert("attributes".to_owned(), attributes::of_call(&self.summary, &self.stored));
        Value::Object(object)
    }
}

pub(super) fn tools_value(tools: &[ToolOffered]) -> Value {
    serde_json::to_value(tools).unwrap_or_default()
}

/// `agent` of a turn.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct AgentBrief {
    pub kind: String,
    pub version: Option<String>,
    pub recognised_by: Option<String>,
}

/// Where a turn's time went, in milliseconds.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct TimeBrief {
    pub model_ms: f64,
    pub tool_ms: f64,
    pub user_ms: f64,
    pub idle_ms: f64,
}

/// A turn as lists show it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct TurnSummary {
    pub id: String,
    pub session_id: String,
    pub parent_turn_id: Option<String>,
    pub agent: AgentBrief,
    pub status: String,
    pub prompt: String,
    pub answer: String,
    pub call_ids: Vec<String>,
    pub tool_calls: u64,
    pub models: Vec<String>,
    pub usage: Usage,
    pub started_at: String,
    pub duration_ms: Option<f64>,
    pub process: Option<ProcessBrief>,
    pub errors: u64,
    pub time: TimeBrief,
    /// What its calls cost, as far as known.
    pub cost: Option<CostBrief>,
}

impl TurnSummary {
    /// Of a turn as the turn stage gives it.
    pub fn of(turn: &Turn, process: Option<ProcessBrief>) -> TurnSummary {
        TurnSummary {
            id: turn.id.to_string(),
            session_id: turn.session_id.to_string(),
            parent_turn_id: turn.parent_turn_id.map(|id| id.to_string()),
            agent: AgentBrief {
                kind: turn.agent.kind.clone(),
                version: turn.agent.version.clone(),
                recognised_by: turn.agent.recognised_by.clone(),
            },
            status: turn.status.as_str().to_owned(),
            prompt: turn.prompt.clone(),
            answer: turn.answer.clone(),
            call_ids: turn.call_ids.iter().map(ToString::to_string).collect(),
            tool_calls: u64::from(turn.tool_calls),
            models: turn.models.keys().cloned().collect(),
            usage: turn.usage,
            started_at: turn.started_at.rfc3339(),
            duration_ms: turn.duration().map(Nanos::as_millis_f64),
            process: process.or_else(|| turn.process.map(|id| ProcessBrief::of(id, None))),
            errors: u64::from(turn.errors),
            time: TimeBrief {
                model_ms: turn.time.model.as_millis_f64(),
                tool_ms: turn.time.tool.as_millis_f64(),
                user_ms: turn.time.user.as_millis_f64(),
                idle_ms: turn.time.idle.as_millis_f64(),
            },
            cost: turn.cost.as_ref().map(CostBrief::of),
        }
    }
}

/// A turn with its steps, calls and findings.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[allow(missing_docs)]
pub struct TurnDetail {
    #[serde(flatten)]
    pub turn: TurnSummary,
    pub steps: Vec<Value>,
    pub calls: Vec<CallSummary>,
    pub findings: Vec<FindingRow>,
    /// Turns of sub-agents that this turn started.
    pub sub_turns: Vec<TurnSummary>,
    /// The turn in the names of OpenTelemetry's GenAI conventions; its id is a trace id.
    pub attributes: Value,
}

impl TurnSummary {
    /// The turn in the names of OpenTelemetry's GenAI conventions.
    pub fn attributes(&self) -> Value {
        attributes::of_turn(self)
    }
}

/// A step in the API's shape: times as RFC 3339, spans in milliseconds.
pub fn step_json(step: &Step) -> Value {
    match step {
        Step::Call { call_id, at, duration } => serde_json::json!({
            "type": "call", "call_id": call_id.to_string(), "at": at.rfc3339(),
            "duration_ms": duration.map(Nanos::as_millis_f64),
        }),
        Step::Tool { call_id, id, name, arguments, at, duration, result, result_bytes, is_error, sub_turn } => {
            serde_json::json!({
                "type": "tool", "call_id": call_id.to_string(), "id": id, "name": name, "arguments": arguments,
                "at": at.rfc3339(), "duration_ms": duration.map(Nanos::as_millis_f64), "result": result,
                "result_bytes": result_bytes, "is_error": is_error, "sub_turn": sub_turn.map(|id| id.to_string()),
            })
        }
    }
}

/// A session: all turns of one conversation of one agent.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[allow(missing_docs)]
pub struct SessionRow {
    pub id: String,
    pub agent: AgentBrief,
    pub first_at: String,
    pub last_at: String,
    pub turns: u64,
    pub calls: u64,
    pub errors: u64,
    pub usage: Usage,
    /// What its turns cost, as far as known.
    pub cost: Option<CostBrief>,
    pub models: Vec<String>,
    /// The beginning of its first prompt.
    pub prompt: String,
}

/// A finding.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[allow(missing_docs)]
pub struct FindingRow {
    pub kind: String,
    pub severity: String,
    pub sentence: String,
    pub turn_id: Option<String>,
    pub session_id: Option<String>,
    pub call_ids: Vec<String>,
    pub at: String,
}

impl FindingRow {
    /// Of a finding as the turn stage gives it.
    pub fn of(finding: &Finding) -> FindingRow {
        FindingRow {
            kind: finding.kind.clone(),
            severity: name_of(finding.severity).unwrap_or_default(),
            sentence: finding.sentence.clone(),
            turn_id: finding.turn_id.map(|id| id.to_string()),
            session_id: finding.session_id.map(|id| id.to_string()),
            call_ids: finding.call_ids.iter().map(ToString::to_string).collect(),
            at: finding.at.rfc3339(),
        }
    }
}

/// A process that was watched.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[allow(missing_docs)]
pub struct ProcessRow {
    pub pid: u32,
    pub parent: Option<u32>,
    pub exe: String,
    pub comm: String,
    pub cmdline: Vec<String>,
    pub cwd: String,
    pub uid: u32,
    pub container: Option<String>,
    pub agent: Option<String>,
    pub calls: u64,
    pub started_at: String,
    pub ended_at: Option<String>,
    /// As the kernel keeps it: exit code << 8 | signal.
    pub exit_status: Option<i64>,
}
