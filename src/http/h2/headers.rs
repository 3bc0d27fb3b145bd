//! HTTP/2 header blocks: gathered over CONTINUATION, decoded, and handed to their streams.

use super::frame::{self, FrameHead, Kind};
use super::hpack::Field;
use super::stream::{self, Stream};
use super::{Block, H2};
use crate::flaw::Flaw;
use crate::http::Side;
use crate::http::exchange::Exchange;
use crate::http::sink::Sink;

impl H2 {
    /// A frame that was gathered whole.
    pub(super) fn frame(&mut self, side: Side, head: FrameHead, payload: &[u8], sink: &mut Sink<'_>) {
        match head.kind {
            Kind::Headers | Kind::PushPromise => {
                let promise = head.kind == Kind::PushPromise;
                let priority = !promise && head.has(frame::PRIORITY);
                let before =
                    usize::from(head.has(frame::PADDED)) + if promise { 4 } else { 0 } + if priority { 5 } else { 0 };
                let padding =
                    if head.has(frame::PADDED) { payload.first().map_or(0, |&len| usize::from(len)) } else { 0 };
                let block = payload.get(before..payload.len().saturating_sub(padding)).unwrap_or_default();
                self.begin_block(side, head, promise, block, sink);
            }
            Kind::Continuation => self.continue_block(side, head, payload, sink),
            Kind::ResetStream => {
                if let Some(stream) = self.streams.remove(&head.stream) {
                    if side == Side::Request {
                        stream.exchange.client_left(sink);
                    }
                    stream.end_reset(sink);
                }
                self.remember(head.stream);
            }
            Kind::GoAway if side == Side::Response => self.go_away(payload, sink),
            _ => {}
        }
    }

    fn begin_block(&mut self, side: Side, head: FrameHead, promise: bool, bytes: &[u8], sink: &mut Sink<'_>) {
        let block = Block {
            stream: head.stream,
            end_stream: head.has(frame::END_STREAM) && !promise,
            promise,
            bytes: Vec::new(),
        };
        if head.has(frame::END_HEADERS) {
            return self.header_block(side, block, bytes, sink);
        }
        self.dir(side).block = Some(Block { bytes: bytes.to_vec(), ..block });
    }

    fn continue_block(&mut self, side: Side, head: FrameHead, payload: &[u8], sink: &mut Sink<'_>) {
        let dir = self.dir(side);
        let Some(mut block) = dir.block.take() else {
            // The block's beginning was not seen.
            dir.table.forget();
            return;
        };
        if block.bytes.len() + payload.len() > sink.bounds.max_head_bytes {
            dir.table.forget();
            sink.counters.bounds_hit += 1;
            if let Some(stream) = self.streams.get_mut(&block.stream) {
                stream.exchange.flaw(Flaw::Bound, sink);
            }
            return;
        }
        block.bytes.extend_from_slice(payload);
        if head.has(frame::END_HEADERS) {
            let bytes = std::mem::take(&mut block.bytes);
            self.header_block(side, block, &bytes, sink);
        } else {
            dir.block = Some(block);
        }
    }

    /// A whole header block.
    fn header_block(&mut self, side: Side, block: Block, bytes: &[u8], sink: &mut Sink<'_>) {
        let max_head = sink.bounds.max_head_bytes;
        let mut fields: Vec<Field> = Vec::new();
        let outcome = self.dir(side).table.decode(bytes, max_head, &mut fields);
        sink.counters.unknown_fields += u64::from(outcome.unknown);
        sink.counters.header_block_flaws += u64::from(outcome.unknown > 0 || outcome.malformed || outcome.too_large);
        if block.promise || block.stream.is_multiple_of(2) {
            return;
        }
        let side = self.settle_roles(side, &fields);
        let fields = stream::Fields { fields, outcome };
        match side {
            Side::Request => self.request_headers(&block, fields, sink),
            Side::Response => self.response_headers(&block, fields, sink),
        }
        if let Some(stream) = self.streams.get_mut(&block.stream) {
            stream.quiet_since = sink.at;
            if outcome.malformed {
                stream.exchange.flaw(Flaw::Malformed, sink);
            }
            if outcome.too_large {
                stream.exchange.flaw(Flaw::Bound, sink);
            }
        }
        if block.end_stream {
            self.end_half(side, block.stream, sink);
        }
    }

    /// Met in the middle, the first header block tells who is the client.
    fn settle_roles(&mut self, side: Side, fields: &[Field]) -> Side {
        if self.roles_known {
            return side;
        }
        let has = |name: &str| fields.iter().any(|field| field.name.as_deref() == Some(name));
        let told = if has(":status") {
            Side::Response
        } else if has(":method") || has(":path") || has(":authority") {
            Side::Request
        } else {
            return side;
        };
        self.roles_known = true;
        if told != side {
            self.swapped = !self.swapped;
            std::mem::swap(&mut self.requests, &mut self.responses);
        }
        told
    }

    fn request_headers(&mut self, block: &Block, fields: stream::Fields, sink: &mut Sink<'_>) {
        if self.streams.contains_key(&block.stream) || self.closed.contains(&block.stream) {
            // Trailers.
            return;
        }
        self.give_up_lost(sink);
        let (head, websocket) = fields.into_request(sink.at);
        let seq = self.take_seq();
        let exchange = Exchange::begin(seq, head, sink);
        self.request_seen = true;
        self.newest = self.newest.max(block.stream);
        self.insert(block.stream, Stream::new(exchange, websocket, sink.at), sink);
    }

    fn response_headers(&mut self, block: &Block, fields: stream::Fields, sink: &mut Sink<'_>) {
        let Some(stream) = self.stream_or_begin(Side::Response, block.stream, sink) else { return };
        stream.response_headers(fields, sink);
    }
}
