//! WebSocket frames (RFC 6455) and permessage-deflate (RFC 7692), read passively: bytes of both directions in, whole
//! messages out. Control frames are read and not handed on.
//!
//! Surprising fact: with context takeover each compressed message may refer back to those before it, also to ones that
//! were not seen, and an inflater does not notice. Its history is therefore filled with a byte that no text has; a message
//! in which that byte comes out is counted and dropped, and the exchange says `lost_history`.

use bytes::{Buf, Bytes};
use flate2::{Decompress, FlushDecompress, Status};

use super::exchange::Exchange;
use super::sink::Sink;
use crate::flaw::Flaw;
use crate::http::{Header, Message, Side};

/// A frame's header: two bytes, eight of length, four of mask.
const MAX_FRAME_HEAD: usize = 14;
/// So much is kept while the next frame is looked for after a loss.
const MAX_SEEK: usize = 64 << 10;
const INFLATE_STEP: usize = 16 << 10;

/// A connection (or HTTP/2 stream) that was upgraded.
#[derive(Debug)]
pub(super) struct WebSocket {
    halves: [Half; 2],
    /// That the client said goodbye first was told.
    client_left: bool,
}

#[derive(Debug)]
struct Half {
    side: Side,
    state: State,
    /// A frame's head under way, or what is kept while seeking.
    kept: Vec<u8>,
    message: Option<Gathered>,
    inflate: Option<Inflate>,
    /// A close frame was seen.
    closed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    ExpectFrame,
    Payload { frame: Frame, left: u64 },
    Seek,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Frame {
    fin: bool,
    compressed: bool,
    opcode: u8,
    mask: Option<[u8; 4]>,
    head_len: usize,
    len: u64,
}

/// A message whose last frame is not there yet.
#[derive(Debug)]
struct Gathered {
    text: bool,
    compressed: bool,
    payload: Vec<u8>,
    wire_len: u64,
    /// Bytes are missing, or there were too many.
    spoiled: bool,
}

#[derive(Debug)]
struct Inflate {
    stream: Decompress,
    /// Each message begins with an empty history.
    fresh_each_time: bool,
    /// Part of the history was not seen; [`UNSEEN`] stands in its place.
    unsure: bool,
    /// The stream broke the rules of its coding.
    broken: bool,
}

/// No UTF-8 text has this byte.
const UNSEEN: u8 = 0xff;
/// How far a deflate stream refers back.
const HISTORY_BYTES: usize = 32 << 10;

impl Inflate {
    fn new(fresh_each_time: bool) -> Inflate {
        Inflate { stream: Decompress::new(false), fresh_each_time, unsure: false, broken: false }
    }

    /// The sender's history is not known (any more).
    fn forget(&mut self) {
        if self.fresh_each_time {
            return;
        }
        self.stream.reset(false);
        // A stored block (RFC 1951 section 3.2.4) of the byte that stands for what was not seen.
        let mut block = vec![0x00, 0x00, 0x80, 0xff, 0x7f];
        block.resize(block.len() + HISTORY_BYTES, UNSEEN);
        let mut ignored = vec![0; HISTORY_BYTES + 64];
        self.broken = self.stream.decompress(&block, &mut ignored, FlushDecompress::Sync).is_err();
        self.unsure = true;
    }
}

impl WebSocket {
    /// A WebSocket seen from its beginning, with what its server agreed to.
    pub fn new(response_headers: &[Header]) -> WebSocket {
        let deflate = response_headers
            .iter()
            .filter(|header| header.name.eq_ignore_ascii_case("sec-websocket-extensions"))
            .flat_map(|header| header.value.split(','))
            .map(str::trim)
            .find(|extension| extension.split(';').next().is_some_and(|name| name.trim() == "permessage-deflate"));
        let says = |parameter: &str| {
            deflate
                .is_some_and(|extension| extension.split(';').any(|word| word.trim().eq_ignore_ascii_case(parameter)))
        };
        let inflate = |parameter| deflate.map(|_| Inflate::new(says(parameter)));
        WebSocket {
            halves: [
                Half::new(Side::Request, inflate("client_no_context_takeover")),
                Half::new(Side::Response, inflate("server_no_context_takeover")),
            ],
            client_left: false,
        }
    }

