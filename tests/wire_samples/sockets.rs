//! WebSockets that carry calls: one call per response, whatever carries the frames.

use std::fs;

use bytes::Bytes;
use heron::event::{CloseHow, ConnId, Direction, Nanos};
use heron::http::{ExchangeId, Header, Message, Part, PartKind, Protocol, RequestHead, ResponseHead, Side};
use heron::wire::{Bounds, Call, CallUpdate, Stage};
use serde_json::{Value, json};

use crate::wire_world::{Pipe, START, Talk};
use crate::{compare, golden};

fn message_parts(lines: &[(Side, String)], host: &str, target: &str) -> Vec<Part> {
    let header = |name: &str, value: &str| Header { name: name.into(), value: value.into() };
    let mut at = START;
    let mut part = |kind| {
        at += 1_000_000;
        Part { exchange: ExchangeId { conn: ConnId(1), seq: 0 }, at: Nanos(at), kind }
    };
    let mut parts = vec![
        part(PartKind::Request(RequestHead {
            protocol: Protocol::Http1,
            method: "GET".into(),
            target: target.into(),
            authority: Some(host.into()),
            headers: vec![header("Upgrade", "websocket"), header("session-id", "s-1")],
            unknown_headers: 0,
            first_byte: Nanos(START),
        })),
        part(PartKind::RequestEnd),
        part(PartKind::Response(ResponseHead {
            status: 101,
            headers: Vec::new(),
            unknown_headers: 0,
            first_byte: Nanos(START),
        })),
    ];
    for (side, line) in lines {
        let payload = Bytes::copy_from_slice(line.as_bytes());
        let wire_len = payload.len() as u64;
        parts.push(part(PartKind::Message(Message { side: *side, text: true, payload, wire_len })));
    }
    parts.push(part(PartKind::End(Some(CloseHow::Finished))));
    parts
}

fn socket_calls(lines: &[(Side, String)], host: &str, target: &str) -> Vec<Call> {
    let mut stage = Stage::new(Bounds::default());
    let mut updates = Vec::new();
    for part in message_parts(lines, host, target) {
        stage.push(part, &|| None, &mut updates);
    }
    assert_eq!(stage.open_exchanges(), 0);
    let done = updates.into_iter().filter_map(|update| match update {
        CallUpdate::Done(call) => Some(*call),
        CallUpdate::Progress(_) => None,
    });
    done.collect()
}

#[test]
fn responses_over_a_websocket_are_one_call_each() {
    let read = |name: &str| fs::read_to_string(format!("testdata/wire/openai_responses/{name}")).unwrap();
    let client: Vec<String> = read("ws_client_messages.jsonl").lines().map(str::to_owned).collect();
    let server: Vec<String> = read("ws_server_messages.jsonl").lines().map(str::to_owned).collect();
    let (failed, answer) = server.split_last().unwrap();
    let mut lines = Vec::new();
    for request in &client[..2] {
        lines.push((Side::Request, request.clone()));
        lines.extend(answer.iter().map(|line| (Side::Response, line.clone())));
    }
    lines.push((Side::Request, client[2].clone()));
    lines.push((Side::Response, failed.clone()));
    let calls = socket_calls(&lines, "api.openai.com", "/v1/responses");
    assert_eq!(calls.len(), 3);
    assert_eq!(calls[0].parameters["generate"], json!(false));
    assert_eq!(calls[2].previous_response_id.as_deref(), Some("resp_A"));
    assert_eq!(&calls[1].request.body[..], client[1].as_bytes());
    assert_eq!(&calls[1].response.body[..], answer.join("\n").as_bytes());
    compare("responses_websocket", &Value::Array(calls.iter().map(golden).collect()));
}

