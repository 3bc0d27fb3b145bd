//! Calls, turns and processes made by hand, for the tests of the store and the API.
#![allow(dead_code, clippy::unwrap_used)]

use std::sync::Arc;

use bytes::Bytes;
use heron::event::{ConnId, Endpoint, Nanos, ProcId, ProcessChange, ProcessEvent, ProcessInfo, Transport};
use heron::http::{Header, Protocol};
use heron::price::Cost;
use heron::turn::{Agent, Placement, SessionId, Step, TimeSplit, Turn, TurnId, TurnStatus};
use heron::wire::{
    Call, CallId, CallState, Content, Finish, Half, Message, MessageHash, Operation, Role, Times, ToolCall,
    ToolOffered, Usage, WireApi,
};
use serde_json::json;

pub const START: u64 = 1_795_872_894_000_000_000;
pub const MILLI: u64 = 1_000_000;
pub const PROCESS: ProcId = ProcId { pid: 4242, start: 77 };

fn id(kind: u8, number: u64) -> [u8; 16] {
    let mut id = [kind; 16];
    id[8..].copy_from_slice(&number.to_be_bytes());
    id
}

pub fn call_id(number: u64) -> CallId {
    CallId(id(0xca, number))
}

pub fn turn_id(number: u64) -> TurnId {
    TurnId(id(0x70, number))
}

pub fn session_id(number: u64) -> SessionId {
    SessionId(id(0x5e, number))
}

pub fn message(role: Role, text: &str) -> Arc<Message> {
    let hash = MessageHash(blake3::hash(text.as_bytes()).as_bytes()[..16].try_into().unwrap());
    Arc::new(Message { role, content: vec![Content::Text { text: text.to_owned() }], hash })
}

/// Words that compress like prose and differ by seed.
pub fn words(seed: u64, count: usize) -> String {
    const WORDS: [&str; 16] = [
        "file", "the", "error", "in", "line", "function", "test", "a", "returns", "value", "when", "agent", "of",
        "reads", "\\n", "path",
    ];
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut text = String::new();
    for _ in 0..count {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        text.push_str(WORDS[(state >> 40) as usize % 16]);
        text.push(' ');
    }
    text
}

/// The `number`th call of a conversation whose history grows by two messages a call.
pub fn call(number: u64) -> Call {
    let mut messages = vec![message(Role::System, &format!("You are a careful agent. {}", words(1, 2_000)))];
    for round in 0..=number {
        messages.push(message(Role::User, &format!("prompt {round}: {}", words(round + 10, 200))));
        if round < number {
            messages.push(message(Role::Assistant, &format!("answer {round}: {}", words(round + 5_000, 100))));
        }
    }
    let sent: Vec<_> = messages.iter().map(|m| json!({"role": m.role, "content": m.text()})).collect();
    let request = json!({"model": "claude-opus-4-5", "max_tokens": 1024, "messages": sent, "stream": true}).to_string();
    let answer = format!("answer {number}: {}", words(number + 5_000, 100));
    let response =
        format!("event: message_start\ndata: {{}}\n\nevent: content_block_delta\ndata: {}\n\n", json!(answer));
    let start = START + number * 10_000 * MILLI;
    Call {
        id: call_id(number),
        conn: ConnId(1),
        state: CallState::Done,
        process: Some(PROCESS),
        client: Some(Endpoint::Inet("127.0.0.1:40000".parse().unwrap())),
        server: Some(Endpoint::Inet("10.0.0.9:443".parse().unwrap())),
        transport: Some(Transport::Tls("openssl".into())),
        protocol: Protocol::Http1,
        method: "POST".to_owned(),
        target: "/v1/messages?beta=true&key=sk-in-the-query".to_owned(),
        authority: Some("api.anthropic.com".to_owned()),
        wire_api: WireApi::AnthropicMessages,
        provider: "anthropic".to_owned(),
        server_kind: None,
        operation: Operation::Chat,
        request_model: Some("claude-opus-4-5".to_owned()),
        response_model: Some("claude-opus-4-5-20251101".to_owned()),
        response_id: Some(format!("msg_{number}")),
        previous_response_id: None,
        conversation_hint: None,
        parameters: json!({"max_tokens": 1024}).as_object().unwrap().clone(),
        stream: true,
        messages,
        tools_offered: vec![ToolOffered {
            name: "Bash".to_owned(),
            description: Some("Runs a command".to_owned()),
            schema: Some(json!({"type": "object", "properties": {"command": {"type": "string"}}})),
        }]
        .into(),
        output: vec![Message {
            role: Role::Assistant,
            content: vec![
                Content::Text { text: answer },
                Content::ToolCall(ToolCall {
                    id: format!("toolu_{number}"),
                    name: "Bash".to_owned(),
                    arguments: json!({"command": "ls -l"}),
                    server_side: false,
                }),
            ],
            hash: MessageHash(id(0xee, number)),
        }],
        usage: Usage {
            input_uncached: Some(10),
            cache_read: Some(1_000 + number),
            cache_write_5m: None,
            cache_write_1h: Some(0),
            output_text: Some(20),
            output_reasoning: None,
            input_total: Some(1_010 + number),
            output_total: Some(20),
        },
        service_tier: None,
        finish_reason: Some("tool_use".to_owned()),
        finish: Some(Finish::ToolCalls),
        status: Some(200),
        error: None,
        times: Times {
            request_first: Nanos(start),
            request_last: Some(Nanos(start + MILLI)),
            response_head: Some(Nanos(start + 200 * MILLI)),
            first_token: Some(Nanos(start + 250 * MILLI)),
            last_byte: Some(Nanos(start + 1_000 * MILLI)),
            token_gaps: vec![MILLI, 3 * MILLI, 2 * MILLI],
        },
        request: Half {
            headers: vec![
                Header { name: "x-api-key".to_owned(), value: "sk-in-a-header".to_owned() },
                Header { name: "Authorization".to_owned(), value: "Bearer sk-as-bearer".to_owned() },
                Header { name: "content-type".to_owned(), value: "application/json".to_owned() },
            ],
            body_len: request.len() as u64,
            body: Bytes::from(request),
        },
        response: Half {
            headers: vec![
                Header { name: "content-type".to_owned(), value: "text/event-stream".to_owned() },
                Header { name: "set-cookie".to_owned(), value: "session=sk-in-a-cookie".to_owned() },
            ],
            body_len: response.len() as u64,
            body: Bytes::from(response),
        },
        answered: true,
        ended_by: None,
        flaws: Vec::new(),
    }
}

