//! The composition root: the only place that knows every stage. It reads top to bottom as the data flows.
//!
//! ```text
//! source thread --batches--> decode workers (conn, http, wire) --updates--> assembler (turn) --facts--> outlets
//! ```
//!
//! Batches are numbered by the source thread. Each worker answers each batch, also with nothing, so that the assembler can put the
//! updates of one batch into event-time order whatever the number of workers: the same tape gives the same rows.
//! Channels are bounded; back-pressure ends in the source (the kernel's ring, where loss is counted).

mod assembler;
mod keeper;
mod live;
mod outlet;
mod summary;
mod worker;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use anyhow::{Context, Result, anyhow};

use crate::capture::tape::Recorder;
use crate::capture::{Source, Status, StopFlag};
use crate::event::{Event, Nanos};
use crate::price::Prices;
use crate::stats::Board;

pub use keeper::{Keeper, KeeperThread, Retention, keep};
pub use live::Live;
pub use outlet::{Fact, JsonLines, Outlet};
pub use summary::{Summary, is_loss};

use assembler::{Assembler, Ordered};

/// Event time between two ticks that the pipeline makes when the source makes none.
const TICK: u64 = 1_000_000_000;
/// Batches under way between two threads.
const QUEUE: usize = 8;

/// How to run.
pub struct Options {
    /// Decode workers; at least 1.
    pub workers: usize,
    /// Records the source's events here.
    pub tape: Option<Recorder>,
    /// Who takes the results, in order.
    pub outlets: Vec<Box<dyn Outlet>>,
    /// What calls cost.
    pub prices: Prices,
}

/// A batch on its way to one worker.
struct Work {
    seq: u64,
    events: Vec<Event>,
}

/// What a worker or the source tells the assembler about batch `seq`.
struct Answer {
    seq: u64,
    what: Vec<Ordered>,
}

/// A pipeline that runs.
pub struct Running {
    stop: StopFlag,
    board: Arc<Board>,
    source: Arc<dyn Status>,
    source_name: &'static str,
    threads: Vec<JoinHandle<Result<()>>>,
    assembler: JoinHandle<Result<Summary>>,
}

/// Starts the threads. `stop` ends the source; what was captured until then is still decoded.
pub fn start(source: Box<dyn Source>, options: Options, stop: StopFlag) -> Result<Running> {
    let board = Arc::new(Board::default());
    let (status, source_name, verdicts) = (source.status(), source.name(), source.verdicts());
    let workers = options.workers.max(1);
    let shows_progress = options.outlets.iter().any(|outlet| outlet.shows_progress());
    let (answers, assembler_in) = sync_channel::<Answer>(QUEUE * (workers + 1));
    let mut threads = Vec::new();
    let mut lanes = Vec::new();
    for number in 0..workers {
        let (lane, work) = sync_channel::<Work>(QUEUE);
        let (answers, board, verdicts) = (answers.clone(), board.clone(), verdicts.clone());
        threads.push(spawn(&format!("decode-{number}"), move || {
            worker::run(number, shows_progress, &work, &answers, verdicts, &board)
        })?);
        lanes.push(lane);
    }
    let feed = Feed { lanes, answers, tape: options.tape, seq: 0, next_tick: None, last: Nanos(0) };
    let source_stop = stop.clone();
    threads.push(spawn("source", move || feed.run(source, &source_stop))?);
    let (outlets, prices, for_assembler, for_losses) = (options.outlets, options.prices, board.clone(), status.clone());
    let assembler = spawn("assembler", move || {
        assemble(assembler_in, workers, Assembler::new(outlets, prices), &for_assembler, for_losses.as_ref())
    })?;
    Ok(Running { stop, board, source: status, source_name, threads, assembler })
}

impl Running {
    /// Every counter of every stage, the source's under its name.
    pub fn counters(&self) -> Counts {
        Counts { board: self.board.clone(), source: self.source.clone(), source_name: self.source_name }
    }

    /// Asks the source to stop.
    pub fn stop(&self) {
        self.stop.stop();
    }

    /// True when the source has ended and everything is decoded.
    pub fn is_finished(&self) -> bool {
        self.assembler.is_finished()
    }

    /// Waits for the end. The first error of any thread is returned, after all of them have ended.
    pub fn wait(self) -> Result<Summary> {
        let mut first = None;
        for thread in self.threads {
            if let Err(error) = joined(thread) {
                first.get_or_insert(error);
            }
        }
        let summary = joined(self.assembler)?;
        first.map_or(Ok(summary), Err)
    }
}

/// A readable view of all counters; cheap to clone and independent of the pipeline's life.
#[derive(Clone)]
pub struct Counts {
    board: Arc<Board>,
    source: Arc<dyn Status>,
    source_name: &'static str,
}

