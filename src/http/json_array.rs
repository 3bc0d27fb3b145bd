//! A JSON array as a stream (Gemini without `alt=sse`): bytes of a body in, the array's elements out, each as soon as
//! its last byte is there. Must not parse the JSON.
//!
//! Surprising fact: a body that is not an array is taken as a sequence of values, so that an error object, or values
//! without the brackets, come out too.

use memchr::memchr2;

/// Takes a JSON array apart into its elements.
#[derive(Debug)]
pub struct Framer {
    max_element_bytes: usize,
    /// The element under way, where it began in an earlier chunk.
    element: Vec<u8>,
    state: State,
    /// Depth of brackets inside the element under way.
    depth: u32,
    /// The outer bracket was seen.
    in_array: bool,
    too_long: bool,
    dropped: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Between elements.
    Between,
    /// In an element, outside of strings.
    Value,
    /// In a number or word that stands alone as an element.
    Scalar,
    /// In a string.
    Text,
    /// After a backslash in a string.
    Escape,
}

impl Default for Framer {
    /// A framer that keeps elements of up to 16 MiB.
    fn default() -> Framer {
        Framer::new(16 << 20)
    }
}

impl Framer {
    /// A framer that drops (and counts) elements of more than `max_element_bytes`.
    pub fn new(max_element_bytes: usize) -> Framer {
        Framer {
            max_element_bytes,
            element: Vec::new(),
            state: State::Between,
            depth: 0,
            in_array: false,
            too_long: false,
            dropped: 0,
        }
    }

    /// Takes the next bytes and hands on each element that they complete.
    pub fn push(&mut self, chunk: &[u8], emit: &mut dyn FnMut(&[u8])) {
        let mut from = 0;
        let mut at = 0;
        while let Some(&byte) = chunk.get(at) {
            match self.state {
                State::Between => {
                    from = at;
                    if !self.begin(byte) {
                        at += 1;
                        continue;
                    }
                }
                State::Value => self.step(byte),
                State::Scalar => {
                    if matches!(byte, b',' | b']' | b' ' | b'\t' | b'\r' | b'\n') {
                        self.end(chunk.get(from..at).unwrap_or_default(), emit);
                        continue;
                    }
                }
                State::Text => {
                    let rest = chunk.get(at..).unwrap_or_default();
                    match memchr2(b'"', b'\\', rest) {
                        None => {
                            at = chunk.len();
                            break;
                        }
                        Some(skip) => {
                            at += skip;
                            let quote = rest.get(skip) == Some(&b'"');
                            self.state = if quote { State::Value } else { State::Escape };
                        }
                    }
                }
                State::Escape => self.state = State::Text,
            }
            at += 1;
            if self.state == State::Value && self.depth == 0 {
                self.end(chunk.get(from..at).unwrap_or_default(), emit);
            }
        }
        if self.state != State::Between {
            self.keep(chunk.get(from..at).unwrap_or_default());
        }
    }

    /// The body is over. A number or word at the very end is an element; a cut one is not.
    pub fn finish(&mut self, emit: &mut dyn FnMut(&[u8])) {
        if self.state == State::Scalar {
            self.end(&[], emit);
        }
        self.gap();
    }

    /// Bytes are missing here: the element under way is lost, and the next `{` at the start of a line begins a new one.
    pub fn gap(&mut self) {
        self.element.clear();
        self.state = State::Between;
        self.depth = 0;
        self.in_array = true;
        self.too_long = false;
    }

    /// How many elements were over the bound and dropped.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Reads a byte between elements; true when it begins one.
    fn begin(&mut self, byte: u8) -> bool {
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' | b',' | b']' | b'}' | 0xEF | 0xBB | 0xBF => return false,
            b'[' if !self.in_array => {
                self.in_array = true;
                return false;
            }
            b'{' | b'[' => {
                self.in_array = true;
                self.depth = 1;
                self.state = State::Value;
            }
            b'"' => {
                self.in_array = true;
                self.depth = 0;
                self.state = State::Text;
            }
            _ => self.state = State::Scalar,
        }
        true
    }

    fn step(&mut self, byte: u8) {
        match byte {
            b'{' | b'[' => self.depth = self.depth.saturating_add(1),
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            b'"' => self.state = State::Text,
            _ => {}
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.too_long || self.element.len() + bytes.len() > self.max_element_bytes {
            self.too_long = true;
            self.element.clear();
        } else {
            self.element.extend_from_slice(bytes);
        }
    }

    fn end(&mut self, last: &[u8], emit: &mut dyn FnMut(&[u8])) {
        self.state = State::Between;
        if self.element.is_empty() && !self.too_long && last.len() <= self.max_element_bytes {
            return emit(last);
        }
        self.keep(last);
        if std::mem::take(&mut self.too_long) {
            self.dropped += 1;
        } else {
            emit(&self.element);
        }
        self.element.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(max: usize, pieces: &[&[u8]]) -> (Vec<String>, u64) {
        let mut framer = Framer::new(max);
        let mut elements = Vec::new();
        let mut emit = |element: &[u8]| elements.push(String::from_utf8_lossy(element).into_owned());
        for piece in pieces {
            framer.push(piece, &mut emit);
        }
        framer.finish(&mut emit);
        (elements, framer.dropped())
    }

    #[test]
    fn any_cut_gives_the_same_elements() {
        let bytes =
            "[{\"a\":\"]}\\\"\u{1F600}\"},\r\n{\"b\":[1,{\"c\":[]}]}\n, 12 ,\"s,\\\\\",[\"in\"], null]\n".as_bytes();
        let expected =
            ["{\"a\":\"]}\\\"\u{1F600}\"}", "{\"b\":[1,{\"c\":[]}]}", "12", "\"s,\\\\\"", "[\"in\"]", "null"];
        for first in 0..=bytes.len() {
            for second in first..=bytes.len() {
                let (elements, _) = cut(1 << 10, &[&bytes[..first], &bytes[first..second], &bytes[second..]]);
                assert_eq!(elements, expected, "cut at {first} and {second}");
            }
        }
    }

    #[test]
    fn a_body_that_is_no_array_is_a_sequence_of_values() {
        assert_eq!(cut(1 << 10, &[b"{\"error\":1}"]).0, ["{\"error\":1}"]);
        assert_eq!(cut(1 << 10, &[b"{} {}\n7"]).0, ["{}", "{}", "7"]);
    }

    #[test]
    fn an_element_over_the_bound_is_dropped_and_counted() {
        let text = format!("[{{}},{{\"a\":\"{}\"}},[]]", "x".repeat(50));
        for size in 1..text.len() {
            let pieces: Vec<&[u8]> = text.as_bytes().chunks(size).collect();
            assert_eq!(cut(10, &pieces), (vec!["{}".to_owned(), "[]".to_owned()], 1), "pieces of {size}");
        }
    }

    #[test]
    fn a_cut_element_is_not_handed_on() {
        assert!(cut(100, &[b"[{\"a\":"]).0.is_empty());
    }
}
