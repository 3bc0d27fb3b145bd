//! HTTP/2: whole connections, damaged ones, and ones met in the middle.

use std::io::Write;

use heron::event::{CloseHow, Direction};
use heron::flaw::Flaw;
use heron::http::Side;

use crate::support::*;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 0x20;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// One end of a connection; its header table lives as long as the connection.
struct Peer(hpack::Encoder<'static>);

impl Peer {
    fn new() -> Peer {
        Peer(hpack::Encoder::new())
    }

    fn block(&mut self, headers: &[(&str, &str)]) -> Vec<u8> {
        self.0.encode(headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())))
    }

    fn headers(&mut self, flags: u8, stream: u32, headers: &[(&str, &str)]) -> Vec<u8> {
        let block = self.block(headers);
        frame(HEADERS, END_HEADERS | flags, stream, &block)
    }

    fn post(&mut self, stream: u32, path: &str) -> Vec<u8> {
        self.headers(0, stream, &post_headers(path))
    }

    fn ok(&mut self, stream: u32) -> Vec<u8> {
        self.headers(0, stream, &[(":status", "200"), ("content-type", "text/event-stream"), ("server", "s")])
    }
}

fn post_headers(path: &str) -> [(&str, &str); 7] {
    [
        (":method", "POST"),
        (":scheme", "https"),
        (":authority", "api.example"),
        (":path", path),
        ("content-type", "application/json"),
        ("user-agent", "agent/1"),
        ("x-api-key", "k"),
    ]
}

fn start() -> Vec<u8> {
    [PREFACE, &frame(SETTINGS, 0, 0, &[0, 2, 0, 0, 0, 0]), &frame(WINDOW_UPDATE, 0, 0, &[0, 1, 0, 0])].concat()
}

fn settings() -> Vec<u8> {
    frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100])
}

fn data(stream: u32, text: &str) -> Vec<u8> {
    frame(DATA, 0, stream, text.as_bytes())
}

fn last(stream: u32, text: &str) -> Vec<u8> {
    frame(DATA, END_STREAM, stream, text.as_bytes())
}

/// Three calls, the second and third at once.
pub fn three_calls() -> Vec<Step> {
    let (mut client, mut server) = (Peer::new(), Peer::new());
    vec![
        sent(start()),
        received(settings()),
        sent([client.post(1, "/v1/messages"), last(1, "{\"q\":1}")].concat()),
        received([server.ok(1), data(1, "data: 1\n\n"), frame(PING, 0, 0, &[0; 8])].concat()),
        received(last(1, "data: end\n\n")),
        sent(
            [client.post(3, "/v1/messages"), client.post(5, "/v1/other"), data(3, "{\"q\":"), last(5, "{\"q\":5}")]
                .concat(),
        ),
        sent(last(3, "3}")),
        received([server.ok(5), server.ok(3), data(5, "five "), data(3, "three ")].concat()),
        received([last(3, "3"), last(5, "5")].concat()),
        finished(),
    ]
}

#[test]
fn streams_of_a_connection_are_exchanges() {
    let seen = assert_split_invariant(false, &three_calls());
    assert_eq!(
        lines(&seen),
        [
            "POST /v1/messages -> 200 data: 1\n\ndata: end\n\n",
            "POST /v1/messages -> 200 three 3",
            "POST /v1/other -> 200 five 5"
        ]
    );
    assert!(seen.iter().all(Seen::is_clean), "{seen:?}");
    assert_eq!(seen[1].request_wire, b"{\"q\":3}");
    let names: Vec<&str> = seen[2].request_headers.iter().map(|header| header.name.as_str()).collect();
    assert_eq!(names, ["content-type", "user-agent", "x-api-key"]);
}

