//! What each stage from the packets to the turns costs, on one thread.
//!
//! `heron-core-bench time FILE ROUNDS`: CPU time per stage over a capture.
//! `heron-core-bench run KIND`: one pass over a small generated capture; under callgrind, `--toggle-collect=stage_*` counts
//! the instructions of one stage (`count.py`).
#![allow(dead_code, unused_imports, clippy::unwrap_used)]

mod capture;
#[path = "../../../src/conn/mod.rs"]
mod conn;
#[path = "../../../src/event.rs"]
mod event;
#[path = "../../../src/flaw.rs"]
mod flaw;
#[path = "../../../src/http/mod.rs"]
mod http;
#[path = "../../../testdata/generate/packets.rs"]
mod packets;
#[path = "../../../testdata/generate/traffic.rs"]
mod traffic;
#[path = "../../../src/turn/mod.rs"]
mod turn;
#[path = "../../../src/wire/mod.rs"]
mod wire;

use std::io::{BufWriter, Write};
use std::ops::ControlFlow;
use std::path::Path;

use capture::pcap::{FileSource, Options};
use capture::{Source, StopFlag};
use event::{Direction, Event};
use http::Part;
use nix::time::{ClockId, clock_gettime};
use packets::{Pcap, Wrap, frame};
use traffic::{Shape, generate};
use wire::{CallUpdate, Origin};

/// Many short answers of small tokens, and a few long conversations.
const TOKENS: Shape = Shape { sessions: 1, turns: 2, calls: 4, step_bytes: 4000, singles: 40 };
/// One conversation whose history grows.
const HISTORY: Shape = Shape { sessions: 1, turns: 4, calls: 8, step_bytes: 7000, singles: 0 };

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [_, "time", file, rounds] => time(Path::new(file), rounds.parse().unwrap()),
        [_, "run", kind] => {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("run.pcap");
            write_capture(&path, if kind == "history" { HISTORY } else { TOKENS });
            let found = pass(&path, &mut |_| {});
            println!("{}", std::fs::metadata(&path).unwrap().len());
            assert!(found > 0);
        }
        _ => {
            eprintln!("usage: heron-core-bench time FILE ROUNDS | run tokens|history");
            std::process::exit(2);
        }
    }
}

fn write_capture(path: &Path, shape: Shape) {
    let mut file = BufWriter::new(std::fs::File::create(path).unwrap());
    file.write_all(&Pcap::PLAIN.file(1, &[])).unwrap();
    generate(shape, |packets| {
        for packet in &packets {
            file.write_all(&Pcap::PLAIN.file(1, &[frame(packet, Wrap::Ethernet, 0)])[24..]).unwrap();
        }
    });
    file.flush().unwrap();
}

/// Seconds of this thread's CPU time.
fn cpu() -> f64 {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap();
    time.tv_sec() as f64 + time.tv_nsec() as f64 / 1e9
}

fn time(path: &Path, rounds: usize) {
    let megabytes = std::fs::metadata(path).unwrap().len() as f64 / 1e6;
    let mut best = [f64::MAX; 4];
    for _ in 0..rounds {
        let (mut last, mut round) = (cpu(), [0.0; 4]);
        pass(path, &mut |stage| {
            let now = cpu();
            round[stage] += now - last;
            last = now;
        });
        best.iter_mut().zip(round).for_each(|(best, took)| *best = best.min(took));
    }
    let names = ["events", "http", "wire", "turn"];
    for (name, took) in names.iter().zip(best) {
        println!("{name:8} {:8.2} ms {:8.0} MB/s", took * 1e3, megabytes / took);
    }
    let all: f64 = best.iter().sum();
    println!("{:8} {:8.2} ms {:8.0} MB/s", "all", all * 1e3, megabytes / all);
}

/// One pass over a capture, each stage to its end before the next; `each` hears that a stage is over. How many calls.
fn pass(path: &Path, each: &mut dyn FnMut(usize)) -> usize {
    let events = stage_events(path);
    each(0);
    let (conn, parts) = stage_http(events);
    each(1);
    let updates = stage_wire(&conn, parts);
    each(2);
    let turns = stage_turn(&updates);
    each(3);
    turns
}

#[unsafe(no_mangle)]
#[inline(never)]
fn stage_events(path: &Path) -> Vec<Event> {
    let source = Box::new(FileSource::open(Options { files: vec![path.to_owned()], ..Options::default() }).unwrap());
    let mut events = Vec::new();
    let mut out = |batch: Vec<Event>| {
        events.extend(batch);
        ControlFlow::Continue(())
    };
    source.run(&mut out, &StopFlag::new()).unwrap();
    events
}

#[unsafe(no_mangle)]
#[inline(never)]
fn stage_http(events: Vec<Event>) -> (conn::Stage, Vec<Part>) {
    let mut stage = conn::Stage::new(conn::Bounds::default());
    let mut parts = Vec::new();
    let mut last = event::Nanos(0);
    for event in events {
        last = event.at();
        stage.push(event, &mut parts);
    }
    stage.finish(last, &mut parts);
    (stage, parts)
}

#[unsafe(no_mangle)]
#[inline(never)]
fn stage_wire(conn: &conn::Stage, parts: Vec<Part>) -> Vec<CallUpdate> {
    let mut stage = wire::Stage::new(wire::Bounds::default());
    let mut updates = Vec::new();
    for part in parts {
        let id = part.exchange.conn;
        let origin = || {
            conn.info(id).map(|info| Origin {
                process: info.open.owner,
                client: info.open.endpoints.as_ref().and_then(|ends| match info.client {
                    Some(Direction::Received) => ends.remote.clone(),
                    _ => ends.local.clone(),
                }),
                server: None,
                transport: Some(info.open.transport.clone()),
                opened: info.open.at,
            })
        };
        stage.push(part, &origin, &mut updates);
    }
    updates
}

#[unsafe(no_mangle)]
#[inline(never)]
fn stage_turn(updates: &[CallUpdate]) -> usize {
    let mut stage = turn::Stage::new(turn::Config::default());
    let mut out = Vec::new();
    let mut calls = 0;
    for update in updates {
        match update {
            CallUpdate::Progress(call) => stage.push(turn::Input::Progress(call), &mut out),
            CallUpdate::Done(call) => {
                calls += 1;
                stage.push(turn::Input::Done(call), &mut out);
            }
        }
        out.clear();
    }
    stage.push(turn::Input::End, &mut out);
    calls
}
