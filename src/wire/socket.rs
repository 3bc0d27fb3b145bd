//! WebSockets: the messages of one connection, cut into calls, one per response.
//!
//! OpenAI Responses: each `response.create` of the client begins a call, the response's last event ends it. Realtime and
//! Gemini Live: the server may begin to speak by itself, and what was said before belongs to the conversation, so the session
//! is kept (`session`). Surprising fact: a second request may come before the first one's answer; answers come in the order of requests.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::event::{CloseHow, Nanos};
use crate::flaw::Flaw;
use crate::http::{Message, Protocol, Side};
use crate::wire::decoder::Event;
use crate::wire::exchange::{Context, Exchange};
use crate::wire::json::Raw;
use crate::wire::live::{Decode, blank_call, ended_early, set_origin};
use crate::wire::registry::Match;
use crate::wire::request::Body;
use crate::wire::session::Session;
use crate::wire::stage::Bounds;
use crate::wire::{Call, CallState, CallUpdate, WireApi, openai_responses, provider};

/// How long a response waits for a request that the capture delivers late.
const REQUEST_HOLD: Nanos = Nanos(200_000_000);
/// Messages, and bytes of messages, that wait so at most.
const MAX_EARLY: usize = 256;
const MAX_EARLY_BYTES: usize = 1 << 20;
/// Calls under way on one connection at most.
const MAX_CYCLES: usize = 64;

/// What a message means for the calls of its connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Turn {
    /// A call begins with it.
    Begins,
    /// It belongs to the call under way.
    Goes,
    /// The call under way ends with it.
    Ends,
    /// It belongs to no call (session set-up, keep-alive).
    Beside,
}

/// A WebSocket that carries calls.
pub(crate) struct Socket {
    found: Match,
    session: Session,
    cycles: VecDeque<Cycle>,
    /// A call that is complete but for its usage, which may come in a message of its own (Gemini Live).
    settling: Option<Cycle>,
    /// The server's messages of a response whose request was not delivered yet: the capture may bring it late.
    early: VecDeque<(Nanos, Bytes)>,
    /// How many calls there were.
    begun: u32,
    /// The client's messages since the last call began: they are part of the next one's request.
    waiting: Lines,
    damaged: bool,
}

/// One call under way.
struct Cycle {
    call: Box<Call>,
    decode: Decode,
    request: Lines,
    response: Lines,
    last_progress: Option<Nanos>,
    last_at: Option<Nanos>,
    damaged: bool,
}

/// Messages, one per line.
#[derive(Debug)]
struct Lines {
    text: Vec<u8>,
    len: u64,
    count: u64,
    max_bytes: usize,
}

impl Lines {
    fn new(max_bytes: usize) -> Lines {
        Lines { text: Vec::new(), len: 0, count: 0, max_bytes }
    }

    fn push(&mut self, payload: &[u8]) {
        let separator = usize::from(self.count > 0);
        self.len += (payload.len() + separator) as u64;
        self.count += 1;
        if self.text.len() + payload.len() + separator <= self.max_bytes {
            self.text.extend(std::iter::repeat_n(b'\n', separator));
            self.text.extend_from_slice(payload);
        }
    }

    fn over_bound(&self) -> bool {
        self.len > self.text.len() as u64
    }

    fn take(&mut self) -> Lines {
        std::mem::replace(self, Lines::new(self.max_bytes))
    }
}

impl Socket {
    /// A WebSocket on a path of the table; `None` when its API is not spoken over WebSockets.
    pub(crate) fn open(found: &Match, bounds: &Bounds) -> Option<Socket> {
        let session = Session::new(found.api)?;
        let waiting = Lines::new(bounds.body_bytes);
        Some(Socket {
            found: found.clone(),
            session,
            cycles: VecDeque::new(),
            settling: None,
            early: VecDeque::new(),
            begun: 0,
            waiting,
            damaged: false,
        })
    }

    pub(crate) fn take(&mut self, exchange: &mut Exchange, at: Nanos, message: &Message, context: &mut Context<'_>) {
        let raw = Raw::new(&message.payload);
        match message.side {
            Side::Request => self.take_request(exchange, at, &message.payload, raw, context),
            Side::Response => self.take_answer(exchange, at, &message.payload, context),
        }
    }

