//! Undoes HPACK's Huffman code (RFC 7541 section 5.2), canonically: a code's length is found by comparing the next bits
//! with the first code that is longer.

use super::tables::{CODES_OF_LENGTH, SYMBOLS};

/// The shortest code.
const MIN_BITS: usize = 5;
const MAX_BITS: usize = 30;
const END_OF_STRING: u16 = 256;

struct Ranges {
    /// Per length, the first 32-bit value (codes at the top) that is beyond its codes.
    limit: [u64; MAX_BITS + 1],
    /// Per length, its first code at the top of 32 bits.
    first: [u64; MAX_BITS + 1],
    /// Per length, where its symbols begin.
    symbols: [usize; MAX_BITS + 1],
}

const RANGES: Ranges = ranges();

const fn ranges() -> Ranges {
    let mut ranges = Ranges { limit: [0; MAX_BITS + 1], first: [0; MAX_BITS + 1], symbols: [0; MAX_BITS + 1] };
    let mut code = 0u64;
    let mut symbol = 0;
    let mut bits = 1;
    while bits <= MAX_BITS {
        ranges.first[bits] = code << (32 - bits);
        ranges.symbols[bits] = symbol;
        code += CODES_OF_LENGTH[bits] as u64;
        symbol += CODES_OF_LENGTH[bits] as usize;
        ranges.limit[bits] = code << (32 - bits);
        code <<= 1;
        bits += 1;
    }
    ranges
}

/// The decoded bytes; `None` when they break the code's rules.
pub(super) fn decode(coded: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(coded.len() + coded.len() / 2);
    // The bits not used yet stand at the top; `held` says how many.
    let mut window = 0u64;
    let mut held = 0usize;
    let mut bytes = coded.iter();
    loop {
        while held <= 56
            && let Some(&byte) = bytes.next()
        {
            window |= u64::from(byte) << (56 - held);
            held += 8;
        }
        if held < MIN_BITS {
            break;
        }
        let next = window >> 32;
        let Some(bits) = (MIN_BITS..=MAX_BITS).find(|&bits| next < RANGES.limit[bits]) else { break };
        if bits > held {
            break;
        }
        let place = RANGES.symbols[bits] + ((next - RANGES.first[bits]) >> (32 - bits)) as usize;
        match SYMBOLS.get(place) {
            Some(&END_OF_STRING) | None => return None,
            Some(&symbol) => decoded.push(symbol as u8),
        }
        window <<= bits;
        held -= bits;
    }
    // What is left is padding: less than a byte, all ones.
    let padding = if held == 0 { 0 } else { !window >> (64 - held) };
    (held < 8 && padding == 0).then_some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_rfc_decode() {
        for (coded, text) in [
            (&[0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff][..], "www.example.com"),
            (&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf], "no-cache"),
            (&[0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xb8, 0xe8, 0xb4, 0xbf], "custom-value"),
            (&[0x64, 0x02], "302"),
            (&[], ""),
        ] {
            assert_eq!(decode(coded).as_deref(), Some(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn broken_padding_and_an_end_of_string_are_refused() {
        assert_eq!(decode(&[0xff, 0xff, 0xff, 0xff]), None);
        assert_eq!(decode(&[0x64, 0x02, 0xff]), None, "a whole byte of padding");
        assert_eq!(decode(&[0x00]), None, "padding of zeros");
    }
}
