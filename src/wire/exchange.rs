//! One exchange: what arrived of it, and the call that it is, once that is known.
//!
//! The states are named by what they await: a head that tells the wire API, or a body whose shape does. Most exchanges of
//! a host are no LLM calls: those are forgotten as soon as that is clear.

use crate::event::{CloseHow, Nanos};
use crate::flaw::Flaw;
use crate::http::{Body, ExchangeId, Header, Message, PartKind, Protocol, RequestHead, ResponseHead, Side, header};
use crate::wire::gather::Gather;
use crate::wire::live::{self, Live};
use crate::wire::registry::{self, Match, Proof};
use crate::wire::request::Recent;
use crate::wire::socket::Socket;
use crate::wire::stage::{Bounds, Origin};
use crate::wire::{CallUpdate, shape};

/// What an exchange needs from its stage.
pub(crate) struct Context<'a> {
    pub(crate) bounds: &'a Bounds,
    pub(crate) recent: &'a mut Recent,
    pub(crate) origin: &'a dyn Fn() -> Option<Origin>,
    pub(crate) out: &'a mut Vec<CallUpdate>,
}

/// What became of an exchange after a part.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    /// It goes on.
    Open,
    /// It is no call: nothing more of it is of interest.
    NoCall,
    /// It is over.
    Over,
}

/// An exchange that may be, or is, a call.
pub(crate) struct Exchange {
    pub(crate) id: ExchangeId,
    pub(crate) origin: Option<Origin>,
    pub(crate) first_at: Nanos,
    pub(crate) head: Option<RequestHead>,
    pub(crate) found: Option<Match>,
    pub(crate) request: Gather,
    pub(crate) request_last: Option<Nanos>,
    pub(crate) request_whole: bool,
    pub(crate) response_head: Option<ResponseHead>,
    pub(crate) response: Gather,
    pub(crate) response_first: Option<Nanos>,
    pub(crate) response_last: Option<Nanos>,
    pub(crate) response_whole: bool,
    /// The client ended its side before the answer was complete.
    pub(crate) client_left: bool,
    pub(crate) flaws: Vec<Flaw>,
    /// How many requests the server made inside its answer (MCP).
    asked: u32,
    live: Option<Box<Live>>,
    socket: Option<Box<Socket>>,
    decided: bool,
}

impl Exchange {
    /// An exchange whose first part came; `None` when its head already says that it is no call.
    pub(crate) fn begin(id: ExchangeId, at: Nanos, kind: &PartKind, context: &Context<'_>) -> Option<Exchange> {
        let mut exchange = Exchange {
            id,
            origin: None,
            first_at: at,
            head: None,
            found: None,
            request: Gather::new(context.bounds.body_bytes),
            request_last: None,
            request_whole: false,
            response_head: None,
            response: Gather::new(context.bounds.body_bytes),
            response_first: None,
            response_last: None,
            response_whole: false,
            client_left: false,
            flaws: Vec::new(),
            asked: 0,
            live: None,
            socket: None,
            decided: false,
        };
        if let PartKind::Request(head) = kind {
            exchange.found = registry::classify(&head.method, head.authority.as_deref(), &head.target, &head.headers);
            if exchange.found.is_none() && !may_be_call(head) {
                return None;
            }
        }
        exchange.origin = (context.origin)();
        Some(exchange)
    }

    pub(crate) fn take(&mut self, at: Nanos, kind: PartKind, context: &mut Context<'_>) -> Fate {
        match kind {
            // The stand-in for a request that was not seen says nothing: the answer decides.
            PartKind::Request(head) if head.method.is_empty() && head.target.is_empty() && head.headers.is_empty() => {}
            PartKind::Request(head) => self.take_head(head, context),
            PartKind::RequestBody(body) => {
                self.request_last = Some(at);
                self.request.push(&body);
            }
            PartKind::RequestEnd => {
                self.request_last = Some(at);
                self.request_whole = true;
                return self.request_is_over(at, context);
            }
            PartKind::Informational(_) => {}
            PartKind::Response(head) => return self.take_response(at, head, context),
            PartKind::ResponseBody(body) => return self.take_response_body(at, &body, context),
            PartKind::ResponseEnd => {
                if self.response_last.is_none() || !self.ends_with_its_connection() {
                    self.response_last = Some(at);
                }
                self.response_whole = true;
            }
            PartKind::Message(message) => return self.take_message(at, &message, context),
            PartKind::Gap { side, .. } => self.take_gap(side),
            PartKind::ClientLeft => self.client_left = true,
            PartKind::Flaw(flaw) => self.flaw(flaw),
            PartKind::End(how) => return self.end(how, context),
        }
        Fate::Open
    }

