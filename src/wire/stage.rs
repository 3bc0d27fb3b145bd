//! The stage: parts in, call updates out. Holds one entry per open exchange, and what was read of the last requests.

use std::collections::hash_map::Entry;

use serde::Serialize;

use crate::event::{Endpoint, IdMap, Nanos, ProcId, Transport};
use crate::http::{ExchangeId, Part, PartKind};
use crate::wire::CallUpdate;
use crate::wire::exchange::{Context, Exchange, Fate};
use crate::wire::request::Recent;

/// What the stage keeps at most.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// Bytes of one body (each half, and a WebSocket's messages of one call). What is over it is counted, not kept: `bound`.
    pub body_bytes: usize,
    /// Exchanges open at a time; what is over it is not looked at, and counted.
    pub exchanges: usize,
    /// Token gaps of one call.
    pub token_gaps: usize,
    /// Bytes of earlier requests that new ones are held against.
    pub recent_bytes: usize,
    /// How far apart two progress updates of one call are at least, in event time; `None` for no progress updates. With
    /// [`Bounds::NOBODY_LOOKS`] only what changes the order of things is told: that the request, or the answer, is complete.
    pub progress: Option<Nanos>,
}

impl Bounds {
    /// Nobody looks at calls that are under way.
    pub const NOBODY_LOOKS: Nanos = Nanos(u64::MAX);
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds {
            body_bytes: 64 << 20,
            exchanges: 200_000,
            token_gaps: 100_000,
            recent_bytes: 64 << 20,
            progress: Some(Nanos(100_000_000)),
        }
    }
}

/// Where an exchange's bytes come from: what the connection stage knows, in the client's and server's words.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Origin {
    /// Who owns the observed end.
    pub process: Option<ProcId>,
    /// The client's end.
    pub client: Option<Endpoint>,
    /// The server's end.
    pub server: Option<Endpoint>,
    /// How the plaintext was had.
    pub transport: Option<Transport>,
    /// When the connection was first seen.
    pub opened: Nanos,
}

/// What the stage counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Counters {
    /// Exchanges seen.
    pub exchanges: u64,
    /// Calls handed on as done.
    pub calls: u64,
    /// Exchanges that were no LLM calls.
    pub ignored: u64,
    /// Calls with a bound reached.
    pub bounded: u64,
    /// Calls with JSON of an unknown shape.
    pub misshapen: u64,
    /// Exchanges not looked at because too many were open.
    pub refused: u64,
}

impl Counters {
    /// By name, for `/api/health`.
    pub fn named(&self) -> std::collections::BTreeMap<&'static str, u64> {
        std::collections::BTreeMap::from([
            ("exchanges", self.exchanges),
            ("calls", self.calls),
            ("ignored", self.ignored),
            ("bounded", self.bounded),
            ("misshapen", self.misshapen),
            ("refused", self.refused),
        ])
    }
}

enum State {
    /// Known to be no call; only its end is awaited.
    NoCall,
    Open(Box<Exchange>),
}

/// The wire stage (module docs).
pub struct Stage {
    bounds: Bounds,
    open: IdMap<ExchangeId, State>,
    recent: Recent,
    counters: Counters,
}

impl Stage {
    /// A stage within bounds.
    pub fn new(bounds: Bounds) -> Stage {
        let recent = Recent::new(bounds.recent_bytes);
        Stage { bounds, open: IdMap::default(), recent, counters: Counters::default() }
    }

    /// Takes one part. `origin` is asked when an exchange begins and when its call is done.
    pub fn push(&mut self, part: Part, origin: &dyn Fn() -> Option<Origin>, out: &mut Vec<CallUpdate>) {
        let before = out.len();
        let mut context = Context { bounds: &self.bounds, recent: &mut self.recent, origin, out };
        let ends = matches!(part.kind, PartKind::End(_));
        let full = self.open.len() >= self.bounds.exchanges;
        let state = match self.open.entry(part.exchange) {
            Entry::Occupied(open) => open.into_mut(),
            Entry::Vacant(place) => {
                self.counters.exchanges += 1;
                self.counters.refused += u64::from(full);
                let begun = Exchange::begin(part.exchange, part.at, &part.kind, &context).filter(|_| !full);
                place.insert(begun.map_or(State::NoCall, |exchange| State::Open(Box::new(exchange))))
            }
        };
        if let State::Open(exchange) = state
            && exchange.take(part.at, part.kind, &mut context) == Fate::NoCall
        {
            *state = State::NoCall;
        }
        if ends {
            self.counters.ignored += u64::from(matches!(state, State::NoCall));
            self.open.remove(&part.exchange);
        }
        self.count(out.get(before..).unwrap_or_default());
    }

    fn count(&mut self, updates: &[CallUpdate]) {
        for update in updates {
            if let CallUpdate::Done(call) = update {
                self.counters.calls += 1;
                self.counters.bounded += u64::from(call.flaws.contains(&crate::flaw::Flaw::Bound));
                self.counters.misshapen += u64::from(call.flaws.contains(&crate::flaw::Flaw::Shape));
            }
        }
    }

    /// What was counted so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Whether an exchange that is not over is known to be no call.
    pub fn is_no_call(&self, exchange: ExchangeId) -> bool {
        matches!(self.open.get(&exchange), Some(State::NoCall))
    }

    /// How many exchanges are open.
    pub fn open_exchanges(&self) -> usize {
        self.open.len()
    }
}
