//! Plaintext captures that Wireshark opens: what a tape (or an opened capture) holds, as TCP connections in a pcapng file, with
//! the process and the decoded call as comments.
//!
//! The packets are made up and say so: one per piece of data as it was seen, with real addresses where they are known (else
//! 192.0.2.1 and 192.0.2.2), raw IP, no checksums. Plaintext of TLS is put on port 80, where Wireshark expects none; the comment
//! names the true port. Lost bytes are a jump of the sequence number. Credentials in HTTP/1 heads are masked; an HTTP/2
//! connection, whose headers are compressed and cannot be masked in place, is left out unless secrets are asked for.

use std::collections::{HashMap, VecDeque};
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::ControlFlow;
use std::sync::Arc;

use anyhow::{Context, Result};

use crate::capture::{Source, StopFlag};
use crate::conn;
use crate::event::{
    CloseHow, ConnId, Direction, Endpoint, Event, Nanos, Open, ProcId, ProcessChange, ProcessInfo, Transport,
};
use crate::http::Part;
use crate::redact;
use crate::wire::{self, Call, CallUpdate, Origin};

/// Payload of one made-up packet: what fits into an IP packet with its headers.
const PIECE: usize = 65_000;
/// LINKTYPE_RAW: the packet begins with its IP header.
const RAW: u16 = 101;
const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const PSH: u8 = 8;
const ACK: u8 = 16;
/// A header line that is cut at the end of a piece is remembered up to here.
const MAX_LINE: usize = 512;

/// What was written.
#[derive(Default, Clone, Copy, PartialEq, Eq, Debug)]
pub struct Exported {
    /// Packets in the file.
    pub packets: u64,
    /// Connections in the file.
    pub connections: u64,
    /// HTTP/2 connections that were left out, because their headers may hold secrets.
    pub left_out: u64,
}

/// Writes what a source gives. The source is played twice: first for the calls, then for the bytes.
///
/// # Errors
/// When the source cannot be played, or the output cannot be written.
pub fn write(open: &dyn Fn() -> Result<Box<dyn Source>>, out: &mut dyn Write, secrets: bool) -> Result<Exported> {
    let notes = Notes::of(open()?)?;
    let mut writer =
        Writer { out, notes, secrets, conns: HashMap::new(), processes: HashMap::new(), exported: Exported::default() };
    writer.head().context("cannot write the capture")?;
    let mut failed = None;
    play(open()?, &mut |event| match writer.event(&event) {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => {
            failed = Some(error);
            ControlFlow::Break(())
        }
    })?;
    failed.map_or(Ok(()), Err).context("cannot write the capture")?;
    writer.out.flush().context("cannot write the capture")?;
    Ok(writer.exported)
}

fn play(source: Box<dyn Source>, each: &mut dyn FnMut(Event) -> ControlFlow<()>) -> Result<()> {
    source.run(&mut |batch: Vec<Event>| batch.into_iter().try_for_each(&mut *each), &StopFlag::new())
}

/// The comments of each connection's calls, in the order of their requests.
#[derive(Default)]
struct Notes(HashMap<ConnId, VecDeque<(Nanos, String)>>);

impl Notes {
    fn of(source: Box<dyn Source>) -> Result<Notes> {
        let mut conn = conn::Stage::new(conn::Bounds::default());
        let mut wire = wire::Stage::new(wire::Bounds::default());
        let (mut notes, mut parts, mut updates, mut last) = (Notes::default(), Vec::new(), Vec::new(), Nanos(0));
        let mut decode = |parts: &mut Vec<Part>, notes: &mut Notes| {
            // Who spoke does not matter for the comments.
            parts.drain(..).for_each(|part| wire.push(part, &|| None::<Origin>, &mut updates));
            updates.drain(..).for_each(|update| notes.take(update));
        };
        play(source, &mut |event| {
            last = last.max(event.at());
            conn.push(event, &mut parts);
            decode(&mut parts, &mut notes);
            ControlFlow::Continue(())
        })?;
        conn.finish(last, &mut parts);
        decode(&mut parts, &mut notes);
        notes.0.values_mut().for_each(|calls| calls.make_contiguous().sort());
        Ok(notes)
    }

    fn take(&mut self, update: CallUpdate) {
        if let CallUpdate::Done(call) = update {
            self.0.entry(call.conn).or_default().push_back((call.times.request_first, comment(&call)));
        }
    }

    /// The comment of the call whose request begins at this piece.
    fn due(&mut self, conn: ConnId, at: Nanos) -> Option<String> {
        let calls = self.0.get_mut(&conn)?;
        calls.front().filter(|(begins, _)| *begins <= at)?;
        calls.pop_front().map(|(_, comment)| comment)
    }
}

