//! OpenAI Chat Completions, and everything that speaks like it: Azure, Mistral, DeepSeek, xAI, Groq, OpenRouter,
//! LiteLLM, vLLM, SGLang, llama.cpp, LM Studio, Ollama's `/v1`, Databricks, watsonx.
//!
//! Surprising facts: usage may come never, at the end, in a chunk without choices, or in each chunk; reasoning is
//! `reasoning_content` (DeepSeek), `reasoning` (vLLM, OpenRouter, Groq) or a part of `content` (Mistral); some servers leave
//! out a tool call's index, so that only a new id tells one call from the next.

use crate::wire::answer::{Answer, arguments_of};
use crate::wire::decoder::{Event, Wire, parameters, tools};
use crate::wire::json::{Kind, Raw};
use crate::wire::message::Draft;
use crate::wire::repeated::{self, Place};
use crate::wire::request::Body;
use crate::wire::{Call, Content, Operation, Role, ToolCall, anthropic, error, parts};

/// Keys of blocks: one of each kind per choice, and one per tool call.
const THINKING: u64 = 0;
const TEXT: u64 = 1;
const REFUSAL: u64 = 2;
const AUDIO: u64 = 3;
const TOOLS: u64 = 16;

/// The decoder.
#[derive(Debug, Default)]
pub(crate) struct Chat {
    /// Which block stands for (choice, index): another one once an index is used again with a new id.
    tool_keys: Vec<(u64, u64, u64)>,
    /// The request made a batch, so that the answer describes one.
    batch: bool,
}

impl Wire for Chat {
    fn request(&mut self, body: &mut Body<'_>, call: &mut Call) -> bool {
        if call.operation == Operation::Batch {
            self.batch = true;
            return batch(body, call);
        }
        request(body, call)
    }

    fn event(&mut self, event: Event<'_>, answer: &mut Answer) {
        self.chunk(event.data, answer);
    }

    fn whole(&mut self, body: Raw<'_>, answer: &mut Answer) {
        if self.batch && body.get("status").is_some() && body.get("id").is_some() {
            answer.set_id(body.get("id"));
            answer.understood = true;
            answer.complete = true;
            return;
        }
        self.chunk(body, answer);
        answer.complete |= answer.understood;
    }
}

fn request(body: &mut Body<'_>, call: &mut Call) -> bool {
    call.request_model = body.string("model").or_else(|| body.string("model_id")).or(call.request_model.take());
    if let Some(stream) = body.get("stream").and_then(Raw::bool) {
        call.stream = stream;
    }
    call.parameters = parameters(body, &["model", "messages", "system", "tools", "functions", "stream"]);
    if call.conversation_hint.is_none() {
        let hint = ["session_id", "conversation_id", "prompt_cache_key"].iter().find_map(|key| body.string(key));
        call.conversation_hint = hint;
    }
    let key = if body.has("tools") { "tools" } else { "functions" };
    call.tools_offered = body.tools(key, tools);
    let shaped = body.get("messages").is_some_and(Raw::is_array);
    // Not OpenAI's, but proxies that take both dialects do get it.
    call.messages = body.whole("system", |value| {
        let mut draft = Draft::new(Role::System);
        parts::content(value, &mut draft);
        if draft.content().is_empty() { Vec::new() } else { vec![draft] }
    });
    call.messages.extend(body.messages("messages", message));
    shaped
}

fn batch(body: &mut Body<'_>, call: &mut Call) -> bool {
    call.parameters = parameters(body, &[]);
    body.has("input_file_id") || body.has("endpoint")
}

/// One message of the history.
pub(crate) fn message(raw: Raw<'_>) -> Option<Draft> {
    let role = parts::role(&raw.str_of("role")?);
    if role == Role::Tool {
        return Some(tool_message(raw));
    }
    // Anthropic's tool results inside a user's message: mixed dialects.
    let mut draft = anthropic::message(raw)?;
    let mut rest = Draft::new(role);
    for (key, value) in raw.fields() {
        match &*key {
            "reasoning_content" | "reasoning" | "thinking" => {
                value.string().filter(|text| !text.is_empty()).into_iter().for_each(|text| rest.thinking(text));
            }
            "refusal" => value.string().into_iter().for_each(|text| rest.push(Content::Refusal { text })),
            "tool_calls" => value.elements().for_each(|call| rest.push(Content::ToolCall(tool_call(call)))),
            "function_call" if value.is_object() => rest.push(Content::ToolCall(tool_call(value))),
            "audio" => rest.media("audio", None, value.get("id").and_then(Raw::string), b""),
            "images" if role == Role::User => {
                value.elements().for_each(|data| rest.media("image", None, None, parts::inner_bytes(data)));
            }
            _ => {}
        }
    }
    draft.append(rest);
    Some(draft)
}

