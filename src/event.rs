//! The seam between the sources and everything else.
//!
//! A source (eBPF, packets, a tape) makes [`Event`]s; the stages from `conn` on take them. An event is bytes of one
//! direction of one connection at a stream offset, with a time and, where known, an owning process; or something that
//! happened to a connection or a process. This module knows nobody else, and nothing here performs I/O.
//!
//! Surprising fact: a stream offset counts the bytes that the source *observed and passed* plus those it *lost*. Bytes
//! that the kernel's filter dropped as non-LLM traffic are in neither, so that a filtered request is not a hole.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Nanoseconds since the Unix epoch (for events), or a span in nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug, Serialize, Deserialize)]
pub struct Nanos(pub u64);

impl Nanos {
    /// The span from `earlier` to `self`; zero when `earlier` is later (clocks of packet captures do step back).
    pub fn since(self, earlier: Nanos) -> Nanos {
        Nanos(self.0.saturating_sub(earlier.0))
    }

    /// The span in milliseconds.
    pub fn as_millis_f64(self) -> f64 {
        self.0 as f64 / 1e6
    }

    /// The time as RFC 3339 with nanoseconds, UTC: `2026-11-28T13:34:54.000000001Z`.
    pub fn rfc3339(self) -> String {
        let (seconds, nanos) = (self.0 / 1_000_000_000, self.0 % 1_000_000_000);
        let (days, second) = (seconds / 86_400, seconds % 86_400);
        let (year, month, day) = civil_from_days(days);
        let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}Z")
    }
}

/// Year, month and day of a day counted from 1970-01-01 (Howard Hinnant, "chrono-compatible low-level date algorithms").
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

/// One connection of one source. Ids are never reused within a run, and a tape keeps them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct ConnId(pub u64);

/// A process: a pid alone is reused, a pid with its start time is not.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct ProcId {
    /// Thread group id in the host's pid namespace.
    pub pid: u32,
    /// Start time in nanoseconds since boot (`task->start_boottime`).
    pub start: u64,
}

/// Which way bytes went, seen from the observed end of the connection.
///
/// For eBPF the observed end is the traced process; for packets it is the side that opened the connection (or, when the
/// opening was not captured, the side seen first). Who is the HTTP client is decided by `conn` from the bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Direction {
    /// From the observed end to its peer.
    Sent,
    /// From the peer to the observed end.
    Received,
}

impl Direction {
    /// The other direction.
    pub fn opposite(self) -> Direction {
        match self {
            Direction::Sent => Direction::Received,
            Direction::Received => Direction::Sent,
        }
    }

    /// 0 for sent, 1 for received: an index into a pair of streams.
    pub fn index(self) -> usize {
        match self {
            Direction::Sent => 0,
            Direction::Received => 1,
        }
    }
}

/// How the plaintext was had.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Transport {
    /// The bytes were plaintext on the socket.
    Plain,
    /// Taken at a TLS library's boundary, or decrypted with keys; names the library or "keylog".
    Tls(Arc<str>),
}

/// One end of a connection.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Endpoint {
    /// An IPv4 or IPv6 address and port.
    Inet(SocketAddr),
    /// A unix socket's path (or `@name` for an abstract one; empty when unnamed).
    Unix(Arc<str>),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Inet(address) => address.fmt(f),
            Endpoint::Unix(path) => write!(f, "unix:{path}"),
        }
    }
}

/// How sure a source is of a connection's endpoints, from the surest down (docs/architecture.md, "Whose socket").
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Confidence {
    /// Read from the packets themselves or from the socket inside the call.
    Certain,
    /// The library was told the descriptor.
    Descriptor,
    /// The ciphertext's first bytes agree.
    Ciphertext,
    /// Voted by neighbouring socket calls of the thread.
    Vote,
}

/// Both ends of a connection, as far as known.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Endpoints {
    /// The observed end.
    pub local: Option<Endpoint>,
    /// Its peer.
    pub remote: Option<Endpoint>,
    /// How they are known.
    pub confidence: Confidence,
}

/// A connection is first seen.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Open {
    /// Which connection.
    pub conn: ConnId,
    /// When it was first seen.
    pub at: Nanos,
    /// Who owns the observed end, where known.
    pub owner: Option<ProcId>,
    /// The ends, where known.
    pub endpoints: Option<Endpoints>,
    /// How the plaintext is had.
    pub transport: Transport,
    /// True when bytes may have gone before the first one seen.
    pub mid_stream: bool,
}

/// Bytes of one direction.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Data {
    /// Which connection.
    pub conn: ConnId,
    /// When the bytes were moved (return of the call, or arrival of the packet).
    pub at: Nanos,
    /// Which way.
    pub direction: Direction,
    /// Position of the first byte in the observed stream of this direction (module docs).
    pub offset: u64,
    /// The bytes.
    pub bytes: Bytes,
}

/// Why bytes are missing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum LossCause {
    /// The ring (or the packet buffer) was full.
    RingFull,
    /// The traced process's memory could not be read.
    ReadFault,
    /// A packet of the capture is missing.
    PacketMissing,
    /// The capture kept only the head of a packet (snap length).
    Snapped,
    /// A reassembly or decoder bound was reached.
    Bound,
}

