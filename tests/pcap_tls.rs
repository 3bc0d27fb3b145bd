//! TLS of real connections (testdata/generate/tls.py), opened with their key logs, whole and damaged.
#![allow(clippy::unwrap_used)]

#[path = "../testdata/generate/packets.rs"]
mod packets;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use heron::capture::pcap::{FileSource, Options};
use heron::capture::{Source, Status, StopFlag};
use heron::event::{ConnId, Event, Transport};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/pcap/tls").join(name)
}

struct Seen {
    events: Vec<Event>,
    status: Arc<dyn Status>,
}

impl Seen {
    /// Plaintext of a direction, of all connections in the order of their ids.
    fn bytes(&self, direction: usize) -> Vec<u8> {
        let mut streams: BTreeMap<ConnId, Vec<u8>> = BTreeMap::new();
        for event in &self.events {
            if let Event::Data(data) = event
                && data.direction.index() == direction
            {
                streams.entry(data.conn).or_default().extend_from_slice(&data.bytes);
            }
        }
        streams.into_values().flatten().collect()
    }

    /// What is there and what is missing, in order: (offset, bytes or length).
    fn parts(&self, direction: usize) -> (BTreeMap<u64, Vec<u8>>, u64) {
        let (mut parts, mut lost, mut next) = (BTreeMap::new(), 0, 0);
        for event in &self.events {
            match event {
                Event::Data(data) if data.direction.index() == direction => {
                    assert_eq!(data.offset, next);
                    next += data.bytes.len() as u64;
                    parts.insert(data.offset, data.bytes.to_vec());
                }
                Event::Lost(hole) if hole.direction.index() == direction => {
                    assert_eq!(hole.offset, next);
                    next += hole.len;
                    lost += hole.len;
                }
                _ => {}
            }
        }
        (parts, lost)
    }
}

fn run(path: PathBuf, keylog: Option<PathBuf>) -> Seen {
    let source = Box::new(FileSource::open(Options { files: vec![path], keylog, ..Options::default() }).unwrap());
    let status = source.status();
    let mut events = Vec::new();
    let mut out = |batch: Vec<Event>| {
        events.extend(batch);
        ControlFlow::Continue(())
    };
    source.run(&mut out, &StopFlag::new()).unwrap();
    Seen { events, status }
}

const OPENED: [&str; 18] = [
    "tls12-aes128",
    "tls12-aes256",
    "tls12-cbc",
    "tls12-cbc-mac-first",
    "tls12-cbc-sha1-mac-first",
    "tls12-cbc-sha384",
    "tls12-chacha",
    "tls12-long",
    "tls12-resumed",
    "tls12-resumed-id",
    "tls13-aes128",
    "tls13-aes256",
    "tls13-chacha",
    "tls13-early",
    "tls13-early-refused",
    "tls13-key-update",
    "tls13-resumed",
    "tls13-retry",
];

#[test]
fn connections_with_keys_are_opened() {
    for name in OPENED {
        let seen = run(fixture(&format!("{name}.pcap")), Some(fixture(&format!("{name}.keys"))));
        for (direction, what) in ["sent", "received"].into_iter().enumerate() {
            let expected = std::fs::read(fixture(&format!("{name}.{what}"))).unwrap();
            assert!(seen.bytes(direction) == expected, "{name} {what}: {:?}", seen.status.encrypted());
        }
        let lost = seen.events.iter().filter(|event| matches!(event, Event::Lost(_))).count();
        assert_eq!(lost, 0, "{name}");
        for event in &seen.events {
            if let Event::Open(open) = event {
                assert_eq!(open.transport, Transport::Tls("keylog".into()), "{name}");
            }
        }
        assert_eq!(seen.status.encrypted(), [], "{name}");
    }
}

#[test]
fn connections_without_keys_are_told_of() {
    for (name, keys, reason) in [
        ("tls13-aes256", None, "its keys are not in a key log"),
        ("tls12-aes256", None, "its keys are not in a key log"),
        ("tls13-aes256", Some("tls12-aes256"), "its keys are not in a key log"),
        ("tls11", Some("tls11"), "its cipher suite or version cannot be opened"),
    ] {
        let keys = keys.map(|keys| fixture(&format!("{keys}.keys")));
        let seen = run(fixture(&format!("{name}.pcap")), keys);
        assert!(seen.events.iter().all(|event| matches!(event, Event::Tick(_))), "{name}");
        let [encrypted] = &seen.status.encrypted()[..] else { panic!("{name}") };
        assert_eq!(encrypted.server_name.as_deref(), Some("models.test"), "{name}");
        assert_eq!((encrypted.server.port(), encrypted.reason.as_str()), (4433, reason), "{name}");
        assert!((20_000..23_000).contains(&encrypted.sent_bytes), "{name} {}", encrypted.sent_bytes);
        assert!((24_000..28_000).contains(&encrypted.received_bytes), "{name} {}", encrypted.received_bytes);
        assert!(encrypted.first_seen < encrypted.last_seen);
        assert_eq!(seen.status.counters()["connections_encrypted"], 1);
    }
}

