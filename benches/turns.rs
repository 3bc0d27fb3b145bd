//! What the turn stage costs: per call as a session grows, and for a million calls in bounded memory.
//!
//! `cargo bench --bench turns` prints the curve and the peak of the process's memory; `-- --calls N` changes the million. The time
//! is processor time of `Stage::push` alone: making the calls is not measured.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;
use std::time::Duration;

use heron::event::{ConnId, Nanos, ProcId};
use heron::http::Protocol;
use heron::turn::{Config, Input, Stage, TurnUpdate};
use heron::wire::{
    Call, CallId, CallState, Content, Finish, Half, Message, MessageHash, Operation, Role, Times, ToolCall,
    ToolOffered, Usage, WireApi,
};
use serde_json::{Map, json};

const SECOND: u64 = 1_000_000_000;

fn main() {
    let calls = std::env::args()
        .skip_while(|argument| argument != "--calls")
        .nth(1)
        .and_then(|count| count.parse().ok())
        .unwrap_or(1_000_000u64);
    curve(
        "one turn of many tool calls",
        |session, n| if n == 0 { session.prompt(n) } else { session.result(n) },
        false,
    );
    curve("many turns of one call", |session, n| session.prompt(n), true);
    stream(calls);
}

/// One agent's session.
struct Session {
    number: u64,
    now: u64,
    history: Vec<Arc<Message>>,
    tools: Arc<[ToolOffered]>,
}

impl Session {
    fn new(number: u64, now: u64) -> Session {
        let tools = ["Bash", "Read", "Edit", "Task"];
        let tools = tools.iter().map(|name| ToolOffered { name: (*name).into(), ..ToolOffered::default() }).collect();
        Session { number, now, history: Vec::new(), tools }
    }

    fn say(&mut self, role: Role, content: Vec<Content>) {
        self.history.push(Arc::new(message(role, content)));
    }

    fn prompt(&mut self, n: u64) {
        let text = format!("question {n} of session {}, in some detail: {}", self.number, "words ".repeat(40));
        self.say(Role::User, vec![Content::Text { text }]);
    }

    fn result(&mut self, n: u64) {
        let text = format!("line {n}\n{}", "output of the command\n".repeat(50));
        self.say(
            Role::Tool,
            vec![Content::ToolResult {
                id: format!("toolu_{}_{}", self.number, n - 1),
                name: None,
                text,
                is_error: false,
            }],
        );
    }

    fn call(&mut self, n: u64, last: bool) -> Call {
        let answer = if last {
            Content::Text { text: format!("answer {n} of session {}: {}", self.number, "words ".repeat(30)) }
        } else {
            Content::ToolCall(ToolCall {
                id: format!("toolu_{}_{n}", self.number),
                name: "Bash".into(),
                arguments: json!({"command": format!("command {n} {}", self.number)}),
                server_side: false,
            })
        };
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.number.to_be_bytes());
        id[8..].copy_from_slice(&n.to_be_bytes());
        let start = self.now;
        self.now += SECOND;
        let output = message(Role::Assistant, vec![answer]);
        let call = Call {
            id: CallId(id),
            conn: ConnId(self.number),
            state: CallState::Done,
            process: Some(ProcId { pid: (self.number % 30_000) as u32, start: 1 }),
            client: None,
            server: None,
            transport: None,
            protocol: Protocol::Http1,
            method: "POST".into(),
            target: "/v1/messages".into(),
            authority: Some("api.anthropic.com".into()),
            wire_api: WireApi::AnthropicMessages,
            provider: "anthropic".into(),
            server_kind: None,
            operation: Operation::Chat,
            request_model: Some("claude-sonnet-4-5".into()),
            response_model: Some("claude-sonnet-4-5".into()),
            response_id: None,
            previous_response_id: None,
            conversation_hint: None,
            parameters: Map::new(),
            stream: true,
            messages: self.history.clone(),
            tools_offered: self.tools.iter().cloned().collect(),
            output: vec![output.clone()],
            usage: Usage {
                input_uncached: Some(100),
                cache_read: Some(50_000),
                output_text: Some(100),
                ..Usage::default()
            },
            service_tier: None,
            finish_reason: None,
            finish: Some(if last { Finish::Stop } else { Finish::ToolCalls }),
            status: Some(200),
            error: None,
            times: Times {
                request_first: Nanos(start),
                first_token: Some(Nanos(start + SECOND / 4)),
                last_byte: Some(Nanos(start + SECOND / 2)),
                ..Times::default()
            },
            request: Half::default(),
            response: Half::default(),
            answered: true,
            ended_by: None,
            flaws: Vec::new(),
        };
        self.history.push(Arc::new(output));
        call
    }
}

