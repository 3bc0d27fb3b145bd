//! Amazon Bedrock: InvokeModel (each vendor's own body) and Converse, whole or as AWS event streams.
//!
//! Surprising facts: InvokeModel's events are base64 in JSON in a binary frame; what stands in them is the model
//! vendor's own stream, so this decoder hands on to that vendor's; counts may be only in the answer's headers.

use std::borrow::Cow;

use crate::http::{Header, header};
use crate::wire::answer::Answer;
use crate::wire::decoder::{Event, Wire, parameters};
use crate::wire::json::{Kind, Raw};
use crate::wire::message::Draft;
use crate::wire::request::Body;
use crate::wire::{Call, Content, Operation, Role, ToolOffered, anthropic, error, openai_chat, parts};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Reads the counts that Bedrock puts into headers.
fn head(headers: &[Header], answer: &mut Answer) {
    let count = |name: &str| header(headers, name).and_then(|value| value.trim().parse::<u64>().ok());
    let counts = &mut answer.counts;
    counts.input = counts.input.or(count("x-amzn-bedrock-input-token-count"));
    counts.output = counts.output.or(count("x-amzn-bedrock-output-token-count"));
    counts.cache_read = counts.cache_read.or(count("x-amzn-bedrock-cache-read-input-token-count"));
    counts.cache_write = counts.cache_write.or(count("x-amzn-bedrock-cache-write-input-token-count"));
    counts.input_excludes_cache |= counts.cache_read.is_some();
    answer.set_tier_text(header(headers, "x-amzn-bedrock-service-tier"));
    if let Some(kind) = header(headers, "x-amzn-errortype") {
        answer.error_type = Some(kind.split(':').next().unwrap_or(kind).to_owned());
    }
}

/// Which vendor's body an InvokeModel carries.
#[derive(Debug, Default)]
enum Vendor {
    #[default]
    Unknown,
    Anthropic(anthropic::Messages),
    Chat(openai_chat::Chat),
    Converse(Converse),
    Text,
}

/// The decoder of InvokeModel.
#[derive(Debug, Default)]
pub(crate) struct Invoke {
    vendor: Vendor,
}

impl Wire for Invoke {
    fn request(&mut self, body: &mut Body<'_>, call: &mut Call) -> bool {
        if call.request_model.as_deref().is_some_and(|model| model.contains("embed")) {
            call.operation = Operation::Embeddings;
            call.parameters = parameters(body, &["inputText", "texts", "images"]);
            return body.raw().is_object();
        }
        if call.request_model.as_deref().is_some_and(|model| model.contains("rerank")) {
            call.operation = Operation::Rerank;
            call.parameters = parameters(body, &["documents", "query"]);
            return body.raw().is_object();
        }
        let blocks = body.has("anthropic_version");
        let converse = body.has("inferenceConfig") || body.has("schemaVersion");
        if body.has("messages") {
            let (model, stream) = (call.request_model.clone(), call.stream);
            let shaped = if converse {
                converse_request(body, call)
            } else if blocks {
                anthropic::Messages::default().request(body, call)
            } else {
                openai_chat::Chat::default().request(body, call)
            };
            call.request_model = model.or(call.request_model.take());
            call.stream = stream;
            return shaped;
        }
        call.parameters = parameters(body, &["prompt", "inputText", "message"]);
        let key = ["prompt", "inputText", "message"].into_iter().find(|key| body.has(key));
        let Some(key) = key else { return false };
        call.messages = body.whole(key, |value| {
            let mut draft = Draft::new(Role::User);
            parts::content(value, &mut draft);
            vec![draft]
        });
        true
    }

    fn head(&mut self, headers: &[Header], answer: &mut Answer) {
        head(headers, answer);
    }

    fn event(&mut self, event: Event<'_>, answer: &mut Answer) {
        let Some(encoded) = event.data.some("bytes") else {
            return self.inner(event, answer);
        };
        match STANDARD.decode(parts::inner_bytes(encoded)) {
            Ok(bytes) => self.inner(Event { name: "", data: Raw::new(&bytes) }, answer),
            Err(_) => answer.misshapen = true,
        }
    }

    fn whole(&mut self, body: Raw<'_>, answer: &mut Answer) {
        self.decide(body);
        match &mut self.vendor {
            Vendor::Anthropic(wire) => wire.whole(body, answer),
            Vendor::Chat(wire) => wire.whole(body, answer),
            Vendor::Converse(wire) => wire.whole(body, answer),
            _ => {
                text_models(body, answer);
                answer.complete |= answer.understood;
            }
        }
    }
}

impl Invoke {
    fn decide(&mut self, data: Raw<'_>) {
        if !matches!(self.vendor, Vendor::Unknown) {
            return;
        }
        let has = |key: &str| data.get(key).is_some();
        self.vendor = if has("choices") {
            Vendor::Chat(openai_chat::Chat::default())
        } else if has("messageStart") || has("contentBlockDelta") || has("contentBlockStart") || has("stopReason") {
            Vendor::Converse(Converse)
        } else if has("type") {
            Vendor::Anthropic(anthropic::Messages::default())
        } else {
            Vendor::Text
        };
    }