#[test]
fn padding_priority_continuation_interim_and_trailers_are_taken_apart() {
    let (mut client, mut server) = (Peer::new(), Peer::new());
    let block = client.block(&post_headers("/p"));
    let (first, rest) = block.split_at(3);
    let (second, third) = rest.split_at(4);
    let padded = [&[2, 0, 0, 0, 0, 15][..], first, &[0, 0]].concat();
    let request = [
        frame(HEADERS, PADDED | PRIORITY, 1, &padded),
        frame(CONTINUATION, 0, 1, second),
        frame(CONTINUATION, 0, 1, &[]),
        frame(CONTINUATION, END_HEADERS, 1, third),
        frame(DATA, PADDED, 1, b"\x03{\"a\"\0\0\0"),
        frame(DATA, PADDED | END_STREAM, 1, b"\x00:1}"),
    ];
    let promise = [&2u32.to_be_bytes()[..], &server.block(&[(":method", "GET"), ("x-pushed", "yes")])].concat();
    let response = [
        settings(),
        frame(0x42, 0xff, 9, b"an extension"),
        server.headers(0, 1, &[(":status", "103"), ("link", "x")]),
        frame(PUSH_PROMISE, END_HEADERS, 1, &promise),
        server.headers(0, 1, &[(":status", "200"), ("x-pushed", "yes")]),
        server.headers(0, 2, &[(":status", "200")]),
        frame(DATA, END_STREAM, 2, b"pushed"),
        data(1, "ok"),
        server.headers(END_STREAM, 1, &[("grpc-status", "0")]),
    ];
    let steps = [sent(start()), sent(request.concat()), received(response.concat()), finished()];
    let seen = assert_split_invariant(false, &steps);
    assert_eq!(lines(&seen), ["POST /p -> 200 ok"]);
    assert_eq!(seen[0].request_wire, b"{\"a\":1}");
    assert_eq!(seen[0].interim, [103]);
    assert_eq!(
        (seen[0].response_headers[0].name.as_str(), seen[0].response_headers[0].value.as_str()),
        ("x-pushed", "yes")
    );
    assert!(seen[0].is_clean());
}

#[test]
fn each_stream_has_its_own_coding() {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(b"{\"a\":\"gzip\"}").unwrap();
    let gzip = gzip.finish().unwrap();
    let zstd = zstd::encode_all(&b"{\"a\":\"zstd\"}"[..], 3).unwrap();
    let (mut client, mut server) = (Peer::new(), Peer::new());
    let steps = [
        sent([start(), client.post(1, "/g"), last(1, ""), client.post(3, "/z"), last(3, "")].concat()),
        received(
            [
                server.headers(0, 1, &[(":status", "200"), ("content-encoding", "gzip")]),
                server.headers(0, 3, &[(":status", "200"), ("content-encoding", "zstd")]),
                frame(DATA, 0, 1, &gzip[..10]),
                frame(DATA, 0, 3, &zstd[..10]),
                frame(DATA, END_STREAM, 1, &gzip[10..]),
                frame(DATA, END_STREAM, 3, &zstd[10..]),
            ]
            .concat(),
        ),
        finished(),
    ];
    let seen = assert_split_invariant(false, &steps);
    assert_eq!(lines(&seen), ["POST /g -> 200 {\"a\":\"gzip\"}", "POST /z -> 200 {\"a\":\"zstd\"}"]);
    assert!(seen.iter().all(Seen::is_clean));
}

