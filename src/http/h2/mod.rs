//! HTTP/2 (RFC 9113), read passively: frames of both directions in, one exchange per stream out.
//!
//! What is damaged or was not seen is dealt with thus:
//!
//! - A hole inside a DATA frame costs its bytes: the frame's length counts on. A hole over a frame's end means that the
//!   next frame is looked for by its shape ([`frame::likely`]); header blocks may be lost with it, so that direction's
//!   HPACK table is forgotten, and every exchange that was under way in it says `gap`, because any of them may miss bytes.
//! - A stream first seen by its response had its request lost, or the request comes late: on a connection seen whole the
//!   server's bytes are held for a moment. Otherwise the exchange says `no_request`.
//! - Met in the middle, streams already under way become exchanges with an empty head, so that the rest of their bodies is
//!   not lost.
//!
//! Server push is read for the table's sake only.

mod frame;
mod headers;
mod hpack;
mod huffman;
mod loss;
mod recognise;
mod stream;
mod tables;

use std::collections::{BTreeMap, VecDeque};

use bytes::{Buf, Bytes};

use super::exchange::{Exchange, Progress};
use super::held::{Held, Piece};
use super::sink::Sink;
use crate::event::CloseHow;
use crate::flaw::Flaw;
use crate::http::{Protocol, Side};

use frame::{FrameHead, HEAD_BYTES, Kind, Likely};
use hpack::Decoder;
use stream::Stream;

pub(super) use recognise::{Recognised, recognise};

use frame::PREFACE;

/// So many of the last closed streams are remembered, so that their late frames begin nothing.
const REMEMBERED: usize = 256;

/// A connection that speaks HTTP/2.
#[derive(Debug)]
pub(super) struct H2 {
    requests: Dir,
    responses: Dir,
    streams: BTreeMap<u32, Stream>,
    closed: VecDeque<u32>,
    /// The largest stream that the client began.
    newest: u32,
    next_seq: u32,
    /// Why streams may have begun before the first byte seen, where they may.
    unseen: Option<Flaw>,
    /// A request's headers were seen.
    request_seen: bool,
    /// Every request was seen so far.
    whole: bool,
    /// A header block has told who is the client.
    roles_known: bool,
    /// The roles turned out to be the other way round.
    swapped: bool,
    held_responses: Held,
}

/// One direction.
#[derive(Debug)]
struct Dir {
    state: State,
    /// A frame's head or payload under way, or what is kept while seeking.
    kept: Vec<u8>,
    table: Decoder,
    block: Option<Block>,
    /// Frames read since their place was guessed; from the second on it was right.
    frames: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// So many bytes of the preface were seen.
    Preface(usize),
    ExpectFrame,
    /// The padding's length comes next.
    DataPadding(FrameHead),
    Data {
        head: FrameHead,
        left: usize,
        padding: usize,
    },
    /// Padding of a DATA frame, or a frame that does not matter.
    Skip {
        left: usize,
        then_end: Option<u32>,
    },
    Gather(FrameHead),
    Seek,
}

/// A header block under way.
#[derive(Debug)]
struct Block {
    stream: u32,
    end_stream: bool,
    /// Of a promise: decoded for the table only.
    promise: bool,
    bytes: Vec<u8>,
}

impl Dir {
    fn new(state: State, mid_stream: bool) -> Dir {
        let frames = if mid_stream { 0 } else { 2 };
        Dir { state, kept: Vec::new(), table: Decoder::new(mid_stream), block: None, frames }
    }
}

impl H2 {
    /// A connection seen from its beginning.
    pub fn new(first_seq: u32) -> H2 {
        H2::with(Dir::new(State::Preface(0), false), Dir::new(State::ExpectFrame, false), None, first_seq)
    }

    /// A connection met in the middle. Frames were found in the bytes of `found`; in the other direction they are still
    /// to be found.
    pub fn met_in_the_middle(unseen: Flaw, found: Side, first_seq: u32) -> H2 {
        let dir = |side| Dir::new(if side == found { State::ExpectFrame } else { State::Seek }, true);
        H2::with(dir(Side::Request), dir(Side::Response), Some(unseen), first_seq)
    }

