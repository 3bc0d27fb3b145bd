//! The responses of an HTTP/1 connection, and which request each one answers (the module docs of `h1`).

use bytes::Bytes;

use super::{H1, Switch, SwitchTo};
use crate::event::Nanos;
use crate::flaw::Flaw;
use crate::http::exchange::{Exchange, Progress};
use crate::http::head::{Framing, Head, Start};
use crate::http::held::Piece;
use crate::http::reader::{Hole, Item};
use crate::http::seek::{self, Begins};
use crate::http::sink::Sink;
use crate::http::waiter::{Kind, Waiter};
use crate::http::{Protocol, ResponseHead, Side};

impl H1 {
    /// Lets held responses go when their request is there, when they waited too long, or when they must.
    pub(super) fn release_responses(&mut self, must: bool, sink: &mut Sink<'_>) -> Option<Switch> {
        let since = self.held_responses.since()?;
        let waited = sink.at.since(since) > sink.bounds.response_hold;
        let full = self.held_responses.bytes() > sink.bounds.max_buffered_bytes;
        let wanted = self.queue.iter().any(Waiter::awaits_response);
        if !(must || waited || full || wanted) {
            return None;
        }
        let now = sink.at;
        let mut held = std::mem::take(&mut self.held_responses);
        if !wanted {
            self.whole = false;
        }
        let mut switch: Option<Switch> = None;
        while let Some((at, piece)) = held.pieces.pop_front() {
            let Piece::Bytes(bytes) = piece else { continue };
            match &mut switch {
                Some(Switch { responses, .. }) => responses.push(at, Piece::Bytes(bytes)),
                None if self.is_holding() => self.held_responses.push(at, Piece::Bytes(bytes)),
                None => {
                    sink.at = at;
                    switch = self.read_responses(bytes, sink);
                }
            }
        }
        sink.at = now;
        switch
    }

    pub(super) fn read_responses(&mut self, mut input: Bytes, sink: &mut Sink<'_>) -> Option<Switch> {
        loop {
            if self.must_hold(&input) {
                self.held_responses.push(sink.at, Piece::Bytes(input));
                return None;
            }
            match self.responses.next(&mut input, sink)? {
                Item::Head { head, first_byte, cut } => {
                    if let Some(to) = self.begin_response(head, first_byte, cut, sink) {
                        return self.switch(to, input, sink);
                    }
                    if !self.paused {
                        self.resume_requests(sink);
                    }
                }
                Item::Body(bytes) => {
                    if let Some(exchange) = self.answering() {
                        exchange.body(Side::Response, bytes, sink);
                    }
                }
                Item::End => self.end_response(sink),
                Item::Broken => {
                    if let Some(exchange) = self.answering() {
                        exchange.flaw(Flaw::Malformed, sink);
                    }
                    self.end_response(sink);
                }
                Item::Flaw(flaw) => match self.answering() {
                    Some(exchange) => exchange.flaw(flaw, sink),
                    None => {
                        sink.counters.malformed += 1;
                        self.answer_lost = true;
                    }
                },
            }
        }
    }

    /// A response on a whole connection on which no request waits came too early (module docs).
    fn must_hold(&self, input: &Bytes) -> bool {
        self.whole
            && !input.is_empty()
            && self.responses.is_idle()
            && !self.queue.iter().any(Waiter::awaits_response)
            && seek::begins(Side::Response, input) != Begins::No
            && !input.starts_with(b"HTTP/1.1 408")
    }

