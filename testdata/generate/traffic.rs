//! Makes traffic of agents with known content: conversations that resend a growing history, answers that stream, many
//! connections. Deterministic. Every call has its own number of uncached input tokens, by which it is found again.
#![allow(dead_code, clippy::unwrap_used)]

use std::fmt::Write;

use super::packets::{Conversation, Packet, Rng};

/// Time of the first packet.
pub const START: u64 = 1_700_000_000_000_000_000;
/// Sessions that go on at the same time.
const SIDE_BY_SIDE: usize = 8;

/// How much to make.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Agents with a long conversation, each on one kept-alive connection.
    pub sessions: usize,
    pub turns: usize,
    /// Calls of a turn: all but the last ask for a tool.
    pub calls: usize,
    /// Bytes that a tool result or prompt adds to the history, about.
    pub step_bytes: usize,
    /// Short calls, each on a connection of its own.
    pub singles: usize,
}

/// What a reader must find.
#[derive(Clone, Default, Debug, PartialEq)]
pub struct Truth {
    pub calls: u64,
    pub turns: u64,
    pub input_tokens: u64,
    pub output_tokens: u64,
    /// Sizes of the bodies, without transfer framing.
    pub request_bytes: u64,
    pub response_bytes: u64,
    pub connections: u64,
    /// Sum of the first 8 bytes of the BLAKE3 hash of every stream (each direction of each connection).
    pub streams: u64,
    /// The same over every body.
    pub bodies: u64,
}

pub fn short_hash(bytes: &[u8]) -> u64 {
    let hash = blake3::hash(bytes);
    u64::from_le_bytes(hash.as_bytes()[..8].try_into().unwrap())
}

const WORDS: [&str; 48] = [
    "file", "error", "return", "value", "let", "match", "the", "result", "of", "a", "test", "module", "build", "path",
    "line", "code", "function", "with", "and", "struct", "string", "number", "parse", "index", "buffer", "stream",
    "is", "not", "in", "to", "for", "call", "state", "model", "token", "check", "update", "write", "read", "open",
    "close", "config", "default", "option", "server", "client", "request", "answer",
];

fn prose(len: usize, rng: &mut Rng) -> String {
    let mut text = String::with_capacity(len + 16);
    while text.len() < len {
        let _ = match rng.below(12) {
            0 => write!(text, "{} ", rng.below(1_000_000)),
            1 => write!(text, "{:x}\\n", rng.next() & 0xffff_ffff),
            _ => write!(text, "{} ", WORDS[rng.below(WORDS.len())]),
        };
    }
    text
}

/// One call, as its two bodies and the events of the second.
struct Exchange {
    request: String,
    events: Vec<String>,
    output_tokens: u64,
}

/// A conversation with the Messages API.
struct Session {
    rng: Rng,
    head: String,
    messages: String,
}

impl Session {
    fn new(seed: u64) -> Session {
        let mut rng = Rng::new(seed);
        let mut tools = String::new();
        for index in 0..12 {
            let about = prose(700, &mut rng);
            let _ = write!(
                tools,
                "{}{{\"name\":\"tool_{index}\",\"description\":\"{about}\",\"input_schema\":{{\"type\":\"object\",\"properties\":{{\"path\":{{\"type\":\"string\"}}}}}}}}",
                if index == 0 { "" } else { "," }
            );
        }
        let system = prose(8000, &mut rng);
        let head = format!(
            "{{\"model\":\"claude-sonnet-4-5-20250929\",\"max_tokens\":32000,\"stream\":true,\"system\":[{{\"type\":\"text\",\"text\":\"agent {seed} {system}\"}}],\"tools\":[{tools}],\"messages\":["
        );
        Session { rng, head, messages: String::new() }
    }

    fn say(&mut self, message: &str) {
        if !self.messages.is_empty() {
            self.messages.push(',');
        }
        self.messages.push_str(message);
    }

