//! Holes in an HTTP/2 direction, and finding the way again (the module docs of `h2` say how).

use bytes::Bytes;

use super::recognise::find_frames;
use super::stream;
use super::{H2, State};
use crate::http::Side;
use crate::http::sink::Sink;

/// So much is kept while the next frame is looked for.
const MAX_SEEK: usize = 64 << 10;

impl H2 {
    /// Exchanges that lost bytes and were quiet since will not come to an end of their own.
    pub(super) fn give_up_lost(&mut self, sink: &mut Sink<'_>) {
        let lost: Vec<u32> = self
            .streams
            .iter()
            .filter(|(_, stream)| stream.holed && sink.at.since(stream.quiet_since) > stream::LOST_AFTER)
            .map(|(id, _)| *id)
            .collect();
        for id in lost {
            if let Some(stream) = self.streams.remove(&id) {
                stream.exchange.end_lost(sink);
            }
            self.remember(id);
        }
    }

    pub(super) fn gap_in(&mut self, side: Side, len: u64, sink: &mut Sink<'_>) {
        let dir = self.dir(side);
        let lost = usize::try_from(len).unwrap_or(usize::MAX);
        match dir.state {
            State::Data { head, left, padding } if lost <= left => {
                dir.state = State::Data { head, left: left - lost, padding };
                if let Some(stream) = self.stream_or_begin(side, head.stream, sink) {
                    stream.gap(side, len, sink);
                }
                // A frame that ended inside the hole ends now.
                if left == lost {
                    let mut nothing = Bytes::new();
                    while matches!(self.dir(side).state, State::Data { left: 0, .. } | State::Skip { left: 0, .. }) {
                        self.step(side, &mut nothing, sink);
                    }
                }
            }
            State::Skip { left, then_end } if lost < left => dir.state = State::Skip { left: left - lost, then_end },
            _ => self.lose(side, len, sink),
        }
    }

    /// It is not known any more where a frame begins, nor what the frames in the hole were.
    pub(super) fn lose(&mut self, side: Side, len: u64, sink: &mut Sink<'_>) {
        let dir = self.dir(side);
        let damaged = match dir.state {
            State::Data { head, .. } | State::DataPadding(head) => Some(head.stream),
            State::Skip { then_end, .. } => then_end,
            _ => None,
        };
        sink.counters.skipped_bytes += dir.kept.len() as u64;
        dir.kept.clear();
        dir.block = None;
        dir.table.forget();
        dir.state = State::Seek;
        dir.frames = 0;
        self.whole = false;
        for (id, stream) in &mut self.streams {
            stream.hole(side, if Some(*id) == damaged { len } else { 0 }, sink);
        }
    }

    pub(super) fn seek(&mut self, side: Side, input: &mut Bytes, sink: &mut Sink<'_>) -> bool {
        if input.is_empty() {
            return false;
        }
        let dir = if side == Side::Request { &mut self.requests } else { &mut self.responses };
        dir.kept.extend_from_slice(input);
        input.clear();
        match find_frames(&dir.kept, |stream| self.streams.contains_key(&stream)) {
            Some(at) => {
                *input = Bytes::from(dir.kept.split_off(at));
                sink.counters.skipped_bytes += at as u64;
                sink.counters.resyncs += 1;
                dir.kept.clear();
                dir.state = State::ExpectFrame;
                true
            }
            None => {
                let over = dir.kept.len().saturating_sub(MAX_SEEK);
                dir.kept.drain(..over);
                sink.counters.skipped_bytes += over as u64;
                false
            }
        }
    }
}
