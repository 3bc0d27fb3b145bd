//! Frames -> TCP segments: link layers, VLAN, MPLS, IPv4 and IPv6, and the tunnels that mirror ports and overlays use.
//!
//! Nothing is copied: a segment borrows its payload from the frame. Lengths come from the IP header, so that link-layer
//! padding is not taken for data and a snap length is seen as one. Checksums are never verified: a sending host's
//! captures hold wrong ones (offload). Layers are peeled in a loop with a bound, never by recursion.
//!
//! Sources: the LINKTYPE_ registry of tcpdump.org; RFC 791, 8200, 9293, 2784, 2890, 7348, 8926, 3032, 1661, 2516; ERSPAN:
//! draft-foschiano-erspan.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::field::{self, be16, be32};

/// More layers than this in one frame is an attack.
const MAX_LAYERS: usize = 24;

/// One TCP segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment<'a> {
    /// Sender.
    pub src: (IpAddr, u16),
    /// Receiver.
    pub dst: (IpAddr, u16),
    /// Sequence number of the first payload byte (of the SYN itself when there is one).
    pub seq: u32,
    /// Acknowledgment number; meaningless without [`ACK`].
    pub ack: u32,
    /// Flag bits: [`FIN`], [`SYN`], [`RST`], [`ACK`].
    pub flags: u8,
    /// The payload as far as it was captured.
    pub payload: &'a [u8],
    /// Its length on the wire.
    pub wire_len: u32,
}

/// The sender has no more data.
pub(super) const FIN: u8 = 0x01;
/// The sender opens the connection.
pub(super) const SYN: u8 = 0x02;
/// The sender aborts the connection.
pub(super) const RST: u8 = 0x04;
/// The acknowledgment number is valid.
pub(super) const ACK: u8 = 0x10;

/// One piece of a fragmented IP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fragment<'a> {
    /// Which packet it is a piece of.
    pub key: FragmentKey,
    /// Position of the piece in the packet's payload, bytes.
    pub offset: u32,
    /// Whether more pieces follow.
    pub more: bool,
    /// The piece as captured.
    pub payload: &'a [u8],
    /// Its length on the wire.
    pub wire_len: u32,
}

/// What the fragments of one packet have in common (RFC 791, RFC 8200 section 4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct FragmentKey {
    pub src: IpAddr,
    pub dst: IpAddr,
    pub id: u32,
    pub protocol: u8,
}

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Frame<'a> {
    /// A TCP segment.
    Tcp(Segment<'a>),
    /// A piece of a packet, to be put together first.
    Fragment(Fragment<'a>),
    /// Something else (ARP, UDP, ICMP, ...).
    Other,
    /// A header is cut, contradicts itself, or is unknown.
    Malformed,
    /// The link type is not one that is known here.
    UnknownLink,
}

/// What the next bytes are.
#[derive(Clone, Copy)]
enum Layer {
    Ethernet,
    EtherType(u16),
    Ip,
    Ipv4,
    Ipv6,
    Mpls,
    Ppp,
    Transport { protocol: u8, src: IpAddr, dst: IpAddr },
}

/// A layer peeled: the next one and where it begins, or the end.
enum Peeled<'a> {
    Next(Layer, &'a [u8], usize),
    Done(Frame<'a>),
}

/// Decodes a frame of link type `link`. `wire_len` is its length before the snap length cut it.
pub(super) fn decode(link: u16, frame: &[u8], wire_len: usize) -> Frame<'_> {
    let missing = wire_len.saturating_sub(frame.len());
    match first_layer(link, frame) {
        Some(Some((layer, rest))) => peel(layer, rest, rest.len() + missing),
        Some(None) => Frame::Malformed,
        None => Frame::UnknownLink,
    }
}

/// Decodes the payload of an IP packet that was put together from fragments.
pub(super) fn decode_payload(key: FragmentKey, payload: &[u8]) -> Frame<'_> {
    peel(Layer::Transport { protocol: key.protocol, src: key.src, dst: key.dst }, payload, payload.len())
}

