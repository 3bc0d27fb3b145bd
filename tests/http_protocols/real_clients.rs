//! What real HTTP/2 clients and a real server said, as a proxy between them saw it: Node 20 (`http2`, nghttp2 inside) and
//! Python (`httpx`, hyper-h2 inside) against Node's server. A piece is one byte of direction, four of length, the bytes.

use heron::event::Direction;
use heron::http::header;

use crate::support::*;

fn pieces(mut recorded: &[u8]) -> Vec<Step> {
    let mut steps = Vec::new();
    while let [direction, a, b, c, d, rest @ ..] = recorded {
        let (bytes, rest) = rest.split_at(u32::from_be_bytes([*a, *b, *c, *d]) as usize);
        steps.push(if *direction == 0 { sent(bytes) } else { received(bytes) });
        recorded = rest;
    }
    steps.push(finished());
    steps
}

fn recordings() -> [(&'static str, Vec<Step>); 2] {
    [("node", pieces(include_bytes!("data/h2_node.bin"))), ("httpx", pieces(include_bytes!("data/h2_httpx.bin")))]
}

/// The answer repeats the request's number.
fn is_answered(exchange: &Seen, n: &str) -> bool {
    let text = String::from_utf8_lossy(&exchange.response_content);
    text.contains(&format!("\"n\":\"{n}\"")) && (text.contains("\"echo\"") || text.contains("\"len\":"))
}

#[test]
fn every_call_of_real_clients_is_read() {
    for (name, steps) in recordings() {
        let seen = exchanges(&steps);
        assert_eq!(seen.len(), 8, "{name}");
        for (n, exchange) in seen.iter().enumerate() {
            assert!(exchange.is_clean(), "{name}: {exchange:?}");
            let number = n.to_string();
            assert_eq!(header(&exchange.request_headers, "x-n"), Some(number.as_str()));
            assert_eq!(header(&exchange.request_headers, "x-api-key"), Some("dummy"));
            assert_eq!((exchange.method.as_str(), exchange.status), ("POST", Some(200)));
            assert!(is_answered(exchange, &number), "{name}: {exchange:?}");
            assert!(String::from_utf8_lossy(&exchange.request_content).starts_with("{\"n\":"));
        }
        let gzip = &seen[2];
        assert_eq!(gzip.target, "/gz");
        assert_ne!(gzip.response_wire, gzip.response_content);
    }
}

#[test]
fn met_at_any_piece_the_calls_that_begin_later_are_read() {
    for (name, steps) in recordings() {
        for from in 1..steps.len() - 1 {
            let late = exchanges_mid_stream(&steps[from..]);
            // Requests come in pieces of their own; those whose first piece was seen are read whole.
            let begun = steps[from..]
                .iter()
                .filter(|step| matches!(step, Step::Bytes(Direction::Sent, bytes) if begins_with_headers(bytes)))
                .count();
            let read = late.iter().filter(|exchange| exchange.response_done && exchange.method == "POST").count();
            assert!(read >= begun, "{name} from piece {from}: {read} of {begun}: {late:#?}");
        }
    }
}

fn begins_with_headers(bytes: &[u8]) -> bool {
    bytes.len() > 9 && bytes[3] == 1 && bytes[0] == 0
}

#[test]
fn single_bytes_give_the_same_calls() {
    for (name, steps) in recordings() {
        let whole = exchanges(&steps);
        let single: Vec<Step> = steps
            .iter()
            .flat_map(|step| match step {
                Step::Bytes(direction, bytes) => {
                    bytes.iter().map(|&byte| Step::Bytes(*direction, vec![byte])).collect::<Vec<_>>()
                }
                other => vec![other.clone()],
            })
            .collect();
        assert_eq!(exchanges(&single), whole, "{name}");
    }
}
