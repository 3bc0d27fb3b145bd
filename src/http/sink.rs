//! Where decoders put what they found: parts and counts, with the time and the connection they belong to.

use crate::event::{ConnId, Nanos};
use crate::flaw::Flaw;
use crate::http::{Bounds, ExchangeId, Part, PartKind};

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// What the HTTP stage counted, over all connections of one stage.
        #[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
        pub struct Counters {
            $($(#[doc = $doc])+ pub $name: u64,)+
        }

        impl Counters {
            /// Every count with its name.
            pub fn named(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name),)+]
            }

            /// Adds the counts of another worker.
            pub fn add(&mut self, other: &Counters) {
                $(self.$name += other.$name;)+
            }
        }
    };
}

counters! {
    /// Exchanges begun.
    exchanges,
    /// Bytes that belonged to no exchange (before the first message of a connection met in the middle, after damage,
    /// in tunnels, or no HTTP at all).
    skipped_bytes,
    /// Holes in a direction.
    gaps,
    /// Bytes missing in them.
    gap_bytes,
    /// Times that bytes broke the rules of their protocol.
    malformed,
    /// Times that a decoder found its way again after damage.
    resyncs,
    /// Responses whose request was not seen.
    orphan_responses,
    /// Requests given up because their answer was lost in a hole.
    answers_lost,
    /// Times that a bound cut something.
    bounds_hit,
    /// Bodies whose content coding could not be undone.
    coding_failures,
    /// HTTP/2 header fields that could not be known.
    unknown_fields,
    /// HTTP/2 header blocks in which something could not be known or read.
    header_block_flaws,
    /// WebSocket messages that could not be inflated.
    messages_undecodable,
}

/// One event's surroundings.
pub(super) struct Sink<'a> {
    pub conn: ConnId,
    pub at: Nanos,
    pub bounds: &'a Bounds,
    /// So many more bytes may be decoded out of this event: many small bombs are one large one.
    pub room: u64,
    pub parts: &'a mut Vec<Part>,
    pub counters: &'a mut Counters,
}

impl Sink<'_> {
    pub fn part(&mut self, seq: u32, kind: PartKind) {
        match &kind {
            PartKind::Flaw(Flaw::Malformed) => self.counters.malformed += 1,
            PartKind::Flaw(Flaw::Bound) => self.counters.bounds_hit += 1,
            PartKind::Flaw(Flaw::Encoding) => self.counters.coding_failures += 1,
            _ => {}
        }
        self.parts.push(Part { exchange: ExchangeId { conn: self.conn, seq }, at: self.at, kind });
    }
}
