//! Undoes content codings as the bytes arrive: gzip, deflate (zlib and raw), br, zstd, and stacks of them.
//!
//! Everything that can be known from the bytes so far is handed on at once, so that a token of a compressed event
//! stream is seen when it arrives. Damage never loses the wire bytes: it only ends the content.

use bytes::Bytes;
use flate2::{Crc, Decompress, FlushDecompress, Status};
use zstd::stream::raw::{DParameter, Decoder as ZstdDecoder, Operation};

use super::sink::Sink;
use crate::flaw::Flaw;
use crate::http::Header;

/// More codings than this on one body are taken for an attack.
const MAX_LAYERS: usize = 4;
/// Output is made in steps of this size, so that bounds are seen in time.
const STEP_BYTES: usize = 32 << 10;
/// RFC 9659: a zstd window of more than 8 MiB is not for HTTP.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;
/// A gzip member's header with a longer name or comment is taken for damage.
const MAX_GZIP_HEADER: usize = 8 << 10;

/// The codings of one body, the outermost (applied last, undone first) in front.
pub(super) struct Coding {
    layers: Vec<Layer>,
    wire_bytes: u64,
    content_bytes: u64,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Running,
    /// The bytes turned out not to be coded at all: they are the content.
    Plain,
    /// No content any more; the flaw was told.
    Dead,
    /// A coding is unknown; to be told with the first bytes.
    Unknown,
}

impl std::fmt::Debug for Coding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Coding({} layers, {} -> {} bytes)", self.layers.len(), self.wire_bytes, self.content_bytes)
    }
}

impl Coding {
    /// What the headers say, `None` where nothing is to be undone. Transfer codings other than `chunked` count too:
    /// they were applied after the content codings.
    pub fn for_headers(headers: &[Header]) -> Option<Box<Coding>> {
        let named = |wanted: &'static str| {
            headers
                .iter()
                .filter(move |header| header.name.eq_ignore_ascii_case(wanted))
                .flat_map(|header| header.value.split(','))
                .map(str::trim)
        };
        let mut layers = Vec::new();
        let mut state = State::Running;
        for name in named("content-encoding").chain(named("transfer-encoding")) {
            match Layer::named(name) {
                Named::Nothing => {}
                Named::Layer(layer) if layers.len() < MAX_LAYERS => layers.push(layer),
                _ => state = State::Unknown,
            }
        }
        if layers.is_empty() && state == State::Running {
            return None;
        }
        layers.reverse();
        Some(Box::new(Coding { layers, wire_bytes: 0, content_bytes: 0, state }))
    }

    /// Takes wire bytes; gives the content they complete, and what went wrong.
    pub fn push(&mut self, wire: &Bytes, sink: &mut Sink<'_>) -> (Bytes, Option<Flaw>) {
        match self.state {
            State::Plain => return (wire.clone(), None),
            State::Dead => return (Bytes::new(), None),
            State::Unknown => {
                self.state = State::Dead;
                return (Bytes::new(), Some(Flaw::Encoding));
            }
            State::Running => {}
        }
        if self.wire_bytes == 0 && self.layers.first().is_some_and(|layer| layer.is_plain_text(wire)) {
            self.state = State::Plain;
            return (wire.clone(), Some(Flaw::Encoding));
        }
        self.wire_bytes += wire.len() as u64;
        let ratio = self.wire_bytes.saturating_mul(sink.bounds.max_coding_ratio).max(sink.bounds.free_content_bytes);
        let allowed = ratio.min(sink.bounds.max_content_bytes).saturating_sub(self.content_bytes).min(sink.room);
        let mut content = Vec::new();
        let stop = undo(&mut self.layers, wire, &mut content, usize::try_from(allowed).unwrap_or(usize::MAX)).err();
        self.content_bytes += content.len() as u64;
        sink.room = sink.room.saturating_sub(content.len() as u64);
        let flaw = stop.map(|stop| {
            self.kill();
            match stop {
                Stop::Damaged => Flaw::Encoding,
                Stop::Bound => Flaw::Bound,
            }
        });
        (Bytes::from(content), flaw)
    }

    /// The body is over: a coding that is not at its end was cut.
    pub fn finish(&mut self) -> Option<Flaw> {
        let begun = self.state == State::Running && self.wire_bytes > 0;
        (begun && !self.layers.iter().all(Layer::is_at_end)).then_some(Flaw::Encoding)
    }

    /// Bytes of the body were lost: the rest cannot be decoded.
    pub fn lose(&mut self) -> Option<Flaw> {
        let told = matches!(self.state, State::Dead | State::Plain);
        if self.state != State::Plain {
            self.kill();
        }
        (!told).then_some(Flaw::Encoding)
    }

    fn kill(&mut self) {
        self.state = State::Dead;
        self.layers = Vec::new();
    }
}

