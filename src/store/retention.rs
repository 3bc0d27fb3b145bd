//! Keeps the database within a time and a size.
//!
//! The surprising fact: DuckDB gives the room of deleted rows back only when a whole row group (122,880 rows) is gone, and a
//! file has few of those. So a table that is dead to a good part is written anew; its old blocks are then free, and are
//! filled before the file grows.

use std::collections::{HashSet, VecDeque};
use std::path::Path;

use duckdb::{Connection, params};

use super::blobs::{Pieces, chain_keys};
use super::block::{entries, piece_number};
use super::rows::{append_all, hugeint, signed};
use super::{StoreError, schema};
use crate::event::Nanos;

/// Chains of messages that are at hand while pruning.
const RECENT_CHAINS: usize = 64;
/// A database that is too large is cut to this share, so that it is not cut again at once.
const CUT_TO: f64 = 0.8;
/// A table is written anew when one in so many of its rows is deleted.
const DEAD_ONE_IN: i64 = 5;
/// The tables that weigh something.
const HEAVY_TABLES: [&str; 4] = ["blocks", "messages", "calls", "turns"];

/// What is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Keep {
    /// Calls younger than this; `None` for any age.
    pub max_age: Option<Nanos>,
    /// The newest calls as long as the data in the file (its used blocks) is not more than this; `None` for any size.
    pub max_bytes: Option<u64>,
}

/// What was deleted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Pruned {
    /// How many calls.
    pub calls: u64,
    /// How many turns.
    pub turns: u64,
}

pub(super) fn prune(
    connection: &Connection,
    path: Option<&Path>,
    keep: &Keep,
    now: Nanos,
) -> Result<Pruned, StoreError> {
    let by_age = keep.max_age.map(|age| signed(now.0.saturating_sub(age.0)));
    let by_size = match (keep.max_bytes, path) {
        (Some(max), Some(path)) => cut_by_size(connection, path, max)?,
        _ => None,
    };
    let Some(before) = by_age.max(by_size) else { return Ok(Pruned::default()) };
    let pruned = in_transaction(connection, || delete_before(connection, before))?;
    if pruned != Pruned::default() {
        // From here on the rows are gone, whatever becomes of their room: it is looked at again after the next removal.
        match reclaim(connection) {
            Ok(()) => {}
            Err(error) => tracing::warn!("the room of deleted calls is not free yet: {error}"),
        }
    }
    Ok(pruned)
}

fn in_transaction<T>(connection: &Connection, change: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    connection.execute_batch("BEGIN")?;
    match change() {
        Ok(value) => {
            connection.execute_batch("COMMIT")?;
            Ok(value)
        }
        Err(error) => {
            let _ = connection.execute_batch("ROLLBACK");
            Err(error)
        }
    }
}

/// The start time before which calls go so that the rest fits: each call's share of the data is taken as equal.
fn cut_by_size(connection: &Connection, path: &Path, max: u64) -> Result<Option<i64>, StoreError> {
    let length = std::fs::metadata(path).map(|found| found.len()).unwrap_or(0);
    if length <= max {
        return Ok(None);
    }
    connection.execute_batch("CHECKPOINT")?;
    let mut size = used_bytes(connection)?;
    if size > max {
        // Rows that are deleted already may be what takes the room.
        reclaim(connection)?;
        size = used_bytes(connection)?;
    }
    if size <= max {
        return Ok(None);
    }
    let calls: i64 = connection.query_row("SELECT count(*) FROM calls", [], |row| row.get(0))?;
    let kept = (calls as f64 * (max as f64 * CUT_TO) / size as f64) as i64;
    let cut = connection.query_row(
        "SELECT min(started_ns) FROM (SELECT started_ns FROM calls ORDER BY started_ns DESC LIMIT ?)",
        params![kept.max(0)],
        |row| row.get::<_, Option<i64>>(0),
    )?;
    Ok(Some(cut.unwrap_or(i64::MAX)))
}

/// The bytes of the file's blocks that hold something.
fn used_bytes(connection: &Connection) -> Result<u64, StoreError> {
    let size: i64 = connection.query_row(
        "SELECT block_size * used_blocks FROM pragma_database_size() WHERE database_name = current_database()",
        [],
        |row| row.get(0),
    )?;
    Ok(u64::try_from(size).unwrap_or(0))
}

/// Frees the blocks of deleted rows.
fn reclaim(connection: &Connection) -> Result<(), StoreError> {
    connection.execute_batch("CHECKPOINT")?;
    let mut rewritten = false;
    for table in HEAVY_TABLES {
        let count = |query: String| connection.query_row(&query, [], |row| row.get::<_, i64>(0));
        let rows = count(format!(
            "SELECT coalesce(sum(count), 0)::BIGINT FROM pragma_storage_info('{table}')
             WHERE column_name = 'id' AND segment_type <> 'VALIDITY'"
        ))?;
        let dead = rows - count(format!("SELECT count(*) FROM {table}"))?;
        if dead > 0 && dead >= rows / DEAD_ONE_IN {
            in_transaction(connection, || rewrite(connection, table))?;
            rewritten = true;
        }
    }
    if rewritten {
        connection.execute_batch("CHECKPOINT")?;
    }
    Ok(())
}

