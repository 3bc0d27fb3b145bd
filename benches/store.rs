//! The store's speed: rows a second, bytes a second with every body kept, size on disk, and what reading takes.
//!
//! `cargo bench --bench store [-- CALLS]`; `CALLS` small calls (default 100,000) beside a fixed amount of agents' traffic.
#![allow(clippy::unwrap_used)]

#[path = "../tests/made/mod.rs"]
mod made;

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

fn report(what: &str, calls: u64, bytes: u64, took: Duration, disk: u64) {
    let (seconds, megabytes) = (took.as_secs_f64(), bytes as f64 / 1e6);
    println!(
        "{what}: {calls} calls, {megabytes:.0} MB of bodies in {seconds:.2} CPU-s: {:.0} calls/s, {:.0} MB/s; file {:.1} MB ({:.2}% of the bodies)",
        calls as f64 / seconds,
        megabytes / seconds,
        disk as f64 / 1e6,
        100.0 * disk as f64 / bytes as f64,
    );
}

fn main() {
    let small: u64 = std::env::args().filter_map(|argument| argument.parse().ok()).next().unwrap_or(100_000);
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();

    let system = made::words(7, 2_500);
    let path = folder.join("agents.duckdb");
    let mut writer = Store::open(Location::File(path.clone())).unwrap().into_writer().unwrap();
    let (mut took, mut calls, mut bytes, mut at) = (Duration::ZERO, 0, 0, made::START);
    let mut conversations: Vec<Conversation> = (0..16).map(|number| Conversation::new(number, &system)).collect();
    for _ in 0..60 {
        let batch: Vec<_> = conversations
            .iter_mut()
            .map(|conversation| {
                at += 1_000_000;
                conversation.next(600, at)
            })
            .collect();
        calls += batch.len() as u64;
        bytes += batch.iter().map(|(call, _)| call.request.body_len + call.response.body_len).sum::<u64>();
        took += write(&mut writer, batch);
    }
    let begun = cpu();
    writer.close().unwrap();
    took += cpu() - begun;
    report("agents, 16 conversations of 60 calls", calls, bytes, took, std::fs::metadata(&path).unwrap().len());

    let path = folder.join("small.duckdb");
    let store = Store::open(Location::File(path.clone())).unwrap();
    let reader = store.reader();
    let mut writer = store.into_writer().unwrap();
    let (mut took, mut calls, mut bytes) = (Duration::ZERO, 0, 0);
    let mut newest = None;
    while calls < small {
        let batch: Vec<_> = (0..2_000)
            .map(|number| {
                at += 1_000_000;
                Conversation::new(calls + number, "be brief").next(60, at)
            })
            .collect();
        calls += batch.len() as u64;
        bytes += batch.iter().map(|(call, _)| call.request.body_len + call.response.body_len).sum::<u64>();
        newest = batch.last().map(|(call, _)| call.id.to_string());
        took += write(&mut writer, batch);
    }
    let newest = newest.unwrap();
    let timed = |what: &str, read: &dyn Fn()| {
        read();
        let begun = cpu();
        (0..10).for_each(|_| read());
        println!("  {what}: {:.1} ms of CPU", (cpu() - begun).as_secs_f64() * 100.0);
    };
    timed("newest 50", &|| drop(reader.calls(&CallFilter::default(), &Page { limit: 50, before: None }).unwrap()));
    let errors = CallFilter { error: Some(true), ..CallFilter::default() };
    timed("errors (none)", &|| drop(reader.calls(&errors, &Page { limit: 50, before: None }).unwrap()));
    let words = CallFilter { text: Some("no such words".to_owned()), ..CallFilter::default() };
    timed("full text (none)", &|| drop(reader.calls(&words, &Page { limit: 50, before: None }).unwrap()));
    timed("24-hour aggregate", &|| drop(reader.metrics(at - 86_400_000_000_000, at).unwrap()));
    timed("one call's detail", &|| drop(reader.call(&newest).unwrap().unwrap()));
    timed("one body", &|| drop(reader.body(&newest, true).unwrap().unwrap()));
    let begun = cpu();
    writer.close().unwrap();
    took += cpu() - begun;
    report("small calls", calls, bytes, took, std::fs::metadata(&path).unwrap().len());
}