/// The layer after the link header: `None` for an unknown link type, `Some(None)` for a cut header.
fn first_layer(link: u16, frame: &[u8]) -> Option<Option<(Layer, &[u8])>> {
    let after = |layer, at| frame.get(at..).map(|rest| (layer, rest));
    Some(match link {
        // NULL and LOOP: an address family in the byte order of the capturing host, or big endian.
        0 | 108 => null_family(frame).and_then(|layer| after(layer, 4)),
        1 => after(Layer::Ethernet, 0),
        9 | 50 => after(Layer::Ppp, 0),
        51 => ppp_ether(frame),
        12 | 14 | 101 => after(Layer::Ip, 0),
        // Cisco HDLC: address, control, EtherType.
        104 => be16(frame, 2).and_then(|kind| after(Layer::EtherType(kind), 4)),
        113 => be16(frame, 14).and_then(|kind| after(Layer::EtherType(kind), 16)),
        276 => be16(frame, 0).and_then(|kind| after(Layer::EtherType(kind), 20)),
        228 => after(Layer::Ipv4, 0),
        229 => after(Layer::Ipv6, 0),
        239 => nflog(frame),
        258 => pktap(frame),
        _ => return None,
    })
}

fn null_family(frame: &[u8]) -> Option<Layer> {
    let raw = field::array::<4>(frame, 0)?;
    // Families are small numbers: whichever order gives one is right.
    match u32::from_le_bytes(raw).min(u32::from_be_bytes(raw)) {
        2 => Some(Layer::Ipv4),
        10 | 24 | 28 | 30 => Some(Layer::Ipv6),
        _ => None,
    }
}

fn ppp_ether(frame: &[u8]) -> Option<(Layer, &[u8])> {
    frame.get(6..).map(|rest| (Layer::Ppp, rest))
}

/// Linux netfilter log: TLVs in host order; the packet is type 9.
fn nflog(frame: &[u8]) -> Option<(Layer, &[u8])> {
    let mut rest = frame.get(4..)?;
    for _ in 0..64 {
        let len = usize::from(u16::from_le_bytes(field::array(rest, 0)?));
        let kind = u16::from_le_bytes(field::array(rest, 2)?);
        if len < 4 {
            return None;
        }
        if kind == 9 {
            return Some((Layer::Ip, rest.get(4..len.min(rest.len()))?));
        }
        rest = rest.get(len.next_multiple_of(4)..)?;
    }
    None
}

/// Apple's pktap: a header that names its own length and the inner link type.
fn pktap(frame: &[u8]) -> Option<(Layer, &[u8])> {
    let len = u32::from_le_bytes(field::array(frame, 0)?) as usize;
    let inner = u32::from_le_bytes(field::array(frame, 8)?);
    let rest = frame.get(len..)?;
    match inner {
        0 | 108 => Some((null_family(rest)?, rest.get(4..)?)),
        1 => Some((Layer::Ethernet, rest)),
        12 | 14 | 101 => Some((Layer::Ip, rest)),
        _ => None,
    }
}

fn peel<'a>(mut layer: Layer, mut bytes: &'a [u8], mut wire_len: usize) -> Frame<'a> {
    for _ in 0..MAX_LAYERS {
        let peeled = match layer {
            Layer::Ethernet => ethernet(bytes, wire_len),
            Layer::EtherType(kind) => ether_type(kind, bytes, wire_len),
            Layer::Ip => ip(bytes, wire_len),
            Layer::Ipv4 => ipv4(bytes, wire_len),
            Layer::Ipv6 => ipv6(bytes, wire_len),
            Layer::Mpls => mpls(bytes, wire_len),
            Layer::Ppp => ppp(bytes, wire_len),
            Layer::Transport { protocol, src, dst } => transport(protocol, (src, dst), bytes, wire_len),
        };
        match peeled {
            Some(Peeled::Next(next, rest, len)) => (layer, bytes, wire_len) = (next, rest, len),
            Some(Peeled::Done(frame)) => return frame,
            None => return Frame::Malformed,
        }
    }
    Frame::Malformed
}

/// The next layer begins `skip` bytes further.
fn next(layer: Layer, bytes: &[u8], wire_len: usize, skip: usize) -> Option<Peeled<'_>> {
    Some(Peeled::Next(layer, bytes.get(skip..)?, wire_len.saturating_sub(skip)))
}

fn ethernet(bytes: &[u8], wire_len: usize) -> Option<Peeled<'_>> {
    next(Layer::EtherType(be16(bytes, 12)?), bytes, wire_len, 14)
}

