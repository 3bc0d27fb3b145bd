//! The replay of every capture of a real SDK equals the scripted server's record: fields, usage, tool calls, sizes, turns.
//! `testdata/check_record.py` compares; its first differences are what a failing test shows.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn equals_the_record(name: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let capture = root.join(format!("testdata/pcaps/sdk/{name}.pcap"));
    let replay = Command::new(env!("CARGO_BIN_EXE_heron")).arg("replay").arg(&capture).arg("--json").output();
    let replay = replay.expect("heron runs");
    assert!(replay.status.success(), "{name}: {}", String::from_utf8_lossy(&replay.stderr));
    let calls = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.calls.jsonl"));
    fs::write(&calls, &replay.stdout).expect("the scratch folder can be written");
    let check = Command::new("python3")
        .arg(root.join("testdata/check_record.py"))
        .args(["--turns", "--require-client", "--record"])
        .arg(capture.with_extension("record.jsonl"))
        .arg("--calls")
        .arg(&calls)
        .output()
        .expect("python3 runs");
    let said = String::from_utf8_lossy(&check.stdout);
    assert!(
        check.status.success(),
        "{}\n{}",
        said.lines().take(40).collect::<Vec<_>>().join("\n"),
        said.lines().last().unwrap_or_default()
    );
}

macro_rules! captures {
    ($($test:ident: $name:literal,)*) => {
        $(#[test]
        fn $test() {
            equals_the_record($name);
        })*
    };
}

captures! {
    python_anthropic: "py-anthropic",
    python_openai: "py-openai",
    python_litellm: "py-litellm",
    node_anthropic: "js-anthropic",
    node_openai: "js-openai",
    python_openai_responses: "py-openai-responses",
    python_gemini: "py-gemini",
    python_bedrock_converse: "py-bedrock-converse",
    python_bedrock_invoke: "py-bedrock-invoke",
    node_openai_responses: "js-openai-responses",
    every_api_and_every_failure: "every-call",
    calls_between_noise: "noise",
    curl_over_http1_and_http2: "curl",
    python_anthropic_over_http2: "py-anthropic-h2",
    python_openai_over_http2: "py-openai-h2",
    nodes_http2_module: "h2-node",
    nodes_fetch_over_http2: "h2-node-fetch",
    deno_over_http2: "h2-deno",
    go_over_http2: "h2-go",
    rust_reqwest_over_http2: "h2-reqwest",
    python_websockets: "ws-python",
    nodes_ws: "ws-node",
    curl_in_parallel_over_http2: "h2-curl",
}
