//! HTTP/2 frame headers (RFC 9113 section 4.1): reading them, and telling them from other bytes.

/// What a client says first (section 3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub(super) const HEAD_BYTES: usize = 9;
/// The longest frame that its header can name.
pub(super) const MAX_BYTES: usize = (1 << 24) - 1;

pub(super) const END_STREAM: u8 = 0x1;
pub(super) const END_HEADERS: u8 = 0x4;
pub(super) const PADDED: u8 = 0x8;
pub(super) const PRIORITY: u8 = 0x20;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Data,
    Headers,
    ResetStream,
    Settings,
    PushPromise,
    GoAway,
    Continuation,
    /// PRIORITY, PING, WINDOW_UPDATE: nothing in them matters here.
    Ignored,
    /// An extension, to be passed over.
    Unknown,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct FrameHead {
    pub len: usize,
    pub kind: Kind,
    pub flags: u8,
    pub stream: u32,
}

impl FrameHead {
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Reads a frame's head; `None` where the rules do not allow it.
pub(super) fn read(bytes: &[u8; HEAD_BYTES], max_len: usize) -> Option<FrameHead> {
    let [a, b, c, kind, flags, s0, s1, s2, s3] = *bytes;
    let len = u32::from_be_bytes([0, a, b, c]) as usize;
    let stream = u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]);
    let on_stream = stream != 0;
    let (kind, fits) = match kind {
        0 => (Kind::Data, on_stream),
        1 => (Kind::Headers, on_stream && len > 0),
        2 => (Kind::Ignored, on_stream && len == 5),
        3 => (Kind::ResetStream, on_stream && len == 4),
        4 => (Kind::Settings, !on_stream && len.is_multiple_of(6)),
        5 => (Kind::PushPromise, on_stream && len > 4),
        6 => (Kind::Ignored, !on_stream && len == 8),
        7 => (Kind::GoAway, !on_stream && len >= 8),
        8 => (Kind::Ignored, len == 4),
        9 => (Kind::Continuation, on_stream),
        _ => (Kind::Unknown, true),
    };
    (fits && len <= max_len).then_some(FrameHead { len, kind, flags, stream })
}

/// Is this what peers really send? Flags that the RFC defines for the kind, streams that clients begin, no empty DATA that
/// says nothing: runs of zeros are not to look like frames.
fn usual(head: &FrameHead) -> bool {
    let allowed = match head.kind {
        Kind::Data => END_STREAM | PADDED,
        Kind::Headers => END_STREAM | END_HEADERS | PADDED | PRIORITY,
        Kind::PushPromise => END_HEADERS | PADDED,
        Kind::Continuation => END_HEADERS,
        Kind::Settings | Kind::Ignored => 1,
        Kind::ResetStream | Kind::GoAway => 0,
        Kind::Unknown => return false,
    };
    let says_something = head.kind != Kind::Data || head.len > 0 || head.has(END_STREAM);
    let stream = head.stream == 0 || head.stream % 2 == 1 && head.stream < 1 << 24;
    head.flags & !allowed == 0 && says_something && stream
}

/// The first bytes of a server's SETTINGS frame, or fewer: with it a server begins.
pub(super) fn may_be_settings(bytes: &[u8]) -> bool {
    let shape = [0, 0, b'n', 4, 0, 0, 0, 0, 0];
    let fits = bytes.iter().zip(shape).all(|(&byte, shape)| byte == shape || shape == b'n');
    fits && bytes.get(2).is_none_or(|len| len % 6 == 0)
}

/// How sure it is that frames begin somewhere.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Likely {
    No,
    /// One frame's head fits, and its payload is not all there.
    Partly,
    /// Whole frames follow each other to the end of the bytes, or several of them.
    Yes,
}

/// Do frames begin at the front of `bytes`?
pub(super) fn likely(bytes: &[u8]) -> Likely {
    // Agents' peers keep to the default frame size, or a little above.
    const USUAL_MAX: usize = 256 << 10;
    let mut rest = bytes;
    for whole in 0..3 {
        let Some(head) = rest.first_chunk().map(|head| read(head, USUAL_MAX)) else {
            return if rest.is_empty() && whole > 0 || whole > 1 { Likely::Yes } else { Likely::No };
        };
        let Some(head) = head.filter(usual) else { return Likely::No };
        match rest.get(HEAD_BYTES + head.len..) {
            Some(after) => rest = after,
            None if whole > 1 => return Likely::Yes,
            None if head.kind == Kind::Data || head.kind == Kind::Headers && head.has(END_HEADERS) => {
                return Likely::Partly;
            }
            None => return Likely::No,
        }
    }
    Likely::Yes
}

/// Which side seems to send the frames at the front of `bytes`: told by the first field of the first header block.
pub(super) fn sender(bytes: &[u8]) -> Option<crate::http::Side> {
    let mut rest = bytes;
    for _ in 0..16 {
        let head = read(rest.first_chunk()?, 1 << 24)?;
        let payload = rest.get(HEAD_BYTES..)?;
        if head.kind == Kind::Headers {
            let skip = usize::from(head.has(PADDED)) + if head.has(PRIORITY) { 5 } else { 0 };
            let block = payload.get(skip..payload.len().min(head.len))?;
            return first_field_side(block);
        }
        rest = payload.get(head.len..)?;
    }
    None
}

/// Static indices 1 to 7 are a request's, 8 to 14 a response's (RFC 7541 appendix A).
fn first_field_side(block: &[u8]) -> Option<crate::http::Side> {
    let first = *block.iter().find(|byte| **byte & 0xe0 != 0x20)?;
    let index = match first {
        0x80.. => first & 0x7f,
        0x40.. => first & 0x3f,
        _ => first & 0x0f,
    };
    match index {
        1..=7 => Some(crate::http::Side::Request),
        8..=14 => Some(crate::http::Side::Response),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Side;

    #[test]
    fn frames_are_told_from_other_bytes() {
        let data = b"\x00\x00\x03\x00\x01\x00\x00\x00\x05abc";
        let ping = b"\x00\x00\x08\x06\x00\x00\x00\x00\x0012345678";
        assert_eq!(likely(data), Likely::Yes);
        assert_eq!(likely(&[&data[..], ping].concat()), Likely::Yes);
        assert_eq!(likely(&data[..10]), Likely::Partly);
        assert_eq!(likely(&ping[..10]), Likely::No);
        for other in [
            &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
            b"\x17\x03\x03\x00\x1a1234567890",
            b"POST / HTTP/1.1\r\n",
            &[0; 64],
        ] {
            assert_eq!(likely(other), Likely::No, "{other:?}");
        }
    }

    #[test]
    fn the_first_field_tells_the_sender() {
        assert_eq!(sender(b"\x00\x00\x01\x01\x05\x00\x00\x00\x01\x88"), Some(Side::Response));
        assert_eq!(sender(b"\x00\x00\x01\x01\x05\x00\x00\x00\x01\x83"), Some(Side::Request));
        assert_eq!(sender(b"\x00\x00\x06\x01\x25\x00\x00\x00\x01\x00\x00\x00\x00\x10\x83"), Some(Side::Request));
    }
}
