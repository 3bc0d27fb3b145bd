//! The tape: events recorded to a file and played back. The eBPF path becomes a fixture this way.
//!
//! Format: the line `heron-tape 1\n`, then one zstd stream of records. A record is a length (u32, little endian) and that many
//! bytes: a batch of events in postcard's encoding. Batches are kept as the source made them, and the stream is flushed after each, so that a
//! tape whose writer was killed is good up to its last batch. A tape holds plaintext of the traffic, credentials
//! included: it is written with mode 0600.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::ops::ControlFlow;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, bail};

use crate::capture::{Sink, Source, Status, StopFlag};
use crate::event::Event;

const MAGIC: &[u8] = b"heron-tape 1\n";
/// No batch of a sane source is larger; a larger length means a damaged tape.
const MAX_RECORD: usize = 1 << 30;

/// True when the file begins as a tape does.
pub fn is_tape(head: &[u8]) -> bool {
    head.starts_with(MAGIC)
}

/// Writes events to a tape.
pub struct Recorder {
    path: PathBuf,
    out: zstd::Encoder<'static, BufWriter<File>>,
}

impl Recorder {
    /// Makes the file (mode 0600), replacing an older one.
    pub fn create(path: &Path) -> Result<Recorder> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)
            .with_context(|| format!("cannot write the tape {}", path.display()))?;
        let mut out = BufWriter::new(file);
        out.write_all(MAGIC)?;
        let out = zstd::Encoder::new(out, 3)?;
        Ok(Recorder { path: path.to_owned(), out })
    }

    /// Appends a batch. After an error (a full disk) the tape is good up to the batch before.
    pub fn record(&mut self, batch: &[Event]) -> Result<()> {
        let write = || -> io::Result<Vec<u8>> { postcard::to_stdvec(batch).map_err(io::Error::other) };
        let bytes = write().with_context(|| format!("cannot encode a batch for the tape {}", self.path.display()))?;
        let len = u32::try_from(bytes.len()).context("a batch is too large for a tape")?;
        self.append(len, &bytes).with_context(|| format!("cannot write the tape {}", self.path.display()))
    }

    fn append(&mut self, len: u32, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(&len.to_le_bytes())?;
        self.out.write_all(bytes)?;
        self.out.flush()
    }

    /// Ends the stream.
    pub fn finish(self) -> Result<()> {
        let path = self.path;
        let finish = || -> io::Result<()> { self.out.finish()?.flush() };
        finish().with_context(|| format!("cannot finish the tape {}", path.display()))
    }
}

#[derive(Default)]
struct Counts {
    batches: AtomicU64,
    events: AtomicU64,
    cut: AtomicU64,
}

impl Status for Counts {
    fn counters(&self) -> BTreeMap<&'static str, u64> {
        BTreeMap::from([
            ("batches", self.batches.load(Ordering::Relaxed)),
            ("events", self.events.load(Ordering::Relaxed)),
            ("tape_cut", self.cut.load(Ordering::Relaxed)),
        ])
    }
}

/// Plays a tape.
pub struct Tape {
    path: PathBuf,
    input: Box<dyn Read + Send>,
    counts: Arc<Counts>,
}

impl Tape {
    /// Opens a tape; an error says when the file is not one.
    pub fn open(path: &Path) -> Result<Tape> {
        let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        Tape::from_reader(path, Box::new(BufReader::new(file)))
    }

    fn from_reader(path: &Path, mut input: Box<dyn Read + Send>) -> Result<Tape> {
        let mut magic = [0; MAGIC.len()];
        if input.read_exact(&mut magic).is_err() || magic != MAGIC {
            bail!("{} is not a heron tape (or one of another version)", path.display());
        }
        let input = Box::new(zstd::Decoder::new(input).context("cannot start reading the tape")?);
        Ok(Tape { path: path.to_owned(), input, counts: Arc::default() })
    }

