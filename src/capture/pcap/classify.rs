//! What the first bytes of a connection say: worth reassembling, encrypted, or of no interest.
//!
//! This looks at framing only (a method, a status line, a TLS record); what HTTP means is for the stages after the seam.

/// What becomes of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// Nothing was handed on yet.
    Undecided,
    /// Its bytes are handed on.
    Kept,
    /// TLS.
    Encrypted,
    /// Neither HTTP nor TLS: its bytes cost nothing more.
    Ignored,
}

/// The verdict on the first bytes of a connection. When its opening was not seen (or its first bytes are lost), anything may
/// follow, and only TLS is recognised for certain.
pub(super) fn verdict(bytes: &[u8], seen_open: bool) -> Verdict {
    if is_tls(bytes) {
        return Verdict::Encrypted;
    }
    if bytes.is_empty() || !seen_open || is_request(bytes) || is_response(bytes) || is_settings(bytes) {
        return Verdict::Kept;
    }
    Verdict::Ignored
}

/// Whether the bytes are those of a client (`Some(true)`) or a server.
pub(super) fn speaks_as_client(bytes: &[u8]) -> Option<bool> {
    match bytes {
        [0x16, 0x03, _, _, _, hello, ..] => Some(*hello == 1),
        _ if bytes.len() >= 5 && is_response(bytes) => Some(false),
        _ if bytes.len() >= 9 && is_settings(bytes) => Some(false),
        _ if bytes.len() >= 5 && is_request(bytes) => Some(true),
        _ => None,
    }
}

/// Index of the port that is a server's, where the numbers tell.
pub(super) fn server_port(low: u16, high: u16) -> Option<usize> {
    const SERVERS: [u16; 12] = [80, 443, 8080, 8443, 8000, 11434, 3000, 5000, 4000, 8888, 1234, 9000];
    let tests: [fn(u16) -> bool; 3] = [|p| SERVERS.contains(&p), |p| p < 1024, |p| p < 32_768];
    tests.iter().find_map(|test| match (test(low), test(high)) {
        (true, false) => Some(0),
        (false, true) => Some(1),
        _ => None,
    })
}

/// A TLS record header (RFC 8446 section 5.1), as far as the bytes go.
fn is_tls(bytes: &[u8]) -> bool {
    match bytes {
        [0x14..=0x17, 0x03, minor, ..] => *minor <= 4,
        [0x16, 0x03] | [0x16] => true,
        _ => false,
    }
}

/// A request line's method (RFC 9110 section 9: an upper-case token by convention), or HTTP/2's preface.
fn is_request(bytes: &[u8]) -> bool {
    let head = bytes.get(..24).unwrap_or(bytes);
    let method = head.iter().take_while(|b| b.is_ascii_uppercase() || matches!(b, b'-' | b'_')).count();
    match head.get(method) {
        Some(b' ') => method >= 2,
        Some(_) => false,
        None => !head.is_empty() && head.len() < 24,
    }
}

fn is_response(bytes: &[u8]) -> bool {
    let len = bytes.len().min(5);
    len > 0 && bytes.get(..len) == b"HTTP/".get(..len)
}

/// HTTP/2's SETTINGS frame (RFC 9113 section 6.5), as far as the bytes go: a server may send it before the client's preface.
fn is_settings(bytes: &[u8]) -> bool {
    let head = bytes.get(..9).unwrap_or(bytes);
    let len = head.iter().take(3).fold(0_usize, |len, byte| len << 8 | usize::from(*byte));
    let rest = [4, 0, 0, 0, 0, 0];
    head.first() == Some(&0)
        && (head.len() < 3 || (len.is_multiple_of(6) && len <= 16_384))
        && head.iter().skip(3).zip(rest).all(|(byte, wanted)| *byte == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_in_any_cut_is_kept() {
        for whole in [
            &b"POST /v1/messages HTTP/1.1\r\n"[..],
            b"PRI * HTTP/2.0\r\n\r\nSM",
            b"HTTP/1.1 200 OK\r\n",
            b"\0\0\x2a\x04\0\0\0\0\0\0\x01",
        ] {
            for len in 1..whole.len() {
                assert_eq!(verdict(&whole[..len], true), Verdict::Kept, "{len}");
            }
        }
    }

    #[test]
    fn other_protocols_are_ignored_only_from_their_first_byte() {
        for other in
            [&b"SSH-2.0-OpenSSH"[..], b"\x00\x00\x00\x08\x04\xd2\x16\x2f", b"*1\r\n$4\r\nPING\r\n", b"220 smtp\r\n"]
        {
            assert_eq!(verdict(other, true), Verdict::Ignored);
            assert_eq!(verdict(other, false), Verdict::Kept);
        }
        assert_eq!(verdict(b"\x16\x03\x01\x02\x00\x01", true), Verdict::Encrypted);
        assert_eq!(verdict(b"\x17\x03\x03\x02\x00\x01", false), Verdict::Encrypted);
    }

    #[test]
    fn the_server_is_told_by_port_where_bytes_do_not() {
        assert_eq!(server_port(443, 50_000), Some(0));
        assert_eq!(server_port(50_000, 11_434), Some(1));
        assert_eq!(server_port(8080, 443), Some(1));
        assert_eq!(server_port(8080, 3000), None);
        assert_eq!(server_port(40_000, 50_000), None);
    }
}
