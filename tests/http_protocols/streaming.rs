//! Tokens of coded event streams are seen when they arrive.

use std::io::Write;

use bytes::Bytes;
use heron::conn;
use heron::event::{Data, Direction, Event, Nanos};
use heron::flaw::Flaw;
use heron::http::PartKind;

use crate::support::*;

const TOKENS: [&str; 8] = [
    "event: message_start\ndata: {\"type\":\"message_start\"}\n\n",
    "data: {\"delta\":\"token 0\"}\n\n",
    "data: {\"delta\":\"token 1\"}\n\n",
    "data: {\"delta\":\"token 2\"}\n\n",
    "data: {\"delta\":\"token 3\"}\n\n",
    "data: {\"delta\":\"token 4\"}\n\n",
    "data: {\"delta\":\"token 5\"}\n\n",
    "data: [DONE]\n\n",
];

/// The tokens as a brotli stream that was flushed after each, made with Google's encoder (quality 5).
const BROTLI: [&str; 9] = [
    "0b1a0000045439afd052c1998ce0396cc08143180ff24aa7459dd834cd71b95bd69c1bcc5b417d3000",
    "d0000040c021e7176a078a63af073164135964d27de2809c3d967a3000",
    "d00000405a4124a64fa9424c30210703",
    "d00000405a4144a64f11a14a00300703",
    "d00000405a4164a64f11a14a00300703",
    "d00000405a4184a64f11a14a00300703",
    "d00000405a41a4a64f11a14a00300703",
    "68000040c043d65f3395755304e81280a6c60703",
    "03",
];

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn gzip_pieces() -> Vec<Vec<u8>> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    let mut pieces: Vec<Vec<u8>> = TOKENS
        .iter()
        .map(|token| {
            encoder.write_all(token.as_bytes()).unwrap();
            encoder.flush().unwrap();
            std::mem::take(encoder.get_mut())
        })
        .collect();
    pieces.push(encoder.finish().unwrap());
    pieces
}

fn deflate_pieces() -> Vec<Vec<u8>> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    let mut pieces: Vec<Vec<u8>> = TOKENS
        .iter()
        .map(|token| {
            encoder.write_all(token.as_bytes()).unwrap();
            encoder.flush().unwrap();
            std::mem::take(encoder.get_mut())
        })
        .collect();
    pieces.push(encoder.finish().unwrap());
    pieces
}

fn zstd_pieces() -> Vec<Vec<u8>> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
    let mut pieces: Vec<Vec<u8>> = TOKENS
        .iter()
        .map(|token| {
            encoder.write_all(token.as_bytes()).unwrap();
            encoder.flush().unwrap();
            std::mem::take(encoder.get_mut())
        })
        .collect();
    pieces.push(encoder.finish().unwrap());
    pieces
}

