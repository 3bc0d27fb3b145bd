//! One TCP connection: two streams, whose bytes leave in an order that respects cause and effect.
//!
//! Holes: a missing segment may still come (captures are shuffled by several queues, several interfaces, several
//! files), so a hole becomes a loss only on evidence and after a grace, and then with its exact size. Evidence is the receiver's
//! acknowledgment of bytes that the capture does not hold; without it, time, the budget of waiting bytes, or the end.

mod outlet;

use std::net::IpAddr;

use bytes::Bytes;

use self::outlet::Sealed;
use super::classify::Verdict;
use super::link::{ACK, FIN, RST, SYN, Segment};
use super::stream::{Gap, Held, Place, Stream};
use super::tls::{KeyLog, Session};
use crate::event::{CloseHow, ConnId, Event, LossCause, Nanos};

/// A hole that nobody acknowledged (its retransmission may be under way).
const UNACKED_LIMIT: Nanos = Nanos(60_000_000_000);
/// How long a reset waits for segments that were overtaken by it.
const RESET_GRACE: Nanos = Nanos(1_000_000_000);
/// How long bytes that are out of order may be waited for. Times are capture time, packets are those of the connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// A connection met in the middle: before its first byte is settled, whichever comes first.
    join: (Nanos, u64),
    /// A hole that the receiver acknowledged: until it is a loss, both, ...
    acked: (Nanos, u64),
    /// ... or this time alone.
    acked_limit: Nanos,
}

/// People look on.
pub(super) const LIVE: Patience = Patience {
    join: (Nanos(1_000_000_000), 64),
    acked: (Nanos(1_000_000_000), 32),
    acked_limit: Nanos(10_000_000_000),
};
/// Waiting costs nothing but the order in which losses are told.
pub(super) const FILE: Patience = Patience {
    join: (Nanos(10_000_000_000), 1024),
    acked: (Nanos(3_000_000_000), 512),
    acked_limit: Nanos(15_000_000_000),
};

/// What the reassembly saw and could not use, and what it gave up. Monotonic.
#[derive(Default, Clone, Debug)]
pub(super) struct Counts {
    pub retransmitted: u64,
    pub out_of_order: u64,
    pub conflicting: u64,
    pub wild: u64,
    pub lost_bytes: u64,
    pub snapped_bytes: u64,
    pub data_bytes: u64,
    pub connections: u64,
    pub ignored: u64,
    pub encrypted: u64,
}

/// What a push needs from outside.
pub(super) struct Context<'a> {
    pub out: &'a mut Vec<Event>,
    pub counts: &'a mut Counts,
    pub keys: &'a mut KeyLog,
    /// When the segment was captured, or what time it is.
    pub at: Nanos,
    pub patience: Patience,
    /// How much a connection may hold back, bytes of memory.
    pub budget: usize,
    /// Whether what is held back is copied out of its backing (which is then a buffer, and not a mapped file).
    pub copy: bool,
}

/// Index of a connection's end: 0 or 1, nothing else.
type Side = usize;

/// What the table should do after a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum After {
    /// Nothing.
    Keep,
    /// The segment belongs to a new connection between the same ends.
    Restart,
}

/// One connection. Side 0 is the numerically lower end of its key.
#[derive(Debug)]
pub(super) struct Connection {
    ends: [(IpAddr, u16); 2],
    sides: [Stream; 2],
    /// Which side opened the connection, once known.
    initiator: Option<usize>,
    first_seen: Nanos,
    first_sender: usize,
    pub last_seen: Nanos,
    packets: u64,
    id: Option<ConnId>,
    verdict: Verdict,
    /// TLS on this connection, or inside the tunnel that it became.
    tls: Option<Box<Session>>,
    /// Whether it began with a request for a tunnel.
    tunnel: bool,
    /// Stream offsets of what was handed on.
    handed: [u64; 2],
    /// What was lost before the first byte that tells what kind of connection it is.
    missed: [Option<(u64, LossCause)>; 2],
    /// What is known of an encrypted connection that stays closed.
    sealed: Option<Box<Sealed>>,
    /// No time of an event goes back.
    last_event: Nanos,
    reset: Option<Nanos>,
    over: bool,
    /// Whether the table looks at this connection when time passes.
    pub watched: bool,
}

impl Connection {
    /// A connection between two ends, first seen at `at` in a segment from side `sender`.
    pub(super) fn new(ends: [(IpAddr, u16); 2], sender: usize, at: Nanos) -> Connection {
        Connection {
            ends,
            sides: Default::default(),
            initiator: None,
            first_seen: at,
            first_sender: sender,
            last_seen: at,
            packets: 0,
            id: None,
            verdict: Verdict::Undecided,
            tls: None,
            tunnel: false,
            handed: [0; 2],
            missed: [None; 2],
            sealed: None,
            last_event: at,
            reset: None,
            over: false,
            watched: false,
        }
    }

