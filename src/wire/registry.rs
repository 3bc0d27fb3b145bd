//! Which requests are LLM API calls: the one table of wire APIs, by the tail of the request's path.
//!
//! The kernel's path table is filled from [`path_rules`], and [`classify`] reads the same table, so that what the kernel
//! passes and what this stage takes cannot drift apart. A rule is the tail of a path before `?` (docs/architecture.md,
//! "The kernel's path rule"): any prefix in front of it is welcome, because gateways, proxies and deployments put theirs there.
//!
//! Surprising fact: a path is often not enough. `/api/chat` is Ollama's and also every second web application's, so a
//! rule says whether the body has to agree before the exchange counts as a call.

use crate::http::{Header, header};
use crate::wire::{Operation, WireApi};

/// How much a rule alone proves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Proof {
    /// The path says it: whatever the body is, this is a call.
    Path,
    /// The body must have a known shape too; an unknown one is some other application's request.
    Body,
}

/// One row of the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rule {
    /// The tail: two segments, one segment, or a colon and what follows it.
    pub tail: &'static str,
    /// The wire API.
    pub api: WireApi,
    /// The operation.
    pub operation: Operation,
    /// Whether the path alone asks for a stream, where it decides that.
    pub stream: Option<bool>,
    /// How much the path alone proves.
    pub proof: Proof,
}

/// What the head of a request says about it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Match {
    /// The wire API.
    pub api: WireApi,
    /// The operation.
    pub operation: Operation,
    /// The model, where the path carries it.
    pub model: Option<String>,
    /// Whether a stream is asked for, where the path decides it.
    pub stream: Option<bool>,
    /// How much the head alone proves.
    pub proof: Proof,
}

const fn rule(tail: &'static str, api: WireApi, operation: Operation) -> Rule {
    Rule { tail, api, operation, stream: None, proof: Proof::Path }
}

const fn streams(tail: &'static str, api: WireApi, operation: Operation, stream: bool) -> Rule {
    Rule { tail, api, operation, stream: Some(stream), proof: Proof::Path }
}

const fn unsure(tail: &'static str, api: WireApi, operation: Operation) -> Rule {
    Rule { tail, api, operation, stream: None, proof: Proof::Body }
}