    fn begin_response(&mut self, head: Head, first_byte: Nanos, cut: bool, sink: &mut Sink<'_>) -> Option<SwitchTo> {
        let framing = head.framing();
        let Start::Response { status } = head.start else { return None };
        let response = ResponseHead { status, headers: head.headers, unknown_headers: 0, first_byte };
        if (100..200).contains(&status) && status != 101 {
            self.responses.expect_head();
            let waiting = self.queue.iter().find(|waiter| waiter.awaits_response());
            if let Some(exchange) = waiting.and_then(|waiter| waiter.exchange.as_ref()) {
                exchange.informational(response, sink);
            }
            return None;
        }
        let at = self.choose(first_byte, sink);
        let waiter = self.queue.get_mut(at)?;
        let kind = waiter.kind;
        let exchange = waiter.exchange.as_mut()?;
        let switch_to = match kind {
            Kind::Upgrade(to) if status == 101 => Some(to),
            _ => None,
        };
        let tunnel = status == 101 || kind == Kind::Connect && (200..300).contains(&status);
        let bodiless = tunnel || kind == Kind::Head || matches!(status, 204 | 304);
        let headers = switch_to.map(|_| response.headers.clone());
        exchange.respond(response, !bodiless, sink);
        if cut {
            exchange.flaw(Flaw::Bound, sink);
        }
        if framing.is_err() && !bodiless {
            exchange.flaw(Flaw::Malformed, sink);
        }
        if at + 1 == self.queue.len() {
            self.paused = false;
        }
        if let Some(headers) = headers {
            self.switch_headers = headers;
            return switch_to;
        }
        if bodiless {
            self.responses.expect_body(Framing::Length(0));
        } else {
            self.responses.expect_body(framing.ok().flatten().unwrap_or(Framing::UntilClose));
        }
        if tunnel {
            self.end_response(sink);
            self.responses.expect_anything();
            self.requests.expect_anything();
        }
        None
    }

    /// Which exchange in the queue a response that begins now answers; makes one when its request was not seen.
    fn choose(&mut self, first_byte: Nanos, sink: &mut Sink<'_>) -> usize {
        if std::mem::take(&mut self.answer_lost) {
            let newest = self.queue.iter().rposition(Waiter::awaits_response);
            let mut left = newest.unwrap_or(0);
            while left > 0 {
                left -= 1;
                let Some(waiter) = self.queue.pop_front() else { break };
                match waiter.exchange {
                    Some(exchange) if exchange.progress(Side::Response) == Progress::Waiting => exchange.end_lost(sink),
                    exchange @ Some(_) => self.queue.push_front(Waiter { exchange, ..waiter }),
                    None => {}
                }
            }
        }
        let at = self.queue.iter().position(Waiter::awaits_response);
        if let Some(at) = at
            && self.queue.get(at).is_some_and(|waiter| waiter.exchange.is_some())
        {
            return at;
        }
        let mut exchange = Exchange::begin_without_request(self.take_seq(), Protocol::Http1, first_byte, sink);
        if let Some(unseen) = self.unseen {
            exchange.flaw(unseen, sink);
        } else if at.is_some() {
            exchange.flaw(Flaw::Gap, sink);
        }
        match at.and_then(|at| self.queue.get_mut(at)) {
            Some(placeholder) => {
                placeholder.exchange = Some(exchange);
                at.unwrap_or(0)
            }
            None => {
                // An answer to nobody comes before what is still asked.
                let waiter = Waiter { exchange: Some(exchange), kind: Kind::Usual, expects_continue: false };
                self.queue.push_front(waiter);
                0
            }
        }
    }

    /// The exchange whose response is under way.
    fn answering(&mut self) -> Option<&mut Exchange> {
        self.queue
            .iter_mut()
            .filter_map(|waiter| waiter.exchange.as_mut())
            .find(|exchange| exchange.progress(Side::Response) == Progress::Open)
    }

    pub(super) fn end_response(&mut self, sink: &mut Sink<'_>) {
        if let Some(exchange) = self.answering() {
            exchange.end_half(Side::Response, sink);
        }
        self.sweep(sink);
        if self.queue.is_empty() && self.requests.is_idle() && !self.requests.is_lost() && self.unseen.is_none() {
            self.whole = true;
        }
    }

    pub(super) fn gap_in_responses(&mut self, len: u64, sink: &mut Sink<'_>) {
        let Hole { before, body, ended, head_lost } = self.responses.gap(len, sink);
        if let Some(exchange) = self.answering() {
            exchange.body(Side::Response, before, sink);
            if let Some(len) = body {
                exchange.gap(Side::Response, len, sink);
            }
        }
        if ended {
            self.end_response(sink);
        }
        self.answer_lost |= head_lost;
    }
}
