//! A call under way: the exchange's parts go in, and the call grows until it is done.

use std::sync::Arc;

use bytes::Bytes;

use crate::event::{CloseHow, Nanos};
use crate::flaw::Flaw;
use crate::http::{Protocol, header};
use crate::wire::answer::Answer;
use crate::wire::decoder::{self, Event, Wire};
use crate::wire::exchange::{Context, Exchange};
use crate::wire::framing::{Framing, Hint, Piece};
use crate::wire::json::{Raw, value_len};
use crate::wire::registry::{Match, Proof};
use crate::wire::repeated::Repeated;
use crate::wire::request::{Body, Recent, conversation_key};
use crate::wire::stage::{Bounds, Origin};
use crate::wire::{
    Call, CallError, CallId, CallState, CallUpdate, Finish, Half, Operation, Times, Usage, WireApi, error, mcp,
    provider, shape,
};

/// Headers that carry a conversation's id, the surest first.
const SESSION_HEADERS: &[&str] = &[
    "x-claude-code-session-id",
    "session-id",
    "session_id",
    "x-session-id",
    "conversation-id",
    "conversation_id",
    "x-conversation-id",
    "x-opencode-session",
    "thread-id",
    "mcp-session-id",
];

/// A call under way.
pub(crate) struct Live {
    call: Box<Call>,
    reading: Reading,
    /// The request was read.
    understood: bool,
    last_progress: Option<Nanos>,
    /// The answer's first token was told.
    begun: bool,
    /// The answer's own end was told.
    answered: bool,
}

/// How the answer is read.
struct Reading {
    decode: Decode,
    framing: Framing,
    request_shaped: bool,
    provider_is_guess: bool,
}

/// The answer's decoder with the clock of its tokens.
pub(crate) struct Decode {
    pub(crate) wire: Box<dyn Wire>,
    pub(crate) answer: Answer,
    pub(crate) repeated: Repeated,
    first_token: Option<Nanos>,
    last_token: Option<Nanos>,
    token_gaps: Vec<u64>,
    max_gaps: usize,
    pub(crate) events: u64,
    /// The API was told by the request's shape alone, which others share: the answer's first words may correct it.
    unsure: bool,
    /// What they corrected it to.
    corrected: Option<WireApi>,
}

impl Decode {
    pub(crate) fn new(api: WireApi, bounds: &Bounds) -> Decode {
        Decode {
            wire: decoder::decoder(api),
            answer: Answer::default(),
            repeated: Repeated::default(),
            first_token: None,
            last_token: None,
            token_gaps: Vec::new(),
            max_gaps: bounds.token_gaps,
            events: 0,
            unsure: false,
            corrected: None,
        }
    }

    /// Takes the decoder that the answer's own shape asks for.
    fn correct(&mut self, data: Raw<'_>) {
        if !std::mem::take(&mut self.unsure) {
            return;
        }
        let Some(found) = shape::of_answer(data) else { return };
        if matches!(found.api, WireApi::AnthropicMessages | WireApi::OllamaChat) {
            self.wire = decoder::decoder(found.api);
            self.corrected = Some(found.api);
        }
    }

    pub(crate) fn piece(&mut self, at: Nanos, piece: Piece<'_>) {
        match piece {
            Piece::Event(event) => self.event(at, event),
            Piece::Done => {
                self.answer.complete = true;
                self.answer.understood = true;
            }
            Piece::Exception(kind, payload) => {
                error::read(payload, &mut self.answer);
                let sentence = self.answer.error.take().map(|error| error.message);
                self.answer.fail(kind, sentence.unwrap_or_default());
            }
        }
    }

    pub(crate) fn event(&mut self, at: Nanos, event: Event<'_>) {
        self.events += 1;
        self.correct(event.data);
        if !self.repeated.take(event, &mut self.answer) {
            self.wire.event(event, &mut self.answer);
            self.repeated.learn(event, std::mem::take(&mut self.answer.said));
        }
        self.answer.settle();
        if !std::mem::take(&mut self.answer.token) {
            return;
        }
        self.first_token.get_or_insert(at);
        if let Some(last) = self.last_token.replace(at)
            && self.token_gaps.len() < self.max_gaps
        {
            self.token_gaps.push(at.since(last).0);
        }
    }

