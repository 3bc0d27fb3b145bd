//! WebSocket over an HTTP/1.1 upgrade.

use flate2::{Compress, Compression, FlushCompress};
use heron::event::CloseHow;
use heron::flaw::Flaw;
use heron::http::Side;

use crate::support::*;

const CLIENT: &[u8] = include_bytes!("data/ws_pmd_client.bin");
const SERVER: &[u8] = include_bytes!("data/ws_pmd_server.bin");
const PLAIN_SERVER: &[u8] = include_bytes!("data/ws_plain_server.bin");
const CLIENT_MESSAGES: &str = include_str!("data/ws_client_messages.jsonl");
const SERVER_MESSAGES: &str = include_str!("data/ws_server_messages.jsonl");

fn messages(seen: &Seen, side: Side) -> Vec<String> {
    let of_side = seen.messages.iter().filter(|(from, ..)| *from == side);
    of_side.map(|(_, _, payload)| String::from_utf8(payload.clone()).unwrap()).collect()
}

fn lines_of(text: &str) -> Vec<&str> {
    text.lines().filter(|line| !line.is_empty()).collect()
}

fn head_len(bytes: &[u8]) -> usize {
    bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4
}

#[test]
fn messages_with_shared_history_are_inflated() {
    let (request, from_client) = CLIENT.split_at(head_len(CLIENT));
    let seen = assert_split_invariant(false, &[sent(request), received(SERVER), sent(from_client), finished()]);
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].status, Some(101));
    assert_eq!(messages(&seen[0], Side::Response), lines_of(SERVER_MESSAGES));
    assert_eq!(messages(&seen[0], Side::Request), lines_of(CLIENT_MESSAGES));
    assert!(seen[0].flaws.is_empty(), "{:?}", seen[0].flaws);
    assert_eq!(seen[0].end, Some(None), "the server said goodbye");
}

#[test]
fn frames_delivered_before_the_upgrade_wait_for_it() {
    let seen = assert_split_invariant(false, &[sent(CLIENT), received(SERVER), finished()]);
    assert_eq!(messages(&seen[0], Side::Request), lines_of(CLIENT_MESSAGES));
    assert!(seen[0].flaws.is_empty());
}

#[test]
fn plain_messages_are_read() {
    let request = &CLIENT[..head_len(CLIENT)];
    let seen = assert_split_invariant(false, &[sent(request), received(PLAIN_SERVER), finished()]);
    assert_eq!(messages(&seen[0], Side::Response), lines_of(SERVER_MESSAGES));
    assert!(seen[0].flaws.is_empty());
}

#[test]
fn met_in_the_middle_shared_history_is_lost_and_said_so() {
    // Behind the pong and the first message.
    let frames = &SERVER[head_len(SERVER) + 2..];
    let first = 4 + usize::from(u16::from_be_bytes([frames[2], frames[3]]));
    let seen = exchanges_mid_stream(&[received(&frames[first..]), finished()]);
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].flaws, [Flaw::MidStream, Flaw::LostHistory, Flaw::NoRequest]);
    assert!(seen[0].messages.is_empty());
    let frames = &PLAIN_SERVER[head_len(PLAIN_SERVER)..];
    let first = 4 + usize::from(u16::from_be_bytes([frames[2], frames[3]]));
    let seen = exchanges_mid_stream(&[received(&frames[first..]), finished()]);
    assert_eq!(messages(&seen[0], Side::Response), lines_of(SERVER_MESSAGES)[1..]);
    assert_eq!(seen[0].flaws, [Flaw::MidStream, Flaw::NoRequest]);
}

/// A sender of frames, for what the samples do not have.
struct Sender {
    deflate: Compress,
    fresh_each_time: bool,
    mask: Option<[u8; 4]>,
}

impl Sender {
    fn new(mask: Option<[u8; 4]>, fresh_each_time: bool) -> Sender {
        Sender { deflate: Compress::new(Compression::default(), false), fresh_each_time, mask }
    }

    fn compressed(&mut self, text: &str) -> Vec<u8> {
        if self.fresh_each_time {
            self.deflate.reset();
        }
        let mut out = Vec::with_capacity(text.len() + 1024);
        self.deflate.compress_vec(text.as_bytes(), &mut out, FlushCompress::Sync).unwrap();
        assert!(out.ends_with(&[0, 0, 0xff, 0xff]));
        out.truncate(out.len() - 4);
        self.frame(0xc1, &out)
    }

    fn frame(&self, first: u8, payload: &[u8]) -> Vec<u8> {
        let masked = if self.mask.is_some() { 0x80 } else { 0 };
        let mut frame = vec![first];
        match payload.len() {
            len @ 0..=125 => frame.push(masked | len as u8),
            len @ 126..=0xffff => {
                frame.push(masked | 126);
                frame.extend((len as u16).to_be_bytes());
            }
            len => {
                frame.push(masked | 127);
                frame.extend((len as u64).to_be_bytes());
            }
        }
        let mask = self.mask.unwrap_or([0; 4]);
        if self.mask.is_some() {
            frame.extend(mask);
        }
        frame.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]));
        frame
    }
}

