//! One direction of a TCP connection: what is in order, what waits for a hole to close, and when a hole is a loss.
//!
//! Positions are 64-bit and never wrap: sequence numbers are unwrapped around the next expected one. The first copy of each
//! byte wins. A segment also names how far its sender had seen the *other* direction ([`Held::after`]): it is handed
//! on only when that much of the other direction was, so that answers never overtake their questions, however the
//! capture is shuffled.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::event::Nanos;

/// Position of the first byte seen: bytes before it may still turn up in a stream met in the middle.
const ORIGIN: u64 = 1 << 40;
/// Sequence numbers farther than this from the expected one do not belong to the stream.
pub(super) const WINDOW: i64 = 1 << 26;
/// What a held segment costs besides its bytes.
pub(super) const HELD_OVERHEAD: usize = 128;

/// A segment that waits.
#[derive(Debug)]
pub(super) struct Held {
    pub bytes: Bytes,
    /// Length on the wire: more than `bytes.len()` when the snap length cut it.
    pub wire_len: u64,
    pub at: Nanos,
    /// Position in the other direction that its sender had seen; 0 when unknown.
    pub after: u64,
    /// How many packets of the connection had been seen.
    pub packets: u64,
}

/// Evidence that something is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gap {
    /// Where the missing bytes end.
    pub end: u64,
    /// When the evidence was captured, and how many packets of the connection had been seen by then.
    pub since: (Nanos, u64),
    /// Whether the receiver has them: then they were sent, received, and missed by the capture only.
    pub acked: bool,
}

/// Where a sequence number lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    At(u64),
    /// Outside of any window that makes sense.
    Wild,
}

/// One direction.
#[derive(Default, Debug)]
pub(super) struct Stream {
    /// The sequence number at `next`; `None` until anything was seen.
    anchor: Option<u32>,
    /// Initial sequence number, when the SYN was seen.
    pub isn: Option<u32>,
    /// The lowest acknowledgment of the other side, seen before the first position was settled.
    hint: Option<u32>,
    /// Next position to hand on.
    pub next: u64,
    /// Position of stream offset 0.
    base: u64,
    /// Whether `base` is settled; a stream met in the middle waits a moment for segments out of order.
    pub started: bool,
    /// Segments that wait, by position; none overlaps another.
    held: BTreeMap<u64, Held>,
    /// What they cost.
    pub held_cost: usize,
    /// Highest position that the other side acknowledged, and when first beyond `next`.
    acked: u64,
    acked_since: (Nanos, u64),
    /// Position of the end, once a FIN was seen, and when that was.
    pub fin: Option<u64>,
    fin_since: (Nanos, u64),
    /// Whether the end was handed on.
    pub closed: bool,
    /// Segments that fit nowhere: the sequence number expected next among them, and how many in a row.
    wild: (u32, u8),
}

impl Stream {
    /// Whether anything of this direction was seen.
    pub(super) fn is_known(&self) -> bool {
        self.anchor.is_some()
    }

    /// Settles the first position: `seq` is the number of the first byte.
    pub(super) fn start(&mut self, seq: u32) {
        self.anchor = Some(seq);
        (self.next, self.base, self.started) = (ORIGIN, ORIGIN, true);
    }

    /// Settles the first position of a stream that was not, or not yet for certain.
    pub(super) fn begin(&mut self, seq: u32) {
        match self.place(seq) {
            Place::At(position) if !self.started => {
                self.anchor = Some(seq);
                (self.next, self.base, self.started) = (position, position, true);
            }
            Place::Wild if !self.is_known() => self.start(seq),
            _ => {}
        }
    }

    /// Whether a sequence number may be that of the first byte.
    pub(super) fn may_begin_at(&self, seq: u32) -> bool {
        match self.place(seq) {
            Place::At(position) => position.abs_diff(self.base) < 1 << 20,
            Place::Wild => !self.is_known(),
        }
    }

    /// Meets the stream in the middle, at a segment with `seq`.
    pub(super) fn join(&mut self, seq: u32) {
        self.anchor = Some(seq);
        (self.next, self.base) = (ORIGIN, ORIGIN);
    }

    /// Notes an acknowledgment by the other side while the first position is not settled: what it does not cover was
    /// sent later, so a hole at the very start is seen as one.
    pub(super) fn hint(&mut self, ack: u32) {
        let lower = |known: u32| ack.wrapping_sub(known).cast_signed() < 0;
        if self.hint.is_none_or(lower) {
            self.hint = Some(ack);
        }
    }

    /// The position of a sequence number.
    pub(super) fn place(&self, seq: u32) -> Place {
        let Some(anchor) = self.anchor else { return Place::Wild };
        let delta = i64::from(seq.wrapping_sub(anchor).cast_signed());
        if delta.abs() > WINDOW { Place::Wild } else { Place::At(self.next.saturating_add_signed(delta)) }
    }

    /// Counts a segment outside the window; true when several in a row belong together: another stream.
    pub(super) fn wild(&mut self, seq: u32, len: u32) -> bool {
        let (expected, count) = self.wild;
        let near = i64::from(seq.wrapping_sub(expected).cast_signed()).abs() < 1 << 20;
        self.wild = (seq.wrapping_add(len), if near { count.saturating_add(1) } else { 1 });
        self.wild.1 >= 4
    }

    /// The sequence number after the last byte handed on.
    pub(super) fn end_of_data(&self) -> Option<u32> {
        self.anchor
    }

