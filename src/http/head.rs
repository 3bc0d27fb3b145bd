//! HTTP/1 heads: where one ends, and what it says. Tolerant of bare LF, folded lines and lines that are no header.

use std::borrow::Cow;

use memchr::{memchr_iter, memmem};

use crate::http::{Header, Side};

/// A parsed head.
#[derive(Debug)]
pub(super) struct Head {
    pub start: Start,
    pub headers: Vec<Header>,
}

#[derive(Debug)]
pub(super) enum Start {
    Request { method: String, target: String },
    Response { status: u16 },
}

/// How a body's end is found (RFC 9112 section 6.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Framing {
    Length(u64),
    Chunked,
    UntilClose,
}

/// Heads with more headers than this go through the heap.
const USUAL_HEADERS: usize = 64;

/// The position after the blank line, looking from `from` on.
pub(super) fn find_end(bytes: &[u8], from: usize) -> Option<usize> {
    let rest = bytes.get(from..)?;
    memchr_iter(b'\n', rest).find_map(|at| match rest.get(at + 1..)? {
        [b'\n', ..] => Some(from + at + 2),
        [b'\r', b'\n', ..] => Some(from + at + 3),
        _ => None,
    })
}

/// Reads a whole head, the blank line included. `None` when its start line is none.
pub(super) fn parse(side: Side, bytes: &[u8]) -> Option<Head> {
    let bytes = unfold(bytes);
    let lines = memchr_iter(b'\n', &bytes).count();
    if lines <= USUAL_HEADERS {
        parse_into(side, &bytes, &mut [httparse::EMPTY_HEADER; USUAL_HEADERS])
    } else {
        parse_into(side, &bytes, &mut vec![httparse::EMPTY_HEADER; lines])
    }
}

fn parse_into<'b>(side: Side, bytes: &'b [u8], room: &mut [httparse::Header<'b>]) -> Option<Head> {
    let mut config = httparse::ParserConfig::default();
    config
        .allow_multiple_spaces_in_request_line_delimiters(true)
        .allow_multiple_spaces_in_response_status_delimiters(true)
        .allow_spaces_after_header_name_in_responses(true)
        .allow_space_before_first_header_name(true)
        .ignore_invalid_headers_in_requests(true)
        .ignore_invalid_headers_in_responses(true);
    match side {
        Side::Request => {
            let mut request = httparse::Request::new(room);
            config.parse_request(&mut request, bytes).ok()?.is_complete().then_some(())?;
            let start = Start::Request { method: request.method?.to_owned(), target: request.path?.to_owned() };
            Some(Head { start, headers: owned(request.headers) })
        }
        Side::Response => {
            let mut response = httparse::Response::new(room);
            config.parse_response(&mut response, bytes).ok()?.is_complete().then_some(())?;
            let start = Start::Response { status: response.code? };
            Some(Head { start, headers: owned(response.headers) })
        }
    }
}

fn owned(headers: &[httparse::Header<'_>]) -> Vec<Header> {
    headers
        .iter()
        .map(|header| Header {
            name: header.name.to_owned(),
            value: String::from_utf8_lossy(header.value.trim_ascii()).into_owned(),
        })
        .collect()
}

/// Joins folded lines (RFC 9112 section 5.2): a line end followed by white space becomes one space.
fn unfold(bytes: &[u8]) -> Cow<'_, [u8]> {
    if memmem::find(bytes, b"\n ").is_none() && memmem::find(bytes, b"\n\t").is_none() {
        return Cow::Borrowed(bytes);
    }
    let mut joined: Vec<u8> = Vec::with_capacity(bytes.len());
    for line in bytes.split_inclusive(|&byte| byte == b'\n') {
        if line.first().is_some_and(|byte| matches!(byte, b' ' | b'\t')) && !joined.is_empty() {
            joined.truncate(joined.trim_ascii_end().len());
            joined.push(b' ');
            joined.extend_from_slice(line.trim_ascii_start());
            if line.trim_ascii().is_empty() {
                joined.extend_from_slice(b"\r\n");
            }
        } else {
            joined.extend_from_slice(line);
        }
    }
    Cow::Owned(joined)
}

