//! One direction of an HTTP/1 connection: bytes in, heads and pieces of bodies out. The same machine reads requests and
//! responses; who answers whom is `h1`'s business, which also tells it how each body is framed.

use bytes::{Buf, Bytes};
use memchr::{memchr, memchr_iter};

use super::head::{self, Framing, Head};
use super::seek::{self, Begins};
use super::sink::Sink;
use crate::event::Nanos;
use crate::flaw::Flaw;
use crate::http::Side;

/// A chunk's size line with longer extensions is taken for damage.
const MAX_CHUNK_LINE: usize = 16 << 10;
/// So much of a damaged chunked body is kept back while the next chunk is looked for.
const MAX_RESYNC: usize = 64 << 10;
/// Heads are gathered in steps of this size, so that little of a body is copied along.
const GATHER_BYTES: usize = 4 << 10;

/// What was read.
pub(super) enum Item {
    /// A head is complete. The reader waits for [`Reader::expect_body`] or [`Reader::expect_head`].
    Head { head: Head, first_byte: Nanos, cut: bool },
    /// A piece of the body.
    Body(Bytes),
    /// The body is over.
    End,
    /// The body's own framing was damaged beyond finding its end.
    Broken,
    /// The rules were broken inside the message under way (or between messages).
    Flaw(Flaw),
}

/// What a hole did to this direction.
#[derive(PartialEq, Eq, Debug, Default)]
pub(super) struct Hole {
    /// Bytes of the body that were kept back before the hole.
    pub before: Bytes,
    /// So many of the lost bytes were of the body under way.
    pub body: Option<u64>,
    /// The body under way came to its end inside the hole.
    pub ended: bool,
    /// A message's beginning may be lost.
    pub head_lost: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// A start line is expected.
    ExpectHead,
    /// A head went over the bound; its rest is skipped up to the blank line.
    SkipHead,
    /// `h1` has the head and has not said yet what follows.
    ExpectFraming,
    /// In the middle of something unknown: the next start line is looked for.
    Seek,
    Length(u64),
    UntilClose,
    ChunkSize,
    ChunkData(u64),
    ChunkEnd,
    Trailers,
    /// Bytes of a chunked body were lost: the next chunk's size line is looked for.
    ChunkSeek,
    /// Nothing that can be read follows.
    Opaque,
}

#[derive(Debug)]
pub(super) struct Reader {
    side: Side,
    state: State,
    /// The head, chunk line or tail under way.
    kept: Vec<u8>,
    /// Up to here `kept` holds no end of head.
    scanned: usize,
    /// The head under way has a whole start line.
    sure: bool,
    /// When the first byte of the head under way was seen.
    first_byte: Nanos,
    trailer_bytes: usize,
}

impl Reader {
    pub fn new(side: Side) -> Reader {
        Reader {
            side,
            state: State::ExpectHead,
            kept: Vec::new(),
            scanned: 0,
            sure: false,
            first_byte: Nanos(0),
            trailer_bytes: 0,
        }
    }

    /// A reader that begins in the middle of something.
    pub fn seeking(side: Side) -> Reader {
        Reader { state: State::Seek, ..Reader::new(side) }
    }

    /// True between two messages.
    pub fn is_idle(&self) -> bool {
        matches!(self.state, State::ExpectHead | State::Seek) && self.kept.is_empty()
    }

    /// True when it does not know where it is.
    pub fn is_lost(&self) -> bool {
        matches!(self.state, State::Seek | State::ChunkSeek)
    }

    /// After a head: a body follows.
    pub fn expect_body(&mut self, framing: Framing) {
        self.state = match framing {
            Framing::Length(len) => State::Length(len),
            Framing::Chunked => State::ChunkSize,
            Framing::UntilClose => State::UntilClose,
        };
    }

    /// After a head: another head follows (interim responses), or the body will not come.
    pub fn expect_head(&mut self) {
        self.state = State::ExpectHead;
    }

    /// After a head: nothing that can be read follows, except where a message begins.
    pub fn expect_anything(&mut self) {
        self.state = State::Seek;
    }

    /// What is left is not for this reader.
    pub fn retire(&mut self) {
        self.state = State::Opaque;
        self.kept = Vec::new();
    }