    fn with(requests: Dir, responses: Dir, unseen: Option<Flaw>, next_seq: u32) -> H2 {
        H2 {
            requests,
            responses,
            streams: BTreeMap::new(),
            closed: VecDeque::new(),
            newest: 0,
            next_seq,
            unseen,
            request_seen: false,
            whole: unseen.is_none(),
            roles_known: unseen.is_none(),
            swapped: false,
            held_responses: Held::default(),
        }
    }

    /// After `Upgrade: h2c`: the request is stream 1.
    pub fn after_upgrade(exchange: Exchange, next_seq: u32, sink: &Sink<'_>) -> H2 {
        let mut h2 = H2::new(next_seq);
        h2.streams.insert(1, Stream::new(exchange, false, sink.at));
        h2.newest = 1;
        h2
    }

    /// The stream of an exchange that is not over.
    pub fn stream_of(&self, seq: u32) -> Option<u32> {
        self.streams.iter().find(|(_, stream)| stream.exchange.seq == seq).map(|(id, _)| *id)
    }

    pub fn next_seq(&self) -> u32 {
        self.next_seq
    }

    /// True once when it turned out that the client is the other end.
    pub fn take_swap(&mut self) -> bool {
        std::mem::take(&mut self.swapped)
    }

    pub fn push(&mut self, side: Side, bytes: Bytes, sink: &mut Sink<'_>) {
        if side == Side::Response && self.is_holding() {
            self.held_responses.push(sink.at, Piece::Bytes(bytes));
        } else {
            self.read(side, bytes, sink);
        }
        self.release(false, sink);
    }

    pub fn gap(&mut self, side: Side, len: u64, sink: &mut Sink<'_>) {
        if side == Side::Response && self.is_holding() {
            return self.held_responses.push(sink.at, Piece::Gap(len));
        }
        self.gap_in(side, len, sink);
    }

    pub fn tick(&mut self, sink: &mut Sink<'_>) {
        self.release(false, sink);
    }

    pub fn is_holding(&self) -> bool {
        !self.held_responses.is_empty()
    }

    /// One side, or the whole connection, ended.
    pub fn close(&mut self, side: Option<Side>, how: CloseHow, sink: &mut Sink<'_>) {
        if side == Some(Side::Request) {
            let mut open: Vec<&Exchange> = self.streams.values().map(|stream| &stream.exchange).collect();
            open.sort_by_key(|exchange| exchange.seq);
            open.into_iter().for_each(|exchange| exchange.client_left(sink));
            return;
        }
        while self.is_holding() {
            self.release(true, sink);
        }
        let mut streams: Vec<Stream> = std::mem::take(&mut self.streams).into_values().collect();
        streams.sort_by_key(|stream| stream.exchange.seq);
        for stream in streams {
            stream.end_cut(how, sink);
        }
    }

    fn dir(&mut self, side: Side) -> &mut Dir {
        if side == Side::Request { &mut self.requests } else { &mut self.responses }
    }

    fn read(&mut self, mut side: Side, mut input: Bytes, sink: &mut Sink<'_>) {
        let dir = self.dir(side);
        if dir.frames < 2 && dir.state != State::Seek && frame::likely(&input) == Likely::Yes {
            // Frames begin with this piece: whatever was taken for one before it was none.
            sink.counters.skipped_bytes += dir.kept.len() as u64;
            dir.kept.clear();
            dir.state = State::ExpectFrame;
        }
        loop {
            let swapped = self.swapped;
            if !self.step(side, &mut input, sink) {
                return;
            }
            if self.swapped != swapped {
                side = if side == Side::Request { Side::Response } else { Side::Request };
            }
        }
    }