fn comment(call: &Call) -> String {
    let tokens = |count: Option<u64>| count.map_or_else(|| "?".to_owned(), |count| count.to_string());
    let model = call.response_model.as_deref().or(call.request_model.as_deref()).unwrap_or("unknown model");
    let status = call.status.map_or_else(|| "no answer".to_owned(), |status| format!("status {status}"));
    let mut text = format!(
        "{} {} {model}, {status}, {} tokens in, {} out",
        call.wire_api.as_str(),
        call.operation.as_str(),
        tokens(call.usage.input_total),
        tokens(call.usage.output_total)
    );
    if let Some(reason) = &call.finish_reason {
        text.push_str(&format!(", finish {reason}"));
    }
    if !call.flaws.is_empty() {
        let flaws: Vec<&str> = call.flaws.iter().map(|flaw| flaw.as_str()).collect();
        text.push_str(&format!(", flaws: {}", flaws.join(" ")));
    }
    format!("{text} (call {})", call.id)
}

/// A connection in the file. Side 0 is the observed end.
struct Made {
    ends: [(IpAddr, u16); 2],
    next: [u32; 2],
    label: String,
    owner: Option<ProcId>,
    /// Whether it is written; `None` until its first bytes tell.
    wanted: Option<bool>,
    opened: Nanos,
    mid_stream: bool,
    /// The line that each direction ended in.
    line: [Vec<u8>; 2],
    closed: bool,
}

struct Writer<'a> {
    out: &'a mut dyn Write,
    notes: Notes,
    secrets: bool,
    conns: HashMap<ConnId, Made>,
    processes: HashMap<ProcId, Arc<ProcessInfo>>,
    exported: Exported,
}

impl Writer<'_> {
    fn head(&mut self) -> io::Result<()> {
        let mut section = [0x1a2b_3c4d_u32.to_le_bytes(), [1, 0, 0, 0], [0xff; 4], [0xff; 4]].concat();
        section.extend(option(4, concat!("heron ", env!("CARGO_PKG_VERSION")).as_bytes()));
        section.extend(option(
            1,
            b"Plaintext as heron saw it; addresses and packets are made up where the source had none.",
        ));
        section.extend([0; 4]);
        block(self.out, 0x0a0d_0d0a, &section)?;
        let mut interface = [RAW.to_le_bytes(), [0, 0], [0, 0], [0, 0]].concat();
        interface.extend(option(2, b"heron"));
        interface.extend(option(9, &[9]));
        interface.extend([0; 4]);
        block(self.out, 1, &interface)
    }

    fn event(&mut self, event: &Event) -> io::Result<()> {
        match event {
            Event::Open(open) => {
                self.conns.insert(open.conn, Made::new(open));
                Ok(())
            }
            Event::Process(process) => {
                if let ProcessChange::Exec { info, .. } = &process.change {
                    self.processes.insert(process.process, info.clone());
                }
                Ok(())
            }
            Event::Data(data) => {
                let side = data.direction.index();
                let Some(comment) = self.begin(data.conn, data.at, data.direction, &data.bytes)? else { return Ok(()) };
                let mut bytes = data.bytes.to_vec();
                let Some(made) = self.conns.get_mut(&data.conn) else { return Ok(()) };
                if !self.secrets {
                    mask(&mut bytes, &mut made.line[side]);
                }
                made.next[side] = 1u32.wrapping_add(data.offset as u32);
                let mut comment = Some(comment);
                for piece in bytes.chunks(PIECE) {
                    let about = comment.take().unwrap_or_default();
                    self.packet(data.conn, side, data.at, PSH | ACK, piece, &about)?;
                }
                Ok(())
            }
            Event::Lost(lost) => {
                if let Some(made) = self.conns.get_mut(&lost.conn) {
                    made.next[lost.direction.index()] = 1u32.wrapping_add((lost.offset + lost.len) as u32);
                }
                Ok(())
            }
            Event::Close(close) => {
                let sides: &[usize] = match close.direction {
                    Some(direction) => &[direction.index()],
                    None => &[0, 1],
                };
                let reset = close.how == CloseHow::Reset;
                for &side in if reset { &sides[..1] } else { sides } {
                    self.packet(close.conn, side, close.at, if reset { RST | ACK } else { FIN | ACK }, b"", "")?;
                }
                if close.direction.is_none() {
                    self.conns.remove(&close.conn);
                }
                Ok(())
            }
            Event::Endpoints { .. } | Event::Tick(_) => Ok(()),
        }
    }

    /// The comment of a piece of data; `None` when its connection is left out. Writes the handshake before the first piece.
    fn begin(&mut self, conn: ConnId, at: Nanos, direction: Direction, bytes: &[u8]) -> io::Result<Option<String>> {
        let Some(made) = self.conns.get_mut(&conn) else { return Ok(None) };
        let first = made.wanted.is_none();
        if first {
            made.wanted = Some(self.secrets || is_http1(bytes));
        }
        if made.wanted == Some(false) {
            self.exported.left_out += u64::from(first);
            return Ok(None);
        }
        let (label, opened, mid_stream) = (made.label.clone(), made.opened, made.mid_stream);
        let owner = made.owner.and_then(|owner| Some((owner.pid, self.processes.get(&owner)?.clone())));
        if first {
            self.exported.connections += 1;
            if !mid_stream {
                for (side, flags) in [(0, SYN), (1, SYN | ACK), (0, ACK)] {
                    self.packet(conn, side, opened, flags, b"", "")?;
                }
            }
        }
        let mut about = match owner {
            Some((pid, info)) => format!("process {pid} {} ({})", info.comm, info.exe),
            None => "process unknown".to_owned(),
        };
        about.push_str(&label);
        if direction == Direction::Sent
            && let Some(call) = self.notes.due(conn, at)
        {
            about.push('\n');
            about.push_str(&call);
        }
        Ok(Some(about))
    }

    fn packet(
        &mut self,
        conn: ConnId,
        side: usize,
        at: Nanos,
        flags: u8,
        payload: &[u8],
        comment: &str,
    ) -> io::Result<()> {
        let Some(made) = self.conns.get_mut(&conn).filter(|made| made.wanted == Some(true) && !made.closed) else {
            return Ok(());
        };
        let seq = if flags & SYN != 0 { 0 } else { made.next[side] };
        let ack = if flags & ACK == 0 { 0 } else { made.next[1 - side] };
        made.next[side] = made.next[side].wrapping_add(payload.len() as u32);
        made.closed = flags & RST != 0;
        let packet = ip_packet(made.ends[side], made.ends[1 - side], (seq, ack), flags, payload);
        let mut body = Vec::with_capacity(packet.len() + comment.len() + 64);
        for word in [0, (at.0 >> 32) as u32, at.0 as u32, packet.len() as u32, packet.len() as u32] {
            body.extend(word.to_le_bytes());
        }
        body.extend(&packet);
        body.resize(body.len().next_multiple_of(4), 0);
        if !comment.is_empty() {
            body.extend(option(1, comment.as_bytes()));
            body.extend([0; 4]);
        }
        self.exported.packets += 1;
        block(self.out, 6, &body)
    }
}

