//! The capture thread: loads, watches, reads the rings until told to stop.
//!
//! The reader is woken for process events, first bytes and a filling ring; everything else waits for its timer, because a
//! wake-up per record costs more than the probe. Order: process events before the bytes read in the same round, exits
//! after the ring was empty once more, so that no byte comes after its connection's end.
#![allow(unsafe_code)]

use std::cell::RefCell;
use std::collections::HashMap;
use std::mem::MaybeUninit;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::mpsc::{Receiver, Sender, sync_channel};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use libbpf_rs::{MapCore, MapFlags, OpenObject, RingBuffer, RingBufferBuilder};
use nix::time::{ClockId, clock_gettime};

use super::abi::{self, Header, ProcKind, Record, StreamId};
use super::attach::{Attacher, Order, ProgramPair, Programs, SharedBoard, board, raise_priority};
use super::facts::Facts;
use super::link::Backend;
use super::skel::{HeronSkel, types};
use super::streams::{Clock, Streams};
use super::{Chooser, Config, Root, Shared, load};
use crate::capture::{NoCall, Sink, StopFlag};
use crate::event::{Event, Nanos, ProcId, ProcessChange, ProcessEvent, ProcessInfo};
use crate::proc;

/// How long bytes may wait in the ring while traffic flows, and when nothing does.
const BUSY: Duration = Duration::from_millis(5);
const IDLE: Duration = Duration::from_millis(20);
/// When nothing flowed for a while. What begins then is told by a wake-up.
const ASLEEP: Duration = Duration::from_millis(50);
const ASLEEP_AFTER: u32 = 50;
const PUBLISH: Duration = Duration::from_millis(250);
/// Records and bytes of one round, roughly: what bounds its memory.
const ROUND_RECORDS: u64 = 4096;
const ROUND_BYTES: usize = 32 << 20;

/// Runs the source.
pub fn run(
    mut config: Config,
    shared: &Arc<Shared>,
    verdicts: &Receiver<NoCall>,
    out: &mut Sink<'_>,
    stop: &StopFlag,
) -> Result<()> {
    raise_priority();
    let facts = Facts::gather();
    let mut place = MaybeUninit::<OpenObject>::uninit();
    let skel = load::load(&config, &facts, &mut place)?;
    let _links = attach_tracepoints(&skel)?;
    let multi = config.decisions.unwrap_or_else(|| facts.decide()).uprobe_multi;
    let programs = Programs {
        backend: if multi { Backend::Multi } else { Backend::perf()? },
        c: pair(&skel.progs.heron_enter, &skel.progs.heron_leave)?,
        go: pair(&skel.progs.heron_go_enter, &skel.progs.heron_go_leave)?,
        aead: pair(&skel.progs.heron_aead_enter, &skel.progs.heron_aead_leave)?,
        aead_step: pair(&skel.progs.heron_aead_step, &skel.progs.heron_aead_step_leave)?,
    };
    let attacher =
        Attacher::start(programs, Arc::clone(&shared.board), config.strict).context("cannot start a thread")?;
    let clock = clock()?;
    let state = RefCell::new(State::new(clock, attacher.orders(), Arc::clone(&shared.board)));
    state.borrow_mut().choose = config.choose.take();
    for root in &config.roots {
        take_root(&skel, root, config.strict, &mut state.borrow_mut())?;
    }
    let result = {
        let rings = Rings::new(&skel, &state)?;
        if let Some(ready) = config.on_ready.take() {
            ready();
        }
        let mut reader = Reader { skel: &skel, rings, state: &state, shared, verdicts };
        reader.until_stopped(out, stop)
    };
    publish(&skel, shared, &state.borrow());
    drop(state);
    attacher.stop();
    result
}

fn pair(enter: &libbpf_rs::ProgramMut<'_>, leave: &libbpf_rs::ProgramMut<'_>) -> Result<ProgramPair> {
    let share =
        |program: &libbpf_rs::ProgramMut<'_>| program.as_fd().try_clone_to_owned().context("cannot share a program");
    Ok(ProgramPair { enter: share(enter)?, leave: share(leave)? })
}

