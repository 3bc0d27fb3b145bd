//! Packed bytes out of the database, whole again.

use std::rc::Rc;

use duckdb::{Connection, OptionalExt, params};

use super::StoreError;
use super::block::{Entry, entries, place_of};
use super::body::{Codec, unpack};
use super::references::KEYFRAME_EVERY;

/// Blocks at hand while pieces are read: one call's pieces are mostly in one.
const AT_HAND: usize = 4;

struct Block {
    id: i64,
    /// Where each piece begins, and what it is.
    pieces: Vec<(usize, Entry)>,
    data: Vec<u8>,
}

impl Block {
    fn piece(&self, index: usize) -> Option<(Entry, &[u8])> {
        let (start, entry) = self.pieces.get(index)?;
        Some((*entry, self.data.get(*start..)?.get(..entry.length)?))
    }
}

/// Reads pieces over one connection.
pub(super) struct Pieces<'c> {
    connection: &'c Connection,
    recent: Vec<Rc<Block>>,
}

impl<'c> Pieces<'c> {
    pub(super) fn new(connection: &'c Connection) -> Pieces<'c> {
        Pieces { connection, recent: Vec::new() }
    }

    /// The bytes of piece `id`, byte for byte as they were captured.
    pub(super) fn load(&mut self, id: i64) -> Result<Vec<u8>, StoreError> {
        self.load_with(id, |_| None)
    }

    /// As [`Pieces::load`]; `known` may have bytes of an earlier piece.
    pub(super) fn load_with<'a>(
        &mut self,
        id: i64,
        known: impl Fn(i64) -> Option<&'a [u8]>,
    ) -> Result<Vec<u8>, StoreError> {
        let mut chain: Vec<(Codec, Option<usize>, Vec<u8>)> = Vec::new();
        let mut bytes: Option<Vec<u8>> = None;
        let mut next = Some(id);
        while let Some(id) = next {
            if let Some(found) = known(id) {
                bytes = Some(found.to_vec());
                break;
            }
            if chain.len() > KEYFRAME_EVERY as usize {
                return Err(damaged(id, "its bases never end"));
            }
            let (block, index) = place_of(id);
            let block = self.block(block)?;
            let (entry, data) = block.piece(index).ok_or_else(|| damaged(id, "its block is cut"))?;
            let codec = entry.codec.ok_or_else(|| damaged(id, "a newer heron packed it"))?;
            chain.push((codec, entry.size, data.to_vec()));
            next = entry.base;
        }
        while let Some((codec, size, data)) = chain.pop() {
            let unpacked = unpack(codec, data, bytes.as_deref(), size);
            bytes = Some(unpacked.map_err(|error| StoreError::new(error.to_string()))?);
        }
        Ok(bytes.unwrap_or_default())
    }

    fn block(&mut self, id: i64) -> Result<Rc<Block>, StoreError> {
        if let Some(at) = self.recent.iter().position(|block| block.id == id) {
            let block = self.recent.remove(at);
            self.recent.push(Rc::clone(&block));
            return Ok(block);
        }
        let mut statement =
            self.connection.prepare_cached("SELECT codec, size, pieces, data FROM blocks WHERE id = ?")?;
        let row = statement
            .query_row(params![id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
            .optional()?;
        let (codec, size, pieces, data): (i64, i64, String, Vec<u8>) =
            row.ok_or_else(|| damaged(id << 16, "its block is missing"))?;
        let codec = Codec::from_number(codec).ok_or_else(|| damaged(id << 16, "a newer heron packed it"))?;
        let data = unpack(codec, data, None, usize::try_from(size).ok())
            .map_err(|error| StoreError::new(error.to_string()))?;
        let mut start = 0usize;
        let mut found = Vec::new();
        for entry in entries(&pieces) {
            let entry = entry.ok_or_else(|| damaged(id << 16, "its entry cannot be read"))?;
            found.push((start, entry));
            start = start.saturating_add(entry.length);
        }
        let block = Rc::new(Block { id, pieces: found, data });
        if self.recent.len() >= AT_HAND {
            self.recent.remove(0);
        }
        self.recent.push(Rc::clone(&block));
        Ok(block)
    }
}

fn damaged(id: i64, why: &str) -> StoreError {
    StoreError::new(format!("the stored body {id} is damaged: {why}"))
}

/// The addresses in a chain's bytes.
pub(super) fn chain_keys(bytes: &[u8]) -> Vec<u128> {
    bytes.as_chunks::<16>().0.iter().map(|key| u128::from_le_bytes(*key)).collect()
}
