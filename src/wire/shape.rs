//! What a body's shape says about its wire API, where the path does not: gateways with paths of their own, HTTP/2 met in
//! the middle, answers without their request.
//!
//! Strict on purpose: a request of some other application that happens to have a `model` is no LLM call.

use crate::http::{Header, header};
use crate::wire::json::{Kind, Raw};
use crate::wire::registry::{Match, Proof};
use crate::wire::{Operation, WireApi};

/// MCP's methods (the part before `/`, or the whole).
const MCP_METHODS: &[&str] = &[
    "tools/list",
    "tools/call",
    "resources/list",
    "resources/read",
    "resources/subscribe",
    "resources/unsubscribe",
    "resources/templates/list",
    "prompts/list",
    "prompts/get",
    "completion/complete",
    "logging/setLevel",
    "roots/list",
    "sampling/createMessage",
    "elicitation/create",
    "server/discover",
    "subscriptions/listen",
    "notifications/initialized",
    "notifications/cancelled",
    "notifications/progress",
    "notifications/message",
    "notifications/roots/list_changed",
    "notifications/tools/list_changed",
    "notifications/resources/list_changed",
    "notifications/resources/updated",
    "notifications/prompts/list_changed",
];

/// A match by shape alone.
pub(crate) fn matched(api: WireApi, operation: Operation) -> Match {
    Match { api, operation, model: None, stream: None, proof: Proof::Body }
}

/// What path and body say together: a rule that wants the body's word gets it, an unknown path takes the body's.
pub(crate) fn agree(rule: Option<Match>, shape: Option<Match>) -> Option<Match> {
    match (rule, shape) {
        (Some(rule), shape) if rule.proof == Proof::Path => Some(refined(rule, shape)),
        // The path says which of the APIs that share a shape it is.
        (Some(rule), Some(shape)) => Some(if alike(rule.api, shape.api) { rule } else { shape }),
        (Some(_), None) => None,
        (None, shape) => shape,
    }
}

fn refined(rule: Match, shape: Option<Match>) -> Match {
    match shape {
        Some(shape) if rule.api == WireApi::Mcp && shape.api == WireApi::Mcp => shape,
        _ => rule,
    }
}

/// APIs whose requests look the same.
fn alike(one: WireApi, other: WireApi) -> bool {
    let family = |api| match api {
        WireApi::OpenAiChat | WireApi::OllamaChat | WireApi::CohereChat => 1,
        WireApi::OpenAiCompletions | WireApi::OllamaGenerate => 2,
        other => 16 + other as u8,
    };
    one == other || family(one) == family(other)
}

/// What a request's body is; `None` for no LLM call as far as its shape tells.
pub(crate) fn of_request(content: &[u8], headers: &[Header]) -> Option<Match> {
    let raw = Raw::new(content);
    let body = if raw.is_array() { raw.elements().next()? } else { raw };
    if !body.is_object() {
        return None;
    }
    let seen = Seen::read(body);
    let api = seen.api(headers)?;
    let operation = match api {
        WireApi::GeminiGenerateContent => Operation::GenerateContent,
        WireApi::OpenAiCompletions => Operation::TextCompletion,
        WireApi::Mcp if seen.rpc_method.as_deref() == Some("tools/call") => Operation::ExecuteTool,
        WireApi::Mcp => Operation::Mcp,
        _ => Operation::Chat,
    };
    Some(matched(api, operation))
}

/// What a body's top level shows.
#[derive(Default)]
struct Seen {
    model: bool,
    chat_messages: bool,
    block_messages: bool,
    schema_tools: bool,
    converse_messages: bool,
    max_tokens: bool,
    system: bool,
    anthropic_version: bool,
    input: Option<Kind>,
    input_items: bool,
    responses_fields: bool,
    gemini_contents: bool,
    converse_fields: bool,
    prompt: bool,
    sampling: bool,
    rpc: bool,
    rpc_method: Option<String>,
    protocol_version: bool,
}

