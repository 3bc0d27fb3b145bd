//! From packets to calls, with the built binary: every call of a disordered capture, every undamaged call of one with holes.
#![allow(clippy::unwrap_used)]

#[path = "../testdata/generate/packets.rs"]
mod packets;
#[path = "../testdata/generate/traffic.rs"]
mod traffic;

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use packets::{Packet, Pcap, Rng, Wrap, disorder, frames};
use serde_json::Value;
use traffic::{Shape, Truth, generate};

const SHAPE: Shape = Shape { sessions: 3, turns: 2, calls: 4, step_bytes: 5000, singles: 30 };

fn traffic() -> (Vec<Packet>, Truth) {
    let mut packets = Vec::new();
    let truth = generate(SHAPE, |mut more| packets.append(&mut more));
    (packets, truth)
}

/// What heron says about a capture: calls and turns.
fn replay(packets: &[Packet]) -> (Vec<Value>, Vec<Value>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("capture.pcap");
    std::fs::write(&path, Pcap::PLAIN.file(1, &frames(packets, Wrap::Ethernet))).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_heron"))
        .args(["replay", "--no-retention", "--no-console", "--json"])
        .arg(&path)
        .env("HOME", dir.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    let objects: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |kind: &str| objects.iter().filter(|object| object["type"] == kind).cloned().collect();
    (of("call"), of("turn"))
}

fn sum(calls: &[Value], pointer: &str) -> u64 {
    calls.iter().filter_map(|call| call.pointer(pointer)?.as_u64()).sum()
}

fn assert_complete((calls, turns): (Vec<Value>, Vec<Value>), truth: &Truth, what: &str) {
    assert_eq!((calls.len() as u64, turns.len() as u64), (truth.calls, truth.turns), "{what}");
    for (pointer, expected) in [
        ("/usage/input_total", truth.input_tokens),
        ("/usage/output_total", truth.output_tokens),
        ("/request_bytes", truth.request_bytes),
        ("/response_bytes", truth.response_bytes),
    ] {
        assert_eq!(sum(&calls, pointer), expected, "{what}: {pointer}");
    }
    for call in &calls {
        assert_eq!((&call["flaws"], &call["status"]), (&Value::Array(Vec::new()), &Value::from(200)), "{what}");
    }
}

#[test]
fn every_call_of_a_disordered_capture_is_found() {
    let (packets, truth) = traffic();
    assert_complete(replay(&packets), &truth, "in order");
    for (seed, distance) in [(1, 3), (2, 40), (3, 300)] {
        let mut packets = packets.clone();
        disorder(&mut packets, distance, &mut Rng::new(seed));
        assert_complete(replay(&packets), &truth, &format!("disordered by {distance}"));
    }
}

#[test]
fn undamaged_calls_survive_holes_and_damaged_ones_say_so() {
    let (packets, truth) = traffic();
    let (mut undamaged_found, mut undamaged) = (0, 0);
    for seed in 1..=4 {
        let (mut rng, mut damaged) = (Rng::new(seed), BTreeSet::new());
        let mut packets = packets.clone();
        packets.retain(|packet| {
            let lost = packet.payload > 0 && rng.below(400) == 0;
            if lost {
                damaged.insert(u64::from(packet.tag));
            }
            !lost
        });
        assert!(damaged.len() > 5 && damaged.len() < 40, "{}", damaged.len());
        let (calls, _) = replay(&packets);
        assert!(calls.len() as u64 <= truth.calls, "seed {seed}: a call that never was");
        let mut found = BTreeMap::new();
        for call in &calls {
            let whole = call["flaws"].as_array().unwrap().is_empty();
            let number = call.pointer("/usage/input_uncached").and_then(Value::as_u64);
            if let Some(number) = number {
                assert!((1..=truth.calls).contains(&number) && !found.contains_key(&number), "seed {seed}: {number}");
                assert!(!(whole && damaged.contains(&number)), "seed {seed}: {number} is damaged and does not say so");
                found.insert(number, whole);
            } else {
                assert!(!whole, "seed {seed}: a call without usage and without a flaw: {call}");
            }
        }
        undamaged += truth.calls - damaged.len() as u64;
        undamaged_found += found.iter().filter(|(number, whole)| **whole && !damaged.contains(number)).count() as u64;
    }
    assert!(undamaged_found * 100 >= undamaged * 99, "{undamaged_found} of {undamaged}");
}

#[test]
fn answers_whose_requests_were_not_captured_are_calls_that_say_so() {
    let (mut packets, truth) = traffic();
    // A capture of one direction: the server is at port 8080; IPv4 without options.
    packets.retain(|packet| u16::from_be_bytes([packet.ip[20], packet.ip[21]]) == 8080);
    let (calls, _) = replay(&packets);
    assert_eq!(calls.len() as u64, truth.calls);
    assert_eq!(sum(&calls, "/usage/output_total"), truth.output_tokens);
    for call in &calls {
        assert!(call["flaws"].as_array().unwrap().contains(&"no_request".into()), "{call}");
        assert_eq!((&call["status"], &call["request_bytes"]), (&200.into(), &0.into()), "{call}");
    }
}
