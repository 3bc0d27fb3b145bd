//! One TLS connection: records in, plaintext out.
//!
//! A hole in the ciphertext costs the records that it touched. The next record boundary is where a record opens: the tag
//! proves it, and the sequence number with which it opens says how many records went missing, and so how much plaintext.

use bytes::{Bytes, BytesMut};

use super::cipher::{Opened, Suite, TAG};
use super::half::{At, EPOCHS, Epoch, Half, Keys};
use super::handshake::{ClientHello, Message, ServerHello, message};
use super::keylog::{KeyLog, Secret, Secrets};
use crate::event::{LossCause, Nanos};

/// A record's payload is never longer (RFC 5246 section 6.2.3).
const MAX_RECORD: usize = (1 << 14) + 2048;
/// No handshake message that matters is longer.
const MAX_MESSAGE: usize = 1 << 17;
/// What may wait for keys, or for the server's word on early data.
const MAX_WAITING: usize = 1 << 18;
/// Sequence numbers tried in the life of a connection.
const MAX_ALL_TRIALS: u64 = 200_000;
/// Records in a row that do not open, after which the keys are taken to be the wrong ones.
const MAX_FAILURES: u32 = 8;

/// Client and server, as indices.
pub(super) const CLIENT: usize = 0;
pub(super) const SERVER: usize = 1;

/// What a push gives, in order.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// Plaintext of the client (0) or the server (1).
    Data { role: usize, at: Nanos, bytes: Bytes },
    /// Plaintext that is missing, bytes.
    Lost { role: usize, at: Nanos, len: u64, cause: LossCause },
}

/// Why a connection stays closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Shut {
    /// No secret of it was logged.
    NoKeys,
    /// A cipher suite or version that is not opened here.
    Unsupported,
    /// Its handshake was not seen, or not whole.
    NoHandshake,
    /// Records do not open with the keys.
    WrongKeys,
}

impl Shut {
    /// For people.
    pub(crate) fn sentence(self) -> &'static str {
        match self {
            Shut::NoKeys => "its keys are not in a key log",
            Shut::Unsupported => "its cipher suite or version cannot be opened",
            Shut::NoHandshake => "its handshake was not captured whole",
            Shut::WrongKeys => "its records do not open with the logged keys",
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum EarlyData {
    NotOffered,
    Undecided,
    Accepted,
    Rejected,
}

/// One TLS connection.
pub(crate) struct Session {
    hello: Option<ClientHello>,
    server: Option<ServerHello>,
    suite: Option<Suite>,
    master: Option<Secret>,
    early: EarlyData,
    halves: [Half; 2],
    trials: u64,
    opened: bool,
    shut: Option<Shut>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("opened", &self.opened).field("shut", &self.shut).finish_non_exhaustive()
    }
}

impl Session {
    /// A connection whose first bytes come next.
    pub(crate) fn new() -> Session {
        Session {
            hello: None,
            server: None,
            suite: None,
            master: None,
            early: EarlyData::NotOffered,
            halves: Default::default(),
            trials: 0,
            opened: false,
            shut: None,
        }
    }

    /// The name that the client asked for.
    pub(crate) fn server_name(&self) -> Option<&str> {
        self.hello.as_ref()?.server_name.as_deref()
    }

    /// Why nothing (more) comes out; `None` while it may.
    pub(crate) fn shut(&self) -> Option<Shut> {
        self.shut
    }

    /// Whether any record was opened.
    pub(crate) fn has_opened(&self) -> bool {
        self.opened
    }

    /// Takes ciphertext of the client (0) or the server (1).
    pub(crate) fn push(&mut self, role: usize, at: Nanos, bytes: &[u8], log: &mut KeyLog, out: &mut Vec<Piece>) {
        if self.shut.is_some() {
            return self.dropped(role, at, bytes.len() as u64, out);
        }
        let Some(half) = self.halves.get_mut(role) else { return };
        half.buf.extend_from_slice(bytes);
        self.read(role, at, log, out);
        if self.shut.is_some() {
            self.halves.iter_mut().for_each(|half| *half = Half::default());
        }
    }

