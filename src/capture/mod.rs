//! Where events come from: the trait that every source implements, and the sources.
//!
//! A source runs on one thread of its own and hands batches of [`crate::event::Event`]s to whoever composed it. It must not know any
//! stage after the seam. Surprising fact: [`Source::run`] consumes the source, because a loaded BPF skeleton lives on the
//! stack of its capture thread; what others want to read meanwhile is behind [`Source::status`], taken beforehand.

pub mod ebpf;
pub mod pcap;
mod source;
pub mod tape;

pub use source::{Encrypted, NoCall, Sink, Source, Status, StopFlag, Target, TargetState};
