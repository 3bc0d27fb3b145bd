//! The store's speed: calls a second, bytes a second with every body kept, size on disk, and what reading takes.
//!
//! `cargo bench --bench store [-- CALLS...]`: agents' traffic, then databases of so many short calls (default 10,000 and
//! 100,000); one JSON object per line (benches/store.py makes a table of them).
#![allow(clippy::unwrap_used)]

#[path = "../tests/made/mod.rs"]
mod made;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use heron::event::{ConnId, Nanos};
use heron::store::{CallFilter, Item, Location, Page, Store, Writer};
use heron::turn::Placement;
use heron::wire::{Call, CallId, Message, Role};

/// An agent's conversation: each call resends everything, and adds a prompt and an answer.
struct Conversation {
    number: u64,
    calls: u64,
    messages: Vec<Arc<Message>>,
    sent: String,
    template: Call,
}

impl Conversation {
    fn new(number: u64, system: &str) -> Conversation {
        let system = made::message(Role::System, &format!("agent {number}: {system}"));
        let sent =
            format!("{{\"model\":\"m\",\"messages\":[{}", serde_json::json!({"role":"system","content":system.text()}));
        Conversation { number, calls: 0, messages: vec![system], sent, template: made::call(0) }
    }

    fn next(&mut self, words: usize, start: u64) -> (Arc<Call>, Placement) {
        let seed = self.number * 1_000_003 + self.calls;
        for (role, text) in
            [(Role::Assistant, made::words(seed, words / 2)), (Role::User, made::words(seed + 9, words))]
        {
            let message = made::message(role, &format!("{seed} {text}"));
            self.sent.push_str(&format!(",{}", serde_json::json!({"role": role, "content": message.text()})));
            self.messages.push(message);
        }
        let mut call = self.template.clone();
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.number.to_be_bytes());
        id[8..].copy_from_slice(&self.calls.to_be_bytes());
        call.id = CallId(*blake3::hash(&id).as_bytes().first_chunk().unwrap());
        call.conn = ConnId(self.number);
        call.messages = self.messages.clone();
        call.request.body = Bytes::from(format!("{}],\"tools\":[],\"n\":{seed}}}", self.sent));
        call.request.body_len = call.request.body.len() as u64;
        call.response.body = Bytes::from(made::words(seed + 77, words));
        call.response.body_len = call.response.body.len() as u64;
        call.times.request_first = Nanos(start);
        self.calls += 1;
        let place = Placement { call_id: call.id, ..made::placement(0, self.number) };
        (Arc::new(call), place)
    }
}

/// The processor time of all threads so far: a busy machine does not change it.
fn cpu() -> Duration {
    use nix::sys::resource::{UsageWho, getrusage};
    use nix::sys::time::TimeValLike;
    let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Duration::from_micros(micros.unsigned_abs())
}

fn write(writer: &mut Writer, calls: Vec<(Arc<Call>, Placement)>) -> Duration {
    let begun = cpu();
    for (call, place) in calls {
        writer.push(Item::Call(call)).unwrap();
        writer.push(Item::Placement(place)).unwrap();
    }
    writer.flush().unwrap();
    cpu() - begun
}

/// The least processor time of several reads, in milliseconds.
fn least(read: &dyn Fn()) -> f64 {
    let time = |_| {
        let begun = cpu();
        read();
        (cpu() - begun).as_secs_f64() * 1000.0
    };
    (0..10).map(time).fold(f64::INFINITY, f64::min)
}

/// What was written: calls, bytes of their bodies, and the processor time it took.
#[derive(Default)]
struct Written {
    calls: u64,
    bytes: u64,
    took: Duration,
}

impl Written {
    fn write(&mut self, writer: &mut Writer, calls: Vec<(Arc<Call>, Placement)>) {
        self.calls += calls.len() as u64;
        self.bytes += calls.iter().map(|(call, _)| call.request.body_len + call.response.body_len).sum::<u64>();
        self.took += write(writer, calls);
    }