    /// Stream offset of a position.
    pub(super) fn offset(&self, position: u64) -> u64 {
        position.saturating_sub(self.base)
    }

    /// Moves on by `len` bytes.
    pub(super) fn advance(&mut self, len: u64) {
        self.next = self.next.saturating_add(len);
        self.anchor = self.anchor.map(|anchor| anchor.wrapping_add(len as u32));
    }

    /// Takes note that the other side has everything before `position`.
    pub(super) fn acknowledge(&mut self, position: u64, now: (Nanos, u64)) {
        if position <= self.acked {
            return;
        }
        if self.acked <= self.next {
            self.acked_since = now;
        }
        self.acked = position;
    }

    /// Takes note of the end; the first one counts.
    pub(super) fn finish(&mut self, position: u64, now: (Nanos, u64)) {
        if self.fin.is_none() && position >= self.next {
            (self.fin, self.fin_since) = (Some(position), now);
        }
    }

    /// Whether everything before `position` was handed on (or is known to be lost).
    pub(super) fn has_passed(&self, position: u64) -> bool {
        // The FIN counts as one byte, and may itself be what the capture missed.
        let fin = self.fin.is_some_and(|fin| position > fin && self.next >= fin);
        self.anchor.is_none() || fin || (self.started && (position <= self.next || self.only_fin_missing(position)))
    }

    fn only_fin_missing(&self, position: u64) -> bool {
        self.held.is_empty() && position == self.next + 1
    }

    /// Whether nothing waits.
    pub(super) fn is_clear(&self) -> bool {
        self.held.is_empty()
    }

    /// The first segment that waits.
    pub(super) fn first_held(&self) -> Option<(u64, &Held)> {
        self.held.first_key_value().map(|(&at, held)| (at, held))
    }

    /// Takes the first waiting segment out, if it is next and what its sender had seen was handed on (`passed`).
    pub(super) fn take_next(&mut self, passed: impl Fn(u64) -> bool) -> Option<Held> {
        loop {
            let (&at, held) = self.held.first_key_value()?;
            let behind = self.next.checked_sub(at)?;
            if !self.started || (behind < held.wire_len && !passed(held.after)) {
                return None;
            }
            let (_, mut held) = self.held.pop_first()?;
            self.held_cost = self.held_cost.saturating_sub(held.bytes.len() + HELD_OVERHEAD);
            if behind < held.wire_len {
                held.skip(behind);
                return Some(held);
            }
        }
    }

    /// Keeps a segment until it is next. Bytes that are held already stay; true when the new ones differ from them.
    pub(super) fn hold(&mut self, at: u64, segment: Held) -> bool {
        let end = at.saturating_add(segment.wire_len);
        let (mut start, mut conflict) = (at, false);
        while start < end {
            let before = self.held.range(..=start).next_back().map(|(&at, held)| (at, held));
            if let Some((old_at, old)) = before.filter(|(old_at, old)| old_at + old.wire_len > start) {
                let stop = end.min(old_at + old.wire_len);
                conflict |= differs(old.part(start - old_at, stop - old_at), segment.part(start - at, stop - at));
                start = stop;
                continue;
            }
            let stop = self.held.range(start..).next().map_or(end, |(&next, _)| next.min(end));
            let bytes = segment.part(start - at, stop - at);
            self.held_cost += bytes.len() + HELD_OVERHEAD;
            self.held.insert(start, Held { bytes, wire_len: stop - start, ..segment });
            start = stop;
        }
        conflict
    }

    /// Lets go of everything that waits.
    pub(super) fn clear(&mut self) {
        self.held.clear();
        self.held_cost = 0;
    }

    /// Settles the start of a stream met in the middle, when it waited long enough.
    pub(super) fn settle(&mut self) {
        if self.started {
            return;
        }
        let first = self.first_held().map_or(self.next, |(at, _)| at);
        let hint = self.hint.map(|hint| self.place(hint));
        let start = match hint {
            Some(Place::At(hint)) => hint.min(first),
            _ => first,
        };
        let back = start.cast_signed().wrapping_sub(self.next.cast_signed());
        self.anchor = self.anchor.map(|anchor| anchor.wrapping_add(back as u32));
        (self.next, self.base) = (start, start);
        self.started = true;
    }

    /// The hole before the first thing known to follow, if there is one.
    pub(super) fn gap(&self) -> Option<Gap> {
        if !self.started {
            return None;
        }
        let acked = self.acked > self.next;
        if let Some((at, held)) = self.first_held() {
            return (at > self.next).then_some(Gap { end: at, since: (held.at, held.packets), acked });
        }
        let end = self.fin.unwrap_or(self.acked);
        let fin_only = self.fin.is_none() && end == self.next + 1;
        let since = if acked { self.acked_since } else { self.fin_since };
        (end > self.next && !fin_only).then_some(Gap { end, since, acked })
    }
}

impl Held {
    /// Drops the first `len` bytes.
    pub(super) fn skip(&mut self, len: u64) {
        let captured = (len as usize).min(self.bytes.len());
        self.bytes = self.bytes.slice(captured..);
        self.wire_len -= len.min(self.wire_len);
    }

    /// The captured bytes between two places on the wire.
    fn part(&self, start: u64, end: u64) -> Bytes {
        let len = self.bytes.len();
        self.bytes.slice((start as usize).min(len)..(end as usize).min(len))
    }
}

fn differs(a: Bytes, b: Bytes) -> bool {
    let len = a.len().min(b.len());
    a.get(..len) != b.get(..len)
}
