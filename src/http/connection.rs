//! One connection: which protocol it speaks, who is the client, and the hand-over between protocols.
//!
//! All of it is decided from the bytes: a request line or the HTTP/2 preface makes its sender the client, a status line
//! the server; met in the middle, HTTP/2 and WebSocket are known by the shape of their frames. Until then bytes that fit
//! nothing are passed over.

use bytes::Bytes;

use super::exchange::Exchange;
use super::h1::{H1, Switch, SwitchTo};
use super::h2::{self, H2};
use super::held::{Held, Piece};
use super::seek::{self, Begins};
use super::sink::Sink;
use super::websocket::{self, WebSocket};
use crate::event::{CloseHow, ConnId, Direction, Nanos};
use crate::flaw::Flaw;
use crate::http::{Bounds, Counters, Part, Protocol, Side};

/// After so many bytes that fit nothing, only what begins with a piece of data is recognised.
const MAX_SEARCHED: u64 = 1 << 20;

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
    Http2(Box<H2>),
    WebSocket(Box<Upgraded>),
}

/// A connection that became a WebSocket, or was met as one.
#[derive(Debug)]
struct Upgraded {
    websocket: WebSocket,
    /// Until its end was handed on.
    exchange: Option<Exchange>,
    next_seq: u32,
}

