//! All connections of a source: frames in, events out.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use bytes::Bytes;

use super::connection::{After, Connection, Context, Counts, Patience};
use super::format::Record;
use super::fragment::Fragments;
use super::link::{self, FragmentKey, Frame, Segment};
use super::tls::KeyLog;
use crate::capture::Encrypted;
use crate::event::{CloseHow, Event, Nanos};

/// How many connections are remembered; beyond, those that were silent longest are forgotten.
const MAX_CONNECTIONS: usize = 200_000;
/// How often (in capture time) waiting connections are looked at, and the pipeline is told the time.
const TICK: Nanos = Nanos(250_000_000);
/// How long an ended connection is remembered, so that its late duplicates are known as such.
const LINGER: Nanos = Nanos(60_000_000_000);
/// How often ended connections are looked for.
const SWEEP: Nanos = Nanos(15_000_000_000);
/// A time that is this far behind means that the clock was set, not that a packet is late.
const STEP_BACK: u64 = 3_600_000_000_000;

/// What may wait for its turn, in bytes of memory.
#[derive(Clone, Copy, Debug)]
struct Budget {
    connection: usize,
    total: usize,
}

/// Waiting bytes lie in memory of their own.
const COPIED: Budget = Budget { connection: 8 << 20, total: 48 << 20 };
/// Waiting bytes lie in a mapped file: what is counted is mostly not memory.
const MAPPED: Budget = Budget { connection: 16 << 20, total: 256 << 20 };

/// What became of frames. Monotonic.
#[derive(Default, Clone, Debug)]
pub(super) struct FrameCounts {
    pub packets: u64,
    pub packet_bytes: u64,
    pub tcp: u64,
    pub malformed: u64,
    pub unknown_link: u64,
    pub other: u64,
    pub fragments: u64,
    pub forgotten: u64,
}

/// Encrypted connections that are told of.
const MAX_ENCRYPTED: usize = 10_000;

type Key = [(IpAddr, u16); 2];

/// How many connections are found without hashing their ends.
const RECENT: usize = 256;

/// Which of them a connection may be: told from the lowest bits of its ports and addresses.
fn place_of(key: &Key) -> usize {
    let low = |(address, port): &(IpAddr, u16)| {
        let last = match address {
            IpAddr::V4(address) => address.octets()[3],
            IpAddr::V6(address) => address.octets()[15],
        };
        usize::from(*port) ^ usize::from(last) << 3
    };
    (low(&key[0]) ^ low(&key[1])) % RECENT
}

/// Reassembles every TCP connection of a source.
pub(super) struct Table {
    index: HashMap<Key, usize>,
    slots: Vec<Option<(Key, Connection)>>,
    free: Vec<usize>,
    /// Connections of the last packets, by [`place_of`]: the next packet is nearly always one of theirs.
    recent: Vec<Option<(Key, usize)>>,
    /// Connections that wait for something; may name some that do not any more.
    watched: Vec<usize>,
    fragments: Fragments,
    now: Nanos,
    ticked: Nanos,
    swept: Nanos,
    budget: Budget,
    held: usize,
    copy: bool,
    patience: Patience,
    pub(super) keys: KeyLog,
    /// Encrypted connections that ended.
    encrypted: Vec<Encrypted>,
    pub(super) counts: Counts,
    pub(super) frames: FrameCounts,
}

impl Table {
    /// An empty table; `mapped` when the bytes of its records are slices of a mapped file.
    pub(super) fn new(mapped: bool, patience: Patience, keys: KeyLog) -> Table {
        Table {
            index: HashMap::new(),
            slots: Vec::new(),
            free: Vec::new(),
            recent: vec![None; RECENT],
            watched: Vec::new(),
            fragments: Fragments::default(),
            now: Nanos(0),
            ticked: Nanos(0),
            swept: Nanos(0),
            budget: if mapped { MAPPED } else { COPIED },
            held: 0,
            copy: !mapped,
            patience,
            keys,
            encrypted: Vec::new(),
            counts: Counts::default(),
            frames: FrameCounts::default(),
        }
    }

