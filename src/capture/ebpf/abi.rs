//! The only place that reads raw records of the rings (`bpf/abi.h`, `docs/abi.md`).
//!
//! A record's layout comes from the skeleton's types, which come from the object's BTF; a record that is shorter than its
//! kind says is refused, never read past its end.

use std::mem::{offset_of, size_of};

use super::skel::types;

/// Data flags of `enum heron_flag`.
pub const FLAG_MID: u8 = 2;
/// The site of plaintext on sockets.
pub const SITE_SOCKET: u32 = u32::MAX;
/// No payload: bytes of this length were lost.
pub const FLAG_HOLE: u8 = 4;

const _: () = assert!(size_of::<types::heron_hdr>() == 32);
const _: () = assert!(size_of::<types::heron_data>() == 72);
const _: () = assert!(size_of::<types::heron_addr>() == 40);
const _: () = assert!(size_of::<types::heron_sock>() == 208);
const _: () = assert!(size_of::<types::heron_close>() == 64);
const _: () = assert!(size_of::<types::heron_proc>() == 80 + 256 + 1024);
const _: () = assert!(size_of::<types::heron_stream_key>() == 16);
const _: () = assert!(size_of::<types::heron_stream>() == 160);
const _: () = assert!(size_of::<types::heron_watch>() == 16);
const _: () = assert!(size_of::<types::heron_h2_key>() == 24);

/// What tells one stream from every other one of a run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct StreamId {
    /// The process.
    pub tgid: u32,
    /// `SSL *` or the like.
    pub stream: u64,
    /// When the kernel side first saw it.
    pub born: u64,
}

/// The part that all records share.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// `CLOCK_MONOTONIC` nanoseconds.
    pub time: u64,
    /// Thread group.
    pub tgid: u32,
    /// Thread.
    pub tid: u32,
    /// The process's start time.
    pub start: u64,
}

/// A record of either ring.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Record<'a> {
    /// Bytes of one direction.
    Data {
        /// Common part.
        header: Header,
        /// Which stream.
        id: StreamId,
        /// Position of the first byte.
        offset: u64,
        /// Bytes that the record stands for.
        len: u32,
        /// Which hook.
        site: u32,
        /// 0 sent, 1 received.
        direction: u8,
        /// `enum heron_flag`.
        flags: u8,
        /// The bytes; empty for a hole.
        payload: &'a [u8],
    },
    /// The ends of a stream.
    Sock {
        /// Common part.
        header: Header,
        /// Which stream.
        id: StreamId,
        /// Which hook.
        site: u32,
        /// The stream was met in the middle.
        mid: bool,
        /// The ends.
        addr: Addr,
    },
    /// A stream ended.
    Close {
        /// Common part.
        header: Header,
        /// Which stream.
        id: StreamId,
        /// How far each direction got.
        offsets: [u64; 2],
    },
    /// A process event.
    Proc {
        /// Common part; the process that changed.
        header: Header,
        /// What happened.
        kind: ProcKind,
        /// The parent's thread group.
        parent: u32,
        /// The parent's start time (forks).
        parent_start: u64,
        /// Kernel's short name.
        comm: String,
        /// User id.
        uid: u32,
    },
}

/// What happened to a process.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ProcKind {
    /// It replaced its image.
    Exec {
        /// The path given to exec.
        name: String,
        /// The first kilobyte of its arguments.
        args: Vec<String>,
        /// Whether it is watched; others are told of in host mode only.
        watched: bool,
    },
    /// It was made.
    Fork {
        /// It runs in its parent's memory until it calls exec.
        shares_memory: bool,
    },
    /// It ended.
    Exit {
        /// Wait status.
        status: i32,
        /// It has had streams.
        had_streams: bool,
    },
    /// It mapped a file executable.
    Map,
}

/// The ends of a stream as the kernel side tells them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Addr {
    /// Address family.
    pub family: u16,
    /// Local port.
    pub local_port: u16,
    /// Remote port.
    pub remote_port: u16,
    /// `enum heron_confidence`.
    pub confidence: u8,
    /// Local address.
    pub local: [u8; 16],
    /// Remote address.
    pub remote: [u8; 16],
}

fn bytes_at<const N: usize>(record: &[u8], at: usize) -> Option<[u8; N]> {
    record.get(at..at.checked_add(N)?)?.try_into().ok()
}

