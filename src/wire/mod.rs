//! Parts of exchanges in, calls out: one file per wire API, one registry. Knows no sockets, no storage, no agents.
//!
//! The way through: [`Stage`] keeps an `exchange` per open exchange; the [`registry`] (by path) or `shape` (by body) says
//! which wire API it is; then it is a `live` call whose answer goes through a `framing` into the API's decoder, which
//! fills an `answer`. Decoders look into JSON with `json` and never build a tree of what nobody asks for.

mod answer;
mod anthropic;
mod bedrock;
mod call;
mod cohere;
mod decoder;
mod error;
mod exchange;
mod framing;
mod gather;
mod gemini;
mod json;
mod live;
mod mcp;
mod message;
mod ollama;
mod openai_chat;
mod openai_other;
mod openai_responses;
mod parts;
mod provider;
mod realtime;
pub mod registry;
mod repeated;
mod request;
mod session;
mod shape;
mod socket;
mod stage;
mod usage;

pub use call::{
    Call, CallError, CallId, CallState, CallUpdate, Content, Finish, Half, Message, MessageHash, Operation, Role,
    Times, ToolCall, ToolOffered, Usage, WireApi,
};
pub use stage::{Bounds, Counters, Origin, Stage};
