//! Reads what the writer wrote, from any number of threads.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use duckdb::types::Value as Sql;
use duckdb::{Connection, Row, params, params_from_iter};
use serde_json::Value;

use super::StoreError;
use super::blobs;
use super::rows::{hugeint, signed};
use super::summary::{
    AgentBrief, CallDetail, CallSummary, ErrorBrief, FindingRow, MessageDetail, ProcessBrief, ProcessRow, SessionRow,
    StoredDetail, TimeBrief, TurnDetail, TurnSummary,
};
use crate::event::Nanos;
use crate::wire::Usage;

type Read<T> = Result<T, StoreError>;

/// The largest page.
const LIMIT_MAX: usize = 2_000;

/// Which part of a list: newest first, below a position.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Page {
    /// How many rows; at most 2,000.
    pub limit: usize,
    /// Only rows that are older than this one: its start in nanoseconds and its id.
    pub before: Option<(u64, String)>,
}

/// Which calls.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs)]
pub struct CallFilter {
    pub model: Option<String>,
    pub wire_api: Option<String>,
    pub provider: Option<String>,
    pub status: Option<u16>,
    /// Only calls with (or without) an error.
    pub error: Option<bool>,
    pub auxiliary: Option<bool>,
    pub turn: Option<String>,
    pub session: Option<String>,
    pub pid: Option<u32>,
    /// Text in the prompt, the answer, the model, the process, or a message that the call was the first to send.
    pub text: Option<String>,
}

/// Which turns.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs)]
pub struct TurnFilter {
    pub session: Option<String>,
    pub agent: Option<String>,
    pub status: Option<String>,
    pub text: Option<String>,
}

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
            None => self.base.lock().unwrap_or_else(PoisonError::into_inner).try_clone()?,
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
        let query =
            format!("{CALL_COLUMNS} {} ORDER BY calls.started_ns DESC, calls.id DESC LIMIT {limit}", clause.text());
        self.with(|connection| rows(connection, &query, clause.values, call_summary))
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
            let stored: StoredDetail = match detail {
                Some(detail) => parse(&blobs::load(connection, detail)?)?,
                None => StoredDetail::default(),
            };
            let tools = match tools {
                Some(tools) => parse(&blobs::load(connection, tools)?)?,
                None => Value::Array(Vec::new()),
            };
            let conversation_messages = match chain {
                Some(chain) => messages(connection, &blobs::chain_keys(&blobs::load(connection, chain)?))?,
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
                Some(Some(blob)) => blobs::load(connection, *blob).map(Some),
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
        let query =
            format!("{TURN_COLUMNS} {} ORDER BY turns.started_ns DESC, turns.id DESC LIMIT {limit}", clause.text());
        self.with(|connection| rows(connection, &query, clause.values, turn_summary))
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
            let steps = rows(connection, "SELECT steps FROM turns WHERE id = ?", vec![text(id)], |row| row.get(0))?;
            let steps: Option<Vec<u8>> = steps.into_iter().next();
            Ok(turn.zip(steps))
        })?;
        let Some((turn, steps)) = found else { return Ok(None) };
        let steps = zstd::stream::decode_all(steps.as_slice())
            .map_err(|error| StoreError::new(format!("the steps of turn {id} are damaged: {error}")))?;
        let calls = self.calls_by_id(&turn.call_ids)?;
        let findings = self.findings_of_turn(id)?;
        let sub_turns = self.sub_turns(id)?;
        Ok(Some(TurnDetail { turn, steps: parse(&steps)?, calls, findings, sub_turns }))
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
                    string_agg(DISTINCT models, chr(10)), arg_min(prompt, (parent_turn_id IS NOT NULL, started_ns))
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

    /// Aggregates over the calls that began between two times (nanoseconds), housekeeping left out.
    ///
    /// # Errors
    /// When the database fails.
    pub fn metrics(&self, from: u64, to: u64) -> Read<Value> {
        self.with(|connection| {
            let range = || vec![Sql::BigInt(signed(from)), Sql::BigInt(signed(to))];
            let query = format!("SELECT {METRIC_COLUMNS}, NULL FROM calls WHERE {IN_RANGE}");
            let total = rows(connection, &query, range(), metric_row)?.into_iter().next();
            let mut answer = total.map(|(_, total)| total).unwrap_or_default();
            for (name, column) in [("models", "coalesce(response_model, request_model, 'unknown')"), ("providers", "provider")] {
                let query = format!(
                    "SELECT {METRIC_COLUMNS}, {column} FROM calls WHERE {IN_RANGE} GROUP BY {column} ORDER BY 1 DESC, {column} LIMIT 50"
                );
                let groups = rows(connection, &query, range(), metric_row)?.into_iter().map(|(group, mut row)| {
                    row.insert("name".to_owned(), group.unwrap_or_default().into());
                    Value::Object(row)
                });
                answer.insert(name.to_owned(), Value::Array(groups.collect()));
            }
            let step = (to.saturating_sub(from) / 60).max(1_000_000_000);
            let query = format!(
                "SELECT {METRIC_COLUMNS}, CAST((started_ns - {from}) // {step} AS VARCHAR) FROM calls WHERE {IN_RANGE} GROUP BY ALL",
                from = signed(from)
            );
            let mut series: Vec<(u64, Value)> = rows(connection, &query, range(), metric_row)?
                .into_iter()
                .map(|(bucket, mut row)| {
                    let bucket: u64 = bucket.and_then(|bucket| bucket.parse().ok()).unwrap_or(0);
                    row.insert("at".to_owned(), Nanos(from + bucket * step).rfc3339().into());
                    (bucket, Value::Object(row))
                })
                .collect();
            series.sort_by_key(|(bucket, _)| *bucket);
            answer.insert("step_ms".to_owned(), (step / 1_000_000).into());
            answer.insert("series".to_owned(), series.into_iter().map(|(_, row)| row).collect());
            Ok(Value::Object(answer))
        })
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

/// A `WHERE` clause in the making.
#[derive(Default)]
struct Clause {
    parts: Vec<String>,
    values: Vec<Sql>,
}

impl Clause {
    fn add(&mut self, part: &str, value: Sql) {
        self.parts.push(part.to_owned());
        self.values.push(value);
    }

    fn equals(&mut self, column: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.add(&format!("{column} = ?"), text(value));
        }
    }

    fn page(&mut self, page: &Page, time: &str, id: &str) {
        if let Some((before, before_id)) = &page.before {
            self.parts.push(format!("({time} < ? OR ({time} = ? AND {id} < ?))"));
            let before = Sql::BigInt(signed(*before));
            self.values.extend([before.clone(), before, text(before_id)]);
        }
    }

    fn text(&self) -> String {
        if self.parts.is_empty() { String::new() } else { format!("WHERE {}", self.parts.join(" AND ")) }
    }
}

