//! Record protection: keys out of secrets (RFC 5246, 5288, 7905, 8446), and records opened with them.

use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes128Gcm, Aes256Gcm};
use chacha20poly1305::ChaCha20Poly1305;
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use sha2::{Sha256, Sha384};

use super::cbc::{Cbc, MacKind};

/// Length of an AEAD's tag; no record's payload is shorter.
pub(super) const TAG: usize = 16;

/// A cipher suite that can be opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Suite {
    kind: Kind,
    hash: Hash,
    /// Whether the suite is one of TLS 1.3.
    pub tls13: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Aes128Gcm,
    Aes256Gcm,
    ChaCha20Poly1305,
    Aes128Cbc(MacKind),
    Aes256Cbc(MacKind),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Hash {
    Sha256,
    Sha384,
}

impl Suite {
    /// The suite of a number of the IANA registry; `None` for one that cannot be opened.
    pub(super) fn of(id: u16) -> Option<Suite> {
        let (kind, hash) = match id {
            0x1301 => (Kind::Aes128Gcm, Hash::Sha256),
            0x1302 => (Kind::Aes256Gcm, Hash::Sha384),
            0x1303 => (Kind::ChaCha20Poly1305, Hash::Sha256),
            // RSA, DHE-RSA, ECDHE-ECDSA, ECDHE-RSA.
            0x009c | 0x009e | 0xc02b | 0xc02f => (Kind::Aes128Gcm, Hash::Sha256),
            0x009d | 0x009f | 0xc02c | 0xc030 => (Kind::Aes256Gcm, Hash::Sha384),
            0xcca8..=0xccaa => (Kind::ChaCha20Poly1305, Hash::Sha256),
            // RSA, DHE-DSS, DHE-RSA, ECDHE-ECDSA, ECDHE-RSA.
            0x002f | 0x0032 | 0x0033 | 0xc009 | 0xc013 => (Kind::Aes128Cbc(MacKind::Sha1), Hash::Sha256),
            0x0035 | 0x0038 | 0x0039 | 0xc00a | 0xc014 => (Kind::Aes256Cbc(MacKind::Sha1), Hash::Sha256),
            0x003c | 0x0040 | 0x0067 | 0xc023 | 0xc027 => (Kind::Aes128Cbc(MacKind::Sha256), Hash::Sha256),
            0x003d | 0x006a | 0x006b => (Kind::Aes256Cbc(MacKind::Sha256), Hash::Sha256),
            0xc024 | 0xc028 => (Kind::Aes256Cbc(MacKind::Sha384), Hash::Sha384),
            _ => return None,
        };
        Some(Suite { kind, hash, tls13: id >> 8 == 0x13 })
    }

    fn key_len(self) -> usize {
        if matches!(self.kind, Kind::Aes128Gcm | Kind::Aes128Cbc(_)) { 16 } else { 32 }
    }

    /// TLS 1.3's next traffic secret (RFC 8446 section 7.2).
    pub(super) fn updated(self, secret: &[u8]) -> Option<Box<[u8]>> {
        let mut next = vec![0; secret.len()];
        self.expand_label(secret, b"traffic upd", &mut next)?;
        Some(next.into())
    }

    /// TLS 1.3's HKDF-Expand-Label with an empty context.
    fn expand_label(self, secret: &[u8], label: &[u8], out: &mut [u8]) -> Option<()> {
        let mut info = (out.len() as u16).to_be_bytes().to_vec();
        info.push(6 + label.len() as u8);
        info.extend_from_slice(b"tls13 ");
        info.extend_from_slice(label);
        info.push(0);
        match self.hash {
            Hash::Sha256 => Hkdf::<Sha256>::from_prk(secret).ok()?.expand(&info, out).ok(),
            Hash::Sha384 => Hkdf::<Sha384>::from_prk(secret).ok()?.expand(&info, out).ok(),
        }
    }

    /// The cipher of a TLS 1.3 traffic secret.
    pub(super) fn cipher13(self, secret: &[u8]) -> Option<Cipher> {
        let (mut key, mut iv) = ([0; 32], [0; 12]);
        let key = key.get_mut(..self.key_len())?;
        self.expand_label(secret, b"key", key)?;
        self.expand_label(secret, b"iv", &mut iv)?;
        Some(Cipher::Aead(Keyed { aead: Aead::new(self.kind, key)?, iv, format: Format::Tls13 }))
    }

