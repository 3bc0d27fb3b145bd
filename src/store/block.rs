//! Blocks: the packed bytes of many calls, compressed together.
//!
//! One answer's framing is the next one's, and a message stands in the request that sent it, in the turn's steps and in
//! the detail: compressed side by side these cost little, and one large frame costs less time than many small ones. A
//! piece is one call's body (or list of messages, or detail) in a block; its number says which block and where.

use std::fmt::Write;
use std::io;

use super::body::Codec;

/// A block is closed when it has so many bytes.
const FULL: usize = 256 << 10;
/// The bits of a piece's number that say where in its block it is.
const INDEX_BITS: u32 = 16;
const LEVEL: i32 = 1;

/// A piece's number, from its block's and its place there.
pub(super) fn piece_number(block: i64, index: usize) -> i64 {
    (block << INDEX_BITS) | index as i64
}

/// The block of a piece, and its place there.
pub(super) fn place_of(piece: i64) -> (i64, usize) {
    (piece >> INDEX_BITS, (piece & ((1 << INDEX_BITS) - 1)) as usize)
}

/// What a block says of one of its pieces.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Entry {
    /// How it is packed; `None` when a newer heron did it.
    pub codec: Option<Codec>,
    /// How many bytes it has unpacked; `None` where the first schema did not say.
    pub size: Option<usize>,
    /// How many bytes it takes in the block.
    pub length: usize,
    /// The piece it is the difference to.
    pub base: Option<i64>,
}

impl Entry {
    fn write(codec: Codec, size: usize, length: usize, base: Option<i64>, into: &mut String) {
        // Writing to a string cannot fail.
        let _ = write!(into, "{},{size},{length},", codec as i32);
        let _ = base.map(|base| write!(into, "{base}"));
        into.push(';');
    }

    fn read(text: &str) -> Option<Entry> {
        let mut fields = text.split(',');
        Some(Entry {
            codec: Codec::from_number(fields.next()?.parse().ok()?),
            size: fields.next()?.parse().ok(),
            length: fields.next()?.parse().ok()?,
            base: fields.next().and_then(|base| base.parse().ok()),
        })
    }
}

/// The entries of a block, from its `pieces` column.
pub(super) fn entries(pieces: &str) -> impl Iterator<Item = Option<Entry>> {
    pieces.split_terminator(';').map(Entry::read)
}

/// A block as it goes to the database.
pub(super) struct BlockRow {
    pub id: i64,
    pub codec: Codec,
    pub size: u64,
    pub pieces: String,
    pub data: Vec<u8>,
}

/// Gathers pieces; its working memory is used again for each block.
pub(super) struct Gatherer {
    next: i64,
    count: usize,
    pieces: String,
    data: Vec<u8>,
    // Without memory for it blocks are stored as they are.
    press: Option<zstd::bulk::Compressor<'static>>,
    pressed: Vec<u8>,
}

impl Gatherer {
    /// `next` is the first free block.
    pub(super) fn new(next: i64) -> Gatherer {
        let press = zstd::bulk::Compressor::new(LEVEL).ok();
        Gatherer { next, count: 0, pieces: String::new(), data: Vec::new(), press, pressed: Vec::new() }
    }

    /// Adds a piece, `data` packed with `codec` and of `size` bytes unpacked; gives its number. [`Gatherer::close_full`]
    /// between the calls keeps blocks small.
    pub(super) fn add(&mut self, codec: Codec, data: &[u8], size: usize, base: Option<i64>) -> i64 {
        let number = piece_number(self.next, self.count);
        self.count += 1;
        Entry::write(codec, size, data.len(), base, &mut self.pieces);
        self.data.extend_from_slice(data);
        number
    }

    /// How many bytes wait in the open block.
    pub(super) fn open_bytes(&self) -> usize {
        self.data.len()
    }

    /// The open block, if it is full.
    pub(super) fn close_full(&mut self) -> Option<BlockRow> {
        (self.data.len() >= FULL || self.count >= (1 << INDEX_BITS) - 8).then(|| self.close()).flatten()
    }

    /// The open block, unless it is empty.
    pub(super) fn close(&mut self) -> Option<BlockRow> {
        if self.count == 0 {
            return None;
        }
        let id = self.next;
        self.next += 1;
        self.count = 0;
        let (pieces, size) = (std::mem::take(&mut self.pieces), self.data.len() as u64);
        let (codec, data) = match self.compress() {
            Ok(()) if self.pressed.len() < self.data.len() => (Codec::Zstd, self.pressed.clone()),
            _ => (Codec::Raw, self.data.clone()),
        };
        self.data.clear();
        // One huge body's memory is not kept for ever.
        self.data.shrink_to(4 * FULL);
        self.pressed.shrink_to(4 * FULL);
        Some(BlockRow { id, codec, size, pieces, data })
    }

    fn compress(&mut self) -> io::Result<()> {
        self.pressed.clear();
        self.pressed.reserve(zstd::zstd_safe::compress_bound(self.data.len()));
        let press = self.press.as_mut().ok_or_else(|| io::Error::other("no compressor"))?;
        press.compress_to_buffer(&self.data, &mut self.pressed).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_reads_as_it_was_written() {
        let mut text = String::new();
        Entry::write(Codec::Delta, 70_000, 12, Some(piece_number(7, 3)), &mut text);
        Entry::write(Codec::Raw, 0, 0, None, &mut text);
        let read: Vec<Entry> = entries(&text).map(Option::unwrap).collect();
        assert_eq!(
            read[0],
            Entry { codec: Some(Codec::Delta), size: Some(70_000), length: 12, base: Some(7 << 16 | 3) }
        );
        assert_eq!(read[1], Entry { codec: Some(Codec::Raw), size: Some(0), length: 0, base: None });
        assert_eq!(entries("1,2;nonsense;").collect::<Vec<_>>(), [None, None]);
        assert_eq!(place_of(piece_number(1 << 40, 65_535)), (1 << 40, 65_535));
    }

    #[test]
    fn a_block_closes_when_it_is_full_and_numbers_go_on() {
        let mut gatherer = Gatherer::new(5);
        assert!(gatherer.close().is_none());
        let piece = vec![7; FULL / 2];
        assert_eq!(place_of(gatherer.add(Codec::Raw, &piece, FULL / 2, None)), (5, 0));
        assert!(gatherer.close_full().is_none());
        assert_eq!(place_of(gatherer.add(Codec::Raw, &piece, FULL / 2, None)), (5, 1));
        let row = gatherer.close_full().unwrap();
        assert_eq!((row.id, row.codec, row.size), (5, Codec::Zstd, FULL as u64));
        assert!(row.data.len() < 1_000);
        assert_eq!(gatherer.open_bytes(), 0);
        assert_eq!(place_of(gatherer.add(Codec::Raw, &piece, FULL / 2, None)), (6, 0));
    }
}
