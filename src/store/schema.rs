//! The tables, and how an older file becomes a newer one.
//!
//! Ids of calls, turns and sessions are 32 hex digits; times are nanoseconds since the Unix epoch, costs picodollars. Nothing has a
//! primary key: DuckDB's index would cost memory and write time, and the one writer keeps the promise. Long texts are compressed
//! by zstd, which is named because DuckDB would choose its own string compression, half as good and slower to write;
//! blocks are compressed already.

use duckdb::Connection;

use super::StoreError;

/// The tables as of version [`TABLES_VERSION`]; what came later is added to new files too.
const TABLES: &str = r"
CREATE TABLE calls (
    id VARCHAR NOT NULL, turn_id VARCHAR, session_id VARCHAR, auxiliary BOOLEAN NOT NULL, hop_of VARCHAR,
    started_ns BIGINT NOT NULL, ttft_ns BIGINT, duration_ns BIGINT,
    wire_api VARCHAR NOT NULL, provider VARCHAR NOT NULL, server_kind VARCHAR, operation VARCHAR NOT NULL,
    request_model VARCHAR, response_model VARCHAR, stream BOOLEAN NOT NULL,
    status INTEGER, error_kind VARCHAR, error_message VARCHAR, finish_reason VARCHAR,
    input_uncached BIGINT, cache_read BIGINT, cache_write_5m BIGINT, cache_write_1h BIGINT,
    output_text BIGINT, output_reasoning BIGINT, input_total BIGINT, output_total BIGINT,
    tool_calls VARCHAR NOT NULL USING COMPRESSION zstd, tools_offered BIGINT NOT NULL, messages BIGINT NOT NULL,
    request_bytes BIGINT NOT NULL, response_bytes BIGINT NOT NULL, flaws VARCHAR NOT NULL,
    pid BIGINT, process_start BIGINT, image BIGINT, client VARCHAR, server VARCHAR,
    prompt VARCHAR NOT NULL USING COMPRESSION zstd, preview VARCHAR NOT NULL USING COMPRESSION zstd,
    request_blob BIGINT, response_blob BIGINT, chain_blob BIGINT, tools_blob BIGINT, detail_blob BIGINT
);
CREATE TABLE blocks (
    id BIGINT NOT NULL, codec INTEGER NOT NULL, size BIGINT NOT NULL, pieces VARCHAR NOT NULL USING COMPRESSION zstd,
    data BLOB NOT NULL USING COMPRESSION uncompressed
);
CREATE TABLE messages (
    id BIGINT NOT NULL, key HUGEINT NOT NULL, hash VARCHAR NOT NULL, role VARCHAR NOT NULL,
    content VARCHAR NOT NULL USING COMPRESSION zstd, first_call VARCHAR NOT NULL
);
CREATE TABLE turns (
    id VARCHAR NOT NULL, session_id VARCHAR NOT NULL, parent_turn_id VARCHAR,
    agent_kind VARCHAR NOT NULL, agent_version VARCHAR, agent_recognised_by VARCHAR,
    status VARCHAR NOT NULL, prompt VARCHAR NOT NULL USING COMPRESSION zstd,
    answer VARCHAR NOT NULL USING COMPRESSION zstd, call_ids VARCHAR NOT NULL USING COMPRESSION zstd,
    calls BIGINT NOT NULL, tool_calls BIGINT NOT NULL, models VARCHAR NOT NULL, errors BIGINT NOT NULL,
    input_uncached BIGINT, cache_read BIGINT, cache_write_5m BIGINT, cache_write_1h BIGINT,
    output_text BIGINT, output_reasoning BIGINT, input_total BIGINT, output_total BIGINT,
    started_ns BIGINT NOT NULL, ended_ns BIGINT,
    model_ns BIGINT NOT NULL, tool_ns BIGINT NOT NULL, user_ns BIGINT NOT NULL, idle_ns BIGINT NOT NULL,
    pid BIGINT, process_start BIGINT, image BIGINT, steps_blob BIGINT
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
";

const TABLES_VERSION: i64 = 2;

/// Each entry brings an older schema, from version 1 on, to the next version.
const UPGRADES: &[&str] = &[
    // Bodies as rows of their own become blocks of one piece; a turn's steps, a column, become a piece.
    r"
DROP VIEW heron_calls; DROP VIEW heron_turns;
ALTER TABLE calls RENAME TO old_calls; ALTER TABLE messages RENAME TO old_messages; ALTER TABLE turns RENAME TO old_turns;
ALTER TABLE findings RENAME TO old_findings; ALTER TABLE images RENAME TO old_images; ALTER TABLE exits RENAME TO old_exits;
{TABLES}
INSERT INTO calls SELECT * REPLACE (
    request_blob << 16 AS request_blob, response_blob << 16 AS response_blob, chain_blob << 16 AS chain_blob,
    tools_blob << 16 AS tools_blob, detail_blob << 16 AS detail_blob) FROM old_calls ORDER BY started_ns;
INSERT INTO messages FROM old_messages ORDER BY id;
INSERT INTO findings FROM old_findings; INSERT INTO images FROM old_images; INSERT INTO exits FROM old_exits;
CREATE TEMP TABLE numbered AS
    SELECT (SELECT coalesce(max(id), 0) FROM blobs) + row_number() OVER (ORDER BY started_ns, id) AS block, * FROM old_turns;
INSERT INTO blocks SELECT id, 0, octet_length(data),
    concat(codec, ',', size, ',', octet_length(data), ',', base << 16, ';'), data FROM blobs ORDER BY id;
INSERT INTO blocks SELECT block, 0, octet_length(steps), concat('1,,', octet_length(steps), ',;'), steps FROM numbered ORDER BY block;
INSERT INTO turns SELECT * EXCLUDE (block, steps), block << 16 FROM numbered ORDER BY started_ns;
DROP TABLE numbered; DROP TABLE blobs; DROP TABLE old_calls; DROP TABLE old_messages; DROP TABLE old_turns;
DROP TABLE old_findings; DROP TABLE old_images; DROP TABLE old_exits;
",
    // What calls and turns cost.
    r"
ALTER TABLE calls ADD COLUMN cost_input_uncached BIGINT;
ALTER TABLE calls ADD COLUMN cost_cache_read BIGINT;
ALTER TABLE calls ADD COLUMN cost_cache_write_5m BIGINT;
ALTER TABLE calls ADD COLUMN cost_cache_write_1h BIGINT;
ALTER TABLE calls ADD COLUMN cost_output_text BIGINT;
ALTER TABLE calls ADD COLUMN cost_output_reasoning BIGINT;
ALTER TABLE calls ADD COLUMN cost_complete BOOLEAN;
ALTER TABLE turns ADD COLUMN cost_input_uncached BIGINT;
ALTER TABLE turns ADD COLUMN cost_cache_read BIGINT;
ALTER TABLE turns ADD COLUMN cost_cache_write_5m BIGINT;
ALTER TABLE turns ADD COLUMN cost_cache_write_1h BIGINT;
ALTER TABLE turns ADD COLUMN cost_output_text BIGINT;
ALTER TABLE turns ADD COLUMN cost_output_reasoning BIGINT;
ALTER TABLE turns ADD COLUMN cost_complete BOOLEAN;
",
];

/// The version that this program writes.
pub(super) const VERSION: i64 = UPGRADES.len() as i64 + 1;

/// The statement that makes a table, under another name. The database itself would not tell it with its compression.
pub(super) fn definition(table: &str, name: &str) -> Option<String> {
    let head = format!("CREATE TABLE {table} (");
    let (_, rest) = TABLES.split_once(&head)?;
    let (columns, _) = rest.split_once(");")?;
    Some(format!("CREATE TABLE {name} ({columns});"))
}

/// Makes the tables, or brings them up to date.
pub(super) fn migrate(connection: &Connection) -> Result<(), StoreError> {
    connection.execute_batch("CREATE TABLE IF NOT EXISTS schema_version (version BIGINT NOT NULL)")?;
    let found: i64 =
        connection.query_row("SELECT coalesce(max(version), 0) FROM schema_version", [], |row| row.get(0))?;
    if found > VERSION {
        return Err(StoreError::new(format!(
            "the database has schema version {found}, newer than this heron's {VERSION}: use a newer heron or another --db"
        )));
    }
    if found == 0 {
        step(connection, TABLES, TABLES_VERSION)?;
    }
    let found = if found == 0 { TABLES_VERSION } else { found };
    for (version, statements) in (1..).zip(UPGRADES).skip_while(|(version, _)| *version < found) {
        step(connection, &statements.replace("{TABLES}", TABLES), version + 1)?;
    }
    Ok(())
}

fn step(connection: &Connection, statements: &str, version: i64) -> Result<(), StoreError> {
    let all = format!(
        "BEGIN; {statements} DELETE FROM schema_version; INSERT INTO schema_version VALUES ({version}); COMMIT;"
    );
    connection.execute_batch(&all).map_err(|error| {
        // When the transaction is gone already there is nothing to roll back.
        let _ = connection.execute_batch("ROLLBACK");
        error.into()
    })
}

#[cfg(test)]
mod tests {
    use duckdb::params;

    use super::*;
    use crate::store::blobs::Pieces;
    use crate::store::body::pack_delta;

    #[test]
    fn a_file_of_the_first_schema_keeps_its_bodies_byte_for_byte() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(include_str!("../../testdata/store/schema-1.sql")).unwrap();
        let first = b"the history of a conversation, which is sent again and again; ".repeat(50);
        let second = [first.as_slice(), b"and its newest message"].concat();
        let steps = br#"[{"type":"call","call_id":"00000000000000000000000000000001"}]"#;
        let zstd = |bytes: &[u8]| zstd::bulk::compress(bytes, 1).unwrap();
        let difference = pack_delta(&second, &first).unwrap();
        let blobs = [
            (7i64, None, 1i64, first.len(), zstd(&first)),
            (8, Some(7i64), 2, second.len(), difference),
            (9, None, 0, 2, b"ok".to_vec()),
        ];
        for (id, base, codec, size, data) in blobs {
            let values = params![id, base, codec, size as i64, data];
            connection.execute("INSERT INTO blobs VALUES (?, ?, ?, ?, ?)", values).unwrap();
        }
        connection
            .execute_batch(
                "INSERT INTO calls BY NAME SELECT '01' AS id, false AS auxiliary, 5 AS started_ns, '' AS wire_api,
                    '' AS provider, '' AS operation, true AS stream, '[]' AS tool_calls, 0 AS tools_offered,
                    0 AS messages, 0 AS request_bytes, 0 AS response_bytes, '' AS flaws, 'p' AS prompt, '' AS preview,
                    8 AS request_blob, 9 AS response_blob;
                 INSERT INTO turns BY NAME SELECT '02' AS id, '03' AS session_id, '' AS agent_kind, '' AS status,
                    'p' AS prompt, 'a' AS answer, '[]' AS call_ids, 0 AS calls, 0 AS tool_calls, '{}' AS models,
                    0 AS errors, 5 AS started_ns, 0 AS model_ns, 0 AS tool_ns, 0 AS user_ns, 0 AS idle_ns,
                    ''::BLOB AS steps;
                 INSERT INTO messages VALUES (1, 5, 'h', 'user', '[]', '01');",
            )
            .unwrap();
        connection.execute("UPDATE turns SET steps = ?", params![zstd(steps)]).unwrap();

        migrate(&connection).unwrap();
        migrate(&connection).unwrap();

        let number = |query: &str| connection.query_row(query, [], |row| row.get::<_, i64>(0)).unwrap();
        assert_eq!(number("SELECT version FROM schema_version"), VERSION);
        let mut pieces = Pieces::new(&connection);
        assert_eq!(pieces.load(number("SELECT request_blob FROM calls")).unwrap(), second);
        assert_eq!(pieces.load(number("SELECT response_blob FROM calls")).unwrap(), b"ok");
        assert_eq!(pieces.load(number("SELECT steps_blob FROM turns")).unwrap(), steps);
        assert_eq!(number("SELECT count(*) FROM messages"), 1);
        assert_eq!(number("SELECT count(*) FROM heron_calls"), 1);
        assert_eq!(number("SELECT count(*) FROM turns WHERE cost_complete IS NULL AND cost_output_text IS NULL"), 1);
        assert_eq!(
            number("SELECT count(*) FROM duckdb_tables() WHERE table_name LIKE 'old%' OR table_name = 'blobs'"),
            0
        );
    }

    #[test]
    fn a_file_of_a_newer_heron_is_refused() {
        let connection = Connection::open_in_memory().unwrap();
        migrate(&connection).unwrap();
        connection.execute("UPDATE schema_version SET version = ?", [VERSION + 1]).unwrap();
        assert!(migrate(&connection).unwrap_err().to_string().contains("newer"));
    }
}
