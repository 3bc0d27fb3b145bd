//! OpenAI Responses, over HTTP and (with `socket`) over WebSocket.
//!
//! Surprising facts: each item of `input` is a message of its own, tool calls and reasoning too; the last event repeats
//! the whole answer, so that a stream that was met in the middle still ends with everything; there is no `[DONE]`.

use std::borrow::Cow;

use serde_json::{Map, Value};

use crate::wire::answer::{Answer, arguments, arguments_of};
use crate::wire::decoder::{Event, Wire, parameters, tools};
use crate::wire::json::{Kind, Raw};
use crate::wire::message::Draft;
use crate::wire::request::Body;
use crate::wire::{Call, Content, Operation, Role, ToolCall, error, parts, registry};

/// How many blocks one output item may have: keys are the item's index above, the block's below.
const ITEM: u64 = 1 << 20;
const TEXT: u64 = 1 << 16;

/// The decoder.
#[derive(Debug, Default)]
pub(crate) struct Responses;

impl Wire for Responses {
    fn request(&mut self, body: &mut Body<'_>, call: &mut Call) -> bool {
        if call.operation == Operation::Retrieve {
            let id = registry::path_of(&call.target).rsplit('/').find(|segment| !segment.is_empty());
            id.map(|id| call.parameters.insert("response_id".to_owned(), Value::from(id)));
            let after = registry::query(&call.target, "starting_after");
            after.map(|after| call.parameters.insert("starting_after".to_owned(), Value::from(after)));
            return true;
        }
        request(body, call)
    }

    fn event(&mut self, event: Event<'_>, answer: &mut Answer) {
        let kind = event.data.str_of("type").unwrap_or(Cow::Borrowed(event.name));
        let data = event.data;
        match &*kind {
            "response.output_text.delta" => text_delta(data, answer),
            "response.refusal.delta" => delta(data, answer, |choice, key, text| choice.refusal(key + TEXT, text)),
            "response.reasoning_summary_text.delta" | "response.reasoning_text.delta" | "response.reasoning.delta" => {
                delta(data, answer, |choice, key, text| choice.thinking(key, text));
            }
            "response.function_call_arguments.delta"
            | "response.custom_tool_call_input.delta"
            | "response.mcp_call_arguments.delta"
            | "response.code_interpreter_call_code.delta" => delta(data, answer, |choice, key, text| {
                choice.mark_token();
                if let Some(tool) = choice.tool(key - key % ITEM) {
                    tool.text.push_str(text);
                }
            }),
            "response.output_item.added" => item_added(data, answer),
            "response.output_item.done" => item_done(data, answer),
            "response.created" | "response.in_progress" | "response.queued" => {
                data.some("response").into_iter().for_each(|response| head(response, answer));
            }
            "response.completed"
            | "response.incomplete"
            | "response.failed"
            | "response.cancelled"
            | "response.done" => {
                answer.complete = true;
                match data.some("response") {
                    Some(response) => whole(response, answer),
                    None => answer.misshapen = true,
                }
            }
            "error" => {
                if !error::read(data, answer) {
                    answer.fail("error", "");
                }
            }
            _ => answer.understood |= kind.starts_with("response."),
        }
    }

    fn whole(&mut self, body: Raw<'_>, answer: &mut Answer) {
        let known = body.get("output").is_some_and(Raw::is_array) || body.get("input_tokens").is_some();
        answer.understood |= known;
        answer.misshapen |= !known && body.get("error").is_none_or(Raw::is_null);
        answer.complete = true;
        if let Some(count) = body.get("input_tokens") {
            answer.counts.input = count.u64();
        }
        whole(body, answer);
    }
}