    /// The next thing in `input`, which is used up from the front.
    pub fn next(&mut self, input: &mut Bytes, sink: &mut Sink<'_>) -> Option<Item> {
        loop {
            match self.state {
                State::ExpectHead => {
                    if self.kept.is_empty() {
                        let blank = input.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
                        input.advance(blank);
                        self.first_byte = sink.at;
                        self.scanned = 0;
                        self.sure = false;
                    }
                    if input.is_empty() {
                        return None;
                    }
                    return self.read_head(input, sink);
                }
                State::SkipHead => return self.skip_head(input, sink),
                State::ExpectFraming => return None,
                State::Seek => {
                    if !self.seek(input, sink) {
                        return None;
                    }
                }
                State::Length(0) => {
                    self.state = State::ExpectHead;
                    return Some(Item::End);
                }
                State::Length(left) => {
                    let piece = take(input, left)?;
                    self.state = State::Length(left - piece.len() as u64);
                    return Some(Item::Body(piece));
                }
                State::UntilClose => return take(input, u64::MAX).map(Item::Body),
                State::ChunkSize => match self.read_chunk_size(input) {
                    Line::Incomplete => return None,
                    Line::Size(0) => {
                        self.trailer_bytes = 0;
                        self.state = State::Trailers;
                    }
                    Line::Size(size) => self.state = State::ChunkData(size),
                    Line::Bad => return self.lose_chunks(),
                },
                State::ChunkData(0) => self.state = State::ChunkEnd,
                State::ChunkData(left) => {
                    let piece = take(input, left)?;
                    self.state = State::ChunkData(left - piece.len() as u64);
                    return Some(Item::Body(piece));
                }
                State::ChunkEnd => match input.first()? {
                    b'\r' if self.kept.is_empty() => {
                        self.kept.push(b'\r');
                        input.advance(1);
                    }
                    b'\n' => {
                        self.kept.clear();
                        input.advance(1);
                        self.state = State::ChunkSize;
                    }
                    _ => return self.lose_chunks(),
                },
                State::Trailers => return self.read_trailers(input, sink),
                State::ChunkSeek => return self.seek_chunk(input, sink),
                State::Opaque => {
                    sink.counters.skipped_bytes += input.len() as u64;
                    input.clear();
                    return None;
                }
            }
        }
    }

    /// Bytes are missing here.
    pub fn gap(&mut self, len: u64, sink: &mut Sink<'_>) -> Hole {
        let in_body = |body, state| (Hole { body: Some(body), ..Hole::default() }, state);
        let (hole, state) = match self.state {
            State::ExpectHead | State::SkipHead | State::ExpectFraming | State::Seek => {
                (Hole { head_lost: true, ..Hole::default() }, State::Seek)
            }
            State::Length(left) if len < left => in_body(len, State::Length(left - len)),
            State::Length(left) if len == left => {
                (Hole { body: Some(len), ended: true, ..Hole::default() }, State::ExpectHead)
            }
            State::Length(left) => {
                (Hole { body: Some(left), ended: true, head_lost: true, ..Hole::default() }, State::Seek)
            }
            State::ChunkData(left) if len <= left => in_body(len, State::ChunkData(left - len)),
            State::ChunkData(left) if len == left + 2 => in_body(left, State::ChunkSize),
            State::ChunkSeek => {
                let before = Bytes::from(std::mem::take(&mut self.kept));
                (Hole { before, body: Some(len), ..Hole::default() }, State::ChunkSeek)
            }
            State::ChunkSize | State::ChunkEnd | State::ChunkData(_) => in_body(len, State::ChunkSeek),
            State::UntilClose => in_body(len, State::UntilClose),
            State::Trailers => (Hole { ended: true, head_lost: true, ..Hole::default() }, State::Seek),
            State::Opaque => (Hole::default(), State::Opaque),
        };
        sink.counters.skipped_bytes += self.kept.len() as u64;
        self.kept.clear();
        self.scanned = 0;
        self.state = state;
        hole
    }

    /// The direction ended; true when that is the end of the body under way.
    pub fn close(&mut self) -> bool {
        self.state == State::UntilClose
    }

