//! WebSockets: the messages of one connection, cut into calls.

use crate::event::{CloseHow, Nanos};
use crate::http::Message;
use crate::wire::exchange::{Context, Exchange};
use crate::wire::registry::Match;
use crate::wire::stage::Bounds;

/// A WebSocket that carries calls.
pub(crate) struct Socket {}

impl Socket {
    pub(crate) fn open(_found: &Match, _bounds: &Bounds) -> Option<Socket> {
        None
    }

    pub(crate) fn take(
        &mut self,
        _exchange: &mut Exchange,
        _at: Nanos,
        _message: &Message,
        _context: &mut Context<'_>,
    ) {
    }

    pub(crate) fn gap(&mut self) {}

    pub(crate) fn end(
        &mut self,
        _exchange: &mut Exchange,
        _at: Nanos,
        _how: Option<CloseHow>,
        _context: &mut Context<'_>,
    ) {
    }
}
