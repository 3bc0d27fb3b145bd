//! Live interfaces as a source, through libpcap.
//!
//! One thread polls all interfaces; a packet is copied once, out of the kernel's ring. CAP_NET_RAW is all it needs.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow, bail};
use bytes::Bytes;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use pcap::{Active, Capture, Precision};

use super::connection::LIVE;
use super::file::{Board, key_log};
use super::format::Record;
use super::table::Table;
use super::tls::KeyLog;
use crate::capture::{Sink, Source, Status, StopFlag};
use crate::event::{Event, Nanos};

/// Packets taken from one interface before the others have their turn.
const TURN: usize = 4096;
/// How long the kernel may keep packets back, ms.
const TIMEOUT_MS: i32 = 10;
/// So many waits of 20 ms in which nothing came end a source that was told to stop.
const QUIET_ROUNDS: u32 = 3;
/// How often counters are published.
const PUBLISH: Duration = Duration::from_millis(500);
/// How far behind the clock time is taken to be when no packet comes: what is under way may be this late.
const LAG: u64 = 100_000_000;

/// Fills in who owns connections: sees each batch before it is handed on.
pub type Owners = Box<dyn FnMut(&mut Vec<Event>) + Send>;

/// What to capture, and how.
#[derive(Default)]
pub struct LiveOptions {
    /// Names of interfaces; `any` is all of them.
    pub interfaces: Vec<String>,
    /// A capture filter in libpcap's language, run in the kernel.
    pub filter: Option<String>,
    /// Bytes kept of each packet; all of them when `None`.
    pub snaplen: Option<u32>,
    /// The kernel's buffer for each interface, MiB; 64 when `None`.
    pub buffer_mib: Option<u32>,
    /// A TLS key log, which may grow while it is read.
    pub keylog: Option<PathBuf>,
    /// Who owns connections, where somebody knows.
    pub owners: Option<Owners>,
}

/// Live interfaces as a source.
pub struct LiveSource {
    interfaces: Vec<Interface>,
    keys: KeyLog,
    owners: Option<Owners>,
    board: Arc<Board>,
}

struct Interface {
    capture: Capture<Active>,
    link: u16,
}

impl LiveSource {
    /// Opens the interfaces.
    pub fn open(options: LiveOptions) -> Result<LiveSource> {
        if options.interfaces.is_empty() {
            bail!("no interface was named (`any` is all of them)");
        }
        let mut keys = key_log(options.keylog.as_deref())?;
        keys.expect_more();
        let interfaces = options.interfaces.iter().map(|name| open(name, &options)).collect::<Result<Vec<_>>>()?;
        Ok(LiveSource { interfaces, keys, owners: options.owners, board: Arc::default() })
    }
}

fn open(name: &str, options: &LiveOptions) -> Result<Interface> {
    let told = |error| explain(name, error);
    let snaplen = options.snaplen.map_or(262_144, |snaplen| snaplen.clamp(64, 262_144));
    let buffer = options.buffer_mib.unwrap_or(64).clamp(1, 1024) << 20;
    let inactive = Capture::from_device(name).map_err(told)?;
    let inactive = inactive.promisc(false).snaplen(snaplen.cast_signed()).buffer_size(buffer.cast_signed());
    let capture = inactive.timeout(TIMEOUT_MS).precision(Precision::Nano).open().map_err(told)?;
    let mut capture = capture.setnonblock().map_err(told)?;
    if let Some(filter) = &options.filter {
        capture.filter(filter, true).map_err(|error| anyhow!("the filter {filter:?} does not compile: {error}"))?;
    }
    let link = match capture.get_datalink().0 {
        // DLT_RAW on Linux: the number that files use.
        12 => 101,
        other => u16::try_from(other).unwrap_or(u16::MAX),
    };
    Ok(Interface { capture, link })
}

fn explain(name: &str, error: pcap::Error) -> anyhow::Error {
    let text = error.to_string();
    let lower = text.to_lowercase();
    if lower.contains("permission") || lower.contains("not permitted") {
        let exe = std::env::current_exe().map_or_else(|_| "heron".to_owned(), |path| path.display().to_string());
        return anyhow!(
            "cannot capture on {name}: it needs CAP_NET_RAW; run `sudo setcap cap_net_raw+ep {exe}` once, or run heron as root"
        );
    }
    if lower.contains("no such device") {
        return anyhow!("there is no interface {name} (`ip link` lists them; `any` is all of them)");
    }
    anyhow!("cannot capture on {name}: {text}")
}