fn u64_at(record: &[u8], at: usize) -> Option<u64> {
    bytes_at(record, at).map(u64::from_ne_bytes)
}

fn u32_at(record: &[u8], at: usize) -> Option<u32> {
    bytes_at(record, at).map(u32::from_ne_bytes)
}

fn u16_at(record: &[u8], at: usize) -> Option<u16> {
    bytes_at(record, at).map(u16::from_ne_bytes)
}

/// Reads one record; `None` when it is malformed or of an unknown kind.
pub fn parse(record: &[u8]) -> Option<Record<'_>> {
    let kind = u32_at(record, offset_of!(types::heron_hdr, kind))?;
    let header = Header {
        time: u64_at(record, offset_of!(types::heron_hdr, time))?,
        tgid: u32_at(record, offset_of!(types::heron_hdr, tgid))?,
        tid: u32_at(record, offset_of!(types::heron_hdr, tid))?,
        start: u64_at(record, offset_of!(types::heron_hdr, start))?,
    };
    match types::heron_kind(kind) {
        types::heron_kind::HERON_KIND_DATA => data(record, header),
        types::heron_kind::HERON_KIND_SOCK => sock(record, header),
        types::heron_kind::HERON_KIND_CLOSE => close(record, header),
        other => process(record, header, other),
    }
}

fn stream_id(record: &[u8], header: Header, stream: usize, born: usize) -> Option<StreamId> {
    Some(StreamId { tgid: header.tgid, stream: u64_at(record, stream)?, born: u64_at(record, born)? })
}

fn data(record: &[u8], header: Header) -> Option<Record<'_>> {
    type T = types::heron_data;
    let len = u32_at(record, offset_of!(T, len))?;
    let [flags] = bytes_at(record, offset_of!(T, flags))?;
    let [direction] = bytes_at(record, offset_of!(T, direction))?;
    let start = size_of::<T>();
    let payload = match flags & FLAG_HOLE {
        0 => record.get(start..start.checked_add(usize::try_from(len).ok()?)?)?,
        _ => &[],
    };
    Some(Record::Data {
        header,
        id: stream_id(record, header, offset_of!(T, stream), offset_of!(T, born))?,
        offset: u64_at(record, offset_of!(T, offset))?,
        len,
        site: u32_at(record, offset_of!(T, site))?,
        direction: direction & 1,
        flags,
        payload,
    })
}

fn sock(record: &[u8], header: Header) -> Option<Record<'_>> {
    type T = types::heron_sock;
    let at = offset_of!(T, addr);
    let [confidence] = bytes_at(record, at + offset_of!(types::heron_addr, confidence))?;
    let addr = Addr {
        family: u16_at(record, at + offset_of!(types::heron_addr, family))?,
        local_port: u16_at(record, at + offset_of!(types::heron_addr, local_port))?,
        remote_port: u16_at(record, at + offset_of!(types::heron_addr, remote_port))?,
        confidence,
        local: bytes_at(record, at + offset_of!(types::heron_addr, local))?,
        remote: bytes_at(record, at + offset_of!(types::heron_addr, remote))?,
    };
    Some(Record::Sock {
        header,
        id: stream_id(record, header, offset_of!(T, stream), offset_of!(T, born))?,
        site: u32_at(record, offset_of!(T, site))?,
        mid: u32_at(record, offset_of!(T, mid))? != 0,
        addr,
    })
}

fn close(record: &[u8], header: Header) -> Option<Record<'_>> {
    type T = types::heron_close;
    let at = offset_of!(T, offset);
    Some(Record::Close {
        header,
        id: stream_id(record, header, offset_of!(T, stream), offset_of!(T, born))?,
        offsets: [u64_at(record, at)?, u64_at(record, at + 8)?],
    })
}

