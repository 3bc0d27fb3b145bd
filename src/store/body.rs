//! How bytes are kept: as sent, or as the difference to earlier bytes of the same conversation.
//!
//! Pure. A difference is what is left after the common beginning and the common end with the base are taken off. Where
//! much of the base is left too, the middle is compressed with the base's own middle as zstd's prefix, so that a change at
//! the front (a time stamp in the system prompt) costs little; everything else is compressed later, together with its
//! neighbours (`block`). Unpacking is exact, or an error: bytes are never guessed.

use std::io::{self, Read, Write};

/// How packed bytes are to be read. The numbers are in the database: never reuse one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Codec {
    /// As they are.
    Raw = 0,
    /// One zstd frame.
    Zstd = 1,
    /// The difference to a base.
    Delta = 2,
}

impl Codec {
    pub(super) fn from_number(number: i64) -> Option<Codec> {
        match number {
            0 => Some(Codec::Raw),
            1 => Some(Codec::Zstd),
            2 => Some(Codec::Delta),
            _ => None,
        }
    }
}

/// Shorter bytes are not worth a difference's header.
const RAW_BELOW: usize = 64;
/// A shorter middle is not worth a frame of its own, nor is it worth searching a shorter middle of the base.
const PLAIN_BELOW: usize = 2048;
/// How much of the base's middle is searched for what the new middle repeats.
const PREFIX_MAX: usize = 8 << 20;
/// zstd's own limit for a decoder that was not told otherwise is 27; ours is the same.
const WINDOW_LOG_MAX: u32 = 27;
/// What a difference says beside its middle: three lengths and a flag.
const HEADER: usize = 25;
const LEVEL: i32 = 1;
/// Beyond so many bytes zstd's fast levels no longer find what lies far back.
const LONG: usize = 64 << 10;

/// Packs bytes as the difference to `base`; `None` when that is not worth it.
pub(super) fn pack_delta(bytes: &[u8], base: &[u8]) -> Option<Vec<u8>> {
    if bytes.len() < RAW_BELOW {
        return None;
    }
    let start = common_prefix(bytes, base);
    let (rest, base_rest) = (bytes.get(start..)?, base.get(start..)?);
    let end = common_suffix(rest, base_rest);
    let middle = rest.get(..rest.len() - end)?;
    let base_middle = base_rest.get(..base_rest.len() - end)?;
    let prefix = base_middle.get(..PREFIX_MAX.min(base_middle.len()))?;
    let plain = middle.len() < PLAIN_BELOW || prefix.len() < PLAIN_BELOW;
    if plain && start + end < HEADER {
        return None;
    }
    let mut data = Vec::with_capacity(HEADER + if plain { middle.len() } else { middle.len() / 3 });
    data.extend_from_slice(&(start as u64).to_le_bytes());
    data.extend_from_slice(&(end as u64).to_le_bytes());
    data.push(u8::from(!plain));
    if plain {
        data.extend_from_slice(middle);
        data.extend_from_slice(&0u64.to_le_bytes());
    } else {
        compress_with_prefix(middle, prefix, &mut data).ok()?;
        data.extend_from_slice(&(prefix.len() as u64).to_le_bytes());
    }
    Some(data)
}

/// Undoes [`pack_delta`]; `size` is the length of the bytes that were packed, where it is known.
pub(super) fn unpack(codec: Codec, data: Vec<u8>, base: Option<&[u8]>, size: Option<usize>) -> io::Result<Vec<u8>> {
    let bytes = match (codec, size) {
        (Codec::Raw, _) => data,
        (Codec::Zstd, Some(size)) => zstd::bulk::decompress(&data, size)?,
        (Codec::Zstd, None) => zstd::stream::decode_all(data.as_slice())?,
        (Codec::Delta, size) => {
            let base = base.ok_or_else(|| damaged("its base is missing"))?;
            unpack_delta(&data, base, size.ok_or_else(|| damaged("its length is missing"))?)?
        }
    };
    if size.is_none_or(|size| size == bytes.len()) { Ok(bytes) } else { Err(damaged("its length is wrong")) }
}