impl Seen {
    fn read(body: Raw<'_>) -> Seen {
        let mut seen = Seen::default();
        for (key, value) in body.fields() {
            match &*key {
                "model" | "model_id" => seen.model = value.kind() == Kind::String,
                "messages" => seen.messages(value),
                "tools" => {
                    seen.schema_tools = value.elements().next().is_some_and(|tool| tool.get("input_schema").is_some());
                }
                "max_tokens" | "max_completion_tokens" => {
                    seen.max_tokens = value.kind() == Kind::Number;
                    seen.sampling = true;
                }
                "system" => seen.system = true,
                "anthropic_version" => seen.anthropic_version = true,
                "input" => {
                    seen.input = Some(value.kind());
                    seen.input_items = value.elements().next().is_some_and(|item| {
                        item.some("role").is_some() || item.str_of("type").is_some_and(|kind| kind != "text")
                    });
                }
                "instructions"
                | "previous_response_id"
                | "include"
                | "max_output_tokens"
                | "store"
                | "reasoning"
                | "truncation" => {
                    seen.responses_fields = true;
                }
                "contents" => seen.gemini_contents = has_parts(value),
                "request" => seen.gemini_contents |= value.get("contents").is_some_and(has_parts),
                "inferenceConfig" | "toolConfig" | "additionalModelRequestFields" => seen.converse_fields = true,
                "prompt" => seen.prompt = matches!(value.kind(), Kind::String | Kind::Array),
                "temperature" | "top_p" | "n_predict" | "stop" | "logprobs" | "suffix" => seen.sampling = true,
                "jsonrpc" => seen.rpc = value.bytes() == b"\"2.0\"",
                "method" => seen.rpc_method = value.string(),
                "params" => seen.protocol_version = value.get("protocolVersion").is_some(),
                _ => {}
            }
        }
        seen
    }

    fn messages(&mut self, messages: Raw<'_>) {
        let Some(first) = messages.elements().next() else { return };
        let role = first
            .str_of("role")
            .is_some_and(|role| matches!(&*role, "user" | "assistant" | "system" | "developer" | "tool" | "function"));
        let content = first.get("content");
        if !role || (content.is_none() && first.get("tool_calls").is_none()) {
            return;
        }
        self.chat_messages = true;
        let block = content.and_then(|content| content.elements().next());
        self.converse_messages = block.is_some_and(|block| block.get("type").is_none() && block.is_object());
        // Only Anthropic's messages carry tools' calls and results among their contents; the first may be plain text.
        let blocks = messages.elements().take(32).filter_map(|message| message.get("content"));
        let mut kinds = blocks.flat_map(|content| content.elements().take(32)).filter_map(|block| block.str_of("type"));
        self.block_messages = kinds.any(|kind| matches!(&*kind, "tool_use" | "tool_result"));
    }

    fn api(&self, headers: &[Header]) -> Option<WireApi> {
        if self.rpc {
            let method = self.rpc_method.as_deref()?;
            let known = MCP_METHODS.contains(&method) || (method == "initialize" && self.protocol_version);
            return known.then_some(WireApi::Mcp);
        }
        let anthropic = header(headers, "anthropic-version").is_some()
            || self.anthropic_version
            || self.system
            || self.block_messages
            || self.schema_tools;
        if self.chat_messages && self.max_tokens && anthropic && (self.model || self.anthropic_version) {
            return Some(WireApi::AnthropicMessages);
        }
        if self.chat_messages && self.model {
            return Some(WireApi::OpenAiChat);
        }
        if self.converse_messages && (self.converse_fields || self.system) {
            return Some(WireApi::BedrockConverse);
        }
        if self.gemini_contents {
            return Some(WireApi::GeminiGenerateContent);
        }
        if self.model && (self.input_items || (self.input == Some(Kind::String) && self.responses_fields)) {
            return Some(WireApi::OpenAiResponses);
        }
        (self.prompt && self.sampling && self.model).then_some(WireApi::OpenAiCompletions)
    }
}

fn has_parts(contents: Raw<'_>) -> bool {
    contents.elements().next().is_some_and(|first| first.get("parts").is_some_and(Raw::is_array))
}

/// What an answer is whose request was not seen: by its first event, or as a whole.
pub(crate) fn of_response(content: &[u8]) -> Option<Match> {
    let start = content.trim_ascii_start();
    if start.starts_with(b"{") || start.starts_with(b"[") {
        let raw = Raw::new(start);
        let first = if raw.is_array() { raw.elements().next()? } else { raw };
        return of_answer(first);
    }
    let lines = content.split(|byte| *byte == b'\n' || *byte == b'\r');
    let mut events = lines.filter_map(|line| line.strip_prefix(b"data:")).map(Raw::new).filter(|raw| raw.is_object());
    events.next().and_then(of_answer)
}

