//! The columns of each list, and a row of them as the shape that goes out.

use duckdb::Row;
use serde_json::Value;

use super::summary::{
    AgentBrief, CallSummary, CostBrief, ErrorBrief, FindingRow, ProcessBrief, ProcessRow, SessionRow, TimeBrief,
    TurnSummary,
};
use crate::event::Nanos;
use crate::price::Cost;
use crate::wire::Usage;

pub(super) const CALL_COLUMNS: &str = "SELECT calls.id, calls.turn_id, calls.session_id, calls.auxiliary, calls.started_ns, \
    calls.ttft_ns, calls.duration_ns, calls.wire_api, calls.provider, calls.server_kind, calls.operation, \
    calls.request_model, calls.response_model, calls.stream, calls.status, calls.error_kind, calls.error_message, \
    calls.finish_reason, calls.input_uncached, calls.cache_read, calls.cache_write_5m, calls.cache_write_1h, \
    calls.output_text, calls.output_reasoning, calls.input_total, calls.output_total, calls.tool_calls, \
    calls.tools_offered, calls.messages, calls.request_bytes, calls.response_bytes, calls.flaws, calls.pid, \
    calls.client, calls.server, calls.prompt, calls.preview, images.exe, images.comm, images.cmdline, calls.hop_of, \
    calls.cost_input_uncached, calls.cost_cache_read, calls.cost_cache_write_5m, \
    calls.cost_cache_write_1h, calls.cost_output_text, calls.cost_output_reasoning, \
    calls.cost_complete \
    FROM calls LEFT JOIN images ON images.image = calls.image";

pub(super) const TURN_COLUMNS: &str = "SELECT turns.id, turns.session_id, turns.parent_turn_id, turns.agent_kind, \
    turns.agent_version, turns.agent_recognised_by, turns.status, turns.prompt, turns.answer, turns.call_ids, \
    turns.tool_calls, turns.models, turns.errors, turns.input_uncached, turns.cache_read, turns.cache_write_5m, \
    turns.cache_write_1h, turns.output_text, turns.output_reasoning, turns.input_total, turns.output_total, \
    turns.started_ns, turns.ended_ns, turns.model_ns, turns.tool_ns, turns.user_ns, turns.idle_ns, turns.pid, \
    images.exe, images.comm, images.cmdline, \
    turns.cost_input_uncached, turns.cost_cache_read, turns.cost_cache_write_5m, \
    turns.cost_cache_write_1h, turns.cost_output_text, turns.cost_output_reasoning, \
    turns.cost_complete \
    FROM turns LEFT JOIN images ON images.image = turns.image";

pub(super) const USAGE_SUMS: &str = "CAST(sum(input_uncached) AS BIGINT), CAST(sum(cache_read) AS BIGINT), \
    CAST(sum(cache_write_5m) AS BIGINT), CAST(sum(cache_write_1h) AS BIGINT), CAST(sum(output_text) AS BIGINT), \
    CAST(sum(output_reasoning) AS BIGINT), CAST(sum(input_total) AS BIGINT), CAST(sum(output_total) AS BIGINT)";

/// A turn without any usage adds nothing that is missing.
pub(super) const COST_SUMS: &str = "TRY_CAST(sum(cost_input_uncached) AS BIGINT), TRY_CAST(sum(cost_cache_read) AS BIGINT), \
    TRY_CAST(sum(cost_cache_write_5m) AS BIGINT), TRY_CAST(sum(cost_cache_write_1h) AS BIGINT), \
    TRY_CAST(sum(cost_output_text) AS BIGINT), TRY_CAST(sum(cost_output_reasoning) AS BIGINT), \
    bool_and(coalesce(cost_complete, input_total IS NULL AND output_total IS NULL))";

pub(super) const FINDING_COLUMNS: &str =
    "SELECT kind, severity, sentence, turn_id, session_id, call_ids, at_ns FROM findings";

pub(super) const PROCESS_COLUMNS: &str = "SELECT last.pid, last.parent_pid, last.exe, last.comm, last.cmdline, last.cwd, last.uid, \
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

pub(super) fn usage_at(row: &Row<'_>, from: usize) -> duckdb::Result<Usage> {
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

/// Costs from a column on: six classes, and whether they are all.
pub(super) fn costs_at(row: &Row<'_>, from: usize) -> duckdb::Result<Cost> {
    let class = |at: usize| -> duckdb::Result<Option<u64>> { Ok(row.get::<_, Option<i64>>(from + at)?.map(count)) };
    Ok(Cost {
        input_uncached: class(0)?,
        cache_read: class(1)?,
        cache_write_5m: class(2)?,
        cache_write_1h: class(3)?,
        output_text: class(4)?,
        output_reasoning: class(5)?,
        complete: row.get::<_, Option<bool>>(from + 6)?.unwrap_or(false),
    })
}

/// Costs as they go out; `None` when nothing of them is known.
pub(super) fn cost_brief(cost: &Cost) -> Option<CostBrief> {
    cost.classes().iter().any(Option::is_some).then(|| CostBrief::of(cost))
}

fn cost_at(row: &Row<'_>, from: usize) -> duckdb::Result<Option<CostBrief>> {
    Ok(cost_brief(&costs_at(row, from)?))
}

pub(super) fn process_at(row: &Row<'_>, pid: usize, image: usize) -> duckdb::Result<Option<ProcessBrief>> {
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

pub(super) fn call_summary(row: &Row<'_>) -> duckdb::Result<CallSummary> {
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
        cost: if row.get::<_, Option<String>>(40)?.is_none() { cost_at(row, 41)? } else { None },
        hop_of: row.get(40)?,
    })
}

pub(super) fn turn_summary(row: &Row<'_>) -> duckdb::Result<TurnSummary> {
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
        cost: cost_at(row, 31)?,
    })
}

/// The names in one or more lines of `{"model": calls}`.
fn model_names(lines: &str) -> Vec<String> {
    let names = lines.lines().filter_map(|line| serde_json::from_str::<serde_json::Map<String, Value>>(line).ok());
    let names: std::collections::BTreeSet<String> =
        names.flat_map(|models| models.into_iter().map(|(name, _)| name)).collect();
    names.into_iter().collect()
}

pub(super) fn session_row(row: &Row<'_>) -> duckdb::Result<SessionRow> {
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
        cost: cost_at(row, 19)?,
    })
}

pub(super) fn finding_row(row: &Row<'_>) -> duckdb::Result<FindingRow> {
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

pub(super) fn process_row(row: &Row<'_>) -> duckdb::Result<ProcessRow> {
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
