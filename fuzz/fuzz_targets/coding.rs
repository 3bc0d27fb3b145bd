//! Bodies in every content coding and stack of codings; the wire bytes must come out as they went in.
#![no_main]

use bytes::Bytes;
use heron_fuzz::event::{ConnId, Direction, Nanos};
use heron_fuzz::http::{Bounds, Connection, Counters, Output, PartKind};
use libfuzzer_sys::fuzz_target;

const CODINGS: [&str; 8] =
    ["gzip", "deflate", "br", "zstd", "gzip, br", "zstd, gzip", "deflate, deflate", "gzip, gzip, gzip"];

fuzz_target!(|data: &[u8]| {
    let [coding, cut, body @ ..] = data else { return };
    let bounds = Bounds { free_content_bytes: 1 << 20, ..Bounds::default() };
    let (mut parts, mut counters) = (Vec::new(), Counters::default());
    let mut out = Output { parts: &mut parts, counters: &mut counters, bounds: &bounds };
    let mut connection = Connection::new(ConnId(1), false);
    let coding = CODINGS[usize::from(*coding) % CODINGS.len()];
    let head = format!("POST / HTTP/1.1\r\nContent-Encoding: {coding}\r\nContent-Length: {}\r\n\r\n", body.len());
    connection.push(Direction::Sent, Nanos(1), Bytes::from(head), &mut out);
    for piece in body.chunks(usize::from(*cut) + 1) {
        connection.push(Direction::Sent, Nanos(2), Bytes::copy_from_slice(piece), &mut out);
    }
    let (mut wire, mut content) = (Vec::new(), 0);
    for part in parts {
        if let PartKind::RequestBody(body) = part.kind {
            wire.extend_from_slice(&body.wire);
            content += body.content.len();
        }
    }
    assert_eq!(wire, body);
    assert!(content <= (1 << 20).max(body.len() * 48), "{content} bytes of content from {}", body.len());
});