    /// A WebSocket met in the middle: compressed messages are tried, and fail when they refer to what was not seen.
    pub fn met_in_the_middle() -> WebSocket {
        WebSocket { halves: [Half::new(Side::Request, None), Half::new(Side::Response, None)], client_left: false }
    }

    /// True when a close frame was seen from either side.
    pub fn is_closing(&self) -> bool {
        self.halves.iter().any(|half| half.closed)
    }

    /// True when both sides said goodbye.
    pub fn is_closed(&self) -> bool {
        self.halves.iter().all(|half| half.closed)
    }

    pub fn push(&mut self, side: Side, bytes: Bytes, exchange: &mut Exchange, sink: &mut Sink<'_>) {
        self.half(side).push(bytes, exchange, sink);
        let [request, response] = &self.halves;
        // The client said goodbye first.
        if request.closed && !response.closed && !std::mem::replace(&mut self.client_left, true) {
            exchange.client_left(sink);
        }
    }

    pub fn gap(&mut self, side: Side, len: u64, exchange: &mut Exchange, sink: &mut Sink<'_>) {
        exchange.gap(side, len, sink);
        self.half(side).gap(len, sink);
    }

    fn half(&mut self, side: Side) -> &mut Half {
        let [request, response] = &mut self.halves;
        if side == Side::Request { request } else { response }
    }
}

impl Half {
    fn new(side: Side, inflate: Option<Inflate>) -> Half {
        Half { side, state: State::ExpectFrame, kept: Vec::new(), message: None, inflate, closed: false }
    }

    fn push(&mut self, mut input: Bytes, exchange: &mut Exchange, sink: &mut Sink<'_>) {
        loop {
            match self.state {
                State::ExpectFrame => match self.read_head(&mut input) {
                    HeadRead::Frame(frame) => self.begin(frame, &mut input, exchange, sink),
                    HeadRead::Incomplete => return,
                    HeadRead::Bad => {
                        exchange.flaw(Flaw::Malformed, sink);
                        self.lose();
                        self.state = State::Seek;
                    }
                },
                State::Payload { frame, left } => {
                    if left > 0 && input.is_empty() {
                        return;
                    }
                    let piece = input.split_to(usize::try_from(left).unwrap_or(usize::MAX).min(input.len()));
                    let left_after = left - piece.len() as u64;
                    self.gather(frame, left, &piece, sink);
                    self.state = State::Payload { frame, left: left_after };
                    if left_after == 0 {
                        self.state = State::ExpectFrame;
                        self.end_frame(frame, exchange, sink);
                    }
                }
                State::Seek => {
                    if !self.seek(&mut input, sink) {
                        return;
                    }
                }
            }
        }
    }

    fn gap(&mut self, len: u64, sink: &mut Sink<'_>) {
        if let Some(message) = &mut self.message {
            message.spoiled = true;
        }
        match self.state {
            State::Payload { frame, left } if len < left => {
                self.state = State::Payload { frame, left: left - len };
            }
            _ => {
                sink.counters.skipped_bytes += self.kept.len() as u64;
                self.lose();
                self.state = State::Seek;
            }
        }
    }

    /// The place in the stream is lost, and with it perhaps messages.
    fn lose(&mut self) {
        self.kept.clear();
        self.message = None;
        if let Some(inflate) = &mut self.inflate {
            inflate.forget();
        }
    }