    /// Everything that was counted, by name.
    pub(super) fn counters(&self) -> BTreeMap<&'static str, u64> {
        let (frames, counts) = (&self.frames, &self.counts);
        BTreeMap::from([
            ("packets", frames.packets),
            ("packet_bytes", frames.packet_bytes),
            ("tcp_segments", frames.tcp),
            ("other_packets", frames.other),
            ("malformed_packets", frames.malformed),
            ("unknown_link_packets", frames.unknown_link),
            ("ip_fragments", frames.fragments),
            ("ip_fragments_dropped", self.fragments.dropped),
            ("connections", counts.connections),
            ("connections_ignored", counts.ignored),
            ("connections_encrypted", counts.encrypted),
            ("connections_forgotten", frames.forgotten),
            ("payload_bytes", counts.data_bytes),
            ("lost_bytes", counts.lost_bytes),
            ("snapped_bytes", counts.snapped_bytes),
            ("retransmitted_segments", counts.retransmitted),
            ("out_of_order_segments", counts.out_of_order),
            ("conflicting_segments", counts.conflicting),
            ("stray_segments", counts.wild),
        ])
    }

    /// Encrypted connections that could not be opened, ended or not, in the order in which they were first seen.
    pub(super) fn encrypted(&self) -> Vec<Encrypted> {
        let open = self.slots.iter().filter_map(|entry| entry.as_ref()?.1.encrypted());
        let mut all: Vec<Encrypted> = self.encrypted.iter().cloned().chain(open.take(MAX_ENCRYPTED)).collect();
        all.sort_by_key(|encrypted| encrypted.first_seen);
        all
    }

    /// Takes a frame.
    pub(super) fn push(&mut self, record: &Record, out: &mut Vec<Event>) {
        self.frames.packets += 1;
        self.frames.packet_bytes += record.data.len() as u64;
        self.pass_time(record.at, out);
        match link::decode(record.link, &record.data, record.wire_len as usize) {
            Frame::Fragment(piece) => {
                self.frames.fragments += 1;
                if let Some(whole) = self.fragments.push(piece, record.at) {
                    self.whole(piece.key, whole, record.at, out);
                }
            }
            frame => self.frame(frame, record.at, &record.data, out),
        }
    }

    /// Time passes without a packet (a live source with nothing to do).
    pub(super) fn pass_time(&mut self, at: Nanos, out: &mut Vec<Event>) {
        self.now = if at.0.saturating_add(STEP_BACK) < self.now.0 { at } else { self.now.max(at) };
        if self.ticked.0 == 0 {
            (self.ticked, self.swept) = (self.now, self.now);
        }
        if self.now.since(self.ticked) < TICK {
            return;
        }
        self.ticked = self.now;
        self.wake(out);
        if self.now.since(self.swept) >= SWEEP || self.index.len() > MAX_CONNECTIONS {
            self.swept = self.now;
            self.sweep(out);
        }
        out.push(Event::Tick(self.now));
    }

    /// The source ended: every hole becomes a loss, every open connection is closed.
    pub(super) fn finish(&mut self, out: &mut Vec<Event>) {
        for slot in 0..self.slots.len() {
            self.end(slot, CloseHow::SourceEnd, out);
        }
        self.slots.clear();
        self.index.clear();
        self.recent.fill(None);
    }

    /// A packet put together from fragments, which a tunnel may have put fragments into again.
    fn whole(&mut self, mut key: FragmentKey, mut whole: Bytes, at: Nanos, out: &mut Vec<Event>) {
        for _ in 0..4 {
            let piece = match link::decode_payload(key, &whole) {
                Frame::Fragment(piece) => piece,
                frame => return self.frame(frame, at, &whole, out),
            };
            key = piece.key;
            let Some(packet) = self.fragments.push(piece, at) else { return };
            whole = packet;
        }
        self.frames.malformed += 1;
    }

    fn frame(&mut self, frame: Frame<'_>, at: Nanos, backing: &Bytes, out: &mut Vec<Event>) {
        match frame {
            Frame::Tcp(segment) => self.segment(&segment, at, backing, out),
            Frame::Malformed => self.frames.malformed += 1,
            Frame::UnknownLink => self.frames.unknown_link += 1,
            Frame::Other | Frame::Fragment(_) => self.frames.other += 1,
        }
    }

    fn segment(&mut self, segment: &Segment<'_>, at: Nanos, backing: &Bytes, out: &mut Vec<Event>) {
        self.frames.tcp += 1;
        let from = usize::from(segment.src > segment.dst);
        let key = if from == 0 { [segment.src, segment.dst] } else { [segment.dst, segment.src] };
        let slot = self.slot(key, from, at);
        let push = |connection: &mut Connection, cx: &mut Context<'_>| {
            cx.at = at;
            connection.push(segment, from, backing.slice_ref(segment.payload), cx)
        };
        if self.with(slot, out, push) == Some(After::Restart) {
            self.end(slot, CloseHow::Idle, out);
            if let Some(Some((_, connection))) = self.slots.get_mut(slot) {
                *connection = Connection::new(key, from, at);
            }
            self.with(slot, out, push);
        }
    }

    /// Lets a connection work, and keeps the books.
    fn with<T>(
        &mut self,
        slot: usize,
        out: &mut Vec<Event>,
        work: impl Fn(&mut Connection, &mut Context<'_>) -> T,
    ) -> Option<T> {
        let (_, connection) = self.slots.get_mut(slot)?.as_mut()?;
        let (held, watched) = (connection.held_cost(), connection.watched);
        // When all connections together hold too much, whoever adds to it gives half of its own back.
        let crowded = self.held > self.budget.total && held > 1 << 16;
        let budget = if crowded { held / 2 } else { self.budget.connection };
        let (counts, keys) = (&mut self.counts, &mut self.keys);
        let patience = self.patience;
        let mut cx = Context { out, counts, keys, at: self.now, patience, budget, copy: self.copy };
        let result = work(connection, &mut cx);
        self.held = (self.held + connection.held_cost()).saturating_sub(held);
        if connection.watched && !watched {
            self.watched.push(slot);
        }
        Some(result)
    }

    fn slot(&mut self, key: Key, from: usize, at: Nanos) -> usize {
        let place = place_of(&key);
        if let Some(Some((known, slot))) = self.recent.get(place)
            && *known == key
        {
            return *slot;
        }
        let slot = self.index.get(&key).copied().unwrap_or_else(|| self.insert(key, from, at));
        if let Some(recent) = self.recent.get_mut(place) {
            *recent = Some((key, slot));
        }
        slot
    }

    fn insert(&mut self, key: Key, from: usize, at: Nanos) -> usize {
        let entry = Some((key, Connection::new(key, from, at)));
        let slot = self.free.pop().unwrap_or(self.slots.len());
        match self.slots.get_mut(slot) {
            Some(free) => *free = entry,
            None => self.slots.push(entry),
        }
        self.index.insert(key, slot);
        slot
    }

    fn end(&mut self, slot: usize, how: CloseHow, out: &mut Vec<Event>) {
        self.with(slot, out, |connection, cx| connection.end(how, cx));
        let entry = self.slots.get(slot).and_then(Option::as_ref);
        if let Some(encrypted) = entry.and_then(|(_, connection)| connection.encrypted())
            && self.encrypted.len() < MAX_ENCRYPTED
        {
            self.encrypted.push(encrypted);
        }
    }

    /// Looks at the connections that wait for time to pass.
    fn wake(&mut self, out: &mut Vec<Event>) {
        let mut watched = std::mem::take(&mut self.watched);
        watched.sort_unstable();
        watched.dedup();
        watched.retain(|&slot| {
            self.with(slot, out, |connection, cx| {
                if connection.watched {
                    connection.advance(cx);
                }
                connection.watched
            }) == Some(true)
        });
        watched.append(&mut self.watched);
        self.watched = watched;
    }

    /// Forgets connections that ended a while ago, and the most silent ones when there are too many.
    fn sweep(&mut self, out: &mut Vec<Event>) {
        let now = self.now;
        let over = |connection: &Connection| connection.is_over() && now.since(connection.last_seen) >= LINGER;
        let entries = || self.slots.iter().enumerate().filter_map(|(slot, entry)| Some((slot, entry.as_ref()?)));
        let mut gone: Vec<usize> = entries().filter(|(_, (_, c))| over(c)).map(|(slot, _)| slot).collect();
        if self.index.len() - gone.len() > MAX_CONNECTIONS {
            let mut silent: Vec<(Nanos, usize)> = entries().map(|(slot, (_, c))| (c.last_seen, slot)).collect();
            silent.sort_unstable();
            silent.truncate(self.index.len() - MAX_CONNECTIONS * 9 / 10);
            self.frames.forgotten += silent.len() as u64;
            gone.extend(silent.into_iter().map(|(_, slot)| slot));
        }
        for slot in gone {
            self.end(slot, CloseHow::Idle, out);
            if let Some((key, _)) = self.slots.get_mut(slot).and_then(Option::take) {
                self.index.remove(&key);
                self.free.push(slot);
            }
        }
        self.recent.fill(None);
    }
}