    fn read_head(&mut self, input: &mut Bytes, sink: &mut Sink<'_>) -> Option<Item> {
        if self.kept.is_empty() {
            if seek::begins(self.side, input) == Begins::No {
                self.state = State::Seek;
                return Some(Item::Flaw(Flaw::Malformed));
            }
            let end = head::find_end(input, 0);
            if let Some(end) = end.filter(|&end| end <= sink.bounds.max_head_bytes) {
                let bytes = input.split_to(end);
                return self.finish_head(&bytes, false, sink);
            }
        }
        while !input.is_empty() {
            let before = self.kept.len();
            let step = input.len().min(GATHER_BYTES);
            self.kept.extend_from_slice(input.get(..step).unwrap_or_default());
            // The start line is looked at until it is complete.
            if !self.sure {
                match seek::begins(self.side, &self.kept) {
                    Begins::Yes => self.sure = true,
                    Begins::Maybe => {}
                    Begins::No => {
                        self.state = State::Seek;
                        input.advance(step);
                        return Some(Item::Flaw(Flaw::Malformed));
                    }
                }
            }
            if let Some(end) = head::find_end(&self.kept, self.scanned) {
                input.advance(end.saturating_sub(before));
                let mut bytes = std::mem::take(&mut self.kept);
                bytes.truncate(end);
                return self.finish_head(&bytes, false, sink);
            }
            input.advance(step);
            self.scanned = self.kept.len().saturating_sub(3);
            if self.kept.len() > sink.bounds.max_head_bytes {
                self.state = State::SkipHead;
                return self.skip_head(input, sink);
            }
        }
        None
    }

    /// Waits for the blank line of a head that is too long, then hands on what was kept of it.
    fn skip_head(&mut self, input: &mut Bytes, sink: &mut Sink<'_>) -> Option<Item> {
        let bound = sink.bounds.max_head_bytes;
        while !input.is_empty() {
            let before = self.kept.len();
            let step = input.len().min(GATHER_BYTES);
            self.kept.extend_from_slice(input.get(..step).unwrap_or_default());
            let from = before.saturating_sub(3).max(bound.min(before));
            if let Some(end) = head::find_end(&self.kept, from) {
                input.advance(end.saturating_sub(before));
                let mut bytes = std::mem::take(&mut self.kept);
                bytes.truncate(bound);
                let whole_lines = memchr::memrchr(b'\n', &bytes).map_or(0, |at| at + 1);
                bytes.truncate(whole_lines);
                bytes.extend_from_slice(b"\r\n");
                return self.finish_head(&bytes, true, sink);
            }
            input.advance(step);
            // Of what is over the bound only the last bytes matter: the blank line may begin there.
            let over = self.kept.len().saturating_sub(bound + 3);
            self.kept.drain(bound..bound + over);
        }
        None
    }

    fn finish_head(&mut self, bytes: &[u8], cut: bool, sink: &mut Sink<'_>) -> Option<Item> {
        self.kept.clear();
        self.scanned = 0;
        match head::parse(self.side, bytes) {
            Some(head) => {
                self.state = State::ExpectFraming;
                Some(Item::Head { head, first_byte: self.first_byte, cut })
            }
            None => {
                sink.counters.skipped_bytes += bytes.len() as u64;
                self.state = State::Seek;
                Some(Item::Flaw(Flaw::Malformed))
            }
        }
    }

    /// Looks for a start line; true when `input` now begins with one.
    fn seek(&mut self, input: &mut Bytes, sink: &mut Sink<'_>) -> bool {
        if input.is_empty() {
            return false;
        }
        if !self.kept.is_empty() {
            self.kept.extend_from_slice(input);
            *input = Bytes::from(std::mem::take(&mut self.kept));
        }
        // What only may be a start line at the very front is given the chance to become one.
        match seek::find(input, Some(self.side)) {
            Some((at, _)) => {
                input.advance(at);
                sink.counters.skipped_bytes += at as u64;
                sink.counters.resyncs += 1;
                self.state = State::ExpectHead;
                true
            }
            None => {
                let tail = input.len().saturating_sub(seek::TAIL_BYTES);
                sink.counters.skipped_bytes += tail as u64;
                self.kept = input.get(tail..).unwrap_or_default().to_vec();
                input.clear();
                false
            }
        }
    }

    fn read_chunk_size(&mut self, input: &mut Bytes) -> Line {
        let Some(end) = memchr(b'\n', input) else {
            if self.kept.len() + input.len() > MAX_CHUNK_LINE {
                return Line::Bad;
            }
            self.kept.extend_from_slice(input);
            input.clear();
            return Line::Incomplete;
        };
        let line = input.split_to(end + 1);
        let size = if self.kept.is_empty() {
            chunk_size(&line)
        } else {
            self.kept.extend_from_slice(&line);
            chunk_size(&self.kept)
        };
        match size {
            Some(size) => {
                self.kept.clear();
                Line::Size(size)
            }
            None => {
                // The line may be the body's: it goes back where the next chunk is looked for.
                if self.kept.is_empty() {
                    self.kept.extend_from_slice(&line);
                }
                Line::Bad
            }
        }
    }

