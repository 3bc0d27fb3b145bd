//! The tables, and how an older file becomes a newer one.
//!
//! Ids of calls, turns and sessions are 32 hex digits; times are nanoseconds since the Unix epoch. Nothing has a primary
//! key: DuckDB's index would cost memory and write time, and the one writer keeps the promise.

use duckdb::Connection;

use super::StoreError;

/// Each entry brings the schema from its index to the next version.
const MIGRATIONS: &[&str] = &[r"
CREATE TABLE calls (
    id VARCHAR NOT NULL, turn_id VARCHAR, session_id VARCHAR, auxiliary BOOLEAN NOT NULL, hop_of VARCHAR,
    started_ns BIGINT NOT NULL, ttft_ns BIGINT, duration_ns BIGINT,
    wire_api VARCHAR NOT NULL, provider VARCHAR NOT NULL, server_kind VARCHAR, operation VARCHAR NOT NULL,
    request_model VARCHAR, response_model VARCHAR, stream BOOLEAN NOT NULL,
    status INTEGER, error_kind VARCHAR, error_message VARCHAR, finish_reason VARCHAR,
    input_uncached BIGINT, cache_read BIGINT, cache_write_5m BIGINT, cache_write_1h BIGINT,
    output_text BIGINT, output_reasoning BIGINT, input_total BIGINT, output_total BIGINT,
    tool_calls VARCHAR NOT NULL, tools_offered BIGINT NOT NULL, messages BIGINT NOT NULL,
    request_bytes BIGINT NOT NULL, response_bytes BIGINT NOT NULL, flaws VARCHAR NOT NULL,
    pid BIGINT, process_start BIGINT, image BIGINT, client VARCHAR, server VARCHAR,
    prompt VARCHAR NOT NULL, preview VARCHAR NOT NULL,
    request_blob BIGINT, response_blob BIGINT, chain_blob BIGINT, tools_blob BIGINT, detail_blob BIGINT
);
CREATE TABLE blobs (id BIGINT NOT NULL, base BIGINT, codec INTEGER NOT NULL, size BIGINT NOT NULL, data BLOB NOT NULL);
CREATE TABLE messages (
    id BIGINT NOT NULL, key HUGEINT NOT NULL, hash VARCHAR NOT NULL, role VARCHAR NOT NULL, content VARCHAR NOT NULL,
    first_call VARCHAR NOT NULL
);
CREATE TABLE turns (
    id VARCHAR NOT NULL, session_id VARCHAR NOT NULL, parent_turn_id VARCHAR,
    agent_kind VARCHAR NOT NULL, agent_version VARCHAR, agent_recognised_by VARCHAR,
    status VARCHAR NOT NULL, prompt VARCHAR NOT NULL, answer VARCHAR NOT NULL,
    call_ids VARCHAR NOT NULL, calls BIGINT NOT NULL, tool_calls BIGINT NOT NULL, models VARCHAR NOT NULL,
    errors BIGINT NOT NULL,
    input_uncached BIGINT, cache_read BIGINT, cache_write_5m BIGINT, cache_write_1h BIGINT,
    output_text BIGINT, output_reasoning BIGINT, input_total BIGINT, output_total BIGINT,
    started_ns BIGINT NOT NULL, ended_ns BIGINT,
    model_ns BIGINT NOT NULL, tool_ns BIGINT NOT NULL, user_ns BIGINT NOT NULL, idle_ns BIGINT NOT NULL,
    pid BIGINT, process_start BIGINT, image BIGINT, steps BLOB NOT NULL
);
CREATE TABLE findings (
    kind VARCHAR NOT NULL, severity VARCHAR NOT NULL, sentence VARCHAR NOT NULL,
    turn_id VARCHAR, session_id VARCHAR, call_ids VARCHAR NOT NULL, at_ns BIGINT NOT NULL
);
CREATE TABLE images (
    image BIGINT NOT NULL, pid BIGINT NOT NULL, process_start BIGINT NOT NULL,
    parent_pid BIGINT, parent_start BIGINT, at_ns BIGINT NOT NULL, forked BOOLEAN NOT NULL,
    exe VARCHAR NOT NULL, comm VARCHAR NOT NULL, cmdline VARCHAR NOT NULL, cwd VARCHAR NOT NULL,
    uid BIGINT NOT NULL, container VARCHAR
);
CREATE TABLE exits (pid BIGINT NOT NULL, process_start BIGINT NOT NULL, at_ns BIGINT NOT NULL, status BIGINT NOT NULL);
CREATE VIEW heron_calls AS
    SELECT make_timestamp_ns(started_ns) AS started_at, id, turn_id, session_id, auxiliary, wire_api, provider, operation,
           request_model, response_model, stream, status, error_kind, error_message, finish_reason,
           input_total, cache_read, output_total, output_reasoning, ttft_ns / 1e6 AS ttft_ms,
           duration_ns / 1e6 AS duration_ms, pid, prompt, preview, flaws
    FROM calls;
CREATE VIEW heron_turns AS
    SELECT make_timestamp_ns(started_ns) AS started_at, id, session_id, parent_turn_id, agent_kind, status, prompt,
           answer, calls, tool_calls, errors, input_total, output_total, (ended_ns - started_ns) / 1e6 AS duration_ms
    FROM turns;
"];

/// The version that this program writes.
pub(super) const VERSION: i64 = MIGRATIONS.len() as i64;

/// Makes or brings up to date the tables.
pub(super) fn migrate(connection: &Connection) -> Result<(), StoreError> {
    connection.execute_batch("CREATE TABLE IF NOT EXISTS schema_version (version BIGINT NOT NULL)")?;
    let found: i64 =
        connection.query_row("SELECT coalesce(max(version), 0) FROM schema_version", [], |row| row.get(0))?;
    if found > VERSION {
        return Err(StoreError::new(format!(
            "the database has schema version {found}, newer than this heron's {VERSION}: use a newer heron or another --db"
        )));
    }
    for (from, statements) in MIGRATIONS.iter().enumerate().skip(usize::try_from(found).unwrap_or(0)) {
        connection.execute_batch(&format!(
            "BEGIN; {statements} DELETE FROM schema_version; INSERT INTO schema_version VALUES ({}); COMMIT;",
            from + 1
        ))?;
    }
    Ok(())
}
