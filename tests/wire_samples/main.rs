//! The samples of `testdata/wire` through `conn`, `http` and `wire`, against their golden calls, cut at every byte.
//!
//! `HERON_BLESS=1` writes the golden files anew.

#![allow(clippy::unwrap_used)]

mod asked;
mod rows;
mod sockets;
mod times;
#[path = "../wire_world/mod.rs"]
mod wire_world;

use std::fs;
use std::path::PathBuf;

use heron::event::{Close, CloseHow, ConnId, Direction, Event, Nanos};
use heron::wire::{Bounds, Call};
use serde_json::{Value, json};
use wire_world::{Pipe, START, Talk, chunked};

/// One sample: its name, the request's target, host and body, the answer's status, content type and body.
struct Sample {
    name: &'static str,
    target: &'static str,
    host: &'static str,
    request: Body,
    status: u16,
    content_type: &'static str,
    answer: Body,
}

enum Body {
    File(&'static str),
    Text(&'static str),
}

use Body::{File, Text};

impl Body {
    fn bytes(&self) -> Vec<u8> {
        match self {
            File(name) => fs::read(PathBuf::from("testdata/wire").join(name)).unwrap(),
            Text(text) => text.as_bytes().to_vec(),
        }
    }
}

const SSE: &str = "text/event-stream";
const JSON: &str = "application/json";
const LINES: &str = "application/x-ndjson";
const AWS: &str = "application/vnd.amazon.eventstream";
const ASK_CHAT: Body = Text(r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}"#);
const ASK_OLLAMA: Body = Text(r#"{"model":"qwen3:8b","messages":[{"role":"user","content":"hi"}]}"#);
const ASK_CONVERSE: Body = Text(
    r#"{"messages":[{"role":"user","content":[{"text":"hi"}]}],"system":[{"text":"Be brief"},{"cachePoint":{"type":"default"}}],"inferenceConfig":{"maxTokens":10},"toolConfig":{"tools":[{"toolSpec":{"name":"Bash","inputSchema":{"json":{"type":"object"}}}}]}}"#,
);
const CONVERSE: &str = "/model/anthropic.claude-sonnet-5-5-v1%3A0/converse-stream";

/// One row of the tables: name, target (with its method where that is not POST), host, request, status, content type (and
/// further headers), answer.
fn sample(
    name: &'static str,
    target: &'static str,
    host: &'static str,
    request: Body,
    status: u16,
    content_type: &'static str,
    answer: Body,
) -> Sample {
    Sample { name, target, host, request, status, content_type, answer }
}

#[rustfmt::skip]
fn samples() -> Vec<Sample> {
    let mut samples = vec![
        sample("anthropic_stream", "/v1/messages?beta=true", "api.anthropic.com", File("anthropic/request.json"), 200, SSE, File("anthropic/stream_thinking_text_tool.sse")),
        sample("anthropic_stream_error", "/v1/messages", "api.anthropic.com", File("anthropic/request.json"), 200, SSE, File("anthropic/stream_error_midway.sse")),
        sample("anthropic_whole", "/v1/messages", "127.0.0.1:8080", File("anthropic/request.json"), 200, JSON, File("anthropic/response.json")),
        sample("anthropic_429", "/v1/messages", "api.anthropic.com", File("anthropic/request.json"), 429, JSON, File("anthropic/error_429.json")),
        sample("anthropic_count_tokens", "/v1/messages/count_tokens", "api.anthropic.com", Text(r#"{"model":"claude-sonnet-5-5","messages":[{"role":"user","content":"hi"}]}"#), 200, JSON, File("anthropic/count_tokens_response.json")),
        sample("anthropic_batch", "/v1/messages/batches", "api.anthropic.com", Text(r#"{"requests":[{"custom_id":"a","params":{"model":"claude-sonnet-5-5","max_tokens":1,"messages":[]}}]}"#), 200, JSON, Text(r#"{"id":"msgbatch_1","type":"message_batch","processing_status":"in_progress"}"#)),
        sample("vertex_raw_predict", "/v1/projects/p/locations/us-east5/publishers/anthropic/models/claude-opus-5@20261001:streamRawPredict", "us-east5-aiplatform.googleapis.com", Text(r#"{"anthropic_version":"vertex-2023-10-16","max_tokens":5,"stream":true,"messages":[{"role":"user","content":"hi"}]}"#), 200, SSE, File("anthropic/stream_thinking_text_tool.sse")),
        sample("chat_stream_tool_usage", "/v1/chat/completions", "api.openai.com", File("openai_chat/request.json"), 200, SSE, File("openai_chat/stream_tool_include_usage.sse")),
        sample("chat_stream_no_usage", "/v1/chat/completions", "localhost:1234", ASK_CHAT, 200, SSE, File("openai_chat/stream_text_no_usage.sse")),
        sample("chat_deepseek", "/chat/completions", "127.0.0.1:9", ASK_CHAT, 200, SSE, File("openai_chat/deepseek_stream_reasoning_content.sse")),
        sample("chat_vllm", "/v1/chat/completions", "127.0.0.1:8000", ASK_CHAT, 200, SSE, File("openai_chat/vllm_stream_reasoning.sse")),
        sample("chat_azure", "/openai/deployments/gpt5/chat/completions?api-version=2025-01-01", "x.openai.azure.com", ASK_CHAT, 200, SSE, File("openai_chat/azure_stream_first_chunks.sse")),
        sample("chat_mistral", "/v1/chat/completions", "api.mistral.ai", ASK_CHAT, 200, SSE, File("mistral/chat_stream.sse")),
        sample("chat_whole", "/v1/chat/completions", "api.openai.com", Text(r#"{"model":"gpt-5-mini","messages":[{"role":"user","content":[{"type":"text","text":"hi"},{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}}]}],"n":1}"#), 200, JSON, File("openai_chat/response.json")),
        sample("chat_401", "/v1/chat/completions", "api.openai.com", ASK_CHAT, 401, JSON, File("openai_chat/error_401.json")),
        sample("chat_mixed_dialect", "/v1/chat/completions", "localhost:4000", ASK_CHAT, 200, JSON, Text(r#"{"id":"x","object":"chat.completion","model":"claude","choices":[{"index":0,"message":{"role":"assistant","content":"a","function_call":{"name":"f","arguments":"{\"a\":1}"}},"finish_reason":"function_call"},{"index":1,"message":{"role":"assistant","content":"b"},"finish_reason":"length"}],"usage":{"input_tokens":10,"output_tokens":7,"cache_read_input_tokens":3,"cache_creation_input_tokens":2}}"#)),
        sample("chat_unknown_shape", "/v1/chat/completions", "localhost", Text(r#"{"foo":1}"#), 200, JSON, Text(r#"{"bar":2}"#)),
        sample("chat_html_error", "/v1/chat/completions", "localhost", ASK_CHAT, 502, "text/html", Text("<html><h1>502 Bad Gateway</h1></html>")),
        sample("responses_stream", "/v1/responses", "api.openai.com", File("openai_responses/request.json"), 200, SSE, File("openai_responses/stream.sse")),
        sample("responses_failed", "/backend-api/codex/responses", "chatgpt.com", File("openai_responses/request.json"), 200, SSE, File("openai_responses/stream_failed.sse")),
        sample("responses_whole", "/v1/responses", "api.openai.com", Text(r#"{"model":"gpt-5.6-sol","input":"hi","previous_response_id":"resp_0"}"#), 200, JSON, File("openai_responses/response.json")),
        sample("gemini_sse", "/v1beta/models/gemini-3.8-flash:streamGenerateContent?alt=sse&key=secret", "generativelanguage.googleapis.com", File("gemini/request.json"), 200, SSE, File("gemini/stream_alt_sse.sse")),
        sample("gemini_array", "/v1beta/models/gemini-3.8-flash:streamGenerateContent", "generativelanguage.googleapis.com", File("gemini/request.json"), 200, JSON, File("gemini/stream_json_array.json")),
        sample("gemini_whole", "/v1/projects/p/locations/global/publishers/google/models/gemini-3.8-flash:generateContent", "aiplatform.googleapis.com", File("gemini/request.json"), 200, JSON, File("gemini/response.json")),
        sample("gemini_429", "/v1beta/models/gemini-3.8-flash:generateContent", "generativelanguage.googleapis.com", File("gemini/request.json"), 429, JSON, File("gemini/error_429.json")),
        sample("gemini_code_assist", "/v1internal:streamGenerateContent?alt=sse", "cloudcode-pa.googleapis.com", Text(r#"{"model":"gemini-3.8-flash","project":"p","user_prompt_id":"u","request":{"contents":[{"role":"user","parts":[{"text":"hi"}]}],"session_id":"s1"}}"#), 200, SSE, File("gemini/code_assist_stream.sse")),
        sample("gemini_interactions", "/v1beta/interactions", "generativelanguage.googleapis.com", Text(r#"{"model":"gemini-3.8-flash","input":"Weather?","stream":true}"#), 200, SSE, File("gemini/interactions_stream.sse")),
        sample("bedrock_invoke_stream", "/model/anthropic.claude-sonnet-5-5-v1%3A0/invoke-with-response-stream", "bedrock-runtime.us-east-1.amazonaws.com", File("bedrock/invoke_request_anthropic.json"), 200, AWS, File("bedrock/invoke_with_response_stream.bin")),
        sample("bedrock_invoke_whole", "/model/anthropic.claude-sonnet-5-5-v1%3A0/invoke", "bedrock-runtime.us-east-1.amazonaws.com", File("bedrock/invoke_request_anthropic.json"), 200, JSON, File("anthropic/response.json")),
        sample("bedrock_converse_stream", CONVERSE, "bedrock-runtime.us-east-1.amazonaws.com", ASK_CONVERSE, 200, AWS, File("bedrock/converse_stream.bin")),
        sample("bedrock_converse_exception", CONVERSE, "127.0.0.1:1", ASK_CONVERSE, 200, AWS, File("bedrock/stream_exception.bin")),
        sample("bedrock_converse_whole", "/model/amazon.nova-pro-v1:0/converse", "bedrock-runtime.us-east-1.amazonaws.com", ASK_CONVERSE, 200, JSON, File("bedrock/converse_response.json")),
        sample("ollama_chat_stream", "/api/chat", "localhost:11434", ASK_OLLAMA, 200, LINES, File("ollama/chat_stream.ndjson")),
        sample("ollama_chat_whole", "/api/chat", "localhost:11434", Text(r#"{"model":"qwen3:8b","stream":false,"messages":[{"role":"user","content":"hi","images":["AAAA"]}]}"#), 200, JSON, File("ollama/chat_response.json")),
        sample("ollama_error", "/api/chat", "localhost:11434", ASK_OLLAMA, 200, LINES, File("ollama/error_midstream.ndjson")),
        sample("ollama_generate", "/api/generate", "localhost:11434", Text(r#"{"model":"qwen3:8b","prompt":"hi","system":"s"}"#), 200, LINES, File("ollama/generate_stream.ndjson")),
        sample("ollama_embed", "/api/embed", "localhost:11434", Text(r#"{"model":"all-minilm","input":["a"]}"#), 200, JSON, File("ollama/embed_response.json")),
        sample("cohere_stream", "/v2/chat", "api.cohere.com", Text(r#"{"model":"command-a","stream":true,"messages":[{"role":"user","content":"hi"}],"tools":[{"type":"function","function":{"name":"get_weather"}}]}"#), 200, SSE, File("cohere/v2_chat_stream.sse")),
        sample("cohere_embed", "/v2/embed", "api.cohere.com", Text(r#"{"model":"embed-v4","texts":["hello"],"input_type":"search_query"}"#), 200, JSON, File("cohere/v2_embed_response.json")),
        sample("cohere_rerank", "/v2/rerank", "api.cohere.com", Text(r#"{"model":"rerank-v4","query":"q","documents":["a"]}"#), 200, JSON, File("cohere/v2_rerank_response.json")),
        sample("jina_rerank", "/v1/rerank", "localhost:8000", Text(r#"{"model":"BAAI/bge-reranker-base","query":"q","documents":["a"]}"#), 200, JSON, File("embeddings/vllm_jina_rerank_response.json")),
        sample("embeddings", "/v1/embeddings", "api.openai.com", File("embeddings/openai_request.json"), 200, JSON, File("embeddings/openai_response.json")),
        sample("completions_stream", "/v1/completions", "localhost:8000", Text(r#"{"model":"m","prompt":["one","two"],"stream":true}"#), 200, SSE, Text("data: {\"id\":\"cmpl-1\",\"object\":\"text_completion\",\"model\":\"m\",\"choices\":[{\"index\":0,\"text\":\"a\",\"finish_reason\":null}]}\n\ndata: {\"id\":\"cmpl-1\",\"object\":\"text_completion\",\"model\":\"m\",\"choices\":[{\"index\":0,\"text\":\"b\",\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":2,\"completion_tokens\":2,\"total_tokens\":4}}\n\ndata: [DONE]\n\n")),
        sample("llama_completion", "/completion", "localhost:8080", Text(r#"{"model":"m","prompt":"hi","n_predict":4,"stream":true}"#), 200, SSE, Text("data: {\"content\":\"Hel\",\"stop\":false}\n\ndata: {\"content\":\"lo\",\"stop\":true,\"stop_type\":\"eos\",\"model\":\"m\",\"tokens_predicted\":2,\"tokens_evaluated\":5,\"timings\":{}}\n\n")),
        sample("images", "/v1/images/generations", "api.openai.com", Text(r#"{"model":"gpt-image-2","prompt":"a heron","size":"1024x1024"}"#), 200, JSON, Text(r#"{"created":1,"data":[{"b64_json":"AAAA"}],"usage":{"input_tokens":5,"input_tokens_details":{"text_tokens":5,"image_tokens":0},"output_tokens":100,"total_tokens":105}}"#)),
        sample("transcription", "/v1/audio/transcriptions", "api.openai.com", Text("--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\ngpt-transcribe\r\n--b--\r\n"), 200, JSON, Text(r#"{"text":"hello","usage":{"type":"tokens","input_tokens":14,"output_tokens":3,"total_tokens":17}}"#)),
        sample("speech", "/v1/audio/speech", "api.openai.com", Text(r#"{"model":"tts-3","input":"hello","voice":"x"}"#), 200, "audio/mpeg", Text("\u{1}ID3 not really sound")),
        sample("moderations", "/v1/moderations", "api.openai.com", Text(r#"{"model":"omni-moderation","input":"x"}"#), 200, JSON, Text(r#"{"id":"modr-1","model":"omni-moderation","results":[{"flagged":false}]}"#)),
        sample("mcp_tools_list", "/mcp", "mcp.example.com", Text(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}}"#), 200, JSON, Text(r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"get-weather","description":"w","inputSchema":{"type":"object"}}]}}"#)),
        sample("mcp_tool_call_stream", "/mcp", "mcp.example.com", Text(r#"{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"get-weather","arguments":{"city":"Paris"},"_meta":{"progressToken":1}}}"#), 200, SSE, Text("id: 7\nevent: message\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{\"progressToken\":1,\"progress\":0.5}}\n\nevent: message\ndata: {\"jsonrpc\":\"2.0\",\"id\":2,\"result\":{\"content\":[{\"type\":\"text\",\"text\":\"rain\"}],\"structuredContent\":{\"sky\":\"rain\"},\"isError\":false}}\n\n")),
        sample("mcp_error", "/custom/path", "mcp.example.com", Text(r#"{"jsonrpc":"2.0","id":4,"method":"tools/call","params":{"name":"nope"}}"#), 200, JSON, Text(r#"{"jsonrpc":"2.0","id":4,"error":{"code":-32602,"message":"Unknown tool: nope"}}"#)),
        sample("mcp_notification", "/mcp", "mcp.example.com", Text(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#), 202, JSON, Text("")),
        sample("unknown_path_by_answer", "/llm/proxy", "gw.internal", Text(r#"{"model":"m","max_tokens":5,"stream":true,"messages":[{"role":"user","content":"hi"}]}"#), 200, SSE, File("anthropic/stream_thinking_text_tool.sse")),
        sample("unknown_path_by_shape", "/llm/proxy", "gw.internal", File("anthropic/request.json"), 200, SSE, File("anthropic/stream_thinking_text_tool.sse")),
    ];
    samples.extend(rows::samples());
    samples
}

fn talk(sample: &Sample) -> Talk {
    let body = sample.request.bytes();
    let kind = if body.starts_with(b"--") { "multipart/form-data; boundary=b" } else { JSON };
    let (method, target) = sample.target.split_once(' ').unwrap_or(("POST", sample.target));
    let mut request = format!(
        "{method} {target} HTTP/1.1\r\nHost: {}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
        sample.host,
        body.len()
    )
    .into_bytes();
    request.extend_from_slice(&body);
    let mut answer = format!(
        "HTTP/1.1 {} X\r\nContent-Type: {}\r\nTransfer-Encoding: chunked\r\n\r\n",
        sample.status, sample.content_type
    )
    .into_bytes();
    answer.extend_from_slice(&chunked(&sample.answer.bytes(), 37));
    Talk { pieces: vec![(Direction::Sent, request), (Direction::Received, answer)] }
}

/// A call as JSON, without what depends on time.
fn golden(call: &Call) -> Value {
    let messages = |list: &[&heron::wire::Message]| serde_json::to_value(list).unwrap();
    let sent: Vec<&heron::wire::Message> = call.messages.iter().map(|message| &**message).collect();
    let output: Vec<&heron::wire::Message> = call.output.iter().collect();
    json!({
        "wire_api": call.wire_api.as_str(), "provider": call.provider, "server_kind": call.server_kind,
        "operation": call.operation.as_str(), "request_model": call.request_model, "response_model": call.response_model,
        "response_id": call.response_id, "previous_response_id": call.previous_response_id,
        "conversation_hint": call.conversation_hint, "parameters": call.parameters, "stream": call.stream,
        "messages": messages(&sent), "tools_offered": &call.tools_offered[..], "output": messages(&output),
        "usage": call.usage, "service_tier": call.service_tier, "finish_reason": call.finish_reason,
        "finish": call.finish, "status": call.status, "error": call.error, "flaws": call.flaws,
        "request_bytes": call.request.body_len, "response_bytes": call.response.body_len,
        "token_events": call.times.token_gaps.len() + usize::from(call.times.first_token.is_some()),
    })
}

fn only_call(pipe: &Pipe, name: &str) -> Call {
    let done = pipe.done();
    assert_eq!(done.len(), 1, "{name}: calls");
    assert_eq!(pipe.open_exchanges(), 0, "{name}: exchanges left open");
    done[0].clone()
}

fn compare(name: &str, value: &Value) {
    let path = PathBuf::from("testdata/wire/golden").join(format!("{name}.json"));
    let text = serde_json::to_string_pretty(value).unwrap() + "\n";
    if std::env::var_os("HERON_BLESS").is_some() {
        fs::write(&path, text).unwrap();
        return;
    }
    let wanted = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, wanted, "{name} is not the golden call");
}

#[test]
fn every_sample_gives_its_golden_call() {
    for sample in samples() {
        let mut pipe = Pipe::new(Bounds::default());
        talk(&sample).play(&mut pipe, CloseHow::Finished, |_, _| Vec::new());
        let call = only_call(&pipe, sample.name);
        assert_eq!(&call.request.body[..], &sample.request.bytes()[..], "{}: request body", sample.name);
        assert_eq!(&call.response.body[..], &sample.answer.bytes()[..], "{}: response body", sample.name);
        compare(sample.name, &golden(&call));
    }
}

#[test]
fn cutting_anywhere_gives_the_same_call() {
    for sample in samples() {
        let talk = talk(&sample);
        let run = |cut: &dyn Fn(usize, usize) -> Vec<usize>| {
            let mut pipe = Pipe::new(Bounds { progress: None, ..Bounds::default() });
            talk.play(&mut pipe, CloseHow::Finished, cut);
            golden(&only_call(&pipe, sample.name))
        };
        let whole = run(&|_, _| Vec::new());
        for size in [1, 2, 3, 5, 16, 64] {
            assert_eq!(run(&|_, len| (1..len).step_by(size).collect()), whole, "{}: in pieces of {size}", sample.name);
        }
        for piece in 0..2 {
            let len = talk.pieces[piece].1.len();
            for at in (1..len).step_by(len / 100 + 1) {
                let cut = run(&|index, _| if index == piece { vec![at] } else { Vec::new() });
                assert_eq!(cut, whole, "{}: piece {piece} cut at {at}", sample.name);
            }
        }
    }
}

#[test]
fn an_answer_that_ends_anywhere_keeps_what_came_and_says_so() {
    for sample in samples() {
        let whole = talk(&sample);
        let len = whole.pieces[1].1.len();
        for end in (0..len).step_by(7) {
            let pieces = vec![whole.pieces[0].clone(), (Direction::Received, whole.pieces[1].1[..end].to_vec())];
            let mut pipe = Pipe::new(Bounds { progress: None, ..Bounds::default() });
            Talk { pieces }.play(&mut pipe, CloseHow::Reset, |_, _| Vec::new());
            let call = only_call(&pipe, sample.name);
            let is_whole = call.flaws.iter().all(|flaw| flaw.as_str() != "cut");
            assert!(is_whole || call.error.is_some(), "{}: cut at {end} without an error", sample.name);
        }
    }
}

#[test]
fn a_client_that_stops_reading_after_the_finish_reason_has_its_answer() {
    let sample = samples().into_iter().find(|sample| sample.name == "anthropic_stream").unwrap();
    let whole = talk(&sample);
    let body = sample.answer.bytes();
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {SSE}\r\ncontent-length: {}\r\n\r\n", body.len());
    let answer = [head.as_bytes(), &body].concat();
    let end = |mark: &[u8]| answer.windows(mark.len()).position(|window| window == mark).unwrap();
    let run = |to: usize, how| {
        let pieces = vec![whole.pieces[0].clone(), (Direction::Received, answer[..to].to_vec())];
        let mut pipe = Pipe::new(Bounds::default());
        Talk { pieces }.play(&mut pipe, how, |_, _| Vec::new());
        only_call(&pipe, sample.name)
    };
    let left = run(end(b"event: message_stop"), CloseHow::Freed);
    assert_eq!((left.error, left.finish_reason.as_deref()), (None, Some("tool_use")));
    assert_eq!(left.flaws, [heron::flaw::Flaw::Cut]);
    assert_eq!(run(end(b"event: message_stop"), CloseHow::Reset).error.unwrap().kind, "reset");
    assert_eq!(run(end(b"event: message_delta"), CloseHow::Freed).error.unwrap().kind, "aborted");
}

#[test]
fn a_client_that_leaves_in_the_middle_aborts_its_call() {
    let sample = samples().into_iter().find(|sample| sample.name == "chat_stream_no_usage").unwrap();
    let whole = talk(&sample);
    let answer = &whole.pieces[1].1;
    let run = |first: Direction| {
        let mut pipe = Pipe::new(Bounds::default());
        let pieces = vec![whole.pieces[0].clone(), (Direction::Received, answer[..answer.len() * 3 / 4].to_vec())];
        Talk { pieces }.play_open(&mut pipe, |_, _| Vec::new());
        for direction in [first, first.opposite()] {
            let close =
                Close { conn: ConnId(1), at: Nanos(START + 1), direction: Some(direction), how: CloseHow::Finished };
            pipe.push(Event::Close(close));
        }
        only_call(&pipe, sample.name)
    };
    let left = run(Direction::Sent);
    assert_eq!(left.error.as_ref().unwrap().kind, "aborted");
    assert!(!left.answer_text().is_empty());
    assert_eq!(run(Direction::Received).error.unwrap().kind, "cut");
}
