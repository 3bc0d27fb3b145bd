//! Events in, parts of exchanges out: per connection the order of bytes, their holes and ends, and who owns it.
//!
//! Must not know packets, TLS, processes or what HTTP means; the bytes go to one [`http::Connection`] each. It holds no
//! state across connections, so that workers can share them out by connection.
//!
//! Surprising fact: data that comes ahead of its place waits a moment for what is missing, because sources with several
//! queues swap neighbours; only then it is a hole.

mod order;

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::mem;

use crate::event::{Close, CloseHow, ConnId, Direction, Event, IdMap, Nanos, Open, Transport};
use crate::http::{self, Part};

use order::{Front, Order, Piece};

/// What a connection is, for those who get its parts.
#[derive(Clone, PartialEq, Debug)]
pub struct ConnInfo {
    /// As it was opened; endpoints are kept up to date.
    pub open: Open,
    /// The direction that carries requests, once that is known.
    pub client: Option<Direction>,
}

/// Limits of the stage.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bounds {
    /// Limits inside each connection.
    pub http: http::Bounds,
    /// Connections held at a time. For one more, the one that was quiet longest is given up.
    pub max_connections: usize,
    /// A connection without bytes for so long is given up at the next tick.
    pub idle: Nanos,
    /// Bytes of one direction that may wait for bytes before them.
    pub max_early_bytes: usize,
    /// Pieces of one direction that may wait for bytes before them.
    pub max_early_pieces: usize,
    /// How long a piece may wait for bytes before it.
    pub early_hold: Nanos,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds {
            http: http::Bounds::default(),
            max_connections: 100_000,
            idle: Nanos(3_600_000_000_000),
            max_early_bytes: 1 << 20,
            max_early_pieces: 64,
            early_hold: Nanos(200_000_000),
        }
    }
}

/// The stage.
#[derive(Debug)]
pub struct Stage {
    bounds: Bounds,
    conns: IdMap<ConnId, Conn>,
    /// Connections by the time of their last event, oldest first; the number keeps equal times apart.
    quiet: BTreeMap<(Nanos, u64), ConnId>,
    next_turn: u64,
    /// Connections in which something waits for a tick.
    holding: HashSet<ConnId>,
    /// Connections that ended with the last event; they are known until the next one.
    ended: Vec<ConnId>,
    past: Past,
    counters: Counters,
    http_counters: http::Counters,
}

#[derive(Debug)]
struct Conn {
    info: ConnInfo,
    http: http::Connection,
    orders: [Order; 2],
    /// It stands in `Stage::holding`.
    is_held: bool,
    /// Its place in `Stage::quiet`.
    turn: (Nanos, u64),
    over: bool,
    /// It was over because it was quiet, not because it ended.
    given_up: bool,
}

impl Conn {
    fn hand_on(&mut self, direction: Direction, at: Nanos, piece: Piece, output: &mut http::Output<'_>) {
        match piece {
            Piece::Data(bytes) => self.http.push(direction, at, bytes, output),
            Piece::Lost(len) => self.http.gap(direction, at, len, output),
        }
        self.info.client = self.http.client();
    }

    /// Hands on what waits, the earlier first. `must`: the direction does not wait for missing bytes any more. While one
    /// direction does, the other goes no further than to the time at which that was known: an answer is not to overtake
    /// its request.
    fn drain(&mut self, now: Nanos, must: [bool; 2], bounds: &Bounds, output: &mut http::Output<'_>) {
        let both = [Direction::Sent, Direction::Received];
        let client = self.info.client.unwrap_or(Direction::Sent);
        loop {
            let front = |direction: Direction| {
                let [this, other] = [direction, direction.opposite()].map(Direction::index);
                let must =
                    must[this] || (must[other] && self.orders[other].is_early()) || self.orders[other].is_full(bounds);
                self.orders[this].front(now, must, bounds)
            };
            let next = match both.map(front) {
                [Front::Ready(sent), Front::Ready(received)] if sent == received => client,
                [Front::Ready(sent), Front::Ready(received)] => both[usize::from(received < sent)],
                [Front::Ready(at), Front::Stuck(since)] if at > since => return,
                [Front::Stuck(since), Front::Ready(at)] if at > since => return,
                [Front::Ready(_), _] => Direction::Sent,
                [_, Front::Ready(_)] => Direction::Received,
                _ => return,
            };
            let Some((at, piece)) = self.orders[next.index()].next() else { return };
            self.hand_on(next, at, piece, output);
        }
    }

    /// Keeps `holding` as it is with this connection.
    fn note_holding(&mut self, holding: &mut HashSet<ConnId>) {
        let holds = self.http.is_holding() || self.orders.iter().any(Order::is_early);
        if holds != self.is_held {
            self.is_held = holds;
            let id = self.info.open.conn;
            if holds {
                holding.insert(id)
            } else {
                holding.remove(&id)
            };
        }
    }
}

