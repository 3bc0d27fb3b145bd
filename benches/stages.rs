//! What each stage from the packets to the turns costs, on one thread: the pure core and the packet reader, without
//! threads, store or console.
//!
//! `stages time FILE ROUNDS` prints the CPU time per stage over a capture.
//! `stages run KIND` makes one pass over a small generated capture. Under callgrind, a dump after each
//! `counted_*` function has the instructions of that stage alone: `benches/instructions.py` holds them against its ceilings.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "../testdata/generate/packets.rs"]
mod packets;
#[path = "../testdata/generate/traffic.rs"]
mod traffic;

use std::io::{BufWriter, Write};
use std::ops::ControlFlow;
use std::path::Path;

use heron::capture::pcap::{FileSource, Options};
use heron::capture::{Source, StopFlag};
use heron::event::{Event, Nanos};
use heron::http::Part;
use heron::wire::{CallUpdate, Origin};
use heron::{conn, turn, wire};
use nix::time::{ClockId, clock_gettime};
use packets::{Pcap, Wrap, frame};
use traffic::{Shape, generate};

const STAGES: [&str; 4] = ["events", "http", "wire", "turn"];

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [_, "time", file, rounds] => time(Path::new(file), rounds.parse().unwrap()),
        [_, "run", kind] => run(kind),
        _ => {
            eprintln!("usage: stages time FILE ROUNDS | run tokens|history");
            std::process::exit(2);
        }
    }
}

/// Prints the size of the capture that was gone through.
fn run(kind: &str) {
    let shape = match kind {
        // Short answers, a token per packet.
        "tokens" => Shape { sessions: 1, turns: 1, calls: 3, step_bytes: 2000, singles: 20 },
        // A conversation whose history grows.
        _ => Shape { sessions: 1, turns: 2, calls: 8, step_bytes: 16_000, singles: 0 },
    };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("run.pcap");
    let calls = write_capture(&path, shape);
    assert_eq!(pass(&path, &mut |_| {}), calls, "every call is found");
    println!("{}", std::fs::metadata(&path).unwrap().len());
}

fn write_capture(path: &Path, shape: Shape) -> u64 {
    let mut file = BufWriter::new(std::fs::File::create(path).unwrap());
    file.write_all(&Pcap::PLAIN.file(1, &[])).unwrap();
    let truth = generate(shape, |packets| {
        for packet in &packets {
            file.write_all(&Pcap::PLAIN.file(1, &[frame(packet, Wrap::Ethernet, 0)])[24..]).unwrap();
        }
    });
    file.flush().unwrap();
    truth.calls
}

/// Seconds of this thread's CPU time.
fn cpu() -> f64 {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap();
    time.tv_sec() as f64 + time.tv_nsec() as f64 / 1e9
}

fn time(path: &Path, rounds: usize) {
    let megabytes = std::fs::metadata(path).unwrap().len() as f64 / 1e6;
    let mut best = [f64::MAX; STAGES.len()];
    for _ in 0..rounds {
        let (mut last, mut round) = (cpu(), [0.0; STAGES.len()]);
        pass(path, &mut |stage| {
            let now = cpu();
            round[stage] += now - last;
            last = now;
        });
        best.iter_mut().zip(round).for_each(|(best, took)| *best = best.min(took));
    }
    let of = |name: &str, took: f64| (name.to_owned(), (megabytes / took).into());
    let mut rates: serde_json::Map<String, serde_json::Value> =
        STAGES.iter().zip(best).map(|(name, took)| of(name, took)).collect();
    rates.extend([of("all", best.iter().sum())]);
    println!("{}", serde_json::Value::Object(rates));
}

/// One pass over a capture, each stage to its end before the next; `each` hears which stage is over. How many calls.
fn pass(path: &Path, each: &mut dyn FnMut(usize)) -> u64 {
    let events = counted_events(path);
    each(0);
    let (conn, parts) = counted_http(events);
    each(1);
    let updates = counted_wire(&conn, parts);
    each(2);
    let calls = counted_turn(&updates);
    each(3);
    calls
}

#[inline(never)]
fn counted_events(path: &Path) -> Vec<Event> {
    let source = Box::new(FileSource::open(Options { files: vec![path.to_owned()], ..Options::default() }).unwrap());
    let mut events = Vec::new();
    let mut out = |batch: Vec<Event>| {
        events.extend(batch);
        ControlFlow::Continue(())
    };
    source.run(&mut out, &StopFlag::new()).unwrap();
    events
}

#[inline(never)]
fn counted_http(events: Vec<Event>) -> (conn::Stage, Vec<Part>) {
    let mut stage = conn::Stage::new(conn::Bounds::default());
    let (mut parts, mut last) = (Vec::new(), Nanos(0));
    for event in events {
        last = event.at();
        stage.push(event, &mut parts);
    }
    stage.finish(last, &mut parts);
    (stage, parts)
}

#[inline(never)]
fn counted_wire(conn: &conn::Stage, parts: Vec<Part>) -> Vec<CallUpdate> {
    let nobody_looks = Some(wire::Bounds::NOBODY_LOOKS);
    let mut stage = wire::Stage::new(wire::Bounds { progress: nobody_looks, ..wire::Bounds::default() });
    let mut updates = Vec::new();
    for part in parts {
        let id = part.exchange.conn;
        let origin = || {
            let open = &conn.info(id)?.open;
            let ends = open.endpoints.as_ref()?;
            let (client, server) = (ends.local.clone(), ends.remote.clone());
            let transport = Some(open.transport.clone());
            Some(Origin { process: open.owner, client, server, transport, opened: open.at })
        };
        stage.push(part, &origin, &mut updates);
    }
    updates
}

#[inline(never)]
fn counted_turn(updates: &[CallUpdate]) -> u64 {
    let mut stage = turn::Stage::new(turn::Config::default());
    let (mut out, mut calls) = (Vec::new(), 0);
    for update in updates {
        if let CallUpdate::Done(call) = update {
            calls += 1;
            stage.push(turn::Input::Done(call), &mut out);
            out.clear();
        }
    }
    stage.push(turn::Input::End, &mut out);
    calls
}
