//! What the stage does around the decoders: order, duplicates, ends, and how many connections it holds.

use bytes::Bytes;
use heron::conn::{Bounds, Stage};
use heron::event::{
    Close, CloseHow, Confidence, ConnId, Data, Direction, Endpoint, Endpoints, Event, Nanos, Open, Transport,
};
use heron::flaw::Flaw;
use heron::http::Part;

use crate::support::*;

const POST: &str = "POST /v1/messages HTTP/1.1\r\nHost: api.example\r\nContent-Length: 9\r\n\r\n{\"q\": 17}";
const ANSWER: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 8\r\n\r\n{\"a\": 1}";

fn data(conn: u64, at: u64, direction: Direction, offset: u64, bytes: &str) -> Event {
    let bytes = Bytes::from(bytes.to_owned());
    Event::Data(Data { conn: ConnId(conn), at: Nanos(at), direction, offset, bytes })
}

fn open_conn(conn: u64, at: u64) -> Event {
    let transport = Transport::Plain;
    Event::Open(Open { conn: ConnId(conn), at: Nanos(at), owner: None, endpoints: None, transport, mid_stream: false })
}

fn close(conn: u64, at: u64, how: CloseHow) -> Event {
    Event::Close(Close { conn: ConnId(conn), at: Nanos(at), direction: None, how })
}

fn counter(stage: &Stage, name: &str) -> u64 {
    stage.counters().into_iter().find(|(known, _)| *known == name).unwrap().1
}

fn push_all(stage: &mut Stage, events: Vec<Event>) -> Vec<Part> {
    let mut parts = Vec::new();
    for event in events {
        stage.push(event, &mut parts);
    }
    parts
}

#[test]
fn pieces_in_any_order_and_repeated_ones_give_the_same_exchange() {
    let text = format!("{POST}{POST}");
    let whole = exchanges(&[sent(&text), received(ANSWER), received(ANSWER), finished()]);
    let pieces: Vec<(u64, &str)> =
        (0..text.len()).step_by(20).map(|at| (at as u64, &text[at..(at + 20).min(text.len())])).collect();
    let mut seed = 0x2545_f491_4f6c_dd1du64;
    for _ in 0..200 {
        let mut shuffled = pieces.clone();
        for at in (1..shuffled.len()).rev() {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            shuffled.swap(at, (seed % (at as u64 + 1)) as usize);
            if seed.is_multiple_of(5) {
                // A repeated piece, overlapping its neighbours.
                let from = (seed % text.len() as u64) as usize;
                shuffled.push((from as u64, &text[from..(from + 33).min(text.len())]));
            }
        }
        let mut events = vec![open_conn(7, 0)];
        events.extend(
            shuffled
                .iter()
                .enumerate()
                .map(|(n, (offset, text))| data(7, 1000 + n as u64, Direction::Sent, *offset, text)),
        );
        events.push(data(7, 90_000, Direction::Received, 0, ANSWER));
        events.push(data(7, 90_001, Direction::Received, ANSWER.len() as u64, ANSWER));
        events.push(close(7, 100_000, CloseHow::Finished));
        assert_eq!(join(&play(events)), whole);
    }
}

#[test]
fn a_jump_that_is_not_filled_in_time_is_a_hole() {
    let (head, body) = ANSWER.split_at(ANSWER.len() - 8);
    let after = (ANSWER.len() - 4) as u64;
    let mut stage = Stage::new(Bounds::default());
    let mut parts = push_all(
        &mut stage,
        vec![
            open_conn(7, 0),
            data(7, 1000, Direction::Sent, 0, POST),
            data(7, 2000, Direction::Received, 0, head),
            data(7, 3000, Direction::Received, after, &body[4..]),
            Event::Tick(Nanos(100_000_000)),
        ],
    );
    assert!(!join(&parts)[0].response_done, "the missing bytes may still come");
    stage.push(Event::Tick(Nanos(300_000_000)), &mut parts);
    let seen = join(&parts);
    assert_eq!((seen[0].flaws.as_slice(), seen[0].response_done), (&[Flaw::Gap][..], true));
    assert_eq!(seen[0].response_wire, &body.as_bytes()[4..]);
    assert_eq!(counter(&stage, "gap_bytes"), 4);
    assert_eq!(counter(&stage, "reordered_pieces"), 1);
}

#[test]
fn while_one_direction_waits_the_other_does_not_overtake_it() {
    let request = |n: u8| format!("GET /{n} HTTP/1.1\r\n\r\n");
    let answer = |n: u8| format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{n}");
    let (mut events, mut offsets) = (vec![open_conn(1, 0)], [0u64; 2]);
    for n in 1..=4u8 {
        for (direction, text) in [(Direction::Sent, request(n)), (Direction::Received, answer(n))] {
            let offset = offsets[direction.index()];
            offsets[direction.index()] += text.len() as u64;
            // The second request never comes, and nobody says so; the others follow each other within milliseconds.
            if n != 2 || direction == Direction::Received {
                events.push(data(1, events.len() as u64, direction, offset, &text));
            }
        }
    }
    events.push(close(1, 300, CloseHow::Finished));
    let mut stage = Stage::new(Bounds::default());
    let seen = join(&push_all(&mut stage, events));
    let mut said = lines(&seen);
    said.sort();
    assert_eq!(said, ["  -> 200 2", "GET /1 -> 200 1", "GET /3 -> 200 3", "GET /4 -> 200 4"]);
    let clean: Vec<&str> = seen.iter().filter(|seen| seen.is_clean()).map(|seen| seen.target.as_str()).collect();
    assert_eq!(clean, ["/1", "/3", "/4"]);
}

#[test]
fn a_connection_is_known_until_the_event_after_its_end() {
    let mut stage = Stage::new(Bounds::default());
    let mut parts = push_all(&mut stage, vec![open_conn(7, 0), data(7, 1, Direction::Received, 0, POST)]);
    let address: std::net::SocketAddr = "127.0.0.1:80".parse().unwrap();
    let endpoints = Endpoints { local: Some(Endpoint::Inet(address)), remote: None, confidence: Confidence::Certain };
    stage.push(Event::Endpoints { conn: ConnId(7), at: Nanos(2), endpoints: endpoints.clone() }, &mut parts);
    stage.push(close(7, 3, CloseHow::Reset), &mut parts);
    let info = stage.info(ConnId(7)).unwrap();
    assert_eq!((info.open.endpoints.as_ref(), info.client), (Some(&endpoints), Some(Direction::Received)));
    stage.push(Event::Tick(Nanos(4)), &mut parts);
    assert!(stage.info(ConnId(7)).is_none());
    assert_eq!(stage.connections(), 0);
}

#[test]
fn bytes_after_the_end_begin_nothing() {
    let mut stage = Stage::new(Bounds::default());
    let length = POST.len() as u64;
    let parts = push_all(
        &mut stage,
        vec![
            open_conn(7, 0),
            data(7, 1, Direction::Sent, 0, POST),
            close(7, 2, CloseHow::Reset),
            data(7, 3, Direction::Sent, length, POST),
            data(7, 4, Direction::Sent, 2 * length, POST),
        ],
    );
    assert_eq!(join(&parts).len(), 1);
    assert_eq!(counter(&stage, "after_end_bytes"), 2 * length);
}

#[test]
fn one_direction_may_end_before_the_other() {
    let close = |direction| Step::Close(Some(direction), CloseHow::Finished);
    let until_close = "HTTP/1.1 200 OK\r\n\r\nsome ";
    let steps =
        [sent(POST), close(Direction::Sent), received(until_close), received("text"), close(Direction::Received)];
    let seen = exchanges(&steps);
    assert_eq!(lines(&seen), ["POST /v1/messages -> 200 some text"]);
    assert!(seen[0].is_clean());
}

#[test]
fn quiet_connections_are_given_up_and_go_on_with_new_numbers() {
    let bounds = Bounds { max_connections: 100, idle: Nanos(10_000_000_000), ..Bounds::default() };
    let mut stage = Stage::new(bounds);
    let mut parts = Vec::new();
    for conn in 0..250 {
        stage.push(open_conn(conn, conn * 1000), &mut parts);
        stage.push(data(conn, conn * 1000, Direction::Sent, 0, POST), &mut parts);
        assert!(stage.connections() <= 101);
    }
    assert_eq!(counter(&stage, "connections_evicted_full"), 150);
    stage.push(Event::Tick(Nanos(20_000_000_000)), &mut parts);
    stage.push(Event::Tick(Nanos(20_000_000_001)), &mut parts);
    assert_eq!((stage.connections(), counter(&stage, "connections_evicted_idle")), (0, 100));
    // What was given up goes on as met in the middle, and its exchanges' numbers are not used twice.
    let length = POST.len() as u64;
    stage.push(data(249, 21_000_000_000, Direction::Received, 0, ANSWER), &mut parts);
    stage.push(data(249, 21_000_000_000, Direction::Sent, length, POST), &mut parts);
    stage.push(data(249, 21_000_000_000, Direction::Received, ANSWER.len() as u64, ANSWER), &mut parts);
    let of_last: Vec<Part> = parts.into_iter().filter(|part| part.exchange.conn == ConnId(249)).collect();
    let seen = join(&of_last);
    assert_eq!(lines(&seen), ["POST /v1/messages -> - ", "  -> 200 {\"a\": 1}", "POST /v1/messages -> 200 {\"a\": 1}"]);
    assert_eq!(seen[0].end, Some(Some(CloseHow::Idle)));
    assert!(seen[2].is_clean());
}

/// Resident memory of this process.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

/// For docs/http.md: `cargo test --release --test http_protocols -- --ignored --nocapture --exact connections::memory`.
#[test]
#[ignore = "a measurement"]
fn memory() {
    let text = include_bytes!("data/h2_httpx.bin");
    // The first pieces of a real HTTP/2 connection: settings, and a request without its answer.
    let mut pieces = Vec::new();
    let mut rest = &text[..];
    while let [direction, a, b, c, d, tail @ ..] = rest {
        let (bytes, tail) = tail.split_at(u32::from_be_bytes([*a, *b, *c, *d]) as usize);
        pieces.push((if *direction == 0 { Direction::Sent } else { Direction::Received }, bytes.to_vec()));
        rest = tail;
        if pieces.len() == 4 {
            break;
        }
    }
    let gzip =
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Encoding: gzip\r\nContent-Length: 99999\r\n\r\n";
    let gzip = [gzip.as_bytes(), &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0xcb]].concat();
    let half = ANSWER.replace("Length: 8", "Length: 800").into_bytes();
    let post = POST.as_bytes().to_vec();
    let kinds = [
        ("opened", 100_000, Vec::new()),
        ("HTTP/1.1, an answer under way", 100_000, vec![(Direction::Sent, post.clone()), (Direction::Received, half)]),
        ("HTTP/2, a request under way", 100_000, pieces),
        ("HTTP/1.1, a gzip answer under way", 10_000, vec![(Direction::Sent, post), (Direction::Received, gzip)]),
    ];
    let mut alive = Vec::new();
    for (name, count, pieces) in kinds {
        let before = resident();
        let (mut stage, mut parts) = (Stage::new(Bounds::default()), Vec::new());
        for conn in 0..count {
            stage.push(open_conn(conn, 0), &mut parts);
            let mut offsets = [0u64; 2];
            for (direction, bytes) in &pieces {
                let (at, direction, offset) = (Nanos(1), *direction, offsets[direction.index()]);
                offsets[direction.index()] += bytes.len() as u64;
                let bytes = Bytes::copy_from_slice(bytes);
                stage.push(Event::Data(Data { conn: ConnId(conn), at, direction, offset, bytes }), &mut parts);
            }
            parts.clear();
        }
        assert_eq!(stage.connections() as u64, count);
        println!("{name}: {} bytes a connection", (resident() - before) / count);
        alive.push(stage);
    }
}