    /// The client's and the server's cipher of a TLS 1.2 master secret; `randoms` are those of their hellos.
    pub(super) fn ciphers12(
        self,
        master: &[u8],
        [client, server]: [&[u8; 32]; 2],
        encrypt_then_mac: bool,
    ) -> Option<[Cipher; 2]> {
        let (mac_len, iv_len) = match self.kind {
            Kind::Aes128Gcm | Kind::Aes256Gcm => (0, 4),
            Kind::ChaCha20Poly1305 => (0, 12),
            Kind::Aes128Cbc(mac) | Kind::Aes256Cbc(mac) => (mac.len(), 0),
        };
        let key_len = self.key_len();
        let seed = [&b"key expansion"[..], server, client].concat();
        let block = match self.hash {
            Hash::Sha256 => prf::<Hmac<Sha256>>(master, &seed, 2 * (mac_len + key_len + iv_len)),
            Hash::Sha384 => prf::<Hmac<Sha384>>(master, &seed, 2 * (mac_len + key_len + iv_len)),
        }?;
        let (macs, rest) = block.split_at_checked(2 * mac_len)?;
        let (keys, ivs) = rest.split_at_checked(2 * key_len)?;
        let cipher = |role: usize| {
            let part = |block: &'_ [u8], len: usize| Some(block.get(role * len..(role + 1) * len)?.to_vec());
            let (mac, key, salt) = (part(macs, mac_len)?, part(keys, key_len)?, part(ivs, iv_len)?);
            let format = match self.kind {
                Kind::Aes128Cbc(kind) | Kind::Aes256Cbc(kind) => {
                    return Some(Cipher::Cbc(Cbc::new(&key, kind, &mac, encrypt_then_mac)?));
                }
                Kind::ChaCha20Poly1305 => Format::ChaCha12,
                Kind::Aes128Gcm | Kind::Aes256Gcm => Format::Gcm12,
            };
            let mut iv = [0; 12];
            iv.get_mut(..iv_len)?.copy_from_slice(&salt);
            Some(Cipher::Aead(Keyed { aead: Aead::new(self.kind, &key)?, iv, format }))
        };
        Some([cipher(0)?, cipher(1)?])
    }
}

/// P_hash of RFC 5246 section 5, where the seed already begins with the label.
fn prf<M: Mac + KeyInit>(secret: &[u8], seed: &[u8], len: usize) -> Option<Vec<u8>> {
    let hmac = |parts: &[&[u8]]| {
        let mut mac = <M as KeyInit>::new_from_slice(secret).ok()?;
        parts.iter().for_each(|part| mac.update(part));
        Some(mac.finalize().into_bytes())
    };
    let mut out = Vec::with_capacity(len + 48);
    let mut a = hmac(&[seed])?;
    while out.len() < len {
        out.extend_from_slice(&hmac(&[&a, seed])?);
        a = hmac(&[&a])?;
    }
    out.truncate(len);
    Some(out)
}

enum Aead {
    Aes128Gcm(Box<Aes128Gcm>),
    Aes256Gcm(Box<Aes256Gcm>),
    ChaCha20Poly1305(Box<ChaCha20Poly1305>),
}

impl Aead {
    fn new(kind: Kind, key: &[u8]) -> Option<Aead> {
        Some(match kind {
            Kind::Aes128Gcm => Aead::Aes128Gcm(Box::new(Aes128Gcm::new_from_slice(key).ok()?)),
            Kind::Aes256Gcm => Aead::Aes256Gcm(Box::new(Aes256Gcm::new_from_slice(key).ok()?)),
            Kind::ChaCha20Poly1305 => Aead::ChaCha20Poly1305(Box::new(ChaCha20Poly1305::new_from_slice(key).ok()?)),
            Kind::Aes128Cbc(_) | Kind::Aes256Cbc(_) => return None,
        })
    }

    /// Opens in place; the buffer is unchanged when the tag is wrong.
    fn open(&self, nonce: &[u8; 12], aad: &[u8], buffer: &mut [u8], tag: &[u8; TAG]) -> bool {
        let (nonce, tag) = (nonce.into(), tag.into());
        match self {
            Aead::Aes128Gcm(aead) => aead.decrypt_inout_detached(nonce, aad, buffer.into(), tag),
            Aead::Aes256Gcm(aead) => aead.decrypt_inout_detached(nonce, aad, buffer.into(), tag),
            Aead::ChaCha20Poly1305(aead) => aead.decrypt_inout_detached(nonce, aad, buffer.into(), tag),
        }
        .is_ok()
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Format {
    Tls13,
    Gcm12,
    ChaCha12,
}

/// The keys of one direction.
pub(super) enum Cipher {
    Aead(Keyed),
    Cbc(Cbc),
}

/// An AEAD and how records use it.
pub(super) struct Keyed {
    aead: Aead,
    iv: [u8; 12],
    format: Format,
}

/// What was inside a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Opened {
    /// The content type.
    pub kind: u8,
    /// Where the plaintext begins in the record's payload, and its length.
    pub start: usize,
    pub len: usize,
}

impl Cipher {
    /// How many bytes a record is longer than its plaintext, its header included.
    pub(super) fn overhead(&self) -> u64 {
        match self {
            Cipher::Aead(keyed) => keyed.overhead(),
            Cipher::Cbc(cbc) => cbc.overhead(),
        }
    }