fn ether_type(kind: u16, bytes: &[u8], wire_len: usize) -> Option<Peeled<'_>> {
    match kind {
        0x0800 => next(Layer::Ipv4, bytes, wire_len, 0),
        0x86dd => next(Layer::Ipv6, bytes, wire_len, 0),
        // 802.1Q, 802.1ad, and the older tags for stacked VLANs.
        0x8100 | 0x88a8 | 0x9100 | 0x9200 | 0x9300 => next(Layer::EtherType(be16(bytes, 2)?), bytes, wire_len, 4),
        0x8847 | 0x8848 => next(Layer::Mpls, bytes, wire_len, 0),
        // PPPoE session.
        0x8864 => next(Layer::Ppp, bytes, wire_len, 6),
        // Cisco's VN-Tag.
        0x8926 => next(Layer::EtherType(be16(bytes, 4)?), bytes, wire_len, 6),
        // Transparent Ethernet bridging (GRE, Geneve, SLL of some devices).
        0x6558 => next(Layer::Ethernet, bytes, wire_len, 0),
        // A length: LLC, of which SNAP carries an EtherType.
        0..=1500 if bytes.starts_with(&[0xaa, 0xaa, 0x03]) => {
            next(Layer::EtherType(be16(bytes, 6)?), bytes, wire_len, 8)
        }
        _ => Some(Peeled::Done(Frame::Other)),
    }
}

fn ip(bytes: &[u8], wire_len: usize) -> Option<Peeled<'_>> {
    match field::u8(bytes, 0)? >> 4 {
        4 => next(Layer::Ipv4, bytes, wire_len, 0),
        6 => next(Layer::Ipv6, bytes, wire_len, 0),
        _ => None,
    }
}

fn mpls(bytes: &[u8], wire_len: usize) -> Option<Peeled<'_>> {
    let bottom = field::u8(bytes, 2)? & 1 != 0;
    if !bottom {
        return next(Layer::Mpls, bytes, wire_len, 4);
    }
    // MPLS does not say what follows: an IP version nibble does, and 0 is a pseudowire's control word.
    match field::u8(bytes, 4)? >> 4 {
        4 => next(Layer::Ipv4, bytes, wire_len, 4),
        6 => next(Layer::Ipv6, bytes, wire_len, 4),
        0 => next(Layer::Ethernet, bytes, wire_len, 8),
        _ => next(Layer::Ethernet, bytes, wire_len, 4),
    }
}

fn ppp(bytes: &[u8], wire_len: usize) -> Option<Peeled<'_>> {
    let skip = if bytes.starts_with(&[0xff, 0x03]) || bytes.starts_with(&[0x0f, 0x00]) { 2 } else { 0 };
    let first = field::u8(bytes, skip)?;
    // Protocol field compression leaves one byte, and that one is odd.
    let (protocol, len) = if first & 1 != 0 { (u16::from(first), 1) } else { (be16(bytes, skip)?, 2) };
    match protocol {
        0x0021 => next(Layer::Ipv4, bytes, wire_len, skip + len),
        0x0057 => next(Layer::Ipv6, bytes, wire_len, skip + len),
        0x0281 => next(Layer::Mpls, bytes, wire_len, skip + len),
        // Cisco HDLC frames on a PPP_HDLC interface carry an EtherType.
        0x0800 | 0x86dd => next(Layer::EtherType(protocol), bytes, wire_len, skip + len),
        _ => Some(Peeled::Done(Frame::Other)),
    }
}

/// Cuts the link layer's padding off: `declared` is what the IP header says follows.
fn bounded(payload: &[u8], wire_len: usize, declared: usize) -> (&[u8], usize) {
    // A length of zero, or one beyond the frame, is segmentation offload (the frame is longer than 64 KiB) or damage.
    let len = if declared == 0 { wire_len } else { declared };
    (payload.get(..len).unwrap_or(payload), len)
}

