//! Damage of every kind, with fixed seeds: nothing panics, the order of parts holds, neighbours of damage survive, and what is
//! kept stays small.

use bytes::Bytes;
use heron::conn::{Bounds, Stage};
use heron::event::{Data, Direction, Event, LossCause, Lost, Nanos};
use heron::flaw::Flaw;
use heron::http::PartKind;

use crate::support::*;

/// A fixed-seed generator (xorshift).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound.max(1) as u64) as usize
    }
}

fn chunked(body: &str) -> String {
    let half = body.len() / 2;
    let (first, second) = body.split_at(half);
    let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
    format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{}{}0\r\n\r\n", chunk(first), chunk(second))
}

/// Ten calls, each of which names its number in request and answer.
fn calls() -> Vec<(String, String)> {
    (0..10)
        .map(|n| {
            let body = format!("{{\"call\":{n},\"text\":\"{}\"}}", "some words of a prompt ".repeat(8));
            let request = format!(
                "POST /v1/messages HTTP/1.1\r\nHost: api.example\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            let answer = format!("data: {{\"answer\":{n},\"text\":\"{}\"}}\n\n", "some words of an answer ".repeat(8));
            let response = if n % 2 == 0 {
                chunked(&answer)
            } else {
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{answer}", answer.len())
            };
            (request, response)
        })
        .collect()
}

/// Number in the request and in the answer, where they are there.
fn numbers(seen: &Seen) -> (Option<char>, Option<char>) {
    let after = |bytes: &[u8], key: &str| {
        let text = String::from_utf8_lossy(bytes).into_owned();
        text.find(key).and_then(|at| text[at + key.len()..].chars().next()).filter(char::is_ascii_digit)
    };
    (after(&seen.request_wire, "\"call\":"), after(&seen.response_wire, "\"answer\":"))
}

#[test]
fn one_hole_anywhere_never_swaps_answers_and_costs_its_neighbours_nothing() {
    let calls = calls();
    let mut numbers_of_seed = Numbers(0x1234_5678_9abc_def1);
    for _ in 0..3000 {
        let damaged = numbers_of_seed.below(10);
        let in_request = numbers_of_seed.below(2) == 0;
        let mut steps = Vec::new();
        for (n, (request, response)) in calls.iter().enumerate() {
            for (text, is_request) in [(request, true), (response, false)] {
                let step = |text: &str| if is_request { sent(text) } else { received(text) };
                if n == damaged && is_request == in_request {
                    let from = numbers_of_seed.below(text.len());
                    let len = 1 + numbers_of_seed.below(text.len() - from);
                    steps.push(step(&text[..from]));
                    steps.push(Step::Gap(if is_request { Direction::Sent } else { Direction::Received }, len as u64));
                    steps.push(step(&text[from + len..]));
                } else {
                    steps.push(step(text));
                }
            }
        }
        steps.push(finished());
        let seen = exchanges(&steps);
        let clean = seen.iter().filter(|exchange| exchange.is_clean()).count();
        assert!(
            clean >= 9,
            "{clean} of the nine neighbours are whole: hole in call {damaged}, request: {in_request}: {seen:#?}"
        );
        for exchange in &seen {
            if let (Some(asked), Some(answered)) = numbers(exchange) {
                assert_eq!(asked, answered);
            }
            assert!(exchange.is_clean() || exchange.flaws.contains(&Flaw::Gap), "{exchange:?}");
        }
        assert!(seen.iter().filter(|exchange| !exchange.is_clean()).count() <= 2);
    }
}

#[test]
fn holes_in_both_directions_never_swap_answers() {
    let calls = calls();
    let mut seed = Numbers(0xfeed_beef_1234_5671);
    for _ in 0..2000 {
        let mut steps = Vec::new();
        for (request, response) in &calls {
            for (text, direction) in [(request, Direction::Sent), (response, Direction::Received)] {
                let mut at = 0;
                while at < text.len() {
                    let len = (1 + seed.below(200)).min(text.len() - at);
                    if seed.below(12) == 0 {
                        steps.push(Step::Gap(direction, len as u64));
                    } else {
                        steps.push(Step::Bytes(direction, text.as_bytes()[at..at + len].to_vec()));
                    }
                    at += len;
                }
            }
        }
        steps.push(finished());
        for exchange in exchanges(&steps) {
            if let (Some(asked), Some(answered)) = numbers(&exchange) {
                assert_eq!(asked, answered, "{exchange:?}");
            }
            assert!(exchange.is_clean() || !exchange.flaws.is_empty());
        }
    }
}

/// Whole connections of every protocol, as pieces.
fn fixtures() -> Vec<Vec<Step>> {
    let ws_client = include_bytes!("data/ws_pmd_client.bin");
    let ws_server = include_bytes!("data/ws_pmd_server.bin");
    let h1: Vec<Step> = calls().iter().flat_map(|(request, response)| [sent(request), received(response)]).collect();
    vec![h1, crate::http2::three_calls(), vec![sent(ws_client), received(ws_server), finished()]]
}

#[test]
fn mutated_connections_neither_panic_nor_break_the_order_of_parts() {
    let mut seed = Numbers(0x9e37_79b9_7f4a_7c15);
    for fixture in fixtures() {
        for round in 0..1500 {
            let mut steps = fixture.clone();
            for _ in 0..1 + seed.below(4) {
                mutate(&mut steps, &mut seed);
            }
            // `join` checks the contract.
            join(&play(events(round % 3 == 0, &steps)));
        }
    }
}

fn mutate(steps: &mut Vec<Step>, seed: &mut Numbers) {
    let at = seed.below(steps.len());
    match seed.below(8) {
        0 => {
            steps.remove(at);
        }
        1 => {
            let step = steps[at].clone();
            steps.insert(at, step);
        }
        2 => {
            let other = seed.below(steps.len());
            steps.swap(at, other);
        }
        3 => steps.insert(at, Step::Gap(Direction::Sent, seed.below(300) as u64 + 1)),
        4 => steps.insert(at, Step::Gap(Direction::Received, seed.below(300) as u64 + 1)),
        _ => {
            if let Step::Bytes(_, bytes) = &mut steps[at] {
                for _ in 0..1 + seed.below(4) {
                    let place = seed.below(bytes.len());
                    match (seed.below(3), bytes.get_mut(place)) {
                        (0, Some(byte)) => *byte = seed.below(256) as u8,
                        (1, Some(byte)) => *byte ^= 1 << seed.below(8),
                        (_, Some(_)) => bytes.truncate(place),
                        (_, None) => {}
                    }
                }
            }
        }
    }
    if steps.is_empty() {
        steps.push(finished());
    }
}

#[test]
fn random_bytes_neither_panic_nor_become_much() {
    let mut seed = Numbers(0x0dd_ba11_5eed_0001);
    for _ in 0..300 {
        let mut steps = Vec::new();
        for _ in 0..30 {
            let bytes: Vec<u8> = (0..seed.below(400)).map(|_| seed.below(256) as u8).collect();
            steps.push(if seed.below(2) == 0 { sent(bytes) } else { received(bytes) });
        }
        steps.push(finished());
        join(&play(events(true, &steps)));
    }
}

/// Plays endless bytes of one kind and gives the bytes of content that came out.
fn endless(prefix: &[u8], repeated: &[u8], total: usize) -> Vec<PartKind> {
    let mut stage = Stage::new(Bounds::default());
    let mut parts = Vec::new();
    stage.push(open(false), &mut parts);
    let mut offset = 0;
    let mut put = |bytes: Bytes, parts: &mut Vec<_>| {
        let len = bytes.len() as u64;
        stage.push(
            Event::Data(Data { conn: CONN, at: Nanos(offset), direction: Direction::Sent, offset, bytes }),
            parts,
        );
        offset += len;
    };
    put(Bytes::copy_from_slice(prefix), &mut parts);
    let block = Bytes::from(repeated.repeat((64 << 10) / repeated.len()));
    for _ in 0..total / block.len() {
        put(block.clone(), &mut parts);
    }
    put(Bytes::from_static(b"\r\n\r\n"), &mut parts);
    parts.into_iter().map(|part| part.kind).collect()
}

#[test]
fn an_endless_head_is_cut_at_the_bound_and_told() {
    let parts = endless(b"GET / HTTP/1.1\r\n", b"x-header: of an endless head\r\n", 8 << 20);
    let PartKind::Request(head) = &parts[0] else { panic!("{:?}", parts[0]) };
    let kept: usize = head.headers.iter().map(|header| header.name.len() + header.value.len()).sum();
    assert!(kept > 500 << 10 && kept <= 1 << 20, "{kept}");
    assert_eq!(parts[1], PartKind::Flaw(Flaw::Bound));
}

#[test]
fn endless_lines_and_chunk_lines_come_to_nothing() {
    assert!(endless(b"GET /", b"a", 4 << 20).len() <= 3);
    let parts = endless(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5;", b"extension", 1 << 20);
    assert!(parts.contains(&PartKind::Flaw(Flaw::Malformed)));
}

#[test]
fn requests_without_answers_are_bounded() {
    let parts = endless(b"", b"GET / HTTP/1.1\r\n\r\n", 64 << 10);
    let begun = parts.iter().filter(|kind| matches!(kind, PartKind::Request(_))).count();
    let given_up = parts.iter().filter(|kind| matches!(kind, PartKind::End(_))).count();
    assert!(begun > 3000 && begun - given_up <= 1024, "{begun} begun, {given_up} given up");
}

#[test]
fn a_hole_larger_than_any_number_is_survived() {
    let mut stage = Stage::new(Bounds::default());
    let mut parts = Vec::new();
    stage.push(open(false), &mut parts);
    for (offset, len) in [(0, u64::MAX), (u64::MAX - 5, 100), (5, u64::MAX - 7)] {
        let (at, direction, cause) = (Nanos(1), Direction::Sent, LossCause::RingFull);
        stage.push(Event::Lost(Lost { conn: CONN, at, direction, offset, len, cause }), &mut parts);
    }
    let bytes = Bytes::from_static(b"GET / HTTP/1.1\r\n\r\n");
    stage.push(
        Event::Data(Data { conn: CONN, at: Nanos(2), direction: Direction::Sent, offset: u64::MAX - 3, bytes }),
        &mut parts,
    );
}