/// Connections that are over: their late bytes begin nothing, and one that was given up too early goes on where it was.
#[derive(Debug, Default)]
struct Past {
    /// The number of the next exchange; `None` when the connection ended of itself.
    next_seq: IdMap<ConnId, Option<u32>>,
    /// Oldest first.
    order: VecDeque<ConnId>,
}

impl Past {
    fn remember(&mut self, id: ConnId, next_seq: Option<u32>, max: usize) {
        if self.next_seq.insert(id, next_seq).is_none() {
            self.order.push_back(id);
        }
        if self.order.len() > max
            && let Some(oldest) = self.order.pop_front()
        {
            self.next_seq.remove(&oldest);
        }
    }
}

#[derive(Clone, Copy, Default, Debug)]
struct Counters {
    connections: u64,
    unopened: u64,
    evicted_idle: u64,
    evicted_full: u64,
    duplicate_bytes: u64,
    reordered_pieces: u64,
    after_end_bytes: u64,
}

impl Stage {
    /// An empty stage.
    pub fn new(bounds: Bounds) -> Stage {
        Stage {
            bounds,
            conns: IdMap::default(),
            quiet: BTreeMap::new(),
            next_turn: 0,
            holding: HashSet::new(),
            ended: Vec::new(),
            past: Past::default(),
            counters: Counters::default(),
            http_counters: http::Counters::default(),
        }
    }

    /// Takes an event; the parts it completes are added to `out`.
    pub fn push(&mut self, event: Event, out: &mut Vec<Part>) {
        for conn in mem::take(&mut self.ended) {
            self.forget(conn);
        }
        match event {
            Event::Open(open) => self.open(open, out),
            Event::Endpoints { conn, endpoints, .. } => {
                if let Some(conn) = self.conns.get_mut(&conn) {
                    conn.info.open.endpoints = Some(endpoints);
                }
            }
            Event::Data(data) => {
                let piece = Piece::Data(data.bytes);
                self.place(data.conn, data.direction, data.at, data.offset, piece, out);
            }
            Event::Lost(lost) => {
                self.place(lost.conn, lost.direction, lost.at, lost.offset, Piece::Lost(lost.len), out);
            }
            Event::Close(close) => self.close(&close, out),
            Event::Tick(at) => self.tick(at, out),
            Event::Process(_) => {}
        }
    }

    /// What a connection is. Known until the event after the one that ended it.
    pub fn info(&self, conn: ConnId) -> Option<&ConnInfo> {
        self.conns.get(&conn).map(|conn| &conn.info)
    }

    /// The HTTP/2 stream of an exchange that is not over.
    pub fn h2_stream(&self, exchange: http::ExchangeId) -> Option<u32> {
        self.conns.get(&exchange.conn)?.http.h2_stream(exchange.seq)
    }

    /// How many connections are held.
    pub fn connections(&self) -> usize {
        self.conns.len()
    }

    /// Every count of this stage and of the decoders in it, by name.
    pub fn counters(&self) -> Vec<(&'static str, u64)> {
        let own = &self.counters;
        let mut named = vec![
            ("connections", own.connections),
            ("unopened_connections", own.unopened),
            ("connections_evicted_idle", own.evicted_idle),
            ("connections_evicted_full", own.evicted_full),
            ("duplicate_bytes", own.duplicate_bytes),
            ("reordered_pieces", own.reordered_pieces),
            ("after_end_bytes", own.after_end_bytes),
        ];
        named.extend(self.http_counters.named());
        named
    }

    fn open(&mut self, open: Open, out: &mut Vec<Part>) {
        if let Some(known) = self.conns.get_mut(&open.conn) {
            // A source that learns more may say it again.
            known.info.open = open;
            return;
        }
        if self.conns.len() >= self.bounds.max_connections.max(1)
            && let Some((_, &oldest)) = self.quiet.first_key_value()
        {
            self.counters.evicted_full += 1;
            self.end(oldest, open.at, CloseHow::Idle, out);
            // Its parts' connection stays known until the next event.
        }
        let (id, at) = (open.conn, open.at);
        let turn = self.next_turn(at);
        self.counters.connections += 1;
        self.quiet.insert(turn, id);
        let first_seq = self.past.next_seq.get(&id).copied().flatten().unwrap_or(0);
        let http = http::Connection::resumed(id, open.mid_stream, first_seq);
        let info = ConnInfo { open, client: None };
        self.conns.insert(
            id,
            Conn { info, http, orders: Default::default(), turn, is_held: false, over: false, given_up: false },
        );
    }