    /// Reads the next thing; false when more bytes are needed (or the rest is held).
    fn step(&mut self, side: Side, input: &mut Bytes, sink: &mut Sink<'_>) -> bool {
        let dir = self.dir(side);
        match dir.state {
            State::Preface(seen) => {
                let rest = PREFACE.get(seen..).unwrap_or_default();
                let common = rest.iter().zip(input.iter()).take_while(|(one, other)| one == other).count();
                input.advance(common);
                dir.state = if common == rest.len() { State::ExpectFrame } else { State::Preface(seen + common) };
                if !input.is_empty() && common < rest.len() {
                    // No preface: frames perhaps (after an upgrade that was not one, say).
                    dir.state = State::ExpectFrame;
                }
                !input.is_empty()
            }
            State::ExpectFrame => self.read_head(side, input, sink),
            State::DataPadding(head) => {
                if input.is_empty() {
                    return false;
                }
                let padding = usize::from(input.get_u8());
                let left = (head.len - 1).saturating_sub(padding);
                dir.state = State::Data { head, left, padding: (head.len - 1) - left };
                true
            }
            State::Data { head, left, padding } => {
                if left > 0 && input.is_empty() {
                    return false;
                }
                let piece = input.split_to(left.min(input.len()));
                let left = left - piece.len();
                dir.state = State::Data { head, left, padding };
                if left == 0 {
                    dir.state =
                        State::Skip { left: padding, then_end: head.has(frame::END_STREAM).then_some(head.stream) };
                }
                self.data(side, head.stream, piece, sink);
                true
            }
            State::Skip { left, then_end } => {
                let skip = left.min(input.len());
                input.advance(skip);
                if skip < left {
                    dir.state = State::Skip { left: left - skip, then_end };
                    return false;
                }
                dir.state = State::ExpectFrame;
                if let Some(stream) = then_end {
                    self.end_half(side, stream, sink);
                }
                !input.is_empty()
            }
            State::Gather(head) => {
                let before = dir.kept.len();
                let missing = head.len.saturating_sub(before);
                if input.len() < missing {
                    dir.kept.extend_from_slice(input);
                    input.clear();
                    return false;
                }
                let piece = input.split_to(missing);
                dir.state = State::ExpectFrame;
                if before == 0 {
                    self.frame(side, head, &piece, sink);
                } else {
                    let mut payload = std::mem::take(&mut dir.kept);
                    payload.extend_from_slice(&piece);
                    self.frame(side, head, &payload, sink);
                }
                true
            }
            State::Seek => self.seek(side, input, sink),
        }
    }

    fn read_head(&mut self, side: Side, input: &mut Bytes, sink: &mut Sink<'_>) -> bool {
        let dir = self.dir(side);
        if input.is_empty() {
            return false;
        }
        let mut head_bytes = [0; HEAD_BYTES];
        let before = dir.kept.len();
        let piece = input.split_to((HEAD_BYTES - before).min(input.len()));
        dir.kept.extend_from_slice(&piece);
        let Some(bytes) = dir.kept.first_chunk::<HEAD_BYTES>() else { return false };
        head_bytes.copy_from_slice(bytes);
        dir.kept.clear();
        let continues = dir.block.as_ref().map(|block| block.stream);
        // Data is handed on as it comes: where the place is sure its frames may be as long as the format lets them.
        let max_data = if dir.frames >= 2 { frame::MAX_BYTES } else { sink.bounds.max_frame_bytes };
        let fits = |head: &FrameHead| head.kind == Kind::Data || head.len <= sink.bounds.max_frame_bytes;
        let head = frame::read(&head_bytes, max_data).filter(fits).filter(|head| match continues {
            Some(stream) => head.kind == Kind::Continuation && head.stream == stream,
            None => head.kind != Kind::Continuation || !self.whole,
        });
        let Some(head) = head else {
            sink.counters.malformed += 1;
            let mut again = head_bytes.to_vec();
            again.extend_from_slice(input);
            *input = Bytes::from(again);
            self.lose(side, 0, sink);
            return true;
        };
        if side == Side::Response && self.must_hold(&head) {
            let mut held = head_bytes.to_vec();
            held.extend_from_slice(input);
            input.clear();
            self.held_responses.push(sink.at, Piece::Bytes(Bytes::from(held)));
            return false;
        }
        let dir = self.dir(side);
        dir.frames = dir.frames.saturating_add(1);
        dir.state = match head.kind {
            Kind::Data if head.has(frame::PADDED) && head.len > 0 => State::DataPadding(head),
            Kind::Data => State::Data { head, left: head.len, padding: 0 },
            Kind::Headers | Kind::PushPromise | Kind::Continuation | Kind::ResetStream | Kind::GoAway => {
                State::Gather(head)
            }
            Kind::Settings | Kind::Ignored | Kind::Unknown => State::Skip { left: head.len, then_end: None },
        };
        true
    }

    /// A response on a stream that the client has not begun, on a connection seen whole: its request comes late.
    fn must_hold(&self, head: &FrameHead) -> bool {
        self.whole
            && matches!(head.kind, Kind::Headers | Kind::Data | Kind::ResetStream)
            && head.stream % 2 == 1
            && head.stream > self.newest
    }

