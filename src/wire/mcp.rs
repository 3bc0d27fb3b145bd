//! MCP over Streamable HTTP: JSON-RPC in both directions, answered by one JSON or by a stream.
//!
//! A `tools/call` is a tool execution: its request is the tool call, its answer the tool's result. Every other method is kept
//! with its name in the parameters. Surprising facts: the answer's stream may carry notifications and requests of the
//! server before the answer; a batch is an array; the newest protocol puts version and client into `params._meta`.

use bytes::Bytes;
use serde_json::Value;

use crate::flaw::Flaw;
use crate::wire::answer::{Answer, arguments_of};
use crate::wire::decoder::{Event, Wire};
use crate::wire::json::{Kind, Raw};
use crate::wire::message::Draft;
use crate::wire::request::Body;
use crate::wire::{Call, Content, Operation, Role, ToolCall, ToolOffered, parts};

/// Requests of a server that one piece of an answer may carry.
const MAX_ASKED: usize = 256;

/// The decoder.
#[derive(Debug, Default)]
pub(crate) struct Mcp {
    /// The client only listens: whatever ends the stream, it was whole.
    listening: bool,
    /// What the server asked of the client and was not handed on yet.
    asked: Vec<Bytes>,
}

impl Wire for Mcp {
    fn request(&mut self, body: &mut Body<'_>, call: &mut Call) -> bool {
        call.operation = Operation::Mcp;
        if body.raw().bytes().is_empty() {
            // The stream for the server's own messages, or the session's end.
            call.parameters.insert("method".to_owned(), Value::from(call.method.to_lowercase()));
            call.stream = call.method == "GET";
            self.listening = true;
            return true;
        }
        let first = if body.raw().is_array() { body.raw().elements().next() } else { Some(body.raw()) };
        first.is_some_and(|message| read_request(message, call))
    }

    fn event(&mut self, event: Event<'_>, answer: &mut Answer) {
        message(event.data, answer);
        answer.complete |= self.listening;
        // A request has a method and an id; a notification has no id, an answer no method.
        if event.data.some("id").is_some() && event.data.get("method").is_some() && self.asked.len() < MAX_ASKED {
            self.asked.push(Bytes::copy_from_slice(event.data.bytes()));
        }
    }

    fn asked(&mut self) -> Vec<Bytes> {
        std::mem::take(&mut self.asked)
    }

    fn whole(&mut self, body: Raw<'_>, answer: &mut Answer) {
        if body.is_array() {
            body.elements().for_each(|element| message(element, answer));
        } else if !body.bytes().is_empty() {
            message(body, answer);
        }
        answer.complete = true;
    }
}

fn read_request(raw: Raw<'_>, call: &mut Call) -> bool {
    let method = raw.get("method").and_then(Raw::string);
    let params = raw.some("params");
    if let Some(id) = raw.some("id").and_then(Raw::value) {
        call.parameters.insert("id".to_owned(), id);
    }
    let Some(method) = method else {
        // The client answers what the server asked for.
        call.parameters.insert("method".to_owned(), Value::from("response"));
        raw.some("result").into_iter().for_each(|result| read_sample(result, call));
        return raw.get("result").is_some() || raw.get("error").is_some();
    };
    call.parameters.insert("method".to_owned(), Value::from(method.as_str()));
    if let Some(name) = params.and_then(|params| params.get("name").or_else(|| params.get("uri"))).and_then(Raw::value)
    {
        call.parameters.insert("name".to_owned(), name);
    }
    for key in ["protocolVersion", "clientInfo", "_meta"] {
        if let Some(value) = params.and_then(|params| params.some(key)).and_then(Raw::value) {
            call.parameters.insert(key.to_owned(), value);
        }
    }
    if method == "tools/call" {
        call.operation = Operation::ExecuteTool;
        let id = raw.some("id").map(Raw::display).unwrap_or_default();
        let name = params.and_then(|params| params.get("name")).and_then(Raw::string).unwrap_or_default();
        let arguments = params
            .and_then(|params| params.get("arguments"))
            .map_or_else(|| Value::Object(serde_json::Map::new()), arguments_of);
        let mut draft = Draft::new(Role::Assistant);
        draft.push(Content::ToolCall(ToolCall { id, name, arguments, server_side: false }));
        call.messages = vec![std::sync::Arc::new(draft.seal())];
    }
    if method == "sampling/createMessage" {
        params.into_iter().for_each(|params| read_sampling(params, call));
    }
    raw.get("jsonrpc").is_some()
}

