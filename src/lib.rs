//! Heron sees what AI agents on this host really send, receive and do.
//!
//! The map of the house, in the order in which data flows:
//!
//! - [`event`]: the seam. Sources make events; everything else takes them.
//! - [`capture`]: the sources.
//! - [`conn`]: events -> one decoder per connection.
//! - [`http`]: bytes of a connection -> parts of exchanges.
//! - [`wire`]: parts -> calls, one file per wire API.
//! - [`price`]: what calls cost, and context windows, from an embedded table.
//! - [`turn`]: calls -> turns, sessions, findings.
//! - [`store`]: all of it as rows in DuckDB, bodies byte for byte.
//! - [`api`]: rows and live state over HTTP on loopback, and the console.
//! - [`output`]: calls and turns as JSON lines; [`redact`]: no credential reaches any of these three.
//! - [`pipeline`]: puts all of them together; [`cmd`] has the verbs.
//!
//! - [`export`]: what was seen, in the formats of other tools.
//!
//! `docs/architecture.md` has the invariants.

pub mod api;
pub mod capture;
pub mod cmd;
pub mod config;
pub mod conn;
pub mod event;
pub mod export;
pub mod flaw;
pub mod http;
pub mod launch;
pub mod output;
pub mod pipeline;
pub mod price;
pub mod proc;
pub mod redact;
pub mod signal;
pub mod stats;
pub mod store;
pub mod turn;
pub mod wire;