    /// Writes what the answer has said into a call.
    pub(crate) fn write(&self, call: &mut Call) {
        let answer = &self.answer;
        call.wire_api = self.corrected.unwrap_or(call.wire_api);
        call.answered = answer.complete;
        call.output = answer.messages();
        call.usage = answer.counts.usage();
        call.response_model.clone_from(&answer.model);
        call.response_id.clone_from(&answer.id);
        call.service_tier.clone_from(&answer.service_tier);
        call.finish_reason = answer.finish_reason().map(str::to_owned);
        call.finish = call.finish_reason.as_deref().map(decoder::finish);
        if call.finish == Some(Finish::Stop) && call.tool_calls().any(|tool| !tool.server_side) {
            // Several APIs stop for tools under the same name as for good.
            call.finish = Some(Finish::ToolCalls);
        }
        call.error.clone_from(&answer.error);
        call.times.first_token = call.times.first_token.or(self.first_token);
        call.times.token_gaps.clone_from(&self.token_gaps);
        if !answer.tools.is_empty() {
            call.tools_offered = answer.tools.clone().into();
        }
    }

    pub(crate) fn forget_times(&mut self) {
        self.first_token = None;
        self.token_gaps.clear();
    }
}

/// A call of which nothing but its exchange is known.
pub(crate) fn blank_call(exchange: &Exchange, found: &Match, sub: u32, begun: Nanos) -> Call {
    let head = exchange.head.as_ref();
    let headers = head.map(|head| head.headers.clone()).unwrap_or_default();
    let authority = head.and_then(|head| head.authority.clone());
    let target = head.map(|head| head.target.clone()).unwrap_or_default();
    let hint = SESSION_HEADERS.iter().find_map(|name| header(&headers, name)).map(str::to_owned);
    let provider = provider::provider(found.api, authority.as_deref(), &target, &headers).to_owned();
    let mut call = Call {
        id: call_id(exchange, sub, begun),
        conn: exchange.id.conn,
        state: CallState::InProgress,
        process: None,
        client: None,
        server: None,
        transport: None,
        protocol: head.map_or(Protocol::Http1, |head| head.protocol),
        method: head.map(|head| head.method.clone()).unwrap_or_default(),
        target,
        authority,
        wire_api: found.api,
        provider,
        server_kind: None,
        operation: found.operation,
        request_model: found.model.clone(),
        response_model: None,
        response_id: None,
        previous_response_id: None,
        conversation_hint: hint,
        parameters: serde_json::Map::new(),
        stream: found.stream.unwrap_or(false),
        messages: Vec::new(),
        tools_offered: Arc::from([]),
        output: Vec::new(),
        usage: Usage::default(),
        service_tier: None,
        finish_reason: None,
        finish: None,
        status: None,
        error: None,
        times: Times { request_first: begun, ..Times::default() },
        request: Half { headers, ..Half::default() },
        response: Half::default(),
        answered: false,
        ended_by: None,
        flaws: Vec::new(),
    };
    if let Some(origin) = &exchange.origin {
        set_origin(&mut call, origin);
    }
    call
}

pub(crate) fn set_origin(call: &mut Call, origin: &Origin) {
    call.process = origin.process;
    call.client.clone_from(&origin.client);
    call.server.clone_from(&origin.server);
    call.transport.clone_from(&origin.transport);
}

/// A request that the server made inside its answer, the `sub`th of its exchange.
pub(crate) fn asked_call(exchange: &Exchange, sub: u32, at: Nanos, message: &Bytes) -> Box<Call> {
    let found = shape::matched(WireApi::Mcp, Operation::Mcp);
    let mut call = blank_call(exchange, &found, sub, at);
    call.state = CallState::Done;
    call.times.request_last = Some(at);
    mcp::server_request(message, &mut call);
    Box::new(call)
}

