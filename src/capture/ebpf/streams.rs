//! Records of the rings become events: identities become connections, offsets become holes, boot time becomes epoch time.
//!
//! Knows nothing of HTTP or of what the bytes mean.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;

use super::abi::{Addr, FLAG_HOLE, FLAG_MID, Header, Record, SITE_SOCKET, StreamId};
use crate::event::{
    Close, CloseHow, Confidence, ConnId, Data, Direction, Endpoint, Endpoints, Event, LossCause, Lost, Nanos, Open,
    ProcId, Transport,
};

/// From the kernel's monotonic clock to the epoch.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    offset: i128,
}

impl Clock {
    /// `realtime` and `monotonic` read at the same moment, in nanoseconds.
    pub fn new(realtime: u64, monotonic: u64) -> Clock {
        Clock { offset: i128::from(realtime) - i128::from(monotonic) }
    }

    /// The same moment since the epoch.
    pub fn epoch(self, monotonic: u64) -> Nanos {
        Nanos(u64::try_from(i128::from(monotonic) + self.offset).unwrap_or(0))
    }
}

struct Stream {
    conn: ConnId,
    next: [u64; 2],
}

/// All streams that user space has heard of.
pub struct Streams {
    clock: Clock,
    open: HashMap<StreamId, Stream>,
    ids: HashMap<ConnId, StreamId>,
    last_conn: u64,
}

const DIRECTIONS: [Direction; 2] = [Direction::Sent, Direction::Received];

impl Streams {
    /// No streams yet.
    pub fn new(clock: Clock) -> Streams {
        Streams { clock, open: HashMap::new(), ids: HashMap::new(), last_conn: 0 }
    }

    /// Appends the events of one data-ring record. `library` names the library behind a site.
    pub fn push(&mut self, record: &Record<'_>, library: &dyn Fn(u32) -> Arc<str>, out: &mut Vec<Event>) {
        match record {
            Record::Data { header, id, offset, len, site, direction, flags, payload } => {
                let at = self.clock.epoch(header.time);
                let side = usize::from(*direction);
                let conn = self.conn(header, *id, *site, *flags, library, out);
                let Some(stream) = self.open.get_mut(id) else {
                    return;
                };
                let direction = if *direction == 0 { Direction::Sent } else { Direction::Received };
                let Some(next) = stream.next.get_mut(side) else {
                    return;
                };
                if *offset > *next {
                    out.push(lost(conn, at, direction, *next, *offset - *next, LossCause::RingFull));
                }
                if flags & FLAG_HOLE != 0 {
                    out.push(lost(conn, at, direction, *offset, u64::from(*len), LossCause::ReadFault));
                } else {
                    let bytes = Bytes::copy_from_slice(payload);
                    out.push(Event::Data(Data { conn, at, direction, offset: *offset, bytes }));
                }
                *next = offset.saturating_add(u64::from(*len));
            }
            Record::Sock { header, id, site, mid, addr } => {
                let at = self.clock.epoch(header.time);
                let Some(endpoints) = endpoints(addr) else {
                    return;
                };
                match self.open.get(id) {
                    Some(stream) => out.push(Event::Endpoints { conn: stream.conn, at, endpoints }),
                    // Told right before the first bytes: opened here, so that the ends are known from the start.
                    None => {
                        self.open_stream(header, *id, Some(endpoints), *mid, transport(*site, library), out);
                    }
                }
            }
            Record::Close { header, id, offsets } => {
                self.close(*id, Some(*offsets), self.clock.epoch(header.time), CloseHow::Freed, out);
            }
            Record::Proc { .. } => {}
        }
    }

    fn conn(
        &mut self,
        header: &Header,
        id: StreamId,
        site: u32,
        flags: u8,
        library: &dyn Fn(u32) -> Arc<str>,
        out: &mut Vec<Event>,
    ) -> ConnId {
        match self.open.get(&id) {
            Some(stream) => stream.conn,
            None => self.open_stream(header, id, None, flags & FLAG_MID != 0, transport(site, library), out),
        }
    }

    fn open_stream(
        &mut self,
        header: &Header,
        id: StreamId,
        endpoints: Option<Endpoints>,
        mid_stream: bool,
        transport: Transport,
        out: &mut Vec<Event>,
    ) -> ConnId {
        self.last_conn += 1;
        let conn = ConnId(self.last_conn);
        self.open.insert(id, Stream { conn, next: [0, 0] });
        self.ids.insert(conn, id);
        out.push(Event::Open(Open {
            conn,
            at: self.clock.epoch(header.time),
            owner: Some(ProcId { pid: header.tgid, start: header.start }),
            endpoints,
            transport,
            mid_stream,
        }));
        conn
    }

    fn close(&mut self, id: StreamId, offsets: Option<[u64; 2]>, at: Nanos, how: CloseHow, out: &mut Vec<Event>) {
        let Some(stream) = self.open.remove(&id) else {
            return;
        };
        self.ids.remove(&stream.conn);
        let ends = offsets.unwrap_or(stream.next);
        for ((direction, end), next) in DIRECTIONS.into_iter().zip(ends).zip(stream.next) {
            if end > next {
                out.push(lost(stream.conn, at, direction, next, end - next, LossCause::RingFull));
            }
        }
        out.push(Event::Close(Close { conn: stream.conn, at, direction: None, how }));
    }