fn clock() -> Result<Clock> {
    let nanos = |id| -> Result<u64> {
        let time = clock_gettime(id).context("cannot read a clock")?;
        Ok(u64::try_from(Duration::from(time).as_nanos()).unwrap_or(0))
    };
    Ok(Clock::new(nanos(ClockId::CLOCK_REALTIME)?, nanos(ClockId::CLOCK_MONOTONIC)?))
}

fn attach_tracepoints(skel: &HeronSkel<'_>) -> Result<Vec<libbpf_rs::Link>> {
    let progs = &skel.progs;
    let needed = [
        (&progs.heron_fork, "sched_process_fork"),
        (&progs.heron_exec, "sched_process_exec"),
        (&progs.heron_exit, "sched_process_exit"),
    ];
    let mut links = Vec::new();
    for (program, name) in needed {
        links.push(program.attach_trace().with_context(|| format!("cannot attach to the tracepoint {name}"))?);
    }
    for program in [&progs.heron_sock_send, &progs.heron_sock_recv, &progs.heron_sock_state] {
        match program.attach_trace() {
            Ok(link) => links.push(link),
            Err(error) => tracing::warn!(%error, "socket addresses will not be known"),
        }
    }
    Ok(links)
}

fn take_root(skel: &HeronSkel<'_>, root: &Root, strict: bool, state: &mut State) -> Result<()> {
    let Some(identity) = proc::identity(root.pid) else {
        tracing::warn!(pid = root.pid, "a process ended before it could be watched");
        return Ok(());
    };
    load::watch(skel, root.pid, identity.start, strict)?;
    state.watched.insert(root.pid);
    if root.programs.is_empty() {
        let info = proc::info(root.pid).unwrap_or_default();
        let change = ProcessChange::Exec { parent: None, info: Arc::new(info) };
        let at = state.streams.clock().epoch(monotonic());
        state.events.push(Event::Process(ProcessEvent { process: identity, at, change }));
        state.order(Order::Exec(root.pid));
    }
    // In any case an answer, so that hooks are set when the source says it is ready.
    let (done, wait) = sync_channel(1);
    state.order(Order::Ahead { pid: root.pid, programs: root.programs.clone(), done });
    let _ = wait.recv(); // the thread ended: its error is logged, and hooks come later or never
    Ok(())
}

fn monotonic() -> u64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map_or(0, |time| u64::try_from(Duration::from(time).as_nanos()).unwrap_or(0))
}

/// What the ring callbacks write to.
struct State {
    streams: Streams,
    /// Ready to hand on.
    events: Vec<Event>,
    /// Exits that wait for the data ring to be drained once more.
    exits: Vec<(ProcId, Nanos, i32, bool)>,
    orders: Sender<Order>,
    board: SharedBoard,
    malformed: u64,
    verdicts: u64,
    choose: Option<Chooser>,
    /// Chosen in this round, to be put into the watch map.
    chosen: Vec<ProcId>,
    /// Live watched processes.
    watched: std::collections::HashSet<u32>,
    round_records: u64,
    round_bytes: usize,
}

/// How a round ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Round {
    /// Nothing was there.
    Quiet,
    /// Something was there, and the data ring is drained.
    Drained,
    /// There is more.
    More,
}

impl State {
    fn new(clock: Clock, orders: Sender<Order>, board: SharedBoard) -> State {
        State {
            streams: Streams::new(clock),
            events: Vec::new(),
            exits: Vec::new(),
            orders,
            board,
            malformed: 0,
            verdicts: 0,
            choose: None,
            chosen: Vec::new(),
            watched: std::collections::HashSet::new(),
            round_records: 0,
            round_bytes: 0,
        }
    }

    fn order(&self, order: Order) {
        if self.orders.send(order).is_err() {
            tracing::error!("the thread that sets hooks has ended: new processes are not hooked");
        }
    }