    /// Tries what waited for keys once more: the connection ends.
    pub(crate) fn end(&mut self, at: Nanos, log: &mut KeyLog, out: &mut Vec<Piece>) {
        self.read(SERVER, at, log, out);
        self.read(CLIENT, at, log, out);
        if !self.opened {
            let why = if self.server.is_some() { Shut::NoKeys } else { Shut::NoHandshake };
            self.shut = self.shut.or(Some(why));
        }
    }

    /// Takes note of ciphertext that is missing.
    pub(crate) fn lost(&mut self, role: usize, at: Nanos, len: u64, out: &mut Vec<Piece>) {
        if self.shut.is_some() {
            return self.dropped(role, at, len, out);
        }
        let Some(half) = self.halves.get_mut(role) else { return };
        if half.epoch.is_none() && self.suite.is_none_or(|suite| suite.tls13) {
            // Without the hellos there is nothing to be had. TLS 1.2's certificates, which follow them, are not needed.
            self.shut = Some(Shut::NoHandshake);
            return;
        }
        half.partial.clear();
        let have = half.buf.len() as u64;
        let whole = half.header().map(|header| 5 + u64::from(u16::from_be_bytes([header[3], header[4]])));
        half.buf.clear();
        half.at = match (half.at, whole) {
            (At::Record, Some(whole)) if have + len <= whole => At::Damaged { left: whole - have - len, whole },
            (At::Record, _) => At::Somewhere { gone: have + len },
            (At::Damaged { left, whole }, _) if len <= left => At::Damaged { left: left - len, whole },
            (At::Damaged { left, whole }, _) => At::Somewhere { gone: whole - left + len },
            (At::Somewhere { gone }, _) => At::Somewhere { gone: gone + have + len },
        };
    }

    /// Bytes of a connection that does not open any more: said to be lost once something was handed on.
    fn dropped(&self, role: usize, at: Nanos, len: u64, out: &mut Vec<Piece>) {
        if self.opened && len > 0 {
            out.push(Piece::Lost { role, at, len, cause: LossCause::Bound });
        }
    }

    fn read(&mut self, role: usize, at: Nanos, log: &mut KeyLog, out: &mut Vec<Piece>) {
        while self.shut.is_none() {
            let Some(half) = self.halves.get_mut(role) else { return };
            match half.at {
                At::Damaged { left, whole } => {
                    let skip = left.min(half.buf.len() as u64);
                    _ = half.buf.split_to(skip as usize);
                    if skip < left {
                        half.at = At::Damaged { left: left - skip, whole };
                        return;
                    }
                    half.at = At::Record;
                    half.missed(1, whole, (role, at), out);
                }
                At::Somewhere { gone } => {
                    if !self.resync(role, at, gone, log, out) {
                        return;
                    }
                }
                At::Record => {
                    let Some(header) = half.header() else { return };
                    let len = usize::from(u16::from_be_bytes([header[3], header[4]]));
                    if !matches!(header[0], 0x14..=0x18) || header[1] != 3 || len > MAX_RECORD {
                        self.shut = Some(if half.epoch.is_some() { Shut::WrongKeys } else { Shut::NoHandshake });
                        return;
                    }
                    if half.buf.len() < 5 + len || self.waits(role, header[0], log) {
                        return;
                    }
                    let Some(half) = self.halves.get_mut(role) else { return };
                    let mut payload = half.buf.split_to(5 + len).split_off(5);
                    self.record(role, at, &header, &mut payload, log, out);
                    if role == SERVER {
                        // What the server said may be what the client's early data waited for.
                        self.read(CLIENT, at, log, out);
                    }
                }
            }
        }
    }

    /// Whether a record has to wait: early data for its acceptance, any other for keys that are about to be logged.
    fn waits(&mut self, role: usize, kind: u8, log: &mut KeyLog) -> bool {
        let Some(half) = self.halves.get(role) else { return false };
        let (too_much, epoch) = (half.buf.len() > MAX_WAITING, half.epoch);
        if role == CLIENT && kind == 0x17 && self.early == EarlyData::Undecided {
            if too_much || self.halves[SERVER].epoch == Some(Epoch::Traffic) {
                self.early = EarlyData::Accepted;
            }
            return self.early == EarlyData::Undecided;
        }
        if !log.is_growing() || too_much {
            return false;
        }
        if kind == 0x14 && self.is_tls12() && self.master.is_none() {
            let random = self.hello.as_ref().map(|hello| hello.random);
            return random.is_some_and(|random| log.secrets(&random).is_none());
        }
        let missing = |half: &Half| epoch.is_some_and(|epoch| half.keys[epoch as usize].is_none());
        if kind == 0x17 && missing(half) {
            self.load(log);
            return missing(&self.halves[role]);
        }
        false
    }