    /// A message of the server: held for a moment when it answers a request that was not delivered yet.
    fn take_answer(&mut self, exchange: &mut Exchange, at: Nanos, payload: &Bytes, context: &mut Context<'_>) {
        let waited = self.early.front().is_some_and(|(since, _)| at.since(*since) > REQUEST_HOLD);
        let bytes: usize = self.early.iter().map(|(_, payload)| payload.len()).sum();
        if waited || bytes > MAX_EARLY_BYTES || self.early.len() > MAX_EARLY {
            self.release(Nanos(0), exchange, context);
        }
        // Without a call under way nothing is due: the request that this answers comes late, or it is beside any call.
        if self.found.api == WireApi::OpenAiResponses && self.cycles.is_empty() && exchange.is_undamaged() {
            return self.early.push_back((at, payload.clone()));
        }
        self.take_response(exchange, at, payload, Raw::new(payload), context);
    }

    /// Reads what was held; what came before `begun` belongs to no call.
    fn release(&mut self, begun: Nanos, exchange: &mut Exchange, context: &mut Context<'_>) {
        for (at, payload) in std::mem::take(&mut self.early).into_iter().filter(|(at, _)| *at >= begun) {
            self.take_response(exchange, at, &payload, Raw::new(&payload), context);
        }
    }

    fn take_request(
        &mut self,
        exchange: &mut Exchange,
        at: Nanos,
        payload: &Bytes,
        raw: Raw<'_>,
        context: &mut Context<'_>,
    ) {
        // Sound goes on while the usage is awaited.
        if raw.some("realtimeInput").or_else(|| raw.some("realtime_input")).is_none() {
            self.settle(exchange, context);
        }
        let turn = self.session.client_says(raw);
        self.waiting.push(payload);
        if turn == Turn::Begins && self.cycles.len() < MAX_CYCLES {
            self.begin(exchange, at, Some(payload), context);
            let request = self.waiting.take();
            if let Some(cycle) = self.cycles.back_mut() {
                cycle.request = request;
                cycle.progress(exchange, at, context);
            }
            self.release(at, exchange, context);
        } else if let Some(cycle) = self.cycles.back_mut()
            && turn == Turn::Goes
        {
            cycle.request.push(payload);
            self.waiting.take();
        }
    }

    fn take_response(
        &mut self,
        exchange: &mut Exchange,
        at: Nanos,
        payload: &[u8],
        raw: Raw<'_>,
        context: &mut Context<'_>,
    ) {
        if self.settling.is_some() {
            if is_usage(raw) {
                if let Some(cycle) = &mut self.settling {
                    cycle.receive(at, payload, raw);
                }
                return self.settle(exchange, context);
            }
            self.settle(exchange, context);
        }
        let turn = self.session.server_says(raw);
        if self.cycles.is_empty() {
            if !matches!(turn, Turn::Begins) {
                return;
            }
            self.begin(exchange, at, None, context);
            let request = self.waiting.take();
            if let Some(cycle) = self.cycles.back_mut() {
                cycle.request = request;
            }
        }
        let Some(cycle) = self.cycles.front_mut() else { return };
        cycle.receive(at, payload, raw);
        if turn != Turn::Ends {
            return cycle.progress(exchange, at, context);
        }
        self.settling = self.cycles.pop_front();
        self.session.rest();
        let usage_may_come = |cycle: &Cycle| cycle.decode.answer.counts.usage().is_unknown();
        if self.found.api == WireApi::GeminiLive && self.settling.as_ref().is_some_and(usage_may_come) {
            if let Some(cycle) = &mut self.settling {
                cycle.last_progress = None;
                cycle.progress(exchange, at, context);
            }
            return;
        }
        self.settle(exchange, context);
    }

    /// Hands on the call that is complete.
    fn settle(&mut self, exchange: &Exchange, context: &mut Context<'_>) {
        if let Some(cycle) = self.settling.take() {
            let call = cycle.end(exchange, None);
            self.session.answered(&call);
            context.out.push(CallUpdate::Done(call));
        }
    }

    fn begin(&mut self, exchange: &mut Exchange, at: Nanos, payload: Option<&Bytes>, context: &mut Context<'_>) {
        if let Some(fresh) = (context.origin)() {
            exchange.origin = Some(fresh);
        }
        let mut call = blank_call(exchange, &self.found, self.begun, at);
        self.begun += 1;
        call.protocol = Protocol::WebSocket;
        call.stream = true;
        call.times.request_last = payload.map(|_| at);
        if let Some(head) = &exchange.response_head {
            call.status = (head.status != 0).then_some(head.status);
            call.response.headers.clone_from(&head.headers);
            call.server_kind = provider::server_by_headers(&head.headers).map(str::to_owned);
        }
        let mut shaped = true;
        match payload {
            Some(payload) if self.found.api == WireApi::OpenAiResponses => {
                shaped = read_create(payload, &mut call);
            }
            _ => self.session.describe(&mut call),
        }
        for flaw in &exchange.flaws {
            call.flaw(*flaw);
        }
        if !shaped {
            call.flaw(Flaw::Shape);
        }
        if payload.is_none() && self.found.api == WireApi::OpenAiResponses {
            call.flaw(Flaw::NoRequest);
        }
        self.cycles.push_back(Cycle {
            call: Box::new(call),
            decode: Decode::new(self.found.api, context.bounds),
            request: Lines::new(context.bounds.body_bytes),
            response: Lines::new(context.bounds.body_bytes),
            last_progress: None,
            last_at: None,
            damaged: std::mem::take(&mut self.damaged),
        });
    }