/// The table. The first row that matches wins, so the longer tail stands before the shorter one.
#[rustfmt::skip]
pub const RULES: &[Rule] = {
    use Operation as Op;
    use WireApi as Api;
    &[
        rule("v1/messages", Api::AnthropicMessages, Op::Chat),
        rule("anthropic/messages", Api::AnthropicMessages, Op::Chat),
        rule("messages/count_tokens", Api::AnthropicMessages, Op::CountTokens),
        rule("messages/batches", Api::AnthropicMessages, Op::Batch),
        rule("v1/complete", Api::AnthropicMessages, Op::TextCompletion),
        rule("chat/completions", Api::OpenAiChat, Op::Chat),
        rule("agents/completions", Api::OpenAiChat, Op::Chat),
        rule("text/chat", Api::OpenAiChat, Op::Chat),
        streams("text/chat_stream", Api::OpenAiChat, Op::Chat, true),
        rule("v1/batches", Api::OpenAiChat, Op::Batch),
        rule("responses/compact", Api::OpenAiResponses, Op::Chat),
        rule("responses/input_tokens", Api::OpenAiResponses, Op::CountTokens),
        rule("v1/responses", Api::OpenAiResponses, Op::Chat),
        rule("codex/responses", Api::OpenAiResponses, Op::Chat),
        rule("openai/responses", Api::OpenAiResponses, Op::Chat),
        unsure("responses", Api::OpenAiResponses, Op::Chat),
        rule("v1/completions", Api::OpenAiCompletions, Op::TextCompletion),
        rule("fim/completions", Api::OpenAiCompletions, Op::TextCompletion),
        rule("completions", Api::OpenAiCompletions, Op::TextCompletion),
        unsure("completion", Api::OpenAiCompletions, Op::TextCompletion),
        rule("api/embeddings", Api::OllamaEmbed, Op::Embeddings),
        rule("v1/embeddings", Api::OpenAiEmbeddings, Op::Embeddings),
        rule("embeddings", Api::OpenAiEmbeddings, Op::Embeddings),
        rule("images/generations", Api::OpenAiImages, Op::ImageGeneration),
        rule("images/edits", Api::OpenAiImages, Op::ImageGeneration),
        rule("images/variations", Api::OpenAiImages, Op::ImageGeneration),
        rule("audio/speech", Api::OpenAiAudio, Op::Audio),
        rule("audio/transcriptions", Api::OpenAiAudio, Op::Audio),
        rule("audio/translations", Api::OpenAiAudio, Op::Audio),
        rule("v1/moderations", Api::OpenAiModerations, Op::Moderation),
        unsure("moderations", Api::OpenAiModerations, Op::Moderation),
        rule("realtime/client_secrets", Api::OpenAiRealtime, Op::Realtime),
        rule("realtime/sessions", Api::OpenAiRealtime, Op::Realtime),
        rule("realtime", Api::OpenAiRealtime, Op::Realtime),
        streams(":generateContent", Api::GeminiGenerateContent, Op::GenerateContent, false),
        streams(":streamGenerateContent", Api::GeminiGenerateContent, Op::GenerateContent, true),
        rule(":countTokens", Api::GeminiGenerateContent, Op::CountTokens),
        rule(":computeTokens", Api::GeminiGenerateContent, Op::CountTokens),
        rule(":embedContent", Api::GeminiGenerateContent, Op::Embeddings),
        rule(":batchEmbedContents", Api::GeminiGenerateContent, Op::Embeddings),
        rule(":batchGenerateContent", Api::GeminiGenerateContent, Op::Batch),
        rule(":predict", Api::GeminiGenerateContent, Op::Embeddings),
        streams(":rawPredict", Api::AnthropicMessages, Op::Chat, false),
        streams(":streamRawPredict", Api::AnthropicMessages, Op::Chat, true),
        unsure(":complete", Api::OpenAiChat, Op::Chat),
        rule("v1beta/interactions", Api::GeminiInteractions, Op::GenerateContent),
        rule("v1beta1/interactions", Api::GeminiInteractions, Op::GenerateContent),
        rule("v1alpha/interactions", Api::GeminiInteractions, Op::GenerateContent),
        unsure("v1/interactions", Api::GeminiInteractions, Op::GenerateContent),
        rule("google.ai.generativelanguage.v1alpha.GenerativeService.BidiGenerateContent", Api::GeminiLive, Op::Realtime),
        rule("google.ai.generativelanguage.v1alpha.GenerativeService.BidiGenerateContentConstrained", Api::GeminiLive, Op::Realtime),
        rule("google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent", Api::GeminiLive, Op::Realtime),
        rule("google.ai.generativelanguage.v1main.GenerativeService.BidiGenerateContent", Api::GeminiLive, Op::Realtime),
        rule("google.cloud.aiplatform.v1.LlmBidiService/BidiGenerateContent", Api::GeminiLive, Op::Realtime),
        rule("BidiGenerateContent", Api::GeminiLive, Op::Realtime),
        streams("invoke", Api::BedrockInvoke, Op::Chat, false),
        streams("invoke-with-response-stream", Api::BedrockInvoke, Op::Chat, true),
        streams("converse", Api::BedrockConverse, Op::Chat, false),
        streams("converse-stream", Api::BedrockConverse, Op::Chat, true),
        rule("count-tokens", Api::BedrockConverse, Op::CountTokens),
        unsure("invocations", Api::OpenAiChat, Op::Chat),
        unsure("invocations-response-stream", Api::OpenAiChat, Op::Chat),
        rule("api/chat", Api::OllamaChat, Op::Chat),
        rule("api/generate", Api::OllamaGenerate, Op::TextCompletion),
        rule("api/embed", Api::OllamaEmbed, Op::Embeddings),
        rule("v2/chat", Api::CohereChat, Op::Chat),
        rule("v1/chat", Api::CohereChat, Op::Chat),
        rule("v2/embed", Api::CohereEmbed, Op::Embeddings),
        rule("v1/embed", Api::CohereEmbed, Op::Embeddings),
        rule("v2/rerank", Api::CohereRerank, Op::Rerank),
        rule("v1/rerank", Api::CohereRerank, Op::Rerank),
        rule("rerank", Api::CohereRerank, Op::Rerank),
        unsure("mcp", Api::Mcp, Op::Mcp),
        unsure("mcp/", Api::Mcp, Op::Mcp),
    ]
};

const TAILS: [&str; RULES.len()] = {
    let mut tails = [""; RULES.len()];
    let mut at = 0;
    while at < tails.len() {
        tails[at] = RULES[at].tail;
        at += 1;
    }
    tails
};

/// The tails that the kernel's path table is filled with: two segments, one segment, or a colon tail with its colon.
pub fn path_rules() -> &'static [&'static str] {
    &TAILS
}