    fn release(&mut self, must: bool, sink: &mut Sink<'_>) {
        let Some(since) = self.held_responses.since() else { return };
        let waited = sink.at.since(since) > sink.bounds.response_hold;
        let full = self.held_responses.bytes() > sink.bounds.max_buffered_bytes;
        let first = match self.held_responses.pieces.front() {
            Some((_, Piece::Bytes(bytes))) => bytes.first_chunk().and_then(|head| frame::read(head, frame::MAX_BYTES)),
            _ => None,
        };
        let wanted = first.is_none_or(|head| !self.must_hold(&head));
        if !(must || waited || full || wanted) {
            return;
        }
        // Who waited in vain missed a request; and what must go is not held again.
        self.whole &= wanted && !must;
        let now = sink.at;
        let mut held = std::mem::take(&mut self.held_responses);
        while let Some((at, piece)) = held.pieces.pop_front() {
            if self.is_holding() {
                self.held_responses.push(at, piece);
                continue;
            }
            sink.at = at;
            match piece {
                Piece::Bytes(bytes) => self.read(Side::Response, bytes, sink),
                Piece::Gap(len) => self.gap_in(Side::Response, len, sink),
            }
        }
        sink.at = now;
    }

    /// The stream; one that was not seen to begin becomes an exchange with an empty head, unless it is over.
    fn stream_or_begin(&mut self, side: Side, id: u32, sink: &mut Sink<'_>) -> Option<&mut Stream> {
        if !self.streams.contains_key(&id) {
            if self.closed.contains(&id) || id.is_multiple_of(2) || self.whole {
                return None;
            }
            let seq = self.take_seq();
            let mut exchange = match side {
                Side::Request => Exchange::begin(seq, stream::empty_request(sink.at), sink),
                Side::Response => Exchange::begin_without_request(seq, Protocol::Http2, sink.at, sink),
            };
            let lost = id > self.newest && self.request_seen;
            exchange.flaw(self.unseen.filter(|_| !lost).unwrap_or(Flaw::Gap), sink);
            self.newest = self.newest.max(id);
            self.insert(id, Stream::new(exchange, false, sink.at), sink);
        }
        self.streams.get_mut(&id)
    }

    fn data(&mut self, side: Side, id: u32, bytes: Bytes, sink: &mut Sink<'_>) {
        if bytes.is_empty() {
            return;
        }
        let len = bytes.len() as u64;
        match self.stream_or_begin(side, id, sink) {
            Some(stream) => stream.data(side, bytes, sink),
            None => sink.counters.skipped_bytes += len,
        }
    }

    fn end_half(&mut self, side: Side, id: u32, sink: &mut Sink<'_>) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if stream.end_half(side, sink) {
            if let Some(stream) = self.streams.remove(&id) {
                stream.end(sink);
            }
            self.remember(id);
        }
    }

    fn insert(&mut self, id: u32, stream: Stream, sink: &mut Sink<'_>) {
        self.streams.insert(id, stream);
        if self.streams.len() > sink.bounds.max_streams
            && let Some((oldest, mut stream)) = self.streams.pop_first()
        {
            stream.exchange.flaw(Flaw::Bound, sink);
            stream.exchange.end_lost(sink);
            self.remember(oldest);
        }
    }

    /// The server will not answer streams above the one it names.
    fn go_away(&mut self, payload: &[u8], sink: &mut Sink<'_>) {
        let Some(last) = payload.first_chunk().map(|bytes| u32::from_be_bytes(*bytes) & 0x7fff_ffff) else { return };
        let refused: Vec<u32> = self.streams.range(last.saturating_add(1)..).map(|(id, _)| *id).collect();
        for id in refused {
            let unanswered =
                self.streams.get(&id).is_some_and(|s| s.exchange.progress(Side::Response) == Progress::Waiting);
            if unanswered && let Some(stream) = self.streams.remove(&id) {
                stream.end_cut(CloseHow::Reset, sink);
                self.remember(id);
            }
        }
    }

    fn remember(&mut self, id: u32) {
        if self.closed.len() >= REMEMBERED {
            self.closed.pop_front();
        }
        self.closed.push_back(id);
    }

    fn take_seq(&mut self) -> u32 {
        let seq = self.next_seq;
        self.next_seq = seq.wrapping_add(1);
        seq
    }
}
