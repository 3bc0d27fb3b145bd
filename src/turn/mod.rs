//! Conversations, turns, sessions and findings, from calls alone. Knows no HTTP and no vendor's JSON.

mod model;

pub use model::{
    Agent, Finding, Placement, SessionId, Severity, Step, TimeSplit, Turn, TurnId, TurnStatus, TurnUpdate,
};
