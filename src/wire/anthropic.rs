//! Anthropic Messages: `/v1/messages`, its token count and batches, on Anthropic, Vertex (`:rawPredict`) and proxies.
//!
//! Surprising facts: the usage of `message_start` is a placeholder as far as output goes, and that of `message_delta` is
//! cumulative, so the last one wins; an error can stand in the middle of a 200 stream.

use std::borrow::Cow;

use crate::wire::answer::{Answer, arguments_of};
use crate::wire::decoder::{Event, Wire, parameters, tools};
use crate::wire::json::{Kind, Raw};
use crate::wire::message::Draft;
use crate::wire::repeated::{self, Place};
use crate::wire::request::Body;
use crate::wire::{Call, Content, Operation, Role, error, parts};

/// The decoder.
#[derive(Debug, Default)]
pub(crate) struct Messages {
    /// A counted output was seen, so that what `message_start` said is no longer the last word.
    final_counts: bool,
}

impl Wire for Messages {
    fn request(&mut self, body: &mut Body<'_>, call: &mut Call) -> bool {
        match call.operation {
            Operation::Batch => return batch(body, call),
            Operation::TextCompletion => return completion(body, call),
            _ => {}
        }
        request(body, call)
    }

    fn event(&mut self, event: Event<'_>, answer: &mut Answer) {
        let Some(kind) = event.data.str_of("type") else {
            if !error::read(event.data, answer) {
                answer.misshapen |= !event.data.is_object();
            }
            return;
        };
        match &*kind {
            "content_block_delta" => delta(event.data, answer),
            "content_block_start" => block_start(event.data, answer),
            "content_block_stop" | "ping" => {}
            "message_start" => self.start(event.data, answer),
            "message_delta" => self.message_delta(event.data, answer),
            "message_stop" => {
                answer.complete = true;
                // Bedrock's own counts, the same names as everywhere on Bedrock.
                if let Some(metrics) =
                    event.data.some("amazon-bedrock-invocationMetrics").filter(|_| !self.final_counts)
                {
                    answer.counts.read(metrics);
                }
            }
            "error" => {
                error::read(event.data, answer);
            }
            "completion" => {
                answer.understood = true;
                event.data.str_of("completion").iter().for_each(|text| answer.main().append_text(text));
                event.data.some("stop_reason").into_iter().for_each(|reason| answer.finish(reason));
                answer.set_model(event.data.get("model"));
            }
            _ => {}
        }
    }

    fn whole(&mut self, body: Raw<'_>, answer: &mut Answer) {
        let mut draft = Draft::new(Role::Assistant);
        let mut known = false;
        for (key, value) in body.fields() {
            match &*key {
                "id" => answer.set_id(Some(value)),
                "model" => answer.set_model(Some(value)),
                "content" | "completion" => {
                    known = true;
                    parts::content(value, &mut draft);
                }
                "stop_reason" => answer.finish(value),
                "usage" => read_usage(value, answer),
                "input_tokens" => {
                    // The answer of a token count.
                    known = true;
                    answer.counts.input = value.u64();
                }
                "processing_status" => known = true,
                _ => {}
            }
        }
        answer.understood |= known;
        answer.misshapen |= !known;
        answer.complete |= known;
        answer.main().whole(0, draft);
    }
}

fn read_usage(usage: Raw<'_>, answer: &mut Answer) {
    answer.counts.input_excludes_cache |= usage.some("input_tokens").is_some();
    answer.counts.read(usage);
    answer.set_tier(usage.get("service_tier"));
}

fn request(body: &mut Body<'_>, call: &mut Call) -> bool {
    call.request_model = body.string("model").or(call.request_model.take());
    if let Some(stream) = body.get("stream").and_then(Raw::bool) {
        call.stream = stream;
    }
    call.parameters = parameters(body, &["model", "messages", "system", "tools", "stream"]);
    if call.conversation_hint.is_none() {
        call.conversation_hint = body.get("metadata").and_then(|metadata| session_of(metadata));
    }
    let system = body.whole("system", |value| {
        let mut draft = Draft::new(Role::System);
        parts::content(value, &mut draft);
        if draft.content().is_empty() { Vec::new() } else { vec![draft] }
    });
    call.tools_offered = body.tools("tools", tools);
    let shaped = body.get("messages").is_some_and(Raw::is_array);
    call.messages = system;
    call.messages.extend(body.messages("messages", message));
    shaped
}

/// The session in `metadata.user_id`: a JSON text with `session_id`, or a name that ends in `_session_<id>`.
fn session_of(metadata: Raw<'_>) -> Option<String> {
    if let Some(session) = metadata.str_of("session_id") {
        return Some(session.into_owned());
    }
    let user = metadata.str_of("user_id")?;
    let json = Raw::new(user.as_bytes());
    if json.is_object() {
        return json.str_of("session_id").map(Cow::into_owned);
    }
    user.rsplit_once("_session_").map(|(_, session)| session.to_owned())
}