impl Counts {
    /// By stage; the source's counters are under `kernel` for eBPF, else under `capture`.
    pub fn read(&self) -> std::collections::BTreeMap<&'static str, crate::stats::Counters> {
        let mut stages = self.board.read();
        stages.insert(if self.source_name == "ebpf" { "kernel" } else { "capture" }, self.source.counters());
        stages
    }

    /// The source's name.
    pub fn source_name(&self) -> &'static str {
        self.source_name
    }

    /// What the source is attached to.
    pub fn targets(&self) -> Vec<crate::capture::Target> {
        self.source.targets()
    }

    /// Encrypted connections that stayed closed (packet sources), the newest 1,000.
    pub fn encrypted(&self) -> Vec<crate::capture::Encrypted> {
        let mut all = self.source.encrypted();
        all.drain(..all.len().saturating_sub(1000));
        all
    }

    /// What a person should know about the input.
    pub fn warnings(&self) -> Vec<String> {
        self.source.warnings()
    }
}

fn spawn<T: Send + 'static>(
    name: &str,
    run: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<JoinHandle<Result<T>>> {
    std::thread::Builder::new().name(name.to_owned()).spawn(run).with_context(|| format!("cannot start thread {name}"))
}

fn joined<T>(thread: JoinHandle<Result<T>>) -> Result<T> {
    let name = thread.thread().name().unwrap_or("a thread").to_owned();
    thread.join().unwrap_or_else(|_| Err(anyhow!("{name} panicked; what was captured before is stored")))
}

/// The source thread's end of the lanes: records, numbers, shards.
struct Feed {
    lanes: Vec<SyncSender<Work>>,
    answers: SyncSender<Answer>,
    tape: Option<Recorder>,
    seq: u64,
    next_tick: Option<Nanos>,
    last: Nanos,
}

impl Feed {
    fn run(mut self, source: Box<dyn Source>, stop: &StopFlag) -> Result<()> {
        let ran = source.run(&mut |batch| self.take(batch), stop);
        let finished = self.tape.take().map_or(Ok(()), Recorder::finish);
        ran.and(finished)
    }

    fn take(&mut self, batch: Vec<Event>) -> ControlFlow<()> {
        self.record(&batch);
        let mut lanes: Vec<Vec<Event>> = vec![Vec::new(); self.lanes.len()];
        let mut for_assembler = Vec::new();
        if let [only] = lanes.as_mut_slice() {
            only.reserve(batch.len() + 1);
        }
        for event in batch {
            self.tick_before(event.at(), &mut lanes, &mut for_assembler);
            match event.conn() {
                Some(conn) => {
                    let lane = shard(conn.0, lanes.len());
                    lanes[lane].push(event);
                }
                None => broadcast(event, &mut lanes, &mut for_assembler),
            }
        }
        self.send(lanes, for_assembler)
    }

    fn record(&mut self, batch: &[Event]) {
        let Some(tape) = &mut self.tape else { return };
        if let Err(error) = tape.record(batch) {
            tracing::error!("{error:#}; recording ends here, capturing goes on");
            self.tape = None;
        }
    }

    /// Time passes for the stages when events show that it did.
    fn tick_before(&mut self, at: Nanos, lanes: &mut [Vec<Event>], for_assembler: &mut Vec<Ordered>) {
        self.last = self.last.max(at);
        let due = *self.next_tick.get_or_insert(Nanos(at.0.saturating_add(TICK)));
        if self.last >= due {
            self.next_tick = Some(Nanos(self.last.0.saturating_add(TICK)));
            broadcast(Event::Tick(self.last), lanes, for_assembler);
        }
    }

    fn send(&mut self, lanes: Vec<Vec<Event>>, for_assembler: Vec<Ordered>) -> ControlFlow<()> {
        let seq = self.seq;
        self.seq += 1;
        for (lane, events) in self.lanes.iter().zip(lanes) {
            if lane.send(Work { seq, events }).is_err() {
                return ControlFlow::Break(());
            }
        }
        match self.answers.send(Answer { seq, what: for_assembler }) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    }
}

/// A tick or a process event concerns every connection, and the assembler.
fn broadcast(event: Event, lanes: &mut [Vec<Event>], for_assembler: &mut Vec<Ordered>) {
    lanes.iter_mut().for_each(|lane| lane.push(event.clone()));
    for_assembler.push(Ordered::event(event));
}

/// Spreads neighbouring ids over the lanes.
fn shard(conn: u64, lanes: usize) -> usize {
    (conn.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize % lanes.max(1)
}

/// Gathers the answers of each batch from all workers and the source, in order, and hands them to the assembler.
fn assemble(
    answers: Receiver<Answer>,
    workers: usize,
    mut assembler: Assembler,
    board: &Board,
    source: &dyn Status,
) -> Result<Summary> {
    let mut waiting: std::collections::BTreeMap<u64, (usize, Vec<Ordered>)> = std::collections::BTreeMap::new();
    let mut next = 0;
    for answer in answers {
        let entry = waiting.entry(answer.seq).or_default();
        entry.0 += 1;
        entry.1.extend(answer.what);
        while waiting.get(&next).is_some_and(|(count, _)| *count == workers + 1) {
            if let Some((_, batch)) = waiting.remove(&next) {
                assembler.take(batch);
            }
            next += 1;
            board.publish("turn", 0, assembler.counters());
        }
    }
    // The workers' last answers, made when their connections ended with the source, have the highest number of all.
    for (_, (_, batch)) in waiting {
        assembler.take(batch);
    }
    let summary = assembler.finish(source);
    board.publish("turn", 0, summary.turn_counters.clone());
    Ok(summary)
}