/// Writes a table anew, with what is in it.
fn rewrite(connection: &Connection, table: &str) -> Result<(), StoreError> {
    let Some(definition) = schema::definition(table, &format!("{table}_kept")) else {
        return Err(StoreError::new(format!("the table {table} is unknown to this heron")));
    };
    connection.execute_batch(&format!(
        "{definition}
         INSERT INTO {table}_kept SELECT * FROM {table};
         DROP TABLE {table};
         ALTER TABLE {table}_kept RENAME TO {table};"
    ))?;
    Ok(())
}

fn delete_before(connection: &Connection, before: i64) -> Result<Pruned, StoreError> {
    let calls = connection.execute("DELETE FROM calls WHERE started_ns < ?", params![before])?;
    let turns = connection.execute(
        "DELETE FROM turns WHERE coalesce(ended_ns, started_ns) < ? AND status <> 'in_progress'",
        params![before],
    )?;
    let findings = connection.execute("DELETE FROM findings WHERE at_ns < ?", params![before])?;
    if calls == 0 && turns == 0 && findings == 0 {
        return Ok(Pruned::default()); // looking for bytes that nobody needs any more would read the whole database
    }
    connection.execute("DELETE FROM exits WHERE at_ns < ?", params![before])?;
    delete_unused_blocks(connection)?;
    connection.execute_batch(
        "DELETE FROM images WHERE image NOT IN (
            SELECT image FROM calls WHERE image IS NOT NULL UNION SELECT image FROM turns WHERE image IS NOT NULL)
            AND at_ns < (SELECT coalesce(min(started_ns), 0) FROM calls);",
    )?;
    if calls > 0 {
        delete_unused_messages(connection)?;
    }
    Ok(Pruned { calls: calls as u64, turns: turns as u64 })
}

/// Deletes blocks of which no kept call or turn needs a piece, directly or as the base of a difference. A base is older
/// than what refers to it, so one walk from the newest block to the oldest finds all.
fn delete_unused_blocks(connection: &Connection) -> Result<(), StoreError> {
    let mut needed: HashSet<i64> = connection
        .prepare(
            "SELECT unnest([request_blob, response_blob, chain_blob, tools_blob, detail_blob]) AS id FROM calls
             UNION ALL SELECT steps_blob FROM turns",
        )?
        .query_map([], |row| row.get::<_, Option<i64>>(0))?
        .filter_map(Result::transpose)
        .collect::<duckdb::Result<_>>()?;
    let mut unused: Vec<i64> = Vec::new();
    let mut statement = connection.prepare("SELECT id, pieces FROM blocks ORDER BY id DESC")?;
    let mut blocks = statement.query([])?;
    while let Some(row) = blocks.next()? {
        let (id, pieces): (i64, String) = (row.get(0)?, row.get(1)?);
        let mut is_needed = false;
        for (index, entry) in entries(&pieces).enumerate() {
            if needed.remove(&piece_number(id, index)) {
                is_needed = true;
                needed.extend(entry.and_then(|entry| entry.base));
            }
        }
        if !is_needed {
            unused.push(id);
        }
    }
    connection.execute_batch("CREATE OR REPLACE TEMP TABLE unused (id BIGINT)")?;
    append_all(connection, "unused", &unused, |appender, id| appender.append_row([*id]))?;
    connection.execute_batch("DELETE FROM blocks WHERE id IN (SELECT id FROM unused); DROP TABLE unused")?;
    Ok(())
}

/// Deletes messages that no kept call has in its conversation.
fn delete_unused_messages(connection: &Connection) -> Result<(), StoreError> {
    let chains: Vec<i64> = connection
        .prepare("SELECT DISTINCT chain_blob FROM calls WHERE chain_blob IS NOT NULL ORDER BY 1")?
        .query_map([], |row| row.get(0))?
        .collect::<duckdb::Result<_>>()?;
    let mut kept: HashSet<u128> = HashSet::new();
    // A chain's base is an earlier chain, mostly a recent one.
    let mut recent: VecDeque<(i64, Vec<u8>)> = VecDeque::new();
    let mut pieces = Pieces::new(connection);
    for chain in chains {
        let known = |id: i64| recent.iter().find(|(known, _)| *known == id).map(|(_, bytes)| bytes.as_slice());
        let bytes = pieces.load_with(chain, known)?;
        kept.extend(chain_keys(&bytes));
        recent.push_front((chain, bytes));
        recent.truncate(RECENT_CHAINS);
    }
    connection.execute_batch("CREATE OR REPLACE TEMP TABLE kept (key HUGEINT)")?;
    let keys: Vec<u128> = kept.into_iter().collect();
    append_all(connection, "kept", &keys, |appender, key| appender.append_row([hugeint(*key)]))?;
    connection.execute_batch("DELETE FROM messages WHERE key NOT IN (SELECT key FROM kept); DROP TABLE kept")?;
    Ok(())
}