    fn data(&mut self, bytes: &[u8]) {
        self.round_records += 1;
        self.round_bytes += bytes.len();
        let Some(record) = abi::parse(bytes) else {
            self.malformed += 1;
            return;
        };
        let shared = Arc::clone(&self.board);
        let library = |site: u32| -> Arc<str> {
            let board = board(&shared);
            let site = usize::try_from(site).ok().and_then(|site| board.sites.get(site));
            site.map_or_else(|| Arc::from(""), |site| Arc::clone(&site.library))
        };
        self.streams.push(&record, &library, &mut self.events);
    }

    fn process(&mut self, bytes: &[u8]) {
        let Some(Record::Proc { header, kind, parent, parent_start, comm, uid }) = abi::parse(bytes) else {
            self.malformed += 1;
            return;
        };
        let at = self.streams.clock().epoch(header.time);
        let process = ProcId { pid: header.tgid, start: header.start };
        match kind {
            ProcKind::Exit { .. } => self.watched.remove(&header.tgid),
            ProcKind::Exec { watched: false, .. } => false,
            _ => self.watched.insert(header.tgid),
        };
        let change = match kind {
            ProcKind::Exec { name, args, watched } => {
                let info = exec_info(&header, name, args, comm, uid);
                // Watched meanwhile, when it started two programs in a row.
                if !watched && !self.watched.contains(&header.tgid) {
                    if !self.choose.as_ref().is_some_and(|choose| choose(header.tgid, &info)) {
                        return;
                    }
                    self.watched.insert(header.tgid);
                    self.chosen.push(process);
                }
                self.order(Order::Exec(header.tgid));
                ProcessChange::Exec { parent: None, info: Arc::new(info) }
            }
            ProcKind::Fork { shares_memory } => {
                self.order(Order::Fork { parent, child: header.tgid, shares_memory });
                ProcessChange::Fork { parent: ProcId { pid: parent, start: parent_start } }
            }
            ProcKind::Exit { status, had_streams } => {
                self.order(Order::Exit(header.tgid));
                self.exits.push((process, at, status, had_streams));
                return;
            }
            ProcKind::Map => {
                self.order(Order::Map(header.tgid));
                return;
            }
        };
        self.events.push(Event::Process(ProcessEvent { process, at, change }));
    }
}

/// What `/proc` says, or what the kernel said at exec when the process is gone or another program already.
fn exec_info(header: &Header, name: String, args: Vec<String>, comm: String, uid: u32) -> ProcessInfo {
    match proc::info(header.tgid) {
        Some(info) if info.comm == comm => info,
        _ => ProcessInfo { exe: name, comm, cmdline: args, uid, ..ProcessInfo::default() },
    }
}

struct Rings<'a> {
    data: RingBuffer<'a>,
    process: RingBuffer<'a>,
}