#[test]
fn resets_and_goodbyes_end_streams() {
    let (mut client, mut server) = (Peer::new(), Peer::new());
    let steps = [
        sent(
            [
                start(),
                client.post(1, "/1"),
                last(1, ""),
                client.post(3, "/3"),
                last(3, ""),
                client.post(5, "/5"),
                last(5, ""),
            ]
            .concat(),
        ),
        received([server.ok(1), data(1, "part")].concat()),
        sent(frame(RST_STREAM, 0, 1, &8u32.to_be_bytes())),
        received(last(1, "late")),
        received(frame(GOAWAY, 0, 0, &[0, 0, 0, 3, 0, 0, 0, 0])),
        received([server.ok(3), last(3, "three")].concat()),
        finished(),
    ];
    let seen = assert_split_invariant(false, &steps);
    assert_eq!(lines(&seen), ["POST /1 -> 200 part", "POST /3 -> 200 three", "POST /5 -> - "]);
    assert_eq!((seen[0].flaws.as_slice(), seen[0].end), (&[Flaw::Cut][..], Some(Some(CloseHow::Reset))));
    assert!(seen[1].is_clean());
    assert_eq!((seen[2].flaws.as_slice(), seen[2].end), (&[Flaw::Cut][..], Some(Some(CloseHow::Reset))));
}

#[test]
fn an_answered_request_may_be_declined() {
    let (mut client, mut server) = (Peer::new(), Peer::new());
    let steps = [
        sent([start(), client.post(1, "/1"), data(1, "part of the request")].concat()),
        received([server.ok(1), last(1, "no"), frame(RST_STREAM, 0, 1, &0u32.to_be_bytes())].concat()),
        finished(),
    ];
    let seen = assert_split_invariant(false, &steps);
    assert_eq!(lines(&seen), ["POST /1 -> 200 no"]);
    assert!(seen[0].is_clean());
}

#[test]
fn a_server_that_is_delivered_first_waits_for_its_client() {
    let (mut client, mut server) = (Peer::new(), Peer::new());
    let steps = [
        received([settings(), server.ok(1), last(1, "one")].concat()),
        sent([start(), client.post(1, "/1"), last(1, "")].concat()),
        finished(),
    ];
    let seen = assert_split_invariant(false, &steps);
    assert_eq!(lines(&seen), ["POST /1 -> 200 one"]);
    assert!(seen[0].is_clean());
}

#[test]
fn a_long_frame_of_a_stream_that_never_began_is_not_held_for_ever() {
    let head = [&(2u32 << 20).to_be_bytes()[1..], &[DATA, 0], &1u32.to_be_bytes()].concat();
    let seen = exchanges(&[sent(start()), received(settings()), received(head), received("some"), finished()]);
    assert_eq!(seen.len(), 1);
    assert_eq!((seen[0].response_wire.as_slice(), seen[0].flaws.contains(&Flaw::NoRequest)), (&b"some"[..], true));
}

#[test]
fn an_upgrade_to_h2c_goes_on_as_http2() {
    let (mut client, mut server) = (Peer::new(), Peer::new());
    let steps = [
        sent(
            "POST /up HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\nContent-Length: 2\r\n\r\nhi",
        ),
        received(
            [
                b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n".to_vec(),
                settings(),
                server.ok(1),
                last(1, "up"),
            ]
            .concat(),
        ),
        sent([start(), client.post(3, "/3"), last(3, "")].concat()),
        received([server.ok(3), last(3, "three")].concat()),
        finished(),
    ];
    let seen = exchanges(&steps);
    assert_eq!(lines(&seen).last().unwrap(), "POST /3 -> 200 three");
    assert!(seen.last().unwrap().is_clean());
    assert_eq!(String::from_utf8_lossy(&seen[0].response_content), "up");
}

#[test]
fn extended_connect_carries_a_websocket() {
    let (mut client, mut server) = (Peer::new(), Peer::new());
    let connect = [
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "https"),
        (":authority", "a"),
        (":path", "/ws"),
    ];
    let steps = [
        sent([start(), client.headers(0, 1, &connect)].concat()),
        received([settings(), server.headers(0, 1, &[(":status", "200")])].concat()),
        sent(frame(DATA, 0, 1, b"\x81\x82\0\0\0\0{}")),
        received([frame(DATA, 0, 1, b"\x81\x05{\"a\""), frame(DATA, 0, 1, b"}\x88\x02\x03\xe8")].concat()),
        sent(frame(DATA, END_STREAM, 1, b"\x88\x82\0\0\0\0\x03\xe8")),
        received(frame(DATA, END_STREAM, 1, b"")),
        finished(),
    ];
    let seen = assert_split_invariant(false, &steps);
    assert_eq!(lines(&seen), ["CONNECT /ws -> 200 "]);
    assert_eq!(seen[0].messages, [(Side::Request, true, b"{}".to_vec()), (Side::Response, true, b"{\"a\"}".to_vec())]);
    assert!(seen[0].is_clean());
}

