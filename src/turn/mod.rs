//! Conversations, turns, sessions and findings, from calls alone. Knows no HTTP and no vendor's JSON.

mod model;
mod stage;

pub use model::{
    Agent, Finding, Placement, SessionId, Severity, Step, TimeSplit, Turn, TurnId, TurnStatus, TurnUpdate,
};
pub use stage::{Config, Counters, Input, Stage};
