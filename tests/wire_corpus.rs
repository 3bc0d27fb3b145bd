//! The whole corpus of captures under damage, with fixed seeds: every protocol (HTTP/1.1, HTTP/2, WebSocket), framing (SSE,
//! AWS event-stream, JSON) and client that lies in `testdata/pcaps/sdk`.
//!
//! - What loses no byte (pieces cut anywhere, repeated, late within the bounds) changes no call.
//! - What loses bytes costs the calls that they belong to: they say so, and every other call of the connection is whole.
//!
//! `HERON_ROUNDS=20` plays twenty times as many rounds.

#![allow(clippy::unwrap_used)]

mod wire_world;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use heron::capture::pcap::{FileSource, Options};
use heron::capture::{Source, StopFlag};
use heron::event::{ConnId, Data, Event, LossCause, Lost, Nanos, Open};
use heron::flaw::Flaw;
use heron::http::Protocol;
use heron::wire::{Bounds, Call};
use serde_json::{Value, json};
use wire_world::Pipe;

/// A fixed-seed generator (xorshift).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound.max(1) as u64) as usize
    }
}

fn rounds(usual: usize) -> usize {
    let times = std::env::var("HERON_ROUNDS").ok().and_then(|times| times.parse::<usize>().ok());
    usual * times.unwrap_or(1)
}

fn captures() -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir("testdata/pcaps/sdk").unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "pcap"));
    paths.sort();
    assert!(paths.len() >= 20, "the corpus is there");
    paths
}

fn events(path: &Path) -> Vec<Event> {
    let source = Box::new(FileSource::open(Options { files: vec![path.to_owned()], ..Options::default() }).unwrap());
    let mut events = Vec::new();
    let mut out = |batch: Vec<_>| {
        events.extend(batch);
        ControlFlow::Continue(())
    };
    source.run(&mut out, &StopFlag::new()).unwrap();
    events
}

fn play(events: impl IntoIterator<Item = Event>) -> Vec<Call> {
    let mut pipe = Pipe::new(Bounds { progress: None, ..Bounds::default() });
    events.into_iter().for_each(|event| pipe.push(event));
    assert_eq!(pipe.open_exchanges(), 0, "every exchange ends with its connection");
    pipe.done().into_iter().cloned().collect()
}

/// Everything that a call says, without times and numbers.
fn said(call: &Call) -> Value {
    let messages: Vec<_> = call.messages.iter().map(|message| &**message).collect();
    json!([
        call.conn,
        call.wire_api,
        call.operation,
        call.provider,
        call.method,
        call.target,
        call.request_model,
        call.response_model,
        call.parameters,
        messages,
        &call.tools_offered[..],
        call.output,
        call.usage,
        call.finish_reason,
        call.status,
        call.error,
        call.flaws,
        call.request.headers,
        call.response.headers,
        body(call)
    ])
}

/// What went over the wire.
fn body(call: &Call) -> Value {
    let hash = |bytes: &[u8]| blake3::hash(bytes).to_hex().to_string();
    json!([call.conn, hash(&call.request.body), hash(&call.response.body)])
}

/// For messages.
fn brief(call: &Call) -> String {
    let (usage, sizes) = (call.usage, (call.request.body.len(), call.response.body.len()));
    let times = &call.times;
    format!(
        "{:?} {} {} {:?} {sizes:?} {:?} {:?} {:?} {:?}..{:?}",
        call.conn,
        call.method,
        call.target,
        call.status,
        call.flaws,
        call.error,
        usage.input_total,
        times.request_first,
        times.last_byte
    )
}

fn sorted(calls: &[Call]) -> Vec<String> {
    let mut said: Vec<String> = calls.iter().map(|call| said(call).to_string()).collect();
    said.sort();
    said
}

fn data(event: &Event) -> Option<&Data> {
    match event {
        Event::Data(data) => Some(data),
        _ => None,
    }
}

/// Places of the events that carry bytes.
fn data_places(events: &[Event]) -> Vec<usize> {
    (0..events.len()).filter(|&at| data(&events[at]).is_some()).collect()
}

