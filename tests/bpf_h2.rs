//! HTTP/2 connections on which not everything is LLM traffic. Needs root and BTF; says so loudly when it is skipped.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::io::BufRead;

use heron::capture::NoCall;
use heron::capture::ebpf::{Config, EbpfSource};
use heron::capture::{Source, StopFlag};
use heron::event::{Direction, Event};
use heron::pipeline;
use support::{Held, Server, Tracer, can_trace, data, python, rules};

const GIT: &str = "open:/git-upload-pack?size=2000000";
const LLM: &str = "open:/v1/messages?size=50000:70000";

fn client(server: &Server, steps: &[&str]) -> Held {
    let mut args = vec![data("h2.py").to_string_lossy().into_owned(), server.port.to_string()];
    args.extend(steps.iter().map(|step| (*step).to_owned()));
    Held::new(&python(), &args)
}

/// Bytes of data frames by stream and letter; panics when the bytes are no sequence of whole frames.
fn bodies(mut bytes: &[u8]) -> BTreeMap<(u32, u8), usize> {
    let mut found = BTreeMap::new();
    bytes = bytes.strip_prefix(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap_or(bytes);
    while !bytes.is_empty() {
        let len = usize::from(bytes[0]) << 16 | usize::from(bytes[1]) << 8 | usize::from(bytes[2]);
        let stream = u32::from_be_bytes(bytes[5..9].try_into().unwrap());
        assert!(bytes[3] < 10, "no frame begins here");
        if bytes[3] == 0 {
            let body = &bytes[9..9 + len];
            assert!(body.iter().all(|byte| *byte == body[0]), "a frame of stream {stream} is mixed up");
            *found.entry((stream, body[0])).or_default() += len;
        }
        bytes = &bytes[9 + len..];
    }
    found
}

#[test]
fn judged_exchanges_are_left_out_and_later_calls_are_whole() {
    if !can_trace("judged_exchanges_are_left_out_and_later_calls_are_whole") {
        return;
    }
    let server = Server::run("h2.py", &["serve"]);
    // The call shares its time with the judged one, and with one on which nobody has judged.
    let mut held = client(&server, &[GIT, "wait", LLM, "open:/other?size=40000", "rest"]);
    let tracer = Tracer::start(Config { roots: vec![held.root()], ..Config::default() });
    let mut said = held.stdout();
    held.release();
    said.read_line(&mut String::new()).unwrap();
    tracer.wait_until("the connection is known", |tracer| {
        tracer.events_so_far().iter().any(|event| matches!(event, Event::Open(_)))
    });
    let opens = tracer.events_so_far();
    let conn = opens.iter().find_map(|event| if let Event::Open(open) = event { Some(open.conn) } else { None });
    tracer.verdicts.as_ref().unwrap().send(NoCall { conn: conn.unwrap(), stream: 1 }).unwrap();
    tracer.wait_until("the verdict is written", |tracer| tracer.counters().get("h2_verdicts") == Some(&1));
    held.release();
    held.finish();
    let outcome = tracer.finish();
    let (sent, received) = (bodies(&outcome.bytes(Direction::Sent)), bodies(&outcome.bytes(Direction::Received)));
    assert_eq!(sent, BTreeMap::from([((3, b'B'), 70_000)]));
    for (stream, size) in [(3, 50_000), (5, 40_000)] {
        for (letter, bytes) in [(b'F', 1000), (b'R', size), (b'E', 100)] {
            assert_eq!(received.get(&(stream, letter)), Some(&bytes), "{received:?}");
        }
    }
    // Frames whose head came in two pieces pass whole.
    let git = received.get(&(1, b'R')).copied().unwrap_or(0);
    assert!(git < 500_000, "{git} of 2000000 bytes were copied: {:?}", outcome.counters);
    assert_eq!(received.get(&(1, b'E')), Some(&100), "the end of the exchange is seen");
    assert!(outcome.count("h2_frames_out") > 80, "{:?}", outcome.counters);
    assert_eq!(outcome.count("h2_unfollowed"), 0);
    outcome.assert_nothing_lost();
    assert_eq!(
        outcome.count("seen_bytes"),
        outcome.count("passed_bytes") + outcome.count("filtered_bytes") + outcome.count("missed_bytes")
    );
}

#[test]
fn the_pipeline_judges_by_the_request() {
    if !can_trace("the_pipeline_judges_by_the_request") {
        return;
    }
    let server = Server::run("h2.py", &["serve"]);
    let mut held = client(&server, &[GIT, "open:/v1/messages?size=50000:call", "wait", "rest"]);
    let (ready, is_ready) = std::sync::mpsc::channel();
    let config = Config {
        roots: vec![held.root()],
        path_rules: rules(),
        on_ready: Some(Box::new(move || ready.send(()).unwrap())),
        ..Config::default()
    };
    let stop = StopFlag::new();
    let prices = heron::price::Prices::embedded();
    let options = pipeline::Options { workers: 2, tape: None, outlets: Vec::new(), prices };
    let source = Box::new(EbpfSource::new(config));
    let status = source.status();
    let running = pipeline::start(source, options, stop.clone()).unwrap();
    is_ready.recv().unwrap();
    let mut said = held.stdout();
    held.release();
    said.read_line(&mut String::new()).unwrap();
    while status.counters().get("h2_verdicts").is_none_or(|written| *written == 0) {
        assert!(!running.is_finished(), "the source ended");
        std::thread::park_timeout(std::time::Duration::from_millis(2));
    }
    held.release();
    held.finish();
    stop.stop();
    running.wait().unwrap();
    let counters = status.counters();
    assert_eq!(counters.get("h2_verdicts"), Some(&1), "the call is none of them");
    assert!(counters.get("h2_frames_out") > Some(&80), "{counters:?}");
}
