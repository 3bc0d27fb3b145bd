//! Packed bytes out of the database, whole again.

use duckdb::{Connection, params};

use super::StoreError;
use super::body::{Codec, unpack};
use super::references::KEYFRAME_EVERY;

struct Stored {
    base: Option<i64>,
    codec: i64,
    size: i64,
    data: Vec<u8>,
}

/// The bytes of row `id`, byte for byte as they were captured.
pub(super) fn load(connection: &Connection, id: i64) -> Result<Vec<u8>, StoreError> {
    load_with(connection, id, |_| None)
}

/// As [`load`]; `known` may have bytes of an earlier row.
pub(super) fn load_with<'a>(
    connection: &Connection,
    id: i64,
    known: impl Fn(i64) -> Option<&'a [u8]>,
) -> Result<Vec<u8>, StoreError> {
    let mut statement = connection.prepare_cached("SELECT base, codec, size, data FROM blobs WHERE id = ?")?;
    let mut chain: Vec<Stored> = Vec::new();
    let mut bytes: Option<Vec<u8>> = None;
    let mut next = Some(id);
    while let Some(id) = next {
        if let Some(found) = known(id) {
            bytes = Some(found.to_vec());
            break;
        }
        if chain.len() > KEYFRAME_EVERY as usize {
            return Err(StoreError::new(format!("the stored body {id} is damaged: its bases never end")));
        }
        let stored = statement.query_row(params![id], |row| {
            Ok(Stored { base: row.get(0)?, codec: row.get(1)?, size: row.get(2)?, data: row.get(3)? })
        })?;
        next = stored.base;
        chain.push(stored);
    }
    while let Some(stored) = chain.pop() {
        let codec = Codec::from_number(stored.codec)
            .ok_or_else(|| StoreError::new(format!("the stored body {id} was packed by a newer heron")))?;
        let size = usize::try_from(stored.size).unwrap_or(0);
        let unpacked = unpack(codec, &stored.data, bytes.as_deref(), size);
        bytes = Some(unpacked.map_err(|error| StoreError::new(error.to_string()))?);
    }
    Ok(bytes.unwrap_or_default())
}

/// The addresses in a chain's bytes.
pub(super) fn chain_keys(bytes: &[u8]) -> Vec<u128> {
    bytes.as_chunks::<16>().0.iter().map(|key| u128::from_le_bytes(*key)).collect()
}