    fn prompt(&mut self, len: usize) {
        let text = prose(len, &mut self.rng);
        self.say(&format!("{{\"role\":\"user\",\"content\":\"please {text}\"}}"));
    }

    /// The next call; `last` ends the turn, any other asks for a tool, whose result is appended.
    fn call(&mut self, number: u64, last: bool, step_bytes: usize) -> Exchange {
        let request = format!("{}{}]}}", self.head, self.messages);
        let words = 30 + self.rng.below(90);
        let mut answer = String::new();
        let mut events = vec![
            format!("event: message_start\ndata: {{\"type\":\"message_start\",\"message\":{{\"id\":\"msg_{number:08}\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"claude-sonnet-4-5-20250929\",\"content\":[],\"stop_reason\":null,\"usage\":{{\"input_tokens\":{number},\"cache_creation_input_tokens\":7,\"cache_read_input_tokens\":100,\"output_tokens\":1}}}}}}\n\n"),
            "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n".to_owned(),
        ];
        for _ in 0..words {
            let word = WORDS[self.rng.below(WORDS.len())];
            let _ = write!(answer, " {word}");
            events.push(format!("event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{{\"type\":\"text_delta\",\"text\":\" {word}\"}}}}\n\n"));
        }
        events.push("event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n".to_owned());
        if last {
            self.say(&format!("{{\"role\":\"assistant\",\"content\":[{{\"type\":\"text\",\"text\":\"{answer}\"}}]}}"));
        } else {
            let id = format!("toolu_{number:08}");
            events.push(format!("event: content_block_start\ndata: {{\"type\":\"content_block_start\",\"index\":1,\"content_block\":{{\"type\":\"tool_use\",\"id\":\"{id}\",\"name\":\"tool_3\",\"input\":{{}}}}}}\n\n"));
            for part in ["{\\\"path\\\":", " \\\"src/", "lib.rs\\\"}"] {
                events.push(format!("event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":1,\"delta\":{{\"type\":\"input_json_delta\",\"partial_json\":\"{part}\"}}}}\n\n"));
            }
            events
                .push("event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":1}\n\n".to_owned());
            self.say(&format!("{{\"role\":\"assistant\",\"content\":[{{\"type\":\"text\",\"text\":\"{answer}\"}},{{\"type\":\"tool_use\",\"id\":\"{id}\",\"name\":\"tool_3\",\"input\":{{\"path\":\"src/lib.rs\"}}}}]}}"));
            let result = prose(step_bytes, &mut self.rng);
            self.say(&format!("{{\"role\":\"user\",\"content\":[{{\"type\":\"tool_result\",\"tool_use_id\":\"{id}\",\"content\":\"{result}\"}}]}}"));
        }
        let output_tokens = words as u64 + 11;
        let reason = if last { "end_turn" } else { "tool_use" };
        events.push(format!("event: message_delta\ndata: {{\"type\":\"message_delta\",\"delta\":{{\"stop_reason\":\"{reason}\",\"stop_sequence\":null}},\"usage\":{{\"output_tokens\":{output_tokens}}}}}\n\n"));
        events.push("event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n".to_owned());
        Exchange { request, events, output_tokens }
    }
}

