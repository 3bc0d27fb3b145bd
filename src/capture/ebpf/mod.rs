//! The eBPF source: plaintext at the TLS boundary of watched processes, and what happens to those processes.
//!
//! One thread reads the rings (this file), one sets the hooks ([`attach`]). The kernel side (`bpf/`) filters: only LLM
//! requests and their answers, HTTP/2 connections and what user space asked for reach the ring. This room must not know
//! HTTP, wire APIs or the store; the path rules come with the [`Config`].
//!
//! Surprising fact: nothing is pinned in the kernel, so killing heron in any way takes every hook with it.

pub mod abi;
mod aead;
pub mod attach;
mod detach;
pub mod dynamic;
pub mod facts;
pub mod image;
pub mod link;
mod load;
pub mod needs;
mod reader;
#[allow(missing_docs, unsafe_code, dead_code, non_camel_case_types, non_snake_case, clippy::all, clippy::pedantic)]
#[allow(clippy::unwrap_used, unreachable_pub, rustdoc::all)]
pub(crate) mod skel {
    //! Generated from the BPF object.
    include!(concat!(env!("OUT_DIR"), "/heron.skel.rs"));
}
pub mod streams;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use crate::event::ProcessInfo;

use super::{NoCall, Sink, Source, Status, StopFlag, Target, TargetState};
use attach::{Board, SharedBoard, board};

/// Verdicts on their way to the kernel; more are dropped, and their bytes go on to be copied.
const VERDICTS: usize = 4096;

/// A process to watch from the start.
#[derive(Clone, Debug, Default)]
pub struct Root {
    /// The process.
    pub pid: u32,
    /// It is held and will exec these programs, one after the other: hooked ahead. Empty for a running process, which is
    /// hooked as it is.
    pub programs: Vec<PathBuf>,
}

/// What is told when the source is ready: hooks are set, the roots are watched.
pub type OnReady = Box<dyn FnOnce() + Send>;

/// Decides whether a process that was just started is to be watched (host mode).
pub type Chooser = Box<dyn Fn(u32, &ProcessInfo) -> bool + Send>;

/// How the source works.
pub struct Config {
    /// Watched from the start, with all that they start.
    pub roots: Vec<Root>,
    /// Tails of the paths that are LLM traffic.
    pub path_rules: Vec<String>,
    /// Whether what is no LLM traffic is left out in the kernel.
    pub filter: bool,
    /// Size of the data ring in bytes: a power of two, and a multiple of the page size.
    pub ring_bytes: u32,
    /// Hold a new image until it is hooked.
    pub strict: bool,
    /// Host mode: who is watched beside the roots and their descendants, asked for every program that is started.
    pub choose: Option<Chooser>,
    /// How to work, in place of what the kernel's facts suggest (tests of the ways for older kernels).
    pub decisions: Option<facts::Decisions>,
    /// Called once, on the capture thread.
    pub on_ready: Option<OnReady>,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            roots: Vec::new(),
            path_rules: Vec::new(),
            filter: true,
            ring_bytes: 16 << 20,
            strict: false,
            choose: None,
            decisions: None,
            on_ready: None,
        }
    }
}

/// The source.
pub struct EbpfSource {
    config: Config,
    shared: Arc<Shared>,
    told: SyncSender<NoCall>,
    verdicts: Receiver<NoCall>,
}

/// What other threads may read.
#[derive(Default)]
struct Shared {
    counters: Mutex<BTreeMap<&'static str, u64>>,
    hits: Mutex<Vec<u64>>,
    board: SharedBoard,
}

impl EbpfSource {
    /// A source that is not yet loaded.
    pub fn new(config: Config) -> EbpfSource {
        let (told, verdicts) = sync_channel(VERDICTS);
        EbpfSource { config, shared: Arc::new(Shared::default()), told, verdicts }
    }
}

/// Loads the programs and takes them away again: whether this kernel accepts them.
pub fn probe(config: &Config) -> anyhow::Result<()> {
    let facts = facts::Facts::gather();
    let mut place = std::mem::MaybeUninit::uninit();
    load::load(config, &facts, &mut place).map(|_| ())
}

impl Source for EbpfSource {
    fn name(&self) -> &'static str {
        "ebpf"
    }

    fn status(&self) -> Arc<dyn Status> {
        Arc::clone(&self.shared) as Arc<dyn Status>
    }

    fn verdicts(&self) -> Option<SyncSender<NoCall>> {
        self.config.filter.then(|| self.told.clone())
    }

    fn run(self: Box<Self>, out: &mut Sink<'_>, stop: &StopFlag) -> anyhow::Result<()> {
        reader::run(self.config, &self.shared, &self.verdicts, out, stop)
    }
}

impl Status for Shared {
    fn counters(&self) -> BTreeMap<&'static str, u64> {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn targets(&self) -> Vec<Target> {
        let hits = self.hits.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let board: std::sync::MutexGuard<'_, Board> = board(&self.board);
        board.rows.iter().map(|row| target(row, &hits)).collect()
    }
}

fn target(row: &attach::Row, hits: &[u64]) -> Target {
    let sites = row.sites.clone().filter_map(|site| hits.get(usize::try_from(site).ok()?));
    let hits: u64 = sites.sum();
    let state = match &row.refused {
        Some(_) => TargetState::Refused,
        None if row.users == 0 => TargetState::Gone,
        None if hits == 0 => TargetState::AttachedNeverFired,
        None => TargetState::Firing,
    };
    Target {
        pid: row.pid,
        path: row.image.path.to_string_lossy().into_owned(),
        library: row.image.library.clone(),
        found_by: row.image.found_by.clone(),
        state,
        reason: row.refused.clone().unwrap_or_else(|| row.image.reason.clone()),
        hits,
        processes: row.users,
    }
}