enum Stop {
    Damaged,
    Bound,
}

/// Runs `input` through the layers, the first one first. Depth is bounded by [`MAX_LAYERS`].
fn undo(layers: &mut [Layer], input: &[u8], content: &mut Vec<u8>, allowed: usize) -> Result<(), Stop> {
    let Some((layer, inner)) = layers.split_first_mut() else {
        if content.len() + input.len() > allowed {
            return Err(Stop::Bound);
        }
        content.extend_from_slice(input);
        return Ok(());
    };
    let mut step = vec![0; STEP_BYTES.min(input.len().saturating_mul(8).max(256))];
    let mut rest = input;
    loop {
        let Step { read, written } = layer.step(rest, &mut step).ok_or(Stop::Damaged)?;
        rest = rest.get(read..).unwrap_or_default();
        undo(inner, step.get(..written).unwrap_or_default(), content, allowed)?;
        if written < step.len() && (rest.is_empty() || read + written == 0) {
            return Ok(());
        }
        if written == step.len() && step.len() < STEP_BYTES {
            step.resize(STEP_BYTES, 0);
        }
    }
}

struct Step {
    read: usize,
    written: usize,
}

enum Named {
    Nothing,
    Layer(Layer),
    Unknown,
}

enum Layer {
    Gzip(Box<Gzip>),
    Deflate { inflate: Option<Box<Decompress>>, first: Option<u8>, done: bool },
    Brotli(Box<Brotli>),
    Zstd { decoder: Box<ZstdDecoder<'static>>, between_frames: bool, started: bool },
}

impl Layer {
    fn named(name: &str) -> Named {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        if ["", "identity", "chunked", "aws-chunked", "none", "utf-8"].into_iter().any(is) {
            Named::Nothing
        } else if is("gzip") || is("x-gzip") {
            Named::Layer(Layer::Gzip(Box::default()))
        } else if is("deflate") || is("x-deflate") {
            Named::Layer(Layer::Deflate { inflate: None, first: None, done: false })
        } else if is("br") {
            Named::Layer(Layer::Brotli(Box::default()))
        } else if is("zstd") {
            zstd_layer().map_or(Named::Unknown, Named::Layer)
        } else {
            Named::Unknown
        }
    }

    /// True when the first bytes cannot be of this coding and look like text: proxies undo a coding and leave its name.
    fn is_plain_text(&self, first: &[u8]) -> bool {
        match self {
            Layer::Gzip(_) | Layer::Zstd { .. } => {
                first.first().is_some_and(|&byte| matches!(byte, b'{' | b'[' | b'"' | b'd' | b'e' | b':' | b'<'))
            }
            Layer::Deflate { .. } | Layer::Brotli(_) => false,
        }
    }

    fn is_at_end(&self) -> bool {
        match self {
            Layer::Gzip(gzip) => gzip.is_at_end(),
            Layer::Deflate { done, .. } => *done,
            Layer::Brotli(brotli) => brotli.done,
            Layer::Zstd { between_frames, started, .. } => *between_frames || !*started,
        }
    }

