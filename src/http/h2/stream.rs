//! One HTTP/2 stream: its header blocks as heads, its data as a body or, after extended CONNECT, as WebSocket frames.

use bytes::Bytes;

use super::hpack::{Field, Outcome};
use crate::event::{CloseHow, Nanos};
use crate::flaw::Flaw;
use crate::http::exchange::{Exchange, Progress};
use crate::http::held::{Held, Piece};
use crate::http::sink::Sink;
use crate::http::websocket::WebSocket;
use crate::http::{Header, Protocol, RequestHead, ResponseHead, Side};

/// An exchange with a hole that was quiet for so long is given up.
pub(super) const LOST_AFTER: Nanos = Nanos(30_000_000_000);

#[derive(Debug)]
pub(super) struct Stream {
    pub exchange: Exchange,
    /// Frames may be missing.
    pub holed: bool,
    pub quiet_since: Nanos,
    /// It asked for a WebSocket (RFC 8441).
    asks_websocket: bool,
    /// Its client's bytes that came before the answer to that.
    early: Held,
    websocket: Option<Box<WebSocket>>,
}

/// A decoded header block.
pub(super) struct Fields {
    pub fields: Vec<Field>,
    pub outcome: Outcome,
}

impl Fields {
    fn pseudo(&self, name: &str) -> Option<String> {
        self.fields.iter().find(|field| field.name.as_deref() == Some(name))?.value.as_deref().map(str::to_owned)
    }

    fn headers(&self) -> Vec<Header> {
        let known = |field: &Field| {
            let (name, value) = (field.name.as_deref()?, field.value.as_deref()?);
            (!name.starts_with(':')).then(|| Header { name: name.to_owned(), value: value.to_owned() })
        };
        self.fields.iter().filter_map(known).collect()
    }

    /// A request's head, and whether it asks for a WebSocket.
    pub fn into_request(self, first_byte: Nanos) -> (RequestHead, bool) {
        let websocket = self.pseudo(":protocol").is_some_and(|protocol| protocol.eq_ignore_ascii_case("websocket"));
        let headers = self.headers();
        let authority = self.pseudo(":authority");
        let host = || crate::http::header(&headers, "host").map(str::to_owned);
        let head = RequestHead {
            protocol: if websocket { Protocol::WebSocket } else { Protocol::Http2 },
            method: self.pseudo(":method").unwrap_or_default(),
            target: self.pseudo(":path").unwrap_or_default(),
            authority: authority.or_else(host),
            headers,
            unknown_headers: self.outcome.unknown,
            first_byte,
        };
        (head, websocket)
    }
}

/// The head of a request of which only later frames were seen.
pub(super) fn empty_request(first_byte: Nanos) -> RequestHead {
    let fields = Fields { fields: Vec::new(), outcome: Outcome::default() };
    fields.into_request(first_byte).0
}

impl Stream {
    pub fn new(exchange: Exchange, asks_websocket: bool, at: Nanos) -> Stream {
        Stream { exchange, holed: false, quiet_since: at, asks_websocket, early: Held::default(), websocket: None }
    }

    /// A header block from the server: interim, final, or trailers.
    pub fn response_headers(&mut self, fields: Fields, sink: &mut Sink<'_>) {
        let status = fields.pseudo(":status").and_then(|status| status.parse::<u16>().ok());
        if self.exchange.progress(Side::Response) != Progress::Waiting {
            // Trailers.
            return;
        }
        let head = ResponseHead {
            status: status.unwrap_or(0),
            headers: fields.headers(),
            unknown_headers: fields.outcome.unknown,
            first_byte: sink.at,
        };
        if (100..200).contains(&head.status) {
            return self.exchange.informational(head, sink);
        }
        if self.asks_websocket && head.status == 200 {
            self.websocket = Some(Box::new(WebSocket::new(&head.headers)));
        }
        let has_body = self.websocket.is_none();
        self.exchange.respond(head, has_body, sink);
        self.take_early(sink);
    }

    /// Reads what the client sent before the answer told what it is.
    fn take_early(&mut self, sink: &mut Sink<'_>) {
        let now = sink.at;
        for (at, piece) in std::mem::take(&mut self.early).pieces {
            sink.at = at;
            match piece {
                Piece::Bytes(bytes) => self.data(Side::Request, bytes, sink),
                Piece::Gap(len) => self.gap(Side::Request, len, sink),
            }
        }
        sink.at = now;
        self.quiet_since = now;
    }

