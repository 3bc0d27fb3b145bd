//! Reads what the writer wrote, from any number of threads.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use duckdb::types::Value as Sql;
use duckdb::{Connection, Row, params, params_from_iter};
use serde_json::Value;

use super::blobs::{Pieces, chain_keys};
use super::columns::{
    CALL_COLUMNS, COST_SUMS, FINDING_COLUMNS, PROCESS_COLUMNS, TURN_COLUMNS, USAGE_SUMS, call_summary, finding_row,
    process_row, session_row, turn_summary,
};
use super::filter::{CallFilter, Clause, Page, TurnFilter, text};
use super::location::another;
use super::rows::hugeint;
use super::summary::{
    CallDetail, CallSummary, FindingRow, MessageDetail, ProcessRow, SessionRow, StoredDetail, TurnDetail, TurnSummary,
};
use super::{StoreError, metrics};

type Read<T> = Result<T, StoreError>;

/// The largest page.
const LIMIT_MAX: usize = 2_000;

/// Reads the database. Each thread that reads has a connection of its own; all see what is committed.
pub struct Reader {
    base: Mutex<Connection>,
    idle: Mutex<Vec<Connection>>,
}

impl Reader {
    pub(super) fn new(connection: Connection) -> Reader {
        Reader { base: Mutex::new(connection), idle: Mutex::new(Vec::new()) }
    }