/// Reads a request, also one that came as a WebSocket's message.
pub(crate) fn request(body: &mut Body<'_>, call: &mut Call) -> bool {
    call.request_model = body.string("model").or(call.request_model.take());
    if let Some(stream) = body.get("stream").and_then(Raw::bool) {
        call.stream = stream;
    }
    call.previous_response_id = body.string("previous_response_id");
    if call.conversation_hint.is_none() {
        let conversation = body.get("conversation");
        let id = conversation.and_then(|conversation| conversation.get("id").unwrap_or(conversation).string());
        call.conversation_hint = id.or_else(|| body.string("prompt_cache_key"));
    }
    call.parameters = parameters(body, &["model", "input", "instructions", "tools", "stream", "type"]);
    call.tools_offered = body.tools("tools", tools);
    call.messages = body.whole("instructions", |value| {
        let mut draft = Draft::new(Role::System);
        parts::content(value, &mut draft);
        if draft.content().is_empty() { Vec::new() } else { vec![draft] }
    });
    let input = body.get("input");
    if input.is_some_and(|input| input.kind() == Kind::String) {
        call.messages.extend(body.whole("input", |value| {
            let mut draft = Draft::new(Role::User);
            parts::content(value, &mut draft);
            vec![draft]
        }));
    } else {
        call.messages.extend(body.messages("input", |raw| Some(item(raw))));
    }
    let continues = body.has("previous_response_id") || body.has("conversation") || body.has("prompt");
    input.is_some_and(|input| matches!(input.kind(), Kind::String | Kind::Array)) || continues
}

/// One item of a conversation, asked or answered.
pub(crate) fn item(raw: Raw<'_>) -> Draft {
    let kind = raw.str_of("type").unwrap_or(Cow::Borrowed("message"));
    match &*kind {
        "message" => message(raw),
        "reasoning" => reasoning(raw),
        "function_call" | "custom_tool_call" | "mcp_call" => {
            one(Role::Assistant, Content::ToolCall(function_call(raw, &kind)))
        }
        kind if kind.ends_with("_output") => one(Role::Tool, output(raw)),
        kind if kind.ends_with("_call") => one(Role::Assistant, Content::ToolCall(built_in_call(raw, kind))),
        _ => one(Role::Assistant, parts::other(raw)),
    }
}

fn one(role: Role, content: Content) -> Draft {
    let mut draft = Draft::new(role);
    draft.push(content);
    draft
}

fn message(raw: Raw<'_>) -> Draft {
    let mut draft = Draft::new(parts::role(&raw.str_of("role").unwrap_or(Cow::Borrowed("user"))));
    raw.get("content").into_iter().for_each(|content| parts::content(content, &mut draft));
    draft
}

fn reasoning(raw: Raw<'_>) -> Draft {
    let mut draft = Draft::new(Role::Assistant);
    for key in ["summary", "content"] {
        for part in raw.get(key).into_iter().flat_map(Raw::elements) {
            part.get("text").and_then(Raw::string).into_iter().for_each(|text| draft.thinking(text));
        }
    }
    if draft.content().is_empty() {
        draft.push(Content::RedactedThinking);
    }
    draft
}

fn function_call(raw: Raw<'_>, kind: &str) -> ToolCall {
    let mut call = ToolCall { server_side: kind == "mcp_call", ..ToolCall::default() };
    let mut given = Value::Object(Map::new());
    for (key, value) in raw.fields() {
        match &*key {
            "call_id" => call.id = value.string().unwrap_or_default(),
            "id" if call.id.is_empty() && kind == "mcp_call" => call.id = value.string().unwrap_or_default(),
            "name" => call.name = value.string().unwrap_or_default(),
            "arguments" => given = arguments_of(value),
            "input" => given = value.text().map_or_else(|| arguments_of(value), |text| arguments(&text, true)),
            _ => {}
        }
    }
    call.arguments = given;
    call
}

/// A tool that the API knows by its type: the client runs shells, patches and computers, the provider the rest.
fn built_in_call(raw: Raw<'_>, kind: &str) -> ToolCall {
    let by_client =
        ["local_shell_call", "shell_call", "apply_patch_call", "computer_call", "tool_search_call"].contains(&kind);
    let mut call = ToolCall {
        name: kind.strip_suffix("_call").unwrap_or(kind).to_owned(),
        server_side: !by_client,
        ..ToolCall::default()
    };
    let mut rest = Map::new();
    let mut id = None;
    for (key, value) in raw.fields() {
        match &*key {
            "call_id" => call.id = value.string().unwrap_or_default(),
            "id" => id = value.string(),
            "type" | "status" | "results" | "outputs" | "result" | "pending_safety_checks" => {}
            "action" | "operation" | "arguments" if value.is_object() => call.arguments = arguments_of(value),
            _ => {
                value.value().filter(|value| !value.is_null()).map(|value| rest.insert(key.into_owned(), value));
            }
        }
    }
    if call.id.is_empty() {
        call.id = id.unwrap_or_default();
    }
    if call.arguments.is_null() {
        call.arguments = Value::Object(rest);
    }
    call
}