impl Source for LiveSource {
    fn name(&self) -> &'static str {
        "live"
    }

    fn status(&self) -> Arc<dyn Status> {
        self.board.clone()
    }

    fn run(self: Box<Self>, out: &mut Sink<'_>, stop: &StopFlag) -> Result<()> {
        let LiveSource { mut interfaces, keys, mut owners, board } = *self;
        let mut table = Table::new(false, LIVE, keys);
        let mut published = Instant::now();
        // Rounds without a packet since the stop: the kernel may hold packets back for a while.
        let mut quiet = 0;
        while quiet < QUIET_ROUNDS {
            let mut batch = Vec::new();
            let mut busy = false;
            for interface in &mut interfaces {
                busy |= interface.drain(&mut table, &mut batch)?;
            }
            if !busy {
                table.pass_time(Nanos(clock().saturating_sub(LAG)), &mut batch);
            }
            if hand_over(batch, &mut owners, out).is_break() {
                break;
            }
            if published.elapsed() >= PUBLISH {
                published = Instant::now();
                publish(&board, &table, &mut interfaces);
            }
            quiet = if busy || !stop.is_stopped() { 0 } else { quiet + 1 };
            if !busy {
                wait(&interfaces)?;
            }
        }
        let mut rest = Vec::new();
        table.finish(&mut rest);
        publish(&board, &table, &mut interfaces);
        // The source ends here whether or not the taker is still there.
        let _ = hand_over(rest, &mut owners, out);
        Ok(())
    }
}

fn hand_over(mut batch: Vec<Event>, owners: &mut Option<Owners>, out: &mut Sink<'_>) -> ControlFlow<()> {
    if batch.is_empty() {
        return ControlFlow::Continue(());
    }
    if let Some(owners) = owners {
        owners(&mut batch);
    }
    out(batch)
}

fn clock() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

/// Waits until an interface has packets, at most 20 ms.
fn wait(interfaces: &[Interface]) -> Result<()> {
    let mut polled: Vec<PollFd<'_>> =
        interfaces.iter().map(|interface| PollFd::new(interface.fd(), PollFlags::POLLIN)).collect();
    match poll(&mut polled, PollTimeout::from(20u8)) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
        Err(error) => Err(error).context("cannot wait for packets"),
    }
}

impl Interface {
    fn fd(&self) -> BorrowedFd<'_> {
        self.capture.as_fd()
    }

    /// Takes what is there, up to a bound; true when there was anything.
    fn drain(&mut self, table: &mut Table, batch: &mut Vec<Event>) -> Result<bool> {
        for taken in 0..TURN {
            match self.capture.next_packet() {
                Ok(packet) => {
                    let ts = packet.header.ts;
                    // Nanoseconds: that precision was asked for.
                    let at =
                        u64::try_from(ts.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(ts.tv_usec).unwrap_or(0);
                    let data = Bytes::copy_from_slice(packet.data);
                    table.push(&Record { at: Nanos(at), link: self.link, wire_len: packet.header.len, data }, batch);
                }
                Err(pcap::Error::TimeoutExpired) => return Ok(taken > 0),
                Err(pcap::Error::NoMorePackets) => return Ok(taken > 0),
                Err(error) => return Err(anyhow!("the capture ended: {error}")),
            }
        }
        Ok(true)
    }
}

fn publish(board: &Board, table: &Table, interfaces: &mut [Interface]) {
    let mut counters: BTreeMap<&'static str, u64> = table.counters();
    let (mut kernel, mut device) = (0, 0);
    for interface in interfaces {
        if let Ok(stats) = interface.capture.stats() {
            kernel += u64::from(stats.dropped);
            device += u64::from(stats.if_dropped);
        }
    }
    counters.insert("kernel_drops", kernel);
    counters.insert("interface_drops", device);
    board.publish(counters);
    board.seal(table.encrypted());
}
