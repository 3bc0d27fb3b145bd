//! What was wrong with observed traffic. Observed traffic never makes an error: decoders return what they saw, and a
//! call carries its flaws to the store, the API and the console.

use serde::{Deserialize, Serialize};

/// One flaw. The names in output are those of [`Flaw::as_str`] (docs/output.md).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Flaw {
    /// Bytes are missing inside the request or the response.
    Gap,
    /// The connection or the capture ended before the response did.
    Cut,
    /// Bytes broke the rules of their protocol.
    Malformed,
    /// Heron met the connection in the middle of this exchange; its beginning was not seen.
    MidStream,
    /// Some headers are unknown (HTTP/2 met in the middle).
    UnknownHeaders,
    /// A content coding could not be undone (unknown, or its stream was damaged).
    Encoding,
    /// A known path carried JSON of an unknown shape.
    Shape,
    /// A bound was reached: part of a body or a header was not kept.
    Bound,
    /// The WebSocket's shared compression history began before heron looked: undecodable until reconnect.
    LostHistory,
    /// The response was seen without its request.
    NoRequest,
}

impl Flaw {
    /// The name used in output, API and console.
    pub fn as_str(self) -> &'static str {
        match self {
            Flaw::Gap => "gap",
            Flaw::Cut => "cut",
            Flaw::Malformed => "malformed",
            Flaw::MidStream => "mid_stream",
            Flaw::UnknownHeaders => "unknown_headers",
            Flaw::Encoding => "encoding",
            Flaw::Shape => "shape",
            Flaw::Bound => "bound",
            Flaw::LostHistory => "lost_history",
            Flaw::NoRequest => "no_request",
        }
    }
}
