//! The call: one exchange that is an LLM API call, decoded. The words are those of OpenTelemetry's GenAI conventions.
//!
//! Only data and its accessors live here. Each wire API's decoder fills it; `turn`, `store` and `output` read it, and
//! know no vendor's JSON.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::event::{CloseHow, ConnId, Endpoint, Nanos, ProcId, Transport};
use crate::flaw::Flaw;
use crate::http::{Header, Protocol};

/// A call's id: a hash over its connection, its place on it and its start, so that a replay gives the same id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CallId(pub [u8; 16]);

/// A message's id: a hash over its canonical form ([`Message`]).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MessageHash(pub [u8; 16]);

fn hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

impl fmt::Debug for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

impl fmt::Display for MessageHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

impl fmt::Debug for MessageHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

/// Which wire API a call speaks. `as_str` is the name in output.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum WireApi {
    AnthropicMessages,
    OpenAiChat,
    OpenAiResponses,
    OpenAiCompletions,
    OpenAiEmbeddings,
    OpenAiImages,
    OpenAiAudio,
    OpenAiModerations,
    OpenAiRealtime,
    GeminiGenerateContent,
    GeminiLive,
    GeminiInteractions,
    BedrockInvoke,
    BedrockConverse,
    OllamaChat,
    OllamaGenerate,
    OllamaEmbed,
    CohereChat,
    CohereEmbed,
    CohereRerank,
    Mcp,
}

impl WireApi {
    /// The name in output, API and console.
    pub fn as_str(self) -> &'static str {
        match self {
            WireApi::AnthropicMessages => "anthropic.messages",
            WireApi::OpenAiChat => "openai.chat",
            WireApi::OpenAiResponses => "openai.responses",
            WireApi::OpenAiCompletions => "openai.completions",
            WireApi::OpenAiEmbeddings => "openai.embeddings",
            WireApi::OpenAiImages => "openai.images",
            WireApi::OpenAiAudio => "openai.audio",
            WireApi::OpenAiModerations => "openai.moderations",
            WireApi::OpenAiRealtime => "openai.realtime",
            WireApi::GeminiGenerateContent => "gemini.generate_content",
            WireApi::GeminiLive => "gemini.live",
            WireApi::GeminiInteractions => "gemini.interactions",
            WireApi::BedrockInvoke => "bedrock.invoke",
            WireApi::BedrockConverse => "bedrock.converse",
            WireApi::OllamaChat => "ollama.chat",
            WireApi::OllamaGenerate => "ollama.generate",
            WireApi::OllamaEmbed => "ollama.embed",
            WireApi::CohereChat => "cohere.chat",
            WireApi::CohereEmbed => "cohere.embed",
            WireApi::CohereRerank => "cohere.rerank",
            WireApi::Mcp => "mcp",
        }
    }
}

/// What the call asked for (`gen_ai.operation.name`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Operation {
    Chat,
    GenerateContent,
    TextCompletion,
    Embeddings,
    Rerank,
    ImageGeneration,
    Audio,
    Moderation,
    CountTokens,
    Batch,
    Realtime,
    /// Fetches an answer that the provider keeps (a background response).
    Retrieve,
    /// An MCP method that is not a tool execution (initialize, tools/list, ...).
    Mcp,
    /// MCP `tools/call`.
    ExecuteTool,
}

impl Operation {
    /// The name in output, API and console.
    pub fn as_str(self) -> &'static str {
        match self {
            Operation::Chat => "chat",
            Operation::GenerateContent => "generate_content",
            Operation::TextCompletion => "text_completion",
            Operation::Embeddings => "embeddings",
            Operation::Rerank => "rerank",
            Operation::ImageGeneration => "image_generation",
            Operation::Audio => "audio",
            Operation::Moderation => "moderation",
            Operation::CountTokens => "count_tokens",
            Operation::Batch => "batch",
            Operation::Realtime => "realtime",
            Operation::Retrieve => "retrieve",
            Operation::Mcp => "mcp",
            Operation::ExecuteTool => "execute_tool",
        }
    }

    /// True for operations that are part of a conversation (everything else never belongs to a turn).
    pub fn is_conversation(self) -> bool {
        matches!(self, Operation::Chat | Operation::GenerateContent | Operation::TextCompletion)
    }
}

/// Who speaks in a message.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// System or developer instructions.
    System,
    /// The user, or the agent on the user's behalf.
    User,
    /// The model.
    Assistant,
    /// Results of tools.
    Tool,
}

/// One piece of a message's content.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Content {
    /// Text.
    Text {
        /// The text.
        text: String,
    },
    /// Reasoning that is readable.
    Thinking {
        /// The text or summary.
        text: String,
    },
    /// Reasoning that is encrypted or withheld.
    RedactedThinking,
    /// The model asks for a tool.
    ToolCall(ToolCall),
    /// A tool's answer.
    ToolResult {
        /// The tool call's id; empty where the API has none.
        id: String,
        /// The tool's name where the API repeats it.
        name: Option<String>,
        /// The result as text (text parts joined; other parts as JSON).
        text: String,
        /// True when the client marked it as an error.
        is_error: bool,
    },
    /// An image, sound or document.
    Media {
        /// `image`, `audio`, `video`, `document`.
        kind: String,
        /// Its media type or format, where said.
        media_type: Option<String>,
        /// A URL or file id where it is by reference.
        reference: Option<String>,
        /// Size of the inline data as sent (base64 characters).
        size: u64,
    },
    /// A refusal of the model.
    Refusal {
        /// Its text.
        text: String,
    },
    /// Anything else, kept as sent.
    Other {
        /// The JSON as sent.
        json: Value,
    },
}

