//! ZeroMQ's wire protocol, as much of it as a PULL socket needs: ZMTP 3.0 with the NULL mechanism (rfc.zeromq.org/spec/23).
//!
//! Pure: bytes in, messages and bytes to send back out. Anything that breaks the protocol ends the connection.

use bytes::{Buf, Bytes, BytesMut};

/// Signature, version 3.0, mechanism NULL, not a server, filler.
pub(super) const GREETING: [u8; 64] = {
    let mut greeting = [0; 64];
    greeting[0] = 0xff;
    greeting[9] = 0x7f;
    greeting[10] = 3;
    greeting[12] = b'N';
    greeting[13] = b'U';
    greeting[14] = b'L';
    greeting[15] = b'L';
    greeting
};

/// The READY command of a PULL socket.
pub(super) const READY: &[u8] = b"\x04\x1a\x05READY\x0bSocket-Type\x00\x00\x00\x04PULL";

/// No frame of a sane peer is longer.
const MAX_FRAME: u64 = 4 << 20;
const MORE_BITS: u8 = 0x01;
const LONG: u8 = 0x02;
const COMMAND: u8 = 0x04;

/// What a peer said.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// Its greeting is fine: answer with [`READY`].
    Hello,
    /// It asks whether anybody is there: answer with this.
    Ping(Bytes),
    /// A part of a message.
    Message(Bytes),
}

/// One peer's side of the conversation.
#[derive(Default)]
pub(super) struct Peer {
    greeted: bool,
    ready: bool,
}

impl Peer {
    /// Takes the next thing out of what arrived; `None` when it is not whole yet. An error ends the connection.
    pub(super) fn next(&mut self, buf: &mut BytesMut) -> Result<Option<Said>, &'static str> {
        if !self.greeted {
            return self.greeting(buf);
        }
        loop {
            let Some(&flags) = buf.first() else { return Ok(None) };
            if flags & !(MORE_BITS | LONG | COMMAND) != 0 {
                return Err("a frame has unknown flags");
            }
            let (head, len) = match (flags & LONG != 0, buf.get(1), buf.get(1..9)) {
                (false, Some(&len), _) => (2, u64::from(len)),
                (true, _, Some(len)) => (9, len.iter().fold(0, |sum, &byte| sum << 8 | u64::from(byte))),
                _ => return Ok(None),
            };
            if len > MAX_FRAME {
                return Err("a frame is too long");
            }
            let len = len as usize;
            if buf.len() < head + len {
                return Ok(None);
            }
            buf.advance(head);
            let body = buf.split_to(len).freeze();
            if flags & COMMAND == 0 {
                return if self.ready { Ok(Some(Said::Message(body))) } else { Err("a message comes before READY") };
            }
            if let Some(said) = self.command(&body)? {
                return Ok(Some(said));
            }
        }
    }

    fn greeting(&mut self, buf: &mut BytesMut) -> Result<Option<Said>, &'static str> {
        let signature = buf.first().is_none_or(|&byte| byte == 0xff) && buf.get(9).is_none_or(|&byte| byte & 1 == 1);
        if !signature {
            return Err("the peer does not speak ZMTP");
        }
        if buf.get(10).is_some_and(|&major| major < 3) {
            return Err("the peer speaks a ZMTP older than 3.0");
        }
        if buf.len() < 64 {
            return Ok(None);
        }
        if buf.get(12..17) != Some(b"NULL\0") {
            return Err("the peer wants a security mechanism other than NULL");
        }
        buf.advance(64);
        self.greeted = true;
        Ok(Some(Said::Hello))
    }

    fn command(&mut self, body: &Bytes) -> Result<Option<Said>, &'static str> {
        let Some((&len, rest)) = body.split_first() else { return Err("a command is empty") };
        let name = rest.get(..usize::from(len)).ok_or("a command is cut")?;
        match name {
            b"READY" => {
                // A metadata value: 4-byte length, then its text.
                let pushes = rest.windows(8).any(|window| window == b"\0\0\0\x04PUSH");
                if !pushes {
                    return Err("the peer is no PUSH socket");
                }
                self.ready = true;
                Ok(None)
            }
            b"PING" => {
                // Name, two bytes of time to live, at most 16 of context.
                let context = rest.get(6..).unwrap_or_default();
                let context = context.get(..context.len().min(16)).unwrap_or_default();
                let mut pong = vec![COMMAND, 5 + context.len() as u8, 4];
                pong.extend_from_slice(b"PONG");
                pong.extend_from_slice(context);
                Ok(Some(Said::Ping(pong.into())))
            }
            b"ERROR" => Err("the peer refused"),
            _ => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push_ready() -> Vec<u8> {
        let mut ready = READY.to_vec();
        let at = ready.len() - 4;
        ready[at..].copy_from_slice(b"PUSH");
        ready
    }

    #[test]
    fn ready_names_its_own_length() {
        assert_eq!(usize::from(READY[1]), READY.len() - 2);
    }

    #[test]
    fn a_conversation_in_any_cut_gives_the_same_messages() {
        let mut whole = GREETING.to_vec();
        whole.extend(push_ready());
        whole.extend(b"\x00\x05hello\x04\x09\x04PING\x00\x01ab");
        whole.extend([&[2u8, 0, 0, 0, 0, 0, 0, 1, 44][..], &[7; 300]].concat());
        for step in [1, 2, 7, 64, 65, whole.len()] {
            let (mut peer, mut buf, mut said) = (Peer::default(), BytesMut::new(), Vec::new());
            for piece in whole.chunks(step) {
                buf.extend_from_slice(piece);
                while let Some(next) = peer.next(&mut buf).unwrap() {
                    said.push(next);
                }
            }
            let pong = Said::Ping(Bytes::from_static(b"\x04\x07\x04PONGab"));
            let expected =
                [Said::Hello, Said::Message(Bytes::from_static(b"hello")), pong, Said::Message(vec![7; 300].into())];
            assert_eq!(said, expected, "{step}");
        }
    }

    #[test]
    fn strangers_are_sent_away() {
        for (bytes, why) in [
            (&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], "ZMTP"),
            (&[0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 1], "older"),
            (&[0xff; 64], "mechanism"),
        ] {
            let error = Peer::default().next(&mut BytesMut::from(bytes)).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
        let mut early = BytesMut::from(&[&GREETING[..], b"\x00\x01x"].concat()[..]);
        let mut peer = Peer::default();
        assert_eq!(peer.next(&mut early), Ok(Some(Said::Hello)));
        assert!(peer.next(&mut early).is_err());
    }

    #[test]
    fn any_bytes_are_survived() {
        let mut state = 88_172_645_463_325_252u64;
        for round in 0..2000 {
            let mut bytes = if round % 2 == 0 { [&GREETING[..], &push_ready()].concat() } else { Vec::new() };
            for _ in 0..round % 97 {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                bytes.push((state >> 32) as u8 & if round % 3 == 0 { 7 } else { 0xff });
            }
            let (mut peer, mut buf) = (Peer::default(), BytesMut::from(&bytes[..]));
            while let Ok(Some(_)) = peer.next(&mut buf) {}
        }
    }
}