/// Plays a call over a connection; gives what went each way.
fn play(talk: &mut Conversation, number: u64, call: &Exchange, streams: &mut [Vec<u8>; 2], truth: &mut Truth) {
    talk.tag = number as u32;
    let head = format!(
        "POST /v1/messages HTTP/1.1\r\nhost: api.anthropic.com\r\nuser-agent: Anthropic/Python 0.71.0\r\nx-api-key: sk-ant-none\r\nanthropic-version: 2023-06-01\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        call.request.len()
    );
    let request = [head.as_bytes(), call.request.as_bytes()].concat();
    talk.send(0, &request);
    streams[0].extend(&request);
    talk.wait(30_000_000);
    let mut send = |talk: &mut Conversation, bytes: &[u8]| {
        talk.send(1, bytes);
        streams[1].extend(bytes);
    };
    send(
        talk,
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n",
    );
    let mut body = String::new();
    for event in &call.events {
        talk.wait(3_000_000);
        send(talk, format!("{:x}\r\n{event}\r\n", event.len()).as_bytes());
        body.push_str(event);
    }
    send(talk, b"0\r\n\r\n");
    truth.calls += 1;
    truth.input_tokens += number + 107;
    truth.output_tokens += call.output_tokens;
    truth.request_bytes += call.request.len() as u64;
    truth.response_bytes += body.len() as u64;
    truth.bodies =
        truth.bodies.wrapping_add(short_hash(call.request.as_bytes())).wrapping_add(short_hash(body.as_bytes()));
}

fn finish(mut talk: Conversation, streams: &[Vec<u8>; 2], packets: &mut Vec<Packet>, truth: &mut Truth) {
    talk.tag = 0;
    talk.close();
    packets.append(&mut talk.packets);
    truth.connections += 1;
    for stream in streams {
        truth.streams = truth.streams.wrapping_add(short_hash(stream));
    }
}

/// Makes the traffic, in pieces whose packets are in time order.
pub fn generate(shape: Shape, mut take: impl FnMut(Vec<Packet>)) -> Truth {
    let mut truth = Truth::default();
    let (mut number, mut start) = (0, START);
    let mut done = 0;
    let mut singles = 0;
    while done < shape.sessions || singles < shape.singles {
        let mut packets = Vec::new();
        let together = SIDE_BY_SIDE.min(shape.sessions - done);
        for index in 0..together {
            let agent = done + index;
            let client = format!("10.{}.{}.2:{}", agent / 200 % 200, agent % 200, 40_000 + agent % 20_000);
            let mut talk = Conversation::new(&client, "10.250.0.1:8080", start + index as u64 * 1_234_567);
            talk.seq = [agent as u32 * 77_777, agent as u32 * 999_999 + 5];
            talk.open();
            let mut streams = [Vec::new(), Vec::new()];
            let mut session = Session::new(agent as u64 + 1);
            for _ in 0..shape.turns {
                session.prompt(shape.step_bytes / 4);
                for call in 0..shape.calls {
                    number += 1;
                    let exchange = session.call(number, call + 1 == shape.calls, shape.step_bytes);
                    play(&mut talk, number, &exchange, &mut streams, &mut truth);
                    talk.wait(150_000_000);
                }
                truth.turns += 1;
                talk.wait(2_000_000_000);
            }
            finish(talk, &streams, &mut packets, &mut truth);
        }
        done += together;
        let share = shape
            .singles
            .saturating_sub(singles)
            .min(shape.singles.div_ceil(shape.sessions.div_ceil(SIDE_BY_SIDE).max(1)));
        for index in singles..singles + share {
            let client = format!("10.220.{}.{}:{}", index / 250, index % 250 + 1, 30_000 + index % 30_000);
            let mut talk = Conversation::new(&client, "10.250.0.1:8080", start + index as u64 % 1000 * 7_000_000);
            talk.open();
            let (mut streams, mut session) = ([Vec::new(), Vec::new()], Session::new(1_000_000 + index as u64));
            session.head =
                "{\"model\":\"claude-sonnet-4-5-20250929\",\"max_tokens\":1000,\"stream\":true,\"messages\":["
                    .to_owned();
            session.prompt(600);
            number += 1;
            let exchange = session.call(number, true, 0);
            play(&mut talk, number, &exchange, &mut streams, &mut truth);
            truth.turns += 1;
            finish(talk, &streams, &mut packets, &mut truth);
        }
        singles += share;
        packets.sort_by_key(|packet| packet.at);
        start = packets.last().map_or(start, |packet| packet.at + 1_000_000_000);
        take(packets);
    }
    truth
}