    pub(crate) fn flaw(&mut self, flaw: Flaw) {
        if !self.flaws.contains(&flaw) {
            self.flaws.push(flaw);
        }
    }

    /// True when nothing of it is missing here.
    pub(crate) fn is_undamaged(&self) -> bool {
        !self
            .flaws
            .iter()
            .any(|flaw| matches!(flaw, Flaw::Gap | Flaw::MidStream | Flaw::Malformed | Flaw::Bound | Flaw::Encoding))
    }

    /// True when only the connection's end ends the answer, which is later than its last byte.
    fn ends_with_its_connection(&self) -> bool {
        let Some(head) = &self.response_head else { return false };
        let has = |name| header(&head.headers, name).is_some();
        let http1 = self.head.as_ref().is_none_or(|head| head.protocol == Protocol::Http1);
        http1 && !has("content-length") && !has("transfer-encoding")
    }

    fn take_head(&mut self, head: RequestHead, context: &mut Context<'_>) {
        if head.unknown_headers > 0 {
            self.flaw(Flaw::UnknownHeaders);
        }
        let websocket = registry::is_websocket(&head.method, &head.headers);
        let sure = self.found.as_ref().is_some_and(|found| found.proof == Proof::Path) && !websocket;
        self.first_at = head.first_byte;
        if let Some(length) = length_of(&head.headers) {
            self.request.expect(length);
        }
        self.head = Some(head);
        if sure {
            self.begin_call(context);
        }
    }

    fn begin_call(&mut self, context: &mut Context<'_>) {
        self.decided = true;
        if let Some(found) = self.found.clone() {
            let mut live = Live::begin(self, &found, context.bounds);
            if self.response_head.is_some() {
                live.response_began(self);
            }
            self.live = Some(Box::new(live));
        }
    }

    /// The request is complete, or as complete as it will be.
    fn request_is_over(&mut self, at: Nanos, context: &mut Context<'_>) -> Fate {
        if !self.decide_by_request(context) {
            return Fate::NoCall;
        }
        if let Some(mut live) = self.live.take() {
            live.understand(self, context.recent);
            live.progress(self, at, context);
            self.live = Some(live);
        }
        Fate::Open
    }

    /// Decides by the body's shape where the path alone does not; false when it is no call.
    fn decide_by_request(&mut self, context: &mut Context<'_>) -> bool {
        if self.decided || self.head.as_ref().is_some_and(|head| registry::is_websocket(&head.method, &head.headers)) {
            return true;
        }
        if self.head.is_none() {
            // A response without its request: only its own shape can tell.
            return true;
        }
        let content = self.request.content();
        let head = self.head.as_ref();
        let shape = shape::of_request(&content, head.map_or(&[][..], |head| &head.headers));
        let Some(found) = shape::agree(self.found.take(), shape) else {
            return false;
        };
        self.found = Some(found);
        self.begin_call(context);
        true
    }

    fn take_response(&mut self, at: Nanos, head: ResponseHead, context: &mut Context<'_>) -> Fate {
        if head.unknown_headers > 0 {
            self.flaw(Flaw::UnknownHeaders);
        }
        self.response_last = Some(at);
        if let Some(length) = length_of(&head.headers) {
            self.response.expect(length);
        }
        let upgraded = matches!(head.status, 101) || (head.status == 200 && self.is_connect());
        self.response_head = Some(head);
        if upgraded && let Some(found) = &self.found {
            self.socket = Socket::open(found, context.bounds).map(Box::new);
            return if self.socket.is_some() { Fate::Open } else { Fate::NoCall };
        }
        if let Some(mut live) = self.live.take() {
            live.response_began(self);
            self.live = Some(live);
            return Fate::Open;
        }
        if self.found.is_some()
            && self.head.as_ref().is_some_and(|head| registry::is_websocket(&head.method, &head.headers))
        {
            // The upgrade was refused: the refusal is the answer.
            self.begin_call(context);
            return Fate::Open;
        }
        if self.head.is_some() && !self.decided {
            return if self.decide_by_request(context) { Fate::Open } else { Fate::NoCall };
        }
        let speaks =
            self.response_head.as_ref().and_then(|head| header(&head.headers, "content-type")).unwrap_or("json");
        if self.head.is_none()
            && !(speaks.contains("json") || speaks.contains("event-stream") || speaks.contains("eventstream"))
        {
            return Fate::NoCall;
        }
        Fate::Open
    }