fn upgraded(extension: &str, steps: Vec<Step>) -> Vec<Step> {
    let mut all = vec![
        sent("GET /v1/realtime HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\r\n"),
        received(format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{extension}\r\n"
        )),
    ];
    all.extend(steps);
    all.push(finished());
    all
}

const SHARED: &str = "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=15\r\n";
const FRESH: &str =
    "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover\r\n";

fn text(n: usize) -> String {
    format!("{{\"type\":\"response.output_text.delta\",\"sequence_number\":{n},\"delta\":\"word {n}\"}}")
}

#[test]
fn both_kinds_of_history_and_large_frames_are_read() {
    for (extension, fresh) in [(SHARED, false), (FRESH, true)] {
        let mut server = Sender::new(None, fresh);
        let mut client = Sender::new(Some([1, 2, 3, 250]), fresh);
        let large = format!("{{\"input\":\"{}\"}}", "long ".repeat(20_000));
        let mut steps = Vec::new();
        for n in 0..5 {
            steps.push(sent(client.compressed(&text(n))));
            steps.push(received([server.compressed(&text(n)), server.frame(0x89, b"ping")].concat()));
        }
        steps.push(sent(client.frame(0x81, large.as_bytes())));
        let seen = exchanges(&upgraded(extension, steps));
        let mut expected: Vec<String> = (0..5).map(text).collect();
        assert_eq!(messages(&seen[0], Side::Response), expected);
        expected.push(large);
        assert_eq!(messages(&seen[0], Side::Request), expected);
        assert!(seen[0].flaws.is_empty());
        assert_eq!(seen[0].end, Some(Some(CloseHow::Finished)), "no close frame");
    }
}

#[test]
fn fragments_around_control_frames_are_one_message() {
    let sender = Sender::new(None, false);
    let frames = [
        sender.frame(0x01, b"{\"a\":"),
        sender.frame(0x8a, b""),
        sender.frame(0x00, b"[1,"),
        sender.frame(0x89, b"p"),
        sender.frame(0x80, b"2]}"),
        sender.frame(0x82, &[0, 1, 2]),
        sender.frame(0x81, b""),
    ];
    let seen = assert_split_invariant(false, &upgraded("", vec![received(frames.concat())]));
    let expected = [
        (Side::Response, true, b"{\"a\":[1,2]}".to_vec()),
        (Side::Response, false, vec![0, 1, 2]),
        (Side::Response, true, vec![]),
    ];
    assert_eq!(seen[0].messages, expected);
}

#[test]
fn a_hole_costs_one_message_or_with_shared_history_all_later_ones() {
    for (extension, fresh, left) in [(SHARED, false, &[0, 1][..]), (FRESH, true, &[0, 1, 3, 4])] {
        let mut server = Sender::new(None, fresh);
        let frames: Vec<Vec<u8>> = (0..5).map(|n| server.compressed(&text(n))).collect();
        for hole in [1u64, 5, frames[2].len() as u64 - 4] {
            let mut steps: Vec<Step> = frames[..2].iter().map(received).collect();
            steps.push(received(&frames[2][..4]));
            steps.push(lost_received(hole));
            steps.push(received(&frames[2][4 + hole as usize..]));
            steps.extend(frames[3..].iter().map(received));
            let seen = exchanges(&upgraded(extension, steps));
            let expected: Vec<String> = left.iter().map(|&n| text(n)).collect();
            assert_eq!(messages(&seen[0], Side::Response), expected, "hole of {hole}");
            assert!(seen[0].flaws.contains(&Flaw::Gap));
            assert_eq!(seen[0].flaws.contains(&Flaw::LostHistory), !fresh);
        }
    }
}

#[test]
fn a_message_over_the_bound_is_dropped_and_told() {
    let mut server = Sender::new(None, true);
    let bomb = "0".repeat(100 << 10);
    let mut out = Vec::with_capacity(1 << 10);
    server.deflate.compress_vec(bomb.as_bytes(), &mut out, FlushCompress::Sync).unwrap();
    out.truncate(out.len() - 4);
    let steps = vec![received(server.frame(0xc1, &out)), received(server.compressed(&text(1)))];
    let bounds = heron::http::Bounds { max_message_bytes: 64 << 10, ..Default::default() };
    let seen = exchanges_within(bounds, &upgraded(FRESH, steps));
    assert_eq!(messages(&seen[0], Side::Response), [text(1)]);
    assert_eq!(seen[0].flaws, [Flaw::Bound]);
}

#[test]
fn a_refused_upgrade_is_an_ordinary_answer() {
    let steps = [
        sent("GET /ws HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"),
        received("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno"),
        sent("GET /next HTTP/1.1\r\n\r\n"),
        received("HTTP/1.1 204 No Content\r\n\r\n"),
        finished(),
    ];
    let seen = assert_split_invariant(false, &steps);
    assert_eq!(lines(&seen), ["GET /ws -> 403 no", "GET /next -> 204 "]);
    assert!(seen.iter().all(Seen::is_clean));
}
