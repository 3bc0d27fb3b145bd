//! How an answer's content is framed, decided from its first byte: servers' content types lie.

use crate::http::{event_stream, json_array, ndjson, sse};
use crate::wire::decoder::Event;
use crate::wire::json::Raw;

/// The framing of an answer.
#[derive(Debug, Default)]
pub(crate) enum Framing {
    /// No content yet.
    #[default]
    Undecided,
    Sse(sse::Framer),
    Ndjson(ndjson::Framer),
    Array(json_array::Framer),
    EventStream(event_stream::Framer),
    /// One JSON document.
    Whole,
    /// Something that is no JSON (audio, an error page).
    Opaque,
}

/// What is known before the first byte.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hint<'a> {
    pub(crate) content_type: &'a str,
    /// A stream was asked for (or is the API's default).
    pub(crate) stream: bool,
    /// The API streams one JSON per line.
    pub(crate) lines: bool,
    pub(crate) failed: bool,
}

/// What a framer hands on.
pub(crate) enum Piece<'a> {
    Event(Event<'a>),
    /// The end mark of OpenAI's streams.
    Done,
    /// An AWS exception: its type and payload.
    Exception(&'a str, Raw<'a>),
}

impl Framing {
    /// Decides from the first content; true when it has just been decided.
    pub(crate) fn decide(&mut self, content: &[u8], hint: Hint<'_>) -> bool {
        if !matches!(self, Framing::Undecided) {
            return false;
        }
        let content = content.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(content);
        let kind = hint.content_type.to_ascii_lowercase();
        let lines = kind.contains("ndjson")
            || kind.contains("jsonl")
            || kind.contains("json-seq")
            || kind.contains("stream+json");
        *self = if kind.contains("amazon.eventstream") && !content.is_empty() {
            Framing::EventStream(event_stream::Framer::default())
        } else {
            match content.trim_ascii_start().first() {
                None => return false,
                Some(b'{') if (lines || (hint.stream && hint.lines)) && !hint.failed => {
                    Framing::Ndjson(ndjson::Framer::default())
                }
                Some(b'{') => Framing::Whole,
                Some(b'[') if hint.stream && !hint.failed => Framing::Array(json_array::Framer::default()),
                Some(b'[') => Framing::Whole,
                Some(b'd' | b'e' | b'i' | b'r' | b':') if !hint.failed || kind.contains("event-stream") => {
                    Framing::Sse(sse::Framer::default())
                }
                Some(_) => Framing::Opaque,
            }
        };
        true
    }

    /// True when it is known how the answer is framed.
    pub(crate) fn is_decided(&self) -> bool {
        !matches!(self, Framing::Undecided)
    }

    /// True when content goes through a framer, so that nobody needs it as a whole.
    pub(crate) fn is_streamed(&self) -> bool {
        !matches!(self, Framing::Undecided | Framing::Whole | Framing::Opaque)
    }

    pub(crate) fn push(&mut self, content: &[u8], emit: &mut dyn FnMut(Piece<'_>)) {
        match self {
            Framing::Sse(framer) => framer.push(content, &mut |event| emit(sse_piece(event))),
            Framing::Ndjson(framer) => framer.push(content, &mut |line| emit(plain(line))),
            Framing::Array(framer) => framer.push(content, &mut |element| emit(plain(element))),
            Framing::EventStream(framer) => framer.push(content, &mut |message| aws(&message, emit)),
            Framing::Undecided | Framing::Whole | Framing::Opaque => {}
        }
    }

    pub(crate) fn finish(&mut self, emit: &mut dyn FnMut(Piece<'_>)) {
        match self {
            Framing::Sse(framer) => framer.finish(&mut |event| emit(sse_piece(event))),
            Framing::Ndjson(framer) => framer.finish(&mut |line| emit(plain(line))),
            Framing::Array(framer) => framer.finish(&mut |element| emit(plain(element))),
            Framing::EventStream(framer) => {
                framer.finish();
            }
            Framing::Undecided | Framing::Whole | Framing::Opaque => {}
        }
    }

    /// Bytes are missing here.
    pub(crate) fn gap(&mut self) {
        match self {
            Framing::Sse(framer) => framer.gap(),
            Framing::Ndjson(framer) => framer.gap(),
            Framing::Array(framer) => framer.gap(),
            Framing::EventStream(framer) => framer.gap(),
            Framing::Undecided | Framing::Whole | Framing::Opaque => {}
        }
    }

    /// Events that were over the framer's bound, and damage that it skipped.
    pub(crate) fn losses(&self) -> (u64, u64) {
        match self {
            Framing::Sse(framer) => (framer.dropped(), 0),
            Framing::Ndjson(framer) => (framer.dropped(), 0),
            Framing::Array(framer) => (framer.dropped(), 0),
            Framing::EventStream(framer) => (0, framer.damaged()),
            Framing::Undecided | Framing::Whole | Framing::Opaque => (0, 0),
        }
    }
}

fn sse_piece(event: sse::Event<'_>) -> Piece<'_> {
    if event.data.trim() == "[DONE]" {
        return Piece::Done;
    }
    Piece::Event(Event { name: event.name, data: Raw::new(event.data.as_bytes()) })
}

fn plain(bytes: &[u8]) -> Piece<'_> {
    Piece::Event(Event { name: "", data: Raw::new(bytes) })
}

fn aws(message: &event_stream::Message<'_>, emit: &mut dyn FnMut(Piece<'_>)) {
    let payload = Raw::new(message.payload);
    let header = |name: &str| message.header(name).unwrap_or_default();
    match header(":message-type").as_str() {
        "exception" => emit(Piece::Exception(&header(":exception-type"), payload)),
        "error" => emit(Piece::Exception(&header(":error-code"), payload)),
        _ => emit(Piece::Event(Event { name: &header(":event-type"), data: payload })),
    }
}