fn unpack_delta(data: &[u8], base: &[u8], size: usize) -> io::Result<Vec<u8>> {
    let header_is_cut = || damaged("its header is cut");
    let (body, search) = data.split_last_chunk::<8>().ok_or_else(header_is_cut)?;
    let (start, body) = body.split_first_chunk::<8>().ok_or_else(header_is_cut)?;
    let (end, body) = body.split_first_chunk::<8>().ok_or_else(header_is_cut)?;
    let (compressed, middle) = body.split_first().ok_or_else(header_is_cut)?;
    let [start, end, search] =
        [start, end, search].map(|n| usize::try_from(u64::from_le_bytes(*n)).unwrap_or(usize::MAX));
    let outside = || damaged("it points outside its base");
    let tail = base.len().checked_sub(end).filter(|tail| *tail >= start).ok_or_else(outside)?;
    let (head, base_middle, foot) =
        (base.get(..start), base.get(start..tail).and_then(|middle| middle.get(..search)), base.get(tail..));
    let (Some(head), Some(prefix), Some(foot)) = (head, base_middle, foot) else { return Err(outside()) };
    let mut bytes = Vec::with_capacity(size.min(base.len() + (64 << 20)));
    bytes.extend_from_slice(head);
    if *compressed == 0 {
        bytes.extend_from_slice(middle);
    } else {
        let mut decoder = zstd::stream::read::Decoder::with_ref_prefix(middle, prefix)?;
        decoder.window_log_max(WINDOW_LOG_MAX)?;
        decoder.take(size as u64 + 1).read_to_end(&mut bytes)?;
    }
    bytes.extend_from_slice(foot);
    Ok(bytes)
}

fn compress_with_prefix(middle: &[u8], prefix: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    let mut encoder = zstd::stream::write::Encoder::with_ref_prefix(out, LEVEL, prefix)?;
    let window = (middle.len() + prefix.len()).next_power_of_two().trailing_zeros().clamp(10, WINDOW_LOG_MAX);
    encoder.window_log(window)?;
    // The fast levels' tables are too small for a long prefix; long-distance matches are what a resent history is.
    encoder.long_distance_matching(middle.len() + prefix.len() > LONG)?;
    encoder.set_pledged_src_size(Some(middle.len() as u64))?;
    encoder.include_contentsize(true)?;
    encoder.write_all(middle)?;
    encoder.finish()?;
    Ok(())
}

fn damaged(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("a stored body is damaged: {why}"))
}

const STRIDE: usize = 256;

fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    let blocks = a.chunks_exact(STRIDE).zip(b.chunks_exact(STRIDE)).take_while(|(a, b)| a == b).count() * STRIDE;
    let (a, b) = (a.get(blocks..).unwrap_or_default(), b.get(blocks..).unwrap_or_default());
    blocks + a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

fn common_suffix(a: &[u8], b: &[u8]) -> usize {
    let blocks = a.rchunks_exact(STRIDE).zip(b.rchunks_exact(STRIDE)).take_while(|(a, b)| a == b).count() * STRIDE;
    let (a, b) = (a.get(..a.len() - blocks).unwrap_or_default(), b.get(..b.len() - blocks).unwrap_or_default());
    blocks + a.iter().rev().zip(b.iter().rev()).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(seed: u64, len: usize) -> Vec<u8> {
        let mut state = seed | 1;
        (0..len)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                b"abcdefghijklmnop"[(state >> 33) as usize % 16]
            })
            .collect()
    }

    fn round_trip(bytes: &[u8], base: &[u8]) -> usize {
        let Some(data) = pack_delta(bytes, base) else { return bytes.len() };
        let cost = data.len();
        assert_eq!(unpack(Codec::Delta, data, Some(base), Some(bytes.len())).unwrap(), bytes);
        cost
    }

    #[test]
    fn what_was_packed_comes_back_byte_for_byte() {
        let long = noise(7, 100_000);
        for len in [0, 1, 63, 64, 65, 255, 256, 257, 5_000, 100_000] {
            let bytes = &long[..len];
            for base in [&long[..], &long[..len / 2], &long[len / 2..len], b"", &noise(9, 3_000)] {
                round_trip(bytes, base);
            }
        }
    }

    #[test]
    fn a_resent_history_costs_what_is_new() {
        let history = noise(3, 400_000);
        let next = [&history[..399_000], &noise(4, 2_000), &history[399_000..]].concat();
        assert!(round_trip(&next, &history) < 2_100);
    }

    #[test]
    fn a_change_at_the_front_does_not_cost_the_history() {
        let history = noise(3, 400_000);
        let next = [b"2026-11-28T13:00:01 ".as_slice(), &history, b" and more"].concat();
        let base = [b"2026-11-28T12:59:07 ".as_slice(), &history, b" or less"].concat();
        assert!(round_trip(&next, &base) < 4_000);
    }

    #[test]
    fn a_damaged_difference_is_an_error_and_never_a_panic() {
        let history = noise(3, 5_000);
        let next = [&history[..4_000], &noise(4, 500), &history[4_000..]].concat();
        let packed = pack_delta(&next, &history).unwrap();
        for cut in 0..packed.len() {
            assert!(unpack(Codec::Delta, packed[..cut].to_vec(), Some(&history), Some(next.len())).is_err());
        }
        for position in 0..24 {
            let mut data = packed.clone();
            data[position] ^= 0xff;
            let _ = unpack(Codec::Delta, data, Some(&history), Some(next.len()));
        }
        assert!(unpack(Codec::Delta, packed, None, Some(next.len())).is_err());
    }
}