/// One message. A user's message that carries nothing but tool results is the tools'.
pub(crate) fn message(raw: Raw<'_>) -> Option<Draft> {
    let (mut role, mut content) = (None, None);
    for (key, value) in raw.fields() {
        match &*key {
            "role" => role = value.text(),
            "content" => content = Some(value),
            _ => {}
        }
    }
    let mut draft = Draft::new(parts::role(&role?));
    content.into_iter().for_each(|content| parts::content(content, &mut draft));
    let results = draft.content().iter().all(|content| matches!(content, Content::ToolResult { .. }));
    if draft.role() == Role::User && results && !draft.content().is_empty() {
        draft.set_role(Role::Tool);
    }
    Some(draft)
}

fn batch(body: &mut Body<'_>, call: &mut Call) -> bool {
    let Some(requests) = body.get("requests").filter(|requests| requests.is_array()) else { return false };
    let first = requests.elements().next().and_then(|entry| entry.path(&["params", "model"]));
    call.request_model = first.and_then(Raw::string);
    call.parameters.insert("requests".to_owned(), requests.elements().count().into());
    true
}

/// The legacy text completion.
fn completion(body: &mut Body<'_>, call: &mut Call) -> bool {
    call.request_model = body.string("model");
    call.stream = body.get("stream").and_then(Raw::bool).unwrap_or(false);
    call.parameters = parameters(body, &["model", "prompt", "stream"]);
    call.messages = body.whole("prompt", |prompt| {
        let mut draft = Draft::new(Role::User);
        parts::content(prompt, &mut draft);
        vec![draft]
    });
    body.get("prompt").is_some_and(|prompt| prompt.kind() == Kind::String)
}

impl Messages {
    fn start(&mut self, event: Raw<'_>, answer: &mut Answer) {
        let Some(message) = event.some("message") else {
            answer.misshapen = true;
            return;
        };
        answer.understood = true;
        answer.set_id(message.get("id"));
        answer.set_model(message.get("model"));
        if let Some(usage) = message.some("usage") {
            read_usage(usage, answer);
            answer.counts.output_provisional = true;
        }
    }

    fn message_delta(&mut self, event: Raw<'_>, answer: &mut Answer) {
        answer.understood = true;
        if let Some(reason) = event.path(&["delta", "stop_reason"]) {
            answer.finish(reason);
        }
        if let Some(usage) = event.some("usage") {
            self.final_counts |= usage.some("output_tokens").is_some();
            read_usage(usage, answer);
        }
    }
}

fn block_start(event: Raw<'_>, answer: &mut Answer) {
    answer.understood = true;
    let index = event.get("index").and_then(Raw::u64).unwrap_or(0);
    let Some(block) = event.some("content_block") else {
        answer.misshapen = true;
        return;
    };
    let kind = block.str_of("type").unwrap_or(Cow::Borrowed(""));
    let choice = answer.main();
    match &*kind {
        "text" => block.str_of("text").iter().for_each(|text| choice.text(index, text)),
        "thinking" => block.str_of("thinking").iter().for_each(|text| choice.thinking(index, text)),
        "tool_use" | "server_tool_use" | "mcp_tool_use" => {
            choice.mark_token();
            if let Some(tool) = choice.tool(index) {
                tool.id = block.get("id").and_then(Raw::string).unwrap_or_default();
                tool.name = block.get("name").and_then(Raw::string).unwrap_or_default();
                tool.value = block.some("input").map(arguments_of);
                tool.server_side = &*kind != "tool_use";
            }
        }
        _ => {
            let mut draft = Draft::new(Role::Assistant);
            parts::part(block, &mut draft);
            choice.whole(index, draft);
        }
    }
}

/// The event that there are most of: one walk, no allocation but the text's.
fn delta(event: Raw<'_>, answer: &mut Answer) {
    answer.understood = true;
    let (mut index, mut delta) = (0, None);
    for (key, value) in event.fields() {
        match &*key {
            "index" => index = value.u64().unwrap_or(0),
            "delta" => delta = Some(value),
            _ => {}
        }
    }
    let Some(delta) = delta else {
        answer.misshapen = true;
        return;
    };
    for (key, value) in delta.fields() {
        let kind = match &*key {
            "text" => repeated::Kind::Text,
            "thinking" => repeated::Kind::Thinking,
            "partial_json" => repeated::Kind::Arguments,
            _ => continue,
        };
        let Some(text) = value.text() else { continue };
        answer.said.text(Place { choice: 0, key: index, kind }, value);
        let choice = answer.main();
        match kind {
            repeated::Kind::Text => choice.text(index, &text),
            repeated::Kind::Thinking => choice.thinking(index, &text),
            repeated::Kind::Arguments => choice.arguments(index, &text),
        }
    }
}
