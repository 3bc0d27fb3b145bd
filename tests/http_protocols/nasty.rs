//! Legal but rare, many rules at once: what the RFCs allow and few peers do. The expected values follow from the RFCs' text.

use flate2::{Compress, Compression, FlushCompress, Status};
use heron::event::CloseHow;
use heron::flaw::Flaw;
use heron::http::Side;

use crate::support::*;

/// RFC 9112 sections 6.3, 7.1, 9.3.2; RFC 9110 sections 10.1.1, 15.2: three requests in one piece, of which the second asks
/// before it sends; interim responses in between; answers without bodies that name a length; chunks with extensions,
/// trailers and an obsolete folded line.
#[test]
fn pipelining_around_an_expectation_keeps_every_answer_with_its_request() {
    let client = concat!(
        "HEAD /1 HTTP/1.1\r\nHost: x\r\n\r\n",
        "\r\nGET /2 HTTP/1.1\r\nhost:x\r\nif-none-match: \"a\"\r\nX-Folded: one\r\n two\r\n\r\n",
        "POST /3 HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nTransfer-Encoding: Chunked\r\nTrailer: x-sum\r\n\r\n",
    );
    let server = concat!(
        "HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 512\r\nContent-Encoding: gzip\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\nETag: \"a\"\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\n",
    );
    let body = "4;name=\"a;b\"\r\nwxyz\r\n00001 \r\n!\r\n0;last\r\nx-sum: 7\r\n\r\n";
    let rest = concat!(
        "HTTP/1.1 102 Processing\r\n\r\n",
        "HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n",
        "2\r\nok\r\n0\r\nContent-Length: 99\r\nHTTP/1.1 200 OK: no\r\n\r\n",
        "HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\n",
        "HTTP/1.0 200 OK\r\n\r\nuntil the end",
    );
    let last = "DELETE /4 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\nGET /5 HTTP/1.0\r\n\r\n";
    let steps = [sent(client), received(server), sent(body), sent(last), received(rest), finished()];
    let seen = assert_split_invariant(false, &steps);
    assert_eq!(
        lines(&seen),
        ["HEAD /1 -> 200 ", "GET /2 -> 304 ", "POST /3 -> 201 ok", "DELETE /4 -> 204 ", "GET /5 -> 200 until the end"]
    );
    assert_eq!([&seen[0].interim[..], &seen[1].interim, &seen[2].interim], [&[103][..], &[], &[100, 102]]);
    assert_eq!(seen[2].request_wire, b"wxyz!");
    assert!(seen.iter().all(Seen::is_clean), "{seen:#?}");
}

#[test]
fn a_request_abandoned_in_its_body_leaves_its_answered_neighbours_whole() {
    let steps = [
        sent(
            "POST /1 HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}POST /2 HTTP/1.1\r\nContent-Length: 500\r\n\r\n{\"half\":",
        ),
        received("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none"),
        Step::Close(None, CloseHow::Reset),
    ];
    let seen = assert_split_invariant(false, &steps);
    assert!(seen[0].is_clean());
    assert_eq!((seen[1].request_wire.as_slice(), seen[1].request_done), (&b"{\"half\":"[..], false));
    assert_eq!((seen[1].end, seen[1].flaws.as_slice()), (Some(Some(CloseHow::Reset)), &[Flaw::Cut][..]));
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let head = [&(payload.len() as u32).to_be_bytes()[1..], &[kind, flags], &stream.to_be_bytes()].concat();
    [&head[..], payload].concat()
}

/// A literal with incremental indexing and a new name (RFC 7541 section 6.2.1).
fn insert(name: &str, value: &str) -> Vec<u8> {
    [&[0x40, name.len() as u8], name.as_bytes(), &[value.len() as u8], value.as_bytes()].concat()
}

/// The same without indexing (6.2.2), and never indexed (6.2.3).
fn literal(never: bool, name: &str, value: &str) -> Vec<u8> {
    let first = if never { 0x10 } else { 0x00 };
    [&[first, name.len() as u8], name.as_bytes(), &[value.len() as u8], value.as_bytes()].concat()
}