    fn record(
        &mut self,
        role: usize,
        at: Nanos,
        header: &[u8; 5],
        payload: &mut BytesMut,
        log: &mut KeyLog,
        out: &mut Vec<Piece>,
    ) {
        let Some(half) = self.halves.get_mut(role) else { return };
        let tls13 = self.suite.is_some_and(|suite| suite.tls13);
        match header[0] {
            0x14 => {
                // Between hellos, and in TLS 1.3, it means nothing.
                if !tls13 && self.server.is_some() {
                    self.change_cipher(role, log);
                }
                return;
            }
            // In the clear: hellos (a second one after a retry), TLS 1.2 before its keys change.
            0x16 if half.epoch.is_none() || tls13 => return self.messages(role, payload, log),
            0x15 if half.epoch.is_none() => return,
            _ if half.epoch.is_none() => {
                // Early data that a retry refused is nobody's; anything else has no beginning.
                if self.early == EarlyData::NotOffered {
                    self.shut = Some(Shut::NoHandshake);
                }
                return;
            }
            _ => {}
        }
        let Some((epoch, opened)) = self.open(role, header, payload, log) else {
            let Some(half) = self.halves.get_mut(role) else { return };
            if half.keys.iter().all(Option::is_none) {
                self.shut = Some(Shut::NoKeys);
                return;
            }
            half.failures += 1;
            half.missed(1, 5 + payload.len() as u64, (role, at), out);
            if half.failures >= MAX_FAILURES {
                self.shut = Some(Shut::WrongKeys);
            }
            return;
        };
        let plain = payload.split_off(opened.start);
        self.plaintext(role, at, epoch, opened.kind, plain, opened.len, log, out);
    }

    #[expect(clippy::too_many_arguments, reason = "one record, taken apart")]
    fn plaintext(
        &mut self,
        role: usize,
        at: Nanos,
        epoch: Epoch,
        kind: u8,
        mut plain: BytesMut,
        len: usize,
        log: &mut KeyLog,
        out: &mut Vec<Piece>,
    ) {
        plain.truncate(len);
        self.opened = true;
        match kind {
            0x17 if plain.is_empty() || (epoch == Epoch::Early && self.early == EarlyData::Rejected) => {}
            0x17 => {
                let half = self.halves.get_mut(role);
                let missing = half.map_or(0, |half| half.begin(role, &plain));
                if missing > 0 {
                    out.push(Piece::Lost { role, at, len: missing, cause: LossCause::PacketMissing });
                }
                out.push(Piece::Data { role, at, bytes: plain.freeze() });
            }
            0x16 => self.messages(role, &plain, log),
            _ => {}
        }
    }

    /// Opens a record with the keys that are due, or else with those that may be after a hole.
    fn open(&mut self, role: usize, header: &[u8; 5], payload: &mut [u8], log: &mut KeyLog) -> Option<(Epoch, Opened)> {
        if payload.len() < TAG {
            return None;
        }
        let suite = self.suite?;
        let half = self.halves.get_mut(role)?;
        let opened = half.open_next(header, payload);
        if let Some(opened) = opened {
            return Some(opened);
        }
        if self.trials > MAX_ALL_TRIALS {
            return None;
        }
        if half.keys.iter().skip(1).any(Option::is_none) && suite.tls13 {
            // Secrets that were logged later than the handshake was captured.
            self.load(log);
        }
        let half = self.halves.get_mut(role)?;
        half.open_any(suite, header, payload, &mut self.trials)
    }