/// What one JSON of an answer is.
pub(crate) fn of_answer(raw: Raw<'_>) -> Option<Match> {
    let kind = raw.str_of("type").unwrap_or_default();
    let object = raw.str_of("object").unwrap_or_default();
    let (api, operation) = match (&*kind, &*object) {
        ("message", _) if raw.get("stop_reason").is_some() => (WireApi::AnthropicMessages, Operation::Chat),
        ("message_start" | "content_block_start" | "content_block_delta" | "message_delta", _) => {
            (WireApi::AnthropicMessages, Operation::Chat)
        }
        (_, "chat.completion" | "chat.completion.chunk") => (WireApi::OpenAiChat, Operation::Chat),
        (_, "text_completion") => (WireApi::OpenAiCompletions, Operation::TextCompletion),
        (_, "response") => (WireApi::OpenAiResponses, Operation::Chat),
        (kind, _) if kind.starts_with("response.") => (WireApi::OpenAiResponses, Operation::Chat),
        _ if raw.get("candidates").is_some_and(Raw::is_array) && raw.get("usageMetadata").is_some() => {
            (WireApi::GeminiGenerateContent, Operation::GenerateContent)
        }
        _ if raw.get("model").is_some() && raw.get("done").is_some() && raw.get("message").is_some() => {
            (WireApi::OllamaChat, Operation::Chat)
        }
        _ => return None,
    };
    Some(matched(api, operation))
}

/// What the first message of a WebSocket says.
pub(crate) fn of_message(payload: &[u8]) -> Option<Match> {
    let raw = Raw::new(payload);
    let kind = raw.str_of("type").unwrap_or_default();
    let api = match &*kind {
        "response.create" if raw.get("model").is_some() || raw.get("input").is_some() => WireApi::OpenAiResponses,
        "session.update" | "session.created" | "conversation.item.create" => WireApi::OpenAiRealtime,
        kind if kind.starts_with("input_audio_buffer.") => WireApi::OpenAiRealtime,
        "response.created" if raw.path(&["response", "model"]).is_some() => WireApi::OpenAiResponses,
        _ if raw.path(&["setup", "model"]).is_some() => WireApi::GeminiLive,
        _ => return None,
    };
    Some(matched(api, if api == WireApi::OpenAiResponses { Operation::Chat } else { Operation::Realtime }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn api(text: &str) -> Option<WireApi> {
        of_request(text.as_bytes(), &[]).map(|found| found.api)
    }

    #[test]
    fn llm_shapes_are_recognised() {
        let cases = [
            (
                r#"{"model":"m","max_tokens":1,"system":"s","messages":[{"role":"user","content":"x"}]}"#,
                WireApi::AnthropicMessages,
            ),
            (r#"{"model":"m","messages":[{"role":"user","content":"x"}]}"#, WireApi::OpenAiChat),
            (r#"{"model":"m","input":[{"role":"user","content":"x"}]}"#, WireApi::OpenAiResponses),
            (r#"{"model":"m","input":"x","instructions":"i"}"#, WireApi::OpenAiResponses),
            (r#"{"contents":[{"parts":[{"text":"x"}]}]}"#, WireApi::GeminiGenerateContent),
            (r#"{"model":"m","request":{"contents":[{"role":"user","parts":[]}]}}"#, WireApi::GeminiGenerateContent),
            (r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#, WireApi::Mcp),
            (
                r#"{"messages":[{"role":"user","content":[{"text":"x"}]}],"inferenceConfig":{}}"#,
                WireApi::BedrockConverse,
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(api(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn anthropic_is_known_by_its_tools_and_their_results() {
        for text in [
            r#"{"model":"m","max_tokens":9,"tools":[{"name":"t","input_schema":{"type":"object"}}],"messages":[{"role":"user","content":"hi"}]}"#,
            r#"{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"hi"},{"role":"assistant","content":[{"type":"text","text":"x"},{"type":"tool_use","id":"1","name":"t","input":{}}]}]}"#,
        ] {
            assert_eq!(api(text), Some(WireApi::AnthropicMessages), "{text}");
        }
        let chat = r#"{"model":"m","max_tokens":9,"tools":[{"type":"function","function":{"name":"t"}}],"messages":[{"role":"user","content":[{"type":"text","text":"hi"}]},{"role":"assistant","tool_calls":[]}]}"#;
        assert_eq!(api(chat), Some(WireApi::OpenAiChat));
    }

    #[test]
    fn ordinary_traffic_is_not_recognised() {
        for text in [
            "",
            "[]",
            "{}",
            r#"{"model":"T","year":1908}"#,
            r#"{"messages":[{"role":"admin","content":"x"}],"model":"m"}"#,
            r#"{"messages":["x"],"model":"m"}"#,
            r#"{"messages":[{"role":"user","content":"x"}]}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"eth_call","params":[]}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"rootUri":"x"}}"#,
            r#"{"model":"m","input":["a","b"]}"#,
            r#"{"prompt":"x"}"#,
            r#"{"contents":[{"name":"x"}]}"#,
        ] {
            assert_eq!(api(text), None, "{text}");
        }
    }
}