    /// Reads some of `input` and writes some of `output`. `None` when the coding is damaged.
    fn step(&mut self, input: &[u8], output: &mut [u8]) -> Option<Step> {
        match self {
            Layer::Gzip(gzip) => gzip.step(input, output),
            Layer::Deflate { inflate, first, done } => deflate_step(inflate, first, done, input, output),
            Layer::Brotli(brotli) => brotli.step(input, output),
            Layer::Zstd { decoder, between_frames, started } => {
                if input.is_empty() && *between_frames {
                    return Some(Step { read: 0, written: 0 });
                }
                *started |= !input.is_empty();
                let status = decoder.run_on_buffers(input, output).ok()?;
                *between_frames = status.remaining == 0;
                Some(Step { read: status.bytes_read, written: status.bytes_written })
            }
        }
    }
}

fn zstd_layer() -> Option<Layer> {
    let mut decoder = ZstdDecoder::new().ok()?;
    decoder.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG_MAX)).ok()?;
    Some(Layer::Zstd { decoder: Box::new(decoder), between_frames: true, started: false })
}

/// One step of an inflater; also true when its stream ended.
fn inflate_step(inflate: &mut Decompress, input: &[u8], output: &mut [u8]) -> Option<(Step, bool)> {
    let (read, written) = (inflate.total_in(), inflate.total_out());
    let status = inflate.decompress(input, output, FlushDecompress::None).ok()?;
    let step = Step { read: (inflate.total_in() - read) as usize, written: (inflate.total_out() - written) as usize };
    Some((step, status == Status::StreamEnd))
}

/// `deflate` means zlib in the standard and raw deflate in some servers: the first two bytes tell.
fn deflate_step(
    inflate: &mut Option<Box<Decompress>>,
    first: &mut Option<u8>,
    done: &mut bool,
    input: &[u8],
    output: &mut [u8],
) -> Option<Step> {
    if *done {
        return Some(Step { read: input.len(), written: 0 });
    }
    if let Some(inflate) = inflate {
        let (step, ended) = inflate_step(inflate, input, output)?;
        *done = ended;
        return Some(step);
    }
    let (low, high, read) = match (*first, input) {
        (None, [low, high, ..]) => (*low, *high, 0),
        (None, [low]) => {
            *first = Some(*low);
            return Some(Step { read: 1, written: 0 });
        }
        (Some(low), [high, ..]) => (low, *high, 0),
        (_, []) => return Some(Step { read: 0, written: 0 }),
    };
    let zlib = low & 0x0f == 8 && (u16::from(low) << 8 | u16::from(high)).is_multiple_of(31);
    let mut fresh = Box::new(Decompress::new(zlib));
    if let Some(kept) = *first {
        inflate_step(&mut fresh, &[kept], output)?;
    }
    *inflate = Some(fresh);
    let step = deflate_step(inflate, first, done, input, output)?;
    Some(Step { read: step.read + read, ..step })
}

#[derive(Default)]
struct Gzip {
    phase: GzipPhase,
    /// Bytes of a header or trailer under way.
    kept: Vec<u8>,
    crc: Crc,
    members: u32,
}

#[derive(Default)]
enum GzipPhase {
    #[default]
    Header,
    Body(Box<Decompress>),
    Trailer,
    /// What follows the last member is no member: padding, ignored.
    Padding,
}

impl Gzip {
    fn is_at_end(&self) -> bool {
        matches!(self.phase, GzipPhase::Padding)
            || matches!(self.phase, GzipPhase::Header) && self.kept.is_empty() && self.members > 0
    }

