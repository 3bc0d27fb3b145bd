//! One connection: which protocol it speaks, who is the client, and the hand-over between protocols.
//!
//! All of it is decided from the bytes: a request line or the HTTP/2 preface makes its sender the client, a status line
//! the server. Until then bytes that fit nothing are passed over.

use bytes::Bytes;

use super::exchange::Exchange;
use super::h1::{H1, Switch};
use super::seek::{self, Begins};
use super::sink::Sink;
use crate::event::{CloseHow, ConnId, Direction, Nanos};
use crate::http::{Bounds, Counters, Part, Side};

/// A connection's decoder. It has no clock and does no I/O: bytes, holes and ends of each direction are pushed in the
/// order of the stream, and the parts they complete come out.
#[derive(Debug)]
pub struct Connection {
    conn: ConnId,
    client: Option<Direction>,
    spoken: Spoken,
}

#[derive(Debug)]
enum Spoken {
    Unknown(Box<Unknown>),
    Http1(Box<H1>),
    /// Nothing that can be read; the exchange that led here, if any, ends with the connection.
    Opaque(Option<Box<Exchange>>),
}

/// What is kept while the protocol is not known.
#[derive(Debug)]
struct Unknown {
    tails: [Tail; 2],
    /// Bytes were passed over, or may have gone before.
    mid_stream: bool,
}

#[derive(Debug, Default)]
struct Tail {
    bytes: Bytes,
    at: Nanos,
}

/// Where parts and counts go, and the bounds that hold.
pub struct Output<'a> {
    /// What was found is added here.
    pub parts: &'a mut Vec<Part>,
    /// What was counted is added here.
    pub counters: &'a mut Counters,
    /// The bounds.
    pub bounds: &'a Bounds,
}

impl Connection {
    /// A decoder of connection `conn`. `mid_stream` says that bytes may have gone before.
    pub fn new(conn: ConnId, mid_stream: bool) -> Connection {
        let unknown = Unknown { tails: Default::default(), mid_stream };
        Connection { conn, client: None, spoken: Spoken::Unknown(Box::new(unknown)) }
    }

    /// The direction that carries requests, once it is known.
    pub fn client(&self) -> Option<Direction> {
        self.client
    }

    /// Takes the next bytes of one direction.
    pub fn push(&mut self, direction: Direction, at: Nanos, bytes: Bytes, out: &mut Output<'_>) {
        if bytes.is_empty() {
            return;
        }
        let sink = &mut self.sink(at, out);
        match &mut self.spoken {
            Spoken::Unknown(_) => self.push_unknown(direction, bytes, sink),
            _ => self.push_known(direction, bytes, sink),
        }
    }

    /// `len` bytes of one direction are missing here.
    pub fn gap(&mut self, direction: Direction, at: Nanos, len: u64, out: &mut Output<'_>) {
        let side = self.side(direction);
        let sink = &mut self.sink(at, out);
        sink.counters.gaps += 1;
        sink.counters.gap_bytes += len;
        match &mut self.spoken {
            Spoken::Unknown(unknown) => {
                let tail = std::mem::take(&mut unknown.tails[direction.index()]);
                sink.counters.skipped_bytes += tail.bytes.len() as u64;
                unknown.mid_stream = true;
            }
            Spoken::Http1(h1) => h1.gap(side, len, sink),
            Spoken::Opaque(_) => {}
        }
    }

    /// Time passed without bytes.
    pub fn tick(&mut self, at: Nanos, out: &mut Output<'_>) {
        let sink = &mut self.sink(at, out);
        if let Spoken::Http1(h1) = &mut self.spoken {
            let switch = h1.tick(sink);
            self.switch(switch, sink);
        }
    }

    /// True when [`Connection::tick`] has something to do sooner or later.
    pub fn is_holding(&self) -> bool {
        matches!(&self.spoken, Spoken::Http1(h1) if h1.is_holding())
    }

    /// A direction (`None`: both) ended. What is under way ends with it.
    pub fn close(&mut self, direction: Option<Direction>, at: Nanos, how: CloseHow, out: &mut Output<'_>) {
        let side = direction.map(|direction| self.side(direction));
        let sink = &mut self.sink(at, out);
        match &mut self.spoken {
            Spoken::Unknown(unknown) => {
                for tail in &mut unknown.tails {
                    sink.counters.skipped_bytes += std::mem::take(tail).bytes.len() as u64;
                }
            }
            Spoken::Http1(h1) => h1.close(side, how, sink),
            Spoken::Opaque(exchange) => {
                if let Some(exchange) = exchange.take_if(|_| side != Some(Side::Request)) {
                    exchange.end_messages(Some(how), sink);
                }
            }
        }
    }