    /// The next batch; `None` at the end, or where the tape was cut.
    fn next_batch(&mut self) -> Option<Vec<Event>> {
        let mut len = [0; 4];
        match self.input.read(&mut len[..1]) {
            Ok(0) => return None,
            Ok(_) => {}
            Err(error) => return self.cut(&error),
        }
        if let Err(error) = self.input.read_exact(&mut len[1..]) {
            return self.cut(&error);
        }
        let len = u32::from_le_bytes(len) as usize;
        if len > MAX_RECORD {
            return self.cut(&"a record's length is not plausible");
        }
        let mut bytes = Vec::new();
        match self.input.by_ref().take(len as u64).read_to_end(&mut bytes) {
            Ok(read) if read == len => {}
            Ok(_) => return self.cut(&"a record is incomplete"),
            Err(error) => return self.cut(&error),
        }
        match postcard::from_bytes(&bytes) {
            Ok(batch) => Some(batch),
            Err(error) => self.cut(&error),
        }
    }

    fn cut(&self, why: &dyn std::fmt::Display) -> Option<Vec<Event>> {
        self.counts.cut.store(1, Ordering::Relaxed);
        tracing::warn!("the tape {} ends early ({why}); everything before was read", self.path.display());
        None
    }
}

impl Source for Tape {
    fn name(&self) -> &'static str {
        "tape"
    }

    fn status(&self) -> Arc<dyn Status> {
        self.counts.clone()
    }

    fn run(mut self: Box<Self>, out: &mut Sink<'_>, stop: &StopFlag) -> Result<()> {
        while !stop.is_stopped() {
            let Some(batch) = self.next_batch() else { break };
            self.counts.batches.fetch_add(1, Ordering::Relaxed);
            self.counts.events.fetch_add(batch.len() as u64, Ordering::Relaxed);
            if !batch.is_empty() && out(batch) == ControlFlow::Break(()) {
                break;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{ConnId, Data, Direction, Nanos};
    use bytes::Bytes;

    fn batch(n: u64) -> Vec<Event> {
        let bytes = Bytes::from(vec![n as u8; 100]);
        let data = Data { conn: ConnId(n), at: Nanos(n), direction: Direction::Sent, offset: n, bytes };
        vec![Event::Data(data), Event::Tick(Nanos(n + 1))]
    }

    fn play(path: &Path) -> (Vec<Vec<Event>>, u64) {
        let tape = Tape::open(path).unwrap();
        let status = tape.status();
        let mut batches = Vec::new();
        let mut take = |batch| {
            batches.push(batch);
            ControlFlow::Continue(())
        };
        Box::new(tape).run(&mut take, &StopFlag::new()).unwrap();
        (batches, status.counters()["tape_cut"])
    }

    fn recorded(path: &Path, finish: bool) -> Vec<Vec<Event>> {
        let mut recorder = Recorder::create(path).unwrap();
        let batches: Vec<_> = (1..5).map(batch).collect();
        batches.iter().for_each(|batch| recorder.record(batch).unwrap());
        if finish {
            recorder.finish().unwrap();
        }
        batches
    }

    #[test]
    fn a_tape_plays_back_what_was_recorded_batch_by_batch() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.tape");
        let batches = recorded(&path, true);
        assert_eq!(play(&path), (batches, 0));
    }

    #[test]
    fn a_tape_cut_at_any_byte_is_good_up_to_its_last_whole_batch() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.tape");
        let batches = recorded(&path, true);
        let whole = std::fs::read(&path).unwrap();
        let cut_path = dir.path().join("cut.tape");
        let mut counts = Vec::new();
        for end in MAGIC.len()..whole.len() {
            std::fs::write(&cut_path, &whole[..end]).unwrap();
            let (got, _) = play(&cut_path);
            assert_eq!(got, batches[..got.len()], "cut at {end}");
            counts.push(got.len());
        }
        assert!(counts.is_sorted());
        assert_eq!(counts.last(), Some(&4), "only the stream's end mark is missing at the last cut");
    }

    #[test]
    fn another_file_is_refused_with_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("not.tape");
        std::fs::write(&path, b"GET / HTTP/1.1\r\n\r\n").unwrap();
        let error = Tape::open(&path).err().unwrap().to_string();
        assert!(error.contains("not.tape") && error.contains("not a heron tape"), "{error}");
    }
}
