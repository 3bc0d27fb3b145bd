//! Capture files: pcap (both byte orders, micro- and nanoseconds, the modified variants) and pcapng (several sections and
//! interfaces, their time resolutions and offsets, simple, enhanced and obsolete packet blocks, decryption secrets).
//!
//! A file that is cut, or whose records stop making sense, gives everything before that place and one warning that says
//! where. Only a file that is no capture at all is an error. Sources: the libpcap manual page pcap-savefile(5), and the
//! IETF drafts draft-ietf-opsawg-pcap and draft-ietf-opsawg-pcapng.

use std::io;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use bytes::Bytes;

use super::field::{self, Order};
use super::input::{Input, Progress};
use crate::event::Nanos;

/// No sane packet record is longer; a longer one means that the place in the file was lost.
const MAX_RECORD: u32 = 16 << 20;
/// No sane pcapng block is longer.
const MAX_BLOCK: u32 = 64 << 20;
/// Interfaces kept per section.
const MAX_INTERFACES: usize = 65_536;

/// One captured frame.
#[derive(Clone, Debug)]
pub(super) struct Record {
    /// When it was captured.
    pub at: Nanos,
    /// The link type (a LINKTYPE_ value of the tcpdump registry).
    pub link: u16,
    /// Length on the wire; more than `data.len()` when the snap length cut it.
    pub wire_len: u32,
    /// The captured bytes.
    pub data: Bytes,
}

/// What a capture file holds.
#[derive(Debug)]
pub(super) enum Item {
    /// A frame.
    Packet(Record),
    /// A TLS key log carried in the file (pcapng Decryption Secrets Block, type `TLSK`).
    KeyLog(Bytes),
}

/// Reads one capture file.
pub(super) struct Reader {
    name: String,
    input: Input,
    format: Format,
    ended: bool,
    warning: Option<String>,
    drops: u64,
}

enum Format {
    Pcap { order: Order, nanos: bool, link: u16, header: usize },
    Ng(Section),
}

struct Section {
    order: Order,
    interfaces: Vec<Interface>,
    last: Nanos,
}

#[derive(Clone, Copy)]
struct Interface {
    link: u16,
    snaplen: u32,
    clock: Clock,
    drops: u64,
}

/// How an interface counts time.
#[derive(Clone, Copy)]
struct Clock {
    units: Units,
    offset_secs: i64,
}

#[derive(Clone, Copy)]
enum Units {
    /// One unit is this many nanoseconds.
    Times(u64),
    /// This many units are one nanosecond.
    Per(u64),
    /// 2^n units are one second.
    Binary(u32),
}

impl Clock {
    const MICROS: Clock = Clock { units: Units::Times(1000), offset_secs: 0 };

    fn nanos(self, units: u64) -> Nanos {
        let nanos = match self.units {
            Units::Times(factor) => units.saturating_mul(factor),
            Units::Per(divisor) => units / divisor,
            Units::Binary(shift) => u64::try_from((u128::from(units) * 1_000_000_000) >> shift).unwrap_or(u64::MAX),
        };
        let offset = self.offset_secs.unsigned_abs().saturating_mul(1_000_000_000);
        Nanos(if self.offset_secs < 0 { nanos.saturating_sub(offset) } else { nanos.saturating_add(offset) })
    }
}

/// Why reading goes on or not.
enum Step {
    Item(Item),
    Nothing,
    End,
    Cut(String),
}

impl Reader {
    /// Opens a capture file (`-` is standard input).
    pub(super) fn open(path: &Path, progress: Arc<Progress>) -> Result<Reader> {
        let name = path.display().to_string();
        let input = Input::open(path, progress).with_context(|| format!("cannot read {name}"))?;
        Reader::new(name, input)
    }

    /// Reads the file's head.
    pub(super) fn new(name: String, mut input: Input) -> Result<Reader> {
        let format = match input.peek(4) {
            Ok(Some(magic)) => head_format(magic),
            Ok(None) => bail!("{name} is not a packet capture: it has fewer than 4 bytes"),
            Err(error) => bail!("{name} is not a packet capture that can be read: {error}"),
        };
        let Some(mut format) = format else {
            bail!("{name} is not a packet capture (neither pcap nor pcapng, plain, gzip or zstd)");
        };
        if let Format::Pcap { order, link, .. } = &mut format {
            match input.peek(24) {
                Ok(Some(head)) => *link = (order.u32(head, 20).unwrap_or(0) & 0xffff) as u16,
                _ => bail!("{name} is not a whole packet capture: its file header is cut"),
            }
            input.advance(24);
        }
        Ok(Reader { name, input, format, ended: false, warning: None, drops: 0 })
    }

