//! Server-sent events: bytes of a body in, events out, to the WHATWG text ("Interpreting an event stream").
//!
//! Must not know what the data means. The one surprising fact: a line is over as soon as its CR is seen, so that an
//! event is handed on when its last byte arrives, and a LF that follows in the next chunk is swallowed.

use std::borrow::Cow;

use memchr::memchr2;

/// One event, borrowed from the chunk when all of it arrived there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event<'a> {
    /// The `event` field; empty when it was not sent (the browser's "message").
    pub name: &'a str,
    /// The data lines joined by LF. Bytes that are not UTF-8 are replaced.
    pub data: &'a str,
    /// The last `id` seen on the stream; empty when there was none.
    pub id: &'a str,
}

/// Takes a body apart into events.
///
/// Everything is kept only while an event is incomplete, and never more than the bound: a longer event is dropped and
/// counted ([`Framer::dropped`]).
#[derive(Debug)]
pub struct Framer {
    max_event_bytes: usize,
    /// The line under way, without its end.
    line: Vec<u8>,
    /// Data of the event under way, lines joined by LF.
    data: Vec<u8>,
    has_data: bool,
    name: Vec<u8>,
    id: String,
    /// The last byte was a CR: a LF now belongs to it.
    after_cr: bool,
    /// Nothing but (part of) the first line was seen: a byte order mark may stand there.
    at_start: bool,
    /// The event under way grew over the bound; its lines are skipped up to the blank one.
    too_long: bool,
    dropped: u64,
}

impl Default for Framer {
    /// A framer that keeps events of up to 16 MiB.
    fn default() -> Framer {
        Framer::new(16 << 20)
    }
}

/// What of the event under way still lies in the chunk: moved into the framer only when the chunk ends before the event.
#[derive(Default)]
struct Borrowed<'c> {
    data: Option<&'c [u8]>,
    name: Option<&'c [u8]>,
}

impl Framer {
    /// A framer that drops events of more than `max_event_bytes`.
    pub fn new(max_event_bytes: usize) -> Framer {
        Framer {
            max_event_bytes,
            line: Vec::new(),
            data: Vec::new(),
            has_data: false,
            name: Vec::new(),
            id: String::new(),
            after_cr: false,
            at_start: true,
            too_long: false,
            dropped: 0,
        }
    }

    /// Takes the next bytes and hands on each event that they complete.
    pub fn push(&mut self, chunk: &[u8], emit: &mut dyn FnMut(Event<'_>)) {
        let mut rest = chunk;
        if self.after_cr && !rest.is_empty() {
            self.after_cr = false;
            rest = rest.strip_prefix(b"\n").unwrap_or(rest);
        }
        let mut borrowed = Borrowed::default();
        while let Some(end) = memchr2(b'\n', b'\r', rest) {
            let (line, tail) = rest.split_at(end);
            rest = match tail {
                [b'\r', b'\n', after @ ..] => after,
                [b'\r'] => {
                    self.after_cr = true;
                    &[]
                }
                [_, after @ ..] => after,
                [] => &[],
            };
            if self.line.is_empty() {
                self.take_line(line, &mut borrowed, emit);
            } else {
                self.keep_partial(line);
                let whole = std::mem::take(&mut self.line);
                self.settle(&mut borrowed);
                let mut own = Borrowed::default();
                self.take_line(&whole, &mut own, emit);
                self.settle(&mut own);
                self.line = whole;
                self.line.clear();
            }
        }
        self.settle(&mut borrowed);
        self.keep_partial(rest);
    }

    /// The body is over. An event whose blank line never came is handed on too: the standard drops it, but some model
    /// servers end so.
    pub fn finish(&mut self, emit: &mut dyn FnMut(Event<'_>)) {
        if !self.line.is_empty() {
            let line = std::mem::take(&mut self.line);
            let mut own = Borrowed::default();
            self.take_line(&line, &mut own, emit);
            self.settle(&mut own);
        }
        self.take_line(&[], &mut Borrowed::default(), emit);
    }

    /// Bytes are missing here: what is incomplete is dropped, and reading goes on at the next line that makes sense.
    pub fn gap(&mut self) {
        self.line.clear();
        self.clear_event();
        self.after_cr = false;
        self.at_start = false;
    }

    /// How many events were over the bound and dropped.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    fn take_line<'c>(&mut self, line: &'c [u8], borrowed: &mut Borrowed<'c>, emit: &mut dyn FnMut(Event<'_>)) {
        let line =
            if std::mem::take(&mut self.at_start) { line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line) } else { line };
        if line.is_empty() {
            return self.dispatch(borrowed, emit);
        }
        let (field, value) = split_field(line);
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"data" => self.take_data(value, borrowed),
            b"event" => {
                self.name.clear();
                borrowed.name = Some(value);
            }
            b"id" if !value.contains(&0) && value.len() <= 4096 => {
                self.id.clear();
                self.id.push_str(&String::from_utf8_lossy(value));
            }
            _ => {}
        }
    }

    fn take_data<'c>(&mut self, value: &'c [u8], borrowed: &mut Borrowed<'c>) {
        if !self.has_data {
            self.has_data = true;
            borrowed.data = Some(value);
            return;
        }
        self.settle(borrowed);
        if self.data.len() + value.len() >= self.max_event_bytes {
            self.too_long = true;
            self.data.clear();
        } else if !self.too_long {
            self.data.push(b'\n');
            self.data.extend_from_slice(value);
        }
    }

    fn dispatch(&mut self, borrowed: &mut Borrowed<'_>, emit: &mut dyn FnMut(Event<'_>)) {
        let data = borrowed.data.take().unwrap_or(&self.data);
        let name = borrowed.name.take().unwrap_or(&self.name);
        if self.too_long || data.len() > self.max_event_bytes {
            self.dropped += 1;
        } else if self.has_data {
            emit(Event { name: &text(name), data: &text(data), id: &self.id });
        }
        self.clear_event();
    }

    fn clear_event(&mut self) {
        self.data.clear();
        self.name.clear();
        self.has_data = false;
        self.too_long = false;
    }

    /// Copies what is borrowed from a chunk into the framer.
    fn settle(&mut self, borrowed: &mut Borrowed<'_>) {
        if let Some(data) = borrowed.data.take() {
            if data.len() > self.max_event_bytes {
                self.too_long = true;
            } else {
                self.data.clear();
                self.data.extend_from_slice(data);
            }
        }
        if let Some(name) = borrowed.name.take() {
            self.name.clear();
            self.name.extend_from_slice(name.get(..name.len().min(4096)).unwrap_or_default());
        }
    }

    fn keep_partial(&mut self, bytes: &[u8]) {
        // The few bytes of slack are for the field's name.
        if self.line.len() + bytes.len() > self.max_event_bytes.saturating_add(16) {
            self.too_long = true;
            // A comment stands for the dropped line: it is not empty and means nothing.
            self.line.clear();
            self.line.push(b':');
        } else {
            self.line.extend_from_slice(bytes);
        }
    }
}

