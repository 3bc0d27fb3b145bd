//! TLS 1.2's block ciphers: AES in CBC mode with an HMAC, over the plaintext (RFC 5246 section 6.2.3.2) or over the
//! ciphertext (RFC 7366).

use aes::cipher::{Block, BlockCipherDecrypt, KeyInit};
use aes::{Aes128, Aes256};
use hmac::{Hmac, Mac};
use sha1::Sha1;
use sha2::{Sha256, Sha384};

/// Length of a block and of the vector that begins each record.
const BLOCK: usize = 16;

/// The keys of one direction.
pub(super) struct Cbc {
    cipher: Aes,
    mac: MacKey,
    /// Whether the MAC is that of the ciphertext, and stands behind it.
    encrypt_then_mac: bool,
}

enum Aes {
    Aes128(Box<Aes128>),
    Aes256(Box<Aes256>),
}

/// What the records of a suite are authenticated with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum MacKind {
    Sha1,
    Sha256,
    Sha384,
}

enum MacKey {
    Sha1(Box<Hmac<Sha1>>),
    Sha256(Box<Hmac<Sha256>>),
    Sha384(Box<Hmac<Sha384>>),
}

impl MacKind {
    /// Length of the key and of the MAC, bytes.
    pub(super) fn len(self) -> usize {
        match self {
            MacKind::Sha1 => 20,
            MacKind::Sha256 => 32,
            MacKind::Sha384 => 48,
        }
    }
}

impl MacKey {
    fn new(kind: MacKind, key: &[u8]) -> Option<MacKey> {
        Some(match kind {
            MacKind::Sha1 => MacKey::Sha1(Box::new(KeyInit::new_from_slice(key).ok()?)),
            MacKind::Sha256 => MacKey::Sha256(Box::new(KeyInit::new_from_slice(key).ok()?)),
            MacKind::Sha384 => MacKey::Sha384(Box::new(KeyInit::new_from_slice(key).ok()?)),
        })
    }

    fn len(&self) -> usize {
        match self {
            MacKey::Sha1(_) => MacKind::Sha1.len(),
            MacKey::Sha256(_) => MacKind::Sha256.len(),
            MacKey::Sha384(_) => MacKind::Sha384.len(),
        }
    }

    fn proves(&self, parts: [&[u8]; 2], tag: &[u8]) -> bool {
        fn check<M: Mac + Clone>(mac: &M, parts: [&[u8]; 2], tag: &[u8]) -> bool {
            let mut mac = mac.clone();
            parts.iter().for_each(|part| mac.update(part));
            mac.verify_slice(tag).is_ok()
        }
        match self {
            MacKey::Sha1(mac) => check(&**mac, parts, tag),
            MacKey::Sha256(mac) => check(&**mac, parts, tag),
            MacKey::Sha384(mac) => check(&**mac, parts, tag),
        }
    }
}

impl Cbc {
    /// Keys of the lengths that the suite names (16 or 32 bytes; [`MacKind::len`]).
    pub(super) fn new(key: &[u8], kind: MacKind, mac_key: &[u8], encrypt_then_mac: bool) -> Option<Cbc> {
        let cipher = match key.len() {
            16 => Aes::Aes128(Box::new(Aes128::new_from_slice(key).ok()?)),
            _ => Aes::Aes256(Box::new(Aes256::new_from_slice(key).ok()?)),
        };
        Some(Cbc { cipher, mac: MacKey::new(kind, mac_key)?, encrypt_then_mac })
    }

    /// How many bytes a record is longer than its plaintext, its header included, to within half a block: the padding
    /// of a record that is gone is not known.
    pub(super) fn overhead(&self) -> u64 {
        (5 + BLOCK + self.mac.len() + BLOCK / 2) as u64
    }

