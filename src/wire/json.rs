//! A raw JSON value: a slice of the body that is looked into, not parsed. Requests of agents are hundreds of kilobytes
//! of which a call needs a few strings; walking the bytes costs a fraction of building a tree, and a body that was cut in
//! the middle can still be read up to the cut.
//!
//! Must not recurse along the data (only [`Raw::value`] builds trees, to a fixed depth), and must not judge: what cannot be
//! read is `None`. The one surprising fact: brackets are only counted, so a document with mismatched ones is read as far as it makes sense.

use std::borrow::Cow;

use memchr::memchr;
use serde_json::{Map, Number, Value};

/// How deep [`Raw::value`] builds a tree; deeper values are not read.
const MAX_DEPTH: usize = 120;

/// One JSON value in a slice, white space around it taken off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Raw<'a>(&'a [u8]);

/// The place of a value in memory. Only compared, never read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Span {
    address: usize,
    len: usize,
}

/// What a value is, by its first byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Object,
    Array,
    String,
    Number,
    Bool,
    Null,
    Bad,
}

impl<'a> Raw<'a> {
    pub(crate) fn new(text: &'a [u8]) -> Raw<'a> {
        let text = text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(text);
        Raw(text.trim_ascii())
    }

    pub(crate) fn bytes(self) -> &'a [u8] {
        self.0
    }

    pub(crate) fn kind(self) -> Kind {
        match self.0.first() {
            Some(b'{') => Kind::Object,
            Some(b'[') => Kind::Array,
            Some(b'"') => Kind::String,
            Some(b'0'..=b'9' | b'-') => Kind::Number,
            Some(b't' | b'f') => Kind::Bool,
            Some(b'n') => Kind::Null,
            _ => Kind::Bad,
        }
    }

    pub(crate) fn is_null(self) -> bool {
        self.kind() == Kind::Null
    }

    pub(crate) fn is_object(self) -> bool {
        self.kind() == Kind::Object
    }

    pub(crate) fn is_array(self) -> bool {
        self.kind() == Kind::Array
    }

    /// The fields of an object in order; none for anything else.
    pub(crate) fn fields(self) -> Fields<'a> {
        Fields { text: self.0, at: usize::from(self.is_object()), over: !self.is_object() }
    }

    /// The elements of an array in order; none for anything else. An element that was cut is left out.
    pub(crate) fn elements(self) -> Elements<'a> {
        Elements { text: self.0, at: 1, over: !self.is_array() }
    }

    /// A field of an object.
    pub(crate) fn get(self, key: &str) -> Option<Raw<'a>> {
        self.fields().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// A field of an object that is there and not null.
    pub(crate) fn some(self, key: &str) -> Option<Raw<'a>> {
        self.get(key).filter(|value| !value.is_null())
    }

    /// A field of an object of an object ...
    pub(crate) fn path(self, keys: &[&str]) -> Option<Raw<'a>> {
        keys.iter().try_fold(self, |value, key| value.get(key)).filter(|value| !value.is_null())
    }

    /// A string's text; escapes undone, lone surrogates replaced.
    pub(crate) fn text(self) -> Option<Cow<'a, str>> {
        let inner = self.0.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
        if !has_backslash(inner) {
            return Some(utf8(inner));
        }
        Some(Cow::Owned(unescape(inner)))
    }

    pub(crate) fn string(self) -> Option<String> {
        self.text().map(Cow::into_owned)
    }

    /// A string field's text.
    pub(crate) fn str_of(self, key: &str) -> Option<Cow<'a, str>> {
        self.get(key)?.text()
    }

    /// A count: a number that is not negative.
    pub(crate) fn u64(self) -> Option<u64> {
        let text = std::str::from_utf8(self.0).ok()?;
        text.parse().ok().or_else(|| {
            let float: f64 = text.parse().ok()?;
            (0.0..1e18).contains(&float).then_some(float as u64)
        })
    }

    pub(crate) fn bool(self) -> Option<bool> {
        match self.0 {
            b"true" => Some(true),
            b"false" => Some(false),
            _ => None,
        }
    }

    /// Where this value lies in memory: to find it again in the one that it was taken from.
    pub(crate) fn span(self) -> Span {
        Span { address: self.0.as_ptr() as usize, len: self.0.len() }
    }

    /// What stands before and after a string that was taken from this value; `None` for any other span.
    pub(crate) fn around(self, span: Span) -> Option<(&'a [u8], &'a [u8])> {
        let start = span.address.checked_sub(self.0.as_ptr() as usize)?;
        let (before, rest) = self.0.split_at_checked(start)?;
        let (_, after) = rest.split_at_checked(span.len)?;
        (skip_string(rest, 0) == Some(span.len)).then_some((before, after))
    }

    /// The value as a tree; `None` when it is no JSON or too deep.
    pub(crate) fn value(self) -> Option<Value> {
        let read = serde_json::from_slice(self.0).ok();
        read.or_else(|| if is_deep(self.0) { None } else { self.lenient(0) })
    }

    /// What serde refuses and agents do send: lone surrogates, bytes that are not UTF-8.
    fn lenient(self, depth: usize) -> Option<Value> {
        if depth > MAX_DEPTH {
            return None;
        }
        match self.kind() {
            Kind::Object => {
                let mut map = Map::new();
                for (key, value) in self.fields() {
                    map.insert(key.into_owned(), value.lenient(depth + 1)?);
                }
                self.0.ends_with(b"}").then_some(Value::Object(map))
            }
            Kind::Array => {
                let elements: Option<Vec<Value>> = self.elements().map(|element| element.lenient(depth + 1)).collect();
                elements.filter(|_| self.0.ends_with(b"]")).map(Value::Array)
            }
            Kind::String => self.string().map(Value::String),
            Kind::Number => serde_json::from_slice::<Number>(self.0).ok().map(Value::Number),
            Kind::Bool => self.bool().map(Value::Bool),
            Kind::Null => (self.0 == b"null").then_some(Value::Null),
            Kind::Bad => None,
        }
    }

    /// The value as text where text is wanted: a string's text, else the JSON itself.
    pub(crate) fn display(self) -> String {
        self.string().unwrap_or_else(|| String::from_utf8_lossy(self.0).into_owned())
    }
}

