//! Makes packets: TCP conversations, every encapsulation, every capture file variant, and what goes wrong with captures.
//! Deterministic: the same calls give the same bytes.
#![allow(dead_code, clippy::unwrap_used)]

use std::net::{IpAddr, SocketAddr};

/// xorshift64*: small, and the same everywhere.
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Rng {
        Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `end` (0 when `end` is 0).
    pub fn below(&mut self, end: usize) -> usize {
        if end == 0 { 0 } else { (self.next() % end as u64) as usize }
    }

    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

/// An IP packet of a capture.
#[derive(Clone, Debug, PartialEq)]
pub struct Packet {
    /// Nanoseconds since the epoch.
    pub at: u64,
    /// The packet from its IP header on.
    pub ip: Vec<u8>,
    /// Payload length: 0 for bare acknowledgments.
    pub payload: usize,
    /// What it is part of ([`Conversation::tag`]).
    pub tag: u32,
}

pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const PSH: u8 = 8;
pub const ACK: u8 = 16;

/// A TCP connection whose packets are being made. Side 0 is the client.
pub struct Conversation {
    pub ends: [SocketAddr; 2],
    pub seq: [u32; 2],
    pub at: u64,
    pub mss: usize,
    pub packets: Vec<Packet>,
    /// Put on the packets that follow.
    pub tag: u32,
    id: u16,
}

impl Conversation {
    pub fn new(client: &str, server: &str, at: u64) -> Conversation {
        let ends = [client.parse().unwrap(), server.parse().unwrap()];
        Conversation { ends, seq: [1_000_000, 4_294_960_000], at, mss: 1448, packets: Vec::new(), tag: 0, id: 1 }
    }

    /// One segment from `side`, without moving its sequence number.
    pub fn raw(&mut self, side: usize, flags: u8, seq: u32, ack: u32, payload: &[u8]) {
        let tcp = tcp(self.ends[side].port(), self.ends[1 - side].port(), seq, ack, flags, payload);
        let ip = ip(self.ends[side].ip(), self.ends[1 - side].ip(), 6, self.id, &tcp);
        self.id = self.id.wrapping_add(1);
        self.at += 20_000;
        self.packets.push(Packet { at: self.at, ip, payload: payload.len(), tag: self.tag });
    }

    pub fn open(&mut self) -> &mut Self {
        self.raw(0, SYN, self.seq[0], 0, b"");
        self.seq[0] = self.seq[0].wrapping_add(1);
        self.raw(1, SYN | ACK, self.seq[1], self.seq[0], b"");
        self.seq[1] = self.seq[1].wrapping_add(1);
        self.ack(0)
    }

    pub fn ack(&mut self, side: usize) -> &mut Self {
        self.raw(side, ACK, self.seq[side], self.seq[1 - side], b"");
        self
    }

    /// Sends bytes in segments; every second one is acknowledged, and the last.
    pub fn send(&mut self, side: usize, bytes: &[u8]) -> &mut Self {
        for (index, piece) in bytes.chunks(self.mss).enumerate() {
            self.raw(side, ACK | PSH, self.seq[side], self.seq[1 - side], piece);
            self.seq[side] = self.seq[side].wrapping_add(piece.len() as u32);
            if index % 2 == 1 {
                self.ack(1 - side);
            }
        }
        self.ack(1 - side)
    }

    pub fn wait(&mut self, nanos: u64) -> &mut Self {
        self.at += nanos;
        self
    }

    pub fn fin(&mut self, side: usize) -> &mut Self {
        self.raw(side, FIN | ACK, self.seq[side], self.seq[1 - side], b"");
        self.seq[side] = self.seq[side].wrapping_add(1);
        self.ack(1 - side)
    }

    pub fn close(&mut self) -> &mut Self {
        self.fin(0).fin(1)
    }

    pub fn reset(&mut self, side: usize) -> &mut Self {
        self.raw(side, RST | ACK, self.seq[side], self.seq[1 - side], b"");
        self
    }
}

/// A TCP segment with a timestamp option, and a checksum that is wrong on purpose (offload).
pub fn tcp(src: u16, dst: u16, seq: u32, ack: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(32 + payload.len());
    bytes.extend(src.to_be_bytes());
    bytes.extend(dst.to_be_bytes());
    bytes.extend(seq.to_be_bytes());
    bytes.extend(ack.to_be_bytes());
    bytes.extend([0x80, flags, 0x01, 0xf6, 0xfe, 0x30, 0, 0]);
    bytes.extend([1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]);
    bytes.extend(payload);
    bytes
}

pub fn udp(src: u16, dst: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(src.to_be_bytes());
    bytes.extend(dst.to_be_bytes());
    bytes.extend((payload.len() as u16 + 8).to_be_bytes());
    bytes.extend([0, 0]);
    bytes.extend(payload);
    bytes
}

pub fn ip(src: IpAddr, dst: IpAddr, protocol: u8, id: u16, payload: &[u8]) -> Vec<u8> {
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let mut bytes = vec![0x45, 0];
            bytes.extend((payload.len() as u16 + 20).to_be_bytes());
            bytes.extend(id.to_be_bytes());
            bytes.extend([0x40, 0, 64, protocol, 0, 0]);
            bytes.extend(src.octets());
            bytes.extend(dst.octets());
            bytes.extend(payload);
            bytes
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let mut bytes = vec![0x60, 0, 0, 0];
            bytes.extend((payload.len() as u16).to_be_bytes());
            bytes.extend([protocol, 64]);
            bytes.extend(src.octets());
            bytes.extend(dst.octets());
            bytes.extend(payload);
            bytes
        }
        _ => panic!("both ends speak the same IP"),
    }
}

