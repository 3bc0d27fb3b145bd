//! Writes a capture of generated agent traffic, and beside it what a reader must find (FILE.truth.json).
//!
//! `generate FILE MEGABYTES [clean|disorder|holes|history]`; `history` has nothing but long conversations, resent whole in
//! full segments at each call.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "../testdata/generate/packets.rs"]
mod packets;
#[path = "../testdata/generate/traffic.rs"]
mod traffic;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufWriter, Write};

use packets::{Packet, Pcap, Rng, Wrap, disorder, frame};
use traffic::{Shape, generate};

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, path, megabytes, rest @ ..] = &arguments[..] else {
        eprintln!("usage: generate FILE MEGABYTES [clean|disorder|holes|history]");
        std::process::exit(2);
    };
    let megabytes: usize = megabytes.parse().unwrap();
    let kind = rest.first().map_or("clean", String::as_str);
    // 40 calls of a session are about 6.2 MB; 1,000 short calls about 30.
    let singles = if megabytes >= 50 { 1000 } else { megabytes * 10 };
    let sessions = ((megabytes * 1000).saturating_sub(singles * 30) / 6400).max(1);
    let shape = match kind {
        // 80 calls, up to 600 KB each: about 26 MB.
        "history" => Shape { sessions: (megabytes / 26).max(1), turns: 8, calls: 10, step_bytes: 7000, singles: 0 },
        _ => Shape { sessions, turns: 5, calls: 8, step_bytes: 7000, singles },
    };
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path).unwrap());
    file.write_all(&Pcap::PLAIN.file(1, &[])).unwrap();
    let (mut rng, mut damaged, mut bytes) = (Rng::new(1), BTreeSet::new(), 24u64);
    let truth = generate(shape, |mut packets: Vec<Packet>| {
        match kind {
            "disorder" => disorder(&mut packets, 30, &mut rng),
            "holes" => packets.retain(|packet| {
                let lost = packet.payload > 0 && rng.below(2000) == 0;
                if lost {
                    damaged.insert(packet.tag);
                }
                !lost
            }),
            _ => {}
        }
        for packet in &packets {
            let record = &Pcap::PLAIN.file(1, &[frame(packet, Wrap::Ethernet, 0)])[24..];
            bytes += record.len() as u64;
            file.write_all(record).unwrap();
        }
    });
    file.flush().unwrap();
    let truth = serde_json::json!({
        "kind": kind, "file_bytes": bytes, "calls": truth.calls, "turns": truth.turns, "connections": truth.connections,
        "input_tokens": truth.input_tokens, "output_tokens": truth.output_tokens, "request_bytes": truth.request_bytes,
        "response_bytes": truth.response_bytes, "streams": format!("{:016x}", truth.streams), "bodies": format!("{:016x}", truth.bodies),
        "damaged": damaged,
    });
    std::fs::write(format!("{path}.truth.json"), serde_json::to_vec_pretty(&truth).unwrap()).unwrap();
    println!("{truth}");
}
