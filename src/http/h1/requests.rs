//! The requests of an HTTP/1 connection: they queue up, and what was lost leaves its place (the module docs of `h1`).

use std::collections::VecDeque;

use bytes::Bytes;

use super::{H1, Switch, SwitchTo};
use crate::event::Nanos;
use crate::flaw::Flaw;
use crate::http::exchange::{Exchange, Progress, names};
use crate::http::head::{Framing, Head, Start};
use crate::http::held::Piece;
use crate::http::reader::{Hole, Item};
use crate::http::seek::{self, Begins};
use crate::http::sink::Sink;
use crate::http::waiter::{Kind, Waiter};
use crate::http::{Protocol, RequestHead, Side, header};

impl H1 {
    pub(super) fn read_requests(&mut self, mut input: Bytes, sink: &mut Sink<'_>) {
        loop {
            if self.body_will_not_come(&input) {
                self.requests.expect_head();
                self.end_request(sink);
            }
            let Some(item) = self.requests.next(&mut input, sink) else { break };
            match item {
                Item::Head { head, first_byte, cut } => self.begin_request(head, first_byte, cut, sink),
                Item::Body(bytes) => {
                    if let Some(waiter) = self.asking() {
                        waiter.expects_continue = false;
                        if let Some(exchange) = &mut waiter.exchange {
                            exchange.body(Side::Request, bytes, sink);
                        }
                    }
                }
                Item::End => {
                    self.end_request(sink);
                    if self.paused {
                        break;
                    }
                }
                Item::Broken => {
                    self.end_request(sink);
                }
                Item::Flaw(flaw) => match self.asking().and_then(|waiter| waiter.exchange.as_mut()) {
                    Some(exchange) => exchange.flaw(flaw, sink),
                    None => {
                        sink.counters.malformed += 1;
                        self.lose_request(sink);
                    }
                },
            }
        }
        if !input.is_empty() {
            self.held_requests.push(sink.at, Piece::Bytes(input));
        }
    }

    /// A client that asked whether to send its body and got a final answer instead may go on with its next request.
    fn body_will_not_come(&mut self, input: &Bytes) -> bool {
        let Some(waiter) = self.queue.back() else { return false };
        waiter.expects_continue
            && waiter.progress(Side::Request) == Progress::Open
            && waiter.progress(Side::Response) == Progress::Done
            && seek::begins(Side::Request, input) == Begins::Yes
    }

    fn begin_request(&mut self, head: Head, first_byte: Nanos, cut: bool, sink: &mut Sink<'_>) {
        self.settle_before_request(sink);
        let framing = head.framing();
        let Start::Request { method, target } = head.start else { return };
        let kind = Kind::of(&method, &head.headers);
        let protocol = if kind == Kind::Upgrade(SwitchTo::WebSocket) { Protocol::WebSocket } else { Protocol::Http1 };
        let expects_continue = names(&head.headers, "expect", "100-continue");
        let request = RequestHead {
            protocol,
            method,
            target,
            authority: header(&head.headers, "host").map(str::to_owned),
            headers: head.headers,
            unknown_headers: 0,
            first_byte,
        };
        let mut exchange = Exchange::begin(self.take_seq(), request, sink);
        if cut {
            exchange.flaw(Flaw::Bound, sink);
        }
        // A request without a length has no body; "until close" cannot be in a request.
        let body = match framing {
            Ok(None) => Framing::Length(0),
            Ok(Some(framing)) if framing != Framing::UntilClose => framing,
            _ => {
                exchange.flaw(Flaw::Malformed, sink);
                Framing::Length(0)
            }
        };
        self.requests.expect_body(body);
        let expects_continue = expects_continue && body != Framing::Length(0);
        self.queue.push_back(Waiter { exchange: Some(exchange), kind, expects_continue });
        self.unseen = None;
        if self.queue.len() > sink.bounds.max_waiting {
            self.give_up_oldest(sink);
        }
    }

