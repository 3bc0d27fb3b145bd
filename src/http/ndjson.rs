//! Newline-delimited JSON: bytes of a body in, lines out. Must not parse the JSON.

use memchr::memchr;

/// Takes a body apart into its non-blank lines.
#[derive(Debug)]
pub struct Framer {
    max_line_bytes: usize,
    line: Vec<u8>,
    too_long: bool,
    dropped: u64,
}

impl Default for Framer {
    /// A framer that keeps lines of up to 16 MiB.
    fn default() -> Framer {
        Framer::new(16 << 20)
    }
}

impl Framer {
    /// A framer that drops (and counts) lines of more than `max_line_bytes`.
    pub fn new(max_line_bytes: usize) -> Framer {
        Framer { max_line_bytes, line: Vec::new(), too_long: false, dropped: 0 }
    }

    /// Takes the next bytes and hands on each line that they complete, without its end and the white space around it.
    pub fn push(&mut self, chunk: &[u8], emit: &mut dyn FnMut(&[u8])) {
        let mut rest = chunk;
        while let Some(end) = memchr(b'\n', rest) {
            let (line, after) = rest.split_at(end);
            rest = after.get(1..).unwrap_or_default();
            if self.line.is_empty() && !self.too_long && line.len() <= self.max_line_bytes {
                hand_on(line, emit);
            } else {
                self.keep(line);
                self.end_line(emit);
            }
        }
        self.keep(rest);
    }

    /// The body is over: what stands after the last line end is a line too.
    pub fn finish(&mut self, emit: &mut dyn FnMut(&[u8])) {
        self.end_line(emit);
    }

    /// Bytes are missing here: the line under way is lost.
    pub fn gap(&mut self) {
        self.line.clear();
        self.too_long = false;
    }

    /// How many lines were over the bound and dropped.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.too_long || self.line.len() + bytes.len() > self.max_line_bytes {
            self.too_long = true;
            self.line.clear();
        } else {
            self.line.extend_from_slice(bytes);
        }
    }

    fn end_line(&mut self, emit: &mut dyn FnMut(&[u8])) {
        if std::mem::take(&mut self.too_long) {
            self.dropped += 1;
        }
        hand_on(&self.line, emit);
        self.line.clear();
    }
}

fn hand_on(line: &[u8], emit: &mut dyn FnMut(&[u8])) {
    let line = line.trim_ascii();
    if !line.is_empty() {
        emit(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(max: usize, pieces: &[&[u8]]) -> (Vec<String>, u64) {
        let mut framer = Framer::new(max);
        let mut lines = Vec::new();
        let mut emit = |line: &[u8]| lines.push(String::from_utf8_lossy(line).into_owned());
        for piece in pieces {
            framer.push(piece, &mut emit);
        }
        framer.finish(&mut emit);
        (lines, framer.dropped())
    }

    #[test]
    fn any_cut_gives_the_same_lines() {
        let bytes = "{\"a\":\"\u{1F600}\"}\r\n\n  {\"b\":2}\n{\"c\":3}".as_bytes();
        for at in 0..=bytes.len() {
            let (lines, _) = cut(1 << 10, &[&bytes[..at], &bytes[at..]]);
            assert_eq!(lines, ["{\"a\":\"\u{1F600}\"}", "{\"b\":2}", "{\"c\":3}"], "cut at {at}");
        }
    }

    #[test]
    fn a_line_over_the_bound_is_dropped_and_counted() {
        let text = format!("a\n{}\nb\n", "x".repeat(50));
        for size in 1..text.len() {
            let pieces: Vec<&[u8]> = text.as_bytes().chunks(size).collect();
            assert_eq!(cut(10, &pieces), (vec!["a".to_owned(), "b".to_owned()], 1), "pieces of {size}");
        }
    }

    #[test]
    fn after_a_gap_the_next_line_is_read() {
        let mut framer = Framer::default();
        let mut lines = 0;
        framer.push(b"{\"a\":", &mut |_| lines += 1);
        framer.gap();
        framer.push(b"\n{}\n", &mut |_| lines += 1);
        assert_eq!(lines, 1);
    }
}
