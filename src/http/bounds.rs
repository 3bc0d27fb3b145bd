//! What one connection may cost. Everything cut is counted ([`super::Counters`]) and flagged (`Flaw::Bound`).

use crate::event::Nanos;

/// Limits of the HTTP stage, per connection. The defaults fit the largest traffic of real agents with room to spare.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bounds {
    /// Bytes of one head (start line and headers), or of one HTTP/2 header block. What is over is not kept.
    pub max_head_bytes: usize,
    /// Bytes that may wait inside one connection for the other direction (an answer to an upgrade, a request that the
    /// capture delivered late), and bytes in which the next chunk is looked for after a loss.
    pub max_buffered_bytes: usize,
    /// Decoded bytes of one body. Its wire bytes go on without content.
    pub max_content_bytes: u64,
    /// Decoded bytes per coded byte of one body, once more than `free_content_bytes` were decoded: past it the body is
    /// taken for a decompression bomb and goes on without content.
    pub max_coding_ratio: u64,
    /// Decoded bytes of one body, and of all bodies and messages in one event, to which `max_coding_ratio` does not apply.
    pub free_content_bytes: u64,
    /// Requests of one HTTP/1 connection that wait for their answers.
    pub max_waiting: usize,
    /// Open HTTP/2 streams of one connection; the oldest is given up for a new one.
    pub max_streams: usize,
    /// Bytes of one HTTP/2 frame that is gathered, and of a DATA frame where its place was guessed. A longer one is taken for
    /// damage.
    pub max_frame_bytes: usize,
    /// Bytes of one WebSocket message, inflated. A longer one is dropped.
    pub max_message_bytes: usize,
    /// How long a response may wait for a request that the capture delivers late.
    pub response_hold: Nanos,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds {
            max_head_bytes: 1 << 20,
            max_buffered_bytes: 4 << 20,
            max_content_bytes: 256 << 20,
            max_coding_ratio: 48,
            free_content_bytes: 16 << 20,
            max_waiting: 1024,
            max_streams: 1024,
            max_frame_bytes: 1 << 20,
            max_message_bytes: 32 << 20,
            response_hold: Nanos(200_000_000),
        }
    }
}
