//! AWS event-stream framing (`application/vnd.amazon.eventstream`, Bedrock): bytes of a body in, messages out.
//!
//! A message is a prelude (total length, headers' length, CRC32 of both), headers, payload and a CRC32 of all before
//! it; numbers are big-endian. Must not know what a payload means. Surprising fact: the prelude's own checksum makes
//! messages findable in the middle of a stream, so that damage costs one message only.

use crate::http::Header;

/// The smallest message: prelude and checksum around nothing.
const OVERHEAD: usize = 16;
const PRELUDE: usize = 12;

/// One message.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// The headers as sent; [`Message::header`] and [`Message::headers`] read them.
    raw_headers: &'a [u8],
    /// The payload.
    pub payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// The headers that can be read, values as text: strings as sent, numbers in decimal, bytes and UUIDs in hex.
    pub fn headers(&self) -> Vec<Header> {
        let mut rest = self.raw_headers;
        let mut headers = Vec::new();
        while let Some((header, after)) = read_header(rest) {
            headers.push(header);
            rest = after;
        }
        headers
    }

    /// A string header by name (`:message-type`, `:event-type`, `:exception-type`, ...).
    pub fn header(&self, name: &str) -> Option<String> {
        self.headers().into_iter().find(|h| h.name == name).map(|h| h.value)
    }
}

/// Takes a body apart into messages.
#[derive(Debug)]
pub struct Framer {
    max_message_bytes: usize,
    message: Vec<u8>,
    damaged: u64,
    /// Inside damage that is counted already.
    lost: bool,
}

impl Default for Framer {
    /// A framer that keeps messages of up to 16 MiB and 64 KiB (the service's own limit is 16 MiB of payload).
    fn default() -> Framer {
        Framer::new((16 << 20) + (64 << 10))
    }
}

impl Framer {
    /// A framer that takes a message of more than `max_message_bytes` for damage.
    pub fn new(max_message_bytes: usize) -> Framer {
        Framer { max_message_bytes, message: Vec::new(), damaged: 0, lost: false }
    }