    fn with<T>(&self, read: impl FnOnce(&Connection) -> Read<T>) -> Read<T> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = match idle {
            Some(connection) => connection,
            None => another(&self.base.lock().unwrap_or_else(PoisonError::into_inner))?,
        };
        let outcome = read(&connection);
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < 8 {
            idle.push(connection);
        }
        outcome
    }

    /// A page of calls, newest first.
    ///
    /// # Errors
    /// When the database fails.
    pub fn calls(&self, filter: &CallFilter, page: &Page) -> Read<Vec<CallSummary>> {
        let mut clause = Clause::default();
        filter.add_to(&mut clause);
        clause.page(page, "calls.started_ns", "calls.id");
        let limit = page.limit.clamp(1, LIMIT_MAX);
        self.with(|connection| {
            if !clause.begin_at_oldest(connection, "calls", limit)? {
                return Ok(Vec::new());
            }
            let query =
                format!("{CALL_COLUMNS} {} ORDER BY calls.started_ns DESC, calls.id DESC LIMIT {limit}", clause.text());
            rows(connection, &query, clause.values, call_summary)
        })
    }

    /// When a call began, for a page's position.
    ///
    /// # Errors
    /// When the database fails.
    pub fn call_start(&self, id: &str) -> Read<Option<u64>> {
        self.with(|connection| {
            let found =
                rows(connection, "SELECT started_ns FROM calls WHERE id = ?", vec![text(id)], |row| row.get(0))?;
            Ok(found.first().map(|nanos: &i64| u64::try_from(*nanos).unwrap_or(0)))
        })
    }

    /// Calls of a turn or of a list of ids, oldest first.
    ///
    /// # Errors
    /// When the database fails.
    pub fn calls_by_id(&self, ids: &[String]) -> Read<Vec<CallSummary>> {
        let mut found = Vec::with_capacity(ids.len());
        for ids in ids.chunks(500) {
            let marks = vec!["?"; ids.len()].join(",");
            let query = format!("{CALL_COLUMNS} WHERE calls.id IN ({marks}) ORDER BY calls.started_ns, calls.id");
            let values = ids.iter().map(|id| text(id)).collect();
            found.extend(self.with(|connection| rows(connection, &query, values, call_summary))?);
        }
        Ok(found)
    }

    /// One call with its headers, messages, tools and times.
    ///
    /// # Errors
    /// When the database fails.
    pub fn call(&self, id: &str) -> Read<Option<CallDetail>> {
        self.with(|connection| {
            let query = format!("{CALL_COLUMNS} WHERE calls.id = ?");
            let Some(summary) = rows(connection, &query, vec![text(id)], call_summary)?.into_iter().next() else {
                return Ok(None);
            };
            let query = "SELECT chain_blob, tools_blob, detail_blob FROM calls WHERE id = ?";
            let (chain, tools, detail): (Option<i64>, Option<i64>, Option<i64>) =
                connection.query_row(query, params![id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
            let mut pieces = Pieces::new(connection);
            let stored: StoredDetail = match detail {
                Some(detail) => parse(&pieces.load(detail)?)?,
                None => StoredDetail::default(),
            };
            let tools = match tools {
                Some(tools) => parse(&pieces.load(tools)?)?,
                None => Value::Array(Vec::new()),
            };
            let conversation_messages = match chain {
                Some(chain) => messages(connection, &chain_keys(&pieces.load(chain)?))?,
                None => Vec::new(),
            };
            Ok(Some(CallDetail { summary, stored, conversation_messages, tools }))
        })
    }

    /// A call's body as it was captured; empty when there was none, `None` when there is no such call.
    ///
    /// # Errors
    /// When the database fails, or what it has is damaged.
    pub fn body(&self, id: &str, of_request: bool) -> Read<Option<Vec<u8>>> {
        let column = if of_request { "request_blob" } else { "response_blob" };
        self.with(|connection| {
            let query = format!("SELECT {column} FROM calls WHERE id = ?");
            let found = rows(connection, &query, vec![text(id)], |row| row.get::<_, Option<i64>>(0))?;
            match found.first() {
                None => Ok(None),
                Some(None) => Ok(Some(Vec::new())),
                Some(Some(piece)) => Pieces::new(connection).load(*piece).map(Some),
            }
        })
    }

    /// A page of turns, newest first.
    ///
    /// # Errors
    /// When the database fails.
    pub fn turns(&self, filter: &TurnFilter, page: &Page) -> Read<Vec<TurnSummary>> {
        let mut clause = Clause::default();
        clause.equals("turns.session_id", filter.session.as_deref());
        clause.equals("turns.agent_kind", filter.agent.as_deref());
        clause.equals("turns.status", filter.status.as_deref());
        if let Some(words) = &filter.text {
            clause.add(
                "contains(lower(turns.prompt || ' ' || turns.answer || ' ' || turns.models), lower(?))",
                text(words),
            );
        }
        clause.page(page, "turns.started_ns", "turns.id");
        let limit = page.limit.clamp(1, LIMIT_MAX);
        self.with(|connection| {
            if !clause.begin_at_oldest(connection, "turns", limit)? {
                return Ok(Vec::new());
            }
            let query =
                format!("{TURN_COLUMNS} {} ORDER BY turns.started_ns DESC, turns.id DESC LIMIT {limit}", clause.text());
            rows(connection, &query, clause.values, turn_summary)
        })
    }

    /// When a turn began, for a page's position.
    ///
    /// # Errors
    /// When the database fails.
    pub fn turn_start(&self, id: &str) -> Read<Option<u64>> {
        self.with(|connection| {
            let found =
                rows(connection, "SELECT started_ns FROM turns WHERE id = ?", vec![text(id)], |row| row.get(0))?;
            Ok(found.first().map(|nanos: &i64| u64::try_from(*nanos).unwrap_or(0)))
        })
    }

    /// One turn with its steps, calls, findings and sub-agents' turns.
    ///
    /// # Errors
    /// When the database fails.
    pub fn turn(&self, id: &str) -> Read<Option<TurnDetail>> {
        let query = format!("{TURN_COLUMNS} WHERE turns.id = ?");
        let found = self.with(|connection| {
            let turn = rows(connection, &query, vec![text(id)], turn_summary)?.into_iter().next();
            let steps =
                rows(connection, "SELECT steps_blob FROM turns WHERE id = ?", vec![text(id)], |row| row.get(0))?;
            let steps = match steps.into_iter().next().flatten() {
                Some(piece) => Pieces::new(connection).load(piece)?,
                None => b"[]".to_vec(),
            };
            Ok(turn.map(|turn| (turn, steps)))
        })?;
        let Some((turn, steps)) = found else { return Ok(None) };
        let calls = self.calls_by_id(&turn.call_ids)?;
        let findings = self.findings_of_turn(id)?;
        let sub_turns = self.sub_turns(id)?;
        let attributes = turn.attributes();
        Ok(Some(TurnDetail { turn, steps: parse(&steps)?, calls, findings, sub_turns, attributes }))
    }

    /// Turns of sub-agents that a turn started, oldest first.
    ///
    /// # Errors
    /// When the database fails.
    pub fn sub_turns(&self, id: &str) -> Read<Vec<TurnSummary>> {
        let query = format!("{TURN_COLUMNS} WHERE turns.parent_turn_id = ? ORDER BY turns.started_ns, turns.id");
        self.with(|connection| rows(connection, &query, vec![text(id)], turn_summary))
    }

    /// Sessions, the most recently active first; all of them or one.
    ///
    /// # Errors
    /// When the database fails.
    pub fn sessions(&self, only: Option<&str>, limit: usize) -> Read<Vec<SessionRow>> {
        let (clause, values) = match only {
            Some(id) => ("WHERE session_id = ?", vec![text(id)]),
            None => ("", Vec::new()),
        };
        let limit = limit.clamp(1, LIMIT_MAX);
        let query = format!(
            "SELECT session_id, arg_min(agent_kind, started_ns), arg_min(agent_version, started_ns),
                    arg_min(agent_recognised_by, started_ns), min(started_ns), max(coalesce(ended_ns, started_ns)),
                    count(*), CAST(sum(calls) AS BIGINT), CAST(sum(errors) AS BIGINT), {USAGE_SUMS},
                    string_agg(DISTINCT models, chr(10)), arg_min(prompt, (parent_turn_id IS NOT NULL, started_ns)),
                    {COST_SUMS}
             FROM turns {clause} GROUP BY session_id ORDER BY 6 DESC, 1 LIMIT {limit}"
        );
        self.with(|connection| rows(connection, &query, values, session_row))
    }

    /// Findings, newest first.
    ///
    /// # Errors
    /// When the database fails.
    pub fn findings(&self, limit: usize) -> Read<Vec<FindingRow>> {
        let query = format!("{FINDING_COLUMNS} ORDER BY at_ns DESC LIMIT {}", limit.clamp(1, LIMIT_MAX));
        self.with(|connection| rows(connection, &query, Vec::new(), finding_row))
    }

    /// Findings of one turn, oldest first.
    ///
    /// # Errors
    /// When the database fails.
    pub fn findings_of_turn(&self, id: &str) -> Read<Vec<FindingRow>> {
        let query = format!("{FINDING_COLUMNS} WHERE turn_id = ? ORDER BY at_ns");
        self.with(|connection| rows(connection, &query, vec![text(id)], finding_row))
    }

    /// Watched processes, newest first, each with the image it ran last.
    ///
    /// # Errors
    /// When the database fails.
    pub fn processes(&self, limit: usize) -> Read<Vec<ProcessRow>> {
        let query =
            format!("{PROCESS_COLUMNS} ORDER BY last.started DESC, last.pid DESC LIMIT {}", limit.clamp(1, LIMIT_MAX));
        self.with(|connection| rows(connection, &query, Vec::new(), process_row))
    }

    /// Aggregates over the calls that began between two times (nanoseconds), housekeeping left out. Percentiles are those
    /// of a sample when there are more than 100,000 calls.
    ///
    /// # Errors
    /// When the database fails.
    pub fn metrics(&self, from: u64, to: u64) -> Read<Value> {
        self.with(|connection| metrics::read(connection, from, to, metrics::SAMPLE))
    }

    /// When the newest call began, in nanoseconds.
    ///
    /// # Errors
    /// When the database fails.
    pub fn newest_call(&self) -> Read<Option<u64>> {
        self.with(|connection| {
            let newest: Option<i64> =
                connection.query_row("SELECT max(started_ns) FROM calls", [], |row| row.get(0))?;
            Ok(newest.map(|nanos| u64::try_from(nanos).unwrap_or(0)))
        })
    }
}

fn rows<T>(
    connection: &Connection,
    query: &str,
    values: Vec<Sql>,
    read: impl FnMut(&Row<'_>) -> duckdb::Result<T>,
) -> Read<Vec<T>> {
    let mut statement = connection.prepare_cached(query)?;
    let found = statement.query_map(params_from_iter(values), read)?.collect::<duckdb::Result<Vec<T>>>()?;
    Ok(found)
}

fn parse<T: serde::de::DeserializeOwned>(json: &[u8]) -> Read<T> {
    serde_json::from_slice(json).map_err(|error| StoreError::new(format!("a stored row is damaged: {error}")))
}

/// Rows that are no farther apart than this are read in one go.
const NEAR: i64 = 64;

/// The messages at `keys`. The addresses are looked up first: reading the texts of all messages to find a few would cost
/// the whole table, while rows are found by their number at once.
fn messages(connection: &Connection, keys: &[u128]) -> Read<Vec<MessageDetail>> {
    let mut found: HashMap<i128, i64> = HashMap::new();
    for keys in keys.chunks(1_000) {
        let list: Vec<String> = keys.iter().map(|key| format!("{}::HUGEINT", hugeint(*key))).collect();
        let query = format!("SELECT key, min(id) FROM messages WHERE key IN ({}) GROUP BY key", list.join(","));
        let mut statement = connection.prepare(&query)?;
        let mut answers = statement.query([])?;
        while let Some(row) = answers.next()? {
            found.insert(row.get(0)?, row.get(1)?);
        }
    }
    let mut ids: Vec<i64> = found.values().copied().collect();
    ids.sort_unstable();
    let mut texts: HashMap<i64, MessageDetail> = HashMap::new();
    let mut statement =
        connection.prepare_cached("SELECT id, hash, role, content FROM messages WHERE id BETWEEN ? AND ?")?;
    for near in ids.chunk_by(|before, after| after - before <= NEAR) {
        let (Some(first), Some(last)) = (near.first(), near.last()) else { continue };
        let mut answers = statement.query(params![first, last])?;
        while let Some(row) = answers.next()? {
            let id: i64 = row.get(0)?;
            if near.binary_search(&id).is_ok() {
                let content: String = row.get(3)?;
                let message =
                    MessageDetail { hash: row.get(1)?, role: row.get(2)?, content: parse(content.as_bytes())? };
                texts.insert(id, message);
            }
        }
    }
    let message = |key: &u128| found.get(&hugeint(*key)).and_then(|id| texts.get(id)).cloned();
    Ok(keys.iter().filter_map(message).collect())
}