/// What is kept while the protocol is not known.
#[derive(Debug)]
struct Unknown {
    tails: [Tail; 2],
    /// Why bytes may have gone before those seen, where they may: met in the middle, or a hole.
    unseen: Option<Flaw>,
    /// How many bytes were passed over.
    passed: u64,
    /// The number of the first exchange.
    first_seq: u32,
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
        Connection::resumed(conn, mid_stream, 0)
    }

    /// A decoder of a connection that was given up and goes on, whose exchanges are numbered from `first_seq` on.
    pub fn resumed(conn: ConnId, mid_stream: bool, first_seq: u32) -> Connection {
        let unseen = mid_stream.then_some(Flaw::MidStream);
        let unknown = Unknown { tails: Default::default(), unseen, passed: 0, first_seq };
        Connection { conn, client: None, spoken: Spoken::Unknown(Box::new(unknown)) }
    }

    /// The number that the next exchange would get.
    pub fn next_seq(&self) -> u32 {
        match &self.spoken {
            Spoken::Unknown(unknown) => unknown.first_seq,
            Spoken::Http1(h1) => h1.next_seq(),
            Spoken::Http2(h2) => h2.next_seq(),
            Spoken::WebSocket(upgraded) => upgraded.next_seq,
        }
    }

    /// The HTTP/2 stream of an exchange that is not over.
    pub fn h2_stream(&self, seq: u32) -> Option<u32> {
        match &self.spoken {
            Spoken::Http2(h2) => h2.stream_of(seq),
            _ => None,
        }
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
        sink.room = sink.room.max((bytes.len() as u64).saturating_mul(sink.bounds.max_coding_ratio));
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
        sink.counters.gap_bytes = sink.counters.gap_bytes.saturating_add(len);
        match &mut self.spoken {
            Spoken::Unknown(unknown) => {
                let tail = std::mem::take(&mut unknown.tails[direction.index()]);
                sink.counters.skipped_bytes += tail.bytes.len() as u64;
                unknown.unseen.get_or_insert(Flaw::Gap);
            }
            Spoken::Http1(h1) => h1.gap(side, len, sink),
            Spoken::Http2(h2) => h2.gap(side, len, sink),
            Spoken::WebSocket(upgraded) => upgraded.gap(side, len, sink),
        }
    }

    /// Time passed without bytes.
    pub fn tick(&mut self, at: Nanos, out: &mut Output<'_>) {
        let sink = &mut self.sink(at, out);
        match &mut self.spoken {
            Spoken::Http1(h1) => {
                let switch = h1.tick(sink);
                self.switch(switch, sink);
            }
            Spoken::Http2(h2) => h2.tick(sink),
            Spoken::Unknown(_) | Spoken::WebSocket(_) => {}
        }
    }

    /// True when [`Connection::tick`] has something to do sooner or later.
    pub fn is_holding(&self) -> bool {
        match &self.spoken {
            Spoken::Http1(h1) => h1.is_holding(),
            Spoken::Http2(h2) => h2.is_holding(),
            Spoken::Unknown(_) | Spoken::WebSocket(_) => false,
        }
    }

    /// A direction (`None`: both) ended. What is under way ends with it.
    pub fn close(&mut self, direction: Option<Direction>, at: Nanos, how: CloseHow, out: &mut Output<'_>) {
        let side = direction.map(|direction| self.side(direction));
        let sink = &mut self.sink(at, out);
        match &mut self.spoken {
            Spoken::Unknown(unknown) => {
                let ended = |index: usize| direction.is_none_or(|direction| direction.index() == index);
                for (_, tail) in unknown.tails.iter_mut().enumerate().filter(|(index, _)| ended(*index)) {
                    sink.counters.skipped_bytes += std::mem::take(tail).bytes.len() as u64;
                }
            }
            Spoken::Http1(h1) => h1.close(side, how, sink),
            Spoken::Http2(h2) => h2.close(side, how, sink),
            Spoken::WebSocket(upgraded) => upgraded.close(side, how, sink),
        }
    }

    fn sink<'a>(&self, at: Nanos, out: &'a mut Output<'_>) -> Sink<'a> {
        let Output { parts, counters, bounds } = out;
        Sink { conn: self.conn, at, bounds, room: bounds.free_content_bytes, parts, counters }
    }

    fn side(&self, direction: Direction) -> Side {
        // While the client is not known, the observed end is taken for it; nothing depends on that.
        if self.client.unwrap_or(Direction::Sent) == direction { Side::Request } else { Side::Response }
    }

    fn push_known(&mut self, direction: Direction, bytes: Bytes, sink: &mut Sink<'_>) {
        self.push_side(self.side(direction), bytes, sink);
    }

    fn push_side(&mut self, side: Side, bytes: Bytes, sink: &mut Sink<'_>) {
        match &mut self.spoken {
            Spoken::Http1(h1) => {
                let switch = h1.push(side, bytes, sink);
                self.switch(switch, sink);
            }
            Spoken::Http2(h2) => {
                h2.push(side, bytes, sink);
                if h2.take_swap() {
                    self.client = self.client.map(Direction::opposite);
                }
            }
            Spoken::WebSocket(upgraded) => upgraded.push(side, bytes, sink),
            Spoken::Unknown(_) => sink.counters.skipped_bytes += bytes.len() as u64,
        }
    }

    fn switch(&mut self, switch: Option<Switch>, sink: &mut Sink<'_>) {
        let Some(switch) = switch else { return };
        self.spoken = match switch.to {
            SwitchTo::WebSocket => {
                let websocket = WebSocket::new(&switch.headers);
                Spoken::WebSocket(Box::new(Upgraded {
                    websocket,
                    exchange: Some(switch.exchange),
                    next_seq: switch.next_seq,
                }))
            }
            SwitchTo::Http2 => Spoken::Http2(Box::new(H2::after_upgrade(switch.exchange, switch.next_seq, sink))),
        };
        let now = sink.at;
        self.push_held(Side::Request, switch.requests, sink);
        self.push_held(Side::Response, switch.responses, sink);
        sink.at = now;
    }

    fn push_held(&mut self, side: Side, held: Held, sink: &mut Sink<'_>) {
        for (at, piece) in held.pieces {
            sink.at = at;
            match (piece, &mut self.spoken) {
                (Piece::Bytes(bytes), _) if bytes.is_empty() => {}
                (Piece::Bytes(bytes), _) => self.push_side(side, bytes, sink),
                (Piece::Gap(len), Spoken::Http2(h2)) => h2.gap(side, len, sink),
                (Piece::Gap(len), Spoken::WebSocket(upgraded)) => upgraded.gap(side, len, sink),
                (Piece::Gap(_), _) => {}
            }
        }
    }

    fn push_unknown(&mut self, direction: Direction, bytes: Bytes, sink: &mut Sink<'_>) {
        let Spoken::Unknown(unknown) = &mut self.spoken else { return };
        let tail = std::mem::take(&mut unknown.tails[direction.index()]);
        let joined = if tail.bytes.is_empty() { bytes.clone() } else { [&tail.bytes[..], &bytes[..]].concat().into() };
        match unknown.recognise(&joined, &bytes, sink.bounds) {
            Recognised::Protocol { at, side, protocol } => {
                let side = side.unwrap_or(if direction == Direction::Sent { Side::Request } else { Side::Response });
                let client = if side == Side::Request { direction } else { direction.opposite() };
                if at > 0 {
                    unknown.unseen.get_or_insert(Flaw::MidStream);
                }
                let other = std::mem::take(&mut unknown.tails[direction.opposite().index()]);
                sink.counters.skipped_bytes += at as u64;
                self.client = Some(client);
                self.spoken = unknown.become_known(protocol, side, sink);
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
                if !begins {
                    unknown.unseen.get_or_insert(Flaw::MidStream);
                }
                unknown.passed += passed as u64;
                sink.counters.skipped_bytes += passed as u64;
                unknown.tails[direction.index()] = Tail { bytes: joined.slice(passed..), at: sink.at };
            }
        }
    }
}

