//! Hostile JSON, damaged bodies and broken exchanges through the wire stage: no panic, exactly one call per exchange that
//! is one, nothing left open, and the same call however the bytes are cut and whatever was read before.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::PathBuf;

use bytes::Bytes;
use heron::event::{CloseHow, ConnId, Nanos};
use heron::flaw::Flaw;
use heron::http::{Body, ExchangeId, Header, Message, Part, PartKind, Protocol, RequestHead, ResponseHead, Side};
use heron::wire::{Bounds, Call, CallUpdate, Stage, registry};

const START: u64 = 1_795_000_000_000_000_000;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

/// One exchange, as parts.
#[derive(Clone)]
struct Exchange {
    target: String,
    content_type: String,
    status: u16,
    request: Vec<u8>,
    response: Vec<u8>,
    how: Option<CloseHow>,
}

impl Exchange {
    fn parts(&self, seq: u32, piece: usize) -> Vec<Part> {
        let header = |name: &str, value: &str| Header { name: name.into(), value: value.into() };
        let mut parts = Vec::new();
        let mut at = START;
        let mut push = |kind| {
            at += 1_000_000;
            parts.push(Part { exchange: ExchangeId { conn: ConnId(7), seq }, at: Nanos(at), kind });
        };
        push(PartKind::Request(RequestHead {
            protocol: Protocol::Http1,
            method: "POST".into(),
            target: self.target.clone(),
            authority: Some("localhost".into()),
            headers: vec![header("content-type", "application/json")],
            unknown_headers: 0,
            first_byte: Nanos(START),
        }));
        for chunk in self.request.chunks(piece) {
            push(PartKind::RequestBody(Body::plain(Bytes::copy_from_slice(chunk))));
        }
        push(PartKind::RequestEnd);
        push(PartKind::Response(ResponseHead {
            status: self.status,
            headers: vec![header("content-type", &self.content_type)],
            unknown_headers: 0,
            first_byte: Nanos(START),
        }));
        for chunk in self.response.chunks(piece) {
            push(PartKind::ResponseBody(Body::plain(Bytes::copy_from_slice(chunk))));
        }
        if self.how.is_none() {
            push(PartKind::ResponseEnd);
        }
        push(PartKind::End(self.how));
        parts
    }
}

fn quiet() -> Bounds {
    Bounds { progress: None, ..Bounds::default() }
}

fn push_all(stage: &mut Stage, parts: Vec<Part>) -> Vec<Call> {
    let mut updates = Vec::new();
    parts.into_iter().for_each(|part| stage.push(part, &|| None, &mut updates));
    let done = updates.into_iter().filter_map(|update| match update {
        CallUpdate::Done(call) => Some(*call),
        CallUpdate::Progress(_) => None,
    });
    done.collect()
}

fn run(exchange: &Exchange, piece: usize) -> Vec<Call> {
    let mut stage = Stage::new(quiet());
    let calls = push_all(&mut stage, exchange.parts(0, piece));
    assert_eq!(stage.open_exchanges(), 0);
    assert!(calls.len() <= 1);
    calls
}

/// What must not depend on how the bytes were cut.
fn essence(call: &Call) -> String {
    let mut call = call.clone();
    call.times = heron::wire::Times::default();
    call.id = heron::wire::CallId([0; 16]);
    format!("{call:?}")
}

/// Every sample with every path it could be sent to.
fn corpus() -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for folder in fs::read_dir("testdata/wire").unwrap() {
        let folder = folder.unwrap().path();
        if folder.is_dir() && !folder.ends_with("golden") {
            files.extend(fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()));
        }
    }
    files.sort();
    files.into_iter().map(|path: PathBuf| (path.to_string_lossy().into_owned(), fs::read(path).unwrap())).collect()
}

fn targets() -> Vec<String> {
    let tails = registry::path_rules().iter();
    let mut targets: Vec<String> = tails
        .map(|tail| match *tail {
            "invoke" | "invoke-with-response-stream" | "converse" | "converse-stream" | "count-tokens" => {
                format!("/model/some.model/{tail}")
            }
            tail if tail.starts_with(':') => format!("/v1/publishers/x/models/some-model{tail}"),
            tail => format!("/{tail}"),
        })
        .collect();
    targets.push("/some/unknown/path".to_owned());
    targets
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit('.').next() {
        Some("sse") => "text/event-stream",
        Some("ndjson" | "jsonl") => "application/x-ndjson",
        Some("bin") => "application/vnd.amazon.eventstream",
        _ => "application/json",
    }
}

