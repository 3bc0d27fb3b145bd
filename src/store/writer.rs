//! The one writer: takes items in the order in which they happen, and writes them in batches.
//!
//! A call is held until the turn stage has said where it belongs, so that a row is written once. When a batch cannot be
//! written (a full disk), it is kept and tried again at the next flush; only what arrives beyond a bound is given up, and
//! counted. Capture never waits for this.

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use duckdb::{Connection, params};

use super::block::BlockRow;
use super::prepare::Packer;
use super::rows::{self, CallRow, ExitRow, FindingEntry, ImageRow, MessageRow, TurnRow, append_all};
use super::summary::{FindingRow, ProcessBrief, TurnSummary, step_json};
use super::{Keep, Pruned, StoreError, retention};
use crate::event::{Nanos, ProcId, ProcessChange, ProcessEvent, ProcessInfo};
use crate::redact;
use crate::stats::Counters;
use crate::turn::{Finding, Placement, Turn, TurnId, TurnStatus};
use crate::wire::{Call, CallId};

/// A batch is written when it has so many calls ...
const BATCH_CALLS: usize = 2_000;
/// ... or weighs so many bytes.
const BATCH_BYTES: usize = 8 << 20;
/// A batch that cannot be written is kept up to this weight.
const HELD_BYTES: usize = 128 << 20;
/// Calls that wait for their place; beyond that the oldest is written without one.
const WAITING_CALLS: usize = 1_024;
/// Processes whose image is remembered.
const PROCESSES: usize = 65_536;
/// The database is not written to when the disk has less room than this beside the batch itself.
const FREE_BYTES: u64 = 32 << 20;
/// Messages whose addresses are read when a database is opened.
const READ_KEYS: i64 = 200_000;

/// What the store takes.
#[derive(Clone, PartialEq, Debug)]
pub enum Item {
    /// Something happened to a watched process.
    Process(ProcessEvent),
    /// A call to which nothing more will come.
    Call(Arc<Call>),
    /// Where a call belongs; usually right after the call.
    Placement(Placement),
    /// A turn as it stands; later ones replace earlier ones.
    Turn(Arc<Turn>),
    /// A finding.
    Finding(Arc<Finding>),
}

/// What the writer has done so far; shared with whoever shows it.
#[derive(Debug, Default)]
pub struct WriterStatus {
    calls: AtomicU64,
    turns: AtomicU64,
    findings: AtomicU64,
    messages: AtomicU64,
    body_bytes: AtomicU64,
    packed_bytes: AtomicU64,
    batches: AtomicU64,
    failed_batches: AtomicU64,
    held_calls: AtomicU64,
    dropped_calls: AtomicU64,
    pruned_calls: AtomicU64,
    trouble: Mutex<Option<String>>,
}

impl WriterStatus {
    /// The counters by name, for `/api/health` and the summary.
    pub fn counters(&self) -> Counters {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counters::from([
            ("calls", read(&self.calls)),
            ("turns", read(&self.turns)),
            ("findings", read(&self.findings)),
            ("messages", read(&self.messages)),
            ("body_bytes", read(&self.body_bytes)),
            ("packed_bytes", read(&self.packed_bytes)),
            ("batches", read(&self.batches)),
            ("failed_batches", read(&self.failed_batches)),
            ("held_calls", read(&self.held_calls)),
            ("dropped_calls", read(&self.dropped_calls)),
            ("pruned_calls", read(&self.pruned_calls)),
        ])
    }

    /// Why the last batch could not be written, until one can.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Remembers a trouble; true when it is a new one.
    fn set_trouble(&self, trouble: Option<String>) -> bool {
        let mut current = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = current.is_none() && trouble.is_some();
        *current = trouble;
        is_new
    }
}

/// Rows that wait to be written together.
#[derive(Default)]
struct Batch {
    calls: Vec<CallRow>,
    at: HashMap<CallId, usize>,
    blocks: Vec<BlockRow>,
    messages: Vec<MessageRow>,
    turns: HashMap<TurnId, WaitingTurn>,
    findings: Vec<FindingEntry>,
    images: Vec<ImageRow>,
    exits: Vec<ExitRow>,
    moved: Vec<Placement>,
    weight: usize,
}