    fn place(&mut self, id: ConnId, direction: Direction, at: Nanos, offset: u64, piece: Piece, out: &mut Vec<Part>) {
        if !self.conns.contains_key(&id) {
            if self.past.next_seq.get(&id) == Some(&None) {
                self.counters.after_end_bytes += piece.len();
                return;
            }
            // A tape cut at its beginning, or a connection given up: it goes on as one met in the middle.
            self.counters.unopened += 1;
            let transport = Transport::Plain;
            self.open(Open { conn: id, at, owner: None, endpoints: None, transport, mid_stream: true }, out);
        }
        let Some(conn) = self.conns.get_mut(&id) else { return };
        if conn.over {
            self.counters.after_end_bytes += piece.len();
            return;
        }
        // Moving a connection to the back at every event would cost more than its decoding; a second is fine enough.
        if at.since(conn.turn.0) >= Nanos(1_000_000_000) {
            self.quiet.remove(&conn.turn);
            self.next_turn += 1;
            conn.turn = (at, self.next_turn);
            self.quiet.insert(conn.turn, id);
        }
        let mut output = http::Output { parts: out, counters: &mut self.http_counters, bounds: &self.bounds.http };
        let other_waits = conn.orders[direction.opposite().index()].is_early();
        let order = &mut conn.orders[direction.index()];
        if !other_waits && order.takes_at_once(offset, piece.len()) {
            conn.hand_on(direction, at, piece, &mut output);
        } else {
            self.counters.duplicate_bytes += order.put(at, offset, piece, conn.info.open.mid_stream);
            conn.drain(at, [false; 2], &self.bounds, &mut output);
            self.counters.reordered_pieces += u64::from(conn.orders[direction.index()].is_early());
        }
        conn.note_holding(&mut self.holding);
    }

    /// Hands what is in order to the decoder. `must`: that direction does not wait any more.
    fn drain(&mut self, id: ConnId, now: Nanos, must: [bool; 2], out: &mut Vec<Part>) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let mut output = http::Output { parts: out, counters: &mut self.http_counters, bounds: &self.bounds.http };
        conn.drain(now, must, &self.bounds, &mut output);
        conn.note_holding(&mut self.holding);
    }

    fn close(&mut self, close: &Close, out: &mut Vec<Part>) {
        match close.direction {
            None => self.end(close.conn, close.at, close.how, out),
            Some(direction) => {
                let must = [Direction::Sent, Direction::Received].map(|ended| ended == direction);
                self.drain(close.conn, close.at, must, out);
                let Some(conn) = self.conns.get_mut(&close.conn) else { return };
                let mut output =
                    http::Output { parts: out, counters: &mut self.http_counters, bounds: &self.bounds.http };
                conn.http.close(Some(direction), close.at, close.how, &mut output);
                conn.info.client = conn.http.client();
                let order = &mut conn.orders[direction.index()];
                order.over = true;
                if conn.orders.iter().all(|order| order.over) {
                    self.end(close.conn, close.at, close.how, out);
                }
            }
        }
    }

    /// The source has ended: ends what is still open, in the order of the connections' ids.
    pub fn finish(&mut self, at: Nanos, out: &mut Vec<Part>) {
        let mut open: Vec<ConnId> = self.conns.iter().filter(|(_, conn)| !conn.over).map(|(id, _)| *id).collect();
        open.sort_unstable();
        open.into_iter().for_each(|id| self.end(id, at, CloseHow::SourceEnd, out));
    }

    /// Ends a connection; it stays known until the next event.
    fn end(&mut self, id: ConnId, at: Nanos, how: CloseHow, out: &mut Vec<Part>) {
        self.drain(id, at, [true; 2], out);
        let Some(conn) = self.conns.get_mut(&id).filter(|conn| !conn.over) else { return };
        let mut output = http::Output { parts: out, counters: &mut self.http_counters, bounds: &self.bounds.http };
        conn.http.close(None, at, how, &mut output);
        conn.info.client = conn.http.client();
        conn.over = true;
        conn.given_up = how == CloseHow::Idle;
        self.quiet.remove(&conn.turn);
        conn.is_held = false;
        self.holding.remove(&id);
        self.ended.push(id);
    }

    fn tick(&mut self, at: Nanos, out: &mut Vec<Part>) {
        let mut holding: Vec<ConnId> = self.holding.iter().copied().collect();
        holding.sort_unstable();
        for id in holding {
            self.drain(id, at, [false; 2], out);
            let Some(conn) = self.conns.get_mut(&id) else { continue };
            let mut output = http::Output { parts: out, counters: &mut self.http_counters, bounds: &self.bounds.http };
            conn.http.tick(at, &mut output);
            conn.note_holding(&mut self.holding);
        }
        while let Some((&(last, _), &id)) = self.quiet.first_key_value() {
            if at.since(last) <= self.bounds.idle {
                break;
            }
            self.counters.evicted_idle += 1;
            self.end(id, at, CloseHow::Idle, out);
        }
    }

    fn next_turn(&mut self, at: Nanos) -> (Nanos, u64) {
        self.next_turn += 1;
        (at, self.next_turn)
    }

    fn forget(&mut self, id: ConnId) {
        let Some(conn) = self.conns.remove(&id) else { return };
        let next_seq = conn.given_up.then(|| conn.http.next_seq());
        self.past.remember(id, next_seq, self.bounds.max_connections);
    }
}
