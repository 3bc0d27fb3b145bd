//! Gemini: generateContent and its stream on AI Studio, Vertex and Code Assist (where request and answer are wrapped),
//! token counts, embeddings, Vertex predictions; and the Interactions API.
//!
//! Surprising facts: names come in camelCase and snake_case; a stream is one JSON array unless `alt=sse`; tool calls may have
//! no id; `STOP` also means "waiting for tools"; a blocked prompt has no candidates.

use std::borrow::Cow;

use serde_json::Value;

use crate::wire::answer::{Answer, Choice, arguments_of};
use crate::wire::decoder::{Event, Wire, parameters};
use crate::wire::json::{Kind, Raw};
use crate::wire::message::Draft;
use crate::wire::request::Body;
use crate::wire::{Call, Content, Operation, Role, ToolCall, ToolOffered, error, parts};

/// Fields that are not parameters.
const NOT_PARAMETERS: &[&str] = &[
    "contents",
    "systemInstruction",
    "system_instruction",
    "tools",
    "model",
    "request",
    "content",
    "requests",
    "instances",
];

/// The decoder of generateContent.
#[derive(Debug, Default)]
pub(crate) struct Generate;

impl Wire for Generate {
    fn request(&mut self, body: &mut Body<'_>, call: &mut Call) -> bool {
        if let Some(model) = body.string("model") {
            call.request_model = Some(strip_models(&model).to_owned());
        }
        call.parameters = parameters(body, NOT_PARAMETERS);
        let key =
            ["request", "generateContentRequest"].into_iter().find(|key| body.get(key).is_some_and(Raw::is_object));
        let Some(mut inner) = key.and_then(|key| body.inner(key)) else {
            return generate(body, call);
        };
        let mut more = parameters(&inner, NOT_PARAMETERS);
        call.parameters.append(&mut more);
        if call.conversation_hint.is_none() {
            call.conversation_hint = inner.string("session_id").or_else(|| inner.string("sessionId"));
        }
        let shaped = generate(&mut inner, call);
        body.adopt(inner);
        shaped
    }

    fn event(&mut self, event: Event<'_>, answer: &mut Answer) {
        chunk(event.data, answer);
    }

    fn whole(&mut self, body: Raw<'_>, answer: &mut Answer) {
        chunk(body, answer);
        answer.complete |= answer.understood;
    }
}

pub(crate) fn strip_models(model: &str) -> &str {
    model.rsplit_once("models/").map_or(model, |(_, name)| name)
}

fn generate(body: &mut Body<'_>, call: &mut Call) -> bool {
    call.tools_offered = body.tools("tools", tools);
    for key in ["systemInstruction", "system_instruction"] {
        call.messages.extend(body.whole(key, |value| {
            let mut draft = Draft::new(Role::System);
            read_content(value, &mut draft);
            if draft.content().is_empty() { Vec::new() } else { vec![draft] }
        }));
    }
    let contents = body.get("contents");
    if contents.is_some_and(Raw::is_array) {
        call.messages.extend(body.messages("contents", |raw| Some(content(raw))));
    } else {
        call.messages.extend(body.whole("contents", |value| vec![content(value)]));
    }
    contents.is_some() || ["content", "requests", "instances", "batch"].iter().any(|key| body.has(key))
}

/// One entry of `contents`; one that carries nothing but results is the tools'.
pub(crate) fn content(raw: Raw<'_>) -> Draft {
    let mut draft = Draft::new(parts::role(&raw.str_of("role").unwrap_or(Cow::Borrowed("user"))));
    read_content(raw, &mut draft);
    let results = draft.content().iter().all(|piece| matches!(piece, Content::ToolResult { .. }));
    if draft.role() != Role::Assistant && results && !draft.content().is_empty() {
        draft.set_role(Role::Tool);
    }
    draft
}

