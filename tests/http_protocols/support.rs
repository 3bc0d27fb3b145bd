//! Traffic in, exchanges out: scripts of a connection, and a view of its parts that does not depend on how the bytes were
//! cut.

use std::collections::BTreeMap;

use bytes::Bytes;
use heron::conn;
use heron::event::{Close, CloseHow, ConnId, Data, Direction, Event, LossCause, Lost, Nanos, Open, Transport};
use heron::flaw::Flaw;
use heron::http::{Header, Part, PartKind, Side};

pub const CONN: ConnId = ConnId(7);

#[derive(Clone, Debug)]
pub enum Step {
    Bytes(Direction, Vec<u8>),
    Gap(Direction, u64),
    Close(Option<Direction>, CloseHow),
    /// Time passes.
    Wait(u64),
}

pub fn sent(bytes: impl AsRef<[u8]>) -> Step {
    Step::Bytes(Direction::Sent, bytes.as_ref().to_vec())
}

pub fn received(bytes: impl AsRef<[u8]>) -> Step {
    Step::Bytes(Direction::Received, bytes.as_ref().to_vec())
}

pub fn lost_sent(len: u64) -> Step {
    Step::Gap(Direction::Sent, len)
}

pub fn lost_received(len: u64) -> Step {
    Step::Gap(Direction::Received, len)
}

pub fn finished() -> Step {
    Step::Close(None, CloseHow::Finished)
}

/// What became of one exchange.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Seen {
    pub method: String,
    pub target: String,
    pub request_headers: Vec<Header>,
    pub request_wire: Vec<u8>,
    pub request_content: Vec<u8>,
    pub interim: Vec<u16>,
    pub status: Option<u16>,
    pub response_headers: Vec<Header>,
    pub response_wire: Vec<u8>,
    pub response_content: Vec<u8>,
    pub messages: Vec<(Side, bool, Vec<u8>)>,
    pub gaps: Vec<(Side, u64)>,
    pub flaws: Vec<Flaw>,
    pub request_done: bool,
    pub response_done: bool,
    pub end: Option<Option<CloseHow>>,
}

impl Seen {
    pub fn is_clean(&self) -> bool {
        self.flaws.is_empty() && self.request_done && self.response_done && self.end == Some(None)
    }

    /// `METHOD target -> status, content`, for short comparisons.
    pub fn line(&self) -> String {
        let status = self.status.map_or_else(|| "-".to_owned(), |status| status.to_string());
        format!("{} {} -> {status} {}", self.method, self.target, String::from_utf8_lossy(&self.response_content))
    }
}

pub fn lines(seen: &[Seen]) -> Vec<String> {
    seen.iter().map(Seen::line).collect()
}

/// Joins the parts by exchange. Panics where their order breaks the contract of `part.rs`.
pub fn join(parts: &[Part]) -> Vec<Seen> {
    let mut exchanges: BTreeMap<u32, Seen> = BTreeMap::new();
    for part in parts {
        let begins = matches!(part.kind, PartKind::Request(_));
        assert_eq!(begins, !exchanges.contains_key(&part.exchange.seq), "a request head begins an exchange: {part:?}");
        let seen = exchanges.entry(part.exchange.seq).or_default();
        assert!(seen.end.is_none(), "nothing follows an end: {part:?}");
        match part.kind.clone() {
            PartKind::Request(head) => {
                seen.method = head.method;
                seen.target = head.target;
                seen.request_headers = head.headers;
            }
            PartKind::RequestBody(body) => {
                assert!(!seen.request_done, "a body after its end: {part:?}");
                seen.request_wire.extend(&body.wire);
                seen.request_content.extend(&body.content);
            }
            PartKind::RequestEnd => {
                assert!(!seen.request_done);
                seen.request_done = true;
            }
            PartKind::Informational(head) => seen.interim.push(head.status),
            PartKind::Response(head) => {
                assert!(seen.status.is_none(), "one final response: {part:?}");
                seen.status = Some(head.status);
                seen.response_headers = head.headers;
            }
            PartKind::ResponseBody(body) => {
                assert!(seen.status.is_some() && !seen.response_done, "a body without its head: {part:?}");
                seen.response_wire.extend(&body.wire);
                seen.response_content.extend(&body.content);
            }
            PartKind::ResponseEnd => {
                assert!(!seen.response_done);
                seen.response_done = true;
            }
            PartKind::Message(message) => seen.messages.push((message.side, message.text, message.payload.to_vec())),
            PartKind::Gap { side, len } => seen.gaps.push((side, len)),
            PartKind::ClientLeft => assert!(!seen.response_done, "a complete response cannot be left: {part:?}"),
            PartKind::Flaw(flaw) => {
                assert!(!seen.flaws.contains(&flaw), "a flaw is told once: {part:?}");
                seen.flaws.push(flaw);
                seen.flaws.sort();
            }
            PartKind::End(how) => seen.end = Some(how),
        }
    }
    exchanges.into_values().collect()
}