    fn is_connect(&self) -> bool {
        self.head.as_ref().is_some_and(|head| head.method.eq_ignore_ascii_case("CONNECT"))
    }

    fn take_response_body(&mut self, at: Nanos, body: &Body, context: &mut Context<'_>) -> Fate {
        self.response_last = Some(at);
        if self.response_first.is_none() && !body.wire.is_empty() {
            self.response_first = Some(at);
        }
        self.response.push(body);
        if let Some(mut live) = self.live.take() {
            if live.content(self, at, &body.content) {
                live.progress(self, at, context);
                self.hand_on_asked(&mut live, at, context);
            }
            self.live = Some(live);
        }
        Fate::Open
    }

    /// What the server asked of the client inside its answer: calls of their own.
    fn hand_on_asked(&mut self, live: &mut Live, at: Nanos, context: &mut Context<'_>) {
        for message in live.asked() {
            self.asked += 1;
            context.out.push(CallUpdate::Done(live::asked_call(self, self.asked, at, &message)));
        }
    }

    fn take_message(&mut self, at: Nanos, message: &Message, context: &mut Context<'_>) -> Fate {
        let Some(mut socket) = self.socket.take() else {
            return self.take_message_unopened(at, message, context);
        };
        socket.take(self, at, message, context);
        self.socket = Some(socket);
        Fate::Open
    }

    /// A message of a WebSocket whose upgrade was not seen, or not understood: its own shape decides.
    fn take_message_unopened(&mut self, at: Nanos, message: &Message, context: &mut Context<'_>) -> Fate {
        let found = self.found.clone().or_else(|| shape::of_message(&message.payload));
        let Some(found) = found else {
            return if self.head.is_some() { Fate::NoCall } else { Fate::Open };
        };
        let Some(mut socket) = Socket::open(&found, context.bounds) else { return Fate::NoCall };
        self.found = Some(found);
        socket.take(self, at, message, context);
        self.socket = Some(Box::new(socket));
        Fate::Open
    }

    fn take_gap(&mut self, side: Side) {
        self.flaw(Flaw::Gap);
        if let Some(live) = &mut self.live
            && side == Side::Response
        {
            live.gap();
        }
        if let Some(socket) = &mut self.socket {
            socket.gap();
        }
    }

    fn end(&mut self, how: Option<CloseHow>, context: &mut Context<'_>) -> Fate {
        if let Some(mut socket) = self.socket.take() {
            socket.end(self, how, context);
            return Fate::Over;
        }
        if self.live.is_none() {
            self.decide_at_end(context);
        }
        let Some(mut live) = self.live.take() else { return Fate::NoCall };
        live.understand(self, context.recent);
        if let Some(fresh) = (context.origin)() {
            self.origin = Some(fresh);
        }
        context.out.push(CallUpdate::Done(live.end(self, how)));
        Fate::Over
    }

    /// Nothing told yet: the request's shape as far as it came, then the response's.
    fn decide_at_end(&mut self, context: &mut Context<'_>) {
        if self.head.is_some() {
            self.decide_by_request(context);
            return;
        }
        let content = self.response.content();
        let Some(found) = shape::of_response(&content) else { return };
        self.flaw(Flaw::NoRequest);
        self.found = Some(found);
        self.begin_call(context);
        if let Some(mut live) = self.live.take() {
            live.content(self, self.response_first.unwrap_or(self.first_at), &content);
            live.forget_times();
            self.live = Some(live);
        }
    }
}

/// How long a body is, where its head says so.
fn length_of(headers: &[Header]) -> Option<usize> {
    header(headers, "content-length")?.trim().parse().ok()
}

/// True when a request that the table does not know may still be a call by its body.
fn may_be_call(head: &RequestHead) -> bool {
    if head.protocol == Protocol::Http2 && head.unknown_headers > 0 {
        return true;
    }
    if !(head.method.is_empty() || head.method == "POST") {
        return false;
    }
    let kind = header(&head.headers, "content-type").unwrap_or("");
    kind.contains("json") || (head.method.is_empty() && kind.is_empty())
}