/// What the server asked of the client: a call in the other direction. Its answer is a request of the client's own, later
/// and perhaps on another connection: `id` and the session tell which.
pub(crate) fn server_request(message: &Bytes, call: &mut Call) {
    call.operation = Operation::Mcp;
    call.request_model = None;
    call.stream = false;
    call.parameters.insert("direction".to_owned(), Value::from("server_to_client"));
    if !read_request(Raw::new(message), call) {
        call.flaw(Flaw::Shape);
    }
    // Only a client executes tools of a server.
    call.operation = Operation::Mcp;
    call.request.body_len = message.len() as u64;
    call.request.body = message.clone();
}

/// The server wants the client's model to speak.
fn read_sampling(params: Raw<'_>, call: &mut Call) {
    let hint = params.path(&["modelPreferences", "hints"]).and_then(|hints| hints.elements().next()?.get("name"));
    call.request_model = hint.and_then(Raw::string);
    for key in ["maxTokens", "temperature", "stopSequences", "modelPreferences", "includeContext"] {
        let value = params.some(key).and_then(Raw::value);
        value.map(|value| call.parameters.insert(key.to_owned(), value));
    }
    let system = params.get("systemPrompt").and_then(Raw::string).map(|text| {
        let mut draft = Draft::new(Role::System);
        draft.text(text);
        draft
    });
    let said = params.get("messages").into_iter().flat_map(Raw::elements).take(MAX_ASKED).map(spoken);
    call.messages = system.into_iter().chain(said).map(|draft| std::sync::Arc::new(draft.seal())).collect();
}

/// What the client's model said when the server wanted it to.
fn read_sample(result: Raw<'_>, call: &mut Call) {
    if result.get("role").is_none() || result.get("content").is_none() {
        return;
    }
    for key in ["model", "stopReason"] {
        let value = result.some(key).and_then(Raw::value);
        value.map(|value| call.parameters.insert(key.to_owned(), value));
    }
    call.messages = vec![std::sync::Arc::new(spoken(result).seal())];
}

/// A message of a sampling: its content is one part or a list of them.
fn spoken(raw: Raw<'_>) -> Draft {
    let mut draft = Draft::new(parts::role(&raw.str_of("role").unwrap_or_default()));
    match raw.get("content") {
        Some(content) if content.is_object() => parts::part(content, &mut draft),
        content => content.into_iter().for_each(|content| parts::content(content, &mut draft)),
    }
    draft
}

/// One message of the server: the answer, or a notification or request on the way.
fn message(raw: Raw<'_>, answer: &mut Answer) {
    answer.understood |= raw.get("jsonrpc").is_some();
    answer.misshapen |= !raw.is_object();
    if let Some(failure) = raw.some("error") {
        answer.complete = true;
        let code = failure.get("code").map(Raw::display).unwrap_or_default();
        let sentence = failure.get("message").map(Raw::display).unwrap_or_default();
        return answer.fail(code, sentence);
    }
    if let Some(result) = raw.some("result") {
        answer.complete = true;
        return read_result(raw, result, answer);
    }
    if raw.get("method").is_some() {
        // Kept as it is: what the server said or asked while it worked.
        let mut draft = Draft::new(Role::Tool);
        draft.push(parts::other(raw));
        answer.choice(1 << 32).append_whole(draft);
    }
}

fn read_result(raw: Raw<'_>, result: Raw<'_>, answer: &mut Answer) {
    if let Some(list) = result.some("tools").filter(|list| list.is_array()) {
        answer.tools = list.elements().map(tool).collect();
        return;
    }
    let content = result.some("content").filter(|content| content.kind() == Kind::Array);
    if content.is_none() && result.get("structuredContent").is_none() {
        return;
    }
    let is_error = result.get("isError").and_then(Raw::bool).unwrap_or(false);
    let text = content.or_else(|| result.get("structuredContent")).map(parts::result_text).unwrap_or_default();
    let id = raw.some("id").map(Raw::display).unwrap_or_default();
    let choice = answer.main();
    choice.set_role(Role::Tool);
    let mut draft = Draft::new(Role::Tool);
    draft.push(Content::ToolResult { id, name: None, text, is_error });
    choice.append_whole(draft);
}

fn tool(raw: Raw<'_>) -> ToolOffered {
    ToolOffered {
        name: raw.get("name").and_then(Raw::string).unwrap_or_default(),
        description: raw.get("description").and_then(Raw::string),
        schema: raw.some("inputSchema").and_then(Raw::value),
    }
}