    /// Looks for the next record that opens.
    fn resync(&mut self, role: usize, at: Nanos, gone: u64, log: &mut KeyLog, out: &mut Vec<Piece>) -> bool {
        let Some(half) = self.halves.get_mut(role) else { return false };
        let Some(suite) = self.suite else { return false };
        if half.epoch.is_none() {
            return half.find_change_cipher();
        }
        half.slack = (gone + half.buf.len() as u64) / (5 + TAG as u64) + 1;
        let mut start = 0;
        while let Some(candidate) = half.buf.get(start..) {
            let Some(header) = candidate.first_chunk::<5>() else { break };
            let len = usize::from(u16::from_be_bytes([header[3], header[4]]));
            let plausible = matches!(header[0], 0x15..=0x17) && header[1] == 3 && header[2] == 3;
            if !plausible || !(TAG..=MAX_RECORD).contains(&len) {
                start += 1;
                continue;
            }
            let header = *header;
            let Some(mut payload) = candidate.get(5..5 + len).map(BytesMut::from) else {
                start += 1;
                continue;
            };
            let (before, began) = (half.keys_seq(), half.epoch == Some(Epoch::Traffic));
            if let Some((epoch, opened)) = half.open_any(suite, &header, &mut payload, &mut self.trials) {
                let missed = half.missing(before, epoch);
                _ = half.buf.split_to(start + 5 + len);
                half.at = At::Record;
                // The first record of all with these keys: what is gone was handshake.
                if began || missed > 0 {
                    half.lost_plain(missed, gone + start as u64, (role, at), out);
                }
                let plain = payload.split_off(opened.start);
                self.plaintext(role, at, epoch, opened.kind, plain, opened.len, log, out);
                return true;
            }
            start += 1;
        }
        // Nothing before the last record's length can begin a record that is not whole yet.
        let keep = half.buf.len().min(2 * (MAX_RECORD + 5));
        let drop = half.buf.len() - keep;
        _ = half.buf.split_to(drop);
        half.at = At::Somewhere { gone: gone + drop as u64 };
        if self.trials > MAX_ALL_TRIALS {
            self.shut = Some(Shut::WrongKeys);
        }
        false
    }

    /// TLS 1.2: from here on a direction is encrypted.
    fn change_cipher(&mut self, role: usize, log: &mut KeyLog) {
        let (Some(hello), Some(server)) = (&self.hello, &self.server) else {
            self.shut = Some(Shut::NoHandshake);
            return;
        };
        let Some(suite) = self.suite else {
            self.shut = Some(Shut::Unsupported);
            return;
        };
        if self.master.is_none() {
            let logged = log.secrets(&hello.random).and_then(|secrets| secrets.master.clone());
            let resumed = || {
                let same = hello.session_id == server.session_id;
                log_resumed(log, same.then_some(&*server.session_id), &hello.ticket)
            };
            self.master = logged.or_else(resumed);
            if let Some(master) = &self.master {
                log.remember(&server.session_id, master);
            }
        }
        let Some(master) = &self.master else {
            self.shut = Some(Shut::NoKeys);
            return;
        };
        let ciphers = suite.ciphers12(master, [&hello.random, &server.random], server.encrypt_then_mac);
        let cipher = ciphers.and_then(|ciphers| ciphers.into_iter().nth(role));
        let (Some(cipher), Some(half)) = (cipher, self.halves.get_mut(role)) else { return };
        half.keys[2] = Some(Keys { cipher, seq: 0, secret: None });
        half.epoch = Some(Epoch::Traffic);
        half.partial.clear();
    }

    /// Handshake messages, which may be spread over records.
    fn messages(&mut self, role: usize, bytes: &[u8], log: &mut KeyLog) {
        let Some(half) = self.halves.get_mut(role) else { return };
        half.partial.extend_from_slice(bytes);
        let mut rest = std::mem::take(&mut half.partial);
        while let Some(head) = rest.first_chunk::<4>() {
            let len = u32::from_be_bytes([0, head[1], head[2], head[3]]) as usize;
            if len > MAX_MESSAGE {
                rest.clear();
                break;
            }
            let Some(body) = rest.get(4..4 + len) else { break };
            let message = message(head[0], body);
            rest.drain(..4 + len);
            self.message(role, message, log);
        }
        if let Some(half) = self.halves.get_mut(role) {
            half.partial = rest;
        }
    }

