//! Captures of the vendors' SDKs through every pure stage to turns: the turns are those that the scripts ran, with every
//! identifying header and without any, and nothing is found on these clean runs.
//!
//! `HERON_CAPTURES=DIR` replays the captures of another folder too, and holds the turns with and without headers against each other.
#![allow(clippy::unwrap_used)]

mod wire_world;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::Command;

use heron::capture::pcap::{FileSource, Options};
use heron::capture::{Source, StopFlag};
use heron::event::ConnId;
use heron::turn::{Config, Input, Placement, Stage, Turn, TurnUpdate};
use heron::wire::{Bounds, Call, CallId};
use serde_json::Value;
use wire_world::Pipe;

fn calls(path: &Path) -> Vec<Call> {
    let source = Box::new(FileSource::open(Options { files: vec![path.to_owned()], ..Options::default() }).unwrap());
    let mut pipe = Pipe::new(Bounds::default());
    let mut out = |batch: Vec<_>| {
        batch.into_iter().for_each(|event| pipe.push(event));
        ControlFlow::Continue(())
    };
    source.run(&mut out, &StopFlag::new()).unwrap();
    let mut calls: Vec<Call> = pipe.done().into_iter().cloned().collect();
    calls.sort_by_key(|call| (call.times.last_byte.unwrap_or(call.times.request_first), call.id));
    calls
}

struct Outcome {
    turns: Vec<Turn>,
    placed: BTreeMap<CallId, Placement>,
    findings: Vec<String>,
}

fn turns(calls: &[Call]) -> Outcome {
    let mut stage = Stage::new(Config::default());
    let mut out = Vec::new();
    calls.iter().for_each(|call| stage.push(Input::Done(call), &mut out));
    stage.push(Input::End, &mut out);
    let mut outcome = Outcome { turns: Vec::new(), placed: BTreeMap::new(), findings: Vec::new() };
    for update in out {
        match update {
            TurnUpdate::Turn(turn) if turn.settled => outcome.turns.push(*turn),
            TurnUpdate::Placed(placement) => drop(outcome.placed.insert(placement.call_id, placement)),
            TurnUpdate::Finding(finding) => outcome.findings.push(finding.sentence),
            TurnUpdate::Turn(_) | TurnUpdate::Dropped(_) => {}
        }
    }
    outcome.turns.sort_by_key(|turn| (turn.started_at, turn.call_ids.clone()));
    outcome
}

/// The calls without anything that says who sent them.
fn stripped(calls: &[Call]) -> Vec<Call> {
    let strip = |(number, call): (usize, &Call)| {
        let mut call = call.clone();
        call.conversation_hint = None;
        call.request.headers.clear();
        call.process = None;
        call.conn = ConnId(1_000_000 + number as u64);
        call
    };
    calls.iter().enumerate().map(strip).collect()
}

/// What must be the same: prompts, answers, statuses, calls, and which calls are auxiliary.
fn told(outcome: &Outcome) -> (Vec<String>, Vec<CallId>) {
    let turns = outcome.turns.iter().map(|turn| {
        format!(
            "{} {:?} {:?} {:?} {:?}",
            turn.status.as_str(),
            turn.prompt,
            turn.answer,
            turn.call_ids,
            turn.tool_calls
        )
    });
    let auxiliary = outcome.placed.values().filter(|placement| placement.auxiliary).map(|p| p.call_id);
    (turns.collect(), auxiliary.collect())
}

fn captures(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.extension().is_some_and(|extension| extension == "pcap"));
    found.sort();
    found
}

#[test]
fn turns_of_the_captures_are_the_same_without_any_header_and_raise_nothing() {
    let mut folders = vec![PathBuf::from("testdata/pcaps/sdk")];
    folders.extend(std::env::var_os("HERON_CAPTURES").map(PathBuf::from));
    let mut seen = 0;
    for path in folders.iter().flat_map(|folder| captures(folder)) {
        let calls = calls(&path);
        let whole = turns(&calls);
        assert_eq!(told(&turns(&stripped(&calls))), told(&whole), "{}", path.display());
        // `every-call` asks for every kind of error.
        if !path.ends_with("every-call.pcap") {
            assert_eq!(whole.findings, Vec::<String>::new(), "{}", path.display());
        }
        seen += whole.turns.len();
    }
    assert!(seen > 20, "only {seen} turns");
}

/// The JSON lines of the built binary.
fn lines(capture: &str, more: &[&str]) -> Vec<Value> {
    let home = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_heron"))
        .args(["replay", "--no-retention", "--no-console", "--json", capture])
        .args(more)
        .env("HOME", home.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

const EVERY_CALL: &str = "testdata/pcaps/sdk/every-call.pcap";

fn of<'a>(lines: &'a [Value], kind: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["type"] == kind).collect()
}

