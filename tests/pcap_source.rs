//! Capture files through the public source: every format, every encapsulation, and what goes wrong with captures.

#![allow(clippy::unwrap_used)]

#[path = "../testdata/generate/packets.rs"]
mod packets;

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use heron::capture::pcap::{FileSource, Options};
use heron::capture::{Source, StopFlag};
use heron::event::{CloseHow, ConnId, Direction, Event, LossCause};
use packets::*;

const CLIENT: &str = "10.0.0.2:50000";
const SERVER: &str = "10.0.0.9:8080";
const CLIENT6: &str = "[fd00::2]:50000";
const SERVER6: &str = "[fd00::9]:8080";
const START: u64 = 1_700_000_000_000_000_000;

/// What one direction gave.
#[derive(Default, Debug, Clone, PartialEq)]
struct Got {
    bytes: Vec<u8>,
    lost: Vec<(u64, u64, LossCause)>,
    next: u64,
    closed: Option<CloseHow>,
}

/// What a capture gave, by connection.
#[derive(Default, Debug)]
struct Seen {
    streams: BTreeMap<(ConnId, usize), Got>,
    events: Vec<Event>,
    counters: BTreeMap<&'static str, u64>,
    warnings: Vec<String>,
}

impl Seen {
    fn conns(&self) -> usize {
        self.events.iter().filter(|event| matches!(event, Event::Open(_))).count()
    }

    fn stream(&self, conn: u64, direction: Direction) -> Got {
        self.streams.get(&(ConnId(conn), direction.index())).cloned().unwrap_or_default()
    }
}

fn run(options: Options) -> Seen {
    let source = Box::new(FileSource::open(options).unwrap());
    let status = source.status();
    let mut seen = Seen::default();
    let mut out = |batch: Vec<Event>| {
        assert!(!batch.is_empty());
        seen.events.extend(batch);
        ControlFlow::Continue(())
    };
    source.run(&mut out, &StopFlag::new()).unwrap();
    let mut opened = std::collections::HashSet::new();
    for event in &seen.events {
        match event {
            Event::Open(open) => assert!(opened.insert(open.conn), "opened twice"),
            Event::Data(data) => {
                assert!(opened.contains(&data.conn));
                let got = seen.streams.entry((data.conn, data.direction.index())).or_default();
                assert_eq!(data.offset, got.next, "offsets are continuous");
                got.next += data.bytes.len() as u64;
                got.bytes.extend_from_slice(&data.bytes);
            }
            Event::Lost(lost) => {
                let got = seen.streams.entry((lost.conn, lost.direction.index())).or_default();
                assert_eq!(lost.offset, got.next);
                assert!(lost.len > 0);
                got.next += lost.len;
                got.lost.push((lost.offset, lost.len, lost.cause));
            }
            Event::Close(close) => {
                for index in 0..2 {
                    if close.direction.is_none_or(|direction| direction.index() == index) {
                        seen.streams.entry((close.conn, index)).or_default().closed.get_or_insert(close.how);
                    }
                }
            }
            _ => {}
        }
    }
    seen.counters = status.counters();
    seen.warnings = status.warnings();
    seen
}

fn run_bytes(bytes: &[u8]) -> Seen {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("capture");
    std::fs::write(&path, bytes).unwrap();
    run(Options { files: vec![path], ..Options::default() })
}

fn run_packets(packets: &[Packet]) -> Seen {
    run_bytes(&Pcap::PLAIN.file(1, &frames(packets, Wrap::Ethernet)))
}

fn body(len: usize, seed: u64) -> Vec<u8> {
    let mut rng = Rng::new(seed);
    (0..len).map(|_| b'a' + rng.below(26) as u8).collect()
}

