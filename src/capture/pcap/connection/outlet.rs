//! What leaves a connection: which kind it is, TLS opened on the way, events with the stream's own offsets, and what can be
//! said of a connection that stays closed.

use std::net::SocketAddr;

use bytes::Bytes;

use super::{Connection, Context, Side};
use crate::capture::Encrypted;
use crate::capture::pcap::classify::{self, Verdict};
use crate::capture::pcap::link::{FIN, RST, Segment};
use crate::capture::pcap::stream::Stream;
use crate::capture::pcap::tls::{Piece, Session, Shut};
use crate::event::{
    Close, CloseHow, Confidence, ConnId, Data, Direction, Endpoint, Endpoints, Event, LossCause, Lost, Nanos, Open,
    Transport,
};

/// An encrypted connection without keys, as far as it can be told.
#[derive(Debug)]
pub(super) struct Sealed {
    server_name: Option<String>,
    why: Shut,
    bytes: [u64; 2],
    /// The sequence number after the highest one seen.
    ends: [Option<u32>; 2],
}

impl Connection {
    /// Bytes of the stream, in order.
    pub(super) fn bytes(&mut self, from: Side, at: Nanos, bytes: Bytes, cx: &mut Context<'_>) {
        if self.verdict == Verdict::Ignored {
            return self.count_sealed(from, bytes.len() as u64);
        }
        let role = self.role(from);
        let Some(session) = &mut self.tls else { return self.emit(from, at, bytes, cx) };
        let mut pieces = Vec::new();
        session.push(role, at, &bytes, cx.keys, &mut pieces);
        self.count_sealed(from, bytes.len() as u64);
        self.pieces(pieces, cx);
        self.seal(cx);
    }

    /// 0 for the client, 1 for the server.
    fn role(&self, from: Side) -> usize {
        usize::from(self.initiator != Some(from))
    }

    pub(super) fn pieces(&mut self, pieces: Vec<Piece>, cx: &mut Context<'_>) {
        let client = self.initiator.unwrap_or(0);
        let side = |role: usize| if role == 0 { client } else { 1 - client };
        for piece in pieces {
            match piece {
                Piece::Data { role, at, bytes } => self.emit(side(role), at, bytes, cx),
                Piece::Lost { role, at, len, cause } => self.hole(side(role), len, cause, at, cx),
            }
        }
    }

    /// Gives a TLS connection up that cannot be opened.
    pub(super) fn seal(&mut self, cx: &mut Context<'_>) {
        let Some(session) = self.tls.take_if(|session| session.shut().is_some() && !session.has_opened()) else {
            return;
        };
        let why = session.shut().unwrap_or(Shut::NoKeys);
        self.sealed = Some(Box::new(Sealed {
            server_name: session.server_name().map(str::to_owned),
            why,
            bytes: self.handed,
            ends: self.sides.each_ref().map(Stream::end_of_data),
        }));
        cx.counts.encrypted += 1;
        self.ignore();
    }

    fn ignore(&mut self) {
        self.verdict = Verdict::Ignored;
        self.sides.iter_mut().for_each(Stream::clear);
    }

    fn count_sealed(&mut self, from: Side, len: u64) {
        if self.id.is_none() && self.tls.is_some() {
            // Nothing was handed on yet: until then this counts ciphertext.
            self.handed[from] += len;
        }
    }

    fn emit(&mut self, from: Side, at: Nanos, bytes: Bytes, cx: &mut Context<'_>) {
        let (conn, direction, at) = (self.open(cx), self.direction(from), self.clock(at));
        let offset = self.handed[from];
        self.handed[from] += bytes.len() as u64;
        cx.counts.data_bytes += bytes.len() as u64;
        cx.out.push(Event::Data(Data { conn, at, direction, offset, bytes }));
    }

    fn hole(&mut self, from: Side, len: u64, cause: LossCause, at: Nanos, cx: &mut Context<'_>) {
        match cause {
            LossCause::Snapped => cx.counts.snapped_bytes += len,
            _ => cx.counts.lost_bytes += len,
        }
        let (conn, direction, at) = (self.open(cx), self.direction(from), self.clock(at));
        let offset = self.handed[from];
        self.handed[from] += len;
        cx.out.push(Event::Lost(Lost { conn, at, direction, offset, len, cause }));
    }

    pub(super) fn lost(&mut self, from: Side, len: u64, cause: LossCause, at: Nanos, cx: &mut Context<'_>) {
        match self.verdict {
            Verdict::Ignored => return,
            Verdict::Undecided => {
                let before = self.missed[from].map_or(0, |(before, _)| before);
                self.missed[from] = Some((before + len, cause));
                return;
            }
            _ => {}
        }
        let role = self.role(from);
        let Some(session) = &mut self.tls else { return self.hole(from, len, cause, at, cx) };
        let mut pieces = Vec::new();
        session.lost(role, at, len, &mut pieces);
        self.pieces(pieces, cx);
        self.seal(cx);
    }

