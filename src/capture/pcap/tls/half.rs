//! One direction of a TLS connection: its bytes, its keys, and which of them open the next record.

use bytes::BytesMut;

use super::cipher::{Cipher, Opened, Suite};
use super::keylog::Secret;
use super::session::{Piece, SERVER};
use crate::event::{LossCause, Nanos};

/// Sequence numbers tried after one hole.
const MAX_TRIALS: u64 = 4096;

/// The keys of a direction change: early data, handshake, traffic (which TLS 1.2 has alone).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Epoch {
    Early,
    Handshake,
    Traffic,
}

pub(super) const EPOCHS: [Epoch; 3] = [Epoch::Early, Epoch::Handshake, Epoch::Traffic];

pub(super) struct Keys {
    pub cipher: Cipher,
    pub seq: u64,
    /// TLS 1.3: what the next keys are made of.
    pub secret: Option<Secret>,
}

/// Where the reader of a direction is in its ciphertext.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum At {
    /// At a record's first byte.
    Record,
    /// This many bytes before the end of a record that a hole damaged.
    Damaged { left: u64, whole: u64 },
    /// Somewhere: this many bytes since the last boundary are gone.
    Somewhere { gone: u64 },
}

/// One direction of a connection.
pub(super) struct Half {
    pub buf: BytesMut,
    pub at: At,
    /// By [`Epoch`].
    pub keys: [Option<Keys>; 3],
    pub epoch: Option<Epoch>,
    /// A handshake message that is not whole yet.
    pub partial: Vec<u8>,
    /// Records that may be missing since the last one that opened.
    pub slack: u64,
    pub failures: u32,
    /// Whether any plaintext was handed on, and what seems to be missing before the first.
    pub handed: bool,
    pub missing_first: u64,
}

impl Default for Half {
    fn default() -> Half {
        Half {
            buf: BytesMut::new(),
            at: At::Record,
            keys: [None, None, None],
            epoch: None,
            partial: Vec::new(),
            slack: 0,
            failures: 0,
            handed: false,
            missing_first: 0,
        }
    }
}

impl Keys {
    pub(super) fn updated(&self, suite: Suite) -> Option<Keys> {
        let secret = suite.updated(self.secret.as_ref()?)?;
        Some(Keys { cipher: suite.cipher13(&secret)?, seq: 0, secret: Some(secret) })
    }
}

impl Half {
    pub(super) fn header(&self) -> Option<[u8; 5]> {
        self.buf.first_chunk::<5>().copied()
    }

    /// TLS 1.2: steps over what is left of a damaged handshake in the clear, up to the record after which it is encrypted.
    pub(super) fn find_change_cipher(&mut self) -> bool {
        const CHANGE_CIPHER: &[u8] = &[0x14, 3, 3, 0, 1, 1];
        let found = memchr::memmem::find(&self.buf, CHANGE_CIPHER);
        let skip = found.unwrap_or(self.buf.len().saturating_sub(CHANGE_CIPHER.len() - 1));
        _ = self.buf.split_to(skip);
        if found.is_some() {
            self.at = At::Record;
        }
        found.is_some()
    }

    /// The sequence numbers of all keys.
    pub(super) fn keys_seq(&self) -> [u64; 3] {
        let seq = |keys: &Option<Keys>| keys.as_ref().map_or(0, |keys| keys.seq);
        let [early, handshake, traffic] = &self.keys;
        [seq(early), seq(handshake), seq(traffic)]
    }

    /// How many records were stepped over to reach the one just opened.
    pub(super) fn missing(&self, before: [u64; 3], epoch: Epoch) -> u64 {
        let at = epoch as usize;
        let (Some(now), Some(before)) = (self.keys_seq().get(at).copied(), before.get(at).copied()) else { return 0 };
        now.saturating_sub(before + 1)
    }

    pub(super) fn open_next(&mut self, header: &[u8; 5], payload: &mut [u8]) -> Option<(Epoch, Opened)> {
        let epoch = self.epoch?;
        let keys = self.keys.get_mut(epoch as usize)?.as_mut()?;
        let opened = keys.cipher.open(keys.seq, header, payload)?;
        keys.seq += 1;
        (self.slack, self.failures) = (0, 0);
        Some((epoch, opened))
    }

    /// Tries every key that may be in use, with every sequence number that may be due.
    pub(super) fn open_any(
        &mut self,
        suite: Suite,
        header: &[u8; 5],
        payload: &mut [u8],
        trials: &mut u64,
    ) -> Option<(Epoch, Opened)> {
        let tries = self.slack.min(MAX_TRIALS);
        for epoch in EPOCHS {
            // Keys never go back, but the first of all may not be known.
            if self.epoch.is_some_and(|now| epoch < now) {
                continue;
            }
            let Some(Some(keys)) = self.keys.get_mut(epoch as usize) else { continue };
            for seq in keys.seq..=keys.seq.saturating_add(tries) {
                *trials += 1;
                if let Some(opened) = keys.cipher.open(seq, header, payload) {
                    keys.seq = seq + 1;
                    self.epoch = Some(epoch);
                    (self.slack, self.failures) = (0, 0);
                    return Some((epoch, opened));
                }
            }
        }
        // A key update may have been among what was lost.
        let mut next = self.keys[2].as_ref().filter(|_| suite.tls13 && self.slack > 0)?.updated(suite)?;
        for seq in 0..=tries {
            *trials += 1;
            if let Some(opened) = next.cipher.open(seq, header, payload) {
                next.seq = seq + 1;
                self.keys[2] = Some(next);
                self.epoch = Some(Epoch::Traffic);
                (self.slack, self.failures) = (0, 0);
                return Some((Epoch::Traffic, opened));
            }
        }
        None
    }

    /// `records` records of `len` bytes together are gone, and were counted.
    pub(super) fn missed(&mut self, records: u64, len: u64, (role, at): (usize, Nanos), out: &mut Vec<Piece>) {
        self.slack = self.slack.saturating_add(records);
        let keys = self.epoch.and_then(|epoch| self.keys.get_mut(epoch as usize)).and_then(Option::as_mut);
        if let Some(keys) = keys {
            keys.seq += records;
        }
        self.lost_plain(records, len, (role, at), out);
    }

    pub(super) fn lost_plain(&mut self, records: u64, len: u64, (role, at): (usize, Nanos), out: &mut Vec<Piece>) {
        let traffic = self.epoch == Some(Epoch::Traffic);
        let overhead = self.keys[2].as_ref().map_or(0, |keys| keys.cipher.overhead());
        let len = len.saturating_sub(records.saturating_mul(overhead));
        if !traffic || len == 0 {
            return;
        }
        if self.handed {
            out.push(Piece::Lost { role, at, len, cause: LossCause::PacketMissing });
        } else {
            self.missing_first += len;
        }
    }

    /// The first plaintext: what is missing before it. A server's session tickets use the traffic keys too: when the first
    /// bytes are clearly those that begin a stream, it was they that went missing, and no data.
    pub(super) fn begin(&mut self, role: usize, plain: &[u8]) -> u64 {
        self.handed = true;
        let missing = std::mem::take(&mut self.missing_first);
        let begins = match plain {
            // HTTP/2's first frame of a server is SETTINGS, on stream 0.
            [0, _, _, 4, 0, 0, 0, 0, 0, ..] => role == SERVER,
            _ => role == SERVER && plain.starts_with(b"HTTP/1."),
        };
        if begins { 0 } else { missing }
    }
}
