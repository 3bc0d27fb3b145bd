//! Captures of the vendors' SDKs through `conn`, `http` and `wire`: each call's fields against what the scripted server
//! wrote down that it really received and sent.

#![allow(clippy::unwrap_used)]

mod wire_world;

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use heron::capture::pcap::{FileSource, Options};
use heron::capture::{Source, StopFlag};
use heron::wire::{Bounds, Call};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use wire_world::Pipe;

fn replay(path: &Path) -> Pipe {
    let source = Box::new(FileSource::open(Options { files: vec![path.to_owned()], ..Options::default() }).unwrap());
    let mut pipe = Pipe::new(Bounds::default());
    let mut out = |batch: Vec<_>| {
        batch.into_iter().for_each(|event| pipe.push(event));
        ControlFlow::Continue(())
    };
    source.run(&mut out, &StopFlag::new()).unwrap();
    pipe
}

fn records(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    let rows = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    rows.filter(|row| row["kind"] == "call").collect()
}

fn sha(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn seen(call: &Call) -> Value {
    let tools: Vec<Value> =
        call.tool_calls().map(|tool| json!({"id": tool.id, "name": tool.name, "arguments": tool.arguments})).collect();
    json!({
        "wire_api": call.wire_api.as_str(), "operation": call.operation.as_str(), "request_model": call.request_model,
        "response_model": call.response_model, "stream": call.stream, "status": call.status,
        "finish_reason": call.finish_reason, "tools_offered": call.tools_offered.len(), "messages": call.messages.len(),
        "tool_calls": tools, "usage": call.usage,
        "request_body": {"len": call.request.body_len, "sha256": sha(&call.request.body)},
        "response_body": {"len": call.response.body_len, "sha256": sha(&call.response.body)},
        "answer": call.answer_text(), "error": call.error.as_ref().map(|error| &error.kind), "flaws": call.flaws.len(),
    })
}

/// The differences of one capture.
fn differences(name: &str) -> Vec<String> {
    let folder = Path::new("testdata/pcaps/sdk");
    let pipe = replay(&folder.join(format!("{name}.pcap")));
    let mut by_client: BTreeMap<String, Vec<&Call>> = BTreeMap::new();
    for call in pipe.done() {
        by_client.entry(call.client.as_ref().unwrap().to_string()).or_default().push(call);
    }
    by_client.values_mut().for_each(|calls| calls.sort_by_key(|call| (call.times.request_first, call.id)));
    let mut wrong = Vec::new();
    let mut compared = 0;
    for row in records(&folder.join(format!("{name}.record.jsonl"))) {
        let place = format!("{name}, exchange {}", row["n"]);
        let calls = by_client.get_mut(row["client"].as_str().unwrap());
        // Calls in parallel may ask the same: then the answers tell them apart.
        let asked = |call: &Call| sha(&call.request.body) == row["request_body"]["sha256"].as_str().unwrap_or("");
        let answered = |call: &Call| sha(&call.response.body) == row["response_body"]["sha256"].as_str().unwrap_or("");
        let found = calls.and_then(|calls| {
            let exact = calls.iter().position(|call| asked(call) && answered(call));
            exact.or_else(|| calls.iter().position(|call| asked(call))).map(|at| calls.remove(at))
        });
        let Some(call) = found else {
            wrong.push(format!("{place}: no call"));
            continue;
        };
        let mut got = seen(call);
        compared += 1;
        let mut want = row.clone();
        want["error"] = row["error"]["kind"].clone();
        want["flaws"] = json!(0);
        if row["complete"] == false {
            got["response_body"] = row["response_body"].clone();
            got["flaws"] = json!(0);
        }
        if row["messages"].is_null() {
            got["messages"] = Value::Null;
        }
        for (field, value) in got.as_object().unwrap() {
            let mut wanted = want[field].clone();
            if field == "usage" && row["usage_final"] != true {
                continue;
            }
            if field == "usage" && wanted.is_null() {
                wanted = serde_json::to_value(heron::wire::Usage::default()).unwrap();
            }
            if field == "finish_reason" && row["usage_final"] != true || field == "answer" && wanted.is_null() {
                continue;
            }
            if field == "tool_calls" && wanted.is_null() {
                wanted = json!([]);
            }
            if field == "error" && (wanted == "cut" || row["error"]["kind"].is_null() && !row["error"].is_null()) {
                continue;
            }
            if *value != wanted {
                wrong.push(format!("{place}: {field}: server {wanted}, heron {value}"));
            }
        }
    }
    let left: usize = by_client.values().map(Vec::len).sum();
    if left > 0 {
        wrong.push(format!("{name}: {left} calls that the server never saw"));
    }
    if compared == 0 {
        wrong.push(format!("{name}: nothing compared"));
    }
    wrong
}

fn check(names: &[&str]) {
    let wrong: Vec<String> = names.iter().flat_map(|name| differences(name)).collect();
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong[..wrong.len().min(40)].join("\n"));
}

#[test]
fn anthropic_sdks_calls_equal_the_servers_record() {
    check(&["curl", "js-anthropic", "py-anthropic", "py-litellm"]);
}

#[test]
fn openai_sdks_chat_calls_equal_the_servers_record() {
    check(&["js-openai", "py-openai"]);
}

#[test]
fn openai_sdks_responses_calls_equal_the_servers_record() {
    check(&["js-openai-responses", "py-openai-responses"]);
}

#[test]
fn gemini_sdks_calls_equal_the_servers_record() {
    check(&["py-gemini"]);
}

#[test]
fn bedrock_sdks_calls_equal_the_servers_record() {
    check(&["py-bedrock-converse", "py-bedrock-invoke"]);
}

#[test]
fn calls_over_http2_equal_the_servers_record() {
    check(&[
        "py-anthropic-h2",
        "py-openai-h2",
        "h2-node",
        "h2-node-fetch",
        "h2-deno",
        "h2-go",
        "h2-reqwest",
        "h2-curl",
    ]);
}

#[test]
fn calls_over_websockets_equal_the_servers_record() {
    check(&["ws-python", "ws-node"]);
}

#[test]
fn every_api_and_every_failure_equals_the_servers_record() {
    check(&["every-call"]);
}

#[test]
fn calls_among_noise_equal_the_servers_record() {
    check(&["noise"]);
}