fn read_content(raw: Raw<'_>, draft: &mut Draft) {
    match raw.kind() {
        Kind::String => raw.string().into_iter().for_each(|text| draft.text(text)),
        Kind::Array => raw.elements().for_each(|element| read_part(element, draft)),
        _ => match raw.get("parts") {
            Some(list) if list.is_array() => list.elements().for_each(|part| read_part(part, draft)),
            Some(part) => read_part(part, draft),
            None => read_part(raw, draft),
        },
    }
}

fn read_part(raw: Raw<'_>, draft: &mut Draft) {
    if raw.kind() == Kind::String {
        return raw.string().into_iter().for_each(|text| draft.text(text));
    }
    let thought = raw.get("thought").and_then(Raw::bool).unwrap_or(false);
    for (key, value) in raw.fields() {
        match &*key {
            "text" => {
                let Some(text) = value.string().filter(|text| !text.is_empty()) else { continue };
                if thought { draft.thinking(text) } else { draft.text(text) }
            }
            "functionCall" | "function_call" => draft.push(Content::ToolCall(function_call(value))),
            "functionResponse" | "function_response" => draft.push(function_response(value)),
            "inlineData" | "inline_data" => media(value, draft),
            "fileData" | "file_data" => media(value, draft),
            "executableCode" | "executable_code" => draft.push(Content::ToolCall(ToolCall {
                id: value.get("id").and_then(Raw::string).unwrap_or_default(),
                name: "code_execution".to_owned(),
                arguments: arguments_of(value),
                server_side: true,
            })),
            "codeExecutionResult" | "code_execution_result" => draft.push(Content::ToolResult {
                id: value.get("id").and_then(Raw::string).unwrap_or_default(),
                name: Some("code_execution".to_owned()),
                text: value.get("output").map(Raw::display).unwrap_or_default(),
                is_error: value.str_of("outcome").is_some_and(|outcome| outcome != "OUTCOME_OK"),
            }),
            _ => {}
        }
    }
}

fn function_call(raw: Raw<'_>) -> ToolCall {
    let mut call = parts::tool_use(raw, false);
    if call.arguments.is_null() {
        call.arguments = Value::Object(serde_json::Map::new());
    }
    call
}

/// A response of one field that is a text is that text; anything else is JSON.
fn function_response(raw: Raw<'_>) -> Content {
    let response = raw.get("response");
    let only = response.map(|response| response.fields().take(2).collect::<Vec<_>>()).unwrap_or_default();
    let (text, is_error) = match only.as_slice() {
        [(key, value)] if matches!(&**key, "output" | "result" | "content" | "error") => {
            (parts::result_text(*value), key == "error")
        }
        _ => (response.map(Raw::display).unwrap_or_default(), false),
    };
    Content::ToolResult {
        id: raw.get("id").and_then(Raw::string).unwrap_or_default(),
        name: raw.get("name").and_then(Raw::string),
        text,
        is_error,
    }
}

fn media(raw: Raw<'_>, draft: &mut Draft) {
    let media_type = raw.get("mimeType").or_else(|| raw.get("mime_type")).and_then(Raw::string);
    let kind = match media_type.as_deref().and_then(|name| name.split('/').next()) {
        Some("image") => "image",
        Some("audio") => "audio",
        Some("video") => "video",
        _ => "document",
    };
    let reference = raw.get("fileUri").or_else(|| raw.get("file_uri")).and_then(Raw::string);
    draft.media(kind, media_type, reference, raw.get("data").map(parts::inner_bytes).unwrap_or_default());
}

/// Function declarations, and the built-in tools by their names.
pub(crate) fn tools(list: Raw<'_>) -> Vec<ToolOffered> {
    let mut tools = Vec::new();
    for (key, value) in list.elements().flat_map(Raw::fields) {
        if matches!(&*key, "functionDeclarations" | "function_declarations") {
            tools.extend(value.elements().map(declaration));
        } else {
            tools.push(ToolOffered { name: key.into_owned(), ..ToolOffered::default() });
        }
    }
    tools
}