    /// Bytes are missing: the calls under way are damaged, or else the next one is.
    pub(crate) fn gap(&mut self) {
        self.damaged = self.cycles.is_empty();
        self.cycles.iter_mut().for_each(|cycle| cycle.damaged = true);
    }

    /// The connection is over.
    pub(crate) fn end(&mut self, exchange: &mut Exchange, how: Option<CloseHow>, context: &mut Context<'_>) {
        self.release(Nanos(0), exchange, context);
        self.settle(exchange, context);
        for cycle in std::mem::take(&mut self.cycles) {
            context.out.push(CallUpdate::Done(cycle.end(exchange, Some(how.unwrap_or(CloseHow::Finished)))));
        }
    }
}

/// A `response.create`: the request's fields beside the type, or (older) in an object of their own.
fn read_create(payload: &Bytes, call: &mut Call) -> bool {
    let mut body = Body::index(payload, Raw::new(payload), None);
    match body.inner("response") {
        Some(mut inner) => openai_responses::request(&mut inner, call),
        None => openai_responses::request(&mut body, call),
    }
}

/// A message of Gemini Live that says nothing but the use of tokens.
fn is_usage(raw: Raw<'_>) -> bool {
    let has = |camel: &str, snake: &str| raw.some(camel).or_else(|| raw.some(snake)).is_some();
    has("usageMetadata", "usage_metadata") && !has("serverContent", "server_content") && !has("toolCall", "tool_call")
}

impl Cycle {
    /// A message of the server that belongs to this call.
    fn receive(&mut self, at: Nanos, payload: &[u8], raw: Raw<'_>) {
        self.response.push(payload);
        self.last_at = Some(at);
        self.call.times.response_head.get_or_insert(at);
        self.decode.event(at, Event { name: "", data: raw });
        if let Some(status) = raw.get("status").and_then(Raw::u64).filter(|status| (400..600).contains(status)) {
            self.call.status = u16::try_from(status).ok();
        }
    }

    fn progress(&mut self, exchange: &Exchange, at: Nanos, context: &mut Context<'_>) {
        let Some(gap) = context.bounds.progress else { return };
        if self.last_progress.is_some_and(|last| at.since(last) < gap) {
            return;
        }
        self.last_progress = Some(at);
        let mut call = self.call.clone();
        write(exchange, &self.decode, &mut call, &self.request, &self.response);
        context.out.push(CallUpdate::Progress(call));
    }

    fn end(self, exchange: &Exchange, how: Option<CloseHow>) -> Box<Call> {
        let Cycle { mut call, decode, request, response, last_at, damaged, .. } = self;
        write(exchange, &decode, &mut call, &request, &response);
        call.state = CallState::Done;
        call.ended_by = how;
        call.times.last_byte = last_at;
        let bound = request.over_bound() || response.over_bound() || decode.answer.over_bound;
        call.request.body = Bytes::from(request.text);
        call.response.body = Bytes::from(response.text);
        if damaged {
            call.flaw(Flaw::Gap);
        }
        if bound {
            call.flaw(Flaw::Bound);
        }
        if how.is_some() {
            call.flaw(Flaw::Cut);
            if call.error.is_none() {
                call.error = ended_early(how, exchange.client_left, last_at.is_some());
            }
        } else if decode.answer.misshapen || !decode.answer.understood {
            call.flaw(Flaw::Shape);
        }
        for flaw in [Flaw::LostHistory, Flaw::MidStream, Flaw::Malformed] {
            if exchange.flaws.contains(&flaw) {
                call.flaw(flaw);
            }
        }
        call
    }
}

/// Writes how far a call has come.
fn write(exchange: &Exchange, decode: &Decode, call: &mut Call, request: &Lines, response: &Lines) {
    decode.write(call);
    if let Some(origin) = &exchange.origin {
        set_origin(call, origin);
    }
    call.request.body_len = request.len;
    call.response.body_len = response.len;
}
