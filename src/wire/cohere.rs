//! Cohere: chat (v2, and v1 with its own stream), embed and rerank; rerank also as Jina, Voyage and vLLM offer it.
//!
//! Surprising fact: what Cohere bills (`billed_units`) is not what it counts (`tokens`); rerank bills searches, no tokens.

use std::borrow::Cow;

use crate::wire::answer::{Answer, arguments_of};
use crate::wire::decoder::{Event, Wire, parameters, tools};
use crate::wire::json::{Kind, Raw};
use crate::wire::message::Draft;
use crate::wire::request::Body;
use crate::wire::{Call, Content, Operation, Role, ToolCall, error, openai_chat, parts};

/// Keys of tool calls; contents have their index.
const TOOLS: u64 = 1 << 32;
const PLAN: u64 = 1 << 40;

/// The decoder.
#[derive(Debug, Default)]
pub(crate) struct Cohere;

impl Wire for Cohere {
    fn request(&mut self, body: &mut Body<'_>, call: &mut Call) -> bool {
        call.request_model = body.string("model").or(call.request_model.take());
        if call.operation != Operation::Chat {
            call.parameters = parameters(body, &["model", "texts", "inputs", "input", "images", "documents", "query"]);
            return ["texts", "inputs", "images", "input", "documents", "text_1", "query"]
                .iter()
                .any(|key| body.has(key));
        }
        call.stream = body.get("stream").and_then(Raw::bool).unwrap_or(false);
        call.conversation_hint = call.conversation_hint.take().or_else(|| body.string("conversation_id"));
        call.parameters =
            parameters(body, &["model", "messages", "message", "chat_history", "preamble", "tools", "stream"]);
        call.tools_offered = body.tools("tools", tools);
        if body.has("messages") {
            call.messages = body.messages("messages", openai_chat::message);
            return true;
        }
        first_version(body, call);
        body.has("message")
    }

    fn event(&mut self, event: Event<'_>, answer: &mut Answer) {
        let data = event.data;
        if let Some(kind) = data.str_of("event_type") {
            return first_version_event(&kind, data, answer);
        }
        let kind = data.str_of("type").unwrap_or(Cow::Borrowed(event.name));
        second_version_event(&kind, data, answer);
    }

    fn whole(&mut self, body: Raw<'_>, answer: &mut Answer) {
        let mut known = false;
        for (key, value) in body.fields() {
            match &*key {
                "id" | "generation_id" | "response_id" => answer.set_id(Some(value)),
                "model" => answer.set_model(Some(value)),
                "message" if value.is_object() => {
                    known = true;
                    message(value, answer);
                }
                "text" => {
                    known = true;
                    value.text().iter().for_each(|text| answer.main().append_text(text));
                }
                "tool_calls" => first_version_calls(value, answer),
                "finish_reason" => answer.finish(value),
                "usage" | "meta" => answer.counts.read(value),
                "results" | "data" | "embeddings" | "scores" => known = true,
                _ => {}
            }
        }
        answer.understood |= known;
        answer.complete |= known;
        answer.misshapen |= !known && !error::read(body, answer);
    }
}

fn first_version(body: &mut Body<'_>, call: &mut Call) {
    call.messages = body.whole("preamble", |value| {
        let mut draft = Draft::new(Role::System);
        parts::content(value, &mut draft);
        vec![draft]
    });
    call.messages.extend(body.messages("chat_history", |raw| {
        let mut draft = Draft::new(parts::role(&raw.str_of("role")?.to_lowercase()));
        raw.get("message").into_iter().for_each(|text| parts::content(text, &mut draft));
        Some(draft)
    }));
    call.messages.extend(body.whole("message", |value| {
        let mut draft = Draft::new(Role::User);
        parts::content(value, &mut draft);
        vec![draft]
    }));
}