    /// Opens a record's payload in place, with the sequence number it may have. Unchanged when the number or key is wrong.
    pub(super) fn open(&self, seq: u64, header: &[u8; 5], payload: &mut [u8]) -> Option<Opened> {
        match self {
            Cipher::Aead(keyed) => keyed.open(seq, header, payload),
            Cipher::Cbc(cbc) => {
                cbc.open(seq, header, payload).map(|(start, len)| Opened { kind: header[0], start, len })
            }
        }
    }
}

impl Keyed {
    fn overhead(&self) -> u64 {
        match self.format {
            Format::Tls13 => 5 + 1 + TAG as u64,
            Format::Gcm12 => 5 + 8 + TAG as u64,
            Format::ChaCha12 => 5 + TAG as u64,
        }
    }

    fn open(&self, seq: u64, header: &[u8; 5], payload: &mut [u8]) -> Option<Opened> {
        let explicit = if self.format == Format::Gcm12 { 8 } else { 0 };
        let (body, tag) = payload.split_at_mut_checked(payload.len().checked_sub(TAG)?)?;
        let tag: &[u8; TAG] = (&*tag).try_into().ok()?;
        let (nonce_part, text) = body.split_at_mut_checked(explicit)?;
        let mut nonce = self.iv;
        if explicit != 0 {
            nonce.get_mut(4..)?.copy_from_slice(nonce_part);
        } else {
            nonce.iter_mut().skip(4).zip(seq.to_be_bytes()).for_each(|(byte, number)| *byte ^= number);
        }
        let opened = if self.format == Format::Tls13 {
            self.aead.open(&nonce, header, text, tag)
        } else {
            let mut aad = [0; 13];
            aad.get_mut(..8)?.copy_from_slice(&seq.to_be_bytes());
            aad.get_mut(8..11)?.copy_from_slice(header.get(..3)?);
            aad.get_mut(11..)?.copy_from_slice(&(text.len() as u16).to_be_bytes());
            self.aead.open(&nonce, &aad, text, tag)
        };
        if !opened {
            return None;
        }
        if self.format != Format::Tls13 {
            return Some(Opened { kind: header[0], start: explicit, len: text.len() });
        }
        // TLSInnerPlaintext: content, type, zeros.
        let end = text.iter().rposition(|&byte| byte != 0)?;
        Some(Opened { kind: *text.get(end)?, start: 0, len: end })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let hex: String = hex.split_whitespace().collect();
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    /// RFC 8448 section 3: server_application_traffic_secret_0 and the record that the server sends with it.
    #[test]
    fn the_record_of_rfc_8448_is_opened() {
        let secret =
            bytes("a1 1a f9 f0 55 31 f8 56 ad 47 11 6b 45 a9 50 32 82 04 b4 f4 4b fb 6b 3a 4b 4f 1f 3f cb 63 16 43");
        let cipher = Suite::of(0x1301).unwrap().cipher13(&secret).unwrap();
        let Cipher::Aead(Keyed { iv, .. }) = cipher else { panic!("not an AEAD") };
        assert_eq!(iv.to_vec(), bytes("cf 78 2b 88 dd 83 54 9a ad f1 e9 84"));
    }

    /// The PRF's test vector of the IETF's TLS list for SHA-256.
    #[test]
    fn the_prf_of_tls_12_is_right() {
        let secret = bytes("9b be 43 6b a9 40 f0 17 b1 76 52 84 9a 71 db 35");
        let seed = [&b"test label"[..], &bytes("a0 ba 9f 93 6c da 31 18 27 a6 f7 96 ff d5 19 8c")].concat();
        let out = prf::<Hmac<Sha256>>(&secret, &seed, 32).unwrap();
        assert_eq!(
            out,
            bytes("e3 f2 29 ba 72 7b e1 7b 8d 12 26 20 55 7c d4 53 c2 aa b2 1d 07 c3 d4 95 32 9b 52 d4 e6 1e db 5a")
        );
    }
}