pub fn placement(call: u64, turn: u64) -> Placement {
    Placement {
        call_id: call_id(call),
        turn_id: Some(turn_id(turn)),
        session_id: Some(session_id(1)),
        auxiliary: false,
        hop_of: None,
        cost: Some(cost(call + 1)),
    }
}

/// What some calls cost, in picodollars.
pub fn cost(calls: u64) -> Cost {
    Cost {
        input_uncached: Some(calls * 3_000_000),
        output_text: Some(calls * 15_000_000),
        complete: true,
        ..Cost::default()
    }
}

pub fn turn(number: u64, calls: std::ops::Range<u64>, status: TurnStatus) -> Turn {
    let first = call(calls.start);
    let steps = calls.clone().map(|number| {
        let call = call(number);
        Step::Call { call_id: call.id, at: call.times.request_first, duration: call.duration() }
    });
    Turn {
        id: turn_id(number),
        session_id: session_id(1),
        parent_turn_id: None,
        agent: Agent {
            kind: "claude-code".to_owned(),
            version: Some("2.1.329".to_owned()),
            recognised_by: Some("user-agent".to_owned()),
        },
        process: Some(PROCESS),
        status,
        prompt: format!("the prompt of turn {number}"),
        answer: if status == TurnStatus::Complete { format!("the answer of turn {number}") } else { String::new() },
        steps: steps.collect(),
        call_ids: calls.clone().map(call_id).collect(),
        tool_calls: 1,
        models: [("claude-opus-4-5-20251101".to_owned(), (calls.end - calls.start) as u32)].into(),
        usage: Usage { input_total: Some(7), ..Usage::default() },
        cost: Some(cost(calls.end - calls.start)),
        errors: 0,
        started_at: first.times.request_first,
        ended_at: (status == TurnStatus::Complete).then(|| Nanos(START + calls.end * 10_000 * MILLI)),
        settled: status != TurnStatus::InProgress,
        time: TimeSplit { model: Nanos(5 * MILLI), ..TimeSplit::default() },
    }
}

pub fn exec() -> ProcessEvent {
    let info = ProcessInfo {
        exe: "/usr/bin/claude".to_owned(),
        comm: "claude".to_owned(),
        cmdline: vec!["claude".to_owned(), "-p".to_owned(), "hello".to_owned()],
        cwd: "/home/somebody".to_owned(),
        uid: 1000,
        container: None,
    };
    ProcessEvent {
        process: PROCESS,
        at: Nanos(START),
        change: ProcessChange::Exec { parent: None, info: Arc::new(info) },
    }
}