/// A turn, and the piece that its steps are once they are packed.
struct WaitingTurn {
    turn: Arc<Turn>,
    steps: Option<i64>,
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.calls.is_empty()
            && self.turns.is_empty()
            && self.findings.is_empty()
            && self.images.is_empty()
            && self.exits.is_empty()
            && self.moved.is_empty()
    }
}

/// What is known of a process that made calls.
struct Image {
    number: i64,
    info: Arc<ProcessInfo>,
}

/// The one writer of a database.
pub struct Writer {
    connection: Connection,
    path: Option<PathBuf>,
    packer: Packer,
    waiting: VecDeque<Arc<Call>>,
    early: HashMap<CallId, Placement>,
    images: HashMap<ProcId, Image>,
    images_by_age: VecDeque<ProcId>,
    next_image: i64,
    batch: Batch,
    /// Turns that have a row, with the number of calls they had when it was written.
    written: HashMap<TurnId, usize>,
    free_bytes: u64,
    status: Arc<WriterStatus>,
}

impl Writer {
    pub(super) fn new(connection: Connection, path: Option<PathBuf>) -> Result<Writer, StoreError> {
        let next = |table: &str, column: &str| -> Result<i64, StoreError> {
            let query = format!("SELECT coalesce(max({column}), 0) + 1 FROM {table}");
            Ok(connection.query_row(&query, [], |row| row.get(0))?)
        };
        let (next_block, next_message) = (next("blocks", "id")?, next("messages", "id")?);
        let next_image = next("images", "image")?;
        let messages: i64 = connection.query_row("SELECT count(*) FROM messages", [], |row| row.get(0))?;
        let all_known = messages <= READ_KEYS;
        let mut known = HashSet::new();
        if all_known {
            let mut statement = connection.prepare("SELECT key FROM messages")?;
            let keys = statement.query_map([], |row| row.get::<_, i128>(0))?;
            for key in keys {
                known.insert(key? as u128);
            }
        }
        Ok(Writer {
            connection,
            path,
            packer: Packer::new(next_block, next_message, known, all_known),
            waiting: VecDeque::new(),
            early: HashMap::new(),
            images: HashMap::new(),
            images_by_age: VecDeque::new(),
            next_image,
            batch: Batch::default(),
            written: HashMap::new(),
            free_bytes: FREE_BYTES,
            status: Arc::default(),
        })
    }

    /// What was done so far.
    pub fn status(&self) -> Arc<WriterStatus> {
        Arc::clone(&self.status)
    }

    /// Takes an item. A full batch is written at once.
    ///
    /// # Errors
    /// When a batch cannot be written for the first time; the sentence is for the user, and nothing is lost yet: go on.
    pub fn push(&mut self, item: Item) -> Result<(), StoreError> {
        match item {
            Item::Process(event) => self.process(&event),
            Item::Call(call) => self.call(call),
            Item::Placement(placement) => self.place(placement),
            Item::Turn(turn) => {
                self.batch.turns.insert(turn.id, WaitingTurn { turn, steps: None });
            }
            Item::Finding(finding) => {
                self.batch.findings.push(FindingEntry { row: FindingRow::of(&finding), at: finding.at });
            }
        }
        // A batch that could not be written is not tried again at each item, only at each flush.
        let full = self.batch.calls.len() >= BATCH_CALLS || self.weight() >= BATCH_BYTES;
        if full && self.status.trouble().is_none() { self.write(false) } else { Ok(()) }
    }

    /// Writes everything, calls that have no place yet included.
    ///
    /// # Errors
    /// As [`Writer::push`].
    pub fn flush(&mut self) -> Result<(), StoreError> {
        while let Some(call) = self.waiting.pop_front() {
            self.prepare(&call, None);
        }
        self.write(true)
    }