fn process(record: &[u8], header: Header, kind: types::heron_kind) -> Option<Record<'_>> {
    type T = types::heron_proc;
    let status = u32_at(record, offset_of!(T, status))?;
    let shares_memory = u32_at(record, offset_of!(T, shares_memory))?;
    let kind = match kind {
        types::heron_kind::HERON_KIND_EXEC => {
            let name = text(record, offset_of!(T, name), u32_at(record, offset_of!(T, name_len))?)?;
            let args = record_slice(record, offset_of!(T, args), u32_at(record, offset_of!(T, args_len))?)?;
            ProcKind::Exec { name, args: split_args(args), watched: status == 0 }
        }
        types::heron_kind::HERON_KIND_FORK => ProcKind::Fork { shares_memory: shares_memory != 0 },
        types::heron_kind::HERON_KIND_EXIT => {
            ProcKind::Exit { status: status.cast_signed(), had_streams: shares_memory & 1 != 0 }
        }
        types::heron_kind::HERON_KIND_MAP => ProcKind::Map,
        _ => return None,
    };
    let comm: [u8; 16] = bytes_at(record, offset_of!(T, comm))?;
    let end = comm.iter().position(|byte| *byte == 0).unwrap_or(comm.len());
    Some(Record::Proc {
        header,
        kind,
        parent: u32_at(record, offset_of!(T, parent_tgid))?,
        parent_start: u64_at(record, offset_of!(T, parent_start))?,
        comm: String::from_utf8_lossy(comm.get(..end)?).into_owned(),
        uid: u32_at(record, offset_of!(T, uid))?,
    })
}

fn record_slice(record: &[u8], at: usize, len: u32) -> Option<&[u8]> {
    record.get(at..at.checked_add(usize::try_from(len).ok()?)?)
}

fn text(record: &[u8], at: usize, len: u32) -> Option<String> {
    record_slice(record, at, len).map(|bytes| String::from_utf8_lossy(bytes).into_owned())
}

fn split_args(args: &[u8]) -> Vec<String> {
    let args = args.strip_suffix(&[0]).unwrap_or(args);
    if args.is_empty() {
        return Vec::new();
    }
    args.split(|byte| *byte == 0).map(|arg| String::from_utf8_lossy(arg).into_owned()).collect()
}

/// The names of the counters, by slot of `enum heron_counter`.
pub const COUNTERS: &[&str] = &[
    "seen_bytes",
    "passed_bytes",
    "filtered_bytes",
    "lost_bytes",
    "ring_full",
    "ring_full_bytes",
    "read_fault",
    "read_fault_bytes",
    "map_full",
    "event_lost",
    "heads",
    "heads_passed",
    "path_too_long",
    "mid_stream",
    "unmatched_return",
    "call_failed",
    "depth",
    "records",
    "wakeups",
    "forks",
    "execs",
    "exits",
    "streams",
    "socket_buffer",
    "votes",
    "missed_bytes",
    "aead_other",
    "aead_unpaired",
    "h2_frames_out",
    "h2_unfollowed",
];

const _: () = assert!(COUNTERS.len() == types::heron_counter::HERON_COUNTERS.0 as usize);

#[cfg(test)]
mod tests {
    use super::*;

    fn data_record(len: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut record = vec![0u8; size_of::<types::heron_data>()];
        record[..4].copy_from_slice(&1u32.to_ne_bytes());
        let at = offset_of!(types::heron_data, len);
        record[at..at + 4].copy_from_slice(&len.to_ne_bytes());
        record[offset_of!(types::heron_data, flags)] = flags;
        record.extend_from_slice(payload);
        record
    }

    #[test]
    fn a_record_shorter_than_it_says_is_refused() {
        assert!(matches!(parse(&data_record(3, 0, b"abc")), Some(Record::Data { payload: b"abc", .. })));
        assert_eq!(parse(&data_record(4, 0, b"abc")), None);
        assert_eq!(parse(&data_record(u32::MAX, 0, b"abc")), None);
        let whole = data_record(3, 0, b"abc");
        for end in 0..whole.len() {
            assert_eq!(parse(&whole[..end]), None);
        }
    }

    #[test]
    fn a_hole_has_a_length_and_no_payload() {
        assert!(matches!(
            parse(&data_record(1 << 20, FLAG_HOLE, b"")),
            Some(Record::Data { len: 1_048_576, payload: b"", .. })
        ));
    }

    #[test]
    fn an_unknown_kind_is_refused() {
        let mut record = data_record(0, 0, b"");
        record[..4].copy_from_slice(&999u32.to_ne_bytes());
        record.resize(4096, 0);
        assert_eq!(parse(&record), None);
    }

    #[test]
    fn arguments_are_split_at_their_terminators() {
        assert_eq!(split_args(b"sh\0-c\0\0"), ["sh", "-c", ""]);
        assert!(split_args(b"").is_empty());
        assert_eq!(split_args(b"cut off\0in the mid"), ["cut off", "in the mid"]);
    }
}