fn message(role: Role, content: Vec<Content>) -> Message {
    let bytes = serde_json::to_vec(&(role, &content)).unwrap();
    let mut hash = [0; 16];
    hash.copy_from_slice(&blake3::hash(&bytes).as_bytes()[..16]);
    Message { role, content, hash: MessageHash(hash) }
}

fn curve(what: &str, next: impl Fn(&mut Session, u64), last: bool) {
    println!("{what}\n{:>8} {:>12} {:>14} {:>12}", "call", "us per call", "ns per message", "updates");
    let mut stage = Stage::new(Config::default());
    let mut session = Session::new(1, 1_000 * SECOND);
    let mut out: Vec<TurnUpdate> = Vec::new();
    let mut spent = Duration::ZERO;
    let (mut messages, mut updates, mut window) = (0usize, 0usize, 0u32);
    for n in 0..5_000u64 {
        next(&mut session, n);
        let call = session.call(n, last);
        let begun = cpu_time();
        stage.push(Input::Done(&call), &mut out);
        spent += cpu_time() - begun;
        messages += call.messages.len();
        updates += out.len();
        window += 1;
        out.clear();
        if [5, 10, 50, 100, 500, 1_000, 2_000, 3_000, 4_000, 5_000].contains(&(n + 1)) {
            let us = spent.as_secs_f64() * 1e6 / f64::from(window);
            println!("{:>8} {us:>12.1} {:>14.1} {updates:>12}", n + 1, spent.as_secs_f64() * 1e9 / messages as f64);
            (spent, messages, updates, window) = (Duration::ZERO, 0, 0, 0);
        }
    }
    println!();
}

/// Sessions of ten calls, many at a time, interleaved.
fn stream(calls: u64) {
    const AT_ONCE: u64 = 200;
    const LENGTH: u64 = 10;
    let mut stage = Stage::new(Config::default());
    let mut out: Vec<TurnUpdate> = Vec::new();
    let mut spent = Duration::ZERO;
    let (mut told, mut settled, mut next) = (0u64, 0u64, 0u64);
    println!("{calls} calls of sessions of {LENGTH}, {AT_ONCE} at a time");
    println!("{:>10} {:>12} {:>12}", "calls", "us per call", "resident MB");
    let mut window = 0u32;
    while told < calls {
        let start = 1_000 * SECOND + told * SECOND;
        let mut sessions: Vec<Session> = (0..AT_ONCE).map(|n| Session::new(next + n, start)).collect();
        next += AT_ONCE;
        for n in 0..LENGTH {
            for session in &mut sessions {
                if n % 5 == 0 {
                    session.prompt(n)
                } else {
                    session.result(n)
                }
                let call = session.call(n, n % 5 == 4);
                let begun = cpu_time();
                stage.push(Input::Done(&call), &mut out);
                if told % 100 == 0 {
                    stage.push(Input::Tick(Nanos(session.now)), &mut out);
                }
                spent += cpu_time() - begun;
                settled += out.drain(..).filter(|u| matches!(u, TurnUpdate::Turn(turn) if turn.settled)).count() as u64;
                told += 1;
                window += 1;
                if told.is_multiple_of((calls / 10).max(1)) {
                    let us = spent.as_secs_f64() * 1e6 / f64::from(window);
                    println!("{told:>10} {us:>12.1} {:>12}", resident_kb("VmRSS:") / 1_024);
                    (spent, window) = (Duration::ZERO, 0);
                }
            }
        }
    }
    stage.push(Input::End, &mut out);
    settled += out.drain(..).filter(|update| matches!(update, TurnUpdate::Turn(turn) if turn.settled)).count() as u64;
    let counters = stage.counters();
    println!(
        "peak {} MB; {} turns begun, {settled} settled, {} findings",
        resident_kb("VmHWM:") / 1_024,
        counters.turns,
        counters.findings
    );
    assert_eq!(counters.turns, settled);
}

/// Processor time of this thread, so that what else the machine does is not measured.
fn cpu_time() -> Duration {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID).expect("the clock exists on Linux").into()
}

fn resident_kb(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_default();
    line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or_default()
}