fn ipv4(bytes: &[u8], wire_len: usize) -> Option<Peeled<'_>> {
    let first = field::u8(bytes, 0)?;
    let header = usize::from(first & 0x0f) * 4;
    if first >> 4 != 4 || header < 20 {
        return None;
    }
    let total = usize::from(be16(bytes, 2)?);
    let declared = match total {
        0 => 0,
        _ if total < header => return None,
        _ => total - header,
    };
    let (src, dst) = (Ipv4Addr::from(field::array::<4>(bytes, 12)?), Ipv4Addr::from(field::array::<4>(bytes, 16)?));
    let (src, dst, protocol) = (IpAddr::V4(src), IpAddr::V4(dst), field::u8(bytes, 9)?);
    let rest = bytes.get(header..)?;
    if total == header {
        return Some(Peeled::Done(Frame::Other));
    }
    let (payload, len) = bounded(rest, wire_len.saturating_sub(header), declared);
    let fragment = be16(bytes, 6)?;
    let (more, offset) = (fragment & 0x2000 != 0, u32::from(fragment & 0x1fff) * 8);
    if more || offset != 0 {
        let key = FragmentKey { src, dst, id: u32::from(be16(bytes, 4)?), protocol };
        let wire_len = u32::try_from(len).ok()?;
        return Some(Peeled::Done(Frame::Fragment(Fragment { key, offset, more, payload, wire_len })));
    }
    Some(Peeled::Next(Layer::Transport { protocol, src, dst }, payload, len))
}

fn ipv6(bytes: &[u8], wire_len: usize) -> Option<Peeled<'_>> {
    if field::u8(bytes, 0)? >> 4 != 6 {
        return None;
    }
    let declared = usize::from(be16(bytes, 4)?);
    let src = IpAddr::V6(Ipv6Addr::from(field::array::<16>(bytes, 8)?));
    let dst = IpAddr::V6(Ipv6Addr::from(field::array::<16>(bytes, 24)?));
    let mut protocol = field::u8(bytes, 6)?;
    let (mut rest, mut len) = bounded(bytes.get(40..)?, wire_len.saturating_sub(40), declared);
    for _ in 0..MAX_LAYERS {
        let skip = match protocol {
            // Hop-by-hop, routing, destination options, mobility, HIP, shim6.
            0 | 43 | 60 | 135 | 139 | 140 => (usize::from(field::u8(rest, 1)?) + 1) * 8,
            // Authentication header: its length counts 4-byte words, less two.
            51 => (usize::from(field::u8(rest, 1)?) + 2) * 4,
            44 => {
                let (bits, id, next) = (be16(rest, 2)?, be32(rest, 4)?, field::u8(rest, 0)?);
                let (offset, more) = (u32::from(bits & 0xfff8), bits & 1 != 0);
                if offset != 0 || more {
                    let key = FragmentKey { src, dst, id, protocol: next };
                    let wire_len = u32::try_from(len.saturating_sub(8)).ok()?;
                    let payload = rest.get(8..)?;
                    return Some(Peeled::Done(Frame::Fragment(Fragment { key, offset, more, payload, wire_len })));
                }
                8
            }
            _ => return Some(Peeled::Next(Layer::Transport { protocol, src, dst }, rest, len)),
        };
        protocol = field::u8(rest, 0)?;
        rest = rest.get(skip..)?;
        len = len.saturating_sub(skip);
    }
    None
}

fn transport<'a>(protocol: u8, ends: (IpAddr, IpAddr), bytes: &'a [u8], wire_len: usize) -> Option<Peeled<'a>> {
    match protocol {
        6 => tcp(ends, bytes, wire_len).map(|segment| Peeled::Done(Frame::Tcp(segment))),
        17 => udp(ends, bytes, wire_len),
        47 => gre(bytes, wire_len),
        4 => next(Layer::Ipv4, bytes, wire_len, 0),
        41 => next(Layer::Ipv6, bytes, wire_len, 0),
        137 => next(Layer::Mpls, bytes, wire_len, 0),
        // After reassembly the first bytes may still be IPv6 extension headers.
        0 | 43 | 60 if ends.0.is_ipv6() => {
            let skip = (usize::from(field::u8(bytes, 1)?) + 1) * 8;
            let layer = Layer::Transport { protocol: field::u8(bytes, 0)?, src: ends.0, dst: ends.1 };
            next(layer, bytes, wire_len, skip)
        }
        51 => {
            let skip = (usize::from(field::u8(bytes, 1)?) + 2) * 4;
            let layer = Layer::Transport { protocol: field::u8(bytes, 0)?, src: ends.0, dst: ends.1 };
            next(layer, bytes, wire_len, skip)
        }
        _ => Some(Peeled::Done(Frame::Other)),
    }
}

