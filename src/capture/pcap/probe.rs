//! Packets of remote probes as a source: a ZeroMQ PULL socket that probes connect to and push batches of packets into.
//!
//! One thread polls all peers. What a peer sends is never trusted: a broken conversation ends with its connection, a broken
//! batch is counted.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use bytes::{Bytes, BytesMut};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::batch::{BatchCounts, packets};
use super::connection::LIVE;
use super::file::{Board, key_log};
use super::table::Table;
use super::tls::KeyLog;
use super::zmtp::{GREETING, Peer, READY, Said};
use crate::capture::{Sink, Source, Status, StopFlag};
use crate::event::Event;

/// Probes at a time.
const MAX_PEERS: usize = 256;
/// Read from one peer before the others have their turn.
const TURN: usize = 1 << 20;
const PUBLISH: Duration = Duration::from_millis(500);

/// Where to listen, and how to read.
#[derive(Clone, Debug, Default)]
pub struct ProbeOptions {
    /// `tcp://ADDRESS:PORT`, or `ADDRESS:PORT`.
    pub endpoint: String,
    /// A TLS key log for the connections that the probes see.
    pub keylog: Option<PathBuf>,
}

/// Remote probes as a source.
pub struct ProbeSource {
    listener: TcpListener,
    keys: KeyLog,
    board: Arc<Board>,
}

impl ProbeSource {
    /// Listens.
    pub fn open(options: &ProbeOptions) -> Result<ProbeSource> {
        let address = options.endpoint.strip_prefix("tcp://").unwrap_or(&options.endpoint);
        let address = address.replacen('*', "0.0.0.0", usize::from(address.starts_with('*')));
        let address: SocketAddr = address
            .parse()
            .map_err(|_| anyhow!("{:?} is no endpoint to listen on: say tcp://ADDRESS:PORT", options.endpoint))?;
        let listener = TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
        listener.set_nonblocking(true).context("cannot listen without blocking")?;
        let mut keys = key_log(options.keylog.as_deref())?;
        keys.expect_more();
        Ok(ProbeSource { listener, keys, board: Arc::default() })
    }

    /// Where it listens.
    pub fn address(&self) -> Result<SocketAddr> {
        self.listener.local_addr().context("the socket has no address")
    }
}

impl Source for ProbeSource {
    fn name(&self) -> &'static str {
        "probe"
    }

    fn status(&self) -> Arc<dyn Status> {
        self.board.clone()
    }

    fn run(self: Box<Self>, out: &mut Sink<'_>, stop: &StopFlag) -> Result<()> {
        let ProbeSource { listener, keys, board } = *self;
        let mut intake = Intake { table: Table::new(false, LIVE, keys), peers: Vec::new(), counts: Counts::default() };
        let mut published = Instant::now();
        loop {
            // Asked first: what was sent before the stop is then seen below.
            let (mut batch, stopping) = (Vec::new(), stop.is_stopped());
            wait(&listener, &intake.peers)?;
            intake.accept(&listener);
            let busy = intake.read(&board, &mut batch);
            if published.elapsed() >= PUBLISH {
                published = Instant::now();
                intake.publish(&board);
            }
            let gone = !batch.is_empty() && out(batch) == ControlFlow::Break(());
            if gone || (stopping && !busy) {
                break;
            }
        }
        let mut rest = Vec::new();
        intake.table.finish(&mut rest);
        intake.publish(&board);
        if !rest.is_empty() {
            // The source ends here whether or not the taker is still there.
            let _ = out(rest);
        }
        Ok(())
    }
}

#[derive(Default)]
struct Counts {
    batches: BatchCounts,
    peers: u64,
    refused: u64,
    broken: u64,
}

struct Intake {
    table: Table,
    peers: Vec<Connected>,
    counts: Counts,
}

struct Connected {
    stream: TcpStream,
    from: SocketAddr,
    peer: Peer,
    buf: BytesMut,
    /// Whether its wrong version was told already.
    told: bool,
}