/// Cuts some pieces anywhere, repeats some, and brings some late (their neighbours of other connections and directions in
/// between, at times that stay in order).
fn disturb(events: &[Event], seed: &mut Numbers) -> Vec<Event> {
    let mut out: Vec<Event> = Vec::new();
    let mut late: Vec<(usize, Event)> = Vec::new();
    for (place, event) in events.iter().enumerate() {
        let Event::Data(piece) = event else {
            out.extend(late.drain(..).map(|(_, event)| event));
            out.push(event.clone());
            continue;
        };
        let cut = seed.below(piece.bytes.len());
        let mut pieces = vec![piece.clone()];
        if seed.below(3) == 0 && cut > 0 {
            let second = Data { offset: piece.offset + cut as u64, bytes: piece.bytes.slice(cut..), ..*piece };
            pieces = vec![Data { bytes: piece.bytes.slice(..cut), ..piece.clone() }, second];
            if seed.below(2) == 0 {
                pieces.reverse();
            }
        }
        match seed.below(8) {
            0 => pieces.push(pieces[0].clone()),
            1 => {
                let until = place + 1 + seed.below(3);
                late.extend(pieces.drain(..).map(|piece| (until, Event::Data(piece))));
            }
            _ => {}
        }
        out.extend(pieces.into_iter().map(Event::Data));
        let (due, rest) = late.into_iter().partition::<Vec<_>, _>(|(until, _)| *until <= place);
        out.extend(due.into_iter().map(|(_, event)| event));
        late = rest;
    }
    out
}

#[test]
fn pieces_cut_repeated_and_late_change_no_call() {
    for path in captures() {
        let events = events(&path);
        let whole = sorted(&play(events.clone()));
        let mut seed = Numbers(0x5eed_0001_dead_beef);
        for round in 0..rounds(6) {
            let disturbed = sorted(&play(disturb(&events, &mut seed)));
            for (got, want) in disturbed.iter().zip(&whole) {
                let same = got.bytes().zip(want.bytes()).take_while(|(one, other)| one == other).count();
                let around = |text: &str| {
                    String::from_utf8_lossy(&text.as_bytes()[same.saturating_sub(200)..])
                        .chars()
                        .take(400)
                        .collect::<String>()
                };
                assert!(
                    got == want,
                    "{}: round {round}:\n{}\ninstead of\n{}",
                    path.display(),
                    around(got),
                    around(want)
                );
            }
            assert_eq!(disturbed.len(), whole.len(), "{}: round {round}", path.display());
        }
    }
}

/// How the bytes of some pieces are lost.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Loss {
    /// They are not there, and nobody says so.
    Silent,
    /// The source says how many it lost.
    Told,
    /// Some bytes in the middle of a piece.
    Inner,
}

/// Loses bytes at one place; gives the events, and the connection and time of the loss.
fn lose(events: &[Event], loss: Loss, seed: &mut Numbers) -> (Vec<Event>, ConnId, Nanos) {
    let places = data_places(events);
    let place = places[seed.below(places.len())];
    let piece = data(&events[place]).unwrap().clone();
    let mut out = events.to_vec();
    let told = |offset: u64, len: usize| {
        let (conn, at, direction) = (piece.conn, piece.at, piece.direction);
        Event::Lost(Lost { conn, at, direction, offset, len: len as u64, cause: LossCause::RingFull })
    };
    match loss {
        Loss::Silent => {
            out.remove(place);
        }
        Loss::Told => out[place] = told(piece.offset, piece.bytes.len()),
        Loss::Inner => {
            let from = seed.below(piece.bytes.len());
            let len = 1 + seed.below(piece.bytes.len() - from);
            let rest = Data {
                offset: piece.offset + (from + len) as u64,
                bytes: piece.bytes.slice(from + len..),
                ..piece.clone()
            };
            let first = Data { bytes: piece.bytes.slice(..from), ..piece.clone() };
            let mut pieces = vec![Event::Data(first), told(piece.offset + from as u64, len), Event::Data(rest)];
            pieces.retain(|event| data(event).is_none_or(|data| !data.bytes.is_empty()));
            out.splice(place..=place, pieces);
        }
    }
    (out, piece.conn, piece.at)
}

/// The calls that were under way on a connection at a time.
fn under_way(call: &Call, conn: ConnId, at: Nanos) -> bool {
    let last = call.times.last_byte.or(call.times.request_last).unwrap_or(call.times.request_first);
    call.conn == conn && call.times.request_first <= at && at <= last
}