    /// Opens a record's payload in place; gives where its plaintext is. Unchanged when the number or key is wrong.
    pub(super) fn open(&self, seq: u64, header: &[u8; 5], payload: &mut [u8]) -> Option<(usize, usize)> {
        if self.encrypt_then_mac {
            let (sealed, tag) = payload.split_at_mut_checked(payload.len().checked_sub(self.mac.len())?)?;
            if !self.mac.proves([&pseudo_header(seq, header, sealed.len())?, sealed], tag) {
                return None;
            }
            let plain = self.decrypt(sealed)?;
            let len = unpadded(&plain)?;
            sealed.get_mut(BLOCK..BLOCK + len)?.copy_from_slice(plain.get(..len)?);
            return Some((BLOCK, len));
        }
        let plain = self.decrypt(payload)?;
        let len = unpadded(&plain)?.checked_sub(self.mac.len())?;
        let (text, rest) = plain.split_at_checked(len)?;
        let tag = rest.get(..self.mac.len())?;
        if !self.mac.proves([&pseudo_header(seq, header, len)?, text], tag) {
            return None;
        }
        payload.get_mut(BLOCK..BLOCK + len)?.copy_from_slice(text);
        Some((BLOCK, len))
    }

    /// The plaintext with what is behind it, of a vector and the blocks that follow it.
    fn decrypt(&self, sealed: &[u8]) -> Option<Vec<u8>> {
        let (vectors, blocks) = (sealed.get(..sealed.len().checked_sub(BLOCK)?)?, sealed.get(BLOCK..)?);
        if blocks.is_empty() || !blocks.len().is_multiple_of(BLOCK) {
            return None;
        }
        let mut plain = blocks.to_vec();
        match &self.cipher {
            Aes::Aes128(cipher) => cipher.decrypt_blocks(as_blocks::<Aes128>(&mut plain)),
            Aes::Aes256(cipher) => cipher.decrypt_blocks(as_blocks::<Aes256>(&mut plain)),
        }
        plain.iter_mut().zip(vectors).for_each(|(byte, before)| *byte ^= before);
        Some(plain)
    }
}

fn as_blocks<C: BlockCipherDecrypt>(bytes: &mut [u8]) -> &mut [Block<C>] {
    Block::<C>::slice_as_chunks_mut(bytes).0
}

/// What is authenticated before the text: number, type, version, length.
fn pseudo_header(seq: u64, header: &[u8; 5], len: usize) -> Option<[u8; 13]> {
    let mut bytes = [0; 13];
    let (number, rest) = bytes.split_at_mut(8);
    let (kind, length) = rest.split_at_mut(3);
    number.copy_from_slice(&seq.to_be_bytes());
    kind.copy_from_slice(header.get(..3)?);
    length.copy_from_slice(&u16::try_from(len).ok()?.to_be_bytes());
    Some(bytes)
}

/// What is before the padding; `None` when it is none.
fn unpadded(plain: &[u8]) -> Option<usize> {
    let last = *plain.last()?;
    let len = plain.len().checked_sub(usize::from(last) + 1)?;
    plain.get(len..)?.iter().all(|&byte| byte == last).then_some(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_is_taken_off_only_when_it_is_whole() {
        assert_eq!(unpadded(b"text\x00"), Some(4));
        assert_eq!(unpadded(b"text\x02\x02\x02"), Some(4));
        assert_eq!(unpadded(b"\x01\x01"), Some(0));
        assert_eq!(unpadded(b"text\x01\x02\x02"), None);
        assert_eq!(unpadded(b"\x05\x05"), None);
        assert_eq!(unpadded(b""), None);
    }

    #[test]
    fn records_of_every_length_are_refused_and_left_alone_without_their_key() {
        for etm in [false, true] {
            let cbc = Cbc::new(&[7; 32], MacKind::Sha384, &[9; 48], etm).unwrap();
            for len in 0..200 {
                let mut payload = vec![0x5a; len];
                assert_eq!(cbc.open(0, &[0x17, 3, 3, 0, len as u8], &mut payload), None);
                assert_eq!(payload, vec![0x5a; len]);
            }
        }
    }
}
