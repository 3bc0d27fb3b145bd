//! One direction's bytes in the order of the stream: what was seen already is cut off, what comes ahead waits, what does
//! not come is a hole.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};

use super::Bounds;
use crate::event::Nanos;

/// Bytes, or so many missing ones.
#[derive(Debug)]
pub(super) enum Piece {
    Data(Bytes),
    Lost(u64),
}

impl Piece {
    pub fn len(&self) -> u64 {
        match self {
            Piece::Data(bytes) => bytes.len() as u64,
            Piece::Lost(len) => *len,
        }
    }

    /// Cuts `len` bytes off the front.
    fn skip(&mut self, len: u64) {
        match self {
            Piece::Data(bytes) => bytes.advance(usize::try_from(len).unwrap_or(usize::MAX).min(bytes.len())),
            Piece::Lost(left) => *left = left.saturating_sub(len),
        }
    }
}

/// How the front of what waits stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Front {
    /// Nothing waits.
    Nothing,
    /// It can be handed on; when it came.
    Ready(Nanos),
    /// Bytes before it are missing and may still come; since when that is known.
    Stuck(Nanos),
}

#[derive(Debug, Default)]
pub(super) struct Order {
    /// Where the next byte stands; unknown before the first one of a connection met in the middle.
    expected: Option<u64>,
    /// Pieces by offset; those at the front may be in order, the others wait.
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    /// The direction ended.
    pub over: bool,
}

#[derive(Debug)]
struct Waiting {
    offset: u64,
    at: Nanos,
    piece: Piece,
}

impl Order {
    /// True when a piece is the next one and nothing waits: it is taken as handed on.
    pub fn takes_at_once(&mut self, offset: u64, len: u64) -> bool {
        let next = self.waiting.is_empty() && self.expected == Some(offset);
        if next {
            self.expected = Some(offset.saturating_add(len));
        }
        next
    }

    /// Puts a piece in its place; how many bytes of it were seen before.
    pub fn put(&mut self, at: Nanos, offset: u64, mut piece: Piece, mid_stream: bool) -> u64 {
        let start = if mid_stream { offset } else { 0 };
        let expected = *self.expected.get_or_insert(start);
        let seen = expected.saturating_sub(offset).min(piece.len());
        // A hole that was filled meanwhile is no duplicate.
        let duplicate = if matches!(piece, Piece::Data(_)) { seen } else { 0 };
        piece.skip(seen);
        if piece.len() == 0 {
            return duplicate;
        }
        if let Piece::Data(bytes) = &piece {
            self.waiting_bytes += bytes.len();
        }
        let offset = offset.saturating_add(seen);
        let place = self.waiting.iter().rposition(|waiting| waiting.offset <= offset).map_or(0, |at| at + 1);
        self.waiting.insert(place, Waiting { offset, at, piece });
        duplicate
    }

    /// True when something waits.
    pub fn is_early(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// True when more waits than may.
    pub fn is_full(&self, bounds: &Bounds) -> bool {
        self.waiting_bytes > bounds.max_early_bytes || self.waiting.len() > bounds.max_early_pieces
    }

    /// What [`Order::next`] would give. `must`: nothing waits for missing bytes any more.
    pub fn front(&mut self, now: Nanos, must: bool, bounds: &Bounds) -> Front {
        self.drop_seen();
        let Some(first) = self.waiting.front() else { return Front::Nothing };
        let hole = self.expected.is_some_and(|expected| first.offset > expected);
        let over = must || now.since(first.at) > bounds.early_hold || self.is_full(bounds);
        if hole && !over { Front::Stuck(first.at) } else { Front::Ready(first.at) }
    }

    /// Drops pieces of which every byte was seen meanwhile.
    fn drop_seen(&mut self) {
        let Some(expected) = self.expected else { return };
        while let Some(first) = self.waiting.front()
            && first.offset.saturating_add(first.piece.len()) <= expected
        {
            if let Some(Waiting { piece: Piece::Data(bytes), .. }) = self.waiting.pop_front() {
                self.waiting_bytes = self.waiting_bytes.saturating_sub(bytes.len());
            }
        }
    }

    /// The first piece that waits, or the hole before it.
    pub fn next(&mut self) -> Option<(Nanos, Piece)> {
        loop {
            self.drop_seen();
            let first = self.waiting.front()?;
            let expected = self.expected.unwrap_or(first.offset);
            if first.offset > expected {
                let hole = first.offset - expected;
                let at = first.at;
                self.expected = Some(first.offset);
                return Some((at, Piece::Lost(hole)));
            }
            let Waiting { offset, at, mut piece } = self.waiting.pop_front()?;
            if let Piece::Data(bytes) = &piece {
                self.waiting_bytes = self.waiting_bytes.saturating_sub(bytes.len());
            }
            piece.skip(expected - offset);
            // A hole ends where bytes that are there begin.
            if let (Piece::Lost(len), Some(next)) = (&mut piece, self.waiting.front()) {
                *len = (*len).min(next.offset.saturating_sub(expected));
            }
            if piece.len() > 0 {
                self.expected = Some(expected.saturating_add(piece.len()));
                return Some((at, piece));
            }
        }
    }
}
