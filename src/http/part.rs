//! What the HTTP stage hands on: the parts of exchanges, as they arrive.
//!
//! One exchange is one request and its response on a connection: an HTTP/1.1 pair, one HTTP/2 stream, or one WebSocket
//! connection (whose messages follow its upgrade). Parts of one exchange come in order; parts of several exchanges of one connection may
//! interleave (HTTP/2, pipelining). There are no errors here: what was wrong with the bytes travels as [`Flaw`]s.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::event::{CloseHow, ConnId, Nanos};
use crate::flaw::Flaw;

/// One exchange: the connection and the exchange's number on it, from 0 in the order of requests.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct ExchangeId {
    /// Which connection.
    pub conn: ConnId,
    /// Which exchange on it.
    pub seq: u32,
}

/// What the exchange was spoken in.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Protocol {
    /// HTTP/1.0 or 1.1.
    Http1,
    /// HTTP/2.
    Http2,
    /// WebSocket, over either.
    WebSocket,
}

impl Protocol {
    /// The name in API and console.
    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::Http1 => "http/1.1",
            Protocol::Http2 => "h2",
            Protocol::WebSocket => "websocket",
        }
    }
}

/// One header as sent. HTTP/2 pseudo-headers are not here: they fill the fields of the heads.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Header {
    /// The name as sent (case kept).
    pub name: String,
    /// The value; bytes that are not UTF-8 are replaced.
    pub value: String,
}

/// Finds a header by name, ignoring case.
pub fn header<'a>(headers: &'a [Header], name: &str) -> Option<&'a str> {
    headers.iter().find(|h| h.name.eq_ignore_ascii_case(name)).map(|h| h.value.as_str())
}

/// A request's start line and headers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RequestHead {
    /// The protocol.
    pub protocol: Protocol,
    /// The method; empty when it could not be known (HTTP/2 attached in the middle).
    pub method: String,
    /// The target as sent, path and query; empty when it could not be known.
    pub target: String,
    /// Host or `:authority`, where sent.
    pub authority: Option<String>,
    /// The headers in order.
    pub headers: Vec<Header>,
    /// How many HPACK fields could not be known (attached in the middle).
    pub unknown_headers: u32,
    /// When the first byte of the request was seen.
    pub first_byte: Nanos,
}

/// A response's status and headers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ResponseHead {
    /// The status; 0 when it could not be known.
    pub status: u16,
    /// The headers in order.
    pub headers: Vec<Header>,
    /// How many HPACK fields could not be known.
    pub unknown_headers: u32,
    /// When the first byte of the response was seen.
    pub first_byte: Nanos,
}

/// A piece of a body.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Body {
    /// As sent: after the transfer framing (chunks, frames) is taken off, before any content coding is undone. May be
    /// empty when a decoder flushed content late.
    pub wire: Bytes,
    /// The content: after the content coding is undone. Shares the buffer with `wire` when there is no coding. May be
    /// empty when the decoder wants more.
    pub content: Bytes,
}

impl Body {
    /// A piece without content coding.
    pub fn plain(bytes: Bytes) -> Body {
        Body { wire: bytes.clone(), content: bytes }
    }
}

/// Which side of an exchange.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Side {
    /// From the client.
    Request,
    /// From the server.
    Response,
}

/// One complete WebSocket message (control frames are not handed on).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// Who sent it.
    pub side: Side,
    /// True for a text message.
    pub text: bool,
    /// The payload, unmasked, defragmented and inflated.
    pub payload: Bytes,
    /// Its size on the wire, before inflating.
    pub wire_len: u64,
}

/// What arrived of an exchange.
#[derive(Clone, PartialEq, Debug)]
pub enum PartKind {
    /// The request's head is complete.
    Request(RequestHead),
    /// A piece of the request's body.
    RequestBody(Body),
    /// The request is complete (trailers dropped).
    RequestEnd,
    /// An interim response (1xx, not 101).
    Informational(ResponseHead),
    /// The final response's head is complete.
    Response(ResponseHead),
    /// A piece of the response's body.
    ResponseBody(Body),
    /// The response is complete.
    ResponseEnd,
    /// A WebSocket message.
    Message(Message),
    /// Bytes of a body are missing here.
    Gap {
        /// Whose body.
        side: Side,
        /// How many bytes; 0 when unknown.
        len: u64,
    },
    /// The client ended its side (closed it, or reset the HTTP/2 stream) before the response was complete. A client that
    /// only says that it has no more to ask does so too: what follows tells.
    ClientLeft,
    /// Something was wrong; the exchange carries it from here on.
    Flaw(Flaw),
    /// The exchange is over. `None`: request and response came to their own end. Otherwise the connection ended first.
    End(Option<CloseHow>),
}

/// One part of one exchange.
#[derive(Clone, PartialEq, Debug)]
pub struct Part {
    /// Which exchange.
    pub exchange: ExchangeId,
    /// When the bytes that completed this part were seen.
    pub at: Nanos,
    /// What.
    pub kind: PartKind,
}