/// The whole connection's bytes: upgrade, permessage-deflate with shared history, masks, a fragmented message, a close.
#[test]
fn a_compressed_websocket_connection_is_read_to_the_byte() {
    let read = |name: &str| fs::read(format!("testdata/wire/openai_responses/{name}")).unwrap();
    let lines = |name: &str| -> Vec<Vec<u8>> { read(name).split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect() };
    let (client, server) = (read("ws_pmd_client.bin"), read("ws_pmd_server.bin"));
    let upgrade = client.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    let switched = server.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    let pieces = vec![
        (Direction::Sent, client[..upgrade].to_vec()),
        (Direction::Received, server[..switched].to_vec()),
        (Direction::Sent, client[upgrade..].to_vec()),
        (Direction::Received, server[switched..].to_vec()),
    ];
    let run = |size: usize| {
        let mut pipe = Pipe::new(Bounds { progress: None, ..Bounds::default() });
        let talk = Talk { pieces: pieces.clone() };
        talk.play(&mut pipe, CloseHow::Finished, |_, len| (1..len).step_by(size).collect());
        pipe.done().into_iter().cloned().collect::<Vec<Call>>()
    };
    let calls = run(usize::MAX >> 1);
    let asked = lines("ws_client_messages.jsonl");
    assert_eq!(calls[0].request.body, asked[0]);
    assert_eq!(calls[0].status, Some(101));
    assert_eq!(calls[0].output[0].tool_calls().count(), 1);
    let golden_of = |calls: &[Call]| Value::Array(calls.iter().map(golden).collect());
    compare("responses_websocket_bytes", &golden_of(&calls));
    for size in [1, 7] {
        assert_eq!(golden_of(&run(size)), golden_of(&calls), "in pieces of {size}");
    }
}