/// Changes a body as no vendor would.
fn mutate(random: &mut Random, body: &[u8]) -> Vec<u8> {
    let mut body = body.to_vec();
    for _ in 0..=random.below(4) {
        if body.is_empty() {
            return body;
        }
        let at = random.below(body.len());
        match random.below(8) {
            0 => body.truncate(at),
            1 => body[at] = random.next() as u8,
            2 => {
                let end = (at + random.below(200)).min(body.len());
                body.drain(at..end);
            }
            3 => {
                let end = (at + random.below(200)).min(body.len());
                let copy = body[at..end].to_vec();
                body.splice(at..at, copy);
            }
            4 => body[at] = *b"{}[]\",:\\"[random.below(8)..][..1].first().unwrap(),
            5 => {
                let word: &[u8] =
                    [&b"null"[..], b"-1", b"1e999", b"18446744073709551616", b"\"\\ud800\"", b"[[[[", b"{\"type\":7}"]
                        [random.below(7)];
                body.splice(at..at, word.iter().copied());
            }
            6 => {
                // A value of another type in a value's place.
                if let Some(colon) = body[at..].iter().position(|byte| *byte == b':') {
                    let place = at + colon + 1;
                    let word: &[u8] = [&b"null,\"x\":"[..], b"[],\"x\":", b"{},\"x\":", b"\"\",\"x\":", b"true,\"x\":"]
                        [random.below(5)];
                    body.splice(place..place, word.iter().copied());
                }
            }
            _ => body.rotate_left(at),
        }
    }
    body
}

#[test]
fn damaged_bodies_on_every_path_make_one_call_each_however_they_are_cut() {
    let (corpus, targets) = (corpus(), targets());
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    for round in 0..3_000 {
        let (_, request) = &corpus[random.below(corpus.len())];
        let (name, response) = &corpus[random.below(corpus.len())];
        let exchange = Exchange {
            target: targets[random.below(targets.len())].clone(),
            content_type: content_type(name).to_owned(),
            status: [200, 200, 200, 400, 500, 0][random.below(6)],
            request: mutate(&mut random, request),
            response: mutate(&mut random, response),
            how: [None, None, Some(CloseHow::Reset), Some(CloseHow::Finished)][random.below(4)],
        };
        let whole = run(&exchange, usize::MAX >> 1);
        let cut = run(&exchange, 1 + random.below(40));
        let essences = |calls: &[Call]| calls.iter().map(essence).collect::<Vec<_>>();
        assert_eq!(essences(&whole), essences(&cut), "round {round}: {} {name}", exchange.target);
    }
}

#[test]
fn what_was_read_before_never_changes_a_call() {
    let (corpus, targets) = (corpus(), targets());
    let mut random = Random(0x1234_5678_9ABC_DEF1);
    let requests: Vec<&(String, Vec<u8>)> = corpus.iter().filter(|(name, _)| name.contains("request")).collect();
    let mut warm = Stage::new(quiet());
    for seq in 0..1_500 {
        let request = &requests[random.below(requests.len())].1;
        let request = if random.below(3) == 0 { mutate(&mut random, request) } else { request.clone() };
        let exchange = Exchange {
            target: targets[random.below(targets.len())].clone(),
            content_type: "application/json".into(),
            status: 200,
            request,
            response: b"{}".to_vec(),
            how: None,
        };
        let after_others = push_all(&mut warm, exchange.parts(seq, 4096));
        let mut cold = Stage::new(Bounds { recent_bytes: 0, ..quiet() });
        let alone = push_all(&mut cold, exchange.parts(seq, 4096));
        let essences = |calls: &[Call]| calls.iter().map(essence).collect::<Vec<_>>();
        assert_eq!(essences(&after_others), essences(&alone), "{}", exchange.target);
    }
    assert_eq!(warm.open_exchanges(), 0);
}

