//! The kernel side against real TLS traffic. Needs root and BTF; says so loudly when it is skipped.
#![allow(clippy::unwrap_used)]

mod support;

use heron::capture::ebpf::Config;
use heron::event::{Direction, Event};
use support::{Server, can_trace, trace_client};

#[test]
fn one_write_of_two_megabytes_arrives_whole() {
    if !can_trace("one_write_of_two_megabytes_arrives_whole") {
        return;
    }
    let server = Server::start(&[]);
    let outcome = trace_client(&server, &["post:/v1/messages?size=300000:2000000"], Config::default());
    let sent = outcome.bytes(Direction::Sent);
    let head = b"POST /v1/messages?size=300000 HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2000000\r\n\r\n";
    assert!(sent.starts_with(head), "{:?} {:#?}", outcome.counters, outcome.targets);
    assert_eq!(sent.len(), head.len() + 2_000_000);
    assert!(sent[head.len()..].iter().all(|byte| *byte == b'B'));
    let received = outcome.bytes(Direction::Received);
    assert!(received.starts_with(b"HTTP/1.1 200 OK\r\n"));
    assert!(received.ends_with(&[b'R'; 300_000]));
    outcome.assert_nothing_lost();
    assert_eq!(outcome.count("passed_bytes"), (sent.len() + received.len()) as u64);
    let open: Vec<_> = outcome.events.iter().filter(|event| matches!(event, Event::Open(_))).collect();
    assert_eq!(open.len(), 1);
}