/// What is wrapped around an IP packet, from the link layer in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrap {
    Ethernet,
    PaddedEthernet,
    Vlan,
    QinQ,
    Mpls,
    MplsEthernet,
    Snap,
    Pppoe,
    Ppp,
    NullLittle,
    NullBig,
    Loop,
    Raw,
    RawIp,
    Sll,
    Sll2,
    Vxlan,
    Geneve,
    Gre,
    GreKeyed,
    GreEthernet,
    Erspan1,
    Erspan2,
    Erspan3,
    IpInIp,
    VxlanInVlan,
}

impl Wrap {
    pub const ALL: [Wrap; 26] = [
        Wrap::Ethernet,
        Wrap::PaddedEthernet,
        Wrap::Vlan,
        Wrap::QinQ,
        Wrap::Mpls,
        Wrap::MplsEthernet,
        Wrap::Snap,
        Wrap::Pppoe,
        Wrap::Ppp,
        Wrap::NullLittle,
        Wrap::NullBig,
        Wrap::Loop,
        Wrap::Raw,
        Wrap::RawIp,
        Wrap::Sll,
        Wrap::Sll2,
        Wrap::Vxlan,
        Wrap::Geneve,
        Wrap::Gre,
        Wrap::GreKeyed,
        Wrap::GreEthernet,
        Wrap::Erspan1,
        Wrap::Erspan2,
        Wrap::Erspan3,
        Wrap::IpInIp,
        Wrap::VxlanInVlan,
    ];

    /// The link type of the file.
    pub fn link(self, v6: bool) -> u32 {
        match self {
            Wrap::Ppp => 9,
            Wrap::NullLittle | Wrap::NullBig => 0,
            Wrap::Loop => 108,
            Wrap::Raw => 101,
            Wrap::RawIp => {
                if v6 {
                    229
                } else {
                    228
                }
            }
            Wrap::Sll => 113,
            Wrap::Sll2 => 276,
            _ => 1,
        }
    }

