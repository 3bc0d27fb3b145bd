//! The clock of a call: what is the first token, what lies between tokens, and how each kind of end is told.

use bytes::Bytes;
use heron::event::{Close, CloseHow, ConnId, Data, Direction, Event, Nanos};
use heron::flaw::Flaw;
use heron::wire::{Bounds, Call};

use crate::wire_world::{Pipe, START, open};

const MS: u64 = 1_000_000;

/// Pieces at their times (milliseconds), and how the connection ended; the only call.
fn call(pieces: &[(u64, Direction, &str)], end: Option<Direction>, how: CloseHow) -> Call {
    let mut pipe = Pipe::new(Bounds::default());
    pipe.push(open(1));
    let mut offsets = [0u64; 2];
    for (at, direction, text) in pieces {
        let offset = offsets[direction.index()];
        offsets[direction.index()] += text.len() as u64;
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        let at = Nanos(START + at * MS);
        pipe.push(Event::Data(Data { conn: ConnId(1), at, direction: *direction, offset, bytes }));
    }
    let at = Nanos(START + 10_000 * MS);
    for direction in end.into_iter().map(Some).chain([None]) {
        pipe.push(Event::Close(Close { conn: ConnId(1), at, direction, how }));
    }
    let done = pipe.done();
    assert_eq!(done.len(), 1);
    done[0].clone()
}

const BODY: &str = r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";

fn ask() -> (String, String) {
    (
        format!("POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n", BODY.len()),
        BODY.to_owned(),
    )
}

fn token(text: &str) -> String {
    format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n")
}

const ROLE: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n";
const LAST: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";

#[test]
fn the_first_token_is_content_and_later_gaps_are_its_own() {
    let (head, body) = ask();
    let (a, b, c) = (token("a"), token("b"), token("c"));
    let (b1, b2) = b.split_at(20);
    use Direction::{Received, Sent};
    let call = call(
        &[
            (0, Sent, &head),
            (5, Sent, &body),
            (100, Received, HEAD),
            (150, Received, ": keep-alive\n\n"),
            (200, Received, ROLE),
            (300, Received, &a),
            (340, Received, b1),
            (360, Received, b2),
            (360, Received, &c),
            (500, Received, LAST),
        ],
        None,
        CloseHow::Finished,
    );
    let ms = |time: Option<Nanos>| time.map(|time| (time.0 - START) / MS);
    let times = &call.times;
    assert_eq!(ms(Some(times.request_first)), Some(0));
    assert_eq!(ms(times.request_last), Some(5));
    assert_eq!(ms(times.response_head), Some(100), "the head's first byte");
    assert_eq!(ms(times.first_token), Some(300), "no header, comment or role");
    assert_eq!(times.token_gaps, [60 * MS, 0], "a token counts when its event is complete");
    assert_eq!(ms(times.last_byte), Some(500));
    assert_eq!((call.error, call.answered), (None, true));
}

#[test]
fn each_end_of_a_stream_has_its_own_kind_of_error() {
    let (head, body) = ask();
    let a = token("a");
    let chunked = HEAD.replace("\r\n\r\n", "\r\nTransfer-Encoding: chunked\r\n\r\n");
    let chunk = format!("{:x}\r\n{a}\r\n", a.len());
    use Direction::{Received, Sent};
    let pieces = [(0, Sent, &*head), (5, Sent, &*body), (100, Received, &*chunked), (200, Received, &*chunk)];
    let kind = |end, how| call(&pieces, end, how).error.map(|error| error.kind);
    assert_eq!(kind(None, CloseHow::Reset).as_deref(), Some("reset"));
    assert_eq!(kind(Some(Sent), CloseHow::Finished).as_deref(), Some("aborted"));
    assert_eq!(kind(None, CloseHow::ProcessExit).as_deref(), Some("aborted"));
    assert_eq!(kind(None, CloseHow::Freed).as_deref(), Some("aborted"));
    assert_eq!(kind(None, CloseHow::Idle).as_deref(), Some("timeout"));
    assert_eq!(kind(None, CloseHow::SourceEnd), None, "the end of a capture is no error of the call");
    let finished = call(&pieces, None, CloseHow::Finished);
    assert_eq!((finished.error.map(|error| error.kind).as_deref(), finished.flaws.len()), (Some("cut"), 1));
    let unanswered = call(&pieces[..2], None, CloseHow::Reset);
    assert_eq!((unanswered.error.map(|error| error.kind).as_deref(), unanswered.status), (Some("reset"), None));
}

#[test]
fn a_transfer_that_ends_well_does_not_make_a_whole_answer() {
    let (head, body) = ask();
    let a = token("a");
    use Direction::{Received, Sent};
    let pieces = [(0, Sent, &*head), (5, Sent, &*body), (100, Received, HEAD), (200, Received, &*a)];
    let kind = |end| call(&pieces, end, CloseHow::Finished).error.map(|error| error.kind);
    assert_eq!(kind(None).as_deref(), Some("cut"));
    assert_eq!(kind(Some(Sent)).as_deref(), Some("aborted"));
    let chunked = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{a}\r\n0\r\n\r\n",
        a.len()
    );
    let ended = call(&[pieces[0], pieces[1], (100, Received, &chunked)], None, CloseHow::Finished);
    assert_eq!((ended.error.map(|error| error.kind).as_deref(), ended.flaws), (Some("cut"), vec![Flaw::Cut]));
}