impl Made {
    fn new(open: &Open) -> Made {
        let known = |end: Option<&Endpoint>| match end {
            Some(Endpoint::Inet(address)) => Some((address.ip(), address.port())),
            _ => None,
        };
        let ends = open.endpoints.as_ref();
        let mut local = known(ends.and_then(|ends| ends.local.as_ref()));
        let mut remote = known(ends.and_then(|ends| ends.remote.as_ref()));
        let v6 = local.or(remote).is_some_and(|(ip, _)| ip.is_ipv6());
        let made_up = |last: u8| match v6 {
            true => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(last))),
            false => IpAddr::V4(Ipv4Addr::new(192, 0, 2, last)),
        };
        let local = *local.get_or_insert((made_up(1), 10_000 + (open.conn.0 % 50_000) as u16));
        let mut remote = *remote.get_or_insert((made_up(2), 80));
        let mut label = String::new();
        if let Transport::Tls(library) = &open.transport {
            label = format!("; plaintext of TLS ({library}), port {}", remote.1);
            remote.1 = 80;
        }
        Made {
            ends: [local, remote],
            next: [1, 1],
            label,
            owner: open.owner,
            wanted: None,
            opened: open.at,
            mid_stream: open.mid_stream,
            line: Default::default(),
            closed: false,
        }
    }
}

fn is_http1(bytes: &[u8]) -> bool {
    let line = bytes.split(|&byte| byte == b'\n').next().unwrap_or_default();
    bytes.starts_with(b"HTTP/1.") || line.ends_with(b" HTTP/1.1\r") || line.ends_with(b" HTTP/1.0\r")
}

