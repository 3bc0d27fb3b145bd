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

    /// True when something waits for bytes before it.
    pub fn is_early(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The next piece in order, if it is there; or the hole before the first one that waits, when it waited long enough.
    pub fn next(&mut self, now: Nanos, must: bool, bounds: &Bounds) -> Option<(Nanos, Piece)> {
        loop {
            let first = self.waiting.front()?;
            let expected = self.expected.unwrap_or(first.offset);
            if first.offset > expected {
                let over = must
                    || now.since(first.at) > bounds.early_hold
                    || self.waiting_bytes > bounds.max_early_bytes
                    || self.waiting.len() > bounds.max_early_pieces;
                let hole = first.offset - expected;
                let at = first.at;
                self.expected = over.then_some(first.offset).or(self.expected);
                return over.then_some((at, Piece::Lost(hole)));
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