impl CallFilter {
    fn add_to(&self, clause: &mut Clause) {
        if let Some(model) = &self.model {
            clause.parts.push("(calls.request_model = ? OR calls.response_model = ?)".to_owned());
            clause.values.extend([text(model), text(model)]);
        }
        clause.equals("calls.wire_api", self.wire_api.as_deref());
        clause.equals("calls.provider", self.provider.as_deref());
        clause.equals("calls.turn_id", self.turn.as_deref());
        clause.equals("calls.session_id", self.session.as_deref());
        if let Some(status) = self.status {
            clause.add("calls.status = ?", Sql::Int(i32::from(status)));
        }
        if let Some(pid) = self.pid {
            clause.add("calls.pid = ?", Sql::BigInt(i64::from(pid)));
        }
        if let Some(auxiliary) = self.auxiliary {
            clause.add("calls.auxiliary = ?", Sql::Boolean(auxiliary));
        }
        match self.error {
            Some(true) => clause.parts.push("calls.error_kind IS NOT NULL".to_owned()),
            Some(false) => clause.parts.push("calls.error_kind IS NULL".to_owned()),
            None => {}
        }
        if let Some(words) = &self.text {
            clause.parts.push(
                "(contains(lower(concat_ws(' ', calls.prompt, calls.preview, calls.request_model, calls.response_model, \
                 calls.wire_api, calls.error_kind, calls.error_message, images.exe, images.cmdline)), lower(?)) \
                 OR calls.id IN (SELECT first_call FROM messages WHERE contains(lower(content), lower(?))))"
                    .to_owned(),
            );
            clause.values.extend([text(words), text(words)]);
        }
    }
}

