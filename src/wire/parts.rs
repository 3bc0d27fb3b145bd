//! Content parts of messages: what Anthropic, OpenAI Chat and OpenAI Responses put into `content`.
//!
//! One reader for the three, because their part types do not collide and proxies mix them.

use std::borrow::Cow;

use crate::wire::answer::arguments_of;
use crate::wire::json::{Kind, Raw};
use crate::wire::message::Draft;
use crate::wire::{Content, Role, ToolCall};

/// The role as sent; unknown ones are the user's.
pub(crate) fn role(name: &str) -> Role {
    match name {
        "system" | "developer" => Role::System,
        "assistant" | "model" | "chatbot" | "CHATBOT" => Role::Assistant,
        "tool" | "function" | "ipython" => Role::Tool,
        _ => Role::User,
    }
}

/// Reads a `content` value (text, or parts) into a message.
pub(crate) fn content(raw: Raw<'_>, draft: &mut Draft) {
    match raw.kind() {
        Kind::String => push_text(raw, draft),
        Kind::Array => raw.elements().for_each(|element| part(element, draft)),
        Kind::Object => part(raw, draft),
        _ => {}
    }
}

fn push_text(raw: Raw<'_>, draft: &mut Draft) {
    if let Some(text) = raw.string().filter(|text| !text.is_empty()) {
        draft.text(text);
    }
}

/// Reads one part.
pub(crate) fn part(raw: Raw<'_>, draft: &mut Draft) {
    if raw.kind() == Kind::String {
        return push_text(raw, draft);
    }
    let kind = raw.str_of("type").unwrap_or(Cow::Borrowed(""));
    match &*kind {
        "text" | "input_text" | "output_text" | "summary_text" => {
            raw.get("text").into_iter().for_each(|text| push_text(text, draft));
        }
        "thinking" | "reasoning" | "reasoning_text" => thinking(raw, draft),
        "redacted_thinking" | "reasoning.encrypted" => draft.push(Content::RedactedThinking),
        "tool_use" | "server_tool_use" | "mcp_tool_use" | "tool-call" => {
            draft.push(Content::ToolCall(tool_use(raw, &*kind != "tool_use")));
        }
        "refusal" => {
            let text = raw.get("refusal").or_else(|| raw.get("text")).and_then(Raw::string).unwrap_or_default();
            draft.push(Content::Refusal { text });
        }
        "image" | "document" => source(raw, &kind, draft),
        "image_url" | "video_url" | "audio_url" | "input_image" => url(raw, &kind, draft),
        "input_audio" | "audio" | "output_audio" => audio(raw, draft),
        "file" | "input_file" => file(raw, draft),
        kind if kind == "tool_result" || kind.ends_with("_tool_result") => draft.push(tool_result(raw)),
        "" if raw.get("text").is_some() => raw.get("text").into_iter().for_each(|text| push_text(text, draft)),
        _ => draft.push(other(raw)),
    }
}

pub(crate) fn other(raw: Raw<'_>) -> Content {
    let json = raw.value().unwrap_or_else(|| serde_json::Value::String(raw.display()));
    Content::Other { json }
}

/// Anthropic's `thinking` is text; Mistral's is a list of text parts; others say `text`, `reasoning` or `summary`.
fn thinking(raw: Raw<'_>, draft: &mut Draft) {
    let given = ["thinking", "text", "reasoning", "content", "summary"].into_iter().find_map(|key| raw.some(key));
    draft.thinking(given.map(flat_text).unwrap_or_default());
}

/// A text, or a list of texts and text parts, as one text. Looks one level deep: data must not choose the depth.
fn flat_text(raw: Raw<'_>) -> String {
    match raw.kind() {
        Kind::Array => raw.elements().filter_map(|part| part.string().or_else(|| part.get("text")?.string())).collect(),
        _ => raw.string().or_else(|| raw.get("text")?.string()).unwrap_or_default(),
    }
}

pub(crate) fn tool_use(raw: Raw<'_>, server_side: bool) -> ToolCall {
    let mut call = ToolCall { server_side, ..ToolCall::default() };
    for (key, value) in raw.fields() {
        match &*key {
            "id" | "toolUseId" | "toolCallId" => call.id = value.string().unwrap_or_default(),
            "name" | "toolName" => call.name = value.string().unwrap_or_default(),
            "input" | "args" | "arguments" => call.arguments = arguments_of(value),
            _ => {}
        }
    }
    if call.arguments.is_null() {
        call.arguments = serde_json::Value::Object(serde_json::Map::new());
    }
    call
}

