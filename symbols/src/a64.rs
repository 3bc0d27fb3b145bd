//! aarch64: probe sites, returns, and functions that are found without symbols.

use crate::elf::{Image, u32_at};
use crate::tls::{ProbeSite, SiteClass};

/// No function of interest is larger.
const MAX_FUNCTION: usize = 1 << 20;

/// Both sites are the entry: a return probe after `paciasp` would replace a signed return address.
pub(crate) fn sites(image: &Image<'_>, address: u64) -> Option<(ProbeSite, ProbeSite)> {
    let code = image.code_at(address)?;
    let class = class(u32_at(code, 0)?);
    let site = ProbeSite { file_offset: image.offset_of(address)?, class, at_entry: true };
    (address.is_multiple_of(4)).then_some((site, site))
}

/// What the kernel simulates (arch/arm64/kernel/probes): branches, `adr`, literal loads, and hints.
pub(crate) fn class(instruction: u32) -> SiteClass {
    let simulated = instruction & 0x7c00_0000 == 0x1400_0000 // b, bl
        || instruction & 0xff00_0010 == 0x5400_0000 // b.cond
        || instruction & 0x7e00_0000 == 0x3400_0000 // cbz, cbnz
        || instruction & 0x7e00_0000 == 0x3600_0000 // tbz, tbnz
        || instruction & 0xfe1f_fc1f == 0xd61f_0000 // br, blr, ret
        || instruction & 0x1f00_0000 == 0x1000_0000; // adr, adrp
    if instruction == 0xd503_201f {
        SiteClass::Nop
    } else if simulated {
        SiteClass::Emulated
    } else {
        SiteClass::SingleStepped
    }
}

/// Offset of every `ret` in the function's `size` bytes.
pub(crate) fn returns(code: &[u8], size: usize) -> Vec<u64> {
    let code = code.get(..size.min(MAX_FUNCTION).min(code.len())).unwrap_or(&[]);
    code.chunks_exact(4)
        .enumerate()
        .filter(|(_, word)| u32_at(word, 0).is_some_and(|i| i & 0xffff_fc1f == 0xd65f_0000))
        .map(|(n, _)| n as u64 * 4)
        .collect()
}

/// The instruction before `at` ends a function: a return, a jump, a trap or padding.
pub(crate) fn follows_an_end(code: &[u8], at: usize) -> bool {
    let Some(before) = at.checked_sub(4).and_then(|a| u32_at(code, a)) else { return at == 0 };
    matches!(before, 0 | 0xd503_201f | 0xd65f_03c0)
        || before & 0xfc00_0000 == 0x1400_0000
        || before & 0xfc00_0000 == 0x9400_0000
        || before & 0xfe1f_fc1f == 0xd61f_0000
        || before & 0xffe0_001f == 0xd420_0000
        || before & 0xffff_0000 == 0
}

/// `stp x29, x30, [sp, #..]!`, `sub sp, sp, #..`, `paciasp` or `bti c`.
pub(crate) fn begins_like_a_function(code: &[u8]) -> bool {
    let first = u32_at(code, 0).unwrap_or(0);
    matches!(first, 0xd503_233f | 0xd503_245f)
        || first & 0xff80_03ff == 0xd100_03ff & 0xff80_03ff
        || first & 0xffc0_03e0 == 0xa980_03e0
        || first & 0xffc0_03e0 == 0xf800_03e0
}

/// Byte displacement of a direct jump that is not a call.
pub(crate) fn branch_displacement(i: u32) -> Option<i64> {
    let signed = |value: u32, bits: u32| (i64::from(value) << (64 - bits) >> (64 - bits)) * 4;
    if i & 0xfc00_0000 == 0x1400_0000 {
        Some(signed(i & 0x3ff_ffff, 26))
    } else if i & 0xff00_0010 == 0x5400_0000 || i & 0x7e00_0000 == 0x3400_0000 {
        Some(signed(i >> 5 & 0x7_ffff, 19))
    } else if i & 0x7e00_0000 == 0x3600_0000 {
        Some(signed(i >> 5 & 0x3fff, 14))
    } else {
        None
    }
}

/// Words of the function that begins at the start of `code`, judged by its own branches: it ends at the first
/// instruction that does not fall through and that no earlier branch jumps over. At most `limit` bytes.
pub(crate) fn body(code: &[u8], limit: usize) -> Vec<u32> {
    let mut words = Vec::new();
    let mut furthest = 0_i64;
    for (n, word) in code.chunks_exact(4).take(limit / 4).enumerate() {
        let Some(instruction) = u32_at(word, 0) else { break };
        words.push(instruction);
        let here = n as i64 * 4;
        if let Some(displacement) = branch_displacement(instruction)
            && (0..limit as i64).contains(&(here + displacement))
        {
            furthest = furthest.max(here + displacement);
        }
        let ends = instruction & 0xfc00_0000 == 0x1400_0000
            || instruction & 0xfe9f_fc1f == 0xd61f_0000
            || instruction & 0xffff_fc1f == 0xd65f_0000
            || instruction & 0xffe0_001f == 0xd420_0000;
        if ends && here >= furthest {
            break;
        }
    }
    words
}

/// `mov xN, x4` (or a store of x4) before the first call: the function takes five arguments.
pub(crate) fn reads_fifth_argument(code: &[u8], size: usize) -> bool {
    let code = code.get(..size.min(MAX_FUNCTION).min(code.len())).unwrap_or(&[]);
    code.chunks_exact(4)
        .filter_map(|w| u32_at(w, 0))
        .take_while(|i| i & 0xfc00_0000 != 0x9400_0000)
        .any(|i| i & 0xffff_ffe0 == 0xaa04_03e0 || (i & 0xffc0_001f == 0xf900_0004) || i & 0xffc0_7c1f == 0xa900_0004)
}