/// What the model asks a tool to do.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct ToolCall {
    /// The id as sent; empty where the API has none (Gemini).
    pub id: String,
    /// The tool's name.
    pub name: String,
    /// The arguments as an object; a JSON string when what was sent does not parse (cut in the middle).
    pub arguments: Value,
    /// True when the provider runs the tool itself (web search, code interpreter).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub server_side: bool,
}

/// A tool offered to the model.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct ToolOffered {
    /// Its name (or type, for a provider's built-in tool).
    pub name: String,
    /// Its description.
    pub description: Option<String>,
    /// The schema of its arguments as sent.
    pub schema: Option<Value>,
}

/// One entry of a conversation, content-addressed.
///
/// `hash` is over the canonical form: role and contents without what clients move about between calls (cache markers,
/// key order, white space around text, tool-call ids, thinking). `wire::message` defines it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What.
    pub content: Vec<Content>,
    /// The content address.
    pub hash: MessageHash,
}

impl Message {
    /// All text parts joined by newlines.
    pub fn text(&self) -> String {
        let texts: Vec<&str> = self
            .content
            .iter()
            .filter_map(|content| match content {
                Content::Text { text } => Some(text.as_str()),
                _ => None,
            })
            .collect();
        texts.join("\n")
    }

    /// The tool calls in order.
    pub fn tool_calls(&self) -> impl Iterator<Item = &ToolCall> {
        self.content.iter().filter_map(|content| match content {
            Content::ToolCall(call) => Some(call),
            _ => None,
        })
    }
}

/// Tokens, in buckets that do not overlap; `None` is "not known", never 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Input tokens that were neither read from a cache nor written to one.
    pub input_uncached: Option<u64>,
    /// Input tokens read from a prompt cache.
    pub cache_read: Option<u64>,
    /// Input tokens written to a cache that lives five minutes (the default lifetime).
    pub cache_write_5m: Option<u64>,
    /// Input tokens written to a cache that lives an hour.
    pub cache_write_1h: Option<u64>,
    /// Output tokens that are not reasoning.
    pub output_text: Option<u64>,
    /// Output tokens of reasoning.
    pub output_reasoning: Option<u64>,
    /// All input tokens (the sum of the input buckets, or the total as sent where the split is unknown).
    pub input_total: Option<u64>,
    /// All output tokens.
    pub output_total: Option<u64>,
}

impl Usage {
    /// True when nothing is known.
    pub fn is_unknown(&self) -> bool {
        *self == Usage::default()
    }

    /// Adds bucket by bucket; unknown plus known is known.
    pub fn add(&mut self, other: &Usage) {
        fn sum(into: &mut Option<u64>, more: Option<u64>) {
            if let Some(more) = more {
                *into = Some(into.unwrap_or(0).saturating_add(more));
            }
        }
        sum(&mut self.input_uncached, other.input_uncached);
        sum(&mut self.cache_read, other.cache_read);
        sum(&mut self.cache_write_5m, other.cache_write_5m);
        sum(&mut self.cache_write_1h, other.cache_write_1h);
        sum(&mut self.output_text, other.output_text);
        sum(&mut self.output_reasoning, other.output_reasoning);
        sum(&mut self.input_total, other.input_total);
        sum(&mut self.output_total, other.output_total);
    }
}

/// Why a call failed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CallError {
    /// The provider's error type where sent (`overloaded_error`, `rate_limit_exceeded`, ...), else `http_<status>`,
    /// `reset`, `aborted`, `timeout`, `cut`.
    pub kind: String,
    /// The provider's sentence, or ours.
    pub message: String,
}

/// The finish reason, normalised.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// The model had said all (`end_turn`, `stop`, `STOP`, ...), a stop sequence included.
    Stop,
    /// It waits for tool results.
    ToolCalls,
    /// A token limit cut the answer.
    Length,
    /// A safety or content filter stopped it, or it refused.
    ContentFilter,
    /// The provider paused a long answer (`pause_turn`).
    Pause,
    /// It failed.
    Error,
    /// Something else.
    Other,
}

/// When things happened. All are event times.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Times {
    /// First byte of the request.
    pub request_first: Nanos,
    /// Last byte of the request.
    pub request_last: Option<Nanos>,
    /// The response's head.
    pub response_head: Option<Nanos>,
    /// The first content (text, thinking or tool-call) token of the answer; for an answer that is not streamed, its body's first byte.
    pub first_token: Option<Nanos>,
    /// The last byte of the response.
    pub last_byte: Option<Nanos>,
    /// Nanoseconds between one content event and the next, in order (streams only; bounded, see `wire`).
    pub token_gaps: Vec<u64>,
}