#[test]
fn realtime_sessions_are_one_call_per_response() {
    let client = |text: &str| (Side::Request, text.to_owned());
    let server = |text: &str| (Side::Response, text.to_owned());
    let calls = socket_calls(
        &[
            server(
                r#"{"type":"session.created","session":{"id":"sess_1","object":"realtime.session","model":"gpt-realtime-2","voice":"marin"}}"#,
            ),
            client(
                r#"{"type":"session.update","session":{"instructions":"Be brief","tools":[{"type":"function","name":"get_weather","parameters":{}}]}}"#,
            ),
            client(
                r#"{"type":"conversation.item.create","item":{"type":"message","role":"user","content":[{"type":"input_text","text":"Weather?"}]}}"#,
            ),
            client(r#"{"type":"response.create"}"#),
            server(r#"{"type":"response.created","response":{"id":"resp_1","status":"in_progress"}}"#),
            server(
                r#"{"type":"response.output_item.added","output_index":0,"item":{"id":"i1","type":"function_call","call_id":"call_1","name":"get_weather","arguments":""}}"#,
            ),
            server(
                r#"{"type":"response.function_call_arguments.delta","output_index":0,"delta":"{\"city\":\"Paris\"}"}"#,
            ),
            server(
                r#"{"type":"response.output_item.done","output_index":0,"item":{"id":"i1","type":"function_call","call_id":"call_1","name":"get_weather","arguments":"{\"city\":\"Paris\"}"}}"#,
            ),
            server(
                r#"{"type":"response.done","response":{"id":"resp_1","status":"completed","output":[],"usage":{"total_tokens":30,"input_tokens":20,"output_tokens":10,"input_token_details":{"cached_tokens":5},"output_token_details":{"text_tokens":10}}}}"#,
            ),
            client(
                r#"{"type":"conversation.item.create","item":{"type":"function_call_output","call_id":"call_1","output":"rain"}}"#,
            ),
            server(r#"{"type":"response.created","response":{"id":"resp_2","status":"in_progress"}}"#),
            server(
                r#"{"type":"response.output_audio_transcript.delta","output_index":0,"content_index":0,"delta":"It rains."}"#,
            ),
            server(
                r#"{"type":"response.done","response":{"id":"resp_2","status":"completed","output":[{"type":"message","role":"assistant","content":[{"type":"output_audio","transcript":"It rains."}]}],"usage":{"total_tokens":40,"input_tokens":30,"output_tokens":10}}}"#,
            ),
        ],
        "api.openai.com",
        "/v1/realtime?model=gpt-realtime-2",
    );
    compare("realtime_websocket", &Value::Array(calls.iter().map(golden).collect()));
}

#[test]
fn gemini_live_sessions_are_one_call_per_turn() {
    let client = |text: &str| (Side::Request, text.to_owned());
    let server = |text: &str| (Side::Response, text.to_owned());
    let calls = socket_calls(
        &[
            client(
                r#"{"setup":{"model":"models/gemini-live-3","systemInstruction":{"parts":[{"text":"Be brief"}]},"tools":[{"functionDeclarations":[{"name":"get_weather"}]}]}}"#,
            ),
            server(r#"{"setupComplete":{}}"#),
            client(
                r#"{"clientContent":{"turns":[{"role":"user","parts":[{"text":"Weather?"}]}],"turnComplete":true}}"#,
            ),
            server(r#"{"toolCall":{"functionCalls":[{"id":"c1","name":"get_weather","args":{"city":"Paris"}}]}}"#),
            client(
                r#"{"toolResponse":{"functionResponses":[{"id":"c1","name":"get_weather","response":{"output":"rain"}}]}}"#,
            ),
            server(r#"{"serverContent":{"modelTurn":{"parts":[{"text":"It "}]}}}"#),
            server(r#"{"serverContent":{"modelTurn":{"parts":[{"text":"rains."}]}}}"#),
            server(
                r#"{"serverContent":{"turnComplete":true},"usageMetadata":{"promptTokenCount":20,"responseTokenCount":4,"totalTokenCount":24}}"#,
            ),
        ],
        "generativelanguage.googleapis.com",
        "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent?key=secret",
    );
    compare("gemini_live_websocket", &Value::Array(calls.iter().map(golden).collect()));
}

#[test]
fn gemini_lives_usage_may_come_in_a_message_of_its_own() {
    let client = |text: &str| (Side::Request, text.to_owned());
    let server = |text: &str| (Side::Response, text.to_owned());
    let ask = r#"{"clientContent":{"turns":[{"role":"user","parts":[{"text":"Hi"}]}],"turnComplete":true}}"#;
    let says = r#"{"serverContent":{"modelTurn":{"parts":[{"text":"Hello"}]}}}"#;
    let ends = r#"{"serverContent":{"turnComplete":true}}"#;
    let usage = r#"{"usageMetadata":{"promptTokenCount":9,"responseTokenCount":2,"totalTokenCount":11}}"#;
    let sound = r#"{"realtimeInput":{"audio":{"data":"AAAA","mimeType":"audio/pcm"}}}"#;
    let calls = socket_calls(
        &[
            client(r#"{"setup":{"model":"models/gemini-live-3"}}"#),
            client(ask),
            server(says),
            server(ends),
            client(sound),
            server(usage),
            // The second has none: the third's request ends it.
            client(ask),
            server(says),
            server(ends),
            client(ask),
            server(says),
            server(ends),
        ],
        "generativelanguage.googleapis.com",
        "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent",
    );
    assert_eq!(calls.len(), 3);
    assert_eq!((calls[0].usage.input_total, calls[0].usage.output_total), (Some(9), Some(2)));
    assert_eq!(calls[0].response.body, [says, ends, usage].join("\n"));
    assert!(calls[1].usage.is_unknown() && calls[2].usage.is_unknown());
    for (n, call) in calls.iter().enumerate() {
        assert_eq!((call.error.as_ref(), call.flaws.len(), call.answered), (None, 0, true), "call {n}");
        assert_eq!(call.messages.len(), 2 * n + 1, "what was said before belongs to it");
        assert_eq!(call.answer_text(), "Hello");
    }
}

/// Frames of one side, without compression.
fn frame(first: u8, mask: bool, payload: &[u8]) -> Vec<u8> {
    let bit = if mask { 0x80 } else { 0 };
    let mut frame = vec![first, bit | 126];
    frame.extend((payload.len() as u16).to_be_bytes());
    if payload.len() < 126 {
        frame = vec![first, bit | payload.len() as u8];
    }
    if mask {
        frame.extend([0; 4]);
    }
    [&frame[..], payload].concat()
}

const CREATE: &str = r#"{"type":"response.create","model":"gpt-5.6-sol","input":[{"type":"message","role":"user","content":[{"type":"input_text","text":"hi"}]}]}"#;
const CREATED: &str =
    r#"{"type":"response.created","response":{"id":"resp_1","status":"in_progress","model":"gpt-5.6-sol"}}"#;
const DELTA: &str = r#"{"type":"response.output_text.delta","output_index":0,"content_index":0,"delta":"Hello"}"#;
const COMPLETED: &str = r#"{"type":"response.completed","response":{"id":"resp_1","status":"completed","model":"gpt-5.6-sol","output":[],"usage":{"input_tokens":5,"output_tokens":1,"total_tokens":6}}}"#;

fn upgrade() -> Vec<(Direction, Vec<u8>)> {
    let ask =
        b"GET /v1/responses HTTP/1.1\r\nHost: api.openai.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let answer = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
    vec![(Direction::Sent, ask.to_vec()), (Direction::Received, answer.to_vec())]
}

fn calls_of(pieces: Vec<(Direction, Vec<u8>)>, left: Option<Direction>, how: CloseHow) -> Vec<Call> {
    let mut pipe = Pipe::new(Bounds::default());
    Talk { pieces }.play_open(&mut pipe, |_, len| (1..len).step_by(11).collect());
    for direction in left.into_iter().map(Some).chain([None]) {
        let at = Nanos(START + 3_600_000_000_000);
        pipe.push(heron::event::Event::Close(heron::event::Close { conn: ConnId(1), at, direction, how }));
    }
    pipe.done().into_iter().cloned().collect()
}

#[test]
fn a_client_that_leaves_a_websocket_aborts_its_call() {
    let say = |text: &str| (Direction::Received, frame(0x81, false, text.as_bytes()));
    let mut begun = upgrade();
    begun.push((Direction::Sent, frame(0x81, true, CREATE.as_bytes())));
    begun.extend([say(CREATED), say(DELTA)]);
    let error = |pieces: &[(Direction, Vec<u8>)], left, how| {
        let calls = calls_of(pieces.to_vec(), left, how);
        assert_eq!(calls.len(), 1);
        assert_eq!(calls[0].answer_text(), "Hello");
        calls[0].error.as_ref().map(|error| error.kind.clone())
    };
    assert_eq!(error(&begun, Some(Direction::Sent), CloseHow::Finished).as_deref(), Some("aborted"));
    assert_eq!(error(&begun, Some(Direction::Received), CloseHow::Finished).as_deref(), Some("cut"));
    assert_eq!(error(&begun, None, CloseHow::Reset).as_deref(), Some("reset"));
    let goodbye = |direction| (direction, frame(0x88, direction == Direction::Sent, &1000u16.to_be_bytes()));
    let client_first = [&begun[..], &[goodbye(Direction::Sent), goodbye(Direction::Received)]].concat();
    assert_eq!(error(&client_first, None, CloseHow::Finished).as_deref(), Some("aborted"));
    let server_first = [&begun[..], &[goodbye(Direction::Received), goodbye(Direction::Sent)]].concat();
    assert_eq!(error(&server_first, None, CloseHow::Finished).as_deref(), Some("cut"));
    let complete = [&begun[..], &[say(COMPLETED), goodbye(Direction::Sent), goodbye(Direction::Received)]].concat();
    assert_eq!(error(&complete, None, CloseHow::Finished), None);
}

fn h2_frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags, 0, 0, 0, 1]);
    [&frame[..], payload].concat()
}

#[test]
fn extended_connect_carries_calls_also_when_the_client_is_delivered_first() {
    let block = |headers: &[(&str, &str)]| {
        hpack::Encoder::new().encode(headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())))
    };
    let connect = block(&[
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "https"),
        (":authority", "api.openai.com"),
        (":path", "/v1/responses"),
        ("session-id", "s-1"),
    ]);
    let preface = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &[0, 0, 0, 4, 0, 0, 0, 0, 0]].concat();
    let ask = (Direction::Sent, [&preface[..], &h2_frame(1, 4, &connect)].concat());
    let settings = (Direction::Received, vec![0, 0, 0, 4, 0, 0, 0, 0, 0]);
    let accept = (Direction::Received, h2_frame(1, 4, &block(&[(":status", "200")])));
    let create = (Direction::Sent, h2_frame(0, 0, &frame(0x81, true, CREATE.as_bytes())));
    let answer: Vec<u8> = [CREATED, DELTA, COMPLETED]
        .iter()
        .flat_map(|text| h2_frame(0, 0, &frame(0x81, false, text.as_bytes())))
        .collect();
    let answer = (Direction::Received, answer);
    for pieces in [
        vec![ask.clone(), settings.clone(), accept.clone(), create.clone(), answer.clone()],
        vec![ask, settings, create, accept, answer],
    ] {
        let calls = calls_of(pieces, None, CloseHow::Finished);
        assert_eq!(calls.len(), 1);
        let call = &calls[0];
        assert_eq!((call.answer_text().as_str(), call.status, call.answered), ("Hello", Some(200), true));
        assert_eq!(call.conversation_hint.as_deref(), Some("s-1"));
        assert_eq!(&call.request.body[..], CREATE.as_bytes());
        assert_eq!((call.error.as_ref(), call.flaws.len(), call.usage.input_total), (None, 0, Some(5)));
    }
}
