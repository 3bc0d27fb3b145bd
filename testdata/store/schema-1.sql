-- The first schema's tables, for the test that such a file is brought up to date.
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
CREATE VIEW heron_calls AS SELECT id FROM calls;
CREATE VIEW heron_turns AS SELECT id FROM turns;
CREATE TABLE schema_version (version BIGINT NOT NULL);
INSERT INTO schema_version VALUES (1);
