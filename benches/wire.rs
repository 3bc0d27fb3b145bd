//! How fast connections become calls: an agent's conversation whose history grows from call to call, through `conn`,
//! `http` and `wire`. `cargo bench --bench wire` prints megabytes per second of one core (its
//! own time on the processor, so that a busy machine does not matter much), best of five.

use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use heron::conn;
use heron::event::{Close, CloseHow, ConnId, Data, Direction, Event, Nanos, Open, Transport};
use heron::wire::{Bounds, CallUpdate, Stage};
use nix::time::{ClockId, clock_gettime};

/// What one read or write of a TLS library carries at most.
const PIECE: usize = 16_384;

fn tools() -> String {
    let tool = |n: usize| {
        format!(
            r#"{{"name":"tool_{n}","description":"{}","input_schema":{{"type":"object","properties":{{"path":{{"type":"string","description":"{}"}}}},"required":["path"]}}}}"#,
            "Does one thing and says how.\\n".repeat(60),
            "a path ".repeat(8)
        )
    };
    (0..25).map(tool).collect::<Vec<_>>().join(",")
}

fn code(seed: usize, lines: usize) -> String {
    (0..lines)
        .map(|n| format!("    let value_{seed}_{n} = table.get(\\\"key {n}\\\").unwrap_or({});\\n", seed * n))
        .collect()
}