fn tcp<'a>((src, dst): (IpAddr, IpAddr), bytes: &'a [u8], wire_len: usize) -> Option<Segment<'a>> {
    let header = usize::from(field::u8(bytes, 12)? >> 4) * 4;
    if header < 20 || wire_len < header {
        return None;
    }
    Some(Segment {
        src: (src, be16(bytes, 0)?),
        dst: (dst, be16(bytes, 2)?),
        seq: be32(bytes, 4)?,
        ack: be32(bytes, 8)?,
        flags: field::u8(bytes, 13)?,
        // The snap length may end inside the options: then there is no payload, only its length.
        payload: field::from(bytes, header),
        wire_len: u32::try_from(wire_len - header).ok()?,
    })
}

/// Only tunnels matter here.
fn udp<'a>((src, dst): (IpAddr, IpAddr), bytes: &'a [u8], wire_len: usize) -> Option<Peeled<'a>> {
    match be16(bytes, 2)? {
        // VXLAN by IANA's and Linux's older default port: flag I, then Ethernet.
        4789 | 8472 if field::u8(bytes, 8)? & 0x08 != 0 => next(Layer::Ethernet, bytes, wire_len, 16),
        4790 => match field::u8(bytes, 11)? {
            1 => next(Layer::Ipv4, bytes, wire_len, 16),
            2 => next(Layer::Ipv6, bytes, wire_len, 16),
            3 => next(Layer::Ethernet, bytes, wire_len, 16),
            _ => Some(Peeled::Done(Frame::Other)),
        },
        6081 => geneve(bytes, wire_len),
        // MPLS over UDP (RFC 7510).
        6635 => next(Layer::Mpls, bytes, wire_len, 8),
        // GRE over UDP (RFC 8086).
        4754 => next(Layer::Transport { protocol: 47, src, dst }, bytes, wire_len, 8),
        _ => Some(Peeled::Done(Frame::Other)),
    }
}

fn geneve(bytes: &[u8], wire_len: usize) -> Option<Peeled<'_>> {
    let first = field::u8(bytes, 8)?;
    if first >> 6 != 0 {
        return Some(Peeled::Done(Frame::Other));
    }
    let options = usize::from(first & 0x3f) * 4;
    next(Layer::EtherType(be16(bytes, 10)?), bytes, wire_len, 8 + 8 + options)
}

fn gre(bytes: &[u8], wire_len: usize) -> Option<Peeled<'_>> {
    let (flags, kind) = (be16(bytes, 0)?, be16(bytes, 2)?);
    let has = |bit: u16| usize::from(flags & bit != 0) * 4;
    let sequence = flags & 0x1000 != 0;
    match flags & 0x0007 {
        0 => {}
        // Version 1 is PPTP: key always, sequence and acknowledgment by flag, then PPP.
        1 if kind == 0x880b => return next(Layer::Ppp, bytes, wire_len, 8 + has(0x1000) + has(0x0080)),
        _ => return Some(Peeled::Done(Frame::Other)),
    }
    // Checksum or routing present: the checksum field and its neighbour are there.
    let checksum = usize::from(flags & 0xc000 != 0) * 4;
    let skip = 4 + checksum + has(0x2000) + has(0x1000);
    match kind {
        // ERSPAN: type I has no header of its own (and no GRE sequence number), type II has 8 bytes.
        0x88be => next(Layer::Ethernet, bytes, wire_len, skip + if sequence { 8 } else { 0 }),
        0x22eb => erspan3(bytes, wire_len, skip),
        // PPP in GRE version 0 does not occur; WCCP has a 4-byte header before IPv4.
        0x883e => {
            let header = usize::from(field::u8(bytes, skip)? >> 4 != 4) * 4;
            next(Layer::Ipv4, bytes, wire_len, skip + header)
        }
        _ => next(Layer::EtherType(kind), bytes, wire_len, skip),
    }
}

/// ERSPAN type III: 12 bytes, and 8 more when the O bit says so.
fn erspan3(bytes: &[u8], wire_len: usize, skip: usize) -> Option<Peeled<'_>> {
    let last = be16(bytes, skip + 10)?;
    let optional = usize::from(last & 1 != 0) * 8;
    // The frame type field: 0 is Ethernet, 2 is IP.
    let layer = if last >> 10 & 0x1f == 2 { Layer::Ip } else { Layer::Ethernet };
    next(layer, bytes, wire_len, skip + 12 + optional)
}