/// RFC 9113 sections 5.5, 6.1, 6.2, 6.3, 6.8, 6.10, 8.1; RFC 7541 sections 4.2, 4.3, 6.3: the dynamic table emptied and made
/// large again between two requests, entries evicted by a smaller one, padding that is the whole frame, priorities for idle
/// streams, unknown frames, a first goodbye that refuses nothing and a second that does, a declined request body.
#[test]
fn table_sizes_padding_priorities_and_goodbyes_change_no_exchange() {
    let post = |more: &[u8]| [&[0x83, 0x87][..], &literal(false, ":path", "/v1/messages"), more].concat();
    let preface = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(4, 0, 0, &[])].concat();
    let first = post(&[insert("x-key", "one"), insert("x-agent", "a")].concat());
    // 62 is the newest entry: x-agent, 63 x-key.
    let second = post(&[0xbe, 0xbf]);
    // To nothing and back (two updates in a row), then a new entry becomes 62 again.
    let third = [&[0x20, 0x3f, 0xe1, 0x1f][..], &post(&insert("x-key", "three"))].concat();
    // 40 bytes hold one entry of 5 + 3 + 32 bytes: inserting another evicts it.
    let fourth =
        [&[0x3f, 0x09][..], &post(&[insert("x-a", "bcdef"), literal(true, "x-secret", "s"), vec![0xbe]].concat())]
            .concat();
    let headers = |flags: u8, stream: u32, block: &[u8]| frame(1, flags | 4, stream, block);
    let client = [
        preface,
        frame(2, 0, 99, &[0, 0, 0, 0, 200]),
        headers(0, 1, &first),
        frame(0, 8, 1, &[4, 0, 0, 0, 0]),
        frame(0, 8 | 1, 1, b"\x02{}\0\0"),
        frame(0xbb, 0x7f, 0, b"what is this"),
        headers(1, 3, &second),
        headers(1, 5, &third),
        headers(0, 7, &fourth),
        frame(8, 0, 7, &[0, 0, 1, 0]),
        frame(0, 0, 7, b"part of a body"),
    ]
    .concat();
    let ok = |flags: u8, stream: u32| frame(1, 4 | flags, stream, &[0x88]);
    let server = [
        frame(4, 0, 0, &[0, 1, 0, 0, 0, 0]),
        frame(4, 1, 0, &[]),
        frame(7, 0, 0, &[0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0]),
        ok(0, 1),
        frame(0, 0, 1, &vec![b'x'; (1 << 20) + 3]),
        ok(0, 5),
        frame(0, 1, 5, b"five"),
        frame(0, 8 | 1, 1, &[0]),
        ok(1, 3),
        ok(0, 7),
        frame(0, 1, 7, b"enough"),
        frame(3, 0, 7, &[0, 0, 0, 0]),
    ]
    .concat();
    let late = headers(1, 9, &post(&[0xbe]));
    let goodbye = frame(7, 0, 0, &[0, 0, 0, 7, 0, 0, 0, 0]);
    let steps = [sent(client), received(server), sent(late), received(goodbye), finished()];
    let seen = exchanges(&steps);
    let sent_keys: Vec<Vec<(&str, &str)>> = seen
        .iter()
        .map(|seen| seen.request_headers.iter().map(|header| (header.name.as_str(), header.value.as_str())).collect())
        .collect();
    assert_eq!(sent_keys[0], [("x-key", "one"), ("x-agent", "a")]);
    assert_eq!(sent_keys[1], [("x-agent", "a"), ("x-key", "one")]);
    assert_eq!(sent_keys[2], [("x-key", "three")]);
    assert_eq!(sent_keys[3], [("x-a", "bcdef"), ("x-secret", "s"), ("x-a", "bcdef")]);
    assert_eq!(sent_keys[4], [("x-a", "bcdef")]);
    assert_eq!(seen[0].response_wire.len(), (1 << 20) + 3, "a frame may be as long as its length says");
    let answers: Vec<&[u8]> = seen[1..].iter().map(|seen| seen.response_wire.as_slice()).collect();
    assert_eq!(answers, [&b""[..], b"five", b"enough", b""]);
    assert!(seen[..4].iter().all(Seen::is_clean), "{:?}", seen[3]);
    assert_eq!(
        (seen[0].request_wire.as_slice(), seen[3].request_wire.as_slice()),
        (&b"{}"[..], &b"part of a body"[..])
    );
    assert_eq!((seen[4].status, seen[4].end), (None, Some(Some(CloseHow::Reset))), "refused by the second goodbye");
}