/// Bytes as text. The check alone is several times as fast as looking for what is to be replaced.
fn utf8(bytes: &[u8]) -> Cow<'_, str> {
    std::str::from_utf8(bytes).map_or_else(|_| String::from_utf8_lossy(bytes), Cow::Borrowed)
}

/// The fields of an object.
pub(crate) struct Fields<'a> {
    text: &'a [u8],
    at: usize,
    over: bool,
}

impl<'a> Fields<'a> {
    /// The next field; `known` may tell the length of a value (by key and what follows) to save the walk over it.
    pub(crate) fn next_with(
        &mut self,
        known: impl FnOnce(&str, &'a [u8]) -> Option<usize>,
    ) -> Option<(Cow<'a, str>, Raw<'a>)> {
        if self.over {
            return None;
        }
        let field = self.step(known);
        self.over |= field.is_none();
        field
    }

    fn step(&mut self, known: impl FnOnce(&str, &'a [u8]) -> Option<usize>) -> Option<(Cow<'a, str>, Raw<'a>)> {
        let mut at = skip_space(self.text, self.at);
        if self.text.get(at) == Some(&b',') {
            at = skip_space(self.text, at + 1);
        }
        let key_end = skip_string(self.text, at)?;
        let key = Raw(self.text.get(at..key_end)?).text()?;
        let colon = skip_space(self.text, key_end);
        if self.text.get(colon) != Some(&b':') {
            return None;
        }
        let start = skip_space(self.text, colon + 1);
        let rest = self.text.get(start..)?;
        let end = known(&key, rest).map(|len| start + len).or_else(|| skip_value(self.text, start));
        match end {
            Some(end) => {
                self.at = end;
                Some((key, Raw(self.text.get(start..end)?)))
            }
            // Cut in the middle of a container: what is there of it can be read.
            None if matches!(rest.first(), Some(b'{' | b'[')) => {
                self.over = true;
                Some((key, Raw(rest)))
            }
            None => None,
        }
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = (Cow<'a, str>, Raw<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        self.next_with(|_, _| None)
    }
}

/// The elements of an array.
pub(crate) struct Elements<'a> {
    text: &'a [u8],
    at: usize,
    over: bool,
}

impl<'a> Elements<'a> {
    /// The elements from a position on that lies right behind an earlier element.
    pub(crate) fn resume(array: Raw<'a>, at: usize) -> Elements<'a> {
        Elements { text: array.0, at, over: !array.is_array() }
    }

    /// Where the last element ended.
    pub(crate) fn position(&self) -> usize {
        self.at
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = Raw<'a>;

    fn next(&mut self) -> Option<Raw<'a>> {
        if self.over {
            return None;
        }
        let mut start = skip_space(self.text, self.at);
        if self.text.get(start) == Some(&b',') {
            start = skip_space(self.text, start + 1);
        }
        let Some(end) = skip_value(self.text, start) else {
            self.over = true;
            return None;
        };
        self.at = end;
        self.text.get(start..end).map(Raw)
    }
}

/// The end of the first value of `text`, when it is whole.
pub(crate) fn value_len(text: &[u8]) -> Option<usize> {
    skip_value(text, 0)
}

/// The end of an array whose inside is entered at `at`, when it is whole.
pub(crate) fn array_end(text: &[u8], at: usize) -> Option<usize> {
    skip_nested(text, at)
}

fn skip_space(text: &[u8], mut at: usize) -> usize {
    while matches!(text.get(at), Some(b' ' | b'\n' | b'\r' | b'\t')) {
        at += 1;
    }
    at
}

/// The end of the value at `at`; `None` when there is none or it is cut.
fn skip_value(text: &[u8], at: usize) -> Option<usize> {
    match text.get(at)? {
        b'"' => skip_string(text, at),
        b'{' | b'[' => skip_nested(text, at + 1),
        b'}' | b']' | b',' | b':' => None,
        _ => {
            let rest = text.get(at..)?;
            let len = rest
                .iter()
                .position(|byte| matches!(byte, b',' | b'}' | b']' | b' ' | b'\n' | b'\r' | b'\t'))
                .unwrap_or(rest.len());
            Some(at + len)
        }
    }
}

/// The end of the container that is open at `at`.
fn skip_nested(text: &[u8], mut at: usize) -> Option<usize> {
    let mut depth = 1_usize;
    loop {
        match text.get(at)? {
            b'"' => {
                at = skip_string(text, at)?;
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
        at += 1;
    }
}

/// True when containers stand in one another deeper than trees are built: found in one walk, before anybody descends.
fn is_deep(text: &[u8]) -> bool {
    let (mut at, mut depth) = (0, 0_usize);
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => {
                let Some(end) = skip_string(text, at) else { return false };
                at = end;
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return true;
        }
        at += 1;
    }
    false
}

/// Strings up to this length are walked byte by byte, which costs less than beginning a search; most are keys and tokens.
const SHORT: usize = 24;

fn has_backslash(inner: &[u8]) -> bool {
    if inner.len() > SHORT {
        return memchr(b'\\', inner).is_some();
    }
    inner.contains(&b'\\')
}

/// The end of the string at `at`. Looks for quotes only: texts are full of other escapes.
fn skip_string(text: &[u8], at: usize) -> Option<usize> {
    if text.get(at) != Some(&b'"') {
        return None;
    }
    let start = at + 1;
    let near = text.get(start..)?;
    let near = near.get(..SHORT).unwrap_or(near);
    if let Some(end) = near.iter().position(|byte| matches!(byte, b'"' | b'\\'))
        && near.get(end) == Some(&b'"')
    {
        return Some(start + end + 1);
    }
    let mut from = start;
    loop {
        let quote = from + memchr(b'"', text.get(from..)?)?;
        let inside = text.get(start..quote)?;
        let slashes = inside.iter().rev().take_while(|byte| **byte == b'\\').count();
        if slashes % 2 == 0 {
            return Some(quote + 1);
        }
        from = quote + 1;
    }
}

/// Undoes escapes; what is no escape stays, a lone surrogate becomes U+FFFD.
fn unescape(inner: &[u8]) -> String {
    let mut out: Vec<u8> = Vec::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(slash) = memchr(b'\\', rest) {
        let (plain, tail) = rest.split_at(slash);
        out.extend_from_slice(plain);
        let used = match tail.get(1) {
            Some(b'n') => push(&mut out, b'\n'),
            Some(b't') => push(&mut out, b'\t'),
            Some(b'r') => push(&mut out, b'\r'),
            Some(b'b') => push(&mut out, 8),
            Some(b'f') => push(&mut out, 12),
            Some(b'u') => unescape_unicode(tail, &mut out),
            Some(&other) => push(&mut out, other),
            None => push(&mut out, b'\\') - 1,
        };
        rest = tail.get(used..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
    String::from_utf8(out).unwrap_or_else(|bad| String::from_utf8_lossy(bad.as_bytes()).into_owned())
}

fn push(out: &mut Vec<u8>, byte: u8) -> usize {
    out.push(byte);
    2
}

/// Undoes one `\uXXXX`, or a pair of them; returns how many bytes it took.
fn unescape_unicode(tail: &[u8], out: &mut Vec<u8>) -> usize {
    let unit = |at: usize| -> Option<u32> {
        let digits = tail.get(at..at + 4)?;
        digits.iter().try_fold(0, |sum, digit| Some(sum * 16 + char::from(*digit).to_digit(16)?))
    };
    let Some(first) = unit(2) else {
        out.extend_from_slice("\u{FFFD}".as_bytes());
        return 2;
    };
    let second = if tail.get(6..8) == Some(br"\u") { unit(8) } else { None };
    let (code, used) = match (first, second) {
        (0xD800..=0xDBFF, Some(low @ 0xDC00..=0xDFFF)) => (0x10000 + ((first - 0xD800) << 10) + (low - 0xDC00), 12),
        _ => (first, 6),
    };
    let character = char::from_u32(code).unwrap_or('\u{FFFD}');
    out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
    used
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_and_elements_are_walked() {
        let raw = Raw::new(br#" {"a" : [1, {"b":"]}"} , "x\"y"], "c":{"d":null},"e":-1.5e3,"f":true} "#);
        let keys: Vec<String> = raw.fields().map(|(key, _)| key.into_owned()).collect();
        assert_eq!(keys, ["a", "c", "e", "f"]);
        let elements: Vec<&[u8]> = raw.get("a").into_iter().flat_map(Raw::elements).map(Raw::bytes).collect();
        assert_eq!(elements, [&b"1"[..], br#"{"b":"]}"}"#, br#""x\"y""#]);
        assert!(raw.path(&["c", "d"]).is_none());
        assert_eq!(raw.get("f").and_then(Raw::bool), Some(true));
    }

    #[test]
    fn text_is_that_of_serde() {
        for json in [r#""plain""#, r#""a\n\t\"\\\/\u00e9\ud83d\ude00 \u2014""#, r#""""#, "\"\u{2014}\""] {
            let expected: String = serde_json::from_str(json).unwrap();
            assert_eq!(Raw::new(json.as_bytes()).string(), Some(expected), "{json}");
        }
        assert_eq!(Raw::new(br#""x\ud83d y\udc00\u12""#).string().as_deref(), Some("x\u{FFFD} y\u{FFFD}\u{FFFD}12"));
    }

    #[test]
    fn a_lone_surrogate_does_not_lose_the_value() {
        let raw = Raw::new(br#"{"a":["\ud83d",1,true,null]}"#);
        assert_eq!(raw.value(), Some(serde_json::json!({"a": ["\u{FFFD}", 1, true, null]})));
    }

    #[test]
    fn every_cut_is_read_up_to_the_cut() {
        let text = br#"{"m":[{"r":"u"},{"r":"a\\\"b"}],"k":"v","n":12}"#;
        for end in 0..=text.len() {
            let raw = Raw::new(&text[..end]);
            let count = raw.fields().count();
            assert!(count <= 3);
            let elements = raw.get("m").map_or(0, |m| m.elements().count());
            assert_eq!(elements, usize::from(end > 14) + usize::from(end > 29), "cut at {end}");
        }
    }

    #[test]
    fn a_depth_bomb_is_refused() {
        let bomb = "[".repeat(100_000) + &"]".repeat(100_000);
        assert_eq!(Raw::new(bomb.as_bytes()).value(), None);
        assert_eq!(value_len(bomb.as_bytes()), Some(bomb.len()));
    }

    #[test]
    fn counts_are_numbers() {
        assert_eq!(Raw::new(b"12").u64(), Some(12));
        assert_eq!(Raw::new(b"12.0").u64(), Some(12));
        assert_eq!(Raw::new(b"-1").u64(), None);
        assert_eq!(Raw::new(b"\"12\"").u64(), None);
        assert_eq!(Raw::new(b"null").u64(), None);
    }
}