#[test]
fn connections_without_keys_are_lines_of_the_json_output() {
    let dir = tempfile::tempdir().unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_heron"))
        .args(["replay", "--no-retention", "--no-console", "--json"])
        .args([fixture("tls13-aes256.pcap"), fixture("tls12-aes256.pcap")])
        .env("HOME", dir.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    let all: Vec<serde_json::Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(all.len(), 2, "{lines}");
    for one in all {
        assert_eq!((&one["type"], &one["server_name"]), (&"encrypted".into(), &"models.test".into()));
        assert_eq!(
            (&one["server"], &one["reason"]),
            (&"127.0.0.1:4433".into(), &"its keys are not in a key log".into())
        );
        assert!(one["sent_bytes"].as_u64() > Some(20_000) && one["received_bytes"].as_u64() > Some(24_000), "{one}");
        assert!(one["first_seen"].as_str() < one["last_seen"].as_str(), "{one}");
    }
}

/// The records of a little-endian microsecond pcap, after its 24 bytes of head.
fn records(file: &[u8]) -> Vec<&[u8]> {
    let (mut rest, mut records) = (&file[24..], Vec::new());
    while rest.len() >= 16 {
        let len = 16 + u32::from_le_bytes(rest[8..12].try_into().unwrap()) as usize;
        let (record, after) = rest.split_at(len);
        records.push(record);
        rest = after;
    }
    records
}

fn run_bytes(bytes: &[u8], keys: &str) -> Seen {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("capture");
    std::fs::write(&path, bytes).unwrap();
    run(path, Some(fixture(&format!("{keys}.keys"))))
}

#[test]
fn a_key_log_inside_the_capture_is_used() {
    let name = "tls13-chacha";
    let block = |kind: u32, body: &[u8]| {
        let mut body = body.to_vec();
        body.resize(body.len().next_multiple_of(4), 0);
        let len = (body.len() as u32 + 12).to_le_bytes();
        [&kind.to_le_bytes()[..], &len, &body, &len].concat()
    };
    let file = std::fs::read(fixture(&format!("{name}.pcap"))).unwrap();
    let keys = std::fs::read(fixture(&format!("{name}.keys"))).unwrap();
    let mut ng = block(0x0a0d_0d0a, &[0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255]);
    ng.extend(block(1, &[1, 0, 0, 0, 0, 0, 4, 0]));
    ng.extend(block(10, &[&0x544c_534bu32.to_le_bytes()[..], &(keys.len() as u32).to_le_bytes(), &keys].concat()));
    for record in records(&file) {
        let word = |at: usize| u32::from_le_bytes(record[at..at + 4].try_into().unwrap());
        let time = u64::from(word(0)) * 1_000_000 + u64::from(word(4));
        let mut body = [0, (time >> 32) as u32, time as u32, word(8), word(12)].map(u32::to_le_bytes).concat();
        body.extend(&record[16..]);
        ng.extend(block(6, &body));
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("with-secrets.pcapng");
    std::fs::write(&path, ng).unwrap();
    let seen = run(path, None);
    assert!(seen.bytes(1) == std::fs::read(fixture(&format!("{name}.received"))).unwrap());
}

#[test]
fn tls_inside_a_tunnel_is_a_connection_of_its_own() {
    let name = "tls13-aes128";
    let file = std::fs::read(fixture(&format!("{name}.pcap"))).unwrap();
    let mut talk = packets::Conversation::new("10.0.0.2:50000", "10.0.0.9:3128", 1_700_000_000_000_000_000);
    let connect = b"CONNECT models.test:443 HTTP/1.1\r\nHost: models.test:443\r\n\r\n";
    talk.open().send(0, connect).send(1, b"HTTP/1.1 200 Connection established\r\n\r\n");
    for record in records(&file) {
        // Ethernet, IPv4 without options, TCP.
        let tcp = &record[16 + 14 + 20..];
        let payload = &tcp[usize::from(tcp[12] >> 4) * 4..];
        if !payload.is_empty() {
            talk.send(usize::from(tcp[..2] == 4433u16.to_be_bytes()), payload);
        }
    }
    talk.close();
    let capture = packets::Pcap::PLAIN.file(1, &packets::frames(&talk.packets, packets::Wrap::Ethernet));
    let seen = run_bytes(&capture, name);
    let [Event::Open(outer), Event::Open(inner)] =
        &seen.events.iter().filter(|event| matches!(event, Event::Open(_))).collect::<Vec<_>>()[..]
    else {
        panic!("two connections were expected")
    };
    assert_eq!((&outer.transport, &inner.transport), (&Transport::Plain, &Transport::Tls("keylog".into())));
    let sent = [&connect[..], &std::fs::read(fixture(&format!("{name}.sent"))).unwrap()].concat();
    assert!(seen.bytes(0) == sent);
    assert!(seen.bytes(1).ends_with(&std::fs::read(fixture(&format!("{name}.received"))).unwrap()));
}

#[test]
fn a_lost_packet_costs_its_records_and_nothing_more() {
    let (mut runs, mut resumed) = (0, 0);
    for name in ["tls12-aes128", "tls13-chacha", "tls13-key-update", "tls12-cbc", "tls12-cbc-mac-first"] {
        let file = std::fs::read(fixture(&format!("{name}.pcap"))).unwrap();
        let records = records(&file);
        for missing in 0..records.len() {
            let kept = records.iter().enumerate().filter(|(index, _)| *index != missing).map(|(_, record)| *record);
            let damaged = [&file[..24], &kept.collect::<Vec<_>>().concat()].concat();
            let seen = run_bytes(&damaged, name);
            runs += 1;
            for (direction, what) in ["sent", "received"].into_iter().enumerate() {
                let expected = std::fs::read(fixture(&format!("{name}.{what}"))).unwrap();
                let (parts, lost) = seen.parts(direction);
                for (at, bytes) in &parts {
                    let there = expected.get(*at as usize..*at as usize + bytes.len()) == Some(&bytes[..]);
                    // An echo server's first bytes do not tell data that went missing before from session tickets.
                    let echo = name == "tls13-key-update" && memchr::memmem::find(&expected, bytes).is_some();
                    // The padding of a block cipher's record that is gone is known to within half a block.
                    let near = |found: usize| (found as i64 - *at as i64).abs() <= 16;
                    let block = name.contains("cbc") && memchr::memmem::find(&expected, bytes).is_some_and(near);
                    assert!(there || echo || block, "{name} without packet {missing}: {what} at {at}");
                }
                let last = parts.last_key_value().map_or(&[][..], |(_, bytes)| bytes);
                resumed += usize::from(lost > 0 && !last.is_empty() && expected.ends_with(last));
            }
        }
    }
    assert!(runs > 150 && resumed > 40, "{resumed} of {runs} went on after a hole");
}

#[test]
fn a_certificate_that_is_not_whole_is_not_needed() {
    let name = "tls12-long";
    let file = std::fs::read(fixture(&format!("{name}.pcap"))).unwrap();
    let records = records(&file);
    // The first full packets are the server's hello and the middle of its certificates.
    let mut full = records.iter().enumerate().filter(|(_, record)| record.len() > 1500).map(|(index, _)| index);
    let middle = full.nth(1).unwrap();
    let kept = records.iter().enumerate().filter(|(index, _)| *index != middle).map(|(_, record)| *record);
    let seen = run_bytes(&[&file[..24], &kept.collect::<Vec<_>>().concat()].concat(), name);
    for (direction, what) in ["sent", "received"].into_iter().enumerate() {
        assert!(seen.bytes(direction) == std::fs::read(fixture(&format!("{name}.{what}"))).unwrap(), "{what}");
    }
    assert!(seen.events.iter().all(|event| !matches!(event, Event::Lost(_))));
}

#[test]
fn damaged_connections_never_panic() {
    for (seed, name) in (1u64..).zip(OPENED.into_iter().cycle().take(90)) {
        let mut bytes = std::fs::read(fixture(&format!("{name}.pcap"))).unwrap();
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        for _ in 0..seed % 40 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let at = 24 + (state % (bytes.len() as u64 - 24)) as usize;
            bytes[at] = (state >> 40) as u8;
        }
        run_bytes(&bytes, name);
    }
}

#[test]
fn an_exported_capture_holds_the_plaintext_and_the_calls_as_comments() {
    for name in ["tls13-aes256", "tls12-resumed"] {
        let open = || -> anyhow::Result<Box<dyn Source>> {
            let (files, keylog) = (vec![fixture(&format!("{name}.pcap"))], Some(fixture(&format!("{name}.keys"))));
            Ok(Box::new(FileSource::open(Options { files, keylog, ..Options::default() })?))
        };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("plain.pcapng");
        let mut out = std::fs::File::create(&path).unwrap();
        let exported = heron::export::pcapng::write(&open, &mut out, false).unwrap();
        assert!(exported.packets > 5 && exported.left_out == 0, "{exported:?}");
        let seen = run(path, None);
        for (direction, what) in ["sent", "received"].into_iter().enumerate() {
            assert!(
                seen.bytes(direction) == std::fs::read(fixture(&format!("{name}.{what}"))).unwrap(),
                "{name} {what}"
            );
        }
        let opens = seen.events.iter().filter(|event| matches!(event, Event::Open(_))).count() as u64;
        assert_eq!(opens, exported.connections);
        assert!(seen.events.iter().all(|event| !matches!(event, Event::Lost(_))));
    }
}
