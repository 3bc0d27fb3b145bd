//! Capture files as a source: one or several, in time order, at full speed or at the speed of the capture.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::io::{IsTerminal, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::connection::FILE;
use super::filter::Filter;
use super::format::{Item, Reader, Record};
use super::glob;
use super::input::Progress;
use super::table::Table;
use super::tls::KeyLog;
use crate::capture::{Encrypted, Sink, Source, Status, StopFlag};
use crate::event::Nanos;

/// Events per batch.
const BATCH: usize = 512;
/// Packets between two looks at the stop flag.
const STOP_EVERY: u64 = 1024;

/// What to read, and how.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Capture files; `-` is standard input; `*`, `?` and `[...]` in a name stand for all that match.
    pub files: Vec<PathBuf>,
    /// A capture filter in libpcap's language; only packets that match are looked at.
    pub filter: Option<String>,
    /// A TLS key log (`SSLKEYLOGFILE`) for the captured connections.
    pub keylog: Option<PathBuf>,
    /// Seconds of capture per second: 1 is real time; `None` is as fast as possible.
    pub speed: Option<f64>,
    /// Whether to show how far it is on standard error (only when that is a terminal).
    pub progress: bool,
}

/// Capture files as a source.
pub struct FileSource {
    options: Options,
    readers: Vec<Reader>,
    filter: Option<Filter>,
    keys: KeyLog,
    progress: Arc<Progress>,
    board: Arc<Board>,
}

/// What others read while the source runs.
#[derive(Default)]
pub(super) struct Board {
    counters: Mutex<BTreeMap<&'static str, u64>>,
    warnings: Mutex<Vec<String>>,
    encrypted: Mutex<Vec<Encrypted>>,
}

impl Board {
    /// Replaces the counters.
    pub(super) fn publish(&self, counters: BTreeMap<&'static str, u64>) {
        *self.counters.lock().unwrap_or_else(PoisonError::into_inner) = counters;
    }

    /// Replaces the list of encrypted connections.
    pub(super) fn seal(&self, encrypted: Vec<Encrypted>) {
        *self.encrypted.lock().unwrap_or_else(PoisonError::into_inner) = encrypted;
    }

    /// Says something that a person should know.
    pub(super) fn warn(&self, warning: String) {
        tracing::warn!("{warning}");
        self.warnings.lock().unwrap_or_else(PoisonError::into_inner).push(warning);
    }
}

impl Status for Board {
    fn counters(&self) -> BTreeMap<&'static str, u64> {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn encrypted(&self) -> Vec<Encrypted> {
        self.encrypted.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn warnings(&self) -> Vec<String> {
        self.warnings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl FileSource {
    /// Opens the files and reads their heads: whatever is no capture, or a filter that does not compile, is an error here.
    pub fn open(options: Options) -> Result<FileSource> {
        if let Some(speed) = options.speed
            && !(speed.is_finite() && speed > 0.0)
        {
            bail!("the speed must be a number above 0, not {speed}");
        }
        let filter = options.filter.as_deref().map(Filter::new).transpose()?;
        let keys = key_log(options.keylog.as_deref())?;
        let progress = Arc::new(Progress::default());
        let paths = expand(&options.files)?;
        let readers = paths.iter().map(|path| Reader::open(path, progress.clone())).collect::<Result<Vec<_>>>()?;
        Ok(FileSource { options, readers, filter, keys, progress, board: Arc::default() })
    }
}

impl Source for FileSource {
    fn name(&self) -> &'static str {
        "pcap"
    }

    fn status(&self) -> Arc<dyn Status> {
        self.board.clone()
    }

    fn run(self: Box<Self>, out: &mut Sink<'_>, stop: &StopFlag) -> Result<()> {
        let FileSource { options, readers, mut filter, keys, progress, board } = *self;
        let mut table = Table::new(readers.iter().all(Reader::is_mapped), FILE, keys);
        let mut merge = Merge::new(readers);
        let mut pace = options.speed.map(Pace::new);
        let mut bar = options.progress.then(|| Bar::new(progress)).flatten();
        let mut batch = Vec::with_capacity(BATCH);
        let mut flow = ControlFlow::Continue(());
        while let Some(item) = merge.next() {
            let record = match item {
                Item::Packet(record) => record,
                Item::KeyLog(text) => {
                    table.keys.learn(&text);
                    continue;
                }
            };
            if filter.as_mut().is_some_and(|filter| !filter.matches(record.link, &record.data)) {
                continue;
            }
            if let Some(pace) = &mut pace {
                if !batch.is_empty() && pace.must_wait(record.at) {
                    flow = out(std::mem::replace(&mut batch, Vec::with_capacity(BATCH)));
                }
                pace.wait(record.at, stop);
            }
            table.push(&record, &mut batch);
            if batch.len() >= BATCH && flow.is_continue() {
                flow = out(std::mem::replace(&mut batch, Vec::with_capacity(BATCH)));
            }
            if table.frames.packets.is_multiple_of(STOP_EVERY) {
                board.publish(counters(&table, &merge));
                bar.iter_mut().for_each(Bar::show);
            }
            if flow.is_break() || (table.frames.packets.is_multiple_of(STOP_EVERY) && stop.is_stopped()) {
                break;
            }
        }
        table.finish(&mut batch);
        drop(bar);
        board.publish(counters(&table, &merge));
        board.seal(table.encrypted());
        merge.warnings().for_each(|warning| board.warn(warning));
        if flow.is_continue() && !batch.is_empty() {
            // The source ends here whether or not the taker is still there.
            let _ = out(batch);
        }
        Ok(())
    }
}

/// Opens the key log that was named.
pub(super) fn key_log(path: Option<&Path>) -> Result<KeyLog> {
    let Some(path) = path else { return Ok(KeyLog::default()) };
    KeyLog::open(path).with_context(|| format!("cannot read the key log {}", path.display()))
}

/// Everything that a table and its readers counted, by name.
fn counters(table: &Table, merge: &Merge) -> BTreeMap<&'static str, u64> {
    let mut counters = table.counters();
    counters.insert("capture_drops", merge.drops());
    counters.insert("file_cut", merge.warnings().count() as u64);
    counters
}