fn call_id(exchange: &Exchange, sub: u32, begun: Nanos) -> CallId {
    let mut hasher = blake3::Hasher::new();
    let opened = exchange.origin.as_ref().map_or(0, |origin| origin.opened.0);
    hasher.update(&opened.to_le_bytes());
    hasher.update(&exchange.id.conn.0.to_le_bytes());
    hasher.update(&exchange.id.seq.to_le_bytes());
    hasher.update(&sub.to_le_bytes());
    hasher.update(&begun.0.to_le_bytes());
    let mut id = [0; 16];
    id.copy_from_slice(hasher.finalize().as_bytes().get(..16).unwrap_or(&[0; 16]));
    CallId(id)
}

impl Live {
    pub(crate) fn begin(exchange: &Exchange, found: &Match, bounds: &Bounds) -> Live {
        let call = blank_call(exchange, found, 0, exchange.first_at);
        let provider_is_guess =
            provider::is_guess(found.api, call.authority.as_deref(), &call.target, &call.request.headers);
        let mut decode = Decode::new(found.api, bounds);
        decode.unsure = found.proof == Proof::Body && found.api == WireApi::OpenAiChat;
        let reading = Reading { decode, framing: Framing::default(), request_shaped: true, provider_is_guess };
        Live { call: Box::new(call), reading, understood: false, last_progress: None, begun: false, answered: false }
    }

    /// Reads the request; once.
    pub(crate) fn understand(&mut self, exchange: &mut Exchange, recent: &mut Recent) {
        if std::mem::replace(&mut self.understood, true) || exchange.head.is_none() {
            return;
        }
        let content = exchange.request.content();
        self.call.request.body = exchange.request.wire();
        self.call.request.body_len = exchange.request.wire_len();
        self.call.times.request_last = exchange.request_last;
        if exchange.request.over_bound() {
            exchange.flaw(Flaw::Bound);
        }
        let key = conversation_key(&content);
        let mut body = Body::index(&content, Raw::new(&content), recent.find(key));
        self.reading.request_shaped = self.reading.decode.wire.request(&mut body, &mut self.call);
        if body.over_bound {
            exchange.flaw(Flaw::Bound);
        }
        recent.keep(key, content.len(), body.into_prior());
    }

    /// The response's head came.
    pub(crate) fn response_began(&mut self, exchange: &Exchange) {
        let Some(head) = &exchange.response_head else { return };
        self.call.status = (head.status != 0).then_some(head.status);
        self.call.times.response_head = Some(head.first_byte);
        self.call.response.headers.clone_from(&head.headers);
        self.call.server_kind = provider::server_by_headers(&head.headers).map(str::to_owned);
        let Decode { wire, answer, .. } = &mut self.reading.decode;
        wire.head(&head.headers, answer);
    }

    /// A piece of the answer's content came; true when an event was completed.
    pub(crate) fn content(&mut self, exchange: &mut Exchange, at: Nanos, content: &[u8]) -> bool {
        if content.is_empty() {
            return false;
        }
        if !self.reading.framing.is_decided() {
            self.decide(exchange, content);
        }
        let Reading { decode, framing, .. } = &mut self.reading;
        let events = decode.events;
        framing.push(content, &mut |piece| decode.piece(at, piece));
        decode.events != events
    }

    /// Decides how the answer is framed, once there is content that tells.
    fn decide(&mut self, exchange: &mut Exchange, content: &[u8]) {
        let head = exchange.response_head.as_ref();
        let hint = Hint {
            content_type: head.and_then(|head| header(&head.headers, "content-type")).unwrap_or(""),
            stream: self.call.stream,
            lines: self.reading.decode.wire.streams_lines(),
            failed: self.call.status.is_some_and(|status| status >= 400),
        };
        let framing = &mut self.reading.framing;
        if framing.decide(content, hint) && framing.is_streamed() {
            exchange.response.drop_content();
        }
    }

    /// What the server asked of the client inside its answer since the last time.
    pub(crate) fn asked(&mut self) -> Vec<Bytes> {
        self.reading.decode.wire.asked()
    }

    pub(crate) fn gap(&mut self) {
        self.reading.framing.gap();
    }

    pub(crate) fn forget_times(&mut self) {
        self.reading.decode.forget_times();
    }