    fn inner(&mut self, event: Event<'_>, answer: &mut Answer) {
        self.decide(event.data);
        match &mut self.vendor {
            Vendor::Anthropic(wire) => wire.event(event, answer),
            Vendor::Chat(wire) => wire.event(event, answer),
            Vendor::Converse(wire) => wire.event(event, answer),
            _ => text_models(event.data, answer),
        }
        if let Some(metrics) = event.data.some("amazon-bedrock-invocationMetrics")
            && answer.counts.output.is_none()
        {
            answer.counts.read(metrics);
        }
    }
}

/// Titan, Llama, Mistral, Cohere, AI21: a text, a reason and counts under each one's names.
fn text_models(raw: Raw<'_>, answer: &mut Answer) {
    let mut known = false;
    for (key, value) in raw.fields() {
        match &*key {
            "outputText" | "generation" | "completion" | "text" => known = true,
            "results" | "outputs" | "generations" | "completions" => {
                known = true;
                value.elements().for_each(|result| text_result(result, answer));
            }
            "embedding" | "embeddings" | "embeddingsByType" => known = true,
            "id" | "generation_id" => answer.set_id(Some(value)),
            _ => {}
        }
    }
    text_result(raw, answer);
    answer.understood |= known;
}

/// One result, or the answer itself where it has no list of them.
fn text_result(raw: Raw<'_>, answer: &mut Answer) {
    for (key, value) in raw.fields() {
        match &*key {
            "outputText" | "generation" | "completion" | "text" => {
                value.text().iter().for_each(|text| answer.main().append_text(text));
            }
            "completionReason" | "stop_reason" | "finish_reason" if !value.is_null() => {
                answer.finish(value);
                answer.complete = true;
            }
            "data" => value.str_of("text").iter().for_each(|text| answer.main().append_text(text)),
            _ => {}
        }
    }
    answer.counts.read(raw);
}

/// The decoder of Converse.
#[derive(Debug, Default)]
pub(crate) struct Converse;

impl Wire for Converse {
    fn request(&mut self, body: &mut Body<'_>, call: &mut Call) -> bool {
        if call.operation == Operation::CountTokens {
            let Some(inner) = body.inner("input").and_then(|input| input.inner("converse")) else {
                return body.has("input");
            };
            let mut inner = inner;
            let shaped = converse_request(&mut inner, call);
            body.adopt(inner);
            return shaped;
        }
        converse_request(body, call)
    }

    fn head(&mut self, headers: &[Header], answer: &mut Answer) {
        head(headers, answer);
    }

    fn event(&mut self, event: Event<'_>, answer: &mut Answer) {
        // As the event's type in AWS framing, or as the only key of an object.
        let wrapped = event.data.fields().next().filter(|(key, value)| is_event(key) && value.is_object());
        match wrapped {
            Some((name, data)) => converse_event(&name, data, answer),
            None => converse_event(event.name, event.data, answer),
        }
    }

    fn whole(&mut self, body: Raw<'_>, answer: &mut Answer) {
        let message = body.path(&["output", "message"]);
        let known = message.is_some() || body.get("inputTokens").is_some();
        answer.understood |= known;
        answer.misshapen |= !known && !error::read(body, answer);
        answer.complete |= known;
        if let Some(content) = message.and_then(|message| message.get("content")) {
            let mut draft = Draft::new(Role::Assistant);
            content.elements().for_each(|block| read_block(block, &mut draft));
            answer.main().whole(0, draft);
        }
        body.some("stopReason").into_iter().for_each(|reason| answer.finish(reason));
        body.some("usage").into_iter().for_each(|usage| answer.counts.read(usage));
        answer.set_tier(body.path(&["serviceTier", "type"]));
        if let Some(count) = body.get("inputTokens") {
            answer.counts.input = count.u64();
        }
    }
}

fn is_event(name: &str) -> bool {
    matches!(
        name,
        "messageStart" | "contentBlockStart" | "contentBlockDelta" | "contentBlockStop" | "messageStop" | "metadata"
    )
}

fn converse_event(name: &str, data: Raw<'_>, answer: &mut Answer) {
    answer.understood |= is_event(name);
    let index = data.get("contentBlockIndex").and_then(Raw::u64).unwrap_or(0);
    match name {
        "contentBlockStart" => {
            let Some(start) = data.path(&["start", "toolUse"]) else { return };
            let choice = answer.main();
            choice.mark_token();
            if let Some(tool) = choice.tool(index) {
                tool.id = start.get("toolUseId").and_then(Raw::string).unwrap_or_default();
                tool.name = start.get("name").and_then(Raw::string).unwrap_or_default();
                tool.server_side = start.str_of("type").as_deref() == Some("server_tool_use");
            }
        }
        "contentBlockDelta" => data.some("delta").into_iter().for_each(|delta| converse_delta(index, delta, answer)),
        "messageStop" => {
            answer.complete = true;
            data.some("stopReason").into_iter().for_each(|reason| answer.finish(reason));
        }
        "metadata" => {
            data.some("usage").into_iter().for_each(|usage| answer.counts.read(usage));
            answer.set_tier(data.path(&["serviceTier", "type"]));
        }
        _ => {}
    }
}