/// Several captures, in time order.
struct Merge {
    readers: Vec<Reader>,
    /// The next packet of each reader but for a single one, which needs no comparison.
    heads: Vec<Option<Record>>,
    order: BinaryHeap<Reverse<(Nanos, usize)>>,
    pending: Vec<Item>,
    primed: bool,
}

impl Merge {
    fn new(readers: Vec<Reader>) -> Merge {
        let heads = readers.iter().map(|_| None).collect();
        Merge { readers, heads, order: BinaryHeap::new(), pending: Vec::new(), primed: false }
    }

    fn next(&mut self) -> Option<Item> {
        if let [reader] = self.readers.as_mut_slice() {
            return reader.next();
        }
        if !self.primed {
            self.primed = true;
            (0..self.readers.len()).for_each(|index| self.pull(index));
        }
        if let Some(item) = self.pending.pop() {
            return Some(item);
        }
        let Reverse((_, index)) = self.order.pop()?;
        let record = self.heads.get_mut(index)?.take()?;
        self.pull(index);
        Some(Item::Packet(record))
    }

    fn pull(&mut self, index: usize) {
        let (Some(reader), Some(head)) = (self.readers.get_mut(index), self.heads.get_mut(index)) else { return };
        while let Some(item) = reader.next() {
            match item {
                Item::Packet(record) => {
                    self.order.push(Reverse((record.at, index)));
                    *head = Some(record);
                    return;
                }
                // Keys are wanted before the packets they open.
                other => self.pending.push(other),
            }
        }
    }

    fn drops(&self) -> u64 {
        self.readers.iter().map(Reader::drops).sum()
    }

    fn warnings(&self) -> impl Iterator<Item = String> {
        self.readers.iter().filter_map(|reader| reader.warning().map(str::to_owned))
    }
}

/// Replaces patterns by the files that match, in the order of their names.
fn expand(files: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for file in files {
        let name = file.to_string_lossy();
        if !name.contains(['*', '?', '[']) || file.exists() {
            paths.push(file.clone());
            continue;
        }
        let matches = glob::paths(&name).with_context(|| format!("cannot look for {name}"))?;
        if matches.is_empty() {
            bail!("no file matches {name}");
        }
        paths.extend(matches);
    }
    if paths.is_empty() {
        bail!("no capture file was named");
    }
    Ok(paths)
}

/// Holds packets back until their time has come.
struct Pace {
    speed: f64,
    begun: Option<(Instant, Nanos)>,
}

impl Pace {
    fn new(speed: f64) -> Pace {
        Pace { speed, begun: None }
    }

    fn due(&mut self, at: Nanos) -> Instant {
        let (start, first) = *self.begun.get_or_insert((Instant::now(), at));
        let secs = at.since(first).0 as f64 / 1e9 / self.speed;
        // A time beyond what the clock can say is a damaged time stamp: it is due at once.
        Duration::try_from_secs_f64(secs).ok().and_then(|wait| start.checked_add(wait)).unwrap_or(start)
    }

    fn must_wait(&mut self, at: Nanos) -> bool {
        self.due(at) > Instant::now()
    }

    fn wait(&mut self, at: Nanos, stop: &StopFlag) {
        let due = self.due(at);
        loop {
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() || stop.is_stopped() {
                return;
            }
            std::thread::sleep(left.min(Duration::from_millis(20)));
        }
    }
}

/// How far it is, on one line of the terminal.
struct Bar {
    progress: Arc<Progress>,
    begun: Instant,
    shown: Instant,
}

impl Bar {
    /// `None` when standard error is no terminal.
    fn new(progress: Arc<Progress>) -> Option<Bar> {
        let now = Instant::now();
        std::io::stderr().is_terminal().then(|| Bar { progress, begun: now, shown: now })
    }

    fn show(&mut self) {
        if self.shown.elapsed() < Duration::from_millis(200) {
            return;
        }
        self.shown = Instant::now();
        let read = self.progress.read_bytes.load(Ordering::Relaxed);
        let total = self.progress.total_bytes.load(Ordering::Relaxed);
        // A terminal that went away is no reason to stop.
        let _ = write!(std::io::stderr(), "\r\x1b[K{}", line(read, total, self.begun.elapsed()));
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        let _ = write!(std::io::stderr(), "\r\x1b[K");
    }
}

fn line(read: u64, total: u64, elapsed: Duration) -> String {
    let rate = read as f64 / elapsed.as_secs_f64().max(1e-3);
    let done = format!("{:.0} MB at {:.0} MB/s", read as f64 / 1e6, rate / 1e6);
    if total == 0 {
        return done;
    }
    let share = (read as f64 / total as f64).min(1.0);
    let filled = (share * 30.0) as usize;
    let left = total.saturating_sub(read) as f64 / rate.max(1.0);
    format!("[{}{}] {:3.0}%  {done}, {left:.0} s left", "#".repeat(filled), "-".repeat(30 - filled), share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_progress_line_has_rate_and_time_left() {
        let text = line(500_000_000, 1_000_000_000, Duration::from_secs(1));
        assert_eq!(text, "[###############---------------]  50%  500 MB at 500 MB/s, 1 s left");
        assert_eq!(line(2_000_000, 0, Duration::from_secs(1)), "2 MB at 2 MB/s");
    }
}
