//! A probe's batch of packets, as it comes in one ZeroMQ message: a 24-byte header (version, count, key, the probe's UUID),
//! then per packet its length, a 16-byte pcap record header, and an Ethernet frame; all integers big endian.
//!
//! Version 1 is the same without the UUID. A frame of EtherType 0xffff is a heartbeat.

use bytes::Bytes;

use super::field::{array, be16, be32};
use super::format::Record;
use crate::event::Nanos;

/// EtherType of a heartbeat.
const HEARTBEAT: u16 = 0xffff;
const RECORD_HEADER: usize = 2 + 16;
const ETHERNET: u16 = 1;

/// What became of batches and packets. Monotonic.
#[derive(Default, Clone, Debug, PartialEq, Eq)]
pub(super) struct BatchCounts {
    pub batches: u64,
    pub heartbeats: u64,
    /// Batches of a version that is not known here.
    pub bad_version: u64,
    /// Batches that end inside a packet, or go on after the last one.
    pub malformed: u64,
    /// Packets that were announced and are not there.
    pub missing: u64,
}

/// Takes a batch apart. Gives the version when it is not known.
pub(super) fn packets(message: &Bytes, counts: &mut BatchCounts, mut take: impl FnMut(Record)) -> Result<(), u16> {
    counts.batches += 1;
    let header = match be16(message, 0) {
        Some(1) => 8,
        Some(2) => 24,
        Some(other) => {
            counts.bad_version += 1;
            return Err(other);
        }
        None => {
            counts.malformed += 1;
            return Ok(());
        }
    };
    let announced = be16(message, 2).map_or(0, usize::from);
    let mut rest = message.slice(header.min(message.len())..);
    for index in 0..announced {
        let Some((record, used)) = record(&rest) else {
            counts.malformed += 1;
            counts.missing += (announced - index) as u64;
            return Ok(());
        };
        rest = rest.slice(used..);
        if be16(&record.data, 12) == Some(HEARTBEAT) {
            counts.heartbeats += 1;
        } else {
            take(record);
        }
    }
    counts.malformed += u64::from(!rest.is_empty());
    Ok(())
}

/// One packet, and how many bytes it takes.
fn record(bytes: &Bytes) -> Option<(Record, usize)> {
    let len = usize::from(be16(bytes, 0)?);
    let header: [u8; 16] = array(bytes, 2)?;
    let word = |at| be32(&header, at).unwrap_or(0);
    let end = RECORD_HEADER + len;
    if end > bytes.len() {
        return None;
    }
    let at = u64::from(word(0)) * 1_000_000_000 + u64::from(word(4)) * 1000;
    let wire_len = word(12).max(len as u32);
    Some((Record { at: Nanos(at), link: ETHERNET, wire_len, data: bytes.slice(RECORD_HEADER..end) }, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(version: u16, count: u16, frames: &[&[u8]]) -> Vec<u8> {
        let mut bytes = [version.to_be_bytes(), count.to_be_bytes()].concat();
        bytes.extend([0, 0, 0, 9]);
        if version == 2 {
            bytes.extend([0xee; 16]);
        }
        for frame in frames {
            bytes.extend((frame.len() as u16).to_be_bytes());
            for word in [7, 5, frame.len() as u32, 1000] {
                bytes.extend(u32::to_be_bytes(word));
            }
            bytes.extend(*frame);
        }
        bytes
    }

    fn taken(bytes: Vec<u8>) -> (Vec<Record>, BatchCounts, Result<(), u16>) {
        let (mut records, mut counts) = (Vec::new(), BatchCounts::default());
        let result = packets(&bytes.into(), &mut counts, |record| records.push(record));
        (records, counts, result)
    }

    #[test]
    fn both_versions_are_read_and_heartbeats_are_no_packets() {
        let heartbeat = [&[0u8; 12][..], &[0xff, 0xff]].concat();
        for version in [1, 2] {
            let (records, counts, result) = taken(batch(version, 3, &[b"frame one......", &heartbeat, b"frame two"]));
            assert_eq!(result, Ok(()));
            assert_eq!((counts.heartbeats, counts.malformed, counts.missing), (1, 0, 0));
            let [one, two] = &records[..] else { panic!("{records:?}") };
            assert_eq!((&one.data[..], one.at.0, one.wire_len), (&b"frame one......"[..], 7_000_005_000, 1000));
            assert_eq!(&two.data[..], b"frame two");
        }
    }

    #[test]
    fn another_version_is_refused_and_what_is_missing_is_counted() {
        assert_eq!(taken(batch(3, 1, &[b"x"])).2, Err(3));
        let mut cut = batch(2, 3, &[b"one", b"two", b"three"]);
        cut.truncate(cut.len() - 2);
        let (records, counts, _) = taken(cut);
        assert_eq!((records.len(), counts.missing, counts.malformed), (2, 1, 1));
        assert_eq!(taken(batch(2, 1, &[b"one", b"two"])).1.malformed, 1);
        for len in 0..24 {
            let bytes = batch(2, 9, &[]);
            let (records, _, _) = taken(bytes[..len].to_vec());
            assert!(records.is_empty());
        }
    }
}
