//! Bytes of a connection in, parts of exchanges out. Knows no JSON, no LLM, no agents and no sources.
//!
//! Beside the parts stand the pure framers of streamed bodies, which `wire` feeds with content: [`sse`], [`ndjson`],
//! [`json_array`] and [`event_stream`].

pub mod event_stream;
pub mod json_array;
pub mod ndjson;
mod part;
pub mod sse;

pub use part::{Body, ExchangeId, Header, Message, Part, PartKind, Protocol, RequestHead, ResponseHead, Side, header};