/// Overwrites credentials in lines that look like headers or request lines, without changing any length. `open` is the line
/// that the piece before ended in.
fn mask(bytes: &mut [u8], open: &mut Vec<u8>) {
    let mut start = 0;
    while start < bytes.len() {
        let end = bytes[start..].iter().position(|&byte| byte == b'\n').map_or(bytes.len(), |at| start + at);
        let before = open.len();
        if before + end - start <= MAX_LINE * 32 {
            open.extend_from_slice(&bytes[start..end]);
        }
        if let Some(secret) = secret(open) {
            // What of it lies in this piece.
            let (from, to) = (secret.start.max(before) - before, secret.end.max(before) - before);
            let len = end - start;
            bytes[start..end][from.min(len)..to.min(len)].fill(b'*');
        }
        if end < bytes.len() || open.len() > MAX_LINE {
            open.clear();
        }
        start = end + 1;
    }
}

/// Where a line holds a credential.
fn secret(line: &[u8]) -> Option<std::ops::Range<usize>> {
    let text = std::str::from_utf8(line).ok()?.trim_end_matches('\r');
    if let Some((start, rest)) = text.split_once(' ')
        && start.bytes().all(|byte| byte.is_ascii_uppercase())
        && let Some((target, query)) = rest.split_once(' ').map_or(rest, |(target, _)| target).split_once('?')
    {
        let whole = format!("{target}?{query}");
        let from = start.len() + 1 + target.len() + 1;
        return (redact::target(&whole) != whole).then_some(from..from + query.len());
    }
    let (name, value) = text.split_once(':')?;
    let fine = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    let value = value.trim();
    let hidden = fine && !value.is_empty() && redact::header(&name.to_ascii_lowercase(), value) != value;
    hidden.then(|| text.len() - value.len()..text.len())
}

fn ip_packet(src: (IpAddr, u16), dst: (IpAddr, u16), (seq, ack): (u32, u32), flags: u8, payload: &[u8]) -> Vec<u8> {
    let len = 20 + payload.len();
    let mut bytes = Vec::with_capacity(40 + len);
    match (src.0, dst.0) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            bytes.extend([0x45, 0]);
            bytes.extend((len as u16 + 20).to_be_bytes());
            bytes.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
            bytes.extend(src.octets());
            bytes.extend(dst.octets());
        }
        (src, dst) => {
            let six = |ip: IpAddr| match ip {
                IpAddr::V4(ip) => ip.to_ipv6_mapped(),
                IpAddr::V6(ip) => ip,
            };
            bytes.extend([0x60, 0, 0, 0]);
            bytes.extend((len as u16).to_be_bytes());
            bytes.extend([6, 64]);
            bytes.extend(six(src).octets());
            bytes.extend(six(dst).octets());
        }
    }
    bytes.extend(src.1.to_be_bytes());
    bytes.extend(dst.1.to_be_bytes());
    bytes.extend(seq.to_be_bytes());
    bytes.extend(ack.to_be_bytes());
    bytes.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    bytes.extend(payload);
    bytes
}

fn option(code: u16, value: &[u8]) -> Vec<u8> {
    let value = value.get(..value.len().min(60_000)).unwrap_or_default();
    let mut bytes = [code.to_le_bytes(), (value.len() as u16).to_le_bytes()].concat();
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn block(out: &mut dyn Write, kind: u32, body: &[u8]) -> io::Result<()> {
    let padded = body.len().next_multiple_of(4);
    let len = (padded as u32 + 12).to_le_bytes();
    out.write_all(&kind.to_le_bytes())?;
    out.write_all(&len)?;
    out.write_all(body)?;
    out.write_all(&[0; 3][..padded - body.len()])?;
    out.write_all(&len)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(pieces: &[&str]) -> String {
        let (mut open, mut out) = (Vec::new(), Vec::new());
        for piece in pieces {
            let mut bytes = piece.as_bytes().to_vec();
            mask(&mut bytes, &mut open);
            out.extend(bytes);
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn credentials_are_masked_in_place_wherever_a_piece_is_cut() {
        let head = "POST /v1/x?key=SECRET1&a=b HTTP/1.1\r\nHost: a.b\r\nX-Api-Key: SECRET2\r\nAuthorization: Bearer SECRET3\r\n\r\nbody";
        for cut in 0..head.len() {
            let (a, b) = head.split_at(cut);
            let text = masked(&[a, b]);
            assert_eq!(text.len(), head.len());
            // A value that is cut in two is masked in both; a query may lose what is before the cut only as a whole.
            assert!(!text.contains("SECRET2") && !text.contains("SECRET3"), "{cut}: {text}");
            assert!(text.contains("Host: a.b") && text.ends_with("\r\n\r\nbody"), "{cut}: {text}");
        }
        assert!(!masked(&[head]).contains("SECRET1"));
    }
}