fn tool_result(raw: Raw<'_>) -> Content {
    let (mut id, mut text, mut is_error) = (String::new(), String::new(), false);
    for (key, value) in raw.fields() {
        match &*key {
            "tool_use_id" => id = value.string().unwrap_or_default(),
            "content" => text = result_text(value),
            "is_error" => is_error = value.bool().unwrap_or(false),
            _ => {}
        }
    }
    Content::ToolResult { id, name: None, text, is_error }
}

/// A tool's result as text: text parts joined by line ends, other parts as JSON (inline data left out).
pub(crate) fn result_text(raw: Raw<'_>) -> String {
    match raw.kind() {
        Kind::String => raw.string().unwrap_or_default(),
        Kind::Array => {
            let parts: Vec<String> = raw.elements().map(result_part).collect();
            parts.join("\n")
        }
        Kind::Null | Kind::Bad => String::new(),
        _ => result_part(raw),
    }
}

fn result_part(raw: Raw<'_>) -> String {
    let text = if raw.kind() == Kind::String { raw.string() } else { raw.get("text").and_then(Raw::string) };
    if let Some(text) = text {
        return text;
    }
    let kind = raw.str_of("type").unwrap_or(Cow::Borrowed(""));
    let mut draft = Draft::new(Role::Tool);
    // Only media: anything else could hold results again, as deep as the data likes.
    match &*kind {
        "image" | "document" => source(raw, &kind, &mut draft),
        "image_url" | "input_image" => url(raw, &kind, &mut draft),
        "audio" | "input_audio" => audio(raw, &mut draft),
        _ => {}
    }
    match draft.content() {
        [Content::Media { kind, media_type, size, .. }] => {
            format!("[{kind} {}, {size} bytes of base64]", media_type.as_deref().unwrap_or("of unknown type"))
        }
        _ => raw.display(),
    }
}

/// Anthropic's image or document.
fn source(raw: Raw<'_>, kind: &str, draft: &mut Draft) {
    let Some(source) = raw.some("source") else {
        return url(raw, kind, draft);
    };
    let media_type = source.str_of("media_type").map(Cow::into_owned);
    let reference = source.str_of("url").or_else(|| source.str_of("file_id")).map(Cow::into_owned);
    let data = source.get("data").map(inner_bytes).unwrap_or_default();
    draft.media(kind, media_type, reference, data);
}

/// OpenAI's `{"image_url":{"url":...}}`, or the URL as a string; a `data:` URL is inline data.
fn url(raw: Raw<'_>, kind: &str, draft: &mut Draft) {
    let what = match kind {
        "video_url" => "video",
        "audio_url" => "audio",
        _ => "image",
    };
    let field = raw.some("image_url").or_else(|| raw.some("video_url")).or_else(|| raw.some("audio_url"));
    let value = field.map(|field| field.get("url").unwrap_or(field));
    let value = value.or_else(|| raw.some("url")).or_else(|| raw.some("file_id")).or_else(|| raw.some("data"));
    let Some(bytes) = value.map(inner_bytes) else {
        return draft.push(other(raw));
    };
    match bytes.strip_prefix(b"data:") {
        Some(inline) => {
            let comma = inline.iter().position(|byte| *byte == b',').unwrap_or(0);
            let (head, data) = inline.split_at(comma);
            let media_type = head.split(|byte| *byte == b';').next().unwrap_or_default();
            let media_type = String::from_utf8_lossy(media_type).into_owned();
            draft.media(what, Some(media_type), None, data.strip_prefix(b",").unwrap_or(data));
        }
        None => {
            let reference = value.and_then(Raw::string);
            draft.media(what, None, reference, b"");
        }
    }
}

fn audio(raw: Raw<'_>, draft: &mut Draft) {
    if let Some(text) = raw.get("transcript").and_then(Raw::string) {
        return draft.text(text);
    }
    let audio = raw.some("input_audio").or_else(|| raw.some("audio")).unwrap_or(raw);
    let format = audio.str_of("format").or_else(|| audio.str_of("mimeType")).map(Cow::into_owned);
    let reference = audio.str_of("id").map(Cow::into_owned);
    draft.media("audio", format, reference, audio.get("data").map(inner_bytes).unwrap_or_default());
}

fn file(raw: Raw<'_>, draft: &mut Draft) {
    let file = raw.some("file").unwrap_or(raw);
    let reference = file
        .str_of("file_id")
        .or_else(|| file.str_of("file_url"))
        .or_else(|| file.str_of("filename"))
        .map(Cow::into_owned);
    draft.media("document", None, reference, file.get("file_data").map(inner_bytes).unwrap_or_default());
}

/// A string's bytes without their quotes, escapes left in: what base64 needs.
pub(crate) fn inner_bytes(raw: Raw<'_>) -> &[u8] {
    raw.bytes().strip_prefix(b"\"").and_then(|inner| inner.strip_suffix(b"\"")).unwrap_or_default()
}
