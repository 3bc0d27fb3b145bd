//! What every capturing verb does with a source: pipeline, store, live hub and console put together from common options.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::api;
use crate::capture::tape::Recorder;
use crate::capture::{Source, StopFlag};
use crate::config::Config;
use crate::pipeline::{self, Counts, JsonLines, KeeperThread, Live, Outlet, Retention, Summary};
use crate::price::{Prices, Rule};
use crate::store::{self, Location, Store, WriterStatus};

/// How often a wait looks whether the source is still there.
const LOOK: Duration = Duration::from_millis(50);

/// Options that every capturing verb has.
#[derive(Args, Clone, Default)]
pub struct ObserveOptions {
    /// Where the JSON lines go; each verb has its own form of the option.
    #[arg(skip)]
    pub json: Option<PathBuf>,
    /// What is removed from the database; the service's configuration says it, the other verbs keep everything.
    #[arg(skip)]
    pub retention: Option<Retention>,
    /// Record the events to FILE, for `heron replay FILE`
    #[arg(long, value_name = "FILE")]
    pub tape: Option<PathBuf>,
    /// The database (default: heron.duckdb in the user's data directory)
    #[arg(long, value_name = "FILE")]
    pub db: Option<PathBuf>,
    /// Keep everything in memory, nothing on disk
    #[arg(long, conflicts_with = "db")]
    pub no_retention: bool,
    /// The console's port on 127.0.0.1
    #[arg(long, value_name = "PORT", default_value_t = 3000)]
    pub port: u16,
    /// Do not serve the console
    #[arg(long)]
    pub no_console: bool,
    /// Decode workers (default: one per two processors, at most 4)
    #[arg(long, value_name = "N")]
    pub workers: Option<usize>,
    /// Prices of your own: a TOML file of `[[price]]` tables, as in heron.toml
    #[arg(long, value_name = "FILE")]
    pub prices: Option<PathBuf>,
    /// The same, read already.
    #[arg(skip)]
    pub price_rules: Vec<Rule>,
}

impl ObserveOptions {
    fn prices(&self) -> Result<Prices> {
        let rules = match &self.prices {
            Some(path) => Config::read(path)?.price,
            None => self.price_rules.clone(),
        };
        Ok(Prices::embedded().with_rules(&rules))
    }
}

/// A source under observation.
pub struct Observation {
    running: pipeline::Running,
    console: Option<api::Handle>,
    store: Option<KeeperThread>,
    place: String,
    url: Option<String>,
}

/// Where results are kept, in words, for the summary.
fn place_of(location: &Location) -> String {
    match location {
        Location::Memory => "in memory".to_owned(),
        Location::File(path) => path.display().to_string(),
    }
}

impl Observation {
    /// Binds the console, opens the store and starts the pipeline: everything that can fail fails here, before a source
    /// begins.
    pub fn start(source: Box<dyn Source>, options: &ObserveOptions, stop: StopFlag) -> Result<Observation> {
        raise_open_files();
        let listener = if options.no_console { None } else { Some(api::bind(options.port)?) };
        let tape = options.tape.as_deref().map(Recorder::create).transpose()?;
        let mut outlets: Vec<Box<dyn Outlet>> = Vec::new();
        if let Some(path) = &options.json {
            outlets.push(json_outlet(path)?);
        }
        let wants_store =
            listener.is_some() || options.db.is_some() || (options.json.is_none() && !options.no_retention);
        let (mut store, mut place, mut reader) = (None, "nowhere".to_owned(), None);
        if wants_store {
            let (opened, location) = open_store(options)?;
            place = place_of(&location);
            reader = Some(opened.reader());
            let (thread, keeper) = pipeline::keep(opened.into_writer()?, options.retention)?;
            outlets.push(Box::new(keeper));
            store = Some(thread);
        }
        let hub = Arc::new(api::Hub::new());
        if listener.is_some() {
            outlets.push(Box::new(Live(hub.clone())));
        }
        let workers = options.workers.unwrap_or_else(default_workers);
        let running =
            pipeline::start(source, pipeline::Options { workers, tape, outlets, prices: options.prices()? }, stop)?;
        let (mut console, mut url) = (None, None);
        if let (Some(listener), Some(reader)) = (listener, reader) {
            url = Some(format!("http://{}", listener.local_addr()?).replace("127.0.0.1", "localhost"));
            let health = health(running.counters(), store.as_ref().map(KeeperThread::status), place.clone());
            console = Some(api::serve(api::Config { listener, reader, hub, health })?);
        }
        Ok(Observation { running, console, store, place, url })
    }

    /// Where the console is, when there is one.
    pub fn url(&self) -> Option<&str> {
        self.url.as_deref()
    }

    /// Every counter of every stage.
    pub fn counters(&self) -> Counts {
        self.running.counters()
    }

    /// Asks the source to stop.
    pub fn stop(&self) {
        self.running.stop();
    }

    /// True when the source has ended and everything is decoded.
    pub fn is_finished(&self) -> bool {
        self.running.is_finished()
    }

    /// Whether the source began, once `ready` or its end says so; when it did not, its error is what [`Observation::wait`]
    /// gives.
    pub fn wait_until_ready(&self, ready: &Receiver<()>) -> bool {
        loop {
            match ready.recv_timeout(LOOK) {
                Ok(()) => return true,
                Err(RecvTimeoutError::Timeout) if !self.is_finished() => {}
                Err(_) => return false,
            }
        }
    }

