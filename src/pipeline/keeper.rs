//! The store's outlet: hands items to the writer's thread.
//!
//! The queue is bounded: when the disk is slower than the traffic, the pipeline waits here, and loss is counted in the kernel's
//! ring. The writer flushes when a queue has been quiet for a moment, so that the console's older pages are fresh.
//! It also removes what is older or more than is to be kept: here, because there is one writer, and by the machine's clock,
//! because nothing need happen for things to grow old.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, anyhow};

use super::outlet::{Fact, Outlet};
use crate::event::Nanos;
use crate::store::{Item, Keep, Writer, WriterStatus};

/// Batches of items under way to the writer.
const QUEUE: usize = 64;
/// Items are flushed when nothing came for this long.
const QUIET: Duration = Duration::from_millis(500);

/// What is kept, and how often the rest is removed: at the start, and then in this interval.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Retention {
    /// What is kept.
    pub keep: Keep,
    /// From one removal to the next.
    pub every: Duration,
}

/// Feeds the writer.
pub struct Keeper {
    items: Vec<Item>,
    writer: Option<SyncSender<Vec<Item>>>,
}

/// The writer's thread.
pub struct KeeperThread {
    thread: JoinHandle<Result<()>>,
    status: Arc<WriterStatus>,
}

/// Starts the writer's thread. Without a retention everything is kept.
pub fn keep(writer: Writer, retention: Option<Retention>) -> Result<(KeeperThread, Keeper)> {
    let status = writer.status();
    let (sender, items) = sync_channel(QUEUE);
    let thread = super::spawn("store", move || write(writer, &items, retention))?;
    Ok((KeeperThread { thread, status }, Keeper { items: Vec::new(), writer: Some(sender) }))
}

impl KeeperThread {
    /// What the writer has done so far.
    pub fn status(&self) -> Arc<WriterStatus> {
        self.status.clone()
    }

    /// Waits until everything is written. An error says what could not be.
    pub fn finish(self) -> Result<()> {
        self.thread.join().unwrap_or_else(|_| Err(anyhow!("the store's writer panicked")))
    }
}

fn write(mut writer: Writer, items: &Receiver<Vec<Item>>, retention: Option<Retention>) -> Result<()> {
    let mut dirty = false;
    let mut removed_at: Option<Instant> = None;
    loop {
        if let Some(Retention { keep, every }) = retention
            && removed_at.is_none_or(|at| at.elapsed() >= every)
        {
            remove_old(&mut writer, &keep);
            removed_at = Some(Instant::now());
        }
        match items.recv_timeout(QUIET) {
            Ok(batch) => {
                batch.into_iter().for_each(|item| say(writer.push(item)));
                dirty = true;
            }
            Err(RecvTimeoutError::Timeout) if dirty => {
                say(writer.flush());
                dirty = false;
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    writer.close().context("the database is not complete")
}

/// A removal that fails is said, and tried again when the next one is due.
fn remove_old(writer: &mut Writer, keep: &Keep) {
    let Ok(now) = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) else { return };
    match writer.prune(keep, Nanos(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX))) {
        Ok(pruned) if pruned.calls > 0 => {
            tracing::info!(calls = pruned.calls, turns = pruned.turns, "removed what is not to be kept any longer");
        }
        Ok(_) => {}
        Err(error) => tracing::error!("old calls could not be removed: {error}"),
    }
}

/// A trouble is said when it begins; the writer keeps the batch and tries again.
fn say(result: Result<(), crate::store::StoreError>) {
    if let Err(error) = result {
        tracing::error!("{error}");
    }
}

impl Outlet for Keeper {
    fn take(&mut self, fact: &Fact<'_>) {
        match fact {
            Fact::Process(event) => self.items.push(Item::Process((*event).clone())),
            Fact::Call { call, place, done: true, .. } => {
                self.items.push(Item::Call(call.clone()));
                self.items.extend(place.map(Item::Placement));
            }
            Fact::Call { .. } => {}
            Fact::Dropped(_) | Fact::Encrypted(_) => {}
            Fact::Placed(place) => self.items.push(Item::Placement(*place)),
            Fact::Turn { turn, .. } => self.items.push(Item::Turn(turn.clone())),
            Fact::Finding(finding) => self.items.push(Item::Finding(finding.clone())),
        }
    }

    fn batch_end(&mut self) {
        if self.items.is_empty() {
            return;
        }
        let items = std::mem::take(&mut self.items);
        // The writer's thread ends early only by a panic, which `finish` reports.
        if let Some(writer) = &self.writer
            && writer.send(items).is_err()
        {
            self.writer = None;
        }
    }

    fn finish(&mut self) {
        self.batch_end();
        self.writer = None;
    }
}
