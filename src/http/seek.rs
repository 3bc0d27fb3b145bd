//! Finds where an HTTP/1 message begins: at the front of some bytes, or somewhere in the middle of a stream met late or
//! damaged.
//!
//! Surprising fact: JSON bodies that quote HTTP do not mislead, because JSON escapes the line end that a start line needs.

use memchr::{memchr, memmem};

use crate::http::Side;

/// How many bytes before the unread ones may belong to a start line that is not complete yet.
pub(super) const TAIL_BYTES: usize = 8 << 10;

const METHODS: [&[u8]; 9] = [b"GET", b"POST", b"PUT", b"HEAD", b"DELETE", b"OPTIONS", b"PATCH", b"CONNECT", b"TRACE"];
const VERSION: &[u8] = b"HTTP/1.";

/// Whether a message of one side begins here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Begins {
    Yes,
    /// What is there fits; more is needed to be sure.
    Maybe,
    No,
}

/// Does a message of `side` begin at the front of `bytes`?
pub(super) fn begins(side: Side, bytes: &[u8]) -> Begins {
    match side {
        Side::Request => begins_request(bytes),
        Side::Response => begins_response(bytes),
    }
}

fn begins_request(bytes: &[u8]) -> Begins {
    let method_len = bytes.iter().take_while(|byte| byte.is_ascii_uppercase() || **byte == b'-').count();
    let rest = bytes.get(method_len..).unwrap_or_default();
    if method_len > 20 {
        return Begins::No;
    }
    let Some((b' ', target)) = rest.split_first() else {
        return if rest.is_empty() { Begins::Maybe } else { Begins::No };
    };
    if method_len < 3 {
        return Begins::No;
    }
    let Some(line_end) = memchr(b'\n', target) else {
        let printable =
            target.iter().take(64).all(|&byte| byte > b' ' && byte != 0x7f || byte == b' ' || byte == b'\r');
        return if printable { Begins::Maybe } else { Begins::No };
    };
    let line = target.get(..line_end).unwrap_or_default().trim_ascii();
    let split = line.len().saturating_sub(VERSION.len() + 1);
    let (target, version) = line.split_at(split);
    let target = target.trim_ascii_end();
    match version.split_last() {
        Some((minor, before)) if before == VERSION && minor.is_ascii_digit() => {
            let one_word = !target.is_empty() && target.len() < split && memchr(b' ', target).is_none();
            if one_word { Begins::Yes } else { Begins::No }
        }
        _ => Begins::No,
    }
}

fn begins_response(bytes: &[u8]) -> Begins {
    let shape = b"HTTP/1.d ddd";
    for (position, kind) in shape.iter().enumerate() {
        let Some(byte) = bytes.get(position) else { return Begins::Maybe };
        let fits = if *kind == b'd' { byte.is_ascii_digit() } else { byte == kind };
        if !fits {
            return Begins::No;
        }
    }
    match bytes.get(shape.len()) {
        None => Begins::Maybe,
        Some(b' ' | b'\r' | b'\n') => Begins::Yes,
        Some(_) => Begins::No,
    }
}

/// The first position where a whole start line stands and a header or the blank line seems to follow. `want` limits the
/// search to one side.
pub(super) fn find(bytes: &[u8], want: Option<Side>) -> Option<(usize, Side)> {
    memmem::find_iter(bytes, VERSION).find_map(|at| {
        if want != Some(Side::Request) && is_status_line(bytes.get(at..)?) && head_follows(bytes, at) {
            return Some((at, Side::Response));
        }
        if want == Some(Side::Response) {
            return None;
        }
        let start = request_start(bytes, at)?;
        (begins_request(bytes.get(start..)?) == Begins::Yes && head_follows(bytes, start))
            .then_some((start, Side::Request))
    })
}