    fn close(mut self, writer: Writer, path: &Path, what: &str) -> serde_json::Value {
        let begun = cpu();
        writer.close().unwrap();
        self.took += cpu() - begun;
        let disk = std::fs::metadata(path).unwrap().len();
        let seconds = self.took.as_secs_f64();
        serde_json::json!({
            "what": what, "calls": self.calls, "body_bytes": self.bytes, "disk_bytes": disk, "cpu_seconds": seconds,
            "calls_per_cpu_second": self.calls as f64 / seconds, "mb_per_cpu_second": self.bytes as f64 / 1e6 / seconds,
        })
    }
}

/// Agents side by side, `calls` each; with `live`, every call is flushed as it is when nothing follows it for a moment.
fn agents(folder: &Path, what: &str, count: u64, calls: u64, live: bool) -> serde_json::Value {
    let system = made::words(7, 2_500);
    let path = folder.join("agents.duckdb");
    let mut writer = Store::open(Location::File(path.clone())).unwrap().into_writer().unwrap();
    let (mut written, mut at) = (Written::default(), made::START);
    let mut conversations: Vec<Conversation> = (0..count).map(|number| Conversation::new(number, &system)).collect();
    for _ in 0..calls {
        let mut batch: Vec<_> = Vec::new();
        for conversation in &mut conversations {
            at += 1_000_000;
            batch.push(conversation.next(600, at));
            if live {
                written.write(&mut writer, std::mem::take(&mut batch));
            }
        }
        written.write(&mut writer, batch);
    }
    let result = written.close(writer, &path, what);
    std::fs::remove_file(path).unwrap();
    result
}

/// Short calls, each a conversation of its own, and what reading them takes.
fn short(folder: &Path, count: u64) -> serde_json::Value {
    let path = folder.join("short.duckdb");
    let store = Store::open(Location::File(path.clone())).unwrap();
    let reader = store.reader();
    let mut writer = store.into_writer().unwrap();
    let (mut written, mut at) = (Written::default(), made::START);
    let mut newest = String::new();
    while written.calls < count {
        let first = written.calls;
        let batch: Vec<_> = (0..2_000.min(count - first))
            .map(|number| {
                at += 50_000_000;
                Conversation::new(first + number, "be brief").next(60, at)
            })
            .collect();
        newest = batch.last().unwrap().0.id.to_string();
        written.write(&mut writer, batch);
    }
    let page = || Page { limit: 50, before: None };
    let filtered = |filter: CallFilter| least(&|| drop(reader.calls(&filter, &page()).unwrap()));
    let reads = serde_json::json!({
        "newest 50 calls": filtered(CallFilter::default()),
        "24-hour aggregate": least(&|| drop(reader.metrics(at - 86_400_000_000_000, at).unwrap())),
        "calls with an error (none)": filtered(CallFilter { error: Some(true), ..CallFilter::default() }),
        "text search (nothing found)": filtered(CallFilter { text: Some("no such words".to_owned()), ..CallFilter::default() }),
        "one call's detail": least(&|| drop(reader.call(&newest).unwrap().unwrap())),
        "one body": least(&|| drop(reader.body(&newest, true).unwrap().unwrap())),
    });
    drop(reader);
    let mut result = written.close(writer, &path, "short calls");
    result["milliseconds"] = reads;
    std::fs::remove_file(path).unwrap();
    result
}

fn main() {
    let mut counts: Vec<u64> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    if counts.is_empty() {
        counts = vec![10_000, 100_000];
    }
    let folder = tempfile::tempdir().unwrap();
    println!("{}", agents(folder.path(), "16 agents, 60 calls each, at once", 16, 60, false));
    println!("{}", agents(folder.path(), "2 agents, 180 calls each, one after the other", 2, 180, true));
    for count in counts {
        println!("{}", short(folder.path(), count));
    }
}