#[test]
fn met_in_the_middle_later_streams_are_read_and_unknown_headers_counted() {
    let steps = three_calls();
    // From the second request on.
    let seen = exchanges_mid_stream(&steps[5..]);
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[0].request_wire, b"{\"q\":3}");
    assert_eq!(seen[0].response_content, b"three 3");
    assert_eq!(seen[1].response_content, b"five 5");
    for exchange in &seen {
        assert_eq!(exchange.flaws, [Flaw::UnknownHeaders]);
        assert_eq!(exchange.end, Some(None));
    }
    assert_eq!((seen[0].method.as_str(), seen[0].status), ("POST", Some(200)));
    // From the answer to the first request on.
    let seen = exchanges_mid_stream(&steps[4..]);
    assert_eq!(seen.len(), 3);
    assert_eq!((seen[0].response_content.as_slice(), seen[0].status), (&b"data: end\n\n"[..], Some(0)));
    assert!(seen[0].flaws.contains(&Flaw::MidStream) && seen[0].flaws.contains(&Flaw::NoRequest));
    assert_eq!(seen[2].response_content, b"five 5");
}

#[test]
fn met_at_any_byte_the_rest_is_read() {
    let mut steps = three_calls();
    let (mut client, mut server) = (Peer::new(), Peer::new());
    client.post(1, "/v1/messages");
    client.post(3, "/v1/messages");
    steps.pop();
    steps.extend([
        sent([client.post(7, "/v1/last"), last(7, "{\"q\":7}")].concat()),
        received(
            [server.headers(0, 7, &[(":status", "200"), ("x-new", "literal")]), data(7, "se"), last(7, "ven")].concat(),
        ),
        finished(),
    ]);
    let whole = exchanges(&steps).last().unwrap().clone();
    assert_eq!(whole.response_content, b"seven");
    for first in 0..9 {
        let Step::Bytes(direction, bytes) = &steps[first] else { continue };
        for at in 1..bytes.len() {
            let mut late = vec![Step::Bytes(*direction, bytes[at..].to_vec())];
            late.extend_from_slice(&steps[first + 1..]);
            let seen = exchanges_mid_stream(&late);
            let end = seen.last().unwrap_or_else(|| panic!("met in step {first} at {at}"));
            assert_eq!(
                (&end.response_content, &end.request_wire),
                (&whole.response_content, &whole.request_wire),
                "met in step {first} at {at}"
            );
            assert_eq!((end.status, end.end), (Some(200), Some(None)));
        }
    }
}

#[test]
fn the_client_is_known_by_its_headers_also_in_the_middle() {
    let flipped: Vec<Step> = three_calls()[5..]
        .iter()
        .map(|step| match step {
            Step::Bytes(Direction::Sent, bytes) => received(bytes),
            Step::Bytes(Direction::Received, bytes) => sent(bytes),
            other => other.clone(),
        })
        .collect();
    let seen = exchanges_mid_stream(&flipped);
    assert_eq!(seen[0].request_wire, b"{\"q\":3}");
    assert_eq!(seen[1].response_content, b"five 5");
}