    fn step(&mut self, input: &[u8], output: &mut [u8]) -> Option<Step> {
        match &mut self.phase {
            GzipPhase::Header => self.read_header(input),
            GzipPhase::Body(inflate) => {
                let (step, ended) = inflate_step(inflate, input, output)?;
                self.crc.update(output.get(..step.written).unwrap_or_default());
                if ended {
                    self.phase = GzipPhase::Trailer;
                }
                Some(step)
            }
            GzipPhase::Trailer => {
                let read = input.len().min(8 - self.kept.len());
                self.kept.extend_from_slice(input.get(..read).unwrap_or_default());
                if let Some(&[a, b, c, d, e, f, g, h]) = self.kept.first_chunk::<8>() {
                    let sound = u32::from_le_bytes([a, b, c, d]) == self.crc.sum()
                        && u32::from_le_bytes([e, f, g, h]) == self.crc.amount();
                    if !sound {
                        return None;
                    }
                    self.kept.clear();
                    self.crc.reset();
                    self.members += 1;
                    self.phase = GzipPhase::Header;
                }
                Some(Step { read, written: 0 })
            }
            GzipPhase::Padding => Some(Step { read: input.len(), written: 0 }),
        }
    }

    fn read_header(&mut self, input: &[u8]) -> Option<Step> {
        let before = self.kept.len();
        let room = MAX_GZIP_HEADER.saturating_sub(before);
        self.kept.extend_from_slice(input.get(..input.len().min(room)).unwrap_or_default());
        match gzip_header_len(&self.kept) {
            GzipHeader::Complete(len) => {
                self.kept.clear();
                self.phase = GzipPhase::Body(Box::new(Decompress::new(false)));
                Some(Step { read: len.saturating_sub(before), written: 0 })
            }
            GzipHeader::Incomplete if self.kept.len() < MAX_GZIP_HEADER => Some(Step { read: input.len(), written: 0 }),
            GzipHeader::Not if self.members > 0 => {
                self.kept.clear();
                self.phase = GzipPhase::Padding;
                Some(Step { read: input.len(), written: 0 })
            }
            GzipHeader::Not | GzipHeader::Incomplete => None,
        }
    }
}

enum GzipHeader {
    Complete(usize),
    Incomplete,
    Not,
}

/// RFC 1952 section 2.3.
fn gzip_header_len(bytes: &[u8]) -> GzipHeader {
    let magic = [0x1f, 0x8b, 8];
    if !bytes.iter().zip(magic).all(|(&byte, magic)| byte == magic) {
        return GzipHeader::Not;
    }
    let parse = || {
        let flags = *bytes.get(3)?;
        let mut at = 10;
        if flags & 4 != 0 {
            let extra = bytes.get(at..at + 2)?;
            at += 2 + usize::from(u16::from_le_bytes([*extra.first()?, *extra.last()?]));
        }
        for flag in [8, 16] {
            if flags & flag != 0 {
                at += memchr::memchr(0, bytes.get(at..)?)? + 1;
            }
        }
        if flags & 2 != 0 {
            at += 2;
        }
        (at <= bytes.len()).then_some(at)
    };
    parse().map_or(GzipHeader::Incomplete, GzipHeader::Complete)
}

type BrotliState = brotli_decompressor::BrotliState<
    brotli_decompressor::StandardAlloc,
    brotli_decompressor::StandardAlloc,
    brotli_decompressor::StandardAlloc,
>;

struct Brotli {
    state: BrotliState,
    done: bool,
}

impl Default for Brotli {
    fn default() -> Brotli {
        let alloc = brotli_decompressor::StandardAlloc::default;
        Brotli { state: BrotliState::new(alloc(), alloc(), alloc()), done: false }
    }
}

impl Brotli {
    fn step(&mut self, input: &[u8], output: &mut [u8]) -> Option<Step> {
        use brotli_decompressor::{BrotliDecompressStream, BrotliResult};
        if self.done {
            return Some(Step { read: input.len(), written: 0 });
        }
        let (mut left_in, mut read, mut left_out, mut written, mut total) = (input.len(), 0, output.len(), 0, 0);
        let result = BrotliDecompressStream(
            &mut left_in,
            &mut read,
            input,
            &mut left_out,
            &mut written,
            output,
            &mut total,
            &mut self.state,
        );
        match result {
            BrotliResult::ResultFailure => return None,
            BrotliResult::ResultSuccess => self.done = true,
            BrotliResult::NeedsMoreInput | BrotliResult::NeedsMoreOutput => {}
        }
        Some(Step { read, written })
    }
}