/// One direction with shared history, the other without; messages in fragments with control frames between them, an empty
/// fragment, a final block inside a message (RFC 7692 section 7.2.3.4), a stored block, an empty message (7.2.3.6).
#[test]
fn each_direction_of_a_websocket_keeps_its_own_history() {
    let deflate = |deflate: &mut Compress, text: &str, flush| {
        let mut out = Vec::with_capacity(text.len() + 256);
        let status = deflate.compress_vec(text.as_bytes(), &mut out, flush).unwrap();
        if flush == FlushCompress::Finish {
            assert_eq!(status, Status::StreamEnd);
            // What ends with a final block gets an empty one behind it, of which the last four bytes are left out.
            out.push(0);
        } else {
            out.truncate(out.len() - 4);
        }
        out
    };
    let ws = |first: u8, masked: bool, payload: &[u8]| {
        let mut frame = vec![first, payload.len() as u8 | if masked { 0x80 } else { 0 }];
        if masked {
            frame.extend([9, 8, 7, 6]);
        }
        let mask = if masked { [9, 8, 7, 6] } else { [0; 4] };
        frame.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]));
        frame
    };
    let text = "{\"delta\":\"the same words again and again\"}";
    let mut shared = Compress::new(Compression::best(), false);
    let one = deflate(&mut shared, text, FlushCompress::Sync);
    let two = deflate(&mut shared, text, FlushCompress::Sync);
    assert!(two.len() < one.len() / 2, "the second refers to the first");
    let (a, b) = two.split_at(two.len() / 2);
    let server = [
        ws(0xc1, false, &one),
        ws(0x41, false, a),
        ws(0x89, false, b"ping"),
        ws(0x00, false, b""),
        ws(0x8a, false, b""),
        ws(0x80, false, b),
        ws(0x81, false, b"plain"),
        ws(0xc1, false, &[0x00]),
    ];
    let mut fresh = Compress::new(Compression::best(), false);
    let ended = deflate(&mut fresh, text, FlushCompress::Finish);
    let mut stored = Compress::new(Compression::none(), false);
    let stored = deflate(&mut stored, text, FlushCompress::Sync);
    let client = [ws(0xc1, true, &ended), ws(0xc2, true, &stored), ws(0xc1, true, &ended)];
    let steps = [
        sent("GET /w HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"),
        received(
            "HTTP/1.1 101 S\r\nUpgrade: websocket\r\nSec-WebSocket-Extensions: x-other, permessage-deflate; \
             client_no_context_takeover; server_max_window_bits=\"15\"\r\n\r\n",
        ),
        sent(client.concat()),
        received(server.concat()),
        finished(),
    ];
    let seen = assert_split_invariant(false, &steps);
    let of = |side: Side| -> Vec<&[u8]> {
        seen[0].messages.iter().filter(|(from, _, _)| *from == side).map(|(_, _, payload)| payload.as_slice()).collect()
    };
    assert_eq!(of(Side::Response), [text.as_bytes(), text.as_bytes(), b"plain", b""]);
    assert_eq!(of(Side::Request), [text.as_bytes(); 3]);
    assert!(seen[0].flaws.is_empty(), "{:?}", seen[0].flaws);
}