    /// The frame around an IP packet.
    pub fn frame(self, ip_packet: &[u8]) -> Vec<u8> {
        let v6 = ip_packet[0] >> 4 == 6;
        let kind: u16 = if v6 { 0x86dd } else { 0x0800 };
        let k = kind.to_be_bytes();
        let ethernet = |tail: &[u8]| [&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2][..], tail].concat();
        let inner = [ethernet(&k), ip_packet.to_vec()].concat();
        let outer = |protocol: u8, payload: Vec<u8>| {
            let [a, b]: [IpAddr; 2] = ["172.16.0.1".parse().unwrap(), "172.16.0.2".parse().unwrap()];
            [ethernet(&[8, 0]), ip(a, b, protocol, 7, &payload)].concat()
        };
        let gre = |head: &[u8], rest: &[u8]| outer(47, [head, rest].concat());
        let family: u32 = if v6 { 30 } else { 2 };
        match self {
            Wrap::Ethernet => inner,
            Wrap::PaddedEthernet => [inner, vec![0xaa; 9]].concat(),
            Wrap::Vlan => [ethernet(&[0x81, 0, 0x20, 5]), k.to_vec(), ip_packet.to_vec()].concat(),
            Wrap::QinQ => [ethernet(&[0x88, 0xa8, 0, 9, 0x81, 0, 0x20, 5]), k.to_vec(), ip_packet.to_vec()].concat(),
            Wrap::Mpls => [ethernet(&[0x88, 0x47, 0, 1, 0, 64, 0, 2, 1, 64]), ip_packet.to_vec()].concat(),
            Wrap::MplsEthernet => [ethernet(&[0x88, 0x47, 0, 2, 1, 64, 0, 0, 0, 0]), inner].concat(),
            Wrap::Snap => {
                let len = (ip_packet.len() as u16 + 8).min(1500).to_be_bytes();
                [ethernet(&len), vec![0xaa, 0xaa, 3, 0, 0, 0], k.to_vec(), ip_packet.to_vec()].concat()
            }
            Wrap::Pppoe => {
                let protocol = if v6 { [0, 0x57] } else { [0, 0x21] };
                [ethernet(&[0x88, 0x64, 0x11, 0, 0, 1, 0, 0]), protocol.to_vec(), ip_packet.to_vec()].concat()
            }
            Wrap::Ppp => [vec![0xff, 3, 0, if v6 { 0x57 } else { 0x21 }], ip_packet.to_vec()].concat(),
            Wrap::NullLittle => [family.to_le_bytes().to_vec(), ip_packet.to_vec()].concat(),
            Wrap::NullBig | Wrap::Loop => [family.to_be_bytes().to_vec(), ip_packet.to_vec()].concat(),
            Wrap::Raw | Wrap::RawIp => ip_packet.to_vec(),
            Wrap::Sll => [vec![0, 0, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0], k.to_vec(), ip_packet.to_vec()].concat(),
            Wrap::Sll2 => {
                let tail = [0, 0, 0, 0, 0, 2, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0];
                [k.to_vec(), tail.to_vec(), ip_packet.to_vec()].concat()
            }
            Wrap::Vxlan => outer(17, udp(55_555, 4789, &[&[8, 0, 0, 0, 0, 0, 9, 0][..], &inner].concat())),
            Wrap::VxlanInVlan => {
                let tagged = [ethernet(&[0x81, 0, 0, 7]), k.to_vec(), ip_packet.to_vec()].concat();
                outer(17, udp(55_555, 8472, &[&[8, 0, 0, 0, 0, 0, 9, 0][..], &tagged].concat()))
            }
            Wrap::Geneve => {
                let head = [2, 0, 0x65, 0x58, 0, 0, 9, 0, 0, 1, 1, 1, 1, 2, 3, 4];
                outer(17, udp(55_555, 6081, &[&head[..], &inner].concat()))
            }
            Wrap::Gre => gre(&[0, 0, k[0], k[1]], ip_packet),
            Wrap::GreKeyed => gre(&[0xb0, 0, k[0], k[1], 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 9], ip_packet),
            Wrap::GreEthernet => gre(&[0, 0, 0x65, 0x58], &inner),
            Wrap::Erspan1 => gre(&[0, 0, 0x88, 0xbe], &inner),
            Wrap::Erspan2 => gre(&[0x10, 0, 0x88, 0xbe, 0, 0, 0, 1, 0x10, 0, 0, 1, 0, 0, 0, 1], &inner),
            Wrap::Erspan3 => {
                let head = [0x10, 0, 0x22, 0xeb, 0, 0, 0, 1, 0x20, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1];
                gre(&[&head[..], &[0; 8]].concat(), &inner)
            }
            Wrap::IpInIp => outer(if v6 { 41 } else { 4 }, ip_packet.to_vec()),
        }
    }
}