    /// Whether nothing more is expected of it.
    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// What is held back, in bytes of memory.
    pub(super) fn held_cost(&self) -> usize {
        self.sides.iter().map(|side| side.held_cost).sum()
    }

    /// Takes a segment from side `from`. `payload` is its captured payload, to be kept.
    pub(super) fn push(&mut self, segment: &Segment<'_>, from: Side, payload: Bytes, cx: &mut Context<'_>) -> After {
        self.packets += 1;
        self.last_seen = self.last_seen.max(cx.at);
        if segment.flags & SYN != 0 && self.syn(segment, from) == After::Restart {
            return After::Restart;
        }
        if self.verdict == Verdict::Ignored {
            self.pass_over(segment, from);
            return After::Keep;
        }
        let now = (cx.at, self.packets);
        let (mine, other) = self.pair(from);
        if segment.flags & RST != 0 && !mine.is_known() {
            self.reset = self.reset.or(Some(cx.at));
            self.advance(cx);
            return After::Keep;
        }
        if !mine.is_known() {
            mine.join(segment.seq);
        }
        let first = segment.seq.wrapping_add(u32::from(segment.flags & SYN != 0));
        let has_data = segment.wire_len > 0;
        let Place::At(place) = mine.place(first) else {
            cx.counts.wild += 1;
            let another = has_data && (mine.wild(first, segment.wire_len) || self.over);
            return if another { After::Restart } else { After::Keep };
        };
        if has_data && segment.flags & RST == 0 && mine.closed && mine.fin.is_some_and(|fin| place > fin) {
            return After::Restart;
        }
        let after = Self::acknowledged(other, segment, now);
        if segment.flags & RST != 0 {
            self.reset = self.reset.or(Some(cx.at));
        } else {
            if segment.flags & FIN != 0 {
                mine.finish(place.saturating_add(u64::from(segment.wire_len)), now);
            }
            if has_data {
                let wire_len = u64::from(segment.wire_len);
                let held = Held { bytes: payload, wire_len, at: cx.at, after, packets: now.1 };
                self.data(from, place, held, cx);
            }
        }
        self.advance(cx);
        After::Keep
    }

    fn pair(&mut self, from: Side) -> (&mut Stream, &mut Stream) {
        let [low, high] = &mut self.sides;
        if from == 0 { (low, high) } else { (high, low) }
    }

    /// A SYN: whose connection is it?
    fn syn(&mut self, segment: &Segment<'_>, from: Side) -> After {
        let is_answer = segment.flags & ACK != 0;
        let ignored = self.verdict == Verdict::Ignored;
        let (mine, other) = self.pair(from);
        let first = segment.seq.wrapping_add(1);
        // A SYN that the capture shows late begins what was met in the middle; any other begins a new connection.
        match mine.isn {
            Some(isn) if isn == segment.seq => return After::Keep,
            Some(_) => return After::Restart,
            None if ignored && !is_answer => return After::Restart,
            None if ignored => return After::Keep,
            None if !mine.may_begin_at(first) => return After::Restart,
            None => {}
        }
        mine.isn = Some(segment.seq);
        mine.begin(first);
        if is_answer && other.may_begin_at(segment.ack) {
            other.begin(segment.ack);
        }
        self.initiator = self.initiator.or(Some(if is_answer { 1 - from } else { from }));
        After::Keep
    }

    /// Notes what the segment acknowledges; gives the position in the other direction, 0 when unknown.
    fn acknowledged(other: &mut Stream, segment: &Segment<'_>, now: (Nanos, u64)) -> u64 {
        if segment.flags & ACK == 0 || segment.flags & RST != 0 {
            return 0;
        }
        if !other.started {
            other.hint(segment.ack);
        }
        match other.place(segment.ack) {
            Place::At(position) => {
                other.acknowledge(position, now);
                position
            }
            Place::Wild => 0,
        }
    }

    fn data(&mut self, from: Side, place: u64, mut held: Held, cx: &mut Context<'_>) {
        let (mine, other) = self.pair(from);
        if mine.started && place.saturating_add(held.wire_len) <= mine.next {
            cx.counts.retransmitted += 1;
            return;
        }
        if mine.started && mine.is_clear() && place <= mine.next && other.has_passed(held.after) {
            held.skip(mine.next - place);
            self.deliver(from, held, cx);
            return;
        }
        cx.counts.out_of_order += u64::from(place > mine.next);
        if cx.copy {
            held.bytes = Bytes::copy_from_slice(&held.bytes);
        }
        cx.counts.conflicting += u64::from(mine.hold(place, held));
    }

