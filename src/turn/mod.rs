//! Conversations, turns, sessions and findings, from calls alone. Knows no HTTP and no vendor's JSON.

mod auxiliary;
mod chain;
mod delegation;
mod findings;
mod graph;
mod hop;
mod model;
mod open;
mod phrases;
mod place;
mod processes;
mod profile;
mod prompt;
mod recent;
mod settle;
mod spine;
mod stage;
mod tail;

pub use model::{
    Agent, Finding, Placement, SessionId, Severity, Step, TimeSplit, Turn, TurnId, TurnStatus, TurnUpdate,
};
pub use profile::agent_of_process;
pub use stage::{Config, Counters, Input, Stage};