fn declaration(raw: Raw<'_>) -> ToolOffered {
    let mut tool = ToolOffered::default();
    for (key, value) in raw.fields() {
        match &*key {
            "name" => tool.name = value.string().unwrap_or_default(),
            "description" => tool.description = value.string(),
            "parameters" | "parametersJsonSchema" | "parameters_json_schema" => tool.schema = value.value(),
            _ => {}
        }
    }
    tool
}

/// An answer, or a piece of one.
fn chunk(raw: Raw<'_>, answer: &mut Answer) {
    // Code Assist wraps it.
    let raw = raw.some("response").filter(|inner| inner.is_object()).unwrap_or(raw);
    let mut known = false;
    for (key, value) in raw.fields() {
        match &*key {
            "candidates" => {
                known = true;
                value.elements().for_each(|candidate_raw| candidate(candidate_raw, answer));
            }
            "usageMetadata" | "usage_metadata" => {
                known = true;
                answer.counts.read(value);
                answer.set_tier(value.get("trafficType"));
            }
            "modelVersion" | "model_version" => answer.set_model(Some(value)),
            "responseId" | "response_id" => answer.set_id(Some(value)),
            "promptFeedback" => {
                known = true;
                if let Some(reason) = value.some("blockReason") {
                    answer.finish(reason);
                    answer.complete = true;
                }
            }
            "error" if !value.is_null() => known |= error::read(raw, answer),
            "totalTokens" | "total_tokens" => {
                known = true;
                answer.counts.input = value.u64();
            }
            "cachedContentTokenCount" => answer.counts.cache_read = value.u64(),
            "embedding" | "embeddings" | "predictions" | "name" | "tokensInfo" => known = true,
            _ => {}
        }
    }
    answer.understood |= known;
    answer.misshapen |= !known && !error::read(raw, answer);
}

fn candidate(raw: Raw<'_>, answer: &mut Answer) {
    let index = raw.get("index").and_then(Raw::u64).unwrap_or(0);
    let choice = answer.choice(index);
    if let Some(content) = raw.some("content") {
        let mut draft = Draft::new(Role::Assistant);
        if content.get("parts").is_some() {
            read_content(content, &mut draft);
        }
        append(choice, draft);
    }
    if let Some(reason) = raw.some("finishReason").or_else(|| raw.some("finish_reason")) {
        choice.finish(reason);
        answer.complete = true;
    }
}

/// Texts join the text under way, everything else stands alone.
fn append(choice: &mut Choice, draft: Draft) {
    let (pieces, digests) = draft.into_parts();
    let mut digests = digests.into_iter();
    for content in pieces {
        match content {
            Content::Text { text } => choice.append_text(&text),
            Content::Thinking { text } => choice.append_thinking(&text),
            other => {
                let mut whole = Draft::new(Role::Assistant);
                let inline = matches!(&other, Content::Media { size, .. } if *size > 0);
                whole.push_with_digest(other, if inline { digests.next() } else { None });
                choice.append_whole(whole);
            }
        }
    }
}

/// The results that a client of Gemini Live sends.
pub(crate) fn tool_response(raw: Raw<'_>) -> Draft {
    let mut draft = Draft::new(Role::Tool);
    let list = raw.get("functionResponses").or_else(|| raw.get("function_responses"));
    list.into_iter().flat_map(Raw::elements).for_each(|result| draft.push(function_response(result)));
    draft
}

/// The decoder of Gemini Live's server messages.
#[derive(Debug, Default)]
pub(crate) struct Live;

impl Wire for Live {
    /// A WebSocket has no request body: the session describes its calls.
    fn request(&mut self, body: &mut Body<'_>, _call: &mut Call) -> bool {
        body.raw().bytes().is_empty()
    }

