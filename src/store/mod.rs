//! The database: calls, turns, findings and processes as rows, bodies byte for byte.
//!
//! One [`Writer`] takes [`Item`]s in the order in which they happen and batches them; any number of threads read through
//! a [`Reader`]. Credentials are taken out of headers and query strings before a row exists. The store must not know
//! HTTP, sources or the API.
//!
//! The surprising fact: agents resend their whole history at each call, so a body is stored as the difference to the
//! previous body of its conversation (`body`), and a call's messages are a list of content addresses. What is new of many
//! calls is compressed together (`block`).

mod attributes;
mod blobs;
mod block;
mod body;
mod check;
mod columns;
mod filter;
mod location;
mod metrics;
mod prepare;
mod reader;
mod references;
mod retention;
mod rows;
mod schema;
mod summary;
mod writer;

pub use check::check_database;
pub use filter::{CallFilter, Page, TurnFilter};
pub use location::{Location, OpenError, Options, Store};
pub use reader::Reader;
pub use retention::{Keep, Pruned};
pub use summary::{
    CallDetail, CallSummary, CostBrief, FindingRow, HalfDetail, MessageDetail, NamedValue, ProcessBrief, ProcessRow,
    SessionRow, Timing, TurnDetail, TurnSummary, step_json,
};
pub use writer::{Item, Writer, WriterStatus};

/// A failure of the database, in one sentence that says what to do.
#[derive(Debug, Clone)]
pub struct StoreError {
    sentence: String,
}

impl StoreError {
    fn new(sentence: impl Into<String>) -> StoreError {
        StoreError { sentence: sentence.into() }
    }
}

impl std::fmt::Display for StoreError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl std::error::Error for StoreError {}

impl From<duckdb::Error> for StoreError {
    fn from(error: duckdb::Error) -> StoreError {
        StoreError::new(format!("the database failed: {error}"))
    }
}