    fn message(&mut self, role: usize, message: Message, log: &mut KeyLog) {
        match (role, message) {
            (CLIENT, Message::ClientHello(hello)) => {
                let again = self.hello.is_some();
                if hello.early_data && !again {
                    self.early = EarlyData::Undecided;
                }
                self.hello = Some(hello);
            }
            (SERVER, Message::HelloRetryRequest) if self.early == EarlyData::Undecided => {
                self.early = EarlyData::Rejected;
            }
            (SERVER, Message::ServerHello(server)) => self.server_hello(server, log),
            (SERVER, Message::EncryptedExtensions { early_data }) if self.early == EarlyData::Undecided => {
                self.early = if early_data { EarlyData::Accepted } else { EarlyData::Rejected };
            }
            (SERVER, Message::NewSessionTicket(ticket)) => {
                let random = self.hello.as_ref().map(|hello| hello.random);
                let logged = random.and_then(|random| log.secrets(&random)?.master.clone());
                if let Some(master) = self.master.clone().or(logged).filter(|_| self.is_tls12()) {
                    log.remember(&ticket, &master);
                }
            }
            (CLIENT, Message::EndOfEarlyData) => self.switch(role, Epoch::Handshake),
            (_, Message::Finished) if !self.is_tls12() => self.switch(role, Epoch::Traffic),
            (_, Message::KeyUpdate) => self.update(role),
            _ => {}
        }
    }

    fn is_tls12(&self) -> bool {
        self.suite.is_some_and(|suite| !suite.tls13)
    }

    fn server_hello(&mut self, server: ServerHello, log: &mut KeyLog) {
        // Older versions say so in `version`; their block ciphers have the same numbers.
        let fits = |suite: &Suite| suite.tls13 == server.tls13 && server.version == 0x0303;
        self.suite = Suite::of(server.suite).filter(fits);
        let tls13 = server.tls13;
        self.server = Some(server);
        if self.suite.is_none() {
            self.shut = Some(Shut::Unsupported);
        } else if tls13 {
            self.load(log);
            let known = self.halves.iter().any(|half| half.keys.iter().any(Option::is_some));
            self.shut = if known || log.is_growing() { None } else { Some(Shut::NoKeys) };
            self.switch(SERVER, Epoch::Handshake);
            let offered = self.early != EarlyData::NotOffered;
            self.switch(CLIENT, if offered { Epoch::Early } else { Epoch::Handshake });
        }
    }

    /// TLS 1.3: makes the ciphers whose secrets are logged by now.
    fn load(&mut self, log: &mut KeyLog) {
        let (Some(hello), Some(suite)) = (&self.hello, self.suite) else { return };
        let secrets = if log.secrets(&hello.random).is_some() { log.refresh(&hello.random) } else { None };
        let Some(secrets) = secrets else { return };
        for (role, half) in self.halves.iter_mut().enumerate() {
            for (epoch, keys) in EPOCHS.into_iter().zip(&mut half.keys) {
                let secret = secret(secrets, role, epoch);
                if keys.is_none()
                    && let Some(secret) = secret
                    && let Some(cipher) = suite.cipher13(secret)
                {
                    *keys = Some(Keys { cipher, seq: 0, secret: Some(secret.clone()) });
                }
            }
        }
    }

    fn switch(&mut self, role: usize, epoch: Epoch) {
        if let Some(half) = self.halves.get_mut(role) {
            half.epoch = Some(epoch);
        }
    }

    fn update(&mut self, role: usize) {
        let (Some(half), Some(suite)) = (self.halves.get_mut(role), self.suite.filter(|suite| suite.tls13)) else {
            return;
        };
        if let Some(next) = half.keys[2].as_ref().and_then(|keys| keys.updated(suite)) {
            half.keys[2] = Some(next);
        }
    }
}

fn log_resumed(log: &KeyLog, session_id: Option<&[u8]>, ticket: &[u8]) -> Option<Secret> {
    session_id.and_then(|id| log.resumed(id)).or_else(|| log.resumed(ticket))
}

fn secret(secrets: &Secrets, role: usize, epoch: Epoch) -> Option<&Secret> {
    match (role, epoch) {
        (CLIENT, Epoch::Early) => secrets.early.as_ref(),
        (CLIENT, Epoch::Handshake) => secrets.client_handshake.as_ref(),
        (CLIENT, Epoch::Traffic) => secrets.client_traffic.as_ref(),
        (_, Epoch::Early) => None,
        (_, Epoch::Handshake) => secrets.server_handshake.as_ref(),
        (_, Epoch::Traffic) => secrets.server_traffic.as_ref(),
    }
}
