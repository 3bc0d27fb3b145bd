//! Tells HTTP/2 from other bytes.

use super::frame::{self, HEAD_BYTES, Likely, PREFACE};
use crate::http::Side;

/// What the first bytes of a direction say.
pub(in crate::http) enum Recognised {
    /// Frames begin at `at`, sent by `side` where that can be told.
    Frames {
        at: usize,
        side: Option<Side>,
    },
    /// It may be the beginning of a preface.
    Maybe,
    No,
}

/// Is this HTTP/2? `fresh`: nothing of this direction was seen before, and the connection was seen from its beginning.
/// `anywhere`: frames may begin behind the front.
pub(in crate::http) fn recognise(bytes: &[u8], fresh: bool, anywhere: bool) -> Recognised {
    let common = bytes.iter().zip(PREFACE).take_while(|(byte, preface)| byte == preface).count();
    if common == PREFACE.len() {
        return Recognised::Frames { at: 0, side: Some(Side::Request) };
    }
    if common == bytes.len() {
        return Recognised::Maybe;
    }
    if fresh {
        // A server may speak before the preface is seen.
        return match frame::may_be_settings(bytes) {
            true if bytes.len() >= HEAD_BYTES => Recognised::Frames { at: 0, side: Some(Side::Response) },
            true => Recognised::Maybe,
            false => Recognised::No,
        };
    }
    if frame::likely(bytes) != Likely::No {
        return Recognised::Frames { at: 0, side: frame::sender(bytes) };
    }
    let found = if anywhere { find_frames(bytes, |_| false) } else { None };
    found.map_or(Recognised::No, |at| Recognised::Frames { at, side: bytes.get(at..).and_then(frame::sender) })
}

/// The first place inside `bytes` where frames seem to begin. A frame whose end is not there counts when `known` says
/// that its stream is.
pub(super) fn find_frames(bytes: &[u8], known: impl Fn(u32) -> bool) -> Option<usize> {
    let last = bytes.len().checked_sub(HEAD_BYTES)?;
    (0..=last).find(|&at| {
        let Some(rest) = bytes.get(at..) else { return false };
        // No frame of usual size is longer than 2^18 bytes.
        if rest.first().is_none_or(|&byte| byte > 3) {
            return false;
        }
        match frame::likely(rest) {
            Likely::Yes => true,
            Likely::Partly => {
                let head = rest.first_chunk().and_then(|head| frame::read(head, 1 << 18));
                head.is_some_and(|head| known(head.stream))
            }
            Likely::No => false,
        }
    })
}