    /// Hands on how far the call has come, unless that was done a moment ago.
    pub(crate) fn progress(&mut self, exchange: &Exchange, at: Nanos, context: &mut Context<'_>) {
        let Some(gap) = context.bounds.progress else { return };
        // The first token is told at once: the stream may stand still after it.
        let looked_at = gap != Bounds::NOBODY_LOOKS;
        let begun = looked_at && self.reading.decode.first_token.is_some() && !self.begun;
        self.begun |= begun;
        // Its own end is told at once: the client may go on before the exchange is over.
        let answered = self.reading.decode.answer.complete && !self.answered;
        self.answered |= answered;
        if !answered && !begun && self.last_progress.is_some_and(|last| at.since(last) < gap) {
            return;
        }
        self.last_progress = Some(at);
        let mut call = self.call.clone();
        self.reading.decode.write(&mut call);
        self.reading.name_server(&mut call);
        call.response.body_len = exchange.response.wire_len();
        call.flaws.clone_from(&exchange.flaws);
        context.out.push(CallUpdate::Progress(call));
    }

    /// Nothing more will come: the finished call.
    pub(crate) fn end(self, exchange: &mut Exchange, how: Option<CloseHow>) -> Box<Call> {
        let Live { mut call, mut reading, .. } = self;
        let at = exchange.response_last.unwrap_or(exchange.first_at);
        let Reading { decode, framing, .. } = &mut reading;
        framing.finish(&mut |piece| decode.piece(at, piece));
        if matches!(framing, Framing::Whole) {
            reading.whole(exchange, &call, at);
        }
        reading.decode.answer.settle();
        if let Some(origin) = &exchange.origin {
            set_origin(&mut call, origin);
        }
        if call.status.is_some_and(|status| status < 400) && !reading.framing.is_streamed() {
            call.times.first_token = exchange.response_first;
        }
        reading.decode.write(&mut call);
        reading.name_server(&mut call);
        call.state = CallState::Done;
        call.ended_by = how;
        call.times.last_byte = exchange.response_head.as_ref().and(exchange.response_last);
        call.response.body = exchange.response.wire();
        call.response.body_len = exchange.response.wire_len();
        reading.judge(exchange, how, &mut call);
        call
    }
}

impl Reading {
    fn name_server(&self, call: &mut Call) {
        if call.server_kind.is_none() {
            call.server_kind = self.decode.answer.server_kind.map(str::to_owned);
        }
        if self.decode.corrected.is_some() && self.provider_is_guess {
            let own = provider::provider(call.wire_api, None, &call.target, &call.request.headers);
            call.provider = own.to_owned();
        }
        if call.server_kind.is_none() && call.provider == "ollama" {
            call.server_kind = Some("ollama".to_owned());
        }
        if let Some(shown) = self.decode.answer.provider.filter(|_| self.provider_is_guess) {
            call.provider = shown.to_owned();
        }
    }

    /// Reads an answer that is one document (or, after all, one document per line).
    fn whole(&mut self, exchange: &mut Exchange, call: &Call, at: Nanos) {
        let content = exchange.response.content();
        let raw = Raw::new(&content);
        let rest = value_len(raw.bytes()).and_then(|len| raw.bytes().get(len..)).unwrap_or_default();
        if rest.trim_ascii_start().starts_with(b"{") {
            let lines = raw.bytes().split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
            lines.for_each(|line| self.decode.event(at, Event { name: "", data: Raw::new(line) }));
            return;
        }
        let failed = call.status.is_some_and(|status| status >= 400);
        if failed && error::read(raw, &mut self.decode.answer) {
            return;
        }
        if raw.is_array() {
            raw.elements().for_each(|data| self.decode.wire.event(Event { name: "", data }, &mut self.decode.answer));
            return;
        }
        self.decode.correct(raw);
        self.decode.wire.whole(raw, &mut self.decode.answer);
        if !self.decode.answer.understood {
            error::read(raw, &mut self.decode.answer);
        }
    }

