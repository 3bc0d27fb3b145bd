//! Ollama's own API: `/api/chat`, `/api/generate`, `/api/embed`. Its streams are one JSON per line, and streaming is the default.

use std::sync::Arc;

use crate::wire::answer::Answer;
use crate::wire::decoder::{Event, Wire, parameters, tools};
use crate::wire::json::Raw;
use crate::wire::message::Draft;
use crate::wire::request::Body;
use crate::wire::{Call, Content, Operation, Role, WireApi, error, openai_chat, parts};

/// The decoder of all three.
#[derive(Debug, Default)]
pub(crate) struct Ollama;

impl Wire for Ollama {
    fn request(&mut self, body: &mut Body<'_>, call: &mut Call) -> bool {
        call.request_model = body.string("model").or_else(|| body.string("name"));
        call.parameters =
            parameters(body, &["model", "messages", "prompt", "system", "tools", "stream", "input", "images"]);
        if call.operation == Operation::Embeddings {
            return call.request_model.is_some();
        }
        call.stream = body.get("stream").and_then(Raw::bool).unwrap_or(true);
        call.tools_offered = body.tools("tools", tools);
        if call.wire_api == WireApi::OllamaGenerate {
            generate(body, call);
        } else {
            call.messages = body.messages("messages", openai_chat::message);
        }
        call.request_model.is_some()
    }

    fn event(&mut self, event: Event<'_>, answer: &mut Answer) {
        line(event.data, answer);
    }

    fn whole(&mut self, body: Raw<'_>, answer: &mut Answer) {
        line(body, answer);
        answer.complete |= answer.understood;
    }

    fn streams_lines(&self) -> bool {
        true
    }
}

fn generate(body: &mut Body<'_>, call: &mut Call) {
    call.messages = body.whole("system", |value| {
        let mut draft = Draft::new(Role::System);
        parts::content(value, &mut draft);
        vec![draft]
    });
    let Some(prompt) = body.get("prompt") else { return };
    let mut draft = Draft::new(Role::User);
    parts::content(prompt, &mut draft);
    body.get("images").into_iter().flat_map(Raw::elements).for_each(|data| {
        draft.media("image", None, None, parts::inner_bytes(data));
    });
    call.messages.push(Arc::new(draft.seal()));
}

fn line(raw: Raw<'_>, answer: &mut Answer) {
    let mut known = false;
    for (key, value) in raw.fields() {
        match &*key {
            "model" => answer.set_model(Some(value)),
            "message" => {
                known = true;
                message(value, answer);
            }
            "response" => {
                known = true;
                value.text().iter().for_each(|text| answer.main().append_text(text));
            }
            "thinking" => value.text().iter().for_each(|text| answer.main().append_thinking(text)),
            "done_reason" => answer.finish(value),
            "done" => answer.complete |= value.bool().unwrap_or(false),
            "embeddings" | "embedding" => known = true,
            "error" if !value.is_null() => known |= error::read(raw, answer),
            _ => {}
        }
    }
    answer.counts.read(raw);
    answer.understood |= known;
    answer.misshapen |= !known;
}

fn message(raw: Raw<'_>, answer: &mut Answer) {
    let choice = answer.main();
    for (key, value) in raw.fields() {
        match &*key {
            "content" => value.text().iter().for_each(|text| choice.append_text(text)),
            "thinking" => value.text().iter().for_each(|text| choice.append_thinking(text)),
            "tool_calls" => {
                for call in value.elements() {
                    let mut draft = Draft::new(Role::Assistant);
                    draft.push(Content::ToolCall(openai_chat::tool_call(call)));
                    choice.append_whole(draft);
                }
            }
            _ => {}
        }
    }
}
