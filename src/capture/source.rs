//! What every source is: the trait, its readable side, and how it is asked to stop.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;

use serde::{Deserialize, Serialize};

use crate::event::{ConnId, Event, Nanos};

/// Asks a source to stop. Cheap to clone; sources look at it at least every 20 ms.
#[derive(Clone, Debug, Default)]
pub struct StopFlag(Arc<AtomicBool>);

impl StopFlag {
    /// A flag that is not yet raised.
    pub fn new() -> StopFlag {
        StopFlag::default()
    }

    /// Asks everybody who holds a clone to stop.
    pub fn stop(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether somebody asked.
    pub fn is_stopped(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Takes a batch of events; `Break` when the taker is gone, after which the source returns.
pub type Sink<'a> = dyn FnMut(Vec<Event>) -> ControlFlow<()> + 'a;

/// Something that makes events.
pub trait Source: Send {
    /// `ebpf`, `pcap`, `live`, `tape`, ...
    fn name(&self) -> &'static str;

    /// What can be read from other threads while the source runs, and after it ended.
    fn status(&self) -> Arc<dyn Status>;

    /// Where the source wants to be told which exchanges need no more bytes; `None` when it would make no use of it.
    fn verdicts(&self) -> Option<SyncSender<NoCall>> {
        None
    }

    /// Produces events until the input is exhausted, `stop` is raised, or `out` breaks. What is already captured when
    /// `stop` is raised is drained first. Batches are never empty; the events of a batch are in the order of capture.
    fn run(self: Box<Self>, out: &mut Sink<'_>, stop: &StopFlag) -> anyhow::Result<()>;
}

/// An HTTP/2 exchange that turned out to be no LLM call: its bodies are of no use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoCall {
    /// The connection.
    pub conn: ConnId,
    /// The HTTP/2 stream.
    pub stream: u32,
}

/// The readable side of a source.
pub trait Status: Send + Sync {
    /// Every counter by name (`ring_full`, `seen_bytes`, ...). Monotonic.
    fn counters(&self) -> BTreeMap<&'static str, u64>;

    /// Encrypted connections that could not be opened (packet sources only).
    fn encrypted(&self) -> Vec<Encrypted> {
        Vec::new()
    }

    /// What a person should know about the input (a capture that is cut, and where), one sentence each.
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }

    /// What the source is attached to; empty for sources that attach to nothing.
    fn targets(&self) -> Vec<Target> {
        Vec::new()
    }
}

/// An encrypted connection that could not be opened: what can be said of it all the same.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Encrypted {
    /// The side that opened it.
    pub client: SocketAddr,
    /// Its peer.
    pub server: SocketAddr,
    /// The name that the client asked for, where it could be seen.
    pub server_name: Option<String>,
    /// Time of the first packet.
    pub first_seen: Nanos,
    /// Time of the last packet.
    pub last_seen: Nanos,
    /// Ciphertext from the client, bytes.
    pub sent_bytes: u64,
    /// Ciphertext from the server, bytes.
    pub received_bytes: u64,
    /// Why it could not be opened, as the end of a sentence.
    pub reason: String,
}

/// One place that a source looks at, and whether it works.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Target {
    /// The process that it was found in (the first one, where several share it).
    pub pid: u32,
    /// The file, as that process names it.
    pub path: String,
    /// `openssl`, `boringssl`, `rustls`, `go`, `socket`, ...
    pub library: String,
    /// How the functions were found: `dynsym`, `symtab`, `pattern`, ...; empty when they were not.
    pub found_by: String,
    /// Whether it is hooked, and whether it ever fired.
    pub state: TargetState,
    /// Why not hooked, or what is worth knowing, in one sentence; empty when there is nothing to say.
    pub reason: String,
    /// How often a hook fired.
    pub hits: u64,
    /// How many live processes use it now.
    #[serde(default)]
    pub processes: usize,
}

/// The state of a [`Target`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetState {
    /// Hooked, and it fired.
    Firing,
    /// Hooked, and it never fired.
    AttachedNeverFired,
    /// Not hooked: [`Target::reason`] says why.
    Refused,
    /// Was hooked; the processes that used it have ended.
    Gone,
}
