//! Rows as they go into the tables, one append function each. The column order is `schema`'s.

use duckdb::{Appender, Connection, params};

use super::block::BlockRow;
use super::summary::{CallSummary, StoredDetail, TurnSummary};
use crate::event::{Nanos, ProcId};
use crate::price::Cost;
use crate::wire::Usage;

/// A call's row.
pub(super) struct CallRow {
    pub summary: CallSummary,
    pub cost: Option<Cost>,
    pub started: Nanos,
    pub ttft: Option<Nanos>,
    pub duration: Option<Nanos>,
    pub process: Option<ProcId>,
    pub image: Option<i64>,
    pub request: Option<i64>,
    pub response: Option<i64>,
    pub chain: Option<i64>,
    pub tools: Option<i64>,
    pub detail: Option<i64>,
}

/// A message's row.
pub(super) struct MessageRow {
    pub id: i64,
    pub key: u128,
    pub hash: String,
    pub role: &'static str,
    pub content: String,
    pub first_call: String,
}

/// A turn's row.
pub(super) struct TurnRow {
    pub summary: TurnSummary,
    pub cost: Option<Cost>,
    pub models: String,
    pub started: Nanos,
    pub ended: Option<Nanos>,
    pub times: [Nanos; 4],
    pub process: Option<ProcId>,
    pub image: Option<i64>,
    pub steps: Option<i64>,
}

/// A finding's row.
pub(super) struct FindingEntry {
    pub row: super::FindingRow,
    pub at: Nanos,
}

/// What a process ran from a moment on.
pub(super) struct ImageRow {
    pub image: i64,
    pub process: ProcId,
    pub parent: Option<ProcId>,
    pub at: Nanos,
    pub forked: bool,
    pub exe: String,
    pub comm: String,
    pub cmdline: String,
    pub cwd: String,
    pub uid: u32,
    pub container: Option<String>,
}

/// A process's end.
pub(super) struct ExitRow {
    pub process: ProcId,
    pub at: Nanos,
    pub status: i32,
}

/// DuckDB has signed 64-bit columns; a larger number is kept as the largest.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn span(nanos: Option<Nanos>) -> Option<i64> {
    nanos.map(|nanos| signed(nanos.0))
}

/// A content address as DuckDB's 128-bit integer.
pub(super) fn hugeint(key: u128) -> i128 {
    key as i128
}

pub(super) fn append_all<T>(
    connection: &Connection,
    table: &str,
    rows: &[T],
    append: fn(&mut Appender<'_>, &T) -> duckdb::Result<()>,
) -> duckdb::Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let mut appender = connection.appender(table)?;
    for row in rows {
        append(&mut appender, row)?;
    }
    appender.flush()
}

fn usage_columns(usage: &Usage) -> [Option<i64>; 8] {
    [
        usage.input_uncached,
        usage.cache_read,
        usage.cache_write_5m,
        usage.cache_write_1h,
        usage.output_text,
        usage.output_reasoning,
        usage.input_total,
        usage.output_total,
    ]
    .map(|tokens| tokens.map(signed))
}

fn cost_columns(cost: Option<&Cost>) -> [Option<i64>; 6] {
    cost.map(Cost::classes).unwrap_or_default().map(|picodollars| picodollars.map(signed))
}

pub(super) fn call(appender: &mut Appender<'_>, row: &CallRow) -> duckdb::Result<()> {
    let s = &row.summary;
    let u = usage_columns(&s.usage);
    let c = cost_columns(row.cost.as_ref());
    let tool_calls = s.tool_calls.to_string();
    let flaws = s.flaws.join(",");
    let pid = row.process.map(|process| i64::from(process.pid));
    let process_start = row.process.map(|process| signed(process.start));
    let (error_kind, error_message) = (s.error.as_ref().map(|e| &e.kind), s.error.as_ref().map(|e| &e.message));
    appender.append_row(params![
        s.id,
        s.turn_id,
        s.session_id,
        s.auxiliary,
        s.hop_of,
        signed(row.started.0),
        span(row.ttft),
        span(row.duration),
        s.wire_api,
        s.provider,
        s.server_kind,
        s.operation,
        s.request_model,
        s.response_model,
        s.stream,
        s.status.map(i32::from),
        error_kind,
        error_message,
        s.finish_reason,
        u[0],
        u[1],
        u[2],
        u[3],
        u[4],
        u[5],
        u[6],
        u[7],
        tool_calls,
        signed(s.tools_offered),
        signed(s.messages),
        signed(s.request_bytes),
        signed(s.response_bytes),
        flaws,
        pid,
        process_start,
        row.image,
        s.client,
        s.server,
        s.prompt,
        s.preview,
        row.request,
        row.response,
        row.chain,
        row.tools,
        row.detail,
        c[0],
        c[1],
        c[2],
        c[3],
        c[4],
        c[5],
        row.cost.map(|cost| cost.complete),
    ])
}