    /// Waits until the source has ended and everything is stored. The console (when there is one) goes on with what was
    /// captured until the returned [`Ended`] is dropped.
    pub fn wait(self) -> Result<Ended> {
        let summary = self.running.wait();
        let stored = self.store.map_or(Ok(()), KeeperThread::finish);
        let summary = summary?;
        stored.with_context(|| format!("not everything could be stored in {}", self.place))?;
        Ok(Ended { summary, place: self.place, url: self.url, console: self.console })
    }
}

/// A run that is over.
pub struct Ended {
    /// What it came to.
    pub summary: Summary,
    /// Where it is stored, in words.
    pub place: String,
    /// Where the console is, while it is kept.
    pub url: Option<String>,
    /// The console's threads; dropping it stops them.
    pub console: Option<api::Handle>,
}

impl Ended {
    /// Prints the summary to standard error.
    pub fn print(&self) {
        eprintln!("heron: {}", self.summary);
        if self.place != "nowhere" && self.place != "in memory" {
            eprintln!("heron: stored in {}", self.place);
        }
    }
}

/// Hooks of many processes are many descriptors, and the usual soft limit is made for programs that use `select`. A command
/// that heron runs was started before, and keeps its own.
fn raise_open_files() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let raised =
        getrlimit(Resource::RLIMIT_NOFILE).and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::debug!(%error, "the limit of open files stays");
    }
}

fn default_workers() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get().div_ceil(2).min(4))
}

fn json_outlet(path: &Path) -> Result<Box<dyn Outlet>> {
    if path == Path::new("-") {
        return Ok(Box::new(JsonLines::new(std::io::stdout())));
    }
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(Box::new(JsonLines::new(file)))
}

/// The database's default place: in the data directory of the user who called (under sudo, that user's).
pub(super) fn default_db() -> Result<PathBuf> {
    if let Some(dir) = std::env::var_os("HERON_DATA_DIR") {
        return Ok(PathBuf::from(dir).join("heron.duckdb"));
    }
    let calling = std::env::var("SUDO_USER").ok().and_then(|name| nix::unistd::User::from_name(&name).ok().flatten());
    if let Some(user) = calling.filter(|user| !user.uid.is_root()) {
        return Ok(user.dir.join(".local/share/heron/heron.duckdb"));
    }
    if let Some(dir) = std::env::var_os("XDG_DATA_HOME").filter(|dir| !dir.is_empty()) {
        return Ok(PathBuf::from(dir).join("heron/heron.duckdb"));
    }
    match std::env::var_os("HOME").filter(|home| !home.is_empty()) {
        Some(home) => Ok(PathBuf::from(home).join(".local/share/heron/heron.duckdb")),
        None if nix::unistd::Uid::effective().is_root() => Ok(PathBuf::from("/var/lib/heron/heron.duckdb")),
        None => bail!("neither HOME nor XDG_DATA_HOME is set; say where to store with --db FILE"),
    }
}

/// Opens the database that the options name. When the default one is in use by another heron, this run gets a file of
/// its own beside it.
fn open_store(options: &ObserveOptions) -> Result<(Store, Location)> {
    if options.no_retention {
        return Ok((Store::open(Location::Memory)?, Location::Memory));
    }
    if let Some(path) = &options.db {
        return Ok((open_file(path)?, Location::File(path.clone())));
    }
    let path = default_db()?;
    match open_file(&path) {
        Ok(store) => Ok((store, Location::File(path))),
        Err(store::OpenError::Locked { .. }) => {
            let own = path.with_file_name(format!("heron-{}.duckdb", std::process::id()));
            eprintln!("heron: {} is in use by another heron; this run is stored in {}", path.display(), own.display());
            Ok((open_file(&own)?, Location::File(own)))
        }
        Err(error) => Err(error.into()),
    }
}

/// Opens a database file; a damaged one is noticed in a child process, which it may abort.
pub(super) fn open_file(path: &Path) -> Result<Store, store::OpenError> {
    let checker = std::env::current_exe().ok();
    let store = Store::open_with(&store::Options { checker, ..store::Options::new(Location::File(path.to_owned())) })?;
    if let Some(sentence) = store.recovered() {
        eprintln!("heron: {sentence}");
    }
    Ok(store)
}

/// What `/api/health` answers (docs/api.md).
fn health(counts: Counts, store: Option<Arc<WriterStatus>>, place: String) -> api::Health {
    let started = Instant::now();
    Arc::new(move || {
        let mut stages = counts.read();
        stages.extend(store.as_ref().map(|status| ("store", status.counters())));
        let source = stages.get("kernel").or_else(|| stages.get("capture")).cloned().unwrap_or_default();
        let count = |name: &str| source.get(name).copied().unwrap_or(0);
        let losses: serde_json::Map<String, serde_json::Value> = source
            .iter()
            .filter(|(name, _)| pipeline::is_loss(name))
            .map(|(name, n)| ((*name).to_owned(), (*n).into()))
            .collect();
        let store_error = store.as_ref().and_then(|status| status.trouble());
        let degraded = store_error.is_some() || losses.values().any(|n| n.as_u64() != Some(0));
        serde_json::json!({
            "status": if degraded { "degraded" } else { "ok" },
            "version": env!("CARGO_PKG_VERSION"),
            "source": counts.source_name(),
            "uptime_ms": started.elapsed().as_millis() as u64,
            "database": place,
            "store_error": store_error,
            "counters": stages,
            "losses": losses,
            "seen_bytes": count("seen_bytes"),
            "passed_bytes": count("passed_bytes"),
            "filtered_bytes": count("filtered_bytes"),
            "targets": counts.targets(),
            "encrypted": counts.encrypted(),
            "warnings": counts.warnings(),
        })
    })
}