    fn sink<'a>(&self, at: Nanos, out: &'a mut Output<'_>) -> Sink<'a> {
        Sink { conn: self.conn, at, bounds: out.bounds, parts: out.parts, counters: out.counters }
    }

    fn side(&self, direction: Direction) -> Side {
        // While the client is not known, the observed end is taken for it; nothing depends on that.
        if self.client.unwrap_or(Direction::Sent) == direction { Side::Request } else { Side::Response }
    }

    fn push_known(&mut self, direction: Direction, bytes: Bytes, sink: &mut Sink<'_>) {
        let side = self.side(direction);
        match &mut self.spoken {
            Spoken::Http1(h1) => {
                let switch = h1.push(side, bytes, sink);
                self.switch(switch, sink);
            }
            Spoken::Opaque(_) | Spoken::Unknown(_) => sink.counters.skipped_bytes += bytes.len() as u64,
        }
    }

    fn switch(&mut self, switch: Option<Switch>, _sink: &mut Sink<'_>) {
        let Some(switch) = switch else { return };
        self.spoken = Spoken::Opaque(Some(Box::new(switch.exchange)));
    }

    fn push_unknown(&mut self, direction: Direction, bytes: Bytes, sink: &mut Sink<'_>) {
        let Spoken::Unknown(unknown) = &mut self.spoken else { return };
        let tail = std::mem::take(&mut unknown.tails[direction.index()]);
        let joined = if tail.bytes.is_empty() { bytes.clone() } else { [&tail.bytes[..], &bytes[..]].concat().into() };
        match recognise(&joined, sink.bounds) {
            Recognised::Message { at, side } => {
                let client = if side == Side::Request { direction } else { direction.opposite() };
                let mid_stream = unknown.mid_stream || at > 0;
                let other = std::mem::take(&mut unknown.tails[direction.opposite().index()]);
                sink.counters.skipped_bytes += at as u64;
                self.client = Some(client);
                self.spoken = Spoken::Http1(Box::new(H1::new(mid_stream)));
                let new_at = sink.at;
                let old = tail.bytes.slice(at.min(tail.bytes.len())..);
                let new = bytes.slice(at.saturating_sub(tail.bytes.len())..);
                // What the client sent goes first: the other direction is an answer to it.
                let mut pieces = vec![(direction, tail.at, old), (direction, new_at, new)];
                let place = if side == Side::Request { 2 } else { 0 };
                pieces.insert(place, (direction.opposite(), other.at, other.bytes));
                for (direction, at, bytes) in pieces {
                    if !bytes.is_empty() {
                        sink.at = at;
                        self.push_known(direction, bytes, sink);
                    }
                }
                sink.at = new_at;
            }
            Recognised::Nothing { keep, begins } => {
                let passed = joined.len().saturating_sub(keep);
                unknown.mid_stream |= !begins;
                sink.counters.skipped_bytes += passed as u64;
                unknown.tails[direction.index()] = Tail { bytes: joined.slice(passed..), at: sink.at };
            }
        }
    }
}

enum Recognised {
    /// A message begins here.
    Message { at: usize, side: Side },
    /// Nothing yet; so many bytes at the end may still become something, and `begins` says that they begin there.
    Nothing { keep: usize, begins: bool },
}

fn recognise(bytes: &[u8], bounds: &Bounds) -> Recognised {
    let mut undecided = false;
    for side in [Side::Request, Side::Response] {
        match seek::begins(side, bytes) {
            Begins::Yes => return Recognised::Message { at: 0, side },
            Begins::Maybe => undecided = true,
            Begins::No => {}
        }
    }
    if undecided && bytes.len() <= bounds.max_head_bytes {
        return Recognised::Nothing { keep: bytes.len(), begins: true };
    }
    match seek::find(bytes, None) {
        Some((at, side)) => Recognised::Message { at, side },
        None => Recognised::Nothing { keep: bytes.len().min(seek::TAIL_BYTES), begins: false },
    }
}