    /// Hands on whatever can be, and decides about holes. Called after each segment, and when time passes.
    pub(super) fn advance(&mut self, cx: &mut Context<'_>) {
        if self.packets >= cx.patience.join.1 || cx.at.since(self.first_seen) >= cx.patience.join.0 {
            self.sides.iter_mut().filter(|side| side.is_known()).for_each(Stream::settle);
        }
        self.drain(cx);
        while let Some((side, gap)) = self.loss(cx) {
            self.lose(side, gap, cx);
            self.drain(cx);
        }
        if self.reset.is_some_and(|at| cx.at.since(at) >= RESET_GRACE) {
            self.end(CloseHow::Reset, cx);
        }
        let waits = |side: &Stream| !side.is_clear() || side.gap().is_some() || (side.is_known() && !side.started);
        self.watched = !self.over && (self.reset.is_some() || self.sides.iter().any(waits));
    }

    fn drain(&mut self, cx: &mut Context<'_>) {
        loop {
            let mut moved = false;
            for from in [0, 1] {
                loop {
                    let (mine, other) = self.pair(from);
                    let Some(held) = mine.take_next(|after| other.has_passed(after)) else { break };
                    self.deliver(from, held, cx);
                    moved = true;
                }
            }
            if !moved {
                break;
            }
        }
        for from in [0, 1] {
            let side = &mut self.sides[from];
            if !side.closed && side.started && side.fin.is_some_and(|fin| side.next >= fin) {
                side.closed = true;
                self.close(Some(from), CloseHow::Finished, self.last_seen, cx);
            }
        }
        self.over |= self.sides.iter().all(|side| side.closed);
    }

    /// A hole that is a loss by now.
    fn loss(&self, cx: &Context<'_>) -> Option<(Side, Gap)> {
        let (over_budget, patience) = (self.held_cost() > cx.budget, cx.patience);
        let due = |gap: &Gap| {
            let waited = cx.at.since(gap.since.0);
            let packets = self.packets.saturating_sub(gap.since.1);
            let enough = waited >= patience.acked.0 && packets >= patience.acked.1;
            let acked = gap.acked && (enough || waited >= patience.acked_limit);
            over_budget || acked || waited >= UNACKED_LIMIT
        };
        self.oldest_gap().filter(|(_, gap)| due(gap))
    }

    fn oldest_gap(&self) -> Option<(Side, Gap)> {
        let gaps = self.sides.iter().enumerate().filter_map(|(side, stream)| stream.gap().map(|gap| (side, gap)));
        gaps.min_by_key(|(_, gap)| gap.since)
    }

    fn lose(&mut self, from: Side, gap: Gap, cx: &mut Context<'_>) {
        let len = gap.end.saturating_sub(self.sides[from].next);
        self.lost(from, len, LossCause::PacketMissing, cx.at, cx);
        self.sides[from].advance(len);
    }

    fn deliver(&mut self, from: Side, held: Held, cx: &mut Context<'_>) {
        let captured = held.bytes.len() as u64;
        let cut = held.wire_len - captured;
        if captured > 0 {
            self.decide(from, &held.bytes, held.at, cx);
            self.enter_tunnel(from, &held.bytes, cx);
            self.bytes(from, held.at, held.bytes, cx);
        }
        if cut > 0 {
            self.lost(from, cut, LossCause::Snapped, held.at, cx);
        }
        self.sides[from].advance(held.wire_len);
    }

    /// Ends the connection: what waits is handed on, with its holes.
    pub(super) fn end(&mut self, how: CloseHow, cx: &mut Context<'_>) {
        self.sides.iter_mut().filter(|side| side.is_known()).for_each(Stream::settle);
        self.drain(cx);
        while let Some((side, gap)) = self.oldest_gap() {
            self.lose(side, gap, cx);
            self.drain(cx);
        }
        // Whatever still waits names bytes of the other direction that never were: forged, and harmless.
        for from in [0, 1] {
            while let Some(held) = self.sides[from].take_next(|_| true) {
                self.deliver(from, held, cx);
            }
        }
        if let Some(session) = &mut self.tls {
            let mut pieces = Vec::new();
            session.end(cx.at, cx.keys, &mut pieces);
            self.pieces(pieces, cx);
            self.seal(cx);
        }
        if !self.over {
            let how = if self.reset.is_some() { CloseHow::Reset } else { how };
            self.close(None, how, self.reset.unwrap_or(self.last_seen), cx);
        }
        self.over = true;
        self.watched = false;
    }
}