impl<'a> Rings<'a> {
    fn new(skel: &'a HeronSkel<'_>, state: &'a RefCell<State>) -> Result<Rings<'a>> {
        let mut data = RingBufferBuilder::new();
        data.add(&skel.maps.data_ring, |bytes| {
            let mut state = state.borrow_mut();
            state.data(bytes);
            // A full batch goes on first; the rest is read in the next round.
            if state.round_records >= ROUND_RECORDS || state.round_bytes >= ROUND_BYTES { -1 } else { 0 }
        })?;
        let mut process = RingBufferBuilder::new();
        process.add(&skel.maps.proc_ring, |bytes| {
            state.borrow_mut().process(bytes);
            0
        })?;
        Ok(Rings {
            data: data.build().context("cannot map the data ring")?,
            process: process.build().context("cannot map the process ring")?,
        })
    }
}

struct Reader<'a, 'obj> {
    skel: &'a HeronSkel<'obj>,
    rings: Rings<'a>,
    state: &'a RefCell<State>,
    shared: &'a Shared,
    verdicts: &'a Receiver<NoCall>,
}

impl Reader<'_, '_> {
    fn until_stopped(&mut self, out: &mut Sink<'_>, stop: &StopFlag) -> Result<()> {
        let mut published = Instant::now();
        let mut last = Round::Quiet;
        let mut quiet = 0u32;
        let mut gone = false;
        while !stop.is_stopped() && !gone {
            match last {
                Round::More => {}
                Round::Drained => self.wait(BUSY)?,
                Round::Quiet if quiet < ASLEEP_AFTER => self.wait(IDLE)?,
                Round::Quiet => self.wait(ASLEEP)?,
            }
            last = self.round();
            quiet = if last == Round::Quiet { quiet.saturating_add(1) } else { 0 };
            gone = self.hand_on(out).is_break();
            if published.elapsed() >= PUBLISH {
                self.publish();
                published = Instant::now();
            }
        }
        // What is in the rings belongs to the run. Two quiet rounds: the second lets the exits out.
        let mut quiet = 0;
        while quiet < 2 && !gone {
            quiet = if self.round() == Round::Quiet { quiet + 1 } else { 0 };
            gone = self.hand_on(out).is_break();
        }
        let mut state = self.state.borrow_mut();
        let State { streams, events, .. } = &mut *state;
        streams.source_ended(streams.clock().epoch(monotonic()), events);
        drop(state);
        let _ = self.hand_on(out);
        Ok(())
    }

    fn publish(&self) {
        publish(self.skel, self.shared, &self.state.borrow());
    }

    /// Sleeps until the kernel side wants to be read, or the timer ends.
    fn wait(&self, most: Duration) -> Result<()> {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        let [data, process] = [self.rings.data.epoll_fd(), self.rings.process.epoll_fd()];
        // SAFETY: the descriptors belong to the rings, which outlive the call.
        let (data, process) = unsafe { (BorrowedFd::borrow_raw(data), BorrowedFd::borrow_raw(process)) };
        let mut fds = [PollFd::new(data, PollFlags::POLLIN), PollFd::new(process, PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::try_from(most).unwrap_or(PollTimeout::ZERO)) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(error) => Err(error).context("cannot wait for the rings"),
        }
    }

    /// Reads both rings.
    fn round(&mut self) -> Round {
        let exits = {
            let mut state = self.state.borrow_mut();
            (state.round_records, state.round_bytes) = (0, 0);
            std::mem::take(&mut state.exits)
        };
        self.write_verdicts();
        // An error is a callback's wish to stop early.
        let _ = self.rings.process.consume();
        self.watch_chosen();
        let full = self.rings.data.consume().is_err();
        let _ = self.rings.process.consume();
        self.watch_chosen();
        if full {
            // Not drained: the exits wait, in their order.
            self.state.borrow_mut().exits.splice(0..0, exits);
            return Round::More;
        }
        self.let_out(exits);
        let state = self.state.borrow();
        if state.events.is_empty() && state.exits.is_empty() { Round::Quiet } else { Round::Drained }
    }

    /// Tells the kernel side which HTTP/2 exchanges are no LLM calls.
    fn write_verdicts(&self) {
        for NoCall { conn, stream } in self.verdicts.try_iter() {
            let Some(id) = self.state.borrow().streams.id(conn) else {
                continue; // it ended
            };
            let mut key = [0u8; size_of::<types::heron_h2_key>()];
            key[..8].copy_from_slice(&id.stream.to_ne_bytes());
            key[8..16].copy_from_slice(&id.born.to_ne_bytes());
            key[16..20].copy_from_slice(&id.tgid.to_ne_bytes());
            key[20..].copy_from_slice(&stream.to_ne_bytes());
            match self.skel.maps.h2_out.update(&key, &[1], MapFlags::ANY) {
                Ok(()) => self.state.borrow_mut().verdicts += 1,
                Err(error) => tracing::debug!(%error, "an HTTP/2 exchange goes on to be copied"),
            }
        }
    }