pub fn open(mid_stream: bool) -> Event {
    Event::Open(Open {
        conn: CONN,
        at: Nanos(0),
        owner: None,
        endpoints: None,
        transport: Transport::Plain,
        mid_stream,
    })
}

/// Turns steps into events: a millisecond between them, offsets counted.
pub fn events(mid_stream: bool, steps: &[Step]) -> Vec<Event> {
    let mut events = vec![open(mid_stream)];
    let mut offsets = [0u64; 2];
    let mut now = 1_000_000;
    for step in steps {
        let at = Nanos(now);
        now += 1_000_000;
        match step {
            Step::Bytes(direction, bytes) => {
                let offset = &mut offsets[direction.index()];
                events.push(Event::Data(Data {
                    conn: CONN,
                    at,
                    direction: *direction,
                    offset: *offset,
                    bytes: Bytes::from(bytes.clone()),
                }));
                *offset += bytes.len() as u64;
            }
            Step::Gap(direction, len) => {
                let offset = &mut offsets[direction.index()];
                let cause = LossCause::RingFull;
                events.push(Event::Lost(Lost {
                    conn: CONN,
                    at,
                    direction: *direction,
                    offset: *offset,
                    len: *len,
                    cause,
                }));
                *offset += len;
            }
            Step::Close(direction, how) => {
                events.push(Event::Close(Close { conn: CONN, at, direction: *direction, how: *how }));
            }
            Step::Wait(nanos) => {
                now += nanos;
                events.push(Event::Tick(Nanos(now)));
            }
        }
    }
    events
}

pub fn play(events: Vec<Event>) -> Vec<Part> {
    play_within(conn::Bounds::default(), events)
}

pub fn play_within(bounds: conn::Bounds, events: Vec<Event>) -> Vec<Part> {
    let mut stage = conn::Stage::new(bounds);
    let mut parts = Vec::new();
    for event in events {
        stage.push(event, &mut parts);
    }
    parts
}

/// The exchanges of a connection met at its beginning.
pub fn exchanges(steps: &[Step]) -> Vec<Seen> {
    join(&play(events(false, steps)))
}

/// Cuts every step of bytes in two at each position in turn, and then into single bytes, and holds the result against that
/// of the whole steps.
pub fn assert_split_invariant(mid_stream: bool, steps: &[Step]) -> Vec<Seen> {
    let whole = join(&play(events(mid_stream, steps)));
    for (index, step) in steps.iter().enumerate() {
        let Step::Bytes(direction, bytes) = step else { continue };
        for at in 1..bytes.len() {
            let mut cut = steps.to_vec();
            cut[index] = Step::Bytes(*direction, bytes[..at].to_vec());
            cut.insert(index + 1, Step::Bytes(*direction, bytes[at..].to_vec()));
            assert_eq!(join(&play(events(mid_stream, &cut))), whole, "step {index} cut at {at}");
        }
    }
    let single: Vec<Step> = steps
        .iter()
        .flat_map(|step| match step {
            Step::Bytes(direction, bytes) => {
                bytes.iter().map(|&byte| Step::Bytes(*direction, vec![byte])).collect::<Vec<_>>()
            }
            other => vec![other.clone()],
        })
        .collect();
    assert_eq!(join(&play(events(mid_stream, &single))), whole, "single bytes");
    whole
}

/// The exchanges of a connection met in the middle.
pub fn exchanges_mid_stream(steps: &[Step]) -> Vec<Seen> {
    join(&play(events(true, steps)))
}

/// The exchanges of a connection under other bounds than the usual ones.
pub fn exchanges_within(bounds: heron::http::Bounds, steps: &[Step]) -> Vec<Seen> {
    let bounds = conn::Bounds { http: bounds, ..conn::Bounds::default() };
    join(&play_within(bounds, events(false, steps)))
}
