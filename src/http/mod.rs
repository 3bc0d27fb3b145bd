//! Bytes of a connection in, parts of exchanges out. Knows no JSON, no LLM, no agents and no sources.

mod part;

pub use part::{Body, ExchangeId, Header, Message, Part, PartKind, Protocol, RequestHead, ResponseHead, Side, header};
