//! Bytes of one direction that wait for the other one.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::event::Nanos;

/// Bytes and holes of one direction that wait, with their times.
#[derive(Debug, Default)]
pub(super) struct Held {
    pub pieces: VecDeque<(Nanos, Piece)>,
    bytes: usize,
}

#[derive(Debug)]
pub(super) enum Piece {
    Bytes(Bytes),
    Gap(u64),
}

impl Held {
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    pub fn push(&mut self, at: Nanos, piece: Piece) {
        self.bytes += match &piece {
            // A piece costs its bookkeeping too.
            Piece::Bytes(bytes) => bytes.len() + 64,
            Piece::Gap(_) => 64,
        };
        self.pieces.push_back((at, piece));
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn since(&self) -> Option<Nanos> {
        self.pieces.front().map(|(at, _)| *at)
    }
}