/// A hole of known size in one direction.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Lost {
    /// Which connection.
    pub conn: ConnId,
    /// When the loss was noticed.
    pub at: Nanos,
    /// Which way.
    pub direction: Direction,
    /// Position of the first missing byte.
    pub offset: u64,
    /// How many bytes are missing.
    pub len: u64,
    /// Why.
    pub cause: LossCause,
}

/// How a direction, or a connection, came to its end.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum CloseHow {
    /// An orderly end (FIN, TLS close-notify, end of file).
    Finished,
    /// A reset.
    Reset,
    /// The TLS object was freed or the descriptor closed.
    Freed,
    /// The owning process ended.
    ProcessExit,
    /// Nothing was seen for the idle limit, or the run ended.
    Idle,
    /// The capture ended while the connection was open.
    SourceEnd,
}

/// A direction (or, without one, the whole connection) ended.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Close {
    /// Which connection.
    pub conn: ConnId,
    /// When.
    pub at: Nanos,
    /// Which direction ended; `None` for both.
    pub direction: Option<Direction>,
    /// How.
    pub how: CloseHow,
}

/// What is known of a process at exec (or when it was found running).
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ProcessInfo {
    /// The executable's path in its own mount namespace; empty when unknown.
    pub exe: String,
    /// The kernel's short name of the main thread.
    pub comm: String,
    /// The argument vector.
    pub cmdline: Vec<String>,
    /// The working directory; empty when unknown.
    pub cwd: String,
    /// User id.
    pub uid: u32,
    /// The container id from the cgroup, where there is one.
    pub container: Option<String>,
}

/// Something happened to a watched process.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum ProcessChange {
    /// It began to be watched, or replaced its image.
    Exec {
        /// The parent, where it is watched too.
        parent: Option<ProcId>,
        /// What it is now.
        info: Arc<ProcessInfo>,
    },
    /// It was made by a fork of a watched process, and still runs the parent's image.
    Fork {
        /// The process that forked.
        parent: ProcId,
    },
    /// It ended.
    Exit {
        /// The wait status as the kernel keeps it (exit code << 8 | signal).
        status: i32,
    },
}

/// A process event.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ProcessEvent {
    /// Which process.
    pub process: ProcId,
    /// When.
    pub at: Nanos,
    /// What.
    pub change: ProcessChange,
}

/// What a source tells the pipeline.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Event {
    /// A connection is first seen.
    Open(Open),
    /// A connection's ends became known, or better known, after it was opened.
    Endpoints {
        /// Which connection.
        conn: ConnId,
        /// When.
        at: Nanos,
        /// The ends.
        endpoints: Endpoints,
    },
    /// Bytes of one direction.
    Data(Data),
    /// A hole of known size.
    Lost(Lost),
    /// An end.
    Close(Close),
    /// A process event.
    Process(ProcessEvent),
    /// Time passed; the pure stages have no other clock.
    Tick(Nanos),
}

impl Event {
    /// When it happened.
    pub fn at(&self) -> Nanos {
        match self {
            Event::Open(open) => open.at,
            Event::Endpoints { at, .. } => *at,
            Event::Data(data) => data.at,
            Event::Lost(lost) => lost.at,
            Event::Close(close) => close.at,
            Event::Process(process) => process.at,
            Event::Tick(at) => *at,
        }
    }

    /// The connection it belongs to, where it belongs to one.
    pub fn conn(&self) -> Option<ConnId> {
        match self {
            Event::Open(open) => Some(open.conn),
            Event::Endpoints { conn, .. } => Some(*conn),
            Event::Data(data) => Some(data.conn),
            Event::Lost(lost) => Some(lost.conn),
            Event::Close(close) => Some(close.conn),
            Event::Process(_) | Event::Tick(_) => None,
        }
    }
}

/// A map whose keys are ids that a source counted: nobody chooses them, so a cheap hash is as good as a strong one.
pub type IdMap<K, V> = HashMap<K, V, BuildHasherDefault<IdHasher>>;

/// The hash of an [`IdMap`]. Wants keys made of integers.
#[derive(Clone, Copy, Default, Debug)]
pub struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        // The map takes the place from the low bits and the tag from the high ones.
        self.0 ^ self.0 >> 32
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u32(&mut self, word: u32) {
        self.write_u64(u64::from(word));
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

#[cfg(test)]
mod tests {
    use super::Nanos;

    #[test]
    fn times_are_written_as_rfc_3339() {
        for (nanos, text) in [
            (0, "1970-01-01T00:00:00.000000000Z"),
            (951_782_400_000_000_001, "2000-02-29T00:00:00.000000001Z"),
            (1_709_251_199_999_999_999, "2024-02-29T23:59:59.999999999Z"),
            (1_795_872_894_120_000_000, "2026-11-28T13:34:54.120000000Z"),
            (u64::MAX, "2554-07-21T23:34:33.709551615Z"),
        ] {
            assert_eq!(Nanos(nanos).rfc3339(), text);
        }
    }
}
