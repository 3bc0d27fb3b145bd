//! Bodies put together from their pieces, byte-exact, without copying a byte more than once, and within a bound.

use bytes::Bytes;

use crate::http::Body;

/// Below this a piece is copied, so that a few bytes do not keep a source's whole buffer alive.
const SMALL: usize = 4096;
/// At most so much is set aside for bytes that are yet to come.
const MAX_SET_ASIDE: usize = 1 << 20;

/// Pieces of one byte string.
#[derive(Debug, Default)]
struct Buffer {
    /// The only piece so far, as it came.
    one: Bytes,
    /// All pieces, once there are two.
    many: Vec<u8>,
    /// How many bytes will come, where somebody said so.
    expected: usize,
}

impl Buffer {
    fn push(&mut self, piece: &Bytes) {
        if piece.is_empty() {
            return;
        }
        if self.one.is_empty() && self.many.is_empty() {
            self.one = if piece.len() < SMALL { Bytes::copy_from_slice(piece) } else { piece.clone() };
            return;
        }
        if !self.one.is_empty() {
            self.many.reserve(self.expected.max(2 * (self.one.len() + piece.len())));
            self.many.extend_from_slice(&self.one);
            self.one = Bytes::new();
        }
        self.many.extend_from_slice(piece);
    }

    fn len(&self) -> usize {
        self.one.len() + self.many.len()
    }

    /// All of it as one piece; more may follow, at the price of a copy.
    fn bytes(&mut self) -> Bytes {
        if !self.many.is_empty() {
            let mut many = std::mem::take(&mut self.many);
            if many.capacity() > many.len() + many.len() / 4 {
                many.shrink_to_fit();
            }
            self.one = Bytes::from(many);
        }
        self.one.clone()
    }
}

/// One half's body: as sent, and the content where that is something else.
#[derive(Debug)]
pub(crate) struct Gather {
    wire: Buffer,
    /// The content, from the piece on where it differed from what was sent.
    content: Option<Buffer>,
    /// The size of all pieces, also those over the bound.
    wire_len: u64,
    /// False when nobody wants the content as a whole.
    keep_content: bool,
    max_bytes: usize,
    over_bound: bool,
}

impl Gather {
    pub(crate) fn new(max_bytes: usize) -> Gather {
        Gather { wire: Buffer::default(), content: None, wire_len: 0, keep_content: true, max_bytes, over_bound: false }
    }

    /// A head says how long the body is. Taken for what it is: a claim, so that not much is set aside for it.
    pub(crate) fn expect(&mut self, bytes: usize) {
        self.wire.expected = bytes.min(self.max_bytes).min(MAX_SET_ASIDE);
    }

    pub(crate) fn push(&mut self, body: &Body) {
        self.wire_len += body.wire.len() as u64;
        let same = body.wire.len() == body.content.len()
            && (body.wire.is_empty() || body.wire.as_ptr() == body.content.as_ptr());
        if !same && self.keep_content && self.content.is_none() {
            let mut content = Buffer::default();
            content.push(&self.wire.bytes());
            self.content = Some(content);
        }
        if self.keep_content
            && let Some(content) = &mut self.content
        {
            self.over_bound |= append(content, &body.content, self.max_bytes);
        }
        self.over_bound |= append(&mut self.wire, &body.wire, self.max_bytes);
    }

    /// From here on nobody needs the content as a whole: it goes through a framer.
    pub(crate) fn drop_content(&mut self) {
        self.keep_content = false;
        self.content = None;
    }

    /// The body as sent, as far as the bound allowed.
    pub(crate) fn wire(&mut self) -> Bytes {
        self.wire.bytes()
    }

    /// The content, as far as the bound allowed.
    pub(crate) fn content(&mut self) -> Bytes {
        match &mut self.content {
            Some(content) => content.bytes(),
            None => self.wire.bytes(),
        }
    }

    pub(crate) fn wire_len(&self) -> u64 {
        self.wire_len
    }

    pub(crate) fn over_bound(&self) -> bool {
        self.over_bound
    }
}

/// Appends up to the bound; true when something was left out.
fn append(buffer: &mut Buffer, piece: &Bytes, max_bytes: usize) -> bool {
    let room = max_bytes.saturating_sub(buffer.len());
    if piece.len() <= room {
        buffer.push(piece);
        return false;
    }
    buffer.push(&piece.slice(..room));
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_joined_and_bounded() {
        let mut gather = Gather::new(8);
        for piece in [&b"abc"[..], b"", b"def", b"ghi", b"jkl"] {
            gather.push(&Body::plain(Bytes::copy_from_slice(piece)));
        }
        assert_eq!(&gather.wire()[..], b"abcdefgh");
        assert_eq!(&gather.content()[..], b"abcdefgh");
        assert_eq!((gather.wire_len(), gather.over_bound()), (12, true));
    }

    #[test]
    fn content_is_kept_apart_where_it_differs() {
        let mut gather = Gather::new(100);
        gather.push(&Body { wire: Bytes::from_static(b"xx"), content: Bytes::new() });
        gather.push(&Body { wire: Bytes::from_static(b"yy"), content: Bytes::from_static(b"hello") });
        gather.push(&Body { wire: Bytes::new(), content: Bytes::from_static(b" you") });
        assert_eq!(&gather.wire()[..], b"xxyy");
        assert_eq!(&gather.content()[..], b"hello you");
    }
}