    fn read_head(&mut self, input: &mut Bytes) -> HeadRead {
        if input.is_empty() {
            return HeadRead::Incomplete;
        }
        let before = self.kept.len();
        let room = (MAX_FRAME_HEAD - before).min(input.len());
        if before == 0 {
            match frame_head(input) {
                HeadRead::Frame(frame) => {
                    input.advance(frame.head_len);
                    return HeadRead::Frame(frame);
                }
                HeadRead::Bad => return HeadRead::Bad,
                HeadRead::Incomplete => {}
            }
        }
        self.kept.extend_from_slice(input.get(..room).unwrap_or_default());
        match frame_head(&self.kept) {
            HeadRead::Frame(frame) => {
                input.advance(frame.head_len.saturating_sub(before));
                self.kept.clear();
                HeadRead::Frame(frame)
            }
            other => {
                input.advance(room);
                other
            }
        }
    }

    /// A frame begins. A message that is all there, in one plain frame, is handed on without a copy.
    fn begin(&mut self, frame: Frame, input: &mut Bytes, exchange: &mut Exchange, sink: &mut Sink<'_>) {
        self.state = State::Payload { frame, left: frame.len };
        if frame.opcode >= 8 {
            return;
        }
        if frame.opcode != 0 {
            if self.message.take().is_some() {
                exchange.flaw(Flaw::Malformed, sink);
            }
            let whole = usize::try_from(frame.len).ok().filter(|&len| len <= input.len());
            if let Some(len) = whole
                && frame.fin
                && frame.mask.is_none()
                && !frame.compressed
                && len <= sink.bounds.max_message_bytes
            {
                let payload = input.split_to(len);
                self.state = State::ExpectFrame;
                let text = frame.opcode == 1;
                exchange.message(Message { side: self.side, text, payload, wire_len: frame.len }, sink);
                return;
            }
            self.message = Some(Gathered {
                text: frame.opcode == 1,
                compressed: frame.compressed,
                payload: Vec::new(),
                wire_len: 0,
                spoiled: false,
            });
        }
    }

    fn gather(&mut self, frame: Frame, left: u64, piece: &[u8], sink: &mut Sink<'_>) {
        let Some(message) = self.message.as_mut().filter(|_| frame.opcode < 8) else { return };
        message.wire_len += piece.len() as u64;
        if message.spoiled {
            return;
        }
        if message.payload.len() + piece.len() > sink.bounds.max_message_bytes {
            message.spoiled = true;
            message.payload = Vec::new();
            sink.counters.bounds_hit += 1;
            return;
        }
        let from = message.payload.len();
        message.payload.extend_from_slice(piece);
        if let Some(mask) = frame.mask {
            unmask(message.payload.get_mut(from..).unwrap_or_default(), mask, frame.len - left);
        }
    }

    fn end_frame(&mut self, frame: Frame, exchange: &mut Exchange, sink: &mut Sink<'_>) {
        self.closed |= frame.opcode == 8;
        if frame.opcode >= 8 || !frame.fin {
            return;
        }
        let Some(message) = self.message.take() else {
            // The rest of a message whose beginning was lost, or met in the middle.
            return;
        };
        if message.spoiled {
            if message.compressed {
                self.lose();
            }
            if message.wire_len > sink.bounds.max_message_bytes as u64 {
                exchange.flaw(Flaw::Bound, sink);
            }
            return;
        }
        let Gathered { text, compressed, payload, wire_len, .. } = message;
        let payload = if compressed { self.inflate(&payload, exchange, sink) } else { Some(payload) };
        if let Some(payload) = payload {
            let payload = Bytes::from(payload);
            exchange.message(Message { side: self.side, text, payload, wire_len }, sink);
        }
    }