    /// Ends every stream of a process that ended. `reached` tells how far the kernel side got with a stream.
    pub fn process_ended(&mut self, tgid: u32, at: Nanos, reached: &HashMap<StreamId, [u64; 2]>, out: &mut Vec<Event>) {
        let mut ended: Vec<StreamId> = self.open.keys().filter(|id| id.tgid == tgid).copied().collect();
        ended.sort_by_key(|id| (id.born, id.stream));
        for id in ended {
            self.close(id, reached.get(&id).copied(), at, CloseHow::ProcessExit, out);
        }
    }

    /// Ends everything that is still open: the run is over.
    pub fn source_ended(&mut self, at: Nanos, out: &mut Vec<Event>) {
        let mut left: Vec<(ConnId, StreamId)> = self.open.iter().map(|(id, stream)| (stream.conn, *id)).collect();
        left.sort();
        for (_, id) in left {
            self.close(id, None, at, CloseHow::SourceEnd, out);
        }
    }

    /// The stream behind an open connection.
    pub fn id(&self, conn: ConnId) -> Option<StreamId> {
        self.ids.get(&conn).copied()
    }

    /// The clock.
    pub fn clock(&self) -> Clock {
        self.clock
    }
}

fn transport(site: u32, library: &dyn Fn(u32) -> Arc<str>) -> Transport {
    if site == SITE_SOCKET { Transport::Plain } else { Transport::Tls(library(site)) }
}

fn lost(conn: ConnId, at: Nanos, direction: Direction, offset: u64, len: u64, cause: LossCause) -> Event {
    Event::Lost(Lost { conn, at, direction, offset, len, cause })
}

fn endpoints(addr: &Addr) -> Option<Endpoints> {
    let ip = |bytes: &[u8; 16]| match addr.family {
        2 => Some(IpAddr::V4(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]))),
        10 => Some(IpAddr::V6(Ipv6Addr::from(*bytes))),
        _ => None,
    };
    let unmapped = |ip: IpAddr| match ip {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(ip, IpAddr::V4),
        v4 @ IpAddr::V4(_) => v4,
    };
    let confidence = match addr.confidence {
        0 => Confidence::Certain,
        1 => Confidence::Descriptor,
        2 => Confidence::Ciphertext,
        _ => Confidence::Vote,
    };
    let end = |bytes, port| Some(Endpoint::Inet(SocketAddr::new(unmapped(ip(bytes)?), port)));
    let (local, remote) = (end(&addr.local, addr.local_port), end(&addr.remote, addr.remote_port));
    (local.is_some() || remote.is_some()).then_some(Endpoints { local, remote, confidence })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: Header = Header { time: 100, tgid: 7, tid: 8, start: 9 };
    const ID: StreamId = StreamId { tgid: 7, stream: 0xabc, born: 1 };

    fn data(direction: u8, offset: u64, payload: &[u8]) -> Record<'_> {
        let len = u32::try_from(payload.len()).unwrap_or(0);
        Record::Data { header: HEADER, id: ID, offset, len, site: 0, direction, flags: 0, payload }
    }

    fn run(records: &[Record<'_>]) -> Vec<Event> {
        let mut streams = Streams::new(Clock::new(1_000_000, 0));
        let mut out = Vec::new();
        for record in records {
            streams.push(record, &|_| Arc::from("OpenSSL"), &mut out);
        }
        streams.source_ended(Nanos(5), &mut out);
        out
    }

    #[test]
    fn a_jump_of_the_offset_is_a_hole_of_that_size() {
        let events = run(&[data(0, 0, b"abc"), data(0, 10, b"x")]);
        let holes: Vec<_> =
            events.iter().filter_map(|e| if let Event::Lost(lost) = e { Some(lost) } else { None }).collect();
        assert_eq!(holes.len(), 1);
        assert!(holes.iter().all(|hole| hole.offset == 3 && hole.len == 7 && hole.cause == LossCause::RingFull));
    }

    #[test]
    fn bytes_lost_before_the_end_are_a_hole_at_the_close() {
        let end = Record::Close { header: HEADER, id: ID, offsets: [3, 20] };
        let events = run(&[data(0, 0, b"abc"), data(1, 0, b"de"), end]);
        assert!(events.iter().any(|event| matches!(event, Event::Lost(lost) if lost.offset == 2 && lost.len == 18)));
        assert!(matches!(events.last(), Some(Event::Close(close)) if close.how == CloseHow::Freed));
    }

    #[test]
    fn time_is_epoch_time() {
        let events = run(&[data(0, 0, b"abc")]);
        assert!(events.iter().take(2).all(|event| event.at() == Nanos(1_000_100)));
    }

    #[test]
    fn a_pointer_that_is_used_again_is_another_connection() {
        let again = Record::Data {
            header: HEADER,
            id: StreamId { born: 2, ..ID },
            offset: 0,
            len: 1,
            site: 0,
            direction: 0,
            flags: 0,
            payload: b"b",
        };
        let events = run(&[data(0, 0, b"a"), again]);
        assert_eq!(events.iter().filter(|event| matches!(event, Event::Open(_))).count(), 2);
    }
}
