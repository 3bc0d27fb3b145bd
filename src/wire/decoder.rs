//! What a wire API's decoder is, and the one place that lists them.

use std::borrow::Cow;

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::http::Header;
use crate::wire::answer::Answer;
use crate::wire::json::Raw;
use crate::wire::request::Body;
use crate::wire::{Call, Finish, ToolOffered, WireApi};
use crate::wire::{
    anthropic, bedrock, cohere, gemini, mcp, ollama, openai_chat, openai_other, openai_responses, realtime,
};

/// One event of a streamed answer, whatever framed it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event<'a> {
    /// The event's name where the framing has one (SSE `event`, AWS `:event-type`); empty otherwise.
    pub(crate) name: &'a str,
    /// Its JSON.
    pub(crate) data: Raw<'a>,
}

/// A wire API's decoder: the state of one call's answer.
///
/// Nothing here fails: what cannot be understood is marked ([`Answer::misshapen`], or `false` from `request`).
pub(crate) trait Wire: Send {
    /// Reads the request's body into the call; false when it has not the API's shape.
    fn request(&mut self, body: &mut Body<'_>, call: &mut Call) -> bool;

    /// Reads one event of a streamed answer.
    fn event(&mut self, event: Event<'_>, answer: &mut Answer);

    /// Reads a whole answer.
    fn whole(&mut self, body: Raw<'_>, answer: &mut Answer);

    /// What the server asked of the client inside its answer since the last time (MCP).
    fn asked(&mut self) -> Vec<Bytes> {
        Vec::new()
    }

    /// Reads what the answer's headers say.
    fn head(&mut self, _headers: &[Header], _answer: &mut Answer) {}

    /// Whether a stream is one JSON per line, whatever its content type says.
    fn streams_lines(&self) -> bool {
        false
    }

    /// Whether an answer that is no JSON is in order (audio).
    fn takes_opaque(&self) -> bool {
        false
    }
}

/// A fresh decoder.
pub(crate) fn decoder(api: WireApi) -> Box<dyn Wire> {
    match api {
        WireApi::AnthropicMessages => Box::<anthropic::Messages>::default(),
        WireApi::OpenAiChat => Box::<openai_chat::Chat>::default(),
        WireApi::OpenAiResponses => Box::<openai_responses::Responses>::default(),
        WireApi::OpenAiCompletions => Box::<openai_other::Completions>::default(),
        WireApi::OpenAiEmbeddings => Box::<openai_other::Embeddings>::default(),
        WireApi::OpenAiImages | WireApi::OpenAiAudio | WireApi::OpenAiModerations => {
            Box::<openai_other::Media>::default()
        }
        WireApi::OpenAiRealtime => Box::<realtime::Realtime>::default(),
        WireApi::GeminiGenerateContent => Box::<gemini::Generate>::default(),
        WireApi::GeminiLive => Box::<gemini::Live>::default(),
        WireApi::GeminiInteractions => Box::<gemini::Interactions>::default(),
        WireApi::BedrockInvoke => Box::<bedrock::Invoke>::default(),
        WireApi::BedrockConverse => Box::<bedrock::Converse>::default(),
        WireApi::OllamaChat | WireApi::OllamaGenerate | WireApi::OllamaEmbed => Box::<ollama::Ollama>::default(),
        WireApi::CohereChat | WireApi::CohereEmbed | WireApi::CohereRerank => Box::<cohere::Cohere>::default(),
        WireApi::Mcp => Box::<mcp::Mcp>::default(),
    }
}

/// The request's parameters as sent: every top-level field but those named.
pub(crate) fn parameters(body: &Body<'_>, except: &[&str]) -> Map<String, Value> {
    body.fields()
        .filter(|(key, _)| !except.contains(key))
        .filter_map(|(key, value)| Some((key.to_owned(), value.value()?)))
        .collect()
}

/// Tools as Anthropic, OpenAI Chat and OpenAI Responses write them; built-in ones go by their type.
pub(crate) fn tools(list: Raw<'_>) -> Vec<ToolOffered> {
    list.elements().map(tool).collect()
}

fn tool(raw: Raw<'_>) -> ToolOffered {
    let inner = raw.some("function").or_else(|| raw.some("custom")).filter(|inner| inner.is_object()).unwrap_or(raw);
    let mut tool = ToolOffered::default();
    for (key, value) in inner.fields() {
        match &*key {
            "name" => tool.name = value.string().unwrap_or_default(),
            "description" => tool.description = value.string(),
            "parameters"
            | "input_schema"
            | "inputSchema"
            | "parametersJsonSchema"
            | "parameter_definitions"
            | "format" => {
                tool.schema = value.value();
            }
            _ => {}
        }
    }
    if tool.name.is_empty() {
        let label = raw.str_of("server_label").or_else(|| raw.str_of("type")).unwrap_or(Cow::Borrowed(""));
        tool.name = label.into_owned();
    }
    tool
}

/// The finish reason, normalised.
pub(crate) fn finish(reason: &str) -> Finish {
    match reason.to_ascii_lowercase().as_str() {
        "end_turn" | "stop" | "stop_sequence" | "complete" | "completed" | "finished" | "eos" | "eos_token"
        | "done" | "finish" => Finish::Stop,
        "tool_use" | "tool_calls" | "tool_call" | "function_call" | "requires_action" => Finish::ToolCalls,
        "max_tokens"
        | "length"
        | "max_output_tokens"
        | "model_context_window_exceeded"
        | "incomplete"
        | "model_length" => Finish::Length,
        "content_filter"
        | "content_filtered"
        | "refusal"
        | "safety"
        | "recitation"
        | "blocklist"
        | "language"
        | "prohibited_content"
        | "spii"
        | "image_safety"
        | "guardrail_intervened"
        | "error_toxic"
        | "sensitive"
        | "image_prohibited_content"
        | "image_recitation" => Finish::ContentFilter,
        "pause_turn" => Finish::Pause,
        "error"
        | "failed"
        | "malformed_function_call"
        | "unexpected_tool_call"
        | "cancelled"
        | "error_limit"
        | "malformed_model_output"
        | "malformed_tool_use"
        | "too_many_tool_calls" => Finish::Error,
        _ => Finish::Other,
    }
}