    /// Errors and flaws, from everything that is known at the end.
    fn judge(&mut self, exchange: &mut Exchange, how: Option<CloseHow>, call: &mut Call) {
        let answer = &self.decode.answer;
        let failed = call.status.filter(|status| *status >= 400);
        if failed.is_some() && call.error.is_none() {
            let sentence = error::sentence(&exchange.response.content());
            call.error = Some(CallError { kind: String::new(), message: sentence });
        }
        let cut_short = how.is_some() || !exchange.response_whole;
        let unfinished = self.framing.is_streamed() && !answer.complete && call.error.is_none();
        if answer.complete && self.framing.is_streamed() {
            // The answer's own end came: that the transfer's end did not is of no interest to anybody.
            exchange.flaws.retain(|flaw| *flaw != Flaw::Cut);
        } else if (cut_short && !exchange.response_whole) || (unfinished && self.decode.events > 0) {
            exchange.flaw(Flaw::Cut);
            // A client that stops reading once it knows why the answer ended has its answer (some SDKs do so always).
            let left = exchange.client_left || matches!(how, Some(CloseHow::Freed | CloseHow::ProcessExit));
            if call.error.is_none() && !(left && answer.finish_reason().is_some()) {
                // A transfer that ended well does not make a whole answer, unless its end may have been lost here.
                let short = unfinished && answer.understood && exchange.response_whole && exchange.is_undamaged();
                let how = how.or(short.then_some(CloseHow::Finished));
                call.error = ended_early(how, exchange.client_left, call.status.is_some());
            }
        }
        self.flaws(exchange, call);
        let answer = &self.decode.answer;
        if let Some(error) = &mut call.error
            && error.kind.is_empty()
        {
            let by_status = || failed.map_or_else(|| "error".to_owned(), |status| format!("http_{status}"));
            error.kind = answer.error_type.clone().unwrap_or_else(by_status);
        }
        call.flaws.clone_from(&exchange.flaws);
    }

    fn flaws(&self, exchange: &mut Exchange, call: &Call) {
        let answer = &self.decode.answer;
        let (dropped, damaged) = self.framing.losses();
        if exchange.response.over_bound() || answer.over_bound || dropped > 0 {
            exchange.flaw(Flaw::Bound);
        }
        if damaged > 0 && !exchange.flaws.contains(&Flaw::Gap) {
            exchange.flaw(Flaw::Malformed);
        }
        let damaged_before = exchange
            .flaws
            .iter()
            .any(|flaw| matches!(flaw, Flaw::Gap | Flaw::Cut | Flaw::Bound | Flaw::Encoding | Flaw::MidStream));
        let request_wrong = !self.request_shaped && !damaged_before && exchange.head.is_some();
        let succeeded = call.status.is_none_or(|status| (200..300).contains(&status) && status != 204);
        let opaque = matches!(self.framing, Framing::Opaque) && !self.decode.wire.takes_opaque();
        let said_something = !matches!(self.framing, Framing::Undecided) && !matches!(self.framing, Framing::Opaque);
        let silent = matches!(self.framing, Framing::Undecided) && call.operation.is_conversation();
        let answer_wrong = answer.misshapen || opaque || silent || (said_something && !answer.understood);
        if request_wrong || (succeeded && answer_wrong && !damaged_before) {
            exchange.flaw(Flaw::Shape);
        }
    }
}

/// Why a call without an end has none.
pub(crate) fn ended_early(how: Option<CloseHow>, client_left: bool, answered: bool) -> Option<CallError> {
    let (kind, message) = match how? {
        CloseHow::SourceEnd => return None,
        _ if client_left => ("aborted", "the client left before the answer was complete"),
        CloseHow::Reset => ("reset", "the connection was reset"),
        CloseHow::Freed => ("aborted", "the client closed the connection before the answer was complete"),
        CloseHow::ProcessExit => ("aborted", "the process ended before the answer was complete"),
        CloseHow::Idle => ("timeout", "nothing more came"),
        CloseHow::Finished if answered => ("cut", "the connection ended before the answer was complete"),
        CloseHow::Finished => ("cut", "the connection ended before an answer came"),
    };
    Some(CallError { kind: kind.to_owned(), message: message.to_owned() })
}
