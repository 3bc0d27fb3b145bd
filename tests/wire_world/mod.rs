//! What the tests of the wire stage share: events through `conn` and `wire` to calls.

#![allow(dead_code)]

use bytes::Bytes;
use heron::conn;
use heron::event::{
    Close, CloseHow, Confidence, ConnId, Data, Direction, Endpoint, Endpoints, Event, Nanos, Open, Transport,
};
use heron::http::Part;
use heron::wire::{self, Call, CallUpdate, Origin};

pub const START: u64 = 1_795_000_000_000_000_000;

/// The two stages in a row.
pub struct Pipe {
    conn: conn::Stage,
    wire: wire::Stage,
    parts: Vec<Part>,
    pub updates: Vec<CallUpdate>,
}

pub fn origin(info: &conn::ConnInfo) -> Origin {
    let ends = info.open.endpoints.as_ref();
    let (local, remote) = (ends.and_then(|ends| ends.local.clone()), ends.and_then(|ends| ends.remote.clone()));
    let (client, server) = if info.client == Some(Direction::Received) { (remote, local) } else { (local, remote) };
    Origin {
        process: info.open.owner,
        client,
        server,
        transport: Some(info.open.transport.clone()),
        opened: info.open.at,
    }
}

impl Pipe {
    pub fn new(bounds: wire::Bounds) -> Pipe {
        Pipe {
            conn: conn::Stage::new(conn::Bounds::default()),
            wire: wire::Stage::new(bounds),
            parts: Vec::new(),
            updates: Vec::new(),
        }
    }

    pub fn push(&mut self, event: Event) {
        self.conn.push(event, &mut self.parts);
        for part in self.parts.drain(..) {
            let id = part.exchange.conn;
            let conn = &self.conn;
            self.wire.push(part, &|| conn.info(id).map(origin), &mut self.updates);
        }
    }

    pub fn counters(&self) -> wire::Counters {
        self.wire.counters()
    }

    pub fn open_exchanges(&self) -> usize {
        self.wire.open_exchanges()
    }

    pub fn done(&self) -> Vec<&Call> {
        self.updates
            .iter()
            .filter_map(|update| match update {
                CallUpdate::Done(call) => Some(&**call),
                CallUpdate::Progress(_) => None,
            })
            .collect()
    }
}

/// One scripted connection: who sends what, in order.
pub struct Talk {
    pub pieces: Vec<(Direction, Vec<u8>)>,
}

pub fn open(conn: u64) -> Event {
    let endpoint = |text: &str| Some(Endpoint::Inet(text.parse().unwrap()));
    Event::Open(Open {
        conn: ConnId(conn),
        at: Nanos(START),
        owner: None,
        endpoints: Some(Endpoints {
            local: endpoint("10.0.0.1:40000"),
            remote: endpoint("10.0.0.2:443"),
            confidence: Confidence::Certain,
        }),
        transport: Transport::Plain,
        mid_stream: false,
    })
}

pub fn close(conn: u64, at: u64, how: CloseHow) -> Event {
    Event::Close(Close { conn: ConnId(conn), at: Nanos(at), direction: None, how })
}

impl Talk {
    /// Plays the talk with each piece cut as `cut` says: `cut` gets a piece's index and length and gives its cuts.
    pub fn play(&self, pipe: &mut Pipe, how: CloseHow, cut: impl Fn(usize, usize) -> Vec<usize>) {
        let at = self.play_open(pipe, cut);
        pipe.push(close(1, at + 1_000_000, how));
    }

    /// The same, with the connection left open; gives the time of its last byte.
    pub fn play_open(&self, pipe: &mut Pipe, cut: impl Fn(usize, usize) -> Vec<usize>) -> u64 {
        let mut offsets = [0_u64; 2];
        let mut at = START;
        pipe.push(open(1));
        for (index, (direction, bytes)) in self.pieces.iter().enumerate() {
            let mut cuts = cut(index, bytes.len());
            cuts.retain(|cut| *cut > 0 && *cut < bytes.len());
            cuts.push(bytes.len());
            let mut from = 0;
            for to in cuts {
                at += 1_000_000;
                let piece = Bytes::copy_from_slice(&bytes[from..to]);
                let offset = &mut offsets[direction.index()];
                let data =
                    Data { conn: ConnId(1), at: Nanos(at), direction: *direction, offset: *offset, bytes: piece };
                *offset += (to - from) as u64;
                from = to;
                pipe.push(Event::Data(data));
            }
        }
        at
    }
}

/// A chunked HTTP/1.1 body in chunks of `size`.
pub fn chunked(body: &[u8], size: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for chunk in body.chunks(size.max(1)) {
        out.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        out.extend_from_slice(chunk);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"0\r\n\r\n");
    out
}