fn converse_delta(index: u64, delta: Raw<'_>, answer: &mut Answer) {
    let choice = answer.main();
    for (key, value) in delta.fields() {
        match &*key {
            "text" => value.text().iter().for_each(|text| choice.text(index, text)),
            "reasoningContent" => {
                if let Some(text) = value.str_of("text") {
                    choice.thinking(index, &text);
                } else if value.get("redactedContent").is_some() {
                    let mut draft = Draft::new(Role::Assistant);
                    draft.push(Content::RedactedThinking);
                    choice.whole(index, draft);
                }
            }
            "toolUse" => {
                let Some(text) = value.str_of("input").filter(|text| !text.is_empty()) else { continue };
                choice.mark_token();
                if let Some(tool) = choice.tool(index) {
                    tool.text.push_str(&text);
                }
            }
            _ => {}
        }
    }
}

fn converse_request(body: &mut Body<'_>, call: &mut Call) -> bool {
    call.request_model = body.string("modelId").or(call.request_model.take());
    call.parameters = parameters(body, &["messages", "system", "toolConfig", "modelId"]);
    call.tools_offered = body.tools("toolConfig", |config| {
        config.get("tools").into_iter().flat_map(Raw::elements).filter_map(tool).collect()
    });
    call.messages = body.whole("system", |value| {
        let mut draft = Draft::new(Role::System);
        match value.kind() {
            Kind::Array => value.elements().for_each(|block| read_block(block, &mut draft)),
            _ => parts::content(value, &mut draft),
        }
        if draft.content().is_empty() { Vec::new() } else { vec![draft] }
    });
    call.messages.extend(body.messages("messages", message));
    body.get("messages").is_some_and(Raw::is_array)
}

fn tool(raw: Raw<'_>) -> Option<ToolOffered> {
    if let Some(spec) = raw.some("toolSpec") {
        return Some(ToolOffered {
            name: spec.get("name").and_then(Raw::string).unwrap_or_default(),
            description: spec.get("description").and_then(Raw::string),
            schema: spec.path(&["inputSchema", "json"]).and_then(Raw::value),
        });
    }
    let built_in = raw.some("systemTool")?.get("name").and_then(Raw::string)?;
    Some(ToolOffered { name: built_in, ..ToolOffered::default() })
}

fn message(raw: Raw<'_>) -> Option<Draft> {
    let mut draft = Draft::new(parts::role(&raw.str_of("role")?));
    match raw.get("content") {
        Some(content) if content.is_array() => content.elements().for_each(|block| read_block(block, &mut draft)),
        Some(content) => parts::content(content, &mut draft),
        None => {}
    }
    let results = draft.content().iter().all(|content| matches!(content, Content::ToolResult { .. }));
    if draft.role() == Role::User && results && !draft.content().is_empty() {
        draft.set_role(Role::Tool);
    }
    Some(draft)
}

/// A content block: an object whose only key is its kind.
fn read_block(raw: Raw<'_>, draft: &mut Draft) {
    if raw.get("type").is_some() || raw.kind() == Kind::String {
        return parts::part(raw, draft);
    }
    for (key, value) in raw.fields() {
        match &*key {
            "text" => value.string().filter(|text| !text.is_empty()).into_iter().for_each(|text| draft.text(text)),
            "toolUse" => draft.push(Content::ToolCall(parts::tool_use(value, false))),
            "toolResult" => draft.push(tool_result(value)),
            "reasoningContent" => match value.path(&["reasoningText", "text"]).and_then(Raw::string) {
                Some(text) => draft.thinking(text),
                None => draft.push(Content::RedactedThinking),
            },
            "image" | "video" | "document" | "audio" => media(&key, value, draft),
            "cachePoint" => {}
            _ => draft.push(parts::other(raw)),
        }
    }
}

fn tool_result(raw: Raw<'_>) -> Content {
    let texts: Vec<String> = raw
        .get("content")
        .into_iter()
        .flat_map(Raw::elements)
        .map(|part| match (part.get("text").and_then(Raw::string), part.get("json")) {
            (Some(text), _) => text,
            (None, Some(json)) => json.display(),
            (None, None) => part.display(),
        })
        .collect();
    Content::ToolResult {
        id: raw.get("toolUseId").and_then(Raw::string).unwrap_or_default(),
        name: None,
        text: texts.join("\n"),
        is_error: raw.str_of("status") == Some(Cow::Borrowed("error")),
    }
}

fn media(kind: &str, raw: Raw<'_>, draft: &mut Draft) {
    let format = raw.get("format").and_then(Raw::string);
    let source = raw.some("source");
    let reference = source.and_then(|source| source.path(&["s3Location", "uri"])).and_then(Raw::string);
    let data = source.and_then(|source| source.get("bytes")).map(parts::inner_bytes).unwrap_or_default();
    draft.media(kind, format, reference, data);
}