fn tool_message(raw: Raw<'_>) -> Draft {
    let (mut id, mut name, mut text) = (String::new(), None, String::new());
    for (key, value) in raw.fields() {
        match &*key {
            "tool_call_id" => id = value.string().unwrap_or_default(),
            "name" | "tool_name" => name = value.string(),
            "content" => text = parts::result_text(value),
            _ => {}
        }
    }
    let mut draft = Draft::new(Role::Tool);
    draft.push(Content::ToolResult { id, name, text, is_error: false });
    draft
}

/// `{"id","type","function":{"name","arguments"}}`, a custom tool's `{"custom":{"name","input"}}`, or the bare function.
pub(crate) fn tool_call(raw: Raw<'_>) -> ToolCall {
    let mut call = ToolCall { id: raw.get("id").and_then(Raw::string).unwrap_or_default(), ..ToolCall::default() };
    let inner = raw.some("function").or_else(|| raw.some("custom")).unwrap_or(raw);
    call.name = inner.get("name").and_then(Raw::string).unwrap_or_default();
    call.arguments = match (inner.some("arguments").or_else(|| inner.some("parameters")), inner.some("input")) {
        (Some(arguments), _) => arguments_of(arguments),
        (None, Some(input)) => match input.text() {
            Some(text) => crate::wire::answer::arguments(&text, true),
            None => arguments_of(input),
        },
        (None, None) => serde_json::Value::Object(serde_json::Map::new()),
    };
    call
}

impl Chat {
    fn chunk(&mut self, raw: Raw<'_>, answer: &mut Answer) {
        let mut known = false;
        for (key, value) in raw.fields() {
            match &*key {
                "choices" => {
                    known |= value.is_array();
                    value.elements().for_each(|choice| self.choice(choice, answer));
                }
                "id" => answer.set_id(Some(value)),
                "model" => answer.set_model(Some(value)),
                "usage" if !value.is_null() => {
                    known = true;
                    usage(value, answer);
                }
                "service_tier" => answer.set_tier(Some(value)),
                "error" if !value.is_null() => {
                    known |= error::read(raw, answer);
                }
                "x_groq" => {
                    answer.provider = Some("groq");
                    value.some("usage").into_iter().for_each(|counts| answer.counts.read(counts));
                }
                _ => mark(&key, value, answer),
            }
        }
        answer.understood |= known;
        answer.misshapen |= !known && !raw.fields().any(|(key, _)| key == "id" || key == "object");
    }

    fn choice(&mut self, raw: Raw<'_>, answer: &mut Answer) {
        let index = raw.get("index").and_then(Raw::u64).unwrap_or(0);
        let mut message = None;
        for (key, value) in raw.fields() {
            match &*key {
                "delta" => message = Some(value),
                "message" if message.is_none() => message = Some(value),
                "text" => {
                    value.text().iter().for_each(|text| answer.choice(index).text(TEXT, text));
                    answer.said.more();
                }
                "finish_reason" if !value.is_null() => {
                    answer.choice(index).finish(value);
                    answer.complete = true;
                    answer.said.more();
                }
                "matched_stop" => answer.server_kind = Some("sglang"),
                "stop_reason" | "token_ids" if answer.server_kind.is_none() => answer.server_kind = Some("vllm"),
                "content_filter_results" => answer.provider = Some("azure.ai.openai"),
                "native_finish_reason" => answer.server_kind = Some("openrouter"),
                _ => {}
            }
        }
        if let Some(message) = message {
            self.delta(index, message, answer);
        }
    }

    fn delta(&mut self, index: u64, raw: Raw<'_>, answer: &mut Answer) {
        // A whole message names its reasoning after its text; it was thought before.
        for (_, value) in raw.fields().filter(|(key, _)| is_reasoning(key)) {
            let Some(text) = value.text() else { continue };
            answer.said.text(Place { choice: index, key: THINKING, kind: repeated::Kind::Thinking }, value);
            answer.choice(index).thinking(THINKING, &text);
        }
        for (key, value) in raw.fields() {
            let choice = answer.choice(index);
            match &*key {
                "content" => match value.kind() {
                    Kind::String => {
                        value.text().iter().for_each(|text| choice.text(TEXT, text));
                        answer.said.text(Place { choice: index, key: TEXT, kind: repeated::Kind::Text }, value);
                    }
                    Kind::Array => {
                        value.elements().for_each(|part| content_part(part, choice));
                        answer.said.more();
                    }
                    _ => {}
                },
                "refusal" if !value.is_null() => {
                    value.text().iter().for_each(|text| choice.refusal(REFUSAL, text));
                    answer.said.more();
                }
                "audio" => {
                    value.str_of("transcript").iter().for_each(|text| choice.text(AUDIO, text));
                    answer.said.more();
                }
                "tool_calls" => {
                    for (place, call) in value.elements().enumerate() {
                        self.tool(index, place as u64, call, answer);
                    }
                }
                "function_call" if value.is_object() => self.tool(index, 0, value, answer),
                _ => {}
            }
        }
    }