fn wait(listener: &TcpListener, peers: &[Connected]) -> Result<()> {
    let fds = peers.iter().map(|peer| peer.stream.as_fd()).chain([listener.as_fd()]);
    let mut polled: Vec<PollFd<'_>> = fds.map(|fd: BorrowedFd<'_>| PollFd::new(fd, PollFlags::POLLIN)).collect();
    match poll(&mut polled, PollTimeout::from(20u8)) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
        Err(error) => Err(error).context("cannot wait for probes"),
    }
}

impl Intake {
    fn accept(&mut self, listener: &TcpListener) {
        while let Ok((stream, from)) = listener.accept() {
            let fine = self.peers.len() < MAX_PEERS && stream.set_nonblocking(true).is_ok();
            // 64 bytes always fit into a new socket's buffer.
            if !fine || (&stream).write_all(&GREETING).is_err() {
                self.counts.refused += 1;
                continue;
            }
            self.counts.peers += 1;
            self.peers.push(Connected { stream, from, peer: Peer::default(), buf: BytesMut::new(), told: false });
        }
    }

    /// Reads what is there; true when there was anything.
    fn read(&mut self, board: &Board, batch: &mut Vec<Event>) -> bool {
        let mut busy = false;
        let Intake { table, peers, counts } = self;
        peers.retain_mut(|peer| match peer.read(table, counts, board, batch) {
            Ok(read) => {
                busy |= read > 0;
                true
            }
            Err(why) => {
                if let Some(why) = why {
                    counts.broken += 1;
                    board.warn(format!("the probe at {} was sent away: {why}", peer.from));
                }
                false
            }
        });
        busy
    }

    fn publish(&self, board: &Board) {
        let mut counters: BTreeMap<&'static str, u64> = self.table.counters();
        let (counts, batches) = (&self.counts, &self.counts.batches);
        counters.extend([
            ("probe_peers", counts.peers),
            ("probe_refused", counts.refused),
            ("probe_broken", counts.broken),
            ("probe_batches", batches.batches),
            ("probe_heartbeats", batches.heartbeats),
            ("probe_bad_version", batches.bad_version),
            ("probe_malformed", batches.malformed),
            ("probe_missing_packets", batches.missing),
        ]);
        board.publish(counters);
        board.seal(self.table.encrypted());
    }
}

impl Connected {
    /// Bytes read. An error ends the connection; without words when it ended by itself.
    fn read(
        &mut self,
        table: &mut Table,
        counts: &mut Counts,
        board: &Board,
        batch: &mut Vec<Event>,
    ) -> Result<usize, Option<&'static str>> {
        let (mut total, mut chunk) = (0, [0; 65_536]);
        while total < TURN {
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(None),
                Ok(read) => {
                    total += read;
                    self.buf.extend_from_slice(chunk.get(..read).unwrap_or_default());
                    self.said(table, counts, board, batch).map_err(Some)?;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Err(None),
            }
        }
        Ok(total)
    }

    fn said(
        &mut self,
        table: &mut Table,
        counts: &mut Counts,
        board: &Board,
        batch: &mut Vec<Event>,
    ) -> Result<(), &'static str> {
        while let Some(said) = self.peer.next(&mut self.buf)? {
            match said {
                Said::Hello => self.answer(READY)?,
                Said::Ping(pong) => self.answer(&pong)?,
                Said::Message(message) => self.message(&message, table, counts, board, batch),
            }
        }
        Ok(())
    }

    fn answer(&mut self, bytes: &[u8]) -> Result<(), &'static str> {
        (&self.stream).write_all(bytes).map_err(|_| "it does not take answers")
    }

    fn message(
        &mut self,
        message: &Bytes,
        table: &mut Table,
        counts: &mut Counts,
        board: &Board,
        batch: &mut Vec<Event>,
    ) {
        let taken = packets(message, &mut counts.batches, |record| table.push(&record, batch));
        if let Err(version) = taken
            && !self.told
        {
            self.told = true;
            board.warn(format!(
                "the probe at {} sends batches of version {version}; versions 1 and 2 are understood",
                self.from
            ));
        }
    }
}
