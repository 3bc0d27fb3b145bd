//! Parts of exchanges in, calls out: one file per wire API, one registry. Knows no sockets, no storage, no agents.

mod call;
pub mod registry;

pub use call::{
    Call, CallError, CallId, CallState, CallUpdate, Content, Finish, Half, Message, MessageHash, Operation, Role,
    Times, ToolCall, ToolOffered, Usage, WireApi,
};