    /// Writes everything and leaves the file as one piece, without a write-ahead log.
    ///
    /// # Errors
    /// When something could not be written: the sentence says how much.
    pub fn close(mut self) -> Result<(), StoreError> {
        let flushed = self.flush();
        let held = self.batch.calls.len();
        if held > 0 {
            let trouble = self.status.trouble().unwrap_or_default();
            return Err(StoreError::new(format!("{held} calls could not be stored: {trouble}")));
        }
        flushed?;
        self.connection.execute_batch("CHECKPOINT")?;
        Ok(())
    }

    /// Deletes what is older or more than `keep` allows. `now` is the age's reference.
    ///
    /// # Errors
    /// When the database fails.
    pub fn prune(&mut self, keep: &Keep, now: Nanos) -> Result<Pruned, StoreError> {
        self.flush()?;
        let pruned = retention::prune(&self.connection, self.path.as_deref(), keep, now)?;
        if pruned.calls > 0 {
            self.packer.forget();
            self.status.pruned_calls.fetch_add(pruned.calls, Ordering::Relaxed);
        }
        Ok(pruned)
    }

    fn process(&mut self, event: &ProcessEvent) {
        match &event.change {
            ProcessChange::Exec { parent, info } => self.image(event, *parent, Arc::clone(info), false),
            ProcessChange::Fork { parent } => {
                let info = self.images.get(parent).map(|image| Arc::clone(&image.info)).unwrap_or_default();
                self.image(event, Some(*parent), info, true);
            }
            ProcessChange::Exit { status } => {
                self.batch.exits.push(ExitRow { process: event.process, at: event.at, status: *status });
            }
        }
    }

    fn image(&mut self, event: &ProcessEvent, parent: Option<ProcId>, info: Arc<ProcessInfo>, forked: bool) {
        let number = self.next_image;
        self.next_image += 1;
        self.batch.images.push(ImageRow {
            image: number,
            process: event.process,
            parent,
            at: event.at,
            forked,
            exe: info.exe.clone(),
            comm: info.comm.clone(),
            cmdline: serde_json::to_string(&redact::arguments(&info.cmdline)).unwrap_or_default(),
            cwd: info.cwd.clone(),
            uid: info.uid,
            container: info.container.clone(),
        });
        if self.images.insert(event.process, Image { number, info }).is_none() {
            self.images_by_age.push_back(event.process);
        }
        if self.images_by_age.len() > PROCESSES
            && let Some(oldest) = self.images_by_age.pop_front()
        {
            self.images.remove(&oldest);
        }
    }

    fn call(&mut self, call: Arc<Call>) {
        if let Some(place) = self.early.remove(&call.id) {
            return self.prepare(&call, Some(&place));
        }
        self.waiting.push_back(call);
        if self.waiting.len() > WAITING_CALLS
            && let Some(oldest) = self.waiting.pop_front()
        {
            self.prepare(&oldest, None);
        }
    }

    fn place(&mut self, place: Placement) {
        if let Some(at) = self.waiting.iter().rposition(|call| call.id == place.call_id) {
            if let Some(call) = self.waiting.remove(at) {
                self.prepare(&call, Some(&place));
            }
        } else if let Some(row) = self.batch.at.get(&place.call_id).and_then(|at| self.batch.calls.get_mut(*at)) {
            row.summary.turn_id = place.turn_id.map(|id| id.to_string());
            row.summary.session_id = place.session_id.map(|id| id.to_string());
            row.summary.auxiliary = place.auxiliary;
            row.summary.hop_of = place.hop_of.map(|id| id.to_string());
        } else {
            self.batch.moved.push(place);
        }
    }

    /// About how much memory what is not written takes.
    fn weight(&self) -> usize {
        self.batch.weight + self.packer.open_bytes()
    }