/// A frame of a capture file.
#[derive(Clone, Debug)]
pub struct Frame {
    pub at: u64,
    /// Index of the interface (pcapng).
    pub interface: u32,
    pub bytes: Vec<u8>,
    pub wire_len: usize,
}

/// Frames of one encapsulation.
pub fn frames(packets: &[Packet], wrap: Wrap) -> Vec<Frame> {
    packets.iter().map(|packet| frame(packet, wrap, 0)).collect()
}

pub fn frame(packet: &Packet, wrap: Wrap, interface: u32) -> Frame {
    let bytes = wrap.frame(&packet.ip);
    Frame { at: packet.at, interface, wire_len: bytes.len(), bytes }
}

/// Cuts frames at a snap length.
pub fn snap(frames: &mut [Frame], snaplen: usize) {
    frames.iter_mut().for_each(|frame| frame.bytes.truncate(snaplen));
}

/// The variants of the pcap format.
#[derive(Clone, Copy, Debug)]
pub struct Pcap {
    pub big: bool,
    pub nanos: bool,
    pub modified: bool,
}

impl Pcap {
    pub const PLAIN: Pcap = Pcap { big: false, nanos: true, modified: false };

    pub fn file(self, link: u32, frames: &[Frame]) -> Vec<u8> {
        let word = |value: u32| if self.big { value.to_be_bytes() } else { value.to_le_bytes() };
        let magic = match (self.nanos, self.modified) {
            (false, false) => 0xa1b2_c3d4,
            (true, _) => 0xa1b2_3c4d,
            (false, true) => 0xa1b2_cd34,
        };
        let mut file = word(magic).to_vec();
        file.extend(if self.big { [0, 2, 0, 4] } else { [2, 0, 4, 0] });
        for value in [0, 0, 262_144, link] {
            file.extend(word(value));
        }
        for frame in frames {
            let fraction = frame.at % 1_000_000_000 / if self.nanos { 1 } else { 1000 };
            let lens = [frame.bytes.len() as u32, frame.wire_len as u32];
            for value in [(frame.at / 1_000_000_000) as u32, fraction as u32, lens[0], lens[1]] {
                file.extend(word(value));
            }
            if self.modified && !self.nanos {
                file.extend([0; 8]);
            }
            file.extend(&frame.bytes);
        }
        file
    }
}

/// Writes pcapng blocks.
pub struct PcapNg {
    pub big: bool,
    pub bytes: Vec<u8>,
}

impl PcapNg {
    pub fn new(big: bool) -> PcapNg {
        let mut ng = PcapNg { big, bytes: Vec::new() };
        ng.section();
        ng
    }

    fn word(&self, value: u32) -> [u8; 4] {
        if self.big { value.to_be_bytes() } else { value.to_le_bytes() }
    }

    fn half(&self, value: u16) -> [u8; 2] {
        if self.big { value.to_be_bytes() } else { value.to_le_bytes() }
    }

    pub fn block(&mut self, kind: u32, body: &[u8]) -> &mut Self {
        let padded = body.len().next_multiple_of(4);
        let len = self.word(padded as u32 + 12);
        let kind = self.word(kind);
        self.bytes.extend(kind);
        self.bytes.extend(len);
        self.bytes.extend(body);
        self.bytes.extend(vec![0; padded - body.len()]);
        self.bytes.extend(len);
        self
    }