    /// Looks at the first bytes of a connection: is it one that anybody wants?
    pub(super) fn decide(&mut self, from: Side, bytes: &[u8], at: Nanos, cx: &mut Context<'_>) {
        if self.verdict != Verdict::Undecided {
            return;
        }
        let seen_open = self.began() && self.sides[from].offset(self.sides[from].next) == 0;
        self.verdict = classify::verdict(bytes, seen_open);
        self.initiator = self.initiator.or_else(|| Some(self.guess_initiator(from, bytes)));
        self.tunnel = bytes.starts_with(b"CONNECT ");
        match self.verdict {
            Verdict::Kept | Verdict::Undecided => {}
            Verdict::Encrypted => self.tls = Some(Box::new(Session::new())),
            Verdict::Ignored => {
                cx.counts.ignored += 1;
                self.ignore();
            }
        }
        for side in [0, 1] {
            if let Some((len, cause)) = self.missed[side].take() {
                self.lost(side, len, cause, at, cx);
            }
        }
    }

    /// After a `CONNECT`, a ClientHello begins another connection, inside of this one.
    pub(super) fn enter_tunnel(&mut self, from: Side, bytes: &[u8], cx: &mut Context<'_>) {
        let is_hello = matches!(bytes, [0x16, 0x03, _, _, _, 0x01, ..]);
        if self.verdict != Verdict::Kept || !self.tunnel || !is_hello || self.initiator != Some(from) {
            return;
        }
        self.close(None, CloseHow::Finished, cx.at, cx);
        (self.tunnel, self.id, self.handed) = (false, None, [0; 2]);
        self.verdict = Verdict::Encrypted;
        self.tls = Some(Box::new(Session::new()));
    }

    fn guess_initiator(&self, from: Side, bytes: &[u8]) -> usize {
        if let Some(is_client) = classify::speaks_as_client(bytes) {
            return if is_client { from } else { 1 - from };
        }
        match classify::server_port(self.ends[0].1, self.ends[1].1) {
            Some(server) => 1 - server,
            None => self.first_sender,
        }
    }

    fn direction(&self, from: Side) -> Direction {
        if self.initiator == Some(from) { Direction::Sent } else { Direction::Received }
    }

    fn clock(&mut self, at: Nanos) -> Nanos {
        self.last_event = self.last_event.max(at);
        self.last_event
    }

    /// The connection's id; its first use tells the pipeline that it exists.
    fn open(&mut self, cx: &mut Context<'_>) -> ConnId {
        if let Some(id) = self.id {
            return id;
        }
        cx.counts.connections += 1;
        let id = ConnId(cx.counts.connections);
        (self.id, self.handed) = (Some(id), [0; 2]);
        let local = self.initiator.unwrap_or(0);
        let end = |side: usize| self.ends.get(side).map(|&(ip, port)| Endpoint::Inet(SocketAddr::new(ip, port)));
        let endpoints = Some(Endpoints { local: end(local), remote: end(1 - local), confidence: Confidence::Certain });
        let mid_stream = !self.began();
        cx.out.push(Event::Open(Open {
            conn: id,
            at: self.first_seen,
            owner: None,
            endpoints,
            transport: if self.tls.is_some() { Transport::Tls("keylog".into()) } else { Transport::Plain },
            mid_stream,
        }));
        id
    }

    /// Whether either SYN was seen: each says where both streams begin.
    fn began(&self) -> bool {
        self.sides.iter().any(|side| side.isn.is_some())
    }

    pub(super) fn close(&mut self, from: Option<usize>, how: CloseHow, at: Nanos, cx: &mut Context<'_>) {
        if self.missed != [None; 2] {
            // Nothing but holes: of these at least the sizes are known.
            self.decide(self.first_sender, &[], at, cx);
        }
        let at = self.clock(at);
        let direction = from.map(|from| self.direction(from));
        if let Some(conn) = self.id {
            cx.out.push(Event::Close(Close { conn, at, direction, how }));
        }
    }

    /// A segment of a connection that nobody wants: only its end matters, and how much it carries when it is encrypted.
    pub(super) fn pass_over(&mut self, segment: &Segment<'_>, from: Side) {
        self.sides[from].closed |= segment.flags & FIN != 0;
        self.over |= segment.flags & RST != 0 || self.sides.iter().all(|side| side.closed);
        if let Some(sealed) = &mut self.sealed {
            let end = segment.seq.wrapping_add(segment.wire_len);
            let known = sealed.ends[from].unwrap_or(segment.seq);
            let more = end.wrapping_sub(known).cast_signed();
            sealed.ends[from] = Some(if more > 0 { end } else { known });
            sealed.bytes[from] += u64::try_from(more).unwrap_or(0);
        }
    }

    /// What is known of an encrypted connection that stays closed.
    pub(in super::super) fn encrypted(&self) -> Option<Encrypted> {
        let sealed = self.sealed.as_ref()?;
        let client = self.initiator.unwrap_or(0);
        let end = |side: Side| SocketAddr::new(self.ends[side].0, self.ends[side].1);
        Some(Encrypted {
            client: end(client),
            server: end(1 - client),
            server_name: sealed.server_name.clone(),
            first_seen: self.first_seen,
            last_seen: self.last_seen,
            sent_bytes: sealed.bytes[client],
            received_bytes: sealed.bytes[1 - client],
            reason: sealed.why.sentence().to_owned(),
        })
    }
}