    fn prepare(&mut self, call: &Call, place: Option<&Placement>) {
        if self.weight() > HELD_BYTES {
            // The disk has been full for long: what is held stays, what is new is given up.
            self.status.dropped_calls.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let image = call.process.and_then(|process| self.images.get(&process));
        let brief = call.process.map(|process| ProcessBrief::of(process, image.map(|image| &*image.info)));
        let number = image.map(|image| image.number);
        let prepared = self.packer.prepare(call, place, brief, number);
        self.batch.weight += prepared.weight();
        self.batch.at.insert(call.id, self.batch.calls.len());
        self.batch.calls.push(prepared.call);
        let bodies = (call.request.body.len() + call.response.body.len()) as u64;
        self.status.body_bytes.fetch_add(bodies, Ordering::Relaxed);
        self.batch.messages.extend(prepared.messages);
        let full = self.packer.close_full();
        self.keep_block(full);
    }

    /// Adds a closed block to the batch.
    fn keep_block(&mut self, block: Option<BlockRow>) {
        if let Some(block) = block {
            self.batch.weight += block.data.len() + block.pieces.len();
            self.status.packed_bytes.fetch_add(block.data.len() as u64, Ordering::Relaxed);
            self.batch.blocks.push(block);
        }
    }

    /// Writes the batch; with `all`, turns in progress too.
    fn write(&mut self, all: bool) -> Result<(), StoreError> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let turns = self.turns_to_write(all);
        let open = self.packer.close();
        self.keep_block(open);
        let outcome = self.room_on_disk().and_then(|()| {
            self.connection.execute_batch("BEGIN")?;
            let written = self.write_rows(&turns).and_then(|()| Ok(self.connection.execute_batch("COMMIT")?));
            if written.is_err() {
                // When the transaction is gone already there is nothing to roll back.
                let _ = self.connection.execute_batch("ROLLBACK");
            }
            written
        });
        match outcome {
            Ok(()) => {
                self.written(&turns);
                Ok(())
            }
            Err(error) => {
                self.status.failed_batches.fetch_add(1, Ordering::Relaxed);
                self.status.held_calls.store(self.batch.calls.len() as u64, Ordering::Relaxed);
                let sentence = format!("{error}; heron goes on and holds what it cannot store");
                if self.status.set_trouble(Some(sentence.clone())) { Err(StoreError::new(sentence)) } else { Ok(()) }
            }
        }
    }

    /// Accounts for a batch that is in the database.
    fn written(&mut self, turns: &[TurnRow]) {
        let status = &self.status;
        let count = |counter: &AtomicU64, rows: usize| counter.fetch_add(rows as u64, Ordering::Relaxed);
        count(&status.calls, self.batch.calls.len());
        count(&status.findings, self.batch.findings.len());
        count(&status.messages, self.batch.messages.len());
        count(&status.batches, 1);
        status.held_calls.store(0, Ordering::Relaxed);
        status.set_trouble(None);
        let mut batch = std::mem::take(&mut self.batch);
        let ids: HashSet<&str> = turns.iter().map(|row| row.summary.id.as_str()).collect();
        batch.turns.retain(|id, WaitingTurn { turn, .. }| {
            if !ids.contains(id.to_string().as_str()) {
                return true;
            }
            let is_new = self.written.insert(*id, turn.call_ids.len()).is_none();
            self.status.turns.fetch_add(u64::from(is_new), Ordering::Relaxed);
            if turn.settled {
                self.written.remove(id);
            }
            false
        });
        self.batch.turns = batch.turns;
    }

    /// The turns whose rows are written now. One in progress is written anew only after it has grown by a quarter, so that a long
    /// turn does not cost its length at each flush.
    fn turns_to_write(&mut self, all: bool) -> Vec<TurnRow> {
        let due = |turn: &Turn| match turn.status {
            TurnStatus::InProgress => {
                all && self.written.get(&turn.id).is_none_or(|calls| turn.call_ids.len() * 4 > calls * 5)
            }
            _ => true,
        };
        let mut turns: Vec<&mut WaitingTurn> =
            self.batch.turns.values_mut().filter(|waiting| due(&waiting.turn)).collect();
        turns.sort_by_key(|waiting| (waiting.turn.started_at, waiting.turn.id));
        let mut rows = Vec::with_capacity(turns.len());
        let mut blocks = Vec::new();
        for WaitingTurn { turn, steps } in turns {
            // Packed once, also when the batch must be tried again.
            if steps.is_none() {
                let json: Vec<serde_json::Value> = turn.steps.iter().map(step_json).collect();
                *steps = self.packer.add(&serde_json::to_vec(&json).unwrap_or_default());
                blocks.extend(self.packer.close_full());
            }
            rows.push(turn_row(turn, *steps, &self.images));
        }
        blocks.into_iter().for_each(|block| self.keep_block(Some(block)));
        rows
    }

