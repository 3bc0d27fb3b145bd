//! How fast a capture becomes events, alone; and the floors beside it. Prints one JSON object.
//!
//! `events FILE ROUNDS [check]`: with `check` the hash of every stream is printed too (and the time is not comparable).
#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use heron::capture::pcap::{FileSource, Options};
use heron::capture::{Source, StopFlag};
use heron::event::{ConnId, Event};
use nix::sys::resource::{UsageWho, getrusage};

/// CPU seconds of this process so far.
fn cpu() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
    let secs = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    secs(usage.user_time()) + secs(usage.system_time())
}

fn timed(mut work: impl FnMut()) -> f64 {
    let before = cpu();
    work();
    cpu() - before
}

fn events(path: &Path, mut each: impl FnMut(Vec<Event>)) {
    let source = Box::new(FileSource::open(Options { files: vec![path.to_owned()], ..Options::default() }).unwrap());
    let mut out = |batch: Vec<Event>| {
        each(batch);
        ControlFlow::Continue(())
    };
    source.run(&mut out, &StopFlag::new()).unwrap();
}

fn read_through(path: &Path) {
    let (mut file, mut buffer) = (File::open(path).unwrap(), vec![0; 1 << 20]);
    while file.read(&mut buffer).unwrap() > 0 {}
    std::hint::black_box(&buffer);
}

/// Seconds per byte of copying what does not fit into the caches.
fn copy(rounds: usize) -> f64 {
    const BYTES: usize = 32 << 20;
    let (from, mut to) = (vec![1u8; BYTES], vec![2u8; BYTES]);
    let took = (0..rounds).map(|_| {
        timed(|| {
            for _ in 0..8 {
                to.copy_from_slice(&from);
                std::hint::black_box(&mut to);
            }
        })
    });
    took.fold(f64::MAX, f64::min) / (8 * BYTES) as f64
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, path, rounds, rest @ ..] = &arguments[..] else {
        eprintln!("usage: events FILE ROUNDS [check]");
        std::process::exit(2);
    };
    let (path, rounds) = (PathBuf::from(path), rounds.parse::<usize>().unwrap());
    let megabytes = std::fs::metadata(&path).unwrap().len() as f64 / 1e6;
    if rest.first().is_some_and(|word| word == "check") {
        let mut streams: HashMap<(ConnId, usize), blake3::Hasher> = HashMap::new();
        let mut lost = 0;
        events(&path, |batch| {
            for event in batch {
                match event {
                    Event::Data(data) => {
                        streams.entry((data.conn, data.direction.index())).or_default().update(&data.bytes);
                    }
                    Event::Lost(hole) => lost += hole.len,
                    _ => {}
                }
            }
        });
        let sum = streams.values().fold(0u64, |sum, hasher| {
            sum.wrapping_add(u64::from_le_bytes(hasher.finalize().as_bytes()[..8].try_into().unwrap()))
        });
        let kib = getrusage(UsageWho::RUSAGE_SELF).unwrap().max_rss();
        println!(
            "{}",
            serde_json::json!({"streams": format!("{sum:016x}"), "lost": lost, "peak_mb": kib as f64 / 1024.0})
        );
        return;
    }
    let (mut best_events, mut best_read, mut count) = (f64::MAX, f64::MAX, 0);

    for _ in 0..rounds {
        best_read = best_read.min(timed(|| read_through(&path)));
        count = 0;
        best_events = best_events.min(timed(|| events(&path, |batch| count += batch.len())));
    }
    let kib = getrusage(UsageWho::RUSAGE_SELF).unwrap().max_rss();
    println!(
        "{}",
        serde_json::json!({
            "megabytes": megabytes, "events": count, "events_mb_per_cpu_s": megabytes / best_events,
            "read_mb_per_cpu_s": megabytes / best_read, "copy_mb_per_cpu_s": 1e-6 / copy(rounds), "peak_mb": kib as f64 / 1024.0,
        })
    );
}