    pub fn option(&self, code: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = [self.half(code), self.half(value.len() as u16)].concat();
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    pub fn section(&mut self) -> &mut Self {
        let mut body = self.word(0x1a2b_3c4d).to_vec();
        body.extend(self.half(1));
        body.extend(self.half(0));
        body.extend([0xff; 8]);
        body.extend(self.option(1, b"made for a test"));
        body.extend([0; 4]);
        self.block(0x0a0d_0d0a, &body)
    }

    pub fn interface(&mut self, link: u16, snaplen: u32, options: &[(u16, Vec<u8>)]) -> &mut Self {
        let mut body = [self.half(link), self.half(0)].concat();
        body.extend(self.word(snaplen));
        options.iter().for_each(|(code, value)| body.extend(self.option(*code, value)));
        body.extend([0; 4]);
        self.block(1, &body)
    }

    /// An enhanced packet; `units` is its time in the interface's units.
    pub fn enhanced(&mut self, frame: &Frame, units: u64) -> &mut Self {
        let mut body = Vec::new();
        for value in
            [frame.interface, (units >> 32) as u32, units as u32, frame.bytes.len() as u32, frame.wire_len as u32]
        {
            body.extend(self.word(value));
        }
        body.extend(&frame.bytes);
        body.resize(body.len().next_multiple_of(4), 0);
        body.extend(self.option(1, "a comment, \u{e9}".as_bytes()));
        body.extend([0; 4]);
        self.block(6, &body)
    }

    pub fn simple(&mut self, frame: &Frame) -> &mut Self {
        let body = [&self.word(frame.wire_len as u32)[..], &frame.bytes].concat();
        self.block(3, &body)
    }

    pub fn obsolete(&mut self, frame: &Frame, units: u64) -> &mut Self {
        let mut body = [self.half(frame.interface as u16), self.half(0)].concat();
        for value in [(units >> 32) as u32, units as u32, frame.bytes.len() as u32, frame.wire_len as u32] {
            body.extend(self.word(value));
        }
        body.extend(&frame.bytes);
        self.block(2, &body)
    }

    pub fn key_log(&mut self, text: &str) -> &mut Self {
        let body = [&self.word(0x544c_534b)[..], &self.word(text.len() as u32), text.as_bytes()].concat();
        self.block(0x0a, &body)
    }
}

/// Cuts IP packets into fragments of at most `mtu` payload bytes (a multiple of 8), in reverse order when `reverse`.
pub fn fragment(packet: &Packet, mtu: usize, reverse: bool) -> Vec<Packet> {
    let v6 = packet.ip[0] >> 4 == 6;
    let header = if v6 { 40 } else { 20 };
    let (head, payload) = packet.ip.split_at(header);
    let last = payload.len().saturating_sub(1) / mtu;
    let mut pieces: Vec<Packet> = payload
        .chunks(mtu)
        .enumerate()
        .map(|(index, piece)| {
            let mut ip = head.to_vec();
            let (offset, more) = (index * mtu / 8, index != last);
            if v6 {
                let bits = (offset as u16) << 3 | u16::from(more);
                ip[4..6].copy_from_slice(&(piece.len() as u16 + 8).to_be_bytes());
                let next = std::mem::replace(&mut ip[6], 44);
                ip.extend([next, 0]);
                ip.extend(bits.to_be_bytes());
                ip.extend((packet.at as u32).to_be_bytes());
            } else {
                ip[2..4].copy_from_slice(&(piece.len() as u16 + 20).to_be_bytes());
                ip[6..8].copy_from_slice(&(offset as u16 | if more { 0x2000 } else { 0 }).to_be_bytes());
            }
            ip.extend(piece);
            Packet { at: packet.at, ip, payload: packet.payload, tag: packet.tag }
        })
        .collect();
    if reverse {
        pieces.reverse();
    }
    pieces
}

/// Moves packets later by up to `distance` places, and doubles some: what several queues and interfaces do to a capture.
pub fn disorder(packets: &mut Vec<Packet>, distance: usize, rng: &mut Rng) {
    let mut keyed: Vec<(usize, Packet)> = Vec::new();
    for (place, packet) in packets.drain(..).enumerate() {
        if rng.chance(15) {
            keyed.push((place + rng.below(distance), packet.clone()));
        }
        let late = if rng.chance(30) { rng.below(distance) } else { 0 };
        keyed.push((place + late, packet));
    }
    keyed.sort_by_key(|(place, _)| *place);
    packets.extend(keyed.into_iter().map(|(_, packet)| packet));
}
