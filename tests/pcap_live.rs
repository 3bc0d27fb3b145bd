//! Live packets: an interface of a network namespace of our own, and a remote probe.
#![allow(clippy::unwrap_used)]

#[path = "../testdata/generate/packets.rs"]
mod packets;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::ops::ControlFlow;
use std::process::Command;
use std::sync::Arc;
use std::thread;

use heron::capture::pcap::{LiveOptions, LiveSource, ProbeOptions, ProbeSource};
use heron::capture::{Source, Status, StopFlag};
use heron::event::{Direction, Event};
use heron::proc::sockets::SocketOwners;
use packets::*;

/// Runs a source on a thread; gives what it made when `traffic` is done.
fn observe(source: Box<dyn Source>, traffic: impl FnOnce()) -> (Vec<Event>, Arc<dyn Status>) {
    let (status, stop) = (source.status(), StopFlag::new());
    let stopped = stop.clone();
    let running = thread::spawn(move || {
        let mut events = Vec::new();
        let mut out = |batch: Vec<Event>| {
            events.extend(batch);
            ControlFlow::Continue(())
        };
        source.run(&mut out, &stopped).unwrap();
        events
    });
    traffic();
    stop.stop();
    (running.join().unwrap(), status)
}

fn stream(events: &[Event], direction: Direction) -> Vec<u8> {
    let mut bytes = Vec::new();
    for event in events {
        if let Event::Data(data) = event
            && data.direction == direction
        {
            bytes.extend_from_slice(&data.bytes);
        }
    }
    bytes
}

/// A request and an answer over loopback; gives the answer.
fn exchange(request: &[u8], answer: Vec<u8>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (expected, len) = (request.len(), answer.len());
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = vec![0; expected];
        stream.read_exact(&mut request).unwrap();
        stream.write_all(&answer).unwrap();
    });
    let mut client = TcpStream::connect(address).unwrap();
    client.write_all(request).unwrap();
    let mut got = Vec::new();
    client.read_to_end(&mut got).unwrap();
    assert_eq!(got.len(), len);
    drop(client);
    server.join().unwrap();
}

/// Moves this thread into a network namespace of its own; false (and loud) where that is not allowed.
fn own_network() -> bool {
    if let Err(error) = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET) {
        eprintln!("SKIPPED: needs root for a network namespace ({error})");
        return false;
    }
    let up = Command::new("ip").args(["link", "set", "lo", "up"]).status();
    if !up.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: needs ip (iproute2) to raise the loopback interface");
        return false;
    }
    true
}

