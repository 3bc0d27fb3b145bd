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

use std::collections::VecDeque;

use bytes::Bytes;

use super::exchange::{Exchange, Progress, names};
use super::head::{Framing, Head, Start};
use super::held::{Held, Piece};
use super::reader::{Hole, Item, Reader};
use super::sink::Sink;
use super::waiter::{Kind, Waiter};
use crate::event::{CloseHow, Nanos};
use crate::flaw::Flaw;
use crate::http::{Header, Protocol, RequestHead, ResponseHead, Side, header};

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

    fn read_requests(&mut self, mut input: Bytes, sink: &mut Sink<'_>) {
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
            && super::seek::begins(Side::Request, input) == super::seek::Begins::Yes
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

    fn gap_in_requests(&mut self, len: u64, sink: &mut Sink<'_>) {
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

    /// Lets held responses go when their request is there, when they waited too long, or when they must.
    fn release_responses(&mut self, must: bool, sink: &mut Sink<'_>) -> Option<Switch> {
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

    fn read_responses(&mut self, mut input: Bytes, sink: &mut Sink<'_>) -> Option<Switch> {
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
            && super::seek::begins(Side::Response, input) != super::seek::Begins::No
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

    fn end_response(&mut self, sink: &mut Sink<'_>) {
        if let Some(exchange) = self.answering() {
            exchange.end_half(Side::Response, sink);
        }
        self.sweep(sink);
        if self.queue.is_empty() && self.requests.is_idle() && !self.requests.is_lost() && self.unseen.is_none() {
            self.whole = true;
        }
    }

    fn gap_in_responses(&mut self, len: u64, sink: &mut Sink<'_>) {
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

    fn give_up_oldest(&mut self, sink: &mut Sink<'_>) {
        if let Some(mut exchange) = self.queue.pop_front().and_then(|waiter| waiter.exchange) {
            exchange.flaw(Flaw::Bound, sink);
            exchange.end_lost(sink);
        }
    }

    /// The requests paused for too many bytes, or the answer did not come: read them as requests.
    fn relieve(&mut self, sink: &mut Sink<'_>) -> Option<Switch> {
        if self.held_requests.bytes() > sink.bounds.max_buffered_bytes {
            self.paused = false;
            sink.counters.bounds_hit += 1;
            self.resume_requests(sink);
        }
        None
    }

    fn resume_requests(&mut self, sink: &mut Sink<'_>) {
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