/// The pieces of one conversation of `calls` calls.
fn conversation(calls: usize, order: [&str; 4]) -> Vec<(Direction, Bytes)> {
    let tools = tools();
    let system = "You are a coding agent. Be brief and right.\\n".repeat(300);
    let mut history = vec![r#"{"role":"user","content":[{"type":"text","text":"fix the bug"}]}"#.to_owned()];
    let mut pieces = Vec::new();
    for call in 0..calls {
        let field = |name: &str| match name {
            "messages" => format!(r#""messages":[{}]"#, history.join(",")),
            "tools" => format!(r#""tools":[{tools}]"#),
            "system" => {
                format!(r#""system":[{{"type":"text","text":"{system}","cache_control":{{"type":"ephemeral"}}}}]"#)
            }
            _ => r#""model":"claude-sonnet-5-5","max_tokens":32000,"stream":true"#.to_owned(),
        };
        let body = format!("{{{}}}", order.map(field).join(","));
        let request = format!(
            "POST /v1/messages HTTP/1.1\r\nHost: api.anthropic.com\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let answer = answer(call);
        for (direction, text) in [(Direction::Sent, request), (Direction::Received, answer)] {
            let bytes = Bytes::from(text.into_bytes());
            let step = if direction == Direction::Sent { PIECE } else { 1_400 };
            let cuts = (0..bytes.len()).step_by(step);
            pieces.extend(cuts.map(|at| (direction, bytes.slice(at..bytes.len().min(at + step)))));
        }
        history.push(format!(
            r#"{{"role":"assistant","content":[{{"type":"text","text":"I look at file {call}."}},{{"type":"tool_use","id":"toolu_{call}","name":"tool_1","input":{{"path":"src/{call}.rs"}}}}]}}"#
        ));
        history.push(format!(
            r#"{{"role":"user","content":[{{"type":"tool_result","tool_use_id":"toolu_{call}","content":[{{"type":"text","text":"{}"}}]}}]}}"#,
            code(call, 100)
        ));
    }
    pieces
}

fn answer(call: usize) -> String {
    let mut events = vec![format!(
        r#"{{"type":"message_start","message":{{"id":"msg_{call}","type":"message","role":"assistant","model":"claude-sonnet-5-5","content":[],"usage":{{"input_tokens":5,"cache_read_input_tokens":90000,"output_tokens":1}}}}}}"#
    )];
    events.push(r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#.to_owned());
    events.extend((0..60).map(|n| {
        format!(r#"{{"type":"content_block_delta","index":0,"delta":{{"type":"text_delta","text":"word {n} and "}}}}"#)
    }));
    events.push(r#"{"type":"content_block_stop","index":0}"#.to_owned());
    events.push(
        r#"{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":120}}"#
            .to_owned(),
    );
    events.push(r#"{"type":"message_stop"}"#.to_owned());
    let chunks = events.iter().map(|event| {
        let kind = event.split('"').nth(3).unwrap_or_default();
        let text = format!("event: {kind}\ndata: {event}\n\n");
        format!("{:x}\r\n{text}\r\n", text.len())
    });
    let body: String = chunks.collect();
    format!("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n{body}0\r\n\r\n")
}

/// Events of connections that each carry the conversation.
fn events(pieces: &[(Direction, Bytes)], conns: u64) -> Vec<Event> {
    let mut events = Vec::new();
    for conn in (0..conns).map(ConnId) {
        let at = |n: usize| Nanos(1_795_000_000_000_000_000 + n as u64 * 1_000_000);
        events.push(Event::Open(Open {
            conn,
            at: at(0),
            owner: None,
            endpoints: None,
            transport: Transport::Plain,
            mid_stream: false,
        }));
        let mut offsets = [0_u64; 2];
        for (n, (direction, bytes)) in pieces.iter().enumerate() {
            let offset = &mut offsets[direction.index()];
            let data = Data { conn, at: at(n), direction: *direction, offset: *offset, bytes: bytes.clone() };
            *offset += bytes.len() as u64;
            events.push(Event::Data(data));
        }
        events.push(Event::Close(Close { conn, at: at(pieces.len()), direction: None, how: CloseHow::Finished }));
    }
    events
}

/// This thread's time on the processor.
fn now() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from).unwrap_or_default()
}

struct Figures {
    megabytes: f64,
    conn_seconds: f64,
    wire_seconds: f64,
    calls: usize,
}

fn run(events: &[Event], bounds: Bounds) -> Figures {
    let mut conns = conn::Stage::new(conn::Bounds::default());
    let mut wire = Stage::new(bounds);
    let mut figures = Figures { megabytes: 0.0, conn_seconds: 0.0, wire_seconds: 0.0, calls: 0 };
    let (mut parts, mut updates) = (Vec::new(), Vec::new());
    for batch in events.chunks(256) {
        let begun = now();
        for event in batch {
            if let Event::Data(data) = event {
                figures.megabytes += data.bytes.len() as f64 / 1e6;
            }
            conns.push(event.clone(), &mut parts);
        }
        let between = now();
        for part in parts.drain(..) {
            wire.push(part, &|| None, &mut updates);
        }
        figures.calls += updates.iter().filter(|update| matches!(update, CallUpdate::Done(_))).count();
        black_box(&updates);
        updates.clear();
        figures.conn_seconds += (between - begun).as_secs_f64();
        figures.wire_seconds += (now() - between).as_secs_f64();
    }
    figures
}

fn report(name: &str, events: &[Event], bounds: &Bounds) {
    let best = (0..5)
        .map(|_| run(events, bounds.clone()))
        .min_by(|a, b| (a.conn_seconds + a.wire_seconds).total_cmp(&(b.conn_seconds + b.wire_seconds)));
    let Some(best) = best else { return };
    println!(
        "{name:<34} {:>6.1} MB {:>5} calls   conn+http {:>6.0} MB/s   wire {:>6.0} MB/s   together {:>6.0} MB/s",
        best.megabytes,
        best.calls,
        best.megabytes / best.conn_seconds,
        best.megabytes / best.wire_seconds,
        best.megabytes / (best.conn_seconds + best.wire_seconds),
    );
}

fn main() {
    let quiet = Bounds { progress: None, ..Bounds::default() };
    let front = conversation(60, ["model", "messages", "system", "tools"]);
    let back = conversation(60, ["model", "tools", "system", "messages"]);
    let one = conversation(1, ["model", "messages", "system", "tools"]);
    report("growing history, messages first", &events(&front, 2), &quiet);
    report("growing history, messages last", &events(&back, 2), &quiet);
    report("growing history, with progress", &events(&front, 2), &Bounds::default());
    report("growing history, nothing reused", &events(&front, 2), &Bounds { recent_bytes: 0, ..quiet.clone() });
    report("one call per connection", &events(&one, 400), &quiet);
}