/// Bodies that are small for what they make a careless reader do.
fn bombs() -> Vec<Vec<u8>> {
    let deep = |open: &str, inside: &str, close: &str| {
        let depth = 5_000;
        format!("{}{inside}{}", open.repeat(depth), close.repeat(depth)).into_bytes()
    };
    let in_content = |value: Vec<u8>| {
        let mut body = br#"{"model":"m","max_tokens":1,"messages":[{"role":"user","content":"#.to_vec();
        body.extend(value);
        body.extend_from_slice(b"}]}");
        body
    };
    vec![
        deep("[", "", "]"),
        deep(r#"{"a":"#, "1", "}"),
        in_content(deep("[", "1", "]")),
        in_content(deep(r#"[{"type":"thinking","thinking":"#, "1", "}]")),
        in_content(deep(r#"[{"type":"tool_result","content":"#, "1", "}]")),
        in_content(deep(r#"[{"type":"tool_use","input":"#, "1", "}]")),
        deep(r#"{"contents":[{"parts":[{"functionCall":{"args":"#, "1", "}}]}]}"),
        deep(r#"{"results":["#, "1", "]}"),
        deep(r#"{"error":"#, "1", "}"),
        format!(
            r#"{{"choices":[{}]}}"#,
            (0..3_000).map(|n| format!(r#"{{"index":{n},"delta":{{"content":"x"}}}}"#)).collect::<Vec<_>>().join(",")
        )
        .into_bytes(),
        format!(r#"{{"model":"m","messages":[{}]}}"#, vec!["{}"; 20_000].join(",")).into_bytes(),
        format!(r#"{{{}}}"#, (0..5_000).map(|n| format!(r#""k{n}":0"#)).collect::<Vec<_>>().join(",")).into_bytes(),
        b"\"".repeat(100_000),
        b"\\".repeat(100_000),
        [br#"{"messages":""#.to_vec(), b"\\\"".repeat(50_000), b"\"}".to_vec()].concat(),
    ]
}

#[test]
fn bombs_on_every_path_are_survived() {
    let bombs = bombs();
    // One path of each wire API, and one of none.
    let mut seen = std::collections::HashSet::new();
    let api = |target: &String| registry::classify("POST", None, target, &[]).map(|found| found.api);
    for target in targets().into_iter().filter(|target| seen.insert(api(target))) {
        for bomb in &bombs {
            let exchange = Exchange {
                target: target.clone(),
                content_type: "application/json".into(),
                status: 200,
                request: bomb.clone(),
                response: bomb.clone(),
                how: None,
            };
            run(&exchange, 1 << 16);
        }
    }
}

#[test]
fn bombs_in_a_stream_are_survived() {
    for target in [
        "/v1/messages",
        "/v1/chat/completions",
        "/v1/responses",
        "/v1/models/m:streamGenerateContent",
        "/model/m/converse-stream",
        "/v2/chat",
        "/mcp",
    ] {
        for bomb in bombs() {
            let response = [b"data: ".to_vec(), bomb, b"\n\n".to_vec()].concat();
            let exchange = Exchange {
                target: target.into(),
                content_type: "text/event-stream".into(),
                status: 200,
                request: br#"{"jsonrpc":"2.0","id":1,"method":"tools/list","model":"m","messages":[],"input":"x","contents":[]}"#.to_vec(),
                response,
                how: None,
            };
            assert_eq!(run(&exchange, 1 << 16).len(), 1, "{target}");
        }
    }
}

#[test]
fn a_body_over_the_bound_is_cut_counted_and_flagged() {
    let exchange = Exchange {
        target: "/v1/chat/completions".into(),
        content_type: "application/json".into(),
        status: 200,
        request: format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{}"}}]}}"#, "x".repeat(10_000))
            .into_bytes(),
        response: br#"{"choices":[{"index":0,"message":{"content":"hi"},"finish_reason":"stop"}]}"#.to_vec(),
        how: None,
    };
    let mut stage = Stage::new(Bounds { body_bytes: 1_000, ..quiet() });
    let calls = push_all(&mut stage, exchange.parts(0, 100));
    assert_eq!(calls[0].request.body.len(), 1_000);
    assert_eq!(calls[0].request.body_len, exchange.request.len() as u64);
    assert_eq!(calls[0].flaws, [Flaw::Bound]);
    assert_eq!(calls[0].request_model.as_deref(), Some("m"));
    assert_eq!(stage.counters().bounded, 1);
}

#[test]
fn exchanges_over_the_bound_are_refused_and_counted() {
    let mut stage = Stage::new(Bounds { exchanges: 10, ..quiet() });
    let exchange = Exchange {
        target: "/v1/messages".into(),
        content_type: "application/json".into(),
        status: 200,
        request: Vec::new(),
        response: Vec::new(),
        how: None,
    };
    for seq in 0..20 {
        let first = exchange.parts(seq, 100).remove(0);
        stage.push(first, &|| None, &mut Vec::new());
    }
    assert_eq!(stage.counters().refused, 10);
}

#[test]
fn parts_in_any_order_are_survived() {
    let corpus = corpus();
    let targets = targets();
    let mut random = Random(0xDEAD_BEEF_CAFE_F00D);
    let mut stage = Stage::new(Bounds::default());
    let mut updates = Vec::new();
    for seq in 0..600 {
        let exchange = Exchange {
            target: targets[random.below(targets.len())].clone(),
            content_type: "text/event-stream".into(),
            status: 200,
            request: corpus[random.below(corpus.len())].1.clone(),
            response: corpus[random.below(corpus.len())].1.clone(),
            how: Some(CloseHow::SourceEnd),
        };
        let mut parts = exchange.parts(seq, 500);
        let end = parts.pop().unwrap();
        for _ in 0..parts.len() {
            let (a, b) = (random.below(parts.len()), random.below(parts.len()));
            parts.swap(a, b);
        }
        let payload = Bytes::copy_from_slice(&corpus[random.below(corpus.len())].1);
        let at = Nanos(START);
        let id = ExchangeId { conn: ConnId(7), seq };
        let side = if random.below(2) == 0 { Side::Request } else { Side::Response };
        parts.push(Part { exchange: id, at, kind: PartKind::Gap { side, len: 3 } });
        parts.push(Part {
            exchange: id,
            at,
            kind: PartKind::Message(Message { side, text: true, payload, wire_len: 1 }),
        });
        parts.push(end);
        parts.into_iter().for_each(|part| stage.push(part, &|| None, &mut updates));
    }
    assert_eq!(stage.open_exchanges(), 0);
    let done = updates.iter().filter(|update| matches!(update, CallUpdate::Done(_))).count() as u64;
    assert_eq!(done, stage.counters().calls);
}