    fn watch_chosen(&self) {
        for process in std::mem::take(&mut self.state.borrow_mut().chosen) {
            if let Err(error) = load::watch(self.skel, process.pid, process.start, false) {
                tracing::warn!(%error, "a process is not watched");
            }
        }
    }

    fn let_out(&self, exits: Vec<(ProcId, Nanos, i32, bool)>) {
        for (process, at, status, had_streams) in exits {
            let reached = if had_streams { sweep(self.skel, process.pid) } else { HashMap::new() };
            let mut state = self.state.borrow_mut();
            let State { streams, events, .. } = &mut *state;
            streams.process_ended(process.pid, at, &reached, events);
            let change = ProcessChange::Exit { status };
            events.push(Event::Process(ProcessEvent { process, at, change }));
        }
    }

    fn hand_on(&self, out: &mut Sink<'_>) -> ControlFlow<()> {
        let mut events = std::mem::take(&mut self.state.borrow_mut().events);
        if events.is_empty() {
            return ControlFlow::Continue(());
        }
        // Process events first: they say who the owners of the connections are.
        events.sort_by_key(|event| match event {
            Event::Process(ProcessEvent {
                change: ProcessChange::Exec { .. } | ProcessChange::Fork { .. }, ..
            }) => 0,
            _ => 1,
        });
        out(events)
    }
}

/// Takes the streams of a process that ended out of the kernel's table, and tells how far each got.
fn sweep(skel: &HeronSkel<'_>, pid: u32) -> HashMap<StreamId, [u64; 2]> {
    use std::mem::offset_of;
    let mut reached = HashMap::new();
    let map = &skel.maps.streams;
    let word =
        |bytes: &[u8], at: usize| bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_ne_bytes);
    let of = |key: &Vec<u8>| {
        let at = offset_of!(types::heron_stream_key, tgid);
        key.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_ne_bytes) == Some(pid)
    };
    for key in map.keys().filter(of).collect::<Vec<_>>() {
        if let Ok(Some(value)) = map.lookup(&key, MapFlags::ANY) {
            let stream = word(&key, offset_of!(types::heron_stream_key, stream));
            let born = word(&value, offset_of!(types::heron_stream, born));
            let at = offset_of!(types::heron_stream, offset);
            reached.insert(StreamId { tgid: pid, stream, born }, [word(&value, at), word(&value, at + 8)]);
        }
        if let Err(error) = map.delete(&key) {
            tracing::debug!(%error, pid, "a stream was gone already");
        }
    }
    reached
}

/// Copies the counters to where other threads read them.
fn publish(skel: &HeronSkel<'_>, shared: &Shared, state: &State) {
    let mut counters = std::collections::BTreeMap::new();
    for (slot, name) in (0u32..).zip(abi::COUNTERS) {
        let values = skel.maps.counters.lookup_percpu(&slot.to_ne_bytes(), MapFlags::ANY).ok().flatten();
        let sum = values
            .unwrap_or_default()
            .iter()
            .filter_map(|v| v.as_slice().try_into().ok().map(u64::from_ne_bytes))
            .sum();
        counters.insert(*name, sum);
    }
    counters.insert("watched_processes", u64::try_from(state.watched.len()).unwrap_or(0));
    counters.insert("malformed_records", state.malformed);
    counters.insert("h2_verdicts", state.verdicts);
    *shared.counters.lock().unwrap_or_else(PoisonError::into_inner) = counters;
    let sites = board(&shared.board).sites.len();
    let hit = |site: usize| {
        let site = u32::try_from(site).ok()?;
        let value = skel.maps.site_hits.lookup(&site.to_ne_bytes(), MapFlags::ANY).ok()??;
        value.as_slice().try_into().ok().map(u64::from_ne_bytes)
    };
    let hits = (0..sites).map(|site| hit(site).unwrap_or(0)).collect();
    *shared.hits.lock().unwrap_or_else(PoisonError::into_inner) = hits;
}
