//! How fast the stages `conn` and `http` are, in bytes of traffic per second on one core: `cargo bench --bench http`.

use std::hint::black_box;
use std::time::Instant;

use bytes::Bytes;
use heron::conn;
use heron::event::{ConnId, Data, Direction, Event, Nanos, Open, Transport};
use heron::http::sse;

const CONN: ConnId = ConnId(1);

/// Events of one connection; cheap to clone, as the sources' are.
struct Traffic {
    events: Vec<Event>,
    offsets: [u64; 2],
    bytes: u64,
}

impl Traffic {
    fn new() -> Traffic {
        let transport = Transport::Plain;
        let open = Open { conn: CONN, at: Nanos(0), owner: None, endpoints: None, transport, mid_stream: false };
        Traffic { events: vec![Event::Open(open)], offsets: [0; 2], bytes: 0 }
    }

    /// Bytes of one direction in pieces of `piece`.
    fn put(&mut self, direction: Direction, bytes: Vec<u8>, piece: usize) {
        let bytes = Bytes::from(bytes);
        let mut at = 0;
        while at < bytes.len() {
            let end = (at + piece).min(bytes.len());
            let offset = &mut self.offsets[direction.index()];
            let data = Data {
                conn: CONN,
                at: Nanos(self.events.len() as u64 * 1000),
                direction,
                offset: *offset,
                bytes: bytes.slice(at..end),
            };
            self.events.push(Event::Data(data));
            *offset += (end - at) as u64;
            self.bytes += (end - at) as u64;
            at = end;
        }
    }
}

fn run(name: &str, traffic: &Traffic) {
    let mut best = f64::MAX;
    let mut parts_seen = 0;
    for _ in 0..7 {
        let events = traffic.events.clone();
        let mut stage = conn::Stage::new(conn::Bounds::default());
        let mut parts = Vec::new();
        parts_seen = 0;
        let begun = Instant::now();
        for event in events {
            stage.push(event, &mut parts);
            parts_seen += parts.len();
            black_box(&parts);
            parts.clear();
        }
        best = best.min(begun.elapsed().as_secs_f64());
    }
    let rate = traffic.bytes as f64 / best / 1e6;
    let per_event = best * 1e9 / traffic.events.len() as f64;
    println!("{name:40} {rate:>10.0} MB/s {per_event:>10.0} ns/event {parts_seen:>8} parts");
}

fn headers() -> String {
    let mut headers = String::from("Host: api.example\r\nContent-Type: application/json\r\n");
    for n in 0..20 {
        headers.push_str(&format!("x-stainless-header-{n}: some value of the usual length {n}\r\n"));
    }
    headers
}

fn requests() -> Traffic {
    let mut traffic = Traffic::new();
    for _ in 0..64 {
        let head = format!("POST /v1/messages HTTP/1.1\r\n{}Content-Length: 1000000\r\n\r\n", headers());
        traffic.put(Direction::Sent, [head.as_bytes(), &vec![b'x'; 1_000_000]].concat(), 64 << 10);
        traffic.put(Direction::Received, b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(), 1 << 16);
    }
    traffic
}

fn token(n: usize) -> String {
    format!(
        "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{{\"type\":\"text_delta\",\"text\":\"token {n}\"}}}}\n\n"
    )
}

/// `tokens` in chunks of their own, `per_event` of them in each event.
fn chunked(per_event: usize) -> Traffic {
    let mut traffic = Traffic::new();
    for _ in 0..20 {
        let head = format!("POST /v1/messages HTTP/1.1\r\n{}Content-Length: 0\r\n\r\n", headers());
        traffic.put(Direction::Sent, head.into_bytes(), 1 << 16);
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        traffic.put(Direction::Received, head.into(), 1 << 16);
        for group in 0..2000 / per_event {
            let chunks: String = (0..per_event)
                .map(|n| token(group * per_event + n))
                .map(|token| format!("{:x}\r\n{token}\r\n", token.len()))
                .collect();
            traffic.put(Direction::Received, chunks.into_bytes(), 1 << 20);
        }
        traffic.put(Direction::Received, b"0\r\n\r\n".to_vec(), 1 << 16);
    }
    traffic
}

fn small_exchanges() -> Traffic {
    let mut traffic = Traffic::new();
    for _ in 0..5000 {
        let head = format!("POST /v1/messages HTTP/1.1\r\n{}Content-Length: 2\r\n\r\n{{}}", headers());
        traffic.put(Direction::Sent, head.into_bytes(), 1 << 16);
        let answer = format!("HTTP/1.1 200 OK\r\n{}Content-Length: 2\r\n\r\n{{}}", headers());
        traffic.put(Direction::Received, answer.into_bytes(), 1 << 16);
    }
    traffic
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

fn http2() -> Traffic {
    let mut traffic = Traffic::new();
    traffic.put(Direction::Sent, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), 64);
    for n in 0..64 {
        let stream = n * 2 + 1;
        let mut bytes = frame(1, 4, stream, &[0x83, 0x87, 0x84, 0x01, 1, b'a']);
        for _ in 0..61 {
            bytes.extend(frame(0, 0, stream, &[b'x'; 16_384]));
        }
        bytes.extend(frame(0, 1, stream, b"end"));
        traffic.put(Direction::Sent, bytes, 64 << 10);
        traffic.put(Direction::Received, frame(1, 5, stream, &[0x89]), 1 << 16);
    }
    traffic
}

fn websocket() -> Traffic {
    let mut traffic = Traffic::new();
    let request = "GET /v1/responses HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    traffic.put(Direction::Sent, request.into(), 1 << 16);
    let answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    traffic.put(Direction::Received, answer.into(), 1 << 16);
    for n in 0..20_000 {
        let token = token(n);
        let mut frame = vec![0x81, 126];
        frame.extend((token.len() as u16).to_be_bytes());
        frame.extend(token.bytes());
        traffic.put(Direction::Received, frame, 1 << 16);
    }
    traffic
}

fn events_of_a_stream(piece: usize) {
    let text: String = (0..100_000).map(token).collect();
    let mut best = f64::MAX;
    for _ in 0..5 {
        let mut framer = sse::Framer::default();
        let begun = Instant::now();
        for chunk in text.as_bytes().chunks(piece) {
            framer.push(chunk, &mut |event| {
                black_box(event);
            });
        }
        best = best.min(begun.elapsed().as_secs_f64());
    }
    let name = format!("SSE framer, pieces of {piece}");
    println!("{name:40} {:>10.0} MB/s {:>10.0} ns/event", text.len() as f64 / best / 1e6, best * 1e9 / 100_000.0);
}

fn main() {
    run("1 MB bodies, Content-Length", &requests());
    run("SSE, a chunk per event", &chunked(1));
    run("SSE, 100 chunks per event", &chunked(100));
    run("2-byte bodies, 22 headers", &small_exchanges());
    run("HTTP/2, 16 KiB DATA frames", &http2());
    run("WebSocket, a message per event", &websocket());
    events_of_a_stream(1 << 16);
    events_of_a_stream(200);
}
