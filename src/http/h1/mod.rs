//! HTTP/1: who answers whom.
//!
//! Requests queue up, and each final response answers the oldest one without an answer; interim responses (1xx) answer
//! none. What follows here is for traffic that is damaged, or that was delivered out of order:
//!
//! - **A response before its request.** On a connection that was seen whole, every response has a request. When a
//!   response comes and none waits, the capture delivered the two directions in the wrong order: the response is held
//!   until the request comes ([`Bounds::response_hold`](super::Bounds), the connection's end, or too many bytes). A held 408 answers nobody: servers send
//!   it to connections on which no request came.
//! - **A lost request.** A hole in the requests that may hide a request's beginning leaves a placeholder in the queue,
//!   so that the next response is not given to the next request. Clients that do not pipeline send a request when the
//!   last answer is complete: when the next request comes and only placeholders wait, their answers will not come, and
//!   they go.
//! - **A lost response.** After a hole in the responses that may hide a response's beginning, the next response answers
//!   the newest request that waits, a lost one included (with pipelining this may be wrong, and all of them carry the flaw), and the older
//!   ones are given up; so are they when the next request comes.

mod requests;
mod responses;

use std::collections::VecDeque;

use bytes::Bytes;

use super::exchange::{Exchange, Progress};
use super::held::{Held, Piece};
use super::reader::Reader;
use super::sink::Sink;
use super::waiter::Waiter;
use crate::event::CloseHow;
use crate::flaw::Flaw;
use crate::http::{Header, Side};

/// A connection that speaks HTTP/1.
#[derive(Debug)]
pub(super) struct H1 {
    requests: Reader,
    responses: Reader,
    queue: VecDeque<Waiter>,
    next_seq: u32,
    /// Requests' bytes that wait for the answer to an upgrade.
    paused: bool,
    held_requests: Held,
    held_responses: Held,
    /// No request can have been missed so far.
    whole: bool,
    /// Why requests may have gone before those seen, until the first one is seen.
    unseen: Option<Flaw>,
    /// A response's beginning may have been lost since the last response.
    answer_lost: bool,
    /// The headers of the response that switches the protocol, until [`H1::switch`] takes them.
    switch_headers: Vec<Header>,
}

/// What the connection turns into after an upgrade.
#[derive(Debug)]
pub(super) struct Switch {
    pub to: SwitchTo,
    pub exchange: Exchange,
    pub next_seq: u32,
    /// The switching response's headers.
    pub headers: Vec<Header>,
    /// Bytes of both sides that were read already but belong to the new protocol.
    pub requests: Held,
    pub responses: Held,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum SwitchTo {
    WebSocket,
    Http2,
}

impl H1 {
    /// `first_seq` is the number of the first exchange.
    pub fn new(unseen: Option<Flaw>, first_seq: u32) -> H1 {
        let reader = if unseen.is_some() { Reader::seeking } else { Reader::new };
        H1 {
            requests: reader(Side::Request),
            responses: reader(Side::Response),
            queue: VecDeque::new(),
            next_seq: first_seq,
            paused: false,
            held_requests: Held::default(),
            held_responses: Held::default(),
            whole: unseen.is_none(),
            unseen,
            answer_lost: false,
            switch_headers: Vec::new(),
        }
    }

    pub fn next_seq(&self) -> u32 {
        self.next_seq
    }

    /// Takes bytes of one side. `Some` when the connection speaks something else from here on.
    pub fn push(&mut self, side: Side, bytes: Bytes, sink: &mut Sink<'_>) -> Option<Switch> {
        match side {
            Side::Request if self.paused => {
                self.held_requests.push(sink.at, Piece::Bytes(bytes));
                self.relieve(sink)
            }
            Side::Request => {
                self.read_requests(bytes, sink);
                self.release_responses(false, sink)
            }
            Side::Response if !self.held_responses.is_empty() => {
                self.held_responses.push(sink.at, Piece::Bytes(bytes));
                self.release_responses(false, sink)
            }
            Side::Response => self.read_responses(bytes, sink),
        }
    }

    /// Bytes of one side are missing.
    pub fn gap(&mut self, side: Side, len: u64, sink: &mut Sink<'_>) {
        match side {
            Side::Request if self.paused => self.held_requests.push(sink.at, Piece::Gap(len)),
            Side::Request => {
                self.gap_in_requests(len, sink);
                // What waits for a request answers one that was in the hole, not the next one.
                let _ = self.release_responses(false, sink);
            }
            Side::Response => {
                let _ = self.release_responses(true, sink);
                self.gap_in_responses(len, sink);
            }
        }
    }

    /// Time passed: what was held too long goes on.
    pub fn tick(&mut self, sink: &mut Sink<'_>) -> Option<Switch> {
        self.release_responses(false, sink)
    }

    /// True when [`H1::tick`] has something to do sooner or later.
    pub fn is_holding(&self) -> bool {
        !self.held_responses.is_empty()
    }

    /// One side, or the whole connection, ended.
    pub fn close(&mut self, side: Option<Side>, how: CloseHow, sink: &mut Sink<'_>) {
        if side == Some(Side::Request) {
            self.queue
                .iter()
                .filter_map(|waiter| waiter.exchange.as_ref())
                .for_each(|exchange| exchange.client_left(sink));
            return;
        }
        while self.is_holding() {
            let _ = self.release_responses(true, sink);
        }
        if self.responses.close() && matches!(how, CloseHow::Finished | CloseHow::Freed) {
            self.end_response(sink);
        }
        self.responses.retire();
        if side.is_none() {
            self.requests.retire();
        }
        for waiter in std::mem::take(&mut self.queue) {
            let answer_lost = self.answer_lost && waiter.awaits_response();
            let Some(mut exchange) = waiter.exchange else { continue };
            if answer_lost {
                exchange.flaw(Flaw::Gap, sink);
            }
            let request_goes_on = side.is_some() && exchange.progress(Side::Response) == Progress::Done;
            if request_goes_on {
                self.queue.push_back(Waiter { exchange: Some(exchange), ..waiter });
            } else {
                exchange.end_cut(how, sink);
            }
        }
    }

    /// Hands on the end of exchanges that are complete.
    fn sweep(&mut self, sink: &mut Sink<'_>) {
        let mut at = 0;
        while let Some(waiter) = self.queue.get(at) {
            let done = waiter.exchange.as_ref().is_some_and(Exchange::is_done);
            if !done {
                // Behind an exchange without an answer none can be complete.
                if waiter.awaits_response() {
                    return;
                }
                at += 1;
                continue;
            }
            if let Some(exchange) = self.queue.remove(at).and_then(|waiter| waiter.exchange) {
                exchange.end(sink);
            }
        }
    }

    fn switch(&mut self, to: SwitchTo, rest: Bytes, sink: &Sink<'_>) -> Option<Switch> {
        let mut responses = Held::default();
        responses.push(sink.at, Piece::Bytes(rest));
        let at = self.queue.iter().position(|waiter| {
            waiter.exchange.as_ref().is_some_and(|e| e.progress(Side::Response) == Progress::Open)
        })?;
        let exchange = self.queue.remove(at)?.exchange?;
        Some(Switch {
            to,
            exchange,
            next_seq: self.next_seq,
            headers: std::mem::take(&mut self.switch_headers),
            requests: std::mem::take(&mut self.held_requests),
            responses,
        })
    }

    fn take_seq(&mut self) -> u32 {
        let seq = self.next_seq;
        self.next_seq = seq.wrapping_add(1);
        seq
    }
}
