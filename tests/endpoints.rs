//! Fifty connections of one process at a time: each call is on its true connection, as the server saw it.
//!
//! Every prompt is another one, and bodies are compared byte for byte, so calls that change places are noticed.
#![allow(clippy::unwrap_used)]

mod lab;

use std::path::{Path, PathBuf};

use lab::{Exec, Server, agent, can_trace, compare};

fn fifty_connections(test: &str, runtime: &Path) {
    if !can_trace(test) {
        return;
    }
    let server = Server::start(&[]);
    let (url, script) = (server.url(), agent("anthropic_agent.mjs"));
    let command = [
        runtime.to_str().unwrap(),
        script.to_str().unwrap(),
        "--base-url",
        &url,
        "--calls",
        "100",
        "--concurrency",
        "50",
        "--mixed",
        "--no-tools",
    ];
    let mut run = Exec::start(&server, &["--keep"], &command);
    let api = run.console();
    let ended = run.until("the command has ended");
    assert!(ended.contains("code 0"), "{}", run.said);
    compare(&server, &run.lines(), Some(&api), &["--require-client"]);
    let record = std::fs::read_to_string(server.record()).unwrap();
    let clients: std::collections::BTreeSet<String> = record
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .filter(|row| row["kind"] == "call")
        .map(|row| row["client"].as_str().unwrap().to_owned())
        .collect();
    assert!(clients.len() >= 50, "the agent used {} connections", clients.len());
    let (code, said) = run.interrupt();
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("100 calls") && said.contains("nothing lost"), "{said}");
}

#[test]
fn fifty_connections_of_one_node_process_are_told_apart() {
    fifty_connections("fifty connections of node", Path::new("node"));
}

#[test]
fn fifty_connections_of_one_bun_process_are_told_apart() {
    let agents = std::env::var_os("HERON_AGENTS_DIR").map_or_else(Default::default, PathBuf::from);
    let bun = agents.join("bun14/node_modules/@oven/bun-linux-x64/bin/bun");
    if !bun.exists() {
        eprintln!("SKIPPED fifty connections of bun: Bun is not installed (testdata/agents-matrix/install.sh bun14)");
        return;
    }
    fifty_connections("fifty connections of bun", &bun);
}
