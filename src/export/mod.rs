//! What was seen, in the formats of other tools.

pub mod pcapng;