#[test]
fn each_flushed_token_is_handed_on_with_its_chunk() {
    let brotli = BROTLI.map(hex).to_vec();
    for (coding, pieces) in
        [("gzip", gzip_pieces()), ("deflate", deflate_pieces()), ("zstd", zstd_pieces()), ("br", brotli)]
    {
        let mut steps = vec![
            sent("POST /v1/messages HTTP/1.1\r\nContent-Length: 0\r\n\r\n"),
            received(format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Encoding: {coding}\r\n\r\n")),
        ];
        steps.extend(
            pieces.iter().map(|piece| received([format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat())),
        );
        steps.extend([received("0\r\n\r\n"), finished()]);
        let mut stage = conn::Stage::new(conn::Bounds::default());
        let mut contents = Vec::new();
        for event in events(false, &steps) {
            let mut parts = Vec::new();
            stage.push(event, &mut parts);
            let content: Vec<u8> = parts
                .into_iter()
                .filter_map(|part| match part.kind {
                    PartKind::ResponseBody(body) => Some(body.content),
                    _ => None,
                })
                .flatten()
                .collect();
            contents.push(String::from_utf8(content).unwrap());
        }
        assert_eq!(contents[3..11], TOKENS, "{coding}");
        let seen = assert_split_invariant(false, &steps);
        assert!(seen[0].is_clean(), "{coding}: {:?}", seen[0].flaws);
        assert_eq!(seen[0].response_wire, pieces.concat());
    }
}

#[test]
fn a_whole_brotli_body_is_decoded() {
    let text = "{\"text\": \"a long answer, a long answer, a long answer\"}".repeat(20);
    let coded = hex("1b4b04488dd462cd19ee8c50e92d0212b6b774fa60030e5c028a30e009f412594901962c4fc83a6b11b33fb702");
    let head = format!("POST /z HTTP/1.1\r\nContent-Encoding: br\r\nContent-Length: {}\r\n\r\n", coded.len());
    let seen = assert_split_invariant(
        false,
        &[sent([head.as_bytes(), &coded].concat()), received("HTTP/1.1 204 No Content\r\n\r\n"), finished()],
    );
    assert_eq!(seen[0].request_content, text.as_bytes());
    assert!(seen[0].is_clean());
}

#[test]
fn a_decompression_bomb_is_cut_and_told() {
    let zeros = vec![0; 4 << 20];
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(&zeros).unwrap();
    let gzip = gzip.finish().unwrap();
    let mut twice = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    twice.write_all(&gzip).unwrap();
    for (coding, coded) in [
        ("gzip", gzip.clone()),
        ("gzip, gzip", twice.finish().unwrap()),
        ("zstd", zstd::encode_all(&zeros[..], 1).unwrap()),
    ] {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Encoding: {coding}\r\nContent-Length: {}\r\n\r\n", coded.len());
        let bounds = heron::http::Bounds { free_content_bytes: 1 << 20, ..Default::default() };
        let steps = [
            sent("GET /bomb HTTP/1.1\r\n\r\n"),
            received([head.as_bytes(), &coded].concat()),
            sent("GET /next HTTP/1.1\r\n\r\n"),
            received("HTTP/1.1 204 No Content\r\n\r\n"),
            finished(),
        ];
        let seen = exchanges_within(bounds, &steps);
        assert_eq!(seen[0].flaws, [Flaw::Bound], "{coding}");
        assert_eq!(seen[0].response_wire, coded);
        assert!(seen[0].response_content.len() <= 1 << 20);
        assert!(seen[1].is_clean());
    }
}

#[test]
fn many_small_bombs_in_one_event_are_one_large_one() {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(&vec![0; 1 << 20]).unwrap();
    let gzip = gzip.finish().unwrap();
    let head = format!("POST / HTTP/1.1\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n", gzip.len());
    let one = [head.as_bytes(), &gzip].concat();
    let bounds = heron::http::Bounds { free_content_bytes: 1 << 20, ..Default::default() };
    let seen = exchanges_within(bounds, &[sent(one.repeat(100)), finished()]);
    let content: usize = seen.iter().map(|exchange| exchange.request_content.len()).sum();
    assert!(content <= one.len() * 100 * 48, "{content} bytes");
    assert!(seen[0].request_content.len() == 1 << 20 && seen[99].flaws.contains(&Flaw::Bound));
}

#[test]
fn a_large_body_is_handed_on_without_a_copy() {
    let mut stage = conn::Stage::new(conn::Bounds::default());
    let mut parts = Vec::new();
    stage.push(open(false), &mut parts);
    let head = "POST /v1/messages HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n";
    let whole = Bytes::from([head.as_bytes(), &vec![b'x'; 1_000_000]].concat());
    let data = Data { conn: CONN, at: Nanos(1), direction: Direction::Sent, offset: 0, bytes: whole.clone() };
    stage.push(Event::Data(data), &mut parts);
    let body = parts
        .iter()
        .find_map(|part| match &part.kind {
            PartKind::RequestBody(body) => Some(body.clone()),
            _ => None,
        })
        .unwrap();
    assert_eq!(body.wire.as_ptr(), whole[head.len()..].as_ptr());
    assert_eq!(body.content.as_ptr(), body.wire.as_ptr());
    assert_eq!(body.wire.len(), 1_000_000);
}