#[test]
fn lost_bytes_cost_their_own_calls_only_and_these_say_so() {
    let mut flawed = 0;
    for path in captures() {
        let events = events(&path);
        let truth = play(events.clone());
        let all: BTreeSet<String> = truth.iter().map(|call| said(call).to_string()).collect();
        let mut seed = Numbers(0x1057_b17e_5eed_0003);
        for round in 0..rounds(12) {
            let loss = [Loss::Silent, Loss::Told, Loss::Inner][round % 3];
            let (damaged, conn, at) = lose(&events, loss, &mut seed);
            let calls = play(damaged);
            let place = format!("{}, round {round}: {loss:?} on {conn:?} at {at:?}", path.display());
            // Truthful: a call without a flaw is exactly one that was made.
            for call in calls.iter().filter(|call| call.flaws.is_empty()) {
                assert!(all.contains(&said(call).to_string()), "{place}: no flaw, and not as made: {}", brief(call));
            }
            flawed += calls.iter().filter(|call| !call.flaws.is_empty()).count();
            // Every other call is as it was; over HTTP/2 its header fields may refer to lost ones.
            let got: BTreeSet<String> = calls.iter().map(|call| said(call).to_string()).collect();
            let mut bodies: BTreeMap<String, &Call> = BTreeMap::new();
            calls.iter().for_each(|call| {
                bodies.insert(body(call).to_string(), call);
            });
            for call in truth.iter().filter(|call| !under_way(call, conn, at)) {
                if call.conn != conn || call.protocol == Protocol::Http1 {
                    assert!(got.contains(&said(call).to_string()), "{place}: a neighbour changed: {}", brief(call));
                } else if call.protocol == Protocol::Http2 {
                    let found =
                        bodies.get(&body(call).to_string()).unwrap_or_else(|| panic!("{place}: lost {}", brief(call)));
                    assert_eq!(
                        (found.wire_api, found.usage, &found.output),
                        (call.wire_api, call.usage, &call.output),
                        "{place}"
                    );
                    let said_so = [Flaw::UnknownHeaders, Flaw::Gap, Flaw::NoRequest];
                    assert!(found.flaws.iter().all(|flaw| said_so.contains(flaw)), "{place}: {:?}", found.flaws);
                }
            }
        }
    }
    assert!(flawed > 100, "damage was done: {flawed}");
}

/// The same connections, first seen at one place: all that went before is not there.
fn attach_at(events: &[Event], place: usize) -> Vec<Event> {
    let open = |event: &Event| match event {
        Event::Open(open) => Event::Open(Open { mid_stream: true, ..open.clone() }),
        other => other.clone(),
    };
    let begun = events[..place].iter().filter(|event| matches!(event, Event::Open(_))).map(open);
    begun.chain(events[place..].iter().cloned()).collect()
}

#[test]
fn attached_anywhere_every_call_that_begins_later_is_read() {
    let mut unknown = 0;
    for path in captures() {
        let events = events(&path);
        let truth = play(events.clone());
        let places = data_places(&events);
        let mut seed = Numbers(0xa77a_c4ed_5eed_0007);
        for _ in 0..rounds(8) {
            let place = places[seed.below(places.len())];
            let at = events[place].at();
            let opened: BTreeSet<ConnId> = events[..place].iter().filter_map(data).map(|data| data.conn).collect();
            let calls = play(attach_at(&events, place));
            let where_ = format!("{}, attached at event {place}", path.display());
            for call in truth.iter().filter(|call| call.times.request_first > at) {
                // A WebSocket's messages may refer to those that were not seen.
                if call.protocol == Protocol::WebSocket && opened.contains(&call.conn) {
                    continue;
                }
                // Calls may say the same: the very same one comes first.
                let alike: Vec<&Call> = calls.iter().filter(|found| body(found) == body(call)).collect();
                let exact = alike.iter().find(|found| said(found) == said(call));
                let Some(found) = exact.or_else(|| alike.iter().find(|found| !found.flaws.is_empty())) else {
                    panic!("{where_}: lost {}", brief(call))
                };
                let same = (found.wire_api, found.usage, &found.output) == (call.wire_api, call.usage, &call.output);
                assert!(same, "{where_}: changed {}", brief(call));
                let known =
                    |flaw: &Flaw| [Flaw::UnknownHeaders, Flaw::MidStream].contains(flaw) || call.flaws.contains(flaw);
                assert!(found.flaws.iter().all(known), "{where_}: {}", brief(found));
                unknown += usize::from(found.flaws.contains(&Flaw::UnknownHeaders));
            }
        }
    }
    assert!(unknown > 20, "headers were unknown in {unknown} calls");
}