    /// What a new request says about those before it (module docs).
    fn settle_before_request(&mut self, sink: &mut Sink<'_>) {
        let answering_lost = self.responses.is_lost();
        let only_placeholders = self.queue.iter().all(|waiter| waiter.exchange.is_none() || !waiter.awaits_response());
        let answer_lost = self.answer_lost;
        let mut kept = VecDeque::with_capacity(self.queue.len() + 1);
        for waiter in std::mem::take(&mut self.queue) {
            let over = match waiter.progress(Side::Response) {
                Progress::Waiting if waiter.exchange.is_none() => only_placeholders || answer_lost,
                Progress::Waiting => answer_lost && waiter.progress(Side::Request) == Progress::Done,
                Progress::Open => answering_lost && waiter.progress(Side::Request) == Progress::Done,
                Progress::Done => false,
            };
            if over && waiter.progress(Side::Response) == Progress::Open {
                // Whatever still comes of it is not looked at; the next head is looked for.
                self.responses.expect_anything();
            }
            match waiter.exchange {
                Some(exchange) if over => exchange.end_lost(sink),
                None if over => {}
                exchange => kept.push_back(Waiter { exchange, ..waiter }),
            }
        }
        self.queue = kept;
        self.answer_lost = false;
    }

    fn end_request(&mut self, sink: &mut Sink<'_>) {
        let Some(waiter) = self.asking() else { return };
        let kind = waiter.kind;
        if let Some(exchange) = &mut waiter.exchange {
            exchange.end_half(Side::Request, sink);
        }
        let awaits = waiter.awaits_response();
        if awaits && matches!(kind, Kind::Upgrade(_) | Kind::Connect | Kind::UnknownUpgrade) {
            self.paused = true;
        }
        self.sweep(sink);
    }

    /// The waiter whose request is under way.
    fn asking(&mut self) -> Option<&mut Waiter> {
        self.queue.back_mut().filter(|waiter| waiter.progress(Side::Request) == Progress::Open)
    }

    pub(super) fn gap_in_requests(&mut self, len: u64, sink: &mut Sink<'_>) {
        let hole = self.requests.gap(len, sink);
        let Hole { before, body, ended, head_lost } = hole;
        if let Some(exchange) = self.asking().and_then(|waiter| waiter.exchange.as_mut()) {
            exchange.body(Side::Request, before, sink);
            if let Some(len) = body {
                exchange.gap(Side::Request, len, sink);
            }
        }
        if ended {
            self.end_request(sink);
        }
        if head_lost {
            self.lose_request(sink);
        }
    }

    fn lose_request(&mut self, sink: &mut Sink<'_>) {
        self.whole = false;
        // The lost request says of those before it what a seen one says.
        if self.answer_lost {
            self.settle_before_request(sink);
        }
        let placeholder = self.queue.back().is_some_and(|waiter| waiter.exchange.is_none());
        if !placeholder {
            self.queue.push_back(Waiter { exchange: None, kind: Kind::Usual, expects_continue: false });
        }
    }

    fn give_up_oldest(&mut self, sink: &mut Sink<'_>) {
        if let Some(mut exchange) = self.queue.pop_front().and_then(|waiter| waiter.exchange) {
            exchange.flaw(Flaw::Bound, sink);
            exchange.end_lost(sink);
        }
    }

    /// The requests paused for too many bytes, or the answer did not come: read them as requests.
    pub(super) fn relieve(&mut self, sink: &mut Sink<'_>) -> Option<Switch> {
        if self.held_requests.bytes() > sink.bounds.max_buffered_bytes {
            self.paused = false;
            sink.counters.bounds_hit += 1;
            self.resume_requests(sink);
        }
        None
    }

    pub(super) fn resume_requests(&mut self, sink: &mut Sink<'_>) {
        let now = sink.at;
        let mut held = std::mem::take(&mut self.held_requests);
        while let Some((at, piece)) = held.pieces.pop_front() {
            if self.paused {
                self.held_requests.push(at, piece);
                continue;
            }
            sink.at = at;
            match piece {
                Piece::Bytes(bytes) => self.read_requests(bytes, sink),
                Piece::Gap(len) => self.gap_in_requests(len, sink),
            }
        }
        sink.at = now;
    }
}