/// What a request's head says: `None` when it is no LLM call as far as the head can tell.
///
/// The method must fit: `POST`, or a WebSocket's upgrade, or MCP's `GET` and `DELETE`. An empty method (HTTP/2 met in
/// the middle) fits everything.
pub fn classify(method: &str, authority: Option<&str>, target: &str, headers: &[Header]) -> Option<Match> {
    let path = path_of(target);
    if let Some(found) = stored_response(method, path, target) {
        return Some(found);
    }
    let websocket = is_websocket(method, headers);
    let rule = RULES.iter().find(|rule| rule.fits(path))?;
    if !rule.fits_method(method, websocket) || !rule.fits_place(path, authority) {
        return None;
    }
    let mut found = Match {
        api: rule.api,
        operation: rule.operation,
        model: model_in_path(rule, path),
        stream: rule.stream,
        proof: rule.proof,
    };
    refine(&mut found, path, headers);
    Some(found)
}

/// `GET .../responses/resp_...`: a client asks for an answer that is made in the background, once or as a stream. Its tail
/// names a resource, so that it is no row of the table: the kernel does not pass it on connections that it filters by path.
fn stored_response(method: &str, path: &str, target: &str) -> Option<Match> {
    let (front, id) = path.strip_suffix('/').unwrap_or(path).rsplit_once('/')?;
    let fits = method == "GET" && id.starts_with("resp") && (front.ends_with("/responses") || front == "responses");
    fits.then(|| Match {
        api: WireApi::OpenAiResponses,
        operation: Operation::Retrieve,
        model: None,
        stream: Some(query(target, "stream") == Some("true")),
        proof: Proof::Path,
    })
}

/// True when the head asks for a WebSocket (HTTP/1.1 upgrade, or HTTP/2 extended CONNECT).
pub fn is_websocket(method: &str, headers: &[Header]) -> bool {
    method.eq_ignore_ascii_case("CONNECT")
        || header(headers, "upgrade").is_some_and(|value| value.eq_ignore_ascii_case("websocket"))
        || header(headers, "sec-websocket-key").is_some()
        || header(headers, "sec-websocket-version").is_some()
}

/// The path of a target: absolute-form's scheme and authority taken off, before `?` and `#`.
pub fn path_of(target: &str) -> &str {
    let path = match target.find("://") {
        Some(at) if !target.starts_with('/') => {
            let rest = target.get(at + 3..).unwrap_or("");
            rest.find('/').and_then(|slash| rest.get(slash..)).unwrap_or("/")
        }
        _ => target,
    };
    let end = path.find(['?', '#']).unwrap_or(path.len());
    path.get(..end).unwrap_or(path)
}

/// A query parameter's value as sent (not percent-decoded).
pub fn query<'a>(target: &'a str, name: &str) -> Option<&'a str> {
    let (_, query) = target.split_once('?')?;
    query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        key.eq_ignore_ascii_case(name).then_some(value)
    })
}

impl Rule {
    /// True when the path ends in this tail, at a segment's (or colon's) boundary.
    fn fits(&self, path: &str) -> bool {
        let path = if self.tail.ends_with('/') { path } else { path.strip_suffix('/').unwrap_or(path) };
        let Some(front) = path.strip_suffix(self.tail) else { return false };
        self.tail.starts_with(':') || front.is_empty() || front.ends_with('/')
    }

    fn fits_method(&self, method: &str, websocket: bool) -> bool {
        if method.is_empty() || websocket {
            return true;
        }
        match method {
            "POST" => !matches!(self.api, WireApi::GeminiLive),
            "GET" | "DELETE" => self.api == WireApi::Mcp,
            _ => false,
        }
    }

    /// Rules of one common word want their surroundings to agree.
    fn fits_place(&self, path: &str, authority: Option<&str>) -> bool {
        match self.api {
            WireApi::BedrockInvoke | WireApi::BedrockConverse => {
                path.contains("/model/") || authority.is_some_and(|host| host.contains("bedrock"))
            }
            // Any model of any kind can be asked for predictions; those of a publisher are language models.
            _ if self.tail == ":predict" => path.contains("/publishers/"),
            _ => true,
        }
    }
}

/// What the whole path and the headers add to a rule.
fn refine(found: &mut Match, path: &str, headers: &[Header]) {
    let vertex_raw = path.ends_with(":rawPredict") || path.ends_with(":streamRawPredict");
    if vertex_raw && path.contains("/publishers/mistralai/") {
        found.api = WireApi::OpenAiChat;
    }
    if path.ends_with(":predict") && found.model.as_deref().is_some_and(|model| model.contains("imagen")) {
        found.operation = Operation::ImageGeneration;
    }
    let mcp = found.api == WireApi::Mcp;
    if mcp
        && ["mcp-protocol-version", "mcp-session-id", "mcp-method"].iter().any(|name| header(headers, name).is_some())
    {
        found.proof = Proof::Path;
    }
}