    fn inflate(&mut self, payload: &[u8], exchange: &mut Exchange, sink: &mut Sink<'_>) -> Option<Vec<u8>> {
        let inflate = self.inflate.get_or_insert_with(|| {
            let mut inflate = Inflate::new(false);
            inflate.forget();
            inflate
        });
        if inflate.fresh_each_time {
            inflate.stream.reset(false);
            inflate.broken = false;
        }
        // The message may have come in many events, of which the last one only gave room.
        let room = sink.room.max((payload.len() as u64).saturating_mul(sink.bounds.max_coding_ratio));
        let max_bytes = usize::try_from(room).unwrap_or(usize::MAX).min(sink.bounds.max_message_bytes);
        let outcome = if inflate.broken { None } else { inflate_message(inflate, payload, max_bytes) };
        let unsure = inflate.unsure;
        let flaw = match outcome {
            Some(Inflated::Whole(payload)) if unsure && memchr::memchr(UNSEEN, &payload).is_some() => Flaw::LostHistory,
            Some(Inflated::Whole(payload)) => {
                sink.room = sink.room.saturating_sub(payload.len() as u64);
                return Some(payload);
            }
            Some(Inflated::TooLarge) => {
                inflate.forget();
                Flaw::Bound
            }
            None => {
                inflate.broken = true;
                if unsure { Flaw::LostHistory } else { Flaw::Encoding }
            }
        };
        sink.counters.messages_undecodable += 1;
        exchange.flaw(flaw, sink);
        None
    }

