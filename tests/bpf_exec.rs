//! `heron exec` around real agents: what it stores equals what the server really received and sent.
#![allow(clippy::unwrap_used)]

mod lab;

use lab::{Exec, Server, agent, can_trace, counter, equals_record, get, python};
use serde_json::Value;

/// Runs an SDK's agent for 200 calls, and compares lines and stored bodies with the server's record.
fn two_hundred_calls(test: &str, interpreter: &str, script: &str, more: &[&str]) {
    if !can_trace(test) {
        return;
    }
    let server = Server::start(&[]);
    let (url, script) = (server.url(), agent(script));
    let mut command = vec![interpreter, script.to_str().unwrap(), "--base-url", &url, "--calls", "200", "--mixed"];
    command.extend(more);
    let mut run = Exec::start(&server, &["--keep"], &command);
    let api = run.console();
    let ended = run.until("the command has ended");
    assert!(ended.contains("code 0"), "{}", run.said);
    equals_record(&server, &run.lines(), Some(&api));
    assert_eq!(counter(&api, "kernel", "ring_full"), 0);
    assert_eq!(counter(&api, "kernel", "read_fault"), 0);
    let (code, said) = run.interrupt();
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("200 calls") && said.contains("nothing lost"), "{said}");
}

#[test]
fn two_hundred_calls_of_the_python_anthropic_sdk_equal_the_record() {
    two_hundred_calls("python anthropic", python().to_str().unwrap(), "anthropic_agent.py", &[]);
}

#[test]
fn two_hundred_calls_of_the_python_openai_sdk_equal_the_record() {
    two_hundred_calls("python openai", python().to_str().unwrap(), "openai_agent.py", &[]);
}

#[test]
fn two_hundred_calls_of_the_node_anthropic_sdk_equal_the_record() {
    two_hundred_calls("node anthropic", "node", "anthropic_agent.mjs", &[]);
}

#[test]
fn two_hundred_calls_of_the_node_openai_sdk_equal_the_record() {
    two_hundred_calls("node openai", "node", "openai_agent.mjs", &[]);
}

#[test]
fn no_body_byte_of_other_traffic_crosses_the_ring() {
    if !can_trace("filter") {
        return;
    }
    let server = Server::start(&[]);
    let (url, script) = (server.url(), agent("noise.py"));
    let python = python();
    let command = [python.to_str().unwrap(), script.to_str().unwrap(), "--base-url", &url, "--requests", "1000"];
    let mut run = Exec::start(&server, &["--keep"], &command);
    let api = run.console();
    run.until("the command has ended");
    equals_record(&server, &run.lines(), Some(&api));
    // 1,000 bodies of 2,000 bytes went by and were counted; what passed is less than one of them per LLM call beyond the calls' own bytes.
    let filtered = counter(&api, "kernel", "filtered_bytes");
    let passed = counter(&api, "kernel", "passed_bytes");
    assert!(filtered > 2_000_000, "filtered {filtered}");
    let of_calls: u64 = std::fs::read_to_string(server.record())
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|row| !row["wire_api"].is_null())
        .map(|row| row["request_body"]["len"].as_u64().unwrap() + row["response_body"]["len"].as_u64().unwrap() + 4_000)
        .sum();
    assert!(passed < of_calls, "passed {passed}, the calls with their heads are at most {of_calls}");
    run.interrupt();
}

#[test]
fn a_call_is_there_while_it_streams_and_the_agent_finishes_when_heron_is_killed() {
    if !can_trace("kill") {
        return;
    }
    let server = Server::start(&["--gate", "2"]);
    let (url, script, python) = (server.url(), agent("anthropic_agent.py"), python());
    let done = server.dir.path().join("agent-done");
    let shell = format!(
        "'{}' '{}' --base-url {url} --calls 1 --stream && echo finished > '{done}.part' && mv '{done}.part' '{done}'",
        python.display(),
        script.display(),
        done = done.display()
    );
    let mut run = Exec::start(&server, &[], &["sh", "-c", &shell]);
    let api = run.console();
    server.control("/__wait?gated=1");
    // The stream stands still in the middle: heron shows the call as one that is under way.
    let shown = loop {
        let list: Value = serde_json::from_slice(&get(&api, "/api/calls").unwrap()).unwrap();
        if let Some(call) = list["calls"].as_array().unwrap().first() {
            break call.clone();
        }
        std::thread::yield_now();
    };
    assert_eq!(shown["state"], "in_progress");
    assert_eq!(shown["stream"], true);
    let heron = nix::unistd::Pid::from_raw(run.child.id().cast_signed());
    nix::sys::signal::kill(heron, nix::sys::signal::Signal::SIGKILL).unwrap();
    run.child.wait().unwrap();
    server.control("/__continue?all=1");
    server.control("/__wait?ended=1");
    // The shell that waits for the agent writes the mark; it lives on without heron.
    while !done.exists() {
        std::thread::yield_now();
    }
    assert_eq!(std::fs::read_to_string(&done).unwrap(), "finished\n");
}

#[test]
fn the_commands_exit_code_is_herons() {
    if !can_trace("exit code") {
        return;
    }
    let server = Server::start(&[]);
    for (script, expected) in [("exit 37", 37), ("kill -9 $$", 137), ("true", 0)] {
        let (code, said) = Exec::start(&server, &["--no-console"], &["sh", "-c", script]).wait();
        assert_eq!(code, expected, "{script}: {said}");
    }
}

#[test]
fn a_command_that_does_not_exist_gets_one_sentence() {
    if !can_trace("no command") {
        return;
    }
    let server = Server::start(&[]);
    let (code, said) = Exec::start(&server, &[], &["no-such-command-of-heron"]).wait();
    assert!(code == 1 || code == 2, "{code}");
    assert!(said.contains("no-such-command-of-heron") && said.trim_end().lines().count() == 1, "{said}");
}
