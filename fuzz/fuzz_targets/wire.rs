//! Every wire decoder: a request on a path of the registry and its answer, unary or streamed in each framing, or the
//! messages of a WebSocket. Fuzzed as JSON mostly, through `http` as in real life.
#![no_main]

use bytes::Bytes;
use heron_fuzz::event::{CloseHow, ConnId, Direction, Nanos};
use heron_fuzz::http::{Bounds, Connection, Counters, Output};
use heron_fuzz::wire::{self, registry};
use libfuzzer_sys::fuzz_target;

const TYPES: [&str; 5] = [
    "application/json",
    "text/event-stream",
    "application/x-ndjson",
    "application/vnd.amazon.eventstream",
    "multipart/form-data; boundary=b",
];

fuzz_target!(|data: &[u8]| {
    let [rule, kind, cut, split, body @ ..] = data else { return };
    let tails = registry::path_rules();
    let tail = tails[usize::from(*rule) % tails.len()];
    let path = if tail.starts_with(':') {
        format!("/v1/publishers/some/models/some-model{tail}")
    } else {
        format!("/model/some-model/{tail}")
    };
    let (request, response) = body.split_at(body.len() * usize::from(*split) / 255);
    let mut steps: Vec<(Direction, Vec<u8>)> = Vec::new();
    if kind % 8 < 6 {
        let kind = TYPES[usize::from(*kind) % TYPES.len()];
        let head =
            |start: &str, kind: &str, len| format!("{start}\r\nContent-Type: {kind}\r\nContent-Length: {len}\r\n\r\n");
        let start = format!("POST {path} HTTP/1.1\r\nHost: api.example");
        steps.push((Direction::Sent, head(&start, "application/json", request.len()).into_bytes()));
        steps.push((Direction::Sent, request.to_vec()));
        let status = if kind.len() > 20 { "HTTP/1.1 200 OK" } else { "HTTP/1.1 429 Too Many Requests" };
        let status = if *split % 7 == 0 { status } else { "HTTP/1.1 200 OK" };
        steps.push((Direction::Received, head(status, kind, response.len()).into_bytes()));
        steps.extend(response.chunks(usize::from(*cut) + 1).map(|piece| (Direction::Received, piece.to_vec())));
    } else {
        let start = format!("GET {path} HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
        steps.push((Direction::Sent, start.into_bytes()));
        steps.push((Direction::Received, b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n".to_vec()));
        for (n, message) in body.split(|&byte| byte == b'\n').enumerate() {
            let mut frame = vec![0x81, 126];
            let message = &message[..message.len().min(0xffff)];
            frame.extend((message.len() as u16).to_be_bytes());
            frame.extend(message);
            steps.push((if n % 3 == 0 { Direction::Sent } else { Direction::Received }, frame));
        }
    }
    let bounds = Bounds::default();
    let (mut parts, mut counters) = (Vec::new(), Counters::default());
    let mut connection = Connection::new(ConnId(1), false);
    let mut stage = wire::Stage::new(wire::Bounds::default());
    let mut updates = Vec::new();
    let mut now = 0;
    for (direction, bytes) in steps {
        now += 1_000_000;
        let mut out = Output { parts: &mut parts, counters: &mut counters, bounds: &bounds };
        connection.push(direction, Nanos(now), Bytes::from(bytes), &mut out);
        for part in parts.drain(..) {
            stage.push(part, &|| None, &mut updates);
        }
    }
    let mut out = Output { parts: &mut parts, counters: &mut counters, bounds: &bounds };
    connection.close(None, Nanos(now), CloseHow::Finished, &mut out);
    for part in parts.drain(..) {
        stage.push(part, &|| None, &mut updates);
    }
});