    /// Looks for a place where frames seem to begin; true when `input` begins there.
    fn seek(&mut self, input: &mut Bytes, sink: &mut Sink<'_>) -> bool {
        if input.is_empty() {
            return false;
        }
        self.kept.extend_from_slice(input);
        input.clear();
        let masked = self.side == Side::Request;
        let found = (0..self.kept.len()).find(|&at| plausible(self.kept.get(at..).unwrap_or_default(), masked));
        match found {
            Some(at) => {
                *input = Bytes::from(self.kept.split_off(at));
                self.kept.clear();
                self.state = State::ExpectFrame;
                sink.counters.skipped_bytes += at as u64;
                sink.counters.resyncs += 1;
                true
            }
            None => {
                let over = self.kept.len().saturating_sub(MAX_SEEK);
                self.kept.drain(..over);
                sink.counters.skipped_bytes += over as u64;
                false
            }
        }
    }
}

enum HeadRead {
    Frame(Frame),
    Incomplete,
    Bad,
}

/// RFC 6455 section 5.2.
fn frame_head(bytes: &[u8]) -> HeadRead {
    let [first, second, rest @ ..] = bytes else { return HeadRead::Incomplete };
    let (fin, opcode) = (first & 0x80 != 0, first & 0x0f);
    let control = opcode >= 8;
    let short = second & 0x7f;
    let bad = first & 0x30 != 0
        || !matches!(opcode, 0..=2 | 8..=10)
        || control && (!fin || short > 125 || first & 0x40 != 0)
        || opcode == 0 && first & 0x40 != 0;
    if bad {
        return HeadRead::Bad;
    }
    let (len, rest, len_bytes) = match short {
        126 => match rest.split_first_chunk::<2>() {
            Some((len, rest)) => (u64::from(u16::from_be_bytes(*len)), rest, 2),
            None => return HeadRead::Incomplete,
        },
        127 => match rest.split_first_chunk::<8>() {
            Some((len, rest)) => (u64::from_be_bytes(*len), rest, 8),
            None => return HeadRead::Incomplete,
        },
        short => (u64::from(short), rest, 0),
    };
    if len > 1 << 40 {
        return HeadRead::Bad;
    }
    let masked = second & 0x80 != 0;
    let mask = match (masked, rest.first_chunk::<4>()) {
        (false, _) => None,
        (true, Some(mask)) => Some(*mask),
        (true, None) => return HeadRead::Incomplete,
    };
    let head_len = 2 + len_bytes + if masked { 4 } else { 0 };
    HeadRead::Frame(Frame { fin, compressed: first & 0x40 != 0, opcode, mask, head_len, len })
}

/// Do frames of one side seem to begin here? Whole frames must follow each other, and end with the bytes or be several;
/// a single plain text must look like JSON.
pub(super) fn plausible(bytes: &[u8], masked: bool) -> bool {
    let mut rest = bytes;
    let mut frames = 0;
    while frames < 3 && !rest.is_empty() {
        let HeadRead::Frame(frame) = frame_head(rest) else { return false };
        let begins = frames > 0 || frame.opcode != 0 && (frame.opcode >= 8 || frame.len >= 2);
        if frame.mask.is_some() != masked || !begins {
            return false;
        }
        let Some(payload) = rest.get(frame.head_len..) else { return false };
        if frame.opcode == 1 && !frame.compressed && !masked && !payload.first().is_none_or(|byte| b"{[".contains(byte))
        {
            return false;
        }
        match usize::try_from(frame.len).ok().and_then(|len| payload.get(len..)) {
            Some(after) => rest = after,
            None => return false,
        }
        frames += 1;
    }
    frames > 0
}

/// RFC 6455 section 5.3; `offset` is how far into the payload the bytes begin.
fn unmask(bytes: &mut [u8], mask: [u8; 4], offset: u64) {
    let turn = (offset % 4) as usize;
    let [a, b, c, d] = mask;
    let mut mask = [a, b, c, d];
    mask.rotate_left(turn);
    let (words, rest) = bytes.as_chunks_mut::<4>();
    let key = u32::from_ne_bytes(mask);
    for word in words {
        *word = (u32::from_ne_bytes(*word) ^ key).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask) {
        *byte ^= mask;
    }
}

enum Inflated {
    Whole(Vec<u8>),
    TooLarge,
}

/// RFC 7692 section 7.2.2: the four bytes that the sender left out are put back. `None` when it is damaged.
fn inflate_message(inflate: &mut Inflate, payload: &[u8], max_bytes: usize) -> Option<Inflated> {
    let mut inflated = Vec::with_capacity(payload.len().saturating_mul(3).min(max_bytes));
    let mut step = vec![0; INFLATE_STEP];
    for part in [payload, &[0x00, 0x00, 0xff, 0xff]] {
        let mut rest = part;
        loop {
            let (read, written) = (inflate.stream.total_in(), inflate.stream.total_out());
            let status = inflate.stream.decompress(rest, &mut step, FlushDecompress::Sync).ok()?;
            let read = (inflate.stream.total_in() - read) as usize;
            let written = (inflate.stream.total_out() - written) as usize;
            inflated.extend_from_slice(step.get(..written).unwrap_or_default());
            rest = rest.get(read..).unwrap_or_default();
            if inflated.len() > max_bytes {
                return Some(Inflated::TooLarge);
            }
            if status == Status::StreamEnd {
                // A final block inside a message: the next one begins anew.
                inflate.stream.reset(false);
            } else if written < INFLATE_STEP && (rest.is_empty() || read + written == 0) {
                break;
            }
            if rest.is_empty() && written == 0 {
                break;
            }
        }
        if !rest.is_empty() {
            return None;
        }
    }
    Some(Inflated::Whole(inflated))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unmasking_does_not_depend_on_the_cut() {
        let mask = [1, 2, 3, 4];
        let plain: Vec<u8> = (0..37).collect();
        for cut in 0..plain.len() {
            let mut bytes: Vec<u8> = plain.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]).collect();
            let (first, second) = bytes.split_at_mut(cut);
            unmask(first, mask, 0);
            unmask(second, mask, cut as u64);
            assert_eq!(bytes, plain, "cut at {cut}");
        }
    }

    #[test]
    fn frames_are_known_by_their_shape() {
        assert!(plausible(b"\x81\x02{}", false));
        assert!(plausible(b"\x81\x02{}\x89\x00", false));
        assert!(plausible(b"\x81\x82abcd{}", true));
        assert!(!plausible(b"\x81\x02hi", false));
        assert!(!plausible(b"\x81\x03{}", false), "cut");
        assert!(!plausible(b"\x81\x02{}", true), "not masked");
        assert!(!plausible(b"\xf1\x02{}", false), "reserved bits");
        assert!(!plausible(b"HTTP/1.1 200 OK\r\n", false));
    }
}