/// The model where the path names it: `models/{model}:verb`, `/model/{id}/verb`, `/deployments/{name}/...`.
fn model_in_path(rule: &Rule, path: &str) -> Option<String> {
    let after = |marker: &str| path.rfind(marker).and_then(|at| path.get(at + marker.len()..));
    let name = if rule.tail.starts_with(':') {
        let front = path.strip_suffix(rule.tail)?;
        front.rfind("/models/").and_then(|at| front.get(at + "/models/".len()..))?
    } else if matches!(rule.api, WireApi::BedrockInvoke | WireApi::BedrockConverse) {
        after("/model/")?.strip_suffix(rule.tail)?.strip_suffix('/')?
    } else {
        let rest = after("/deployments/").or_else(|| after("/serving-endpoints/"))?;
        rest.split('/').next()?
    };
    (!name.is_empty()).then(|| percent_decoded(name))
}

/// Percent-decoding; what does not decode stays as it is.
pub fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let hex = |offset: usize| bytes.get(at + offset).and_then(|digit| char::from(*digit).to_digit(16));
        match (byte, hex(1), hex(2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push((high * 16 + low) as u8);
                at += 3;
            }
            _ => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn post(target: &str) -> Option<(WireApi, Operation)> {
        classify("POST", Some("example.com"), target, &[]).map(|found| (found.api, found.operation))
    }

    #[test]
    fn official_paths_and_prefixes_are_known() {
        let chat = Some((WireApi::OpenAiChat, Operation::Chat));
        for target in [
            "/v1/chat/completions",
            "/api/v1/chat/completions",
            "/openai/deployments/my-gpt/chat/completions?api-version=2025-01-01",
            "/openai/v1/chat/completions",
            "/v1/acct/gw/compat/chat/completions",
            "/chat/completions",
            "http://localhost:4000/chat/completions?x=/y",
        ] {
            assert_eq!(post(target), chat, "{target}");
        }
        assert_eq!(post("/v1/messages?beta=true"), Some((WireApi::AnthropicMessages, Operation::Chat)));
        assert_eq!(post("/v1/messages/count_tokens"), Some((WireApi::AnthropicMessages, Operation::CountTokens)));
        assert_eq!(post("/backend-api/codex/responses"), Some((WireApi::OpenAiResponses, Operation::Chat)));
        assert_eq!(
            post("/v1internal:streamGenerateContent?alt=sse"),
            Some((WireApi::GeminiGenerateContent, Operation::GenerateContent))
        );
        assert_eq!(
            post("/openai/deployments/emb/embeddings?api-version=1"),
            Some((WireApi::OpenAiEmbeddings, Operation::Embeddings))
        );
    }

    #[test]
    fn other_paths_and_methods_are_not_calls() {
        for target in
            ["/", "/v1/models", "/notv1/messagesx", "/xchat/completionsx", "/v1/files", "/foo/invoke", "/completionsx"]
        {
            assert_eq!(post(target), None, "{target}");
        }
        assert!(classify("GET", None, "/v1/chat/completions", &[]).is_none());
        assert!(classify("GET", None, "/v1/responses/resp_1/input_items", &[]).is_none());
        assert!(classify("GET", None, "/forms/responses/17", &[]).is_none());
        let polled = classify("GET", None, "/v1/responses/resp_1?stream=true", &[]).expect("a background response");
        assert_eq!((polled.operation, polled.stream), (Operation::Retrieve, Some(true)));
        let upgrade = [Header { name: "Upgrade".into(), value: "websocket".into() }];
        assert!(classify("GET", None, "/v1/responses", &upgrade).is_some());
    }

    #[test]
    fn the_model_is_read_from_the_path() {
        let model = |target: &str| classify("POST", None, target, &[]).and_then(|found| found.model);
        assert_eq!(model("/v1beta/models/gemini-3.8-flash:generateContent").as_deref(), Some("gemini-3.8-flash"));
        assert_eq!(
            model("/model/anthropic.claude-sonnet-5-5-v1%3A0/converse-stream").as_deref(),
            Some("anthropic.claude-sonnet-5-5-v1:0")
        );
        assert_eq!(
            model("/v1/projects/p/locations/l/publishers/anthropic/models/claude-opus-5@20261001:streamRawPredict")
                .as_deref(),
            Some("claude-opus-5@20261001")
        );
        assert_eq!(model("/openai/deployments/my-gpt/chat/completions").as_deref(), Some("my-gpt"));
        assert_eq!(model("/v1/chat/completions"), None);
    }

    #[test]
    fn every_tail_fits_the_kernel() {
        for tail in path_rules() {
            assert!(tail.len() <= 95, "{tail}");
            assert!(tail.matches('/').count() <= 1, "{tail}");
            assert!(!tail.starts_with('/'), "{tail}");
        }
    }

    #[test]
    fn percent_decoding_survives_anything() {
        assert_eq!(percent_decoded("a%3Ab%"), "a:b%");
        assert_eq!(percent_decoded("%zz%F"), "%zz%F");
    }
}