    fn write_rows(&self, turns: &[TurnRow]) -> Result<(), StoreError> {
        let (connection, batch) = (&self.connection, &self.batch);
        append_all(connection, "images", &batch.images, rows::image)?;
        append_all(connection, "exits", &batch.exits, rows::exit)?;
        self.write_messages()?;
        append_all(connection, "blocks", &batch.blocks, rows::block)?;
        append_all(connection, "calls", &batch.calls, rows::call)?;
        for place in &batch.moved {
            connection
                .prepare_cached("UPDATE calls SET turn_id = ?, session_id = ?, auxiliary = ?, hop_of = ? WHERE id = ?")?
                .execute(params![
                    place.turn_id.map(|id| id.to_string()),
                    place.session_id.map(|id| id.to_string()),
                    place.auxiliary,
                    place.hop_of.map(|id| id.to_string()),
                    place.call_id.to_string()
                ])?;
        }
        self.delete_old_turns(turns)?;
        append_all(connection, "turns", turns, rows::turn)?;
        append_all(connection, "findings", &batch.findings, rows::finding)?;
        Ok(())
    }

    fn write_messages(&self) -> Result<(), StoreError> {
        let (connection, messages) = (&self.connection, &self.batch.messages);
        if messages.is_empty() || self.packer.knows_all_messages() {
            return Ok(append_all(connection, "messages", messages, rows::message)?);
        }
        connection.execute_batch("CREATE OR REPLACE TEMP TABLE staged AS FROM messages LIMIT 0")?;
        append_all(connection, "staged", messages, rows::message)?;
        connection.execute_batch(
            "INSERT INTO messages SELECT * FROM staged ANTI JOIN messages USING (key); DROP TABLE staged",
        )?;
        Ok(())
    }

    fn delete_old_turns(&self, turns: &[TurnRow]) -> Result<(), StoreError> {
        if turns.is_empty() {
            return Ok(());
        }
        let ids: Vec<String> = turns.iter().map(|row| format!("'{}'", row.summary.id)).collect();
        let query = format!("DELETE FROM turns WHERE id IN ({})", ids.join(","));
        Ok(self.connection.execute_batch(&query)?)
    }

    /// A checkpoint on a full disk can damage the file, so nothing is written when there is too little room.
    fn room_on_disk(&self) -> Result<(), StoreError> {
        let Some(path) = &self.path else { return Ok(()) };
        let Ok(disk) = nix::sys::statvfs::statvfs(path) else { return Ok(()) };
        let free = disk.blocks_available().saturating_mul(disk.fragment_size());
        if free >= self.free_bytes + 3 * self.weight() as u64 {
            return Ok(());
        }
        Err(StoreError::new(format!(
            "the disk of {} is full ({} MB left): make room, or choose another file with --db",
            path.display(),
            free >> 20
        )))
    }
}

fn turn_row(turn: &Turn, steps: Option<i64>, images: &HashMap<ProcId, Image>) -> TurnRow {
    let image = turn.process.and_then(|process| images.get(&process));
    let brief = turn.process.map(|process| ProcessBrief::of(process, image.map(|image| &*image.info)));
    TurnRow {
        summary: TurnSummary::of(turn, brief),
        cost: turn.cost,
        models: serde_json::to_string(&turn.models).unwrap_or_default(),
        started: turn.started_at,
        ended: turn.ended_at,
        times: [turn.time.model, turn.time.tool, turn.time.user, turn.time.idle],
        process: turn.process,
        image: image.map(|image| image.number),
        steps,
    }
}