pub(super) fn block(appender: &mut Appender<'_>, row: &BlockRow) -> duckdb::Result<()> {
    appender.append_row(params![row.id, row.codec as i32, signed(row.size), row.pieces, row.data])
}

pub(super) fn message(appender: &mut Appender<'_>, row: &MessageRow) -> duckdb::Result<()> {
    appender.append_row(params![row.id, hugeint(row.key), row.hash, row.role, row.content, row.first_call])
}

pub(super) fn turn(appender: &mut Appender<'_>, row: &TurnRow) -> duckdb::Result<()> {
    let s = &row.summary;
    let u = usage_columns(&s.usage);
    let c = cost_columns(row.cost.as_ref());
    let call_ids = serde_json::to_string(&s.call_ids).unwrap_or_default();
    let times = row.times.map(|nanos| signed(nanos.0));
    let pid = row.process.map(|process| i64::from(process.pid));
    let process_start = row.process.map(|process| signed(process.start));
    appender.append_row(params![
        s.id,
        s.session_id,
        s.parent_turn_id,
        s.agent.kind,
        s.agent.version,
        s.agent.recognised_by,
        s.status,
        s.prompt,
        s.answer,
        call_ids,
        signed(s.call_ids.len() as u64),
        signed(s.tool_calls),
        row.models,
        signed(s.errors),
        u[0],
        u[1],
        u[2],
        u[3],
        u[4],
        u[5],
        u[6],
        u[7],
        signed(row.started.0),
        span(row.ended),
        times[0],
        times[1],
        times[2],
        times[3],
        pid,
        process_start,
        row.image,
        row.steps,
        c[0],
        c[1],
        c[2],
        c[3],
        c[4],
        c[5],
        row.cost.map(|cost| cost.complete),
    ])
}

pub(super) fn finding(appender: &mut Appender<'_>, entry: &FindingEntry) -> duckdb::Result<()> {
    let row = &entry.row;
    let call_ids = serde_json::to_string(&row.call_ids).unwrap_or_default();
    appender.append_row(params![
        row.kind,
        row.severity,
        row.sentence,
        row.turn_id,
        row.session_id,
        call_ids,
        signed(entry.at.0),
    ])
}

pub(super) fn image(appender: &mut Appender<'_>, row: &ImageRow) -> duckdb::Result<()> {
    appender.append_row(params![
        row.image,
        i64::from(row.process.pid),
        signed(row.process.start),
        row.parent.map(|parent| i64::from(parent.pid)),
        row.parent.map(|parent| signed(parent.start)),
        signed(row.at.0),
        row.forked,
        row.exe,
        row.comm,
        row.cmdline,
        row.cwd,
        i64::from(row.uid),
        row.container,
    ])
}

pub(super) fn exit(appender: &mut Appender<'_>, row: &ExitRow) -> duckdb::Result<()> {
    appender.append_row(params![
        i64::from(row.process.pid),
        signed(row.process.start),
        signed(row.at.0),
        i64::from(row.status),
    ])
}

impl CallRow {
    /// About how much memory the row takes.
    pub(super) fn weight(&self) -> usize {
        512 + self.summary.prompt.len() + self.summary.preview.len()
    }
}

/// The stored detail as JSON bytes.
pub(super) fn detail_bytes(detail: &StoredDetail) -> Vec<u8> {
    serde_json::to_vec(detail).unwrap_or_default()
}