    fn event(&mut self, event: Event<'_>, answer: &mut Answer) {
        for (key, value) in event.data.fields() {
            match &*key {
                "serverContent" | "server_content" => server_content(value, answer),
                "toolCall" | "tool_call" => {
                    let calls = value.get("functionCalls").or_else(|| value.get("function_calls"));
                    for call in calls.into_iter().flat_map(Raw::elements) {
                        let mut draft = Draft::new(Role::Assistant);
                        draft.push(Content::ToolCall(function_call(call)));
                        answer.main().append_whole(draft);
                    }
                    answer.complete = true;
                }
                "usageMetadata" | "usage_metadata" => answer.counts.read(value),
                "error" => {
                    error::read(event.data, answer);
                }
                _ => {}
            }
        }
        answer.understood |= event.data.is_object();
    }

    fn whole(&mut self, body: Raw<'_>, answer: &mut Answer) {
        self.event(Event { name: "", data: body }, answer);
    }
}

fn server_content(raw: Raw<'_>, answer: &mut Answer) {
    for (key, value) in raw.fields() {
        match &*key {
            "modelTurn" | "model_turn" => {
                let mut draft = Draft::new(Role::Assistant);
                read_content(value, &mut draft);
                append(answer.main(), draft);
            }
            "outputTranscription" | "output_transcription" => {
                value.str_of("text").iter().for_each(|text| answer.main().append_text(text));
            }
            "turnComplete" | "turn_complete" => answer.complete = true,
            "interrupted" if value.bool() == Some(true) => answer.finish_as("interrupted"),
            _ => {}
        }
    }
}

/// The decoder of the Interactions API.
#[derive(Debug, Default)]
pub(crate) struct Interactions;

impl Wire for Interactions {
    fn request(&mut self, body: &mut Body<'_>, call: &mut Call) -> bool {
        call.operation = Operation::GenerateContent;
        call.request_model = body.string("model").or_else(|| body.string("agent"));
        call.stream = body.get("stream").and_then(Raw::bool).unwrap_or(false);
        call.previous_response_id = body.string("previous_interaction_id");
        call.parameters = parameters(body, &["model", "input", "system_instruction", "tools", "stream"]);
        call.tools_offered = body.tools("tools", |list| list.elements().map(interaction_tool).collect());
        call.messages = body.whole("system_instruction", |value| {
            let mut draft = Draft::new(Role::System);
            read_content(value, &mut draft);
            vec![draft]
        });
        let input = body.get("input");
        let turns = input.is_some_and(|input| input.elements().next().is_some_and(|first| first.get("role").is_some()));
        if turns {
            call.messages.extend(body.messages("input", |raw| Some(turn(raw))));
        } else {
            call.messages.extend(body.whole("input", |value| {
                let mut draft = Draft::new(Role::User);
                steps(value, &mut draft);
                vec![draft]
            }));
        }
        input.is_some()
    }

    fn event(&mut self, event: Event<'_>, answer: &mut Answer) {
        let data = event.data;
        let kind = data.str_of("event_type").unwrap_or(Cow::Borrowed(event.name));
        let index = data.get("index").and_then(Raw::u64).unwrap_or(0);
        answer.understood |=
            kind.starts_with("interaction.") || kind.starts_with("step.") || kind.starts_with("content.");
        match &*kind {
            "step.start" | "content.start" => {
                let step = data.some("step").or_else(|| data.some("content"));
                step.into_iter().for_each(|step| step_start(index, step, answer));
            }
            "step.delta" | "content.delta" => {
                data.some("delta").into_iter().for_each(|delta| step_delta(index, delta, answer));
            }
            "error" => {
                error::read(data, answer);
            }
            _ => {
                if let Some(interaction) = data.some("interaction") {
                    interaction_head(interaction, answer);
                    answer.complete |= kind.ends_with("completed") || kind.ends_with("complete");
                }
            }
        }
    }

    fn whole(&mut self, body: Raw<'_>, answer: &mut Answer) {
        interaction_head(body, answer);
        let list = body.get("steps").or_else(|| body.get("outputs"));
        let known = list.is_some() || body.get("status").is_some();
        answer.understood |= known;
        answer.misshapen |= !known && !error::read(body, answer);
        answer.complete |= known;
        let mut draft = Draft::new(Role::Assistant);
        list.into_iter().for_each(|list| steps(list, &mut draft));
        answer.main().whole(0, draft);
    }
}