    /// Takes the next bytes and hands on each message that they complete and whose checksums hold.
    pub fn push(&mut self, chunk: &[u8], emit: &mut dyn FnMut(Message<'_>)) {
        if self.message.is_empty() {
            let used = self.read(chunk, emit);
            self.message.extend_from_slice(chunk.get(used..).unwrap_or_default());
            return;
        }
        let mut message = std::mem::take(&mut self.message);
        message.extend_from_slice(chunk);
        let used = self.read(&message, emit);
        message.drain(..used.min(message.len()));
        self.message = message;
    }

    /// The body is over; true when it ended in the middle of a message.
    pub fn finish(&mut self) -> bool {
        let cut = !self.message.is_empty();
        self.message.clear();
        cut
    }

    /// Bytes are missing here: the next prelude whose checksum holds begins a new message.
    pub fn gap(&mut self) {
        self.message.clear();
        self.lost = true;
    }

    /// How many times the bytes were no sound message.
    pub fn damaged(&self) -> u64 {
        self.damaged
    }

    /// Reads whole messages off `bytes`; how many bytes are done with.
    fn read(&mut self, bytes: &[u8], emit: &mut dyn FnMut(Message<'_>)) -> usize {
        let mut at = 0;
        loop {
            let rest = bytes.get(at..).unwrap_or_default();
            let Some(prelude) = rest.first_chunk::<PRELUDE>() else { return at };
            let Some((total, headers)) = self.lengths(prelude) else {
                self.note_damage();
                at += 1;
                continue;
            };
            let Some(message) = rest.get(..total) else { return at };
            if number(message, total - 4) != crc32fast::hash(message.get(..total - 4).unwrap_or_default()) {
                // A sound prelude found while looking for the next message is believed when its message is damaged: so
                // no byte is summed more than a few times, whatever the bytes are.
                at += if self.lost { total } else { 1 };
                self.note_damage();
                continue;
            }
            self.lost = false;
            let raw_headers = message.get(PRELUDE..PRELUDE + headers).unwrap_or_default();
            let payload = message.get(PRELUDE + headers..total - 4).unwrap_or_default();
            emit(Message { raw_headers, payload });
            at += total;
        }
    }

    /// Total and headers' length, where the prelude is sound.
    fn lengths(&self, prelude: &[u8; PRELUDE]) -> Option<(usize, usize)> {
        let total = number(prelude, 0) as usize;
        let headers = number(prelude, 4) as usize;
        let fits = total >= OVERHEAD && total <= self.max_message_bytes && headers <= total - OVERHEAD;
        (fits && number(prelude, 8) == crc32fast::hash(prelude.get(..8)?)).then_some((total, headers))
    }

    fn note_damage(&mut self) {
        if !self.lost {
            self.lost = true;
            self.damaged += 1;
        }
    }
}

/// The big-endian number at `at`; 0 where there is none.
fn number(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |four| u32::from_be_bytes(*four))
}

fn read_header(bytes: &[u8]) -> Option<(Header, &[u8])> {
    let (&name_len, rest) = bytes.split_first()?;
    let (name, rest) = rest.split_at_checked(usize::from(name_len))?;
    let (&kind, rest) = rest.split_first()?;
    let (value, rest) = match kind {
        0 => ("true".to_owned(), rest),
        1 => ("false".to_owned(), rest),
        2 => rest.split_first().map(|(&byte, rest)| ((byte as i8).to_string(), rest))?,
        3 => rest.split_first_chunk::<2>().map(|(two, rest)| (i16::from_be_bytes(*two).to_string(), rest))?,
        4 => rest.split_first_chunk::<4>().map(|(four, rest)| (i32::from_be_bytes(*four).to_string(), rest))?,
        5 | 8 => rest.split_first_chunk::<8>().map(|(eight, rest)| (i64::from_be_bytes(*eight).to_string(), rest))?,
        6 | 7 => {
            let (len, rest) = rest.split_first_chunk::<2>()?;
            let (value, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
            (if kind == 7 { String::from_utf8_lossy(value).into_owned() } else { hex(value) }, rest)
        }
        9 => rest.split_first_chunk::<16>().map(|(uuid, rest)| (hex(uuid), rest))?,
        _ => return None,
    };
    Some((Header { name: String::from_utf8_lossy(name).into_owned(), value }, rest))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(headers: &[u8], payload: &[u8]) -> Vec<u8> {
        let mut bytes = ((headers.len() + payload.len() + OVERHEAD) as u32).to_be_bytes().to_vec();
        bytes.extend((headers.len() as u32).to_be_bytes());
        bytes.extend(crc32fast::hash(&bytes).to_be_bytes());
        bytes.extend(headers);
        bytes.extend(payload);
        bytes.extend(crc32fast::hash(&bytes).to_be_bytes());
        bytes
    }

    const HEADERS: &[u8] = b"\x0b:event-type\x07\x00\x05chunk\x01n\x04\xff\xff\xff\xff\x01t\x00";

    type Messages = Vec<(Vec<Header>, Vec<u8>)>;

    fn cut(pieces: &[&[u8]]) -> (Messages, u64, bool) {
        let mut framer = Framer::default();
        let mut messages = Vec::new();
        for piece in pieces {
            framer.push(piece, &mut |m| messages.push((m.headers(), m.payload.to_vec())));
        }
        let cut = framer.finish();
        (messages, framer.damaged(), cut)
    }

    #[test]
    fn any_cut_gives_the_same_messages() {
        let mut bytes = message(HEADERS, b"one");
        bytes.extend(message(&[], b""));
        bytes.extend(message(HEADERS, &[7; 300]));
        let whole = cut(&[&bytes]);
        assert_eq!(whole.0.len(), 3);
        assert_eq!((whole.1, whole.2), (0, false));
        let names: Vec<(&str, &str)> = whole.0[0].0.iter().map(|h| (h.name.as_str(), h.value.as_str())).collect();
        assert_eq!(names, [(":event-type", "chunk"), ("n", "-1"), ("t", "true")]);
        for at in 0..=bytes.len() {
            assert_eq!(cut(&[&bytes[..at], &bytes[at..]]), whole, "cut at {at}");
        }
    }

    #[test]
    fn damage_costs_one_message() {
        let parts = [message(HEADERS, b"one"), message(HEADERS, b"two"), message(HEADERS, b"three")];
        let second = parts[0].len();
        for at in 0..parts[1].len() {
            let mut bytes = parts.concat();
            bytes[second + at] ^= 0x55;
            let (messages, damaged, cut) = cut(&[&bytes]);
            let payloads: Vec<&[u8]> = messages.iter().map(|m| &m.1[..]).collect();
            assert_eq!(payloads, [&b"one"[..], b"three"], "damaged at {at}");
            assert_eq!((damaged, cut), (1, false));
        }
    }

    #[test]
    fn an_end_inside_a_message_is_told() {
        let bytes = message(HEADERS, b"one");
        assert!(cut(&[&bytes[..bytes.len() - 1]]).2);
    }
}