/// A whole message of version 2.
fn message(raw: Raw<'_>, answer: &mut Answer) {
    let mut draft = Draft::new(Role::Assistant);
    raw.get("tool_plan")
        .and_then(Raw::string)
        .filter(|plan| !plan.is_empty())
        .into_iter()
        .for_each(|plan| draft.thinking(plan));
    raw.get("content").into_iter().for_each(|content| parts::content(content, &mut draft));
    for call in raw.get("tool_calls").into_iter().flat_map(Raw::elements) {
        draft.push(Content::ToolCall(openai_chat::tool_call(call)));
    }
    answer.main().whole(0, draft);
}

fn second_version_event(kind: &str, data: Raw<'_>, answer: &mut Answer) {
    let index = data.get("index").and_then(Raw::u64).unwrap_or(0).min(TOOLS - 1);
    let message = data.path(&["delta", "message"]);
    answer.understood |= kind.contains('-');
    let choice = answer.main();
    match kind {
        "message-start" => answer.set_id(data.get("id")),
        "content-start" | "content-delta" => {
            let Some(content) = message.and_then(|message| message.some("content")) else { return };
            content.str_of("text").iter().for_each(|text| choice.text(index, text));
            content.str_of("thinking").iter().for_each(|text| choice.thinking(index, text));
        }
        "tool-plan-delta" => {
            message.and_then(|message| message.str_of("tool_plan")).iter().for_each(|text| choice.thinking(PLAN, text));
        }
        "tool-call-start" | "tool-call-delta" => {
            let Some(call) = message.and_then(|message| message.some("tool_calls")) else { return };
            tool_delta(index, call, choice);
        }
        "message-end" => {
            answer.complete = true;
            if let Some(delta) = data.some("delta") {
                delta.some("finish_reason").into_iter().for_each(|reason| answer.finish(reason));
                delta.some("usage").into_iter().for_each(|usage| answer.counts.read(usage));
                delta.some("error").and_then(Raw::string).into_iter().for_each(|text| answer.fail("error", text));
            }
        }
        _ => {}
    }
}

fn tool_delta(index: u64, call: Raw<'_>, choice: &mut crate::wire::answer::Choice) {
    let function = call.some("function").unwrap_or(call);
    let name = function.get("name").and_then(Raw::string);
    let text = function.get("arguments").and_then(Raw::text).unwrap_or_default();
    if name.is_some() || !text.is_empty() {
        choice.mark_token();
    }
    if let Some(tool) = choice.tool(TOOLS + index) {
        tool.name = name.unwrap_or(std::mem::take(&mut tool.name));
        tool.id = call.get("id").and_then(Raw::string).unwrap_or(std::mem::take(&mut tool.id));
        tool.text.push_str(&text);
    }
}

fn first_version_event(kind: &str, data: Raw<'_>, answer: &mut Answer) {
    answer.understood = true;
    match kind {
        "stream-start" => answer.set_id(data.get("generation_id")),
        "text-generation" => data.str_of("text").iter().for_each(|text| answer.main().append_text(text)),
        "tool-calls-generation" => {
            data.some("tool_calls").into_iter().for_each(|calls| first_version_calls(calls, answer))
        }
        "stream-end" => {
            answer.complete = true;
            data.some("finish_reason").into_iter().for_each(|reason| answer.finish(reason));
            if let Some(meta) = data.path(&["response", "meta"]) {
                answer.counts.read(meta);
            }
        }
        _ => {}
    }
}

fn first_version_calls(calls: Raw<'_>, answer: &mut Answer) {
    for raw in calls.elements().filter(|raw| raw.kind() == Kind::Object) {
        let name = raw.get("name").and_then(Raw::string).unwrap_or_default();
        let arguments = raw.get("parameters").map(arguments_of).unwrap_or_default();
        let mut draft = Draft::new(Role::Assistant);
        draft.push(Content::ToolCall(ToolCall { name, arguments, ..ToolCall::default() }));
        answer.main().append_whole(draft);
    }
}
