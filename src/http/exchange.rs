//! One exchange under way: which halves are complete, its bodies' codings and the flaws it was told of already.

use bytes::Bytes;

use super::coding::Coding;
use super::sink::Sink;
use crate::event::{CloseHow, Nanos};
use crate::flaw::Flaw;
use crate::http::{Body, Header, Message, PartKind, Protocol, RequestHead, ResponseHead, Side};

/// How far one half has come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Debug, Default)]
pub(super) enum Progress {
    /// Its head was not seen yet.
    #[default]
    Waiting,
    /// Its body is under way.
    Open,
    /// It is complete.
    Done,
}

#[derive(Debug, Default)]
struct Half {
    progress: Progress,
    coding: Option<Box<Coding>>,
}

#[derive(Debug)]
pub(super) struct Exchange {
    pub seq: u32,
    halves: [Half; 2],
    /// Bit per flaw already handed on.
    flaws: u16,
}

fn index(side: Side) -> usize {
    match side {
        Side::Request => 0,
        Side::Response => 1,
    }
}

impl Exchange {
    /// Begins an exchange with a request's head.
    pub fn begin(seq: u32, head: RequestHead, sink: &mut Sink<'_>) -> Exchange {
        let mut exchange = Exchange { seq, halves: Default::default(), flaws: 0 };
        exchange.halves[0] = Half { progress: Progress::Open, coding: Coding::for_headers(&head.headers) };
        sink.counters.exchanges += 1;
        let unknown = head.unknown_headers > 0;
        sink.part(seq, PartKind::Request(head));
        if unknown {
            exchange.flaw(Flaw::UnknownHeaders, sink);
        }
        exchange
    }

    /// Begins an exchange whose request was not seen, and says so.
    pub fn begin_without_request(seq: u32, protocol: Protocol, begun: Nanos, sink: &mut Sink<'_>) -> Exchange {
        let head = RequestHead {
            protocol,
            method: String::new(),
            target: String::new(),
            authority: None,
            headers: Vec::new(),
            unknown_headers: 0,
            first_byte: begun,
        };
        let mut exchange = Exchange::begin(seq, head, sink);
        sink.counters.orphan_responses += 1;
        exchange.flaw(Flaw::NoRequest, sink);
        exchange.end_half(Side::Request, sink);
        exchange
    }

    pub fn progress(&self, side: Side) -> Progress {
        self.halves[index(side)].progress
    }

    pub fn is_done(&self) -> bool {
        self.halves.iter().all(|half| half.progress == Progress::Done)
    }

    pub fn informational(&self, head: ResponseHead, sink: &mut Sink<'_>) {
        sink.part(self.seq, PartKind::Informational(head));
    }

    /// The final response's head. `has_body` is false where the coding it names is that of a body it does not carry.
    pub fn respond(&mut self, head: ResponseHead, has_body: bool, sink: &mut Sink<'_>) {
        let coding = if has_body { Coding::for_headers(&head.headers) } else { None };
        self.halves[1] = Half { progress: Progress::Open, coding };
        let unknown = head.unknown_headers > 0;
        sink.part(self.seq, PartKind::Response(head));
        if unknown {
            self.flaw(Flaw::UnknownHeaders, sink);
        }
    }

    pub fn body(&mut self, side: Side, wire: Bytes, sink: &mut Sink<'_>) {
        if wire.is_empty() {
            return;
        }
        let (body, flaw) = match &mut self.halves[index(side)].coding {
            None => (Body::plain(wire), None),
            Some(coding) => {
                let (content, flaw) = coding.push(&wire, sink);
                (Body { wire, content }, flaw)
            }
        };
        self.put_body(side, body, sink);
        if let Some(flaw) = flaw {
            self.flaw(flaw, sink);
        }
    }

    fn put_body(&self, side: Side, body: Body, sink: &mut Sink<'_>) {
        let kind = match side {
            Side::Request => PartKind::RequestBody(body),
            Side::Response => PartKind::ResponseBody(body),
        };
        sink.part(self.seq, kind);
    }

    /// Bytes of a body are missing; `len` 0 where it is not known how many.
    pub fn gap(&mut self, side: Side, len: u64, sink: &mut Sink<'_>) {
        sink.part(self.seq, PartKind::Gap { side, len });
        self.flaw(Flaw::Gap, sink);
        let lost = self.halves[index(side)].coding.as_mut().and_then(|coding| coding.lose());
        if let Some(flaw) = lost {
            self.flaw(flaw, sink);
        }
    }

    pub fn message(&self, message: Message, sink: &mut Sink<'_>) {
        sink.part(self.seq, PartKind::Message(message));
    }

    /// Tells a flaw once.
    pub fn flaw(&mut self, flaw: Flaw, sink: &mut Sink<'_>) {
        let bit = 1u16 << (flaw as u16);
        if self.flaws & bit == 0 {
            self.flaws |= bit;
            sink.part(self.seq, PartKind::Flaw(flaw));
        }
    }

    /// The client ended its side.
    pub fn client_left(&self, sink: &mut Sink<'_>) {
        if self.progress(Side::Response) != Progress::Done {
            sink.part(self.seq, PartKind::ClientLeft);
        }
    }

    /// A half came to its own end.
    pub fn end_half(&mut self, side: Side, sink: &mut Sink<'_>) {
        let half = &mut self.halves[index(side)];
        if half.progress == Progress::Done {
            return;
        }
        half.progress = Progress::Done;
        let flaw = half.coding.take().and_then(|mut coding| coding.finish());
        if let Some(flaw) = flaw {
            self.flaw(flaw, sink);
        }
        sink.part(self.seq, if side == Side::Request { PartKind::RequestEnd } else { PartKind::ResponseEnd });
    }

    /// Both halves are complete.
    pub fn end(self, sink: &mut Sink<'_>) {
        sink.part(self.seq, PartKind::End(None));
    }

    /// The answer, or the rest of it, was lost in a hole; the connection goes on.
    pub fn end_lost(mut self, sink: &mut Sink<'_>) {
        sink.counters.answers_lost += 1;
        self.flaw(Flaw::Gap, sink);
        self.flaw(Flaw::Cut, sink);
        sink.part(self.seq, PartKind::End(None));
    }

    /// The connection (or the HTTP/2 stream) ended before the exchange did.
    pub fn end_cut(mut self, how: CloseHow, sink: &mut Sink<'_>) {
        if self.progress(Side::Response) != Progress::Done {
            self.flaw(Flaw::Cut, sink);
        }
        sink.part(self.seq, PartKind::End(Some(how)));
    }

    /// The WebSocket ended, by a close frame (`None`) or with its connection.
    pub fn end_messages(mut self, how: Option<CloseHow>, sink: &mut Sink<'_>) {
        self.end_half(Side::Request, sink);
        self.end_half(Side::Response, sink);
        sink.part(self.seq, PartKind::End(how));
    }
}

/// The head of a request that was upgraded or tunnelled carries no coding: its bytes are messages.
pub(super) fn names(headers: &[Header], name: &str, token: &str) -> bool {
    headers
        .iter()
        .filter(|header| header.name.eq_ignore_ascii_case(name))
        .flat_map(|header| header.value.split(','))
        .any(|value| value.trim().eq_ignore_ascii_case(token))
}