#[test]
fn findings_are_lines_that_name_their_turn_and_calls_for_any_number_of_workers() {
    let one = lines(EVERY_CALL, &["--workers", "1"]);
    assert_eq!(one, lines(EVERY_CALL, &["--workers", "4"]));
    let ids = |kind| of(&one, kind).iter().map(|line| line["id"].clone()).collect::<Vec<_>>();
    let (turns, calls, findings) = (ids("turn"), ids("call"), of(&one, "finding"));
    assert!(findings.len() > 10, "{}", findings.len());
    for finding in findings {
        assert!(turns.contains(&finding["turn_id"]), "{finding}");
        assert!(finding["call_ids"].as_array().unwrap().iter().all(|call| calls.contains(call)), "{finding}");
        assert!(["info", "warning", "critical"].contains(&finding["severity"].as_str().unwrap()), "{finding}");
        assert!(finding["kind"].is_string() && finding["sentence"].as_str().unwrap().ends_with('.'), "{finding}");
    }
}

#[test]
fn a_turn_costs_what_its_calls_cost_and_an_unknown_price_is_null() {
    let lines = lines(EVERY_CALL, &[]);
    let calls = of(&lines, "call");
    let mut priced = 0;
    for turn in of(&lines, "turn") {
        let of_turn = || calls.iter().filter(|call| call["turn_id"] == turn["id"] && call["cost"].is_object());
        let sum: f64 = of_turn().map(|call| call["cost"]["total"].as_f64().unwrap()).sum();
        assert_eq!(turn["cost"].is_null(), of_turn().count() == 0, "{turn}");
        assert!((turn["cost"]["total"].as_f64().unwrap_or(0.0) - sum).abs() < 1e-9, "{turn}");
        priced += of_turn().count();
    }
    assert!(priced > 20, "{priced}");
    let cost = |model: &str| calls.iter().find(|call| call["response_model"] == model).map(|call| call["cost"].clone());
    assert_eq!(cost("qwen3:8b"), Some(Value::Null), "a model on a machine of one's own");
    // 4,027 input tokens at 2 dollars a million, of which some were cached, and 61 of output at 10.
    let sonnet = cost("claude-sonnet-5-5").unwrap();
    assert_eq!((&sonnet["currency"], &sonnet["complete"]), (&Value::from("USD"), &Value::from(true)));
    assert!((sonnet["output_text"].as_f64().unwrap() - 61.0 * 10e-6).abs() < 1e-12, "{sonnet}");
}

#[test]
fn prices_of_one_s_own_go_before_the_table() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("prices.toml");
    std::fs::write(&file, "[[price]]\nmodel = \"qwen3*\"\ninput = 1\noutput = 2\n").unwrap();
    let lines = lines(EVERY_CALL, &["--prices", file.to_str().unwrap()]);
    let own = of(&lines, "call").into_iter().find(|call| call["response_model"] == "qwen3:8b").unwrap();
    let tokens = |name: &str| own["usage"][name].as_f64().unwrap() * 1e-6;
    let expected = tokens("input_total") + 2.0 * tokens("output_total");
    assert!((own["cost"]["total"].as_f64().unwrap() - expected).abs() < 1e-12, "{own}");
}

/// Of each capture: turns, calls in turns, tool calls, agent. Each script asks for a probe, runs it and reports, unless it says
/// otherwise (`make-sdk-captures.sh`).
const EXPECTED: &str = "\
curl 3 3 0 curl
js-anthropic 4 8 5 anthropic-node
js-openai-responses 4 8 5 openai-node
js-openai 4 8 5 openai-node
py-anthropic-h2 6 12 7 anthropic-python
py-anthropic 4 8 5 anthropic-python
py-bedrock-converse 4 8 5 boto3
py-bedrock-invoke 4 4 0 boto3
py-gemini 4 8 5 google-genai-python
py-litellm 4 4 0 litellm,openai-python
py-openai-h2 6 12 7 openai-python
py-openai-responses 4 8 5 openai-python
py-openai 4 8 5 openai-python
";

#[test]
fn turns_of_the_captures_are_those_that_the_scripts_ran() {
    let mut wrong = Vec::new();
    for line in EXPECTED.lines() {
        let name = line.split(' ').next().unwrap();
        let outcome = turns(&calls(&Path::new("testdata/pcaps/sdk").join(format!("{name}.pcap"))));
        let complete = outcome.turns.iter().all(|turn| turn.status.as_str() == "complete");
        let calls: usize = outcome.turns.iter().map(|turn| turn.call_ids.len()).sum();
        let tools: u32 = outcome.turns.iter().map(|turn| turn.tool_calls).sum();
        let mut agents: Vec<&str> = outcome.turns.iter().map(|turn| turn.agent.kind.as_str()).collect();
        agents.sort_unstable();
        agents.dedup();
        let got = format!("{name} {} {calls} {tools} {}", outcome.turns.len(), agents.join(","));
        if got != line || !complete {
            wrong.push(got);
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}