fn request() -> Vec<u8> {
    let body = body(9000, 1);
    [format!("POST /v1/messages HTTP/1.1\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes(), &body].concat()
}

fn response() -> Vec<u8> {
    let body = body(30_000, 2);
    [format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes(), &body].concat()
}

fn exchange(client: &str, server: &str) -> Conversation {
    let mut talk = Conversation::new(client, server, START);
    talk.open().send(0, &request()).wait(1_000_000).send(1, &response()).close();
    talk
}

/// Both directions are there, once, whole.
fn assert_whole(seen: &Seen, what: &str) {
    assert_eq!(seen.conns(), 1, "{what}");
    let (sent, received) = (seen.stream(1, Direction::Sent), seen.stream(1, Direction::Received));
    assert!(sent.bytes == request() && received.bytes == response(), "{what}: {:?}", seen.counters);
    assert!(sent.lost.is_empty() && received.lost.is_empty(), "{what}");
    assert_eq!((sent.closed, received.closed), (Some(CloseHow::Finished), Some(CloseHow::Finished)), "{what}");
    let first_answer =
        seen.events.iter().position(|e| matches!(e, Event::Data(d) if d.direction == Direction::Received));
    let last_question = seen.events.iter().rposition(|e| matches!(e, Event::Data(d) if d.direction == Direction::Sent));
    assert!(last_question < first_answer, "{what}: the answer overtook the question");
}

#[test]
fn every_encapsulation_gives_the_same_streams() {
    for (client, server) in [(CLIENT, SERVER), (CLIENT6, SERVER6)] {
        for wrap in Wrap::ALL {
            let packets = exchange(client, server).packets;
            let file = Pcap::PLAIN.file(wrap.link(client.starts_with('[')), &frames(&packets, wrap));
            assert_whole(&run_bytes(&file), &format!("{wrap:?} {client}"));
        }
    }
}

#[test]
fn every_variant_of_pcap_is_read() {
    let frames = frames(&exchange(CLIENT, SERVER).packets, Wrap::Ethernet);
    for big in [false, true] {
        for (nanos, modified) in [(false, false), (true, false), (false, true)] {
            let seen = run_bytes(&Pcap { big, nanos, modified }.file(1, &frames));
            assert_whole(&seen, &format!("{big} {nanos} {modified}"));
            let unit = if nanos { 1 } else { 1000 };
            let Event::Open(open) = &seen.events[0] else { panic!("{:?}", seen.events[0]) };
            assert_eq!(open.at.0, frames[0].at / unit * unit);
        }
    }
}

#[test]
fn pcapng_with_sections_interfaces_and_clocks_is_read() {
    for big in [false, true] {
        let packets = exchange(CLIENT, SERVER).packets;
        let mut ng = PcapNg::new(big);
        let (first, rest) = packets.split_at(packets.len() / 2);
        ng.interface(1, 0, &[(2, b"eth0".to_vec()), (9, vec![9])]);
        ng.interface(113, 0, &[(9, vec![0x80 | 30])]);
        let offset: i64 = 1_600_000_000;
        let offset = if big { offset.to_be_bytes() } else { offset.to_le_bytes() };
        ng.interface(101, 65_535, &[(9, vec![3]), (14, offset.to_vec())]);
        for (index, packet) in first.iter().enumerate() {
            match index % 3 {
                0 => ng.enhanced(&frame(packet, Wrap::Ethernet, 0), packet.at),
                1 => {
                    let units = (u128::from(packet.at) << 30) / 1_000_000_000;
                    ng.enhanced(&frame(packet, Wrap::Sll, 1), units as u64)
                }
                _ => ng.obsolete(&frame(packet, Wrap::Raw, 2), packet.at / 1_000_000 - 1_600_000_000_000),
            };
        }
        ng.block(0x0bad, &[1, 2, 3]).block(4, &[0; 8]).key_log("CLIENT_RANDOM 00 00\n");
        let mut drops = ng.option(5, &if big { 7u64.to_be_bytes() } else { 7u64.to_le_bytes() });
        drops.extend([0; 4]);
        ng.block(5, &[&[0; 12][..], &drops].concat());
        ng.section().interface(276, 0, &[]);
        for packet in rest {
            ng.simple(&frame(packet, Wrap::Sll2, 0));
        }
        let seen = run_bytes(&ng.bytes);
        assert_whole(&seen, "pcapng");
        assert_eq!((seen.counters["capture_drops"], seen.counters["malformed_packets"]), (7, 0));
        let at: Vec<u64> = seen.events.iter().map(|event| event.at().0).collect();
        assert!(at.iter().all(|at| (packets[0].at..=packets.last().unwrap().at).contains(at)), "{at:?}");
    }
}

#[test]
fn compressed_files_several_files_and_patterns_give_the_same() {
    use std::io::Write;
    let dir = tempfile::tempdir().unwrap();
    let packets = exchange(CLIENT, SERVER).packets;
    let write = |name: &str, bytes: &[u8]| std::fs::write(dir.path().join(name), bytes).unwrap();
    let whole = Pcap::PLAIN.file(1, &frames(&packets, Wrap::Ethernet));
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gz.write_all(&whole).unwrap();
    write("one.gz", &gz.finish().unwrap());
    write("two.zst", &zstd::encode_all(&whole[..], 3).unwrap());
    for name in ["one.gz", "two.zst"] {
        assert_whole(&run(Options { files: vec![dir.path().join(name)], ..Options::default() }), name);
    }
    // One capture dealt over three files of different link types: time puts them together.
    for (index, wrap) in [Wrap::Ethernet, Wrap::Sll2, Wrap::Raw].into_iter().enumerate() {
        let part: Vec<Packet> = packets.iter().skip(index).step_by(3).cloned().collect();
        write(&format!("part-{index}.pcap"), &Pcap::PLAIN.file(wrap.link(false), &frames(&part, wrap)));
    }
    let options = Options { files: vec![dir.path().join("part-*.pcap")], ..Options::default() };
    let seen = run(options);
    assert_whole(&seen, "parts");
    assert_eq!(seen.counters["out_of_order_segments"], 0);
    let none = FileSource::open(Options { files: vec![dir.path().join("nothing*")], ..Options::default() });
    assert!(none.err().unwrap().to_string().contains("no file matches"));
}

#[test]
fn a_filter_leaves_only_what_matches() {
    let dir = tempfile::tempdir().unwrap();
    let mut packets = exchange(CLIENT, SERVER).packets;
    packets.extend(exchange("10.0.0.3:50001", "10.0.0.9:9999").packets);
    let path = dir.path().join("capture");
    std::fs::write(&path, Pcap::PLAIN.file(1, &frames(&packets, Wrap::Ethernet))).unwrap();
    let options = Options { files: vec![path], filter: Some("tcp port 8080".to_owned()), ..Options::default() };
    assert_whole(&run(options.clone()), "filter");
    let bad = Options { filter: Some("port and".to_owned()), ..options };
    assert!(FileSource::open(bad).err().unwrap().to_string().contains("does not compile"));
}

#[test]
fn a_cut_file_keeps_everything_before_the_cut_and_says_where() {
    let mut talk = Conversation::new(CLIENT, SERVER, START);
    talk.open().send(0, b"GET / HTTP/1.1\r\n\r\n").send(1, b"HTTP/1.1 204 No Content\r\n\r\n").close();
    let frames = frames(&talk.packets, Wrap::Ethernet);
    let mut ng = PcapNg::new(false);
    ng.interface(1, 0, &[(9, vec![9])]);
    frames.iter().for_each(|frame| _ = ng.enhanced(frame, frame.at));
    for (whole, head) in [(Pcap::PLAIN.file(1, &frames), 24), (ng.bytes, 4)] {
        let mut most = 0;
        for len in head..whole.len() {
            let seen = run_bytes(&whole[..len]);
            let bytes = seen.stream(1, Direction::Sent).bytes.len() + seen.stream(1, Direction::Received).bytes.len();
            assert!(bytes >= most, "{len}: {bytes} after {most}");
            most = bytes;
            assert!(seen.warnings.iter().all(|w| w.contains("cut") && w.contains("byte")), "{:?}", seen.warnings);
        }
        assert_eq!(most, 18 + 27);
        let seen = run_bytes(&whole[..whole.len() - 3]);
        assert_eq!(seen.warnings.len(), 1, "{:?}", seen.warnings);
    }
}

#[test]
fn what_is_no_capture_is_an_error_in_one_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notes.txt");
    for bytes in [&b"hello, this is text"[..], b"", b"\x1f\x8b\x08\x00", b"\xd4\xc3\xb2\xa1\x02\x00", b"{}"] {
        std::fs::write(&path, bytes).unwrap();
        let error = FileSource::open(Options { files: vec![path.clone()], ..Options::default() }).err().unwrap();
        let text = format!("{error:#}");
        assert!(text.contains("notes.txt") && text.contains("capture") && !text.contains('\n'), "{text}");
    }
}

#[test]
fn disordered_captures_lose_nothing() {
    for seed in 1..60 {
        let mut rng = Rng::new(seed);
        let mut packets = exchange(CLIENT, SERVER).packets;
        disorder(&mut packets, 2 + (seed as usize * 7) % 60, &mut rng);
        assert_whole(&run_packets(&packets), &format!("seed {seed}"));
        // The same with times in the order of the file, as a capture of several queues has them.
        packets.iter_mut().enumerate().for_each(|(index, packet)| packet.at = START + index as u64 * 50_000);
        assert_whole(&run_packets(&packets), &format!("seed {seed}, times in order"));
    }
}

#[test]
fn a_segment_that_comes_at_the_very_end_is_not_too_late() {
    let mut packets = exchange(CLIENT, SERVER).packets;
    let data: Vec<usize> = (0..packets.len()).filter(|&index| packets[index].payload > 0).collect();
    for index in [data[0], data[4], data[12]] {
        let late = packets.remove(index);
        packets.push(late);
        assert_whole(&run_packets(&packets), &format!("{index}"));
        packets = exchange(CLIENT, SERVER).packets;
    }
}

#[test]
fn packets_seen_on_every_interface_count_once() {
    let packets = exchange(CLIENT, SERVER).packets;
    let mut ng = PcapNg::new(false);
    let wraps = [Wrap::Ethernet, Wrap::Sll, Wrap::Raw, Wrap::Sll2];
    wraps.iter().for_each(|wrap| _ = ng.interface(wrap.link(false) as u16, 0, &[(9, vec![9])]));
    for packet in &packets {
        for (index, wrap) in wraps.into_iter().enumerate() {
            ng.enhanced(&frame(packet, wrap, index as u32), packet.at + index as u64 * 3000);
        }
        ng.enhanced(&frame(packet, Wrap::QinQ, 0), packet.at + 20_000);
        ng.enhanced(&frame(packet, Wrap::Erspan2, 0), packet.at + 90_000);
    }
    let seen = run_bytes(&ng.bytes);
    assert_whole(&seen, "duplicates");
    assert!(seen.counters["retransmitted_segments"] > 100);
    assert_eq!(seen.counters["conflicting_segments"], 0);
}

/// Drops data packets; gives what must be missing, by direction.
fn punch(packets: &mut Vec<Packet>, percent: usize, rng: &mut Rng) -> [Vec<(u64, u64)>; 2] {
    let mut holes: [Vec<(u64, u64)>; 2] = Default::default();
    let mut next = [0u64; 2];
    packets.retain(|packet| {
        if packet.payload == 0 {
            return true;
        }
        let side = usize::from(packet.ip[15] == 9);
        let (at, len) = (next[side], packet.payload as u64);
        next[side] += len;
        let keep = !rng.chance(percent);
        if !keep {
            match holes[side].last_mut() {
                Some((start, size)) if *start + *size == at => *size += len,
                _ => holes[side].push((at, len)),
            }
        }
        keep
    });
    holes
}

#[test]
fn lost_packets_are_holes_of_exact_size_and_their_neighbours_survive() {
    for seed in 1..60 {
        let mut rng = Rng::new(seed);
        let mut packets = exchange(CLIENT, SERVER).packets;
        let holes = punch(&mut packets, 1 + seed as usize % 30, &mut rng);
        if seed % 3 == 0 {
            disorder(&mut packets, 12, &mut rng);
        }
        let seen = run_packets(&packets);
        assert_eq!(seen.conns(), 1, "seed {seed}");
        for (direction, original) in [(Direction::Sent, request()), (Direction::Received, response())] {
            let got = seen.stream(1, direction);
            let lost: Vec<(u64, u64)> = got.lost.iter().map(|&(at, len, _)| (at, len)).collect();
            let expected = &holes[direction.index()];
            assert_eq!(merged(&lost), *expected, "seed {seed} {direction:?}");
            let mut kept = Vec::new();
            let mut at = 0;
            for &(start, len) in expected {
                kept.extend_from_slice(&original[at..start as usize]);
                at = (start + len) as usize;
            }
            kept.extend_from_slice(&original[at..]);
            assert!(got.bytes == kept, "seed {seed} {direction:?}");
            assert_eq!(got.closed, Some(CloseHow::Finished), "seed {seed}");
        }
    }
}

fn merged(lost: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let mut out: Vec<(u64, u64)> = Vec::new();
    for &(at, len) in lost {
        match out.last_mut() {
            Some((start, size)) if *start + *size == at => *size += len,
            _ => out.push((at, len)),
        }
    }
    out
}

#[test]
fn an_acknowledged_hole_is_told_while_the_connection_goes_on() {
    let mut talk = Conversation::new(CLIENT, SERVER, START);
    talk.open().send(0, b"GET / HTTP/1.1\r\n\r\n").send(1, &response());
    talk.packets.remove(8);
    for index in 0..500 {
        talk.wait(20_000_000).send(1, format!("data: {index}\n\n").as_bytes());
    }
    let seen = run_packets(&talk.packets);
    let lost = seen.events.iter().position(|event| matches!(event, Event::Lost(_))).unwrap();
    let after = seen.events[lost..].iter().filter(|event| matches!(event, Event::Data(_))).count();
    assert!(after > 200, "{after}");
    let Event::Lost(event) = &seen.events[lost] else { unreachable!() };
    assert!(event.at.0 < START + 7_000_000_000, "told after {} ms", (event.at.0 - START) / 1_000_000);
}

#[test]
fn a_snap_length_is_a_loss_of_known_size() {
    for snaplen in [60, 66, 67, 96, 200, 1000] {
        let mut frames = frames(&exchange(CLIENT, SERVER).packets, Wrap::Ethernet);
        snap(&mut frames, snaplen);
        let seen = run_bytes(&Pcap::PLAIN.file(1, &frames));
        for (direction, original) in [(Direction::Sent, request()), (Direction::Received, response())] {
            let got = seen.stream(1, direction);
            assert_eq!(got.next, original.len() as u64, "{snaplen}");
            assert!(got.lost.iter().all(|(_, _, cause)| *cause == LossCause::Snapped));
            assert_eq!(got.closed, Some(CloseHow::Finished));
        }
    }
}

#[test]
fn ports_that_are_used_again_make_new_connections() {
    let mut talk = Conversation::new(CLIENT, SERVER, START);
    for round in 0..4 {
        talk.seq = [round * 700_000_000 + 5, round * 900_000_000 + 9];
        talk.open().send(0, &request()).send(1, &response());
        match round {
            0 => _ = talk.close(),
            1 => _ = talk.reset(0),
            2 => _ = talk.fin(0),
            _ => {}
        }
        talk.wait(1_000_000);
    }
    let seen = run_packets(&talk.packets);
    assert_eq!(seen.conns(), 4);
    for conn in 1..=4 {
        assert!(seen.stream(conn, Direction::Sent).bytes == request(), "{conn}");
        assert!(seen.stream(conn, Direction::Received).bytes == response(), "{conn}");
    }
    let how = |conn| seen.stream(conn, Direction::Received).closed;
    assert_eq!([how(1), how(2)], [Some(CloseHow::Finished), Some(CloseHow::Reset)]);
    assert_eq!([how(3), how(4)], [Some(CloseHow::Idle), Some(CloseHow::SourceEnd)]);
}

#[test]
fn probes_and_long_silence_change_nothing() {
    let mut talk = Conversation::new(CLIENT, SERVER, START);
    talk.open().send(0, &request()).wait(150_000_000_000);
    for _ in 0..40 {
        // Keep-alive: an old byte, with and without garbage.
        let (mine, theirs) = (talk.seq[0], talk.seq[1]);
        talk.wait(75_000_000_000).raw(0, ACK, mine.wrapping_sub(1), theirs, b"");
        talk.raw(0, ACK, mine.wrapping_sub(1), theirs, b"\0");
        talk.ack(1);
    }
    talk.send(1, &response()[..5000]);
    // A zero-window probe: the next byte, which comes again with its successors.
    let (mine, theirs) = (talk.seq[1], talk.seq[0]);
    talk.raw(1, ACK, mine, theirs, &response()[5000..5001]);
    talk.send(1, &response()[5000..]).wait(7_200_000_000_000).close();
    assert_whole(&run_packets(&talk.packets), "probes");
}

#[test]
fn data_on_the_syn_is_the_first_data() {
    let mut talk = Conversation::new(CLIENT, SERVER, START);
    let (first, rest) = (request()[..500].to_vec(), request()[500..].to_vec());
    let (c, s) = (talk.seq[0], talk.seq[1]);
    talk.raw(0, SYN, c, 0, &first);
    talk.raw(1, SYN | ACK, s, c.wrapping_add(501), b"");
    talk.seq = [c.wrapping_add(501), s.wrapping_add(1)];
    talk.send(0, &rest).send(1, &response()).close();
    assert_whole(&run_packets(&talk.packets), "fast open");
}

#[test]
fn a_reset_waits_for_what_it_overtook() {
    let mut talk = Conversation::new(CLIENT, SERVER, START);
    talk.open().send(0, &request()).send(1, &response()).reset(1);
    let reset = talk.packets.pop().unwrap();
    talk.packets.insert(talk.packets.len() - 6, reset);
    let seen = run_packets(&talk.packets);
    let got = seen.stream(1, Direction::Received);
    assert!(got.bytes == response() && got.lost.is_empty());
    assert_eq!(got.closed, Some(CloseHow::Reset));
}

#[test]
fn a_half_closed_connection_goes_on_in_the_other_direction() {
    let mut talk = Conversation::new(CLIENT, SERVER, START);
    talk.open().send(0, &request()).fin(0).wait(90_000_000_000).send(1, &response()).fin(1);
    assert_whole(&run_packets(&talk.packets), "half close");
}

#[test]
fn a_capture_that_begins_in_the_middle_gives_the_rest() {
    let packets = exchange(CLIENT, SERVER).packets;
    for skip in 1..packets.len() {
        let seen = run_packets(&packets[skip..]);
        let (sent, received) = (seen.stream(1, Direction::Sent), seen.stream(1, Direction::Received));
        assert!(request().ends_with(&sent.bytes) && response().ends_with(&received.bytes), "{skip}");
        assert!(sent.lost.is_empty() && received.lost.is_empty(), "{skip}");
        let left: usize = packets[skip..].iter().map(|packet| packet.payload).sum();
        assert_eq!(sent.bytes.len() + received.bytes.len(), left, "{skip}");
        let flagged = seen.events.iter().any(|event| matches!(event, Event::Open(open) if open.mid_stream));
        assert_eq!(flagged, skip > 1 && left > 0, "{skip}");
    }
}

#[test]
fn one_direction_alone_is_read() {
    for side in [2, 9] {
        let mut packets = exchange(CLIENT, SERVER).packets;
        packets.retain(|packet| packet.ip[15] == side);
        let seen = run_packets(&packets);
        let direction = if side == 2 { Direction::Sent } else { Direction::Received };
        let original = if side == 2 { request() } else { response() };
        assert!(seen.stream(1, direction).bytes == original, "{side}");
        assert!(seen.stream(1, direction).lost.is_empty(), "{side}");
    }
}

#[test]
fn overlaps_keep_the_first_copy_and_a_conflict_is_counted() {
    let mut talk = Conversation::new(CLIENT, SERVER, START);
    talk.open();
    let (seq, ack) = (talk.seq[0], talk.seq[1]);
    let whole = b"GET /abcdefghijklmnopqrstuvwxyz HTTP/1.1\r\n\r\n";
    talk.raw(0, ACK, seq.wrapping_add(10), ack, &whole[10..20]);
    talk.raw(0, ACK, seq.wrapping_add(5), ack, &[&whole[5..12], &b"ZZZZ"[..], &whole[16..30]].concat());
    talk.raw(0, ACK, seq.wrapping_add(25), ack, &whole[25..]);
    talk.raw(0, ACK, seq, ack, &whole[..15]);
    let seen = run_packets(&talk.packets);
    assert_eq!(seen.stream(1, Direction::Sent).bytes, whole);
    assert_eq!(seen.counters["conflicting_segments"], 1);
}

#[test]
fn fragmented_packets_are_put_together() {
    for (client, server) in [(CLIENT, SERVER), (CLIENT6, SERVER6)] {
        for wrap in [Wrap::Ethernet, Wrap::Vxlan] {
            let mut talk = Conversation::new(client, server, START);
            talk.mss = 8000;
            talk.open().send(0, &request()).wait(1_000_000).send(1, &response()).close();
            let pieces: Vec<Packet> =
                talk.packets.iter().enumerate().flat_map(|(n, p)| fragment(p, 1480, n % 2 == 1)).collect();
            let file = Pcap::PLAIN.file(1, &frames(&pieces, wrap));
            let seen = run_bytes(&file);
            assert_whole(&seen, &format!("{client} {wrap:?}"));
            assert!(seen.counters["ip_fragments"] > 20);
        }
    }
}

#[test]
fn ip_options_and_extension_headers_are_stepped_over() {
    let mut four = exchange(CLIENT, SERVER).packets;
    for packet in &mut four {
        packet.ip[0] = 0x46;
        packet.ip.splice(20..20, [1, 1, 1, 0]);
        let len = packet.ip.len() as u16;
        packet.ip[2..4].copy_from_slice(&len.to_be_bytes());
    }
    assert_whole(&run_packets(&four), "options");
    let mut six = exchange(CLIENT6, SERVER6).packets;
    for packet in &mut six {
        packet.ip[6] = 0;
        packet.ip.splice(40..40, [60, 0, 1, 4, 0, 0, 0, 0, 6, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let len = packet.ip.len() as u16 - 40;
        packet.ip[4..6].copy_from_slice(&len.to_be_bytes());
    }
    assert_whole(&run_packets(&six), "extension headers");
    // Segmentation offload: the frame is longer than the length field can say, and so the field is 0.
    let mut talk = Conversation::new(CLIENT, SERVER, START);
    talk.open().send(0, &request()).wait(1_000_000);
    talk.mss = 100_000;
    talk.send(1, &response()).close();
    for packet in talk.packets.iter_mut().filter(|packet| packet.payload > 20_000) {
        packet.ip[2..4].copy_from_slice(&[0, 0]);
    }
    assert_whole(&run_packets(&talk.packets), "offload");
}

#[test]
fn other_protocols_cost_nothing_and_connections_without_data_are_silent() {
    let mut packets = Vec::new();
    for port in 0..50 {
        let mut talk = Conversation::new(&format!("10.0.0.2:{}", 40_000 + port), "10.0.0.9:22", START);
        talk.open().send(1, b"SSH-2.0-OpenSSH_9.2\r\n").send(0, &body(50_000, 3)).send(1, &body(50_000, 4)).close();
        packets.extend(talk.packets);
        let mut tls = Conversation::new(&format!("10.0.0.3:{}", 40_000 + port), "10.0.0.9:443", START);
        tls.open().send(0, b"\x16\x03\x01\x00\x10\x01\x00\x00\x0c").send(1, &body(5000, 3)).close();
        packets.extend(tls.packets);
        let mut idle = Conversation::new(&format!("10.0.0.4:{}", 40_000 + port), "10.0.0.9:80", START);
        idle.open().close();
        packets.extend(idle.packets);
    }
    let seen = run_packets(&packets);
    assert!(seen.events.iter().all(|event| matches!(event, Event::Tick(_))), "{:?}", seen.events.first());
    assert_eq!((seen.counters["connections_ignored"], seen.counters["connections_encrypted"]), (50, 50));
}

#[test]
fn waiting_bytes_are_bounded() {
    let mut talk = Conversation::new(CLIENT, SERVER, START);
    talk.open().send(0, b"GET / HTTP/1.1\r\n\r\n");
    talk.seq[1] = talk.seq[1].wrapping_add(1000);
    // Nobody acknowledges, so that only the budget can end the wait.
    let (body, mut seq) = (body(24_000_000, 9), talk.seq[1]);
    for piece in body.chunks(16_000) {
        let ack = talk.seq[0];
        talk.raw(1, ACK, seq, ack, piece);
        seq = seq.wrapping_add(piece.len() as u32);
    }
    let seen = run_packets(&talk.packets);
    let lost = seen.events.iter().position(|event| matches!(event, Event::Lost(_))).unwrap();
    let after = seen.events[lost..].iter().filter(|event| matches!(event, Event::Data(_))).count();
    assert!(after > 1400, "{after}");
    let got = seen.stream(1, Direction::Received);
    assert_eq!(got.lost, [(0, 1000, LossCause::PacketMissing)]);
    assert!(got.bytes == body);
}

#[test]
fn damaged_captures_never_panic() {
    let mut ng = PcapNg::new(false);
    ng.interface(1, 0, &[(9, vec![9])]).interface(113, 96, &[]);
    let packets = exchange(CLIENT6, SERVER6).packets;
    for (index, packet) in packets.iter().enumerate() {
        let wrap = [Wrap::Vxlan, Wrap::Geneve, Wrap::Erspan3, Wrap::QinQ, Wrap::MplsEthernet][index % 5];
        let frame = frame(packet, wrap, 0);
        ng.enhanced(&frame, frame.at);
    }
    let pcap = Pcap::PLAIN.file(1, &frames(&exchange(CLIENT, SERVER).packets, Wrap::Ethernet));
    for seed in 1..300 {
        let mut rng = Rng::new(seed);
        let mut bytes = if seed % 2 == 0 { ng.bytes.clone() } else { pcap.clone() };
        for _ in 0..1 + rng.below(200) {
            let at = 24 + rng.below(bytes.len() - 24);
            bytes[at] = match rng.below(4) {
                0 => 0,
                1 => 0xff,
                _ => rng.next() as u8,
            };
        }
        run_bytes(&bytes);
    }
}
