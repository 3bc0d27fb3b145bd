//! Puts fragmented IP packets together, within bounds: the first copy of each byte wins, and what stays incomplete is dropped
//! after half a minute of capture time or when too much waits (TCP then reports the hole).

use std::collections::{BTreeMap, HashMap, VecDeque};

use bytes::{Bytes, BytesMut};

use super::link::{Fragment, FragmentKey};
use crate::event::Nanos;

const MAX_PACKETS: usize = 1024;
const MAX_BYTES: usize = 8 << 20;
const MAX_PIECES: usize = 128;
const MAX_PACKET: u32 = 1 << 17;
const TIMEOUT: Nanos = Nanos(30_000_000_000);

/// The packets that wait for their missing pieces.
#[derive(Default)]
pub(super) struct Fragments {
    open: HashMap<FragmentKey, Parts>,
    /// In order of arrival; may name packets that are complete already.
    arrivals: VecDeque<(Nanos, FragmentKey)>,
    bytes: usize,
    /// Packets that were given up.
    pub(super) dropped: u64,
}

#[derive(Default)]
struct Parts {
    pieces: BTreeMap<u32, Vec<u8>>,
    total: Option<u32>,
    bytes: usize,
    since: Nanos,
}

impl Fragments {
    /// Takes a piece; gives the packet's whole payload when it was the last one missing.
    pub(super) fn push(&mut self, fragment: Fragment<'_>, at: Nanos) -> Option<Bytes> {
        self.expire(at);
        let end = fragment.offset.checked_add(fragment.wire_len)?;
        if end > MAX_PACKET || fragment.payload.len() < fragment.wire_len as usize {
            self.dropped += 1;
            return None;
        }
        let parts = self.open.entry(fragment.key).or_default();
        if parts.pieces.is_empty() {
            parts.since = at;
            self.arrivals.push_back((at, fragment.key));
        }
        if !fragment.more {
            parts.total = parts.total.or(Some(end));
        }
        if parts.pieces.len() < MAX_PIECES && !parts.pieces.contains_key(&fragment.offset) {
            parts.bytes += fragment.payload.len();
            self.bytes += fragment.payload.len();
            parts.pieces.insert(fragment.offset, fragment.payload.to_vec());
        }
        let whole = parts.assemble()?;
        self.remove(&fragment.key);
        Some(whole)
    }

    fn remove(&mut self, key: &FragmentKey) -> bool {
        let removed = self.open.remove(key);
        self.bytes -= removed.as_ref().map_or(0, |parts| parts.bytes);
        removed.is_some()
    }

    fn expire(&mut self, now: Nanos) {
        while let Some((at, key)) = self.arrivals.front().copied() {
            let over = self.open.len() > MAX_PACKETS || self.bytes > MAX_BYTES || self.arrivals.len() > 4 * MAX_PACKETS;
            if !over && now.since(at) < TIMEOUT {
                break;
            }
            self.arrivals.pop_front();
            let same = self.open.get(&key).is_some_and(|parts| parts.since == at);
            if same && self.remove(&key) {
                self.dropped += 1;
            }
        }
    }
}

impl Parts {
    fn assemble(&self) -> Option<Bytes> {
        let total = self.total?;
        let mut whole = BytesMut::with_capacity(total as usize);
        for (&offset, piece) in &self.pieces {
            let have = whole.len();
            if offset as usize > have {
                return None;
            }
            whole.extend_from_slice(piece.get(have - offset as usize..).unwrap_or_default());
        }
        whole.truncate(total as usize);
        (whole.len() == total as usize).then(|| whole.freeze())
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    fn key(id: u32) -> FragmentKey {
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        FragmentKey { src: address, dst: address, id, protocol: 6 }
    }

    fn piece(id: u32, offset: u32, payload: &[u8], more: bool) -> Fragment<'_> {
        Fragment { key: key(id), offset, more, payload, wire_len: payload.len() as u32 }
    }

    #[test]
    fn pieces_in_any_order_and_twice_make_the_packet_once() {
        let mut fragments = Fragments::default();
        assert_eq!(fragments.push(piece(1, 16, b"third", false), Nanos(1)), None);
        assert_eq!(fragments.push(piece(1, 0, b"first678", true), Nanos(2)), None);
        assert_eq!(fragments.push(piece(1, 0, b"FIRST678", true), Nanos(3)), None);
        let whole = fragments.push(piece(1, 8, b"second78", true), Nanos(4));
        assert_eq!(whole.as_deref(), Some(&b"first678second78third"[..]));
        assert_eq!(fragments.bytes, 0);
    }

    #[test]
    fn what_stays_incomplete_is_dropped_and_counted() {
        let mut fragments = Fragments::default();
        fragments.push(piece(1, 0, b"first678", true), Nanos(1));
        fragments.push(piece(2, 0, b"other678", true), Nanos(TIMEOUT.0 + 1));
        assert_eq!((fragments.dropped, fragments.open.len(), fragments.bytes), (1, 1, 8));
        for id in 10..10_000 {
            fragments.push(piece(id, 0, b"flood678", true), Nanos(TIMEOUT.0 + 2));
        }
        assert!(fragments.open.len() <= MAX_PACKETS + 1 && fragments.arrivals.len() <= 4 * MAX_PACKETS + 1);
    }
}