    fn lose_chunks(&mut self) -> Option<Item> {
        self.state = State::ChunkSeek;
        Some(Item::Flaw(Flaw::Malformed))
    }

    fn read_trailers(&mut self, input: &mut Bytes, sink: &mut Sink<'_>) -> Option<Item> {
        loop {
            let Some(end) = memchr(b'\n', input) else {
                self.trailer_bytes += input.len();
                if self.trailer_bytes > sink.bounds.max_head_bytes {
                    self.state = State::Seek;
                    self.kept.clear();
                    return Some(Item::Broken);
                }
                // Only whether the line is blank matters.
                if self.kept.len() < 2 {
                    self.kept.extend_from_slice(input.get(..input.len().min(2)).unwrap_or_default());
                }
                input.clear();
                return None;
            };
            let line = input.split_to(end);
            input.advance(1);
            self.trailer_bytes += line.len();
            let blank = matches!((self.kept.as_slice(), &line[..]), ([], [] | [b'\r']) | ([b'\r'], []));
            self.kept.clear();
            if blank {
                self.state = State::ExpectHead;
                return Some(Item::End);
            }
        }
    }

    /// After a loss inside a chunked body: what stands before the next size line is body too.
    fn seek_chunk(&mut self, input: &mut Bytes, sink: &mut Sink<'_>) -> Option<Item> {
        if input.is_empty() {
            return None;
        }
        self.kept.extend_from_slice(input);
        input.clear();
        let message = seek::find(&self.kept, Some(self.side)).map(|(at, _)| at);
        let chunk = find_chunk(&self.kept);
        match (chunk, message) {
            (Some(found), message) if message.is_none_or(|at| at > found.at) => {
                let mut kept = std::mem::take(&mut self.kept);
                *input = Bytes::from(kept.split_off(found.end));
                kept.truncate(found.at);
                self.state = if found.size == 0 { State::Trailers } else { State::ChunkData(found.size) };
                self.trailer_bytes = 0;
                sink.counters.resyncs += 1;
                Some(Item::Body(Bytes::from(kept)))
            }
            (_, Some(at)) => {
                *input = Bytes::from(self.kept.split_off(at));
                sink.counters.skipped_bytes += at as u64;
                self.kept.clear();
                self.state = State::ExpectHead;
                Some(Item::Broken)
            }
            _ if self.kept.len() > MAX_RESYNC => {
                let rest = self.kept.split_off(self.kept.len() - 64);
                let body = std::mem::replace(&mut self.kept, rest);
                Some(Item::Body(Bytes::from(body)))
            }
            _ => None,
        }
    }
}

enum Line {
    Incomplete,
    Size(u64),
    Bad,
}

/// Up to `len` bytes off the front; `None` when there are none.
fn take(input: &mut Bytes, len: u64) -> Option<Bytes> {
    let len = usize::try_from(len).unwrap_or(usize::MAX).min(input.len());
    (len > 0).then(|| input.split_to(len))
}

/// RFC 9112 section 7.1: hex digits, then perhaps white space and extensions.
fn chunk_size(line: &[u8]) -> Option<u64> {
    let line = line.trim_ascii();
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let extension = line.get(digits..)?.trim_ascii_start();
    if digits == 0 || digits > 15 || !(extension.is_empty() || extension.starts_with(b";")) {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(line.get(..digits)?).ok()?, 16).ok()
}

struct FoundChunk {
    /// Where the body before it ends.
    at: usize,
    /// Where its data begins.
    end: usize,
    size: u64,
}

/// The first place that reads like the end of one chunk and the size line of the next; where the next one's end can be
/// seen too, it must be there.
fn find_chunk(bytes: &[u8]) -> Option<FoundChunk> {
    memchr_iter(b'\n', bytes).find_map(|newline| {
        let at = newline.checked_sub(1)?;
        (bytes.get(at) == Some(&b'\r')).then_some(())?;
        let line = bytes.get(newline + 1..)?;
        let length = memchr(b'\n', line.get(..line.len().min(64))?)?;
        let line = line.get(..length)?.strip_suffix(b"\r")?;
        let size = chunk_size(line).filter(|_| line.first().is_some_and(u8::is_ascii_hexdigit))?;
        let end = newline + 1 + length + 1;
        let closes =
            usize::try_from(size).ok().and_then(|size| bytes.get(end.checked_add(size)?..)).unwrap_or_default();
        let plausible = size == 0 || matches!(closes, [] | [b'\r'] | [b'\r', b'\n', ..]);
        plausible.then_some(FoundChunk { at, end, size })
    })
}
