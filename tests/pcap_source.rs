//! Capture files through the public source: every format, every encapsulation, and what goes wrong with captures.

#[path = "../testdata/generate/packets.rs"]
mod packets;

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use heron::capture::pcap::{FileSource, Options};
use heron::capture::{Source, StopFlag};
use heron::event::{CloseHow, ConnId, Direction, Event, LossCause};
use packets::*;

const CLIENT: &str = "10.0.0.2:50000";
const SERVER: &str = "10.0.0.9:8080";
const CLIENT6: &str = "[fd00::2]:50000";
const SERVER6: &str = "[fd00::9]:8080";
const START: u64 = 1_700_000_000_000_000_000;

/// What one direction gave.
#[derive(Default, Debug, Clone, PartialEq)]
struct Got {
    bytes: Vec<u8>,
    lost: Vec<(u64, u64, LossCause)>,
    next: u64,
    closed: Option<CloseHow>,
}

/// What a capture gave, by connection.
#[derive(Default, Debug)]
struct Seen {
    streams: BTreeMap<(ConnId, usize), Got>,
    events: Vec<Event>,
    counters: BTreeMap<&'static str, u64>,
    warnings: Vec<String>,
}

impl Seen {
    fn conns(&self) -> usize {
        self.events.iter().filter(|event| matches!(event, Event::Open(_))).count()
    }

    fn stream(&self, conn: u64, direction: Direction) -> Got {
        self.streams.get(&(ConnId(conn), direction.index())).cloned().unwrap_or_default()
    }
}

fn run(options: Options) -> Seen {
    let source = Box::new(FileSource::open(options).unwrap());
    let status = source.status();
    let mut seen = Seen::default();
    let mut out = |batch: Vec<Event>| {
        assert!(!batch.is_empty());
        seen.events.extend(batch);
        ControlFlow::Continue(())
    };
    source.run(&mut out, &StopFlag::new()).unwrap();
    let mut opened = std::collections::HashSet::new();
    for event in &seen.events {
        match event {
            Event::Open(open) => assert!(opened.insert(open.conn), "opened twice"),
            Event::Data(data) => {
                assert!(opened.contains(&data.conn));
                let got = seen.streams.entry((data.conn, data.direction.index())).or_default();
                assert_eq!(data.offset, got.next, "offsets are continuous");
                got.next += data.bytes.len() as u64;
                got.bytes.extend_from_slice(&data.bytes);
            }
            Event::Lost(lost) => {
                let got = seen.streams.entry((lost.conn, lost.direction.index())).or_default();
                assert_eq!(lost.offset, got.next);
                assert!(lost.len > 0);
                got.next += lost.len;
                got.lost.push((lost.offset, lost.len, lost.cause));
            }
            Event::Close(close) => {
                for index in 0..2 {
                    if close.direction.is_none_or(|direction| direction.index() == index) {
                        seen.streams.entry((close.conn, index)).or_default().closed.get_or_insert(close.how);
                    }
                }
            }
            _ => {}
        }
    }
    seen.counters = status.counters();
    seen.warnings = status.warnings();
    seen
}

fn run_bytes(bytes: &[u8]) -> Seen {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("capture");
    std::fs::write(&path, bytes).unwrap();
    run(Options { files: vec![path], ..Options::default() })
}

fn run_packets(packets: &[Packet]) -> Seen {
    run_bytes(&Pcap::PLAIN.file(1, &frames(packets, Wrap::Ethernet)))
}

fn body(len: usize, seed: u64) -> Vec<u8> {
    let mut rng = Rng::new(seed);
    (0..len).map(|_| b'a' + rng.below(26) as u8).collect()
}

fn request() -> Vec<u8> {
    let body = body(9000, 1);
    [format!("POST /v1/messages HTTP/1.1\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes(), &body].concat()
}

fn response() -> Vec<u8> {
    let body = body(30_000, 2);
    [format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes(), &body].concat()
}

fn exchange(client: &str, server: &str) -> Conversation {
    let mut talk = Conversation::new(client, server, START);
    talk.open().send(0, &request()).wait(1_000_000).send(1, &response()).close();
    talk
}

/// Both directions are there, once, whole.
fn assert_whole(seen: &Seen, what: &str) {
    assert_eq!(seen.conns(), 1, "{what}");
    let (sent, received) = (seen.stream(1, Direction::Sent), seen.stream(1, Direction::Received));
    assert!(sent.bytes == request() && received.bytes == response(), "{what}: {:?}", seen.counters);
    assert!(sent.lost.is_empty() && received.lost.is_empty(), "{what}");
    assert_eq!((sent.closed, received.closed), (Some(CloseHow::Finished), Some(CloseHow::Finished)), "{what}");
    let first_answer =
        seen.events.iter().position(|e| matches!(e, Event::Data(d) if d.direction == Direction::Received));
    let last_question = seen.events.iter().rposition(|e| matches!(e, Event::Data(d) if d.direction == Direction::Sent));
    assert!(last_question < first_answer, "{what}: the answer overtook the question");
}

#[test]
fn every_encapsulation_gives_the_same_streams() {
    for (client, server) in [(CLIENT, SERVER), (CLIENT6, SERVER6)] {
        for wrap in Wrap::ALL {
            let packets = exchange(client, server).packets;
            let file = Pcap::PLAIN.file(wrap.link(client.starts_with('[')), &frames(&packets, wrap));
            assert_whole(&run_bytes(&file), &format!("{wrap:?} {client}"));
        }
    }
}

#[test]
fn every_variant_of_pcap_is_read() {
    let frames = frames(&exchange(CLIENT, SERVER).packets, Wrap::Ethernet);
    for big in [false, true] {
        for (nanos, modified) in [(false, false), (true, false), (false, true)] {
            let seen = run_bytes(&Pcap { big, nanos, modified }.file(1, &frames));
            assert_whole(&seen, &format!("{big} {nanos} {modified}"));
            let unit = if nanos { 1 } else { 1000 };
            let Event::Open(open) = &seen.events[0] else { panic!("{:?}", seen.events[0]) };
            assert_eq!(open.at.0, frames[0].at / unit * unit);
        }
    }
}