impl Upgraded {
    fn push(&mut self, side: Side, bytes: Bytes, sink: &mut Sink<'_>) {
        let Some(exchange) = &mut self.exchange else {
            sink.counters.skipped_bytes += bytes.len() as u64;
            return;
        };
        self.websocket.push(side, bytes, exchange, sink);
        if self.websocket.is_closed()
            && let Some(exchange) = self.exchange.take()
        {
            exchange.end_messages(None, sink);
        }
    }

    fn gap(&mut self, side: Side, len: u64, sink: &mut Sink<'_>) {
        if let Some(exchange) = &mut self.exchange {
            self.websocket.gap(side, len, exchange, sink);
        }
    }

    fn close(&mut self, side: Option<Side>, how: CloseHow, sink: &mut Sink<'_>) {
        if side.is_some() {
            let left = self.exchange.as_ref().filter(|_| side == Some(Side::Request) && !self.websocket.is_closing());
            return left.into_iter().for_each(|exchange| exchange.client_left(sink));
        }
        if let Some(exchange) = self.exchange.take() {
            exchange.end_messages((!self.websocket.is_closing()).then_some(how), sink);
        }
    }
}

enum Recognised {
    /// It begins at `at`, sent by `side` where that can be told.
    Protocol { at: usize, side: Option<Side>, protocol: Protocol },
    /// Nothing yet; so many bytes at the end may still become something, and `begins` says that they begin there.
    Nothing { keep: usize, begins: bool },
}

impl Unknown {
    fn become_known(&self, protocol: Protocol, found: Side, sink: &mut Sink<'_>) -> Spoken {
        let first_seq = self.first_seq;
        match (protocol, self.unseen) {
            (Protocol::Http1, unseen) => Spoken::Http1(Box::new(H1::new(unseen, first_seq))),
            (Protocol::Http2, None) => Spoken::Http2(Box::new(H2::new(first_seq))),
            (Protocol::Http2, Some(unseen)) => Spoken::Http2(Box::new(H2::met_in_the_middle(unseen, found, first_seq))),
            (Protocol::WebSocket, unseen) => {
                let mut exchange = Exchange::begin_without_request(first_seq, Protocol::WebSocket, sink.at, sink);
                exchange.flaw(unseen.unwrap_or(Flaw::MidStream), sink);
                let websocket = WebSocket::met_in_the_middle();
                Spoken::WebSocket(Box::new(Upgraded {
                    websocket,
                    exchange: Some(exchange),
                    next_seq: first_seq.wrapping_add(1),
                }))
            }
        }
    }

    /// What `joined` (kept bytes and the new ones, `piece`) is.
    fn recognise(&self, joined: &[u8], piece: &[u8], bounds: &Bounds) -> Recognised {
        let mut undecided = false;
        for side in [Side::Request, Side::Response] {
            match seek::begins(side, joined) {
                Begins::Yes => return Recognised::Protocol { at: 0, side: Some(side), protocol: Protocol::Http1 },
                Begins::Maybe => undecided = true,
                Begins::No => {}
            }
        }
        match h2::recognise(joined, self.unseen.is_none(), self.passed < MAX_SEARCHED) {
            h2::Recognised::Frames { at, side } => {
                return Recognised::Protocol { at, side, protocol: Protocol::Http2 };
            }
            h2::Recognised::Maybe => undecided = true,
            h2::Recognised::No => {}
        }
        if undecided && joined.len() <= bounds.max_head_bytes {
            return Recognised::Nothing { keep: joined.len(), begins: true };
        }
        if self.passed < MAX_SEARCHED
            && let Some((at, side)) = seek::find(joined, None)
        {
            return Recognised::Protocol { at, side: Some(side), protocol: Protocol::Http1 };
        }
        if self.unseen.is_some() {
            // Frames begin with a piece of data: senders write them whole.
            let at = joined.len() - piece.len();
            for (masked, side) in [(true, Side::Request), (false, Side::Response)] {
                if websocket::plausible(piece, masked) {
                    return Recognised::Protocol { at, side: Some(side), protocol: Protocol::WebSocket };
                }
            }
        }
        let keep = if self.passed < MAX_SEARCHED { seek::TAIL_BYTES } else { 0 };
        Recognised::Nothing { keep: joined.len().min(keep), begins: false }
    }
}
