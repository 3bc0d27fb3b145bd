//! The packet reader and what every source is, without the other sources.

#[path = "../../../src/capture/pcap/mod.rs"]
pub mod pcap;
#[path = "../../../src/capture/source.rs"]
mod source;

pub use source::{Encrypted, Sink, Source, Status, StopFlag};