    fn tool(&mut self, choice: u64, place: u64, raw: Raw<'_>, answer: &mut Answer) {
        answer.said.more();
        let index = raw.get("index").and_then(Raw::u64).unwrap_or(place);
        let id = raw.get("id").and_then(Raw::string).unwrap_or_default();
        let key = self.tool_key(choice, index, &id, answer);
        let choice = answer.choice(choice);
        let custom = raw.some("custom");
        let inner = raw.some("function").or(custom).unwrap_or(raw);
        let mut token = false;
        if let Some(tool) = choice.tool(key) {
            if !id.is_empty() {
                tool.id = id;
            }
            tool.free_form |= custom.is_some();
            for (field, value) in inner.fields() {
                match (&*field, value.text()) {
                    ("name", Some(name)) if !name.is_empty() => {
                        token = true;
                        // Repeated as a whole by some servers, never sent in pieces.
                        tool.name = name.into_owned();
                    }
                    ("arguments" | "input", Some(text)) => {
                        token |= !text.is_empty();
                        tool.text.push_str(&text);
                    }
                    ("arguments" | "input", None) if value.is_object() => {
                        token = true;
                        tool.value = value.value();
                    }
                    _ => {}
                }
            }
        }
        if token {
            choice.mark_token();
        }
    }

    fn tool_key(&mut self, choice: u64, index: u64, id: &str, answer: &mut Answer) -> u64 {
        let known = self.tool_keys.iter().rposition(|(of, at, _)| *of == choice && *at == index);
        let current = known.and_then(|at| self.tool_keys.get(at)).map(|(_, _, key)| *key);
        let fresh = TOOLS + self.tool_keys.len() as u64;
        match current {
            Some(key) => {
                let other = answer.choice(choice).tool(key).is_some_and(|tool| !tool.id.is_empty() && tool.id != id);
                if id.is_empty() || !other || self.tool_keys.len() > 4096 {
                    return key;
                }
                self.tool_keys.push((choice, index, fresh));
                fresh
            }
            None if self.tool_keys.len() > 4096 => TOOLS,
            None => {
                self.tool_keys.push((choice, index, fresh));
                fresh
            }
        }
    }
}

fn is_reasoning(key: &str) -> bool {
    matches!(key, "reasoning_content" | "reasoning" | "thinking")
}

/// A part of `content` where that is a list (Mistral, Anthropic behind a proxy).
fn content_part(part: Raw<'_>, choice: &mut crate::wire::answer::Choice) {
    let mut draft = Draft::new(Role::Assistant);
    parts::part(part, &mut draft);
    let mut whole = Draft::new(Role::Assistant);
    for content in draft.content() {
        match content {
            Content::Text { text } => choice.text(TEXT, text),
            Content::Thinking { text } => choice.thinking(THINKING, text),
            other => whole.push(other.clone()),
        }
    }
    choice.append_whole(whole);
}

fn usage(raw: Raw<'_>, answer: &mut Answer) {
    answer.counts.read(raw);
    if raw.get("prompt_cache_hit_tokens").is_some() {
        answer.provider = Some("deepseek");
    }
    if raw.get("cost_details").is_some() || raw.get("is_byok").is_some() {
        answer.server_kind = Some("openrouter");
    }
    answer.set_tier(raw.get("service_tier"));
}

/// What other top-level fields show about the server.
fn mark(key: &str, value: Raw<'_>, answer: &mut Answer) {
    match key {
        "timings" => answer.server_kind = Some("llama.cpp"),
        "prompt_filter_results" => answer.provider = Some("azure.ai.openai"),
        "prompt_logprobs" | "kv_transfer_params" | "prompt_token_ids" => answer.server_kind = Some("vllm"),
        "provider" if value.kind() == Kind::String => answer.server_kind = Some("openrouter"),
        "stats" if answer.server_kind.is_none() => answer.server_kind = Some("lmstudio"),
        "system_fingerprint" => {
            let Some(text) = value.text() else { return };
            if text == "fp_ollama" {
                answer.server_kind = Some("ollama");
            } else if is_llama_build(&text) {
                answer.server_kind = Some("llama.cpp");
            }
        }
        _ => {}
    }
}

/// llama.cpp's fingerprint is its build: `b` and a number, a hyphen, a commit.
fn is_llama_build(text: &str) -> bool {
    let Some((number, commit)) = text.strip_prefix('b').and_then(|rest| rest.split_once('-')) else { return false };
    !number.is_empty()
        && number.bytes().all(|byte| byte.is_ascii_digit())
        && commit.len() >= 6
        && commit.bytes().all(|byte| byte.is_ascii_hexdigit())
}