    /// The answer tells whether the client's bytes are messages.
    fn waits(&self, side: Side) -> bool {
        let unanswered = self.exchange.progress(Side::Response) == Progress::Waiting;
        self.asks_websocket && side == Side::Request && unanswered
    }

    fn keep_early(&mut self, piece: Piece, sink: &mut Sink<'_>) {
        if self.early.bytes() > sink.bounds.max_buffered_bytes {
            self.exchange.flaw(Flaw::Bound, sink);
        } else {
            self.early.push(sink.at, piece);
        }
    }

    pub fn data(&mut self, side: Side, bytes: Bytes, sink: &mut Sink<'_>) {
        self.quiet_since = sink.at;
        if self.waits(side) {
            return self.keep_early(Piece::Bytes(bytes), sink);
        }
        if let Some(websocket) = &mut self.websocket {
            return websocket.push(side, bytes, &mut self.exchange, sink);
        }
        if side == Side::Response {
            self.begin_unseen_response(sink);
        }
        if self.exchange.progress(side) == Progress::Open {
            self.exchange.body(side, bytes, sink);
        }
    }

    /// Data came whose head was not seen.
    fn begin_unseen_response(&mut self, sink: &mut Sink<'_>) {
        if self.exchange.progress(Side::Response) == Progress::Waiting {
            let head = ResponseHead { status: 0, headers: Vec::new(), unknown_headers: 0, first_byte: sink.at };
            self.exchange.respond(head, true, sink);
            self.exchange.flaw(Flaw::UnknownHeaders, sink);
        }
    }

    /// Bytes of this stream's data are missing.
    pub fn gap(&mut self, side: Side, len: u64, sink: &mut Sink<'_>) {
        self.quiet_since = sink.at;
        if self.waits(side) {
            return self.keep_early(Piece::Gap(len), sink);
        }
        match &mut self.websocket {
            Some(websocket) => websocket.gap(side, len, &mut self.exchange, sink),
            None if self.exchange.progress(side) != Progress::Done => {
                if side == Side::Response {
                    self.begin_unseen_response(sink);
                }
                self.exchange.gap(side, len, sink);
            }
            None => {}
        }
    }

    /// Frames are missing, perhaps some of this stream; `len` bytes of them surely, where it is not 0.
    pub fn hole(&mut self, side: Side, len: u64, sink: &mut Sink<'_>) {
        let under_way = self.exchange.progress(side) == Progress::Open;
        let may_have_begun = side == Side::Response && self.exchange.progress(side) == Progress::Waiting;
        if !under_way && !may_have_begun {
            return;
        }
        self.holed = true;
        if self.waits(side) {
            self.keep_early(Piece::Gap(len), sink);
        }
        match &mut self.websocket {
            Some(websocket) => websocket.gap(side, len, &mut self.exchange, sink),
            None if under_way => self.exchange.gap(side, len, sink),
            None => self.exchange.flaw(Flaw::Gap, sink),
        }
    }

    /// One half is over; true when the exchange is.
    pub fn end_half(&mut self, side: Side, sink: &mut Sink<'_>) -> bool {
        if side == Side::Response && self.exchange.progress(side) == Progress::Waiting {
            self.begin_unseen_response(sink);
        }
        self.exchange.end_half(side, sink);
        self.exchange.is_done()
    }

    pub fn end(self, sink: &mut Sink<'_>) {
        self.exchange.end(sink);
    }

    /// RST_STREAM. A server that has answered may so decline the rest of the request (RFC 9113 section 8.1).
    pub fn end_reset(mut self, sink: &mut Sink<'_>) {
        if self.websocket.is_none() && self.exchange.progress(Side::Response) == Progress::Done {
            self.exchange.end_half(Side::Request, sink);
            return self.exchange.end(sink);
        }
        self.end_cut(CloseHow::Reset, sink);
    }

    pub fn end_cut(self, how: CloseHow, sink: &mut Sink<'_>) {
        match self.websocket {
            Some(websocket) => self.exchange.end_messages((!websocket.is_closing()).then_some(how), sink),
            None => self.exchange.end_cut(how, sink),
        }
    }
}
