//! Heron sees what AI agents on this host really send, receive and do.
//!
//! The map of the house, in the order in which data flows:
//!
//! - [`event`]: the seam. Sources make events; everything else takes them.
//! - [`capture`]: the sources.
//! - [`http`]: bytes of a connection -> parts of exchanges.
//! - [`wire`]: parts -> calls, one file per wire API.
//! - [`turn`]: calls -> turns, sessions, findings.
//!
//! `docs/architecture.md` has the invariants.

pub mod capture;
pub mod event;
pub mod flaw;
pub mod http;
pub mod proc;
pub mod stats;
pub mod turn;
pub mod wire;
