//! Bytes of a connection in, parts of exchanges out. Knows no JSON, no LLM, no agents and no sources.
//!
//! [`Connection`] is the decoder of one connection: it finds out what is spoken, and its parts ([`Part`]) are the contract
//! with `wire`. Beside it stand the pure framers of streamed bodies, which `wire` feeds with content: [`sse`], [`ndjson`],
//! [`json_array`] and [`event_stream`].

mod bounds;
mod coding;
mod connection;
pub mod event_stream;
mod exchange;
mod h1;
mod h2;
mod head;
mod held;
pub mod json_array;
pub mod ndjson;
mod part;
mod reader;
mod seek;
mod sink;
pub mod sse;
mod waiter;
mod websocket;

pub use bounds::Bounds;
pub use connection::{Connection, Output};
pub use part::{Body, ExchangeId, Header, Message, Part, PartKind, Protocol, RequestHead, ResponseHead, Side, header};
pub use sink::Counters;