fn output(raw: Raw<'_>) -> Content {
    let (mut id, mut text, mut is_error) = (String::new(), String::new(), false);
    for (key, value) in raw.fields() {
        match &*key {
            "call_id" => id = value.string().unwrap_or_default(),
            "output" | "outputs" => text = parts::result_text(value),
            "status" => is_error = matches!(value.text().as_deref(), Some("failed" | "incomplete")),
            _ => {}
        }
    }
    Content::ToolResult { id, name: None, text, is_error }
}

/// A fragment of text.
pub(crate) fn text_delta(data: Raw<'_>, answer: &mut Answer) {
    delta(data, answer, |choice, key, text| choice.text(key + TEXT, text));
}

/// A fragment for the block that its indexes name: one walk over the event.
fn delta(data: Raw<'_>, answer: &mut Answer, add: impl FnOnce(&mut crate::wire::answer::Choice, u64, &str)) {
    answer.understood = true;
    let (mut item, mut block, mut text) = (0, 0, None);
    for (key, value) in data.fields() {
        match &*key {
            "output_index" => item = value.u64().unwrap_or(0),
            "content_index" | "summary_index" => block = value.u64().unwrap_or(0).min(TEXT - 1),
            "delta" => text = value.text(),
            _ => {}
        }
    }
    if let Some(text) = text.filter(|text| !text.is_empty()) {
        add(answer.main(), item.min(1 << 24) * ITEM + block, &text);
    }
}

fn item_key(data: Raw<'_>) -> u64 {
    data.get("output_index").and_then(Raw::u64).unwrap_or(0).min(1 << 24) * ITEM
}

fn item_added(data: Raw<'_>, answer: &mut Answer) {
    answer.understood = true;
    let Some(raw) = data.some("item") else { return };
    let kind = raw.str_of("type").unwrap_or_default();
    if !matches!(&*kind, "function_call" | "custom_tool_call" | "mcp_call") {
        return;
    }
    let call = function_call(raw, &kind);
    let choice = answer.main();
    choice.mark_token();
    if let Some(tool) = choice.tool(item_key(data)) {
        tool.id = call.id;
        tool.name = call.name;
        tool.server_side = call.server_side;
        tool.free_form = &*kind == "custom_tool_call";
    }
}

fn item_done(data: Raw<'_>, answer: &mut Answer) {
    answer.understood = true;
    let Some(raw) = data.some("item") else { return };
    let key = item_key(data);
    let choice = answer.main();
    if !choice.replace_range(key, key + ITEM, item(raw)) {
        choice.mark_token();
    }
}

/// What a response object says besides its output.
fn head(response: Raw<'_>, answer: &mut Answer) {
    answer.understood = true;
    for (key, value) in response.fields() {
        match &*key {
            "id" => answer.set_id(Some(value)),
            "model" => answer.set_model(Some(value)),
            "service_tier" => answer.set_tier(Some(value)),
            "usage" if value.is_object() => answer.counts.read(value),
            "error" if value.is_object() => {
                error::read(response, answer);
            }
            _ => {}
        }
    }
}

/// A response object: its output counts where the stream did not bring it.
fn whole(response: Raw<'_>, answer: &mut Answer) {
    head(response, answer);
    let status = response.some("status").and_then(Raw::string);
    let reason = response.path(&["incomplete_details", "reason"]).and_then(Raw::string);
    match (status.as_deref(), reason) {
        (Some("incomplete"), Some(reason)) => answer.finish_as(&reason),
        (Some("failed"), _) => {
            answer.finish_as("failed");
            response.some("status_details").into_iter().for_each(|details| {
                error::read(details, answer);
            });
            answer.fail("failed", "");
        }
        // A realtime session's answer that the user interrupted is no failure.
        (Some("cancelled"), _) if response.get("status_details").is_none() => {
            answer.finish_as("cancelled");
            answer.fail("cancelled", "the response was cancelled");
        }
        (Some(status), _) => answer.finish_as(status),
        (None, _) => {}
    }
    if answer.has_content() {
        return;
    }
    for (index, raw) in response.get("output").into_iter().flat_map(Raw::elements).enumerate() {
        answer.main().whole(index as u64 * ITEM, item(raw));
    }
}