/// A whole status line, with a reason phrase that is one.
fn is_status_line(bytes: &[u8]) -> bool {
    let Some(line) = memchr(b'\n', bytes).and_then(|end| bytes.get(..end)) else { return false };
    let reason = line.get("HTTP/1.1 200".len()..).unwrap_or_default().trim_ascii_end();
    let phrase = |byte: &u8| byte.is_ascii_alphanumeric() || b" '-_.,()/!:".contains(byte);
    begins_response(bytes) == Begins::Yes && reason.len() <= 80 && reason.iter().all(phrase)
}

/// Where the request line that has its version at `version` begins: the last method before it on the line.
fn request_start(bytes: &[u8], version: usize) -> Option<usize> {
    let before = bytes.get(version.saturating_sub(TAIL_BYTES)..version)?;
    let line =
        before.iter().rposition(|&byte| byte == b'\n').map_or(before, |at| before.get(at + 1..).unwrap_or_default());
    let line_at = version - line.len();
    // "METHOD target " and nothing else: two spaces.
    let target_end = line.strip_suffix(b" ")?;
    let space = target_end.iter().rposition(|&byte| byte == b' ')?;
    let word = line.get(..space)?;
    METHODS
        .iter()
        .filter(|method| word.ends_with(method))
        .map(|method| line_at + space - method.len())
        .next()
        .or_else(|| (begins_request(bytes.get(line_at..)?) == Begins::Yes).then_some(line_at))
}

/// After the line that begins at `at`: what is there of the next line could be a header's name, or is blank.
fn head_follows(bytes: &[u8], at: usize) -> bool {
    let rest = bytes.get(at..).unwrap_or_default();
    let Some(line_end) = memchr(b'\n', rest) else { return false };
    let next = rest.get(line_end + 1..).unwrap_or_default();
    let name = next.iter().take_while(|byte| byte.is_ascii_alphanumeric() || b"-_.!#$%&'*+^`|~".contains(byte)).count();
    match next.get(name) {
        None => true,
        Some(b':' | b' ') => name > 0,
        Some(b'\r' | b'\n') => name == 0,
        Some(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_known_by_its_first_bytes() {
        for (text, request, response) in [
            ("POST /v1/messages HTTP/1.1\r\n", Begins::Yes, Begins::No),
            ("POST /v1/mess", Begins::Maybe, Begins::No),
            ("PO", Begins::Maybe, Begins::No),
            ("POST {\"a\": 1}\r\n", Begins::No, Begins::No),
            ("HTTP/1.1 200 OK\r\n", Begins::No, Begins::Yes),
            ("HTTP/1.1 200\n", Begins::No, Begins::Yes),
            ("HTTP/1.", Begins::No, Begins::Maybe),
            ("{\"a\":1}", Begins::No, Begins::No),
            ("\x16\x03\x01", Begins::No, Begins::No),
        ] {
            assert_eq!(begins(Side::Request, text.as_bytes()), request, "{text:?}");
            assert_eq!(begins(Side::Response, text.as_bytes()), response, "{text:?}");
        }
    }

    #[test]
    fn a_message_is_found_behind_the_end_of_a_body() {
        let body = b"quoted \\r\\nPOST /a HTTP/1.1\\r\\nHTTP/1.1 200 OK} ";
        for (message, side) in [
            ("POST /b HTTP/1.1\r\nhost: x\r\n", Side::Request),
            ("PROPFIND /b HTTP/1.1\r\n\r\n", Side::Request),
            ("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n", Side::Response),
        ] {
            let mut bytes = body.to_vec();
            if message.starts_with("PROP") {
                bytes.push(b'\n');
            }
            let at = bytes.len();
            bytes.extend(message.bytes());
            assert_eq!(find(&bytes, None), Some((at, side)), "{message:?}");
            assert_eq!(find(&bytes, Some(side)), Some((at, side)));
        }
        assert_eq!(find(body, None), None);
    }

    #[test]
    fn a_sentence_about_http_is_no_message() {
        assert_eq!(find(b"try GET /x HTTP/1.1\n\twith care", None), None);
        assert_eq!(find(b"the answer HTTP/1.1 200 OK\n(as text)", None), None);
    }
}