#[test]
fn interfaces_are_captured_once_and_the_client_has_an_owner() {
    // A thread of its own: the namespace is the thread's.
    let test = thread::spawn(|| {
        if !own_network() {
            return;
        }
        let request = b"POST /v1/messages HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}".to_vec();
        let answer = [b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n".to_vec(), vec![b'x'; 200_000]].concat();
        let mut owners = SocketOwners::default();
        let options = LiveOptions {
            // Each packet of lo comes four times.
            interfaces: vec!["any".to_owned(), "lo".to_owned()],
            filter: Some("tcp".to_owned()),
            owners: Some(Box::new(move |batch| owners.fill(batch))),
            ..LiveOptions::default()
        };
        let source = Box::new(LiveSource::open(options).unwrap());
        let (events, status) = observe(source, || exchange(&request, answer.clone()));
        assert!(stream(&events, Direction::Sent) == request);
        assert!(stream(&events, Direction::Received) == answer);
        let opens: Vec<_> = events.iter().filter(|event| matches!(event, Event::Open(_))).collect();
        let [Event::Open(open)] = &opens[..] else { panic!("{opens:?}") };
        // The client may be gone when the socket tables are read: an owner is right or unknown.
        assert!(open.owner.is_none_or(|owner| owner.pid == std::process::id()), "{open:?}");
        let counters = status.counters();
        assert_eq!(counters["kernel_drops"], 0);
        assert!(counters["retransmitted_segments"] > 0, "{counters:?}");
    });
    test.join().unwrap();
}

#[test]
fn what_cannot_be_captured_is_explained() {
    let open = |interface: &str| {
        let options = LiveOptions { interfaces: vec![interface.to_owned()], ..LiveOptions::default() };
        LiveSource::open(options).err().map(|error| error.to_string()).unwrap_or_default()
    };
    let error = open("no-such-interface");
    assert!(error.contains("no interface no-such-interface") || error.contains("CAP_NET_RAW"), "{error}");
}

fn batch(version: u16, frames: &[Frame]) -> Vec<u8> {
    let mut bytes = [version.to_be_bytes(), (frames.len() as u16).to_be_bytes()].concat();
    bytes.extend([0; 20]);
    for frame in frames {
        bytes.extend((frame.bytes.len() as u16).to_be_bytes());
        let (secs, micros) = (frame.at / 1_000_000_000, frame.at % 1_000_000_000 / 1000);
        for word in [secs as u32, micros as u32, frame.bytes.len() as u32, frame.wire_len as u32] {
            bytes.extend(word.to_be_bytes());
        }
        bytes.extend(&frame.bytes);
    }
    bytes
}

/// Speaks as a ZeroMQ PUSH socket does.
fn push(address: std::net::SocketAddr, messages: &[Vec<u8>]) {
    let mut stream = TcpStream::connect(address).unwrap();
    let mut greeting = [0; 64];
    (greeting[0], greeting[9], greeting[10], greeting[11]) = (0xff, 0x7f, 3, 1);
    greeting[12..16].copy_from_slice(b"NULL");
    stream.write_all(&greeting).unwrap();
    let mut theirs = [0; 64];
    stream.read_exact(&mut theirs).unwrap();
    assert_eq!((theirs[0], theirs[9], theirs[10]), (0xff, 0x7f, 3));
    stream.write_all(b"\x04\x27\x05READY\x0bSocket-Type\x00\x00\x00\x04PUSH\x08Identity\x00\x00\x00\x00").unwrap();
    let mut ready = [0; 28];
    stream.read_exact(&mut ready).unwrap();
    assert!(ready.ends_with(b"PULL"));
    for message in messages {
        stream.write_all(&[2]).unwrap();
        stream.write_all(&(message.len() as u64).to_be_bytes()).unwrap();
        stream.write_all(message).unwrap();
    }
}

#[test]
fn batches_of_a_remote_probe_become_streams() {
    let mut talk = Conversation::new("10.0.0.2:50000", "10.0.0.9:8080", 1_700_000_000_000_000_000);
    let answer = [&b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"[..], &[b'y'; 100_000]].concat();
    talk.open().send(0, b"GET /v1/models HTTP/1.1\r\n\r\n").send(1, &answer).close();
    // A probe puts its label between Ethernet and IP.
    let frames = frames(&talk.packets, Wrap::Mpls);
    let messages: Vec<Vec<u8>> = frames.chunks(20).map(|chunk| batch(2, chunk)).collect();
    let source = ProbeSource::open(&ProbeOptions { endpoint: "tcp://127.0.0.1:0".to_owned(), keylog: None }).unwrap();
    let address = source.address().unwrap();
    let (events, status) = observe(Box::new(source), || {
        push(address, &messages);
        push(address, &[batch(9, &frames[..1]), vec![0, 2, 0, 7]]);
        let mut stranger = TcpStream::connect(address).unwrap();
        stranger.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    });
    let received = stream(&events, Direction::Received);
    assert!(
        received == answer,
        "{} of {}: {:?} {:?}",
        received.len(),
        answer.len(),
        status.counters(),
        status.warnings()
    );
    assert_eq!(stream(&events, Direction::Sent), b"GET /v1/models HTTP/1.1\r\n\r\n");
    let counters = status.counters();
    let expected = [
        ("probe_batches", messages.len() as u64 + 2),
        ("probe_bad_version", 1),
        ("probe_malformed", 1),
        ("probe_missing_packets", 7),
        ("probe_peers", 3),
        ("probe_broken", 1),
    ];
    for (name, count) in expected {
        assert_eq!(counters[name], count, "{name}");
    }
    assert!(status.warnings().iter().any(|warning| warning.contains("version 9")), "{:?}", status.warnings());
}
