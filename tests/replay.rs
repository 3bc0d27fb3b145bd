//! `heron replay` as a user runs it: the built binary, real captures, and bad input.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn captures() -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir("testdata/pcaps/sdk")
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "pcap"))
        .collect();
    found.sort();
    assert!(found.len() >= 10, "the SDK captures are missing");
    found
}

fn heron(home: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_heron"))
        .args(args)
        .env("HERON_DATA_DIR", home)
        .env_remove("HERON_LOG")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn lines(home: &Path, args: &[&str]) -> String {
    let output = heron(home, args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn any_number_of_workers_gives_the_same_lines() {
    let home = tempfile::tempdir().unwrap();
    for capture in captures() {
        let one = lines(home.path(), &["replay", text(&capture), "--json", "--workers", "1"]);
        for workers in ["2", "5"] {
            let more = lines(home.path(), &["replay", text(&capture), "--json", "--workers", workers]);
            assert_eq!(one, more, "{} with {workers} workers", capture.display());
        }
    }
}

#[test]
fn a_tape_of_a_replay_gives_the_replay_again() {
    let home = tempfile::tempdir().unwrap();
    for capture in captures() {
        let tape = home.path().join("run.tape");
        let live = lines(home.path(), &["replay", text(&capture), "--json", "--tape", text(&tape)]);
        let first = lines(home.path(), &["replay", text(&tape), "--json"]);
        let second = lines(home.path(), &["replay", text(&tape), "--json", "--workers", "3"]);
        assert_eq!(live, first, "{}", capture.display());
        assert_eq!(first, second, "{}", capture.display());
    }
}

#[test]
fn several_files_are_one_replay() {
    let home = tempfile::tempdir().unwrap();
    let two = captures();
    let both = lines(home.path(), &["replay", text(&two[0]), text(&two[1]), "--json"]);
    let apart: usize = two[..2]
        .iter()
        .map(|f| lines(home.path(), &["replay", text(f), "--json"]).matches("\"type\":\"call\"").count())
        .sum();
    assert_eq!(both.matches("\"type\":\"call\"").count(), apart);
    assert!(apart > 0);
    // A pattern that the shell did not expand.
    let copies = home.path().join("captures");
    std::fs::create_dir(&copies).unwrap();
    for (number, capture) in two[..2].iter().enumerate() {
        std::fs::copy(capture, copies.join(format!("part-{number}.pcap"))).unwrap();
    }
    let pattern = lines(home.path(), &["replay", text(&copies.join("part-*.pcap")), "--json"]);
    assert_eq!(pattern, both);
}

#[test]
fn the_service_form_ends_with_its_input_when_told_to_and_stores_nothing_without_retention() {
    let home = tempfile::tempdir().unwrap();
    let capture = &captures()[0];
    let args = ["--pcap-file", text(capture), "--no-retention", "--exit-after-drain", "--no-console"];
    assert!(heron(home.path(), &args).status.success());
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);
}

#[test]
fn a_replay_is_stored_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let home = tempfile::tempdir().unwrap();
    let output = heron(home.path(), &["replay", text(&captures()[0])]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("call") && said.contains("nothing lost"), "{said}");
    let mode = fs::metadata(home.path().join("heron.duckdb")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

/// Exit code and the one sentence.
fn refused(args: &[&str]) -> (i32, String) {
    let home = tempfile::tempdir().unwrap();
    let output = heron(home.path(), args);
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_file_that_is_missing_or_no_capture_gets_one_sentence() {
    let (code, said) = refused(&["replay", "/nonexistent/x.pcap"]);
    assert_eq!(code, 1);
    assert!(said.contains("/nonexistent/x.pcap") && said.trim_end().lines().count() == 1, "{said}");
    let (code, said) = refused(&["replay", "Cargo.toml"]);
    assert_eq!(code, 1);
    assert!(said.contains("Cargo.toml") && said.trim_end().lines().count() == 1, "{said}");
}

#[test]
fn a_capture_that_is_cut_gives_what_was_before_the_cut_and_says_so() {
    let home = tempfile::tempdir().unwrap();
    let capture = fs::read(&captures()[0]).unwrap();
    let cut = home.path().join("cut.pcap");
    fs::write(&cut, &capture[..capture.len() - 11]).unwrap();
    let output = heron(home.path(), &["replay", text(&cut), "--json"]);
    assert!(output.status.success());
    assert!(!output.stdout.is_empty());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("cut.pcap"), "{said}");
}

#[test]
fn a_port_that_is_taken_is_said_before_anything_is_read() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let (code, said) = refused(&["replay", text(&captures()[0]), "--keep", "--port", &port]);
    assert_eq!(code, 1);
    assert!(said.contains(&port) && said.contains("--port") && said.trim_end().lines().count() == 1, "{said}");
}

/// A conversation whose client leaves the last chunk of its first answer unread and goes on over another connection.
fn unread_end() -> Vec<heron::event::Event> {
    use bytes::Bytes;
    use heron::event::{Close, CloseHow, ConnId, Data, Direction, Event, Nanos, Open, Transport};
    let mut events = Vec::new();
    let mut at = 1_790_000_000_000_000_000;
    let mut offsets = std::collections::HashMap::new();
    let mut now = || {
        at += 1_000_000;
        Nanos(at)
    };
    let mut say = |events: &mut Vec<Event>, conn: u64, direction: Direction, text: String| {
        let offset = offsets.entry((conn, direction)).or_insert(0);
        let bytes = Bytes::from(text);
        let len = bytes.len() as u64;
        events.push(Event::Data(Data { conn: ConnId(conn), at: now(), direction, offset: *offset, bytes }));
        *offset += len;
    };
    let open = |conn: u64| {
        Event::Open(Open {
            conn: ConnId(conn),
            at: Nanos(1_790_000_000_000_000_000),
            owner: None,
            endpoints: None,
            transport: Transport::Plain,
            mid_stream: false,
        })
    };
    let request = |messages: &str| {
        let body = format!(r#"{{"model":"m","stream":true,"messages":[{messages}]}}"#);
        let len = body.len();
        format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: api.openai.com\r\ncontent-type: application/json\r\ncontent-length: {len}\r\n\r\n{body}"
        )
    };
    let event = |delta: &str, finish: &str| {
        let data = format!(
            "data: {{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"model\":\"m\",\"choices\":[{{\"index\":0,\"delta\":{delta},\"finish_reason\":{finish}}}]}}\n\n"
        );
        format!("{:x}\r\n{data}\r\n", data.len())
    };
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    let tool = r#"{"tool_calls":[{"index":0,"id":"t1","type":"function","function":{"name":"run","arguments":"{}"}}]}"#;
    let done = "e\r\ndata: [DONE]\n\n\r\n";
    let user = r#"{"role":"user","content":"do it"}"#;
    let asked = r#"{"role":"assistant","content":null,"tool_calls":[{"id":"t1","type":"function","function":{"name":"run","arguments":"{}"}}]}"#;
    let result = r#"{"role":"tool","tool_call_id":"t1","content":"ok"}"#;
    events.push(open(1));
    say(&mut events, 1, Direction::Sent, request(user));
    say(
        &mut events,
        1,
        Direction::Received,
        format!("{head}{}{}{done}", event(tool, "null"), event("{}", "\"tool_calls\"")),
    );
    events.push(open(2));
    say(&mut events, 2, Direction::Sent, request(&format!("{user},{asked},{result}")));
    let answer = format!("{head}{}{}{done}0\r\n\r\n", event(r#"{"content":"done"}"#, "null"), event("{}", "\"stop\""));
    say(&mut events, 2, Direction::Received, answer);
    for conn in [1, 2] {
        let close =
            Close { conn: ConnId(conn), at: Nanos(1_790_000_001_000_000_000), direction: None, how: CloseHow::Freed };
        events.push(Event::Close(close));
    }
    events
}

#[test]
fn an_answer_whose_last_chunk_is_left_unread_is_known_before_the_next_call() {
    let home = tempfile::tempdir().unwrap();
    let tape = home.path().join("unread.tape");
    let mut recorder = heron::capture::tape::Recorder::create(&tape).unwrap();
    recorder.record(&unread_end()).unwrap();
    recorder.finish().unwrap();
    for workers in ["1", "4"] {
        let said = lines(home.path(), &["replay", text(&tape), "--json", "--workers", workers]);
        let turns: Vec<serde_json::Value> = said
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
            .filter(|line| line["type"] == "turn")
            .collect();
        assert_eq!(turns.len(), 1, "{said}");
        assert_eq!(turns[0]["status"], "complete");
        assert_eq!(turns[0]["call_ids"].as_array().unwrap().len(), 2);
        assert_eq!(turns[0]["answer"], "done");
    }
}
