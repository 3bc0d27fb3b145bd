//! What the fuzz targets share: the pure rooms of heron, compiled alone (no database, no BPF, so that a target builds in
//! seconds), and a driver that makes events of a fuzzer's bytes and checks what every input must keep.

#[path = "../../src/conn/mod.rs"]
pub mod conn;
#[path = "../../src/event.rs"]
pub mod event;
#[path = "../../src/flaw.rs"]
pub mod flaw;
#[path = "../../src/http/mod.rs"]
pub mod http;
#[path = "../../src/wire/mod.rs"]
pub mod wire;

use std::collections::HashMap;

use bytes::Bytes;
use event::{Close, CloseHow, ConnId, Data, Direction, Event, LossCause, Lost, Nanos, Open, Transport};
use http::{Part, PartKind};

const CONN: ConnId = ConnId(1);

/// One connection under way.
pub struct Driver {
    stage: conn::Stage,
    now: u64,
    offsets: [u64; 2],
    parts: Vec<Part>,
    open: HashMap<u32, Progress>,
}

#[derive(Default)]
struct Progress {
    request_done: bool,
    responded: bool,
    response_done: bool,
    ended: bool,
}

impl Driver {
    /// A connection seen from its beginning or met in the middle.
    pub fn new(mid_stream: bool) -> Driver {
        let mut driver = Driver {
            stage: conn::Stage::new(conn::Bounds::default()),
            now: 0,
            offsets: [0; 2],
            parts: Vec::new(),
            open: HashMap::new(),
        };
        let transport = Transport::Plain;
        driver.push(Event::Open(Open {
            conn: CONN,
            at: Nanos(0),
            owner: None,
            endpoints: None,
            transport,
            mid_stream,
        }));
        driver
    }

    /// Bytes of one direction.
    pub fn bytes(&mut self, direction: Direction, bytes: &[u8]) {
        let offset = self.offsets[direction.index()];
        self.offsets[direction.index()] += bytes.len() as u64;
        let data = Data { conn: CONN, at: self.tick(), direction, offset, bytes: Bytes::copy_from_slice(bytes) };
        self.push(Event::Data(data));
    }

    /// Runs a script: each step is a byte that says what, one that says how much, and the bytes.
    pub fn script(&mut self, mut script: &[u8]) {
        while let [what, size, rest @ ..] = script {
            let direction = if what & 1 == 0 { Direction::Sent } else { Direction::Received };
            let size = usize::from(*size);
            script = rest;
            match what >> 1 & 15 {
                0..=9 => {
                    let (bytes, rest) = script.split_at(size.min(script.len()));
                    script = rest;
                    self.bytes(direction, bytes);
                }
                10..=11 => {
                    let (bytes, rest) = script.split_at((size * 64).min(script.len()));
                    script = rest;
                    self.bytes(direction, bytes);
                }
                12 => {
                    let (at, offset) = (self.tick(), self.offsets[direction.index()]);
                    self.offsets[direction.index()] += size as u64;
                    let (len, cause) = (size as u64, LossCause::RingFull);
                    self.push(Event::Lost(Lost { conn: CONN, at, direction, offset, len, cause }));
                }
                13 => {
                    // What comes next comes late, or twice.
                    let offset = &mut self.offsets[direction.index()];
                    *offset = if size < 128 { *offset + size as u64 } else { offset.saturating_sub(size as u64 - 128) };
                }
                14 => {
                    self.now += size as u64 * 10_000_000;
                    let at = self.tick();
                    self.push(Event::Tick(at));
                }
                _ => {
                    let at = self.tick();
                    let how = if size < 128 { CloseHow::Finished } else { CloseHow::Reset };
                    self.push(Event::Close(Close { conn: CONN, at, direction: Some(direction), how }));
                }
            }
        }
    }

    /// Ends the connection; every exchange must have ended with it.
    pub fn finish(mut self) {
        let at = self.tick();
        self.push(Event::Close(Close { conn: CONN, at, direction: None, how: CloseHow::SourceEnd }));
        assert!(self.open.values().all(|exchange| exchange.ended), "an exchange outlives its connection");
    }

    fn tick(&mut self) -> Nanos {
        self.now += 1_000_000;
        Nanos(self.now)
    }

    fn push(&mut self, event: Event) {
        self.stage.push(event, &mut self.parts);
        for part in self.parts.drain(..) {
            check(&mut self.open, &part);
        }
    }
}

/// The contract of `http::Part`.
fn check(open: &mut HashMap<u32, Progress>, part: &Part) {
    let begins = matches!(part.kind, PartKind::Request(_));
    assert_eq!(begins, !open.contains_key(&part.exchange.seq), "{part:?}");
    let exchange = open.entry(part.exchange.seq).or_default();
    assert!(!exchange.ended, "{part:?}");
    match &part.kind {
        PartKind::RequestBody(_) => assert!(!exchange.request_done),
        PartKind::RequestEnd => assert!(!std::mem::replace(&mut exchange.request_done, true)),
        PartKind::Informational(_) => assert!(!exchange.responded),
        PartKind::Response(_) => assert!(!std::mem::replace(&mut exchange.responded, true)),
        PartKind::ResponseBody(_) => assert!(exchange.responded && !exchange.response_done),
        PartKind::ResponseEnd => assert!(!std::mem::replace(&mut exchange.response_done, true)),
        PartKind::End(_) => exchange.ended = true,
        PartKind::Request(_)
        | PartKind::Message(_)
        | PartKind::Gap { .. }
        | PartKind::ClientLeft
        | PartKind::Flaw(_) => {}
    }
}
