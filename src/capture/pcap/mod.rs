//! Packets as a source: capture files, live interfaces, remote probes.
//!
//! Frames are decoded ([`link`]), TCP streams put together ([`table`], [`connection`], [`stream`]), and handed on as events.
//! Packets exist only under this module. It must not know BPF, processes or HTTP (beyond telling it from other protocols by
//! the first bytes, [`classify`]). Bytes of a mapped file are never copied on their way to an event.

mod batch;
mod classify;
mod connection;
mod field;
mod file;
mod filter;
mod format;
mod fragment;
mod glob;
mod input;
mod link;
mod live;
mod probe;
mod stream;
mod table;
mod tls;
mod zmtp;

pub use file::{FileSource, Options};
pub use live::{LiveOptions, LiveSource, Owners};
pub use probe::{ProbeOptions, ProbeSource};