fn interaction_tool(raw: Raw<'_>) -> ToolOffered {
    let mut tool = declaration(raw);
    if tool.name.is_empty() {
        tool.name = raw.get("type").and_then(Raw::string).unwrap_or_default();
    }
    tool
}

fn turn(raw: Raw<'_>) -> Draft {
    let mut draft = Draft::new(parts::role(&raw.str_of("role").unwrap_or(Cow::Borrowed("user"))));
    raw.get("content").into_iter().for_each(|content| steps(content, &mut draft));
    draft
}

/// Contents and steps of interactions: texts, thoughts, calls and results.
fn steps(raw: Raw<'_>, draft: &mut Draft) {
    match raw.kind() {
        Kind::String => raw.string().into_iter().for_each(|text| draft.text(text)),
        Kind::Array => raw.elements().for_each(|element| step(element, draft)),
        Kind::Object => step(raw, draft),
        _ => {}
    }
}

fn step(raw: Raw<'_>, draft: &mut Draft) {
    match raw.str_of("type").as_deref() {
        Some("model_output" | "user_input") => {
            raw.get("content").into_iter().for_each(|content| parts::content(content, draft))
        }
        Some("thought") => {
            let text = raw.get("summary").map(parts::result_text).or_else(|| raw.get("text").and_then(Raw::string));
            match text {
                Some(text) => draft.thinking(text),
                None => draft.push(Content::RedactedThinking),
            }
        }
        Some("function_call") => draft.push(Content::ToolCall(function_call(raw))),
        Some("function_result") => draft.push(Content::ToolResult {
            id: raw.get("call_id").and_then(Raw::string).unwrap_or_default(),
            name: raw.get("name").and_then(Raw::string),
            text: raw.get("result").map(parts::result_text).unwrap_or_default(),
            is_error: raw.get("is_error").and_then(Raw::bool).unwrap_or(false),
        }),
        _ => parts::part(raw, draft),
    }
}

fn interaction_head(raw: Raw<'_>, answer: &mut Answer) {
    answer.set_id(raw.get("id"));
    answer.set_model(raw.get("model"));
    raw.some("status")
        .filter(|status| status.text().as_deref() != Some("in_progress"))
        .into_iter()
        .for_each(|status| answer.finish(status));
    raw.some("usage").into_iter().for_each(|usage| answer.counts.read(usage));
    if raw.some("error").is_some() {
        error::read(raw, answer);
    }
}

fn step_start(index: u64, raw: Raw<'_>, answer: &mut Answer) {
    let choice = answer.main();
    match raw.str_of("type").as_deref() {
        Some("function_call") => {
            choice.mark_token();
            if let Some(tool) = choice.tool(index) {
                tool.id = raw.get("id").and_then(Raw::string).unwrap_or_default();
                tool.name = raw.get("name").and_then(Raw::string).unwrap_or_default();
                tool.value = raw.some("arguments").map(arguments_of);
            }
        }
        Some("text") => raw.str_of("text").iter().for_each(|text| choice.text(index, text)),
        _ => {}
    }
}

fn step_delta(index: u64, raw: Raw<'_>, answer: &mut Answer) {
    let choice = answer.main();
    match raw.str_of("type").as_deref() {
        Some("text") => raw.str_of("text").iter().for_each(|text| choice.text(index, text)),
        Some("thought_summary") => {
            let text = raw.path(&["content", "text"]).or_else(|| raw.get("text")).and_then(Raw::text);
            text.iter().for_each(|text| choice.thinking(index, text));
        }
        Some("arguments_delta" | "function_call") => {
            let Some(given) = raw.some("arguments") else { return };
            choice.mark_token();
            if let Some(tool) = choice.tool(index) {
                match given.text() {
                    Some(text) => tool.text.push_str(&text),
                    None => tool.value = given.value(),
                }
            }
        }
        _ => {}
    }
}