    /// Why reading ended before the end of the file, and where; `None` for a file that is whole.
    pub(super) fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }

    /// Packets that the capturing program says it dropped.
    pub(super) fn drops(&self) -> u64 {
        match &self.format {
            Format::Pcap { .. } => self.drops,
            Format::Ng(section) => self.drops + section.interfaces.iter().map(|i| i.drops).sum::<u64>(),
        }
    }

    /// Whether packets of this file cost no memory of their own.
    pub(super) fn is_mapped(&self) -> bool {
        self.input.is_mapped()
    }

    /// The next item; `None` at the end.
    pub(super) fn next(&mut self) -> Option<Item> {
        while !self.ended {
            let at = self.input.position();
            let step = match self.format {
                Format::Pcap { .. } => self.pcap_record(),
                Format::Ng(_) => self.ng_block(),
            };
            match step {
                Ok(Step::Item(item)) => return Some(item),
                Ok(Step::Nothing) => {}
                Ok(Step::End) => self.ended = true,
                Ok(Step::Cut(what)) => self.cut(at, &what),
                Err(error) => self.cut(at, &format!("it cannot be read further: {error}")),
            }
        }
        None
    }

    fn cut(&mut self, at: u64, what: &str) {
        self.ended = true;
        self.warning = Some(format!("{}: {what} at byte {at}; everything before is kept", self.name));
    }

    fn pcap_record(&mut self) -> io::Result<Step> {
        let Format::Pcap { order, nanos, link, header } = self.format else { return Ok(Step::End) };
        let Some(head) = self.input.peek(header)? else {
            return Ok(self.end_or_cut("the capture is cut in a packet header"));
        };
        let field = |at| order.u32(head, at).unwrap_or(0);
        let (secs, fraction, captured, wire_len) = (field(0), field(4), field(8), field(12));
        if captured > MAX_RECORD {
            return Ok(Step::Cut(format!("a packet record claims {captured} bytes: the file is damaged")));
        }
        self.input.advance(header);
        let data = self.input.take(captured as usize)?;
        if data.len() < captured as usize {
            self.cut(self.input.position(), "the capture is cut inside a packet");
        }
        let fraction = if nanos { u64::from(fraction) } else { u64::from(fraction) * 1000 };
        let at = Nanos(u64::from(secs) * 1_000_000_000 + fraction);
        Ok(Step::Item(Item::Packet(Record { at, link, wire_len: wire_len.max(captured), data })))
    }

    fn end_or_cut(&mut self, what: &str) -> Step {
        match self.input.peek(1) {
            Ok(None) => Step::End,
            _ => Step::Cut(what.to_owned()),
        }
    }

    fn ng_block(&mut self) -> io::Result<Step> {
        let Format::Ng(section) = &mut self.format else { return Ok(Step::End) };
        let Some(head) = self.input.peek(12)? else {
            return Ok(self.end_or_cut("the capture is cut in a block header"));
        };
        let is_section = head.starts_with(&SECTION);
        if is_section {
            let Some(order) = section_order(head) else {
                return Ok(Step::Cut("a section has no byte-order magic: the file is damaged".to_owned()));
            };
            self.drops += section.interfaces.iter().map(|i| i.drops).sum::<u64>();
            *section = Section { order, interfaces: Vec::new(), last: section.last };
        }
        let order = section.order;
        let (kind, len) = (order.u32(head, 0).unwrap_or(0), order.u32(head, 4).unwrap_or(0));
        if !(12..=MAX_BLOCK).contains(&len) {
            return Ok(Step::Cut(format!("a block claims {len} bytes: the file is damaged")));
        }
        let padded = (len as usize).next_multiple_of(4);
        let block = self.input.take(padded)?;
        let whole = block.len() == padded;
        let body = block.slice(8.min(block.len())..block.len().min(padded - 4).max(8.min(block.len())));
        let item = if is_section { None } else { section.block(kind, &body) };
        if !whole {
            self.cut(self.input.position(), "the capture is cut inside a block");
        }
        Ok(item.map_or(Step::Nothing, Step::Item))
    }
}

const SECTION: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];

fn head_format(magic: &[u8]) -> Option<Format> {
    let pcap = |order, nanos, header| Some(Format::Pcap { order, nanos, link: 0, header });
    match magic {
        [0xd4, 0xc3, 0xb2, 0xa1] => pcap(Order::Little, false, 16),
        [0xa1, 0xb2, 0xc3, 0xd4] => pcap(Order::Big, false, 16),
        [0x4d, 0x3c, 0xb2, 0xa1] => pcap(Order::Little, true, 16),
        [0xa1, 0xb2, 0x3c, 0x4d] => pcap(Order::Big, true, 16),
        // Kuznetzov's modified pcap: the packet header is 8 bytes longer.
        [0x34, 0xcd, 0xb2, 0xa1] => pcap(Order::Little, false, 24),
        [0xa1, 0xb2, 0xcd, 0x34] => pcap(Order::Big, false, 24),
        _ if magic == SECTION => {
            Some(Format::Ng(Section { order: Order::Little, interfaces: Vec::new(), last: Nanos(0) }))
        }
        _ => None,
    }
}