/// Name and value at the first colon; the usual names without a search.
fn split_field(line: &[u8]) -> (&[u8], &[u8]) {
    for name in [&b"data:"[..], b"event:"] {
        if let Some(value) = line.strip_prefix(name) {
            return (name.split_last().map_or(name, |(_, name)| name), value);
        }
    }
    match memchr::memchr(b':', line) {
        Some(colon) => (line.get(..colon).unwrap_or_default(), line.get(colon + 1..).unwrap_or_default()),
        None => (line, &[]),
    }
}

fn text(bytes: &[u8]) -> Cow<'_, str> {
    // The check alone is several times as fast as looking for what is to be replaced.
    std::str::from_utf8(bytes).map_or_else(|_| String::from_utf8_lossy(bytes), Cow::Borrowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Owned = (String, String, String);

    fn cut(pieces: &[&[u8]]) -> Vec<Owned> {
        let mut framer = Framer::default();
        let mut events = Vec::new();
        let mut emit = |e: Event<'_>| events.push((e.name.to_owned(), e.data.to_owned(), e.id.to_owned()));
        for piece in pieces {
            framer.push(piece, &mut emit);
        }
        framer.finish(&mut emit);
        events
    }

    fn event(name: &str, data: &str, id: &str) -> Owned {
        (name.to_owned(), data.to_owned(), id.to_owned())
    }

    const MIXED: &str = "\u{FEFF}: hello\r\nevent: one\r\ndata: {\"a\":1}\r\n\r\ndata:x\rdata: y\r\rid: 7\nevent:two\ndata\n\n\
                         data: \u{2014}\u{1F600}\nretry: 5\nunknown\n\n\n\ndata:  two spaces\n\nevent: no data\n\ndata: last";

    fn expected() -> Vec<Owned> {
        vec![
            event("one", "{\"a\":1}", ""),
            event("", "x\ny", ""),
            event("two", "", "7"),
            event("", "\u{2014}\u{1F600}", "7"),
            event("", " two spaces", "7"),
            event("", "last", "7"),
        ]
    }

    #[test]
    fn every_kind_of_line_end_and_field_is_read() {
        assert_eq!(cut(&[MIXED.as_bytes()]), expected());
    }

    #[test]
    fn any_two_cuts_give_the_same_events() {
        let bytes = MIXED.as_bytes();
        for first in 0..=bytes.len() {
            for second in first..=bytes.len() {
                let pieces = [&bytes[..first], &bytes[first..second], &bytes[second..]];
                assert_eq!(cut(&pieces), expected(), "cut at {first} and {second}");
            }
        }
    }

    #[test]
    fn an_event_is_handed_on_with_its_last_byte() {
        for text in ["data: a\n\n", "data: a\r\r", "data: a\r\n\r"] {
            let mut seen = 0;
            Framer::default().push(text.as_bytes(), &mut |_| seen += 1);
            assert_eq!(seen, 1, "{text:?}");
        }
    }

    #[test]
    fn an_event_over_the_bound_is_dropped_and_counted_and_its_neighbours_stay() {
        let text = format!(
            "data: a\n\ndata: {}\n\ndata: b\n\ndata: {}\ndata: {}\n\ndata: c\n\n",
            "x".repeat(100),
            "y".repeat(40),
            "z".repeat(40)
        );
        for size in 1..text.len() {
            let mut framer = Framer::new(64);
            let mut data = Vec::new();
            for piece in text.as_bytes().chunks(size) {
                framer.push(piece, &mut |e| data.push(e.data.to_owned()));
            }
            assert_eq!(data, ["a", "b", "c"], "pieces of {size}");
            assert_eq!(framer.dropped(), 2);
        }
    }

    #[test]
    fn after_a_gap_the_next_whole_event_is_read() {
        let mut framer = Framer::default();
        let mut data = Vec::new();
        framer.push(b"event: a\ndata: {\"tex", &mut |e| data.push(e.data.to_owned()));
        framer.gap();
        framer.push(b"t\"}\n\nevent: b\ndata: whole\n\n", &mut |e| data.push(e.data.to_owned()));
        assert_eq!(data, ["whole"]);
    }
}