impl Head {
    /// The framing of a body that follows; `None` where the headers name none. `Err` when they contradict themselves.
    pub fn framing(&self) -> Result<Option<Framing>, ()> {
        let all = |name: &'static str| {
            self.headers
                .iter()
                .filter(move |header| header.name.eq_ignore_ascii_case(name))
                .flat_map(|header| header.value.split(','))
                .map(str::trim)
        };
        if let Some(last) =
            all("transfer-encoding").rfind(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case("identity"))
        {
            return Ok(Some(if last.eq_ignore_ascii_case("chunked") { Framing::Chunked } else { Framing::UntilClose }));
        }
        let mut length = None;
        for value in all("content-length") {
            let value: u64 = value.parse().map_err(drop)?;
            if length.replace(value).is_some_and(|before| before != value) {
                return Err(());
            }
        }
        Ok(length.map(Framing::Length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(head: &Head) -> Vec<(&str, &str)> {
        head.headers.iter().map(|h| (h.name.as_str(), h.value.as_str())).collect()
    }

    #[test]
    fn folded_lower_case_and_bare_lf_headers_are_read() {
        let bytes = b"GET /x HTTP/1.1\nhost: a\r\nX-Folded: one\r\n  two\n\tthree\r\nempty:\r\nno colon here\r\nLast: \xff z \r\n\r\n";
        let head = parse(Side::Request, bytes).expect("a head");
        assert_eq!(
            headers(&head),
            [("host", "a"), ("X-Folded", "one two three"), ("empty", ""), ("Last", "\u{FFFD} z")]
        );
    }

    #[test]
    fn three_hundred_headers_and_a_line_of_64_kib_are_read() {
        let mut bytes = b"HTTP/1.1 200\r\n".to_vec();
        for n in 0..300 {
            bytes.extend(format!("x-{n}: {n}\r\n").bytes());
        }
        bytes.extend(format!("long: {}\r\n\r\n", "v".repeat(64 << 10)).bytes());
        let head = parse(Side::Response, &bytes).expect("a head");
        assert_eq!(head.headers.len(), 301);
        assert_eq!(head.headers[300].value.len(), 64 << 10);
    }

    #[test]
    fn a_head_ends_after_its_blank_line_only() {
        for (text, end) in
            [("a\r\n\r\nb", Some(5)), ("a\n\nb", Some(3)), ("a\r\n\nb", Some(4)), ("a\r\nb\r\n", None), ("a\n\r", None)]
        {
            assert_eq!(find_end(text.as_bytes(), 0), end, "{text:?}");
        }
    }

    #[test]
    fn framing_follows_the_headers() {
        let framing = |lines: &str| {
            let text = format!("HTTP/1.1 200 OK\r\n{lines}\r\n");
            parse(Side::Response, text.as_bytes()).expect("a head").framing()
        };
        assert_eq!(framing(""), Ok(None));
        assert_eq!(framing("content-length: 5\r\n"), Ok(Some(Framing::Length(5))));
        assert_eq!(framing("content-length: 5, 5\r\nContent-Length: 5\r\n"), Ok(Some(Framing::Length(5))));
        assert_eq!(framing("content-length: 5\r\nContent-Length: 6\r\n"), Err(()));
        assert_eq!(framing("content-length: -1\r\n"), Err(()));
        assert_eq!(framing("content-length: 5\r\ntransfer-encoding: gzip, Chunked\r\n"), Ok(Some(Framing::Chunked)));
        assert_eq!(framing("content-length: 5\r\ntransfer-encoding: identity\r\n"), Ok(Some(Framing::Length(5))));
        assert_eq!(framing("transfer-encoding: gzip\r\n"), Ok(Some(Framing::UntilClose)));
    }
}