fn section_order(head: &[u8]) -> Option<Order> {
    match field::array(head, 8)? {
        [0x4d, 0x3c, 0x2b, 0x1a] => Some(Order::Little),
        [0x1a, 0x2b, 0x3c, 0x4d] => Some(Order::Big),
        _ => None,
    }
}

impl Section {
    fn block(&mut self, kind: u32, body: &Bytes) -> Option<Item> {
        match kind {
            1 => self.interface(body),
            2 => self.obsolete_packet(body),
            3 => self.simple_packet(body),
            5 => self.statistics(body),
            6 => self.enhanced_packet(body),
            0x0a => self.secrets(body),
            _ => None,
        }
    }

    fn interface(&mut self, body: &Bytes) -> Option<Item> {
        let link = self.order.u16(body, 0).unwrap_or(0);
        let snaplen = self.order.u32(body, 4).unwrap_or(0);
        let mut clock = Clock::MICROS;
        for (code, value) in options(self.order, field::from(body, 8)) {
            match (code, value) {
                (9, [resolution, ..]) => clock.units = units(*resolution),
                (14, _) => clock.offset_secs = self.order.u64(value, 0).unwrap_or(0).cast_signed(),
                _ => {}
            }
        }
        if self.interfaces.len() < MAX_INTERFACES {
            self.interfaces.push(Interface { link, snaplen, clock, drops: 0 });
        }
        None
    }

    fn enhanced_packet(&mut self, body: &Bytes) -> Option<Item> {
        let word = |at| self.order.u32(body, at);
        let (interface, high, low, captured, wire_len) = (word(0)?, word(4)?, word(8)?, word(12)?, word(16)?);
        self.packet(interface, Some((high, low)), (captured, wire_len), body.slice(20..))
    }

    fn obsolete_packet(&mut self, body: &Bytes) -> Option<Item> {
        let interface = u32::from(self.order.u16(body, 0)?);
        let word = |at| self.order.u32(body, at);
        let (high, low, captured, wire_len) = (word(4)?, word(8)?, word(12)?, word(16)?);
        self.packet(interface, Some((high, low)), (captured, wire_len), body.slice(20..))
    }

    fn simple_packet(&mut self, body: &Bytes) -> Option<Item> {
        let wire_len = self.order.u32(body, 0)?;
        let snaplen = self.interfaces.first()?.snaplen;
        let captured = if snaplen == 0 { wire_len } else { wire_len.min(snaplen) };
        self.packet(0, None, (captured, wire_len), body.slice(4..))
    }

    fn packet(&mut self, interface: u32, time: Option<(u32, u32)>, lens: (u32, u32), rest: Bytes) -> Option<Item> {
        let interface = self.interfaces.get(interface as usize)?;
        let at = match time {
            Some((high, low)) => interface.clock.nanos(u64::from(high) << 32 | u64::from(low)),
            None => self.last,
        };
        self.last = at;
        let data = rest.slice(..rest.len().min(lens.0 as usize));
        Some(Item::Packet(Record { at, link: interface.link, wire_len: lens.1.max(lens.0), data }))
    }

    fn statistics(&mut self, body: &Bytes) -> Option<Item> {
        let interface = self.order.u32(body, 0)?;
        let order = self.order;
        let interface = self.interfaces.get_mut(interface as usize)?;
        // isb_ifdrop (5) and isb_osdrop (7) are running totals.
        let drops = options(order, field::from(body, 12))
            .filter(|(code, _)| matches!(code, 5 | 7))
            .fold(0u64, |sum, (_, value)| sum.saturating_add(order.u64(value, 0).unwrap_or(0)));
        interface.drops = interface.drops.max(drops);
        None
    }

    fn secrets(&mut self, body: &Bytes) -> Option<Item> {
        const TLS_KEY_LOG: u32 = 0x544c_534b;
        let (kind, len) = (self.order.u32(body, 0)?, self.order.u32(body, 4)? as usize);
        let log = body.slice(8.min(body.len())..8usize.saturating_add(len).min(body.len()));
        (kind == TLS_KEY_LOG).then_some(Item::KeyLog(log))
    }
}

fn units(resolution: u8) -> Units {
    let exponent = u32::from(resolution & 0x7f);
    if resolution & 0x80 != 0 {
        return Units::Binary(exponent.min(127));
    }
    match exponent {
        0..=9 => Units::Times(10u64.pow(9 - exponent)),
        _ => Units::Per(10u64.checked_pow(exponent - 9).unwrap_or(u64::MAX)),
    }
}

/// The options of a block: (code, value).
fn options(order: Order, mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (code, len) = (order.u16(rest, 0)?, usize::from(order.u16(rest, 2)?));
        let value = rest.get(4..4 + len)?;
        rest = field::from(rest, 4 + len.next_multiple_of(4));
        (code != 0).then_some((code, value))
    })
}