/// One half of the exchange as sent. Credentials are redacted by the store and the outputs, not here.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Half {
    /// The headers in order.
    pub headers: Vec<Header>,
    /// The body as sent, transfer framing taken off, content coding kept; for a WebSocket the messages of this call, one per line.
    pub body: Bytes,
    /// The whole body's size in bytes, also where `body` was cut by a bound.
    pub body_len: u64,
}

/// How far a call has come.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallState {
    /// The request is complete or under way, the answer is not.
    InProgress,
    /// Nothing more will come.
    Done,
}

/// One LLM API call.
#[derive(Clone, PartialEq, Debug)]
pub struct Call {
    /// The id.
    pub id: CallId,
    /// Which connection carried it.
    pub conn: ConnId,
    /// How far it has come.
    pub state: CallState,
    /// Who made it, where known.
    pub process: Option<ProcId>,
    /// The client's end, where known.
    pub client: Option<Endpoint>,
    /// The server's end, where known.
    pub server: Option<Endpoint>,
    /// How the plaintext was had.
    pub transport: Option<Transport>,
    /// What it was spoken in.
    pub protocol: Protocol,
    /// The method as sent.
    pub method: String,
    /// The target as sent (path and query).
    pub target: String,
    /// Host or `:authority` as sent.
    pub authority: Option<String>,
    /// The wire API.
    pub wire_api: WireApi,
    /// The provider (`gen_ai.provider.name`: `anthropic`, `openai`, `azure.ai.openai`, `gcp.gemini`, `aws.bedrock`, ...).
    pub provider: String,
    /// The server software where the bytes show it (`vllm`, `ollama`, `litellm`, `openrouter`, ...).
    pub server_kind: Option<String>,
    /// What was asked for.
    pub operation: Operation,
    /// The model asked for.
    pub request_model: Option<String>,
    /// The model that answered.
    pub response_model: Option<String>,
    /// The provider's id of the response.
    pub response_id: Option<String>,
    /// An earlier response that this call continues on the server's side (`previous_response_id`).
    pub previous_response_id: Option<String>,
    /// The conversation's id where the wire carries one (session headers, `metadata.user_id`, `conversation`, ...).
    pub conversation_hint: Option<String>,
    /// Request parameters as sent (temperature, max_tokens, ...): everything but model, messages and tools.
    pub parameters: Map<String, Value>,
    /// Whether a stream was asked for.
    pub stream: bool,
    /// The conversation as sent, system messages first.
    pub messages: Vec<Arc<Message>>,
    /// The tools offered; shared between the calls of a conversation, which offer the same ones again and again.
    pub tools_offered: Arc<[ToolOffered]>,
    /// The answer: one message per choice or candidate; the first is the main one.
    pub output: Vec<Message>,
    /// The tokens.
    pub usage: Usage,
    /// The service tier that the response names.
    pub service_tier: Option<String>,
    /// The finish reason as sent.
    pub finish_reason: Option<String>,
    /// The finish reason, normalised.
    pub finish: Option<Finish>,
    /// The HTTP status.
    pub status: Option<u16>,
    /// Why it failed; also set for an error inside a 200 stream.
    pub error: Option<CallError>,
    /// The times.
    pub times: Times,
    /// The request as sent.
    pub request: Half,
    /// The response as sent.
    pub response: Half,
    /// The answer's own end was seen (`[DONE]`, `message_stop`, `response.completed`). A client may leave the rest of the
    /// exchange unread for long, and go on with its next call meanwhile.
    pub answered: bool,
    /// How its connection ended, when that ended the call.
    pub ended_by: Option<CloseHow>,
    /// What was wrong, in order, each once.
    pub flaws: Vec<Flaw>,
}

impl Call {
    /// The tool calls of the main answer.
    pub fn tool_calls(&self) -> impl Iterator<Item = &ToolCall> {
        self.output.first().into_iter().flat_map(Message::tool_calls)
    }

    /// The text of the main answer.
    pub fn answer_text(&self) -> String {
        self.output.first().map(Message::text).unwrap_or_default()
    }

    /// A request header's value, ignoring case.
    pub fn request_header(&self, name: &str) -> Option<&str> {
        crate::http::header(&self.request.headers, name)
    }

    /// Time to the first content token, where one came.
    pub fn time_to_first_token(&self) -> Option<Nanos> {
        self.times.first_token.map(|at| at.since(self.times.request_first))
    }

    /// From the request's first byte to the response's last.
    pub fn duration(&self) -> Option<Nanos> {
        self.times.last_byte.map(|at| at.since(self.times.request_first))
    }

    /// Adds a flaw once.
    pub fn flaw(&mut self, flaw: Flaw) {
        if !self.flaws.contains(&flaw) {
            self.flaws.push(flaw);
        }
    }
}

/// What the wire stage hands on.
#[derive(Clone, PartialEq, Debug)]
pub enum CallUpdate {
    /// A call that is still under way: emitted when its request is understood, and now and then while its answer streams.
    Progress(Box<Call>),
    /// A call to which nothing more will come. Exactly one per call.
    Done(Box<Call>),
}