#[test]
fn a_hole_in_data_costs_its_bytes_only() {
    let (mut client, mut server) = (Peer::new(), Peer::new());
    let answer = data(1, "data: 0123456789\n\n");
    for hole in 1..=(answer.len() - 9 - 4) {
        let steps = [
            sent([start(), client.post(1, "/1"), last(1, "")].concat()),
            received([settings(), server.ok(1), answer[..9 + 4].to_vec()].concat()),
            lost_received(hole as u64),
            received([&answer[9 + 4 + hole..], &last(1, "data: end\n\n")[..]].concat()),
            sent([client.post(3, "/3"), last(3, "")].concat()),
            received([server.ok(3), last(3, "three")].concat()),
            finished(),
        ];
        let seen = exchanges(&steps);
        assert_eq!(seen[0].gaps, [(Side::Response, hole as u64)]);
        assert_eq!(seen[0].flaws, [Flaw::Gap]);
        assert!(seen[0].response_done && seen[0].response_content.ends_with(b"data: end\n\n"));
        assert_eq!(seen[1].line(), "POST /3 -> 200 three");
        assert!(seen[1].is_clean());
        (client, server) = (Peer::new(), Peer::new());
    }
}

#[test]
fn a_hole_over_frames_ends_at_a_later_frame() {
    let (mut client, mut server) = (Peer::new(), Peer::new());
    let first = [server.ok(1), data(1, "data: 1\n\n"), data(1, "data: 2\n\n"), last(1, "data: end\n\n")].concat();
    let second = [server.headers(0, 3, &[(":status", "200"), ("x-late", "y")]), data(3, "th"), last(3, "ree")].concat();
    let (request_1, request_3) =
        ([client.post(1, "/1"), last(1, "")].concat(), [client.post(3, "/3"), last(3, "")].concat());
    for from in 0..first.len() {
        for to in [from + 20, first.len() - 5, first.len()] {
            if to <= from || to > first.len() {
                continue;
            }
            let steps = [
                sent([start(), request_1.clone()].concat()),
                received(settings()),
                received(&first[..from]),
                lost_received((to - from) as u64),
                received(&first[to..]),
                sent(&request_3),
                received(&second),
                finished(),
            ];
            let seen = exchanges(&steps);
            assert_eq!(seen.len(), 2, "hole from {from} to {to}");
            assert!(seen[0].flaws.contains(&Flaw::Gap), "hole from {from} to {to}");
            assert_eq!(seen[1].line(), "POST /3 -> 200 three", "hole from {from} to {to}");
            assert!(seen[1].is_clean(), "hole from {from} to {to}: {:?}", seen[1]);
        }
    }
}

#[test]
fn a_lost_request_leaves_an_answer_without_one() {
    let (mut client, mut server) = (Peer::new(), Peer::new());
    let lost = [client.post(1, "/1"), last(1, "{}")].concat();
    let steps = [
        sent(start()),
        received(settings()),
        lost_sent(lost.len() as u64),
        received([server.ok(1), last(1, "one")].concat()),
        sent([client.post(3, "/3"), last(3, "")].concat()),
        received([server.ok(3), last(3, "three")].concat()),
        finished(),
    ];
    let seen = exchanges(&steps);
    assert_eq!(lines(&seen), ["  -> 200 one", "POST /3 -> 200 three"]);
    assert_eq!(seen[0].flaws, [Flaw::Gap, Flaw::NoRequest]);
    assert_eq!(seen[1].flaws, [Flaw::UnknownHeaders]);
}

#[test]
fn endless_header_blocks_are_cut() {
    let mut client = Peer::new();
    let mut bytes = [start(), client.post(1, "/1")].concat();
    bytes.extend(frame(HEADERS, 0, 3, &[0x82; 16_000]));
    for _ in 0..100 {
        bytes.extend(frame(CONTINUATION, 0, 3, &[0x82; 16_000]));
    }
    bytes.extend(frame(CONTINUATION, END_HEADERS, 3, &[0x82]));
    bytes.extend(client.post(5, "/5"));
    let seen = exchanges(&[sent(bytes), finished()]);
    assert_eq!(seen.last().unwrap().target, "/5");
}
