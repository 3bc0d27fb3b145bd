//! OpenAI's smaller APIs: text completions, embeddings, images, audio, moderations, and the set-up of realtime sessions.
//!
//! Bodies may be multipart forms and answers may be sound: then the model is read from the form's field, and that the
//! answer is no JSON is in order.

use std::borrow::Cow;

use memchr::memmem;

use crate::wire::answer::Answer;
use crate::wire::decoder::{Event, Wire, parameters};
use crate::wire::json::{Kind, Raw};
use crate::wire::message::Draft;
use crate::wire::openai_chat::Chat;
use crate::wire::request::Body;
use crate::wire::{Call, Operation, Role, error, parts};

/// Text completions: the chat decoder reads the choices; llama.cpp's own `/completion` is read here.
#[derive(Debug, Default)]
pub(crate) struct Completions {
    chat: Chat,
}

impl Wire for Completions {
    fn request(&mut self, body: &mut Body<'_>, call: &mut Call) -> bool {
        call.request_model = body.string("model").or(call.request_model.take());
        call.stream = body.get("stream").and_then(Raw::bool).unwrap_or(false);
        call.parameters = parameters(body, &["model", "prompt", "stream"]);
        let prompt = body.get("prompt");
        let texts =
            prompt.is_some_and(|prompt| prompt.elements().next().is_some_and(|first| first.kind() == Kind::String));
        call.messages = if texts {
            body.messages("prompt", |raw| Some(prompt_message(raw)))
        } else {
            body.whole("prompt", |value| vec![prompt_message(value)])
        };
        prompt.is_some()
    }

    fn event(&mut self, event: Event<'_>, answer: &mut Answer) {
        if event.data.get("choices").is_some() || event.data.get("error").is_some() {
            return self.chat.event(event, answer);
        }
        llama(event.data, answer);
    }

    fn whole(&mut self, body: Raw<'_>, answer: &mut Answer) {
        self.event(Event { name: "", data: body }, answer);
        answer.complete |= answer.understood;
    }
}

fn prompt_message(raw: Raw<'_>) -> Draft {
    let mut draft = Draft::new(Role::User);
    parts::content(raw, &mut draft);
    draft
}

/// llama.cpp's own completion.
fn llama(raw: Raw<'_>, answer: &mut Answer) {
    let Some(text) = raw.str_of("content") else {
        answer.misshapen = true;
        return;
    };
    answer.understood = true;
    answer.server_kind = Some("llama.cpp");
    answer.main().append_text(&text);
    answer.set_model(raw.get("model"));
    if raw.get("stop").and_then(Raw::bool) == Some(true) {
        answer.complete = true;
        raw.some("stop_type").into_iter().for_each(|reason| answer.finish(reason));
        answer.counts.input = raw.get("tokens_evaluated").and_then(Raw::u64);
        answer.counts.output = raw.get("tokens_predicted").and_then(Raw::u64);
    }
}

/// Embeddings.
#[derive(Debug, Default)]
pub(crate) struct Embeddings;

impl Wire for Embeddings {
    fn request(&mut self, body: &mut Body<'_>, call: &mut Call) -> bool {
        call.request_model = body.string("model").or(call.request_model.take());
        call.parameters = parameters(body, &["model", "input"]);
        ["input", "inputs", "texts"].iter().any(|key| body.has(key))
    }

    fn event(&mut self, event: Event<'_>, answer: &mut Answer) {
        self.whole(event.data, answer);
    }

    fn whole(&mut self, body: Raw<'_>, answer: &mut Answer) {
        answer.set_model(body.get("model"));
        answer.set_id(body.get("id"));
        let known = body.get("data").is_some() || body.get("embeddings").is_some() || body.is_array();
        answer.understood |= known;
        answer.complete |= known;
        answer.misshapen |= !known && !error::read(body, answer);
        body.some("usage").into_iter().for_each(|usage| answer.counts.read(usage));
    }
}

/// Images, audio, moderations, realtime sessions.
#[derive(Debug, Default)]
pub(crate) struct Media;

impl Wire for Media {
    fn request(&mut self, body: &mut Body<'_>, call: &mut Call) -> bool {
        if let Some(model) = multipart_field(body.raw(), "model") {
            call.request_model = Some(model);
            call.stream = multipart_field(body.raw(), "stream").as_deref() == Some("true");
            if let Some(prompt) = multipart_field(body.raw(), "prompt").filter(|prompt| !prompt.is_empty()) {
                let mut draft = Draft::new(Role::User);
                draft.text(prompt);
                call.messages = vec![std::sync::Arc::new(draft.seal())];
            }
            return true;
        }
        if !body.raw().is_object() {
            // A form without a model is a form all the same.
            return body.raw().bytes().starts_with(b"--");
        }
        let session = body.get("session").filter(|session| session.is_object());
        let model = body.string("model").or_else(|| session.and_then(|session| session.get("model")?.string()));
        call.request_model = model.or(call.request_model.take());
        let stream = body.get("stream").and_then(Raw::bool).unwrap_or(false);
        call.stream = stream || body.string("stream_format").as_deref() == Some("sse");
        call.parameters = parameters(body, &["model", "prompt", "input", "stream"]);
        let key = if body.has("prompt") { "prompt" } else { "input" };
        if call.operation != Operation::Realtime {
            call.messages = body.whole(key, |value| {
                let mut draft = Draft::new(Role::User);
                parts::content(value, &mut draft);
                if draft.content().is_empty() { Vec::new() } else { vec![draft] }
            });
        }
        body.has("prompt") || body.has("input") || call.operation == Operation::Realtime
    }

    fn event(&mut self, event: Event<'_>, answer: &mut Answer) {
        let data = event.data;
        let kind = data.str_of("type").unwrap_or(Cow::Borrowed(event.name));
        answer.understood |= !kind.is_empty();
        match &*kind {
            "transcript.text.delta" => data.str_of("delta").iter().for_each(|text| answer.main().append_text(text)),
            "speech.audio.delta" | "image_generation.partial_image" | "image_edit.partial_image" => answer.token = true,
            kind if kind.ends_with(".done") || kind.ends_with(".completed") => {
                answer.complete = true;
                data.some("usage").into_iter().for_each(|usage| answer.counts.read(usage));
            }
            "error" => {
                error::read(data, answer);
            }
            _ => {}
        }
    }

    fn whole(&mut self, body: Raw<'_>, answer: &mut Answer) {
        answer.set_id(body.get("id"));
        answer.set_model(body.get("model"));
        let known = ["data", "text", "results", "client_secret", "value", "session", "object"]
            .iter()
            .any(|key| body.get(key).is_some());
        answer.understood |= known;
        answer.complete |= known;
        answer.misshapen |= !known && !error::read(body, answer);
        if let Some(text) = body.str_of("text") {
            answer.main().append_text(&text);
        }
        if let Some(usage) = body.some("usage") {
            answer.counts.read(usage);
        }
    }

    fn takes_opaque(&self) -> bool {
        true
    }
}

/// A field of a multipart form.
fn multipart_field(raw: Raw<'_>, name: &str) -> Option<String> {
    let bytes = raw.bytes();
    if !bytes.starts_with(b"--") {
        return None;
    }
    let head = format!("name=\"{name}\"");
    let rest = bytes.get(memmem::find(bytes, head.as_bytes())? + head.len()..)?;
    let rest = rest.get(memmem::find(rest, b"\r\n\r\n")? + 4..)?;
    let value = rest.get(..memmem::find(rest, b"\r\n--")?)?;
    std::str::from_utf8(value).ok().map(str::to_owned)
}