fn text(value: &str) -> Sql {
    Sql::Text(value.to_owned())
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

const CALL_COLUMNS: &str = "SELECT calls.id, calls.turn_id, calls.session_id, calls.auxiliary, calls.started_ns, \
    calls.ttft_ns, calls.duration_ns, calls.wire_api, calls.provider, calls.server_kind, calls.operation, \
    calls.request_model, calls.response_model, calls.stream, calls.status, calls.error_kind, calls.error_message, \
    calls.finish_reason, calls.input_uncached, calls.cache_read, calls.cache_write_5m, calls.cache_write_1h, \
    calls.output_text, calls.output_reasoning, calls.input_total, calls.output_total, calls.tool_calls, \
    calls.tools_offered, calls.messages, calls.request_bytes, calls.response_bytes, calls.flaws, calls.pid, \
    calls.client, calls.server, calls.prompt, calls.preview, images.exe, images.comm, images.cmdline, calls.hop_of \
    FROM calls LEFT JOIN images ON images.image = calls.image";

const TURN_COLUMNS: &str = "SELECT turns.id, turns.session_id, turns.parent_turn_id, turns.agent_kind, \
    turns.agent_version, turns.agent_recognised_by, turns.status, turns.prompt, turns.answer, turns.call_ids, \
    turns.tool_calls, turns.models, turns.errors, turns.input_uncached, turns.cache_read, turns.cache_write_5m, \
    turns.cache_write_1h, turns.output_text, turns.output_reasoning, turns.input_total, turns.output_total, \
    turns.started_ns, turns.ended_ns, turns.model_ns, turns.tool_ns, turns.user_ns, turns.idle_ns, turns.pid, \
    images.exe, images.comm, images.cmdline \
    FROM turns LEFT JOIN images ON images.image = turns.image";

const USAGE_SUMS: &str = "CAST(sum(input_uncached) AS BIGINT), CAST(sum(cache_read) AS BIGINT), \
    CAST(sum(cache_write_5m) AS BIGINT), CAST(sum(cache_write_1h) AS BIGINT), CAST(sum(output_text) AS BIGINT), \
    CAST(sum(output_reasoning) AS BIGINT), CAST(sum(input_total) AS BIGINT), CAST(sum(output_total) AS BIGINT)";

const FINDING_COLUMNS: &str = "SELECT kind, severity, sentence, turn_id, session_id, call_ids, at_ns FROM findings";

const PROCESS_COLUMNS: &str = "SELECT last.pid, last.parent_pid, last.exe, last.comm, last.cmdline, last.cwd, last.uid, \
    last.container, agents.agent, coalesce(counts.calls, 0), last.started, ends.at_ns, ends.status \
    FROM (SELECT pid, process_start, arg_max(parent_pid, image) AS parent_pid, arg_max(exe, image) AS exe, \
            arg_max(comm, image) AS comm, arg_max(cmdline, image) AS cmdline, arg_max(cwd, image) AS cwd, \
            arg_max(uid, image) AS uid, arg_max(container, image) AS container, min(at_ns) AS started \
          FROM images GROUP BY pid, process_start) AS last \
    LEFT JOIN (SELECT pid, process_start, count(*) AS calls FROM calls GROUP BY ALL) AS counts USING (pid, process_start) \
    LEFT JOIN (SELECT pid, process_start, arg_max(agent_kind, started_ns) AS agent FROM turns GROUP BY pid, process_start) \
        AS agents USING (pid, process_start) \
    LEFT JOIN (SELECT pid, process_start, max(at_ns) AS at_ns, arg_max(status, at_ns) AS status FROM exits \
        GROUP BY pid, process_start) AS ends USING (pid, process_start)";

const IN_RANGE: &str = "started_ns >= ? AND started_ns <= ? AND NOT auxiliary";

const METRIC_COLUMNS: &str = "count(*), count(error_kind), CAST(sum(input_uncached) AS BIGINT), \
    CAST(sum(cache_read) AS BIGINT), CAST(sum(cache_write_5m) AS BIGINT), CAST(sum(cache_write_1h) AS BIGINT), \
    CAST(sum(output_text) AS BIGINT), CAST(sum(output_reasoning) AS BIGINT), CAST(sum(input_total) AS BIGINT), \
    CAST(sum(output_total) AS BIGINT), quantile_cont(ttft_ns, 0.5), quantile_cont(ttft_ns, 0.9), \
    quantile_cont(ttft_ns, 0.99), quantile_cont(duration_ns, 0.5), quantile_cont(duration_ns, 0.9), \
    quantile_cont(duration_ns, 0.99)";

fn usage_at(row: &Row<'_>, from: usize) -> duckdb::Result<Usage> {
    let tokens = |at: usize| -> duckdb::Result<Option<u64>> {
        Ok(row.get::<_, Option<i64>>(from + at)?.map(|tokens| u64::try_from(tokens).unwrap_or(0)))
    };
    Ok(Usage {
        input_uncached: tokens(0)?,
        cache_read: tokens(1)?,
        cache_write_5m: tokens(2)?,
        cache_write_1h: tokens(3)?,
        output_text: tokens(4)?,
        output_reasoning: tokens(5)?,
        input_total: tokens(6)?,
        output_total: tokens(7)?,
    })
}

fn process_at(row: &Row<'_>, pid: usize, image: usize) -> duckdb::Result<Option<ProcessBrief>> {
    let Some(pid) = row.get::<_, Option<i64>>(pid)? else { return Ok(None) };
    Ok(Some(ProcessBrief {
        pid: u32::try_from(pid).unwrap_or(0),
        exe: row.get::<_, Option<String>>(image)?.unwrap_or_default(),
        comm: row.get::<_, Option<String>>(image + 1)?.unwrap_or_default(),
        cmdline: list(row.get(image + 2)?),
    }))
}

/// A JSON list in a column; empty when the column is.
fn list(json: Option<String>) -> Vec<String> {
    json.and_then(|json| serde_json::from_str(&json).ok()).unwrap_or_default()
}

fn count(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

fn at(row: &Row<'_>, column: usize) -> duckdb::Result<Nanos> {
    Ok(Nanos(count(row.get(column)?)))
}

fn millis(row: &Row<'_>, column: usize) -> duckdb::Result<Option<f64>> {
    Ok(row.get::<_, Option<i64>>(column)?.map(|nanos| Nanos(count(nanos)).as_millis_f64()))
}

fn call_summary(row: &Row<'_>) -> duckdb::Result<CallSummary> {
    let error_kind: Option<String> = row.get(15)?;
    let error_message: Option<String> = row.get(16)?;
    let tool_calls: String = row.get(26)?;
    let flaws: String = row.get(31)?;
    Ok(CallSummary {
        id: row.get(0)?,
        turn_id: row.get(1)?,
        session_id: row.get(2)?,
        auxiliary: row.get(3)?,
        started_at: at(row, 4)?.rfc3339(),
        ttft_ms: millis(row, 5)?,
        duration_ms: millis(row, 6)?,
        wire_api: row.get(7)?,
        provider: row.get(8)?,
        server_kind: row.get(9)?,
        operation: row.get(10)?,
        request_model: row.get(11)?,
        response_model: row.get(12)?,
        stream: row.get(13)?,
        status: row.get::<_, Option<i32>>(14)?.and_then(|status| u16::try_from(status).ok()),
        error: error_kind.map(|kind| ErrorBrief { kind, message: error_message.unwrap_or_default() }),
        finish_reason: row.get(17)?,
        usage: usage_at(row, 18)?,
        tool_calls: serde_json::from_str(&tool_calls).unwrap_or_default(),
        tools_offered: count(row.get(27)?),
        messages: count(row.get(28)?),
        request_bytes: count(row.get(29)?),
        response_bytes: count(row.get(30)?),
        flaws: flaws.split(',').filter(|flaw| !flaw.is_empty()).map(str::to_owned).collect(),
        process: process_at(row, 32, 37)?,
        client: row.get(33)?,
        server: row.get(34)?,
        prompt: row.get(35)?,
        preview: row.get(36)?,
        state: "done".to_owned(),
        hop_of: row.get(40)?,
    })
}

fn turn_summary(row: &Row<'_>) -> duckdb::Result<TurnSummary> {
    let models: String = row.get(11)?;
    let started = at(row, 21)?;
    let ended = row.get::<_, Option<i64>>(22)?.map(|ended| Nanos(count(ended)));
    let span = |column: usize| -> duckdb::Result<f64> { Ok(at(row, column)?.as_millis_f64()) };
    Ok(TurnSummary {
        id: row.get(0)?,
        session_id: row.get(1)?,
        parent_turn_id: row.get(2)?,
        agent: AgentBrief { kind: row.get(3)?, version: row.get(4)?, recognised_by: row.get(5)? },
        status: row.get(6)?,
        prompt: row.get(7)?,
        answer: row.get(8)?,
        call_ids: list(row.get(9)?),
        tool_calls: count(row.get(10)?),
        models: model_names(&models),
        errors: count(row.get(12)?),
        usage: usage_at(row, 13)?,
        started_at: started.rfc3339(),
        duration_ms: ended.map(|ended| ended.since(started).as_millis_f64()),
        time: TimeBrief { model_ms: span(23)?, tool_ms: span(24)?, user_ms: span(25)?, idle_ms: span(26)? },
        process: process_at(row, 27, 28)?,
    })
}

/// The names in one or more lines of `{"model": calls}`.
fn model_names(lines: &str) -> Vec<String> {
    let names = lines.lines().filter_map(|line| serde_json::from_str::<serde_json::Map<String, Value>>(line).ok());
    let names: std::collections::BTreeSet<String> =
        names.flat_map(|models| models.into_iter().map(|(name, _)| name)).collect();
    names.into_iter().collect()
}

fn session_row(row: &Row<'_>) -> duckdb::Result<SessionRow> {
    Ok(SessionRow {
        id: row.get(0)?,
        agent: AgentBrief { kind: row.get(1)?, version: row.get(2)?, recognised_by: row.get(3)? },
        first_at: at(row, 4)?.rfc3339(),
        last_at: at(row, 5)?.rfc3339(),
        turns: count(row.get(6)?),
        calls: count(row.get(7)?),
        errors: count(row.get(8)?),
        usage: usage_at(row, 9)?,
        models: model_names(&row.get::<_, Option<String>>(17)?.unwrap_or_default()),
        prompt: row.get::<_, Option<String>>(18)?.unwrap_or_default().chars().take(240).collect(),
    })
}

fn finding_row(row: &Row<'_>) -> duckdb::Result<FindingRow> {
    Ok(FindingRow {
        kind: row.get(0)?,
        severity: row.get(1)?,
        sentence: row.get(2)?,
        turn_id: row.get(3)?,
        session_id: row.get(4)?,
        call_ids: list(row.get(5)?),
        at: at(row, 6)?.rfc3339(),
    })
}

fn process_row(row: &Row<'_>) -> duckdb::Result<ProcessRow> {
    let number = |value: i64| u32::try_from(value).unwrap_or(0);
    Ok(ProcessRow {
        pid: number(row.get(0)?),
        parent: row.get::<_, Option<i64>>(1)?.map(number),
        exe: row.get(2)?,
        comm: row.get(3)?,
        cmdline: list(row.get(4)?),
        cwd: row.get(5)?,
        uid: number(row.get(6)?),
        container: row.get(7)?,
        agent: row.get(8)?,
        calls: count(row.get(9)?),
        started_at: at(row, 10)?.rfc3339(),
        ended_at: row.get::<_, Option<i64>>(11)?.map(|at| Nanos(count(at)).rfc3339()),
        exit_status: row.get(12)?,
    })
}

/// One line of aggregates and its group's name.
fn metric_row(row: &Row<'_>) -> duckdb::Result<(Option<String>, serde_json::Map<String, Value>)> {
    let percentiles = |from: usize| -> duckdb::Result<Value> {
        let at = |column: usize| -> duckdb::Result<Option<f64>> {
            Ok(row.get::<_, Option<f64>>(column)?.map(|nanos| nanos / 1e6))
        };
        Ok(serde_json::json!({"p50": at(from)?, "p90": at(from + 1)?, "p99": at(from + 2)?}))
    };
    let mut line = serde_json::Map::new();
    line.insert("calls".to_owned(), count(row.get(0)?).into());
    line.insert("errors".to_owned(), count(row.get(1)?).into());
    line.insert("usage".to_owned(), serde_json::to_value(usage_at(row, 2)?).unwrap_or_default());
    line.insert("ttft_ms".to_owned(), percentiles(10)?);
    line.insert("duration_ms".to_owned(), percentiles(13)?);
    Ok((row.get(16)?, line))
}
