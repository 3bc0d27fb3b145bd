//! Which code loads the address of a string. Strings survive stripping.

use memchr::{memchr_iter, memmem};

use crate::elf::{Image, u32_at};
use crate::tls::Arch;

/// Places and hits that are kept per search: more means that the string says nothing.
const MAX_HITS: usize = 4096;
/// Instructions between `adrp` and the `add` that completes it.
const PAIR_DISTANCE: usize = 12;

/// Addresses of the NUL-terminated strings that end with `tail` (which includes the NUL), at their first byte.
pub(crate) fn strings_ending(image: &Image<'_>, tail: &[u8]) -> Vec<u64> {
    let mut found = Vec::new();
    let finder = memmem::Finder::new(tail);
    for (address, bytes) in image.constants() {
        for at in finder.find_iter(bytes).take(16) {
            // Paths before the tail: back to the NUL that ends the previous string.
            let from = at.saturating_sub(512);
            let head = bytes.get(from..at).unwrap_or(&[]);
            let start = memchr::memrchr(0, head).map_or(at, |nul| from + nul + 1);
            found.extend(address.checked_add(start as u64));
        }
    }
    found
}

/// Addresses of code that loads one of `targets`, with the target, in ascending order.
pub(crate) fn references(image: &Image<'_>, targets: &[u64]) -> Vec<(u64, u64)> {
    let mut found = Vec::new();
    if targets.is_empty() {
        return found;
    }
    for (address, code) in image.code() {
        match image.arch {
            Arch::X86_64 => {
                relative_loads(code, address, targets, &mut found);
                if !image.position_independent {
                    absolute_loads(code, address, targets, &mut found);
                }
            }
            Arch::Aarch64 => page_pairs(code, address, targets, &mut found),
            Arch::Other => {}
        }
    }
    found.sort_unstable();
    found
}

/// `lea r64, [rip + disp32]`.
fn relative_loads(code: &[u8], address: u64, targets: &[u64], found: &mut Vec<(u64, u64)>) {
    let (Some(low), Some(high)) = (targets.iter().min(), targets.iter().max()) else { return };
    for at in memchr_iter(0x8d, code) {
        let Some(&[modrm, d0, d1, d2, d3]) = code.get(at + 1..at + 6) else { break };
        if modrm & 0xc7 != 0x05 {
            continue;
        }
        let displacement = i32::from_le_bytes([d0, d1, d2, d3]);
        let target = address.wrapping_add(at as u64 + 6).wrapping_add_signed(i64::from(displacement));
        if target < *low || target > *high || !targets.contains(&target) {
            continue;
        }
        let Some(before) = at.checked_sub(1) else { continue };
        if matches!(code.get(before), Some(0x48 | 0x4c)) && found.len() < MAX_HITS {
            found.push((address + before as u64, target));
        }
    }
}

/// `mov r32, imm32` in programs linked at a fixed address.
fn absolute_loads(code: &[u8], address: u64, targets: &[u64], found: &mut Vec<(u64, u64)>) {
    for target in targets {
        let Ok(value) = u32::try_from(*target) else { continue };
        for at in memmem::find_iter(code, &value.to_le_bytes()) {
            let Some(before) = at.checked_sub(1) else { continue };
            let start = match (before.checked_sub(1).and_then(|i| code.get(i)), code.get(before)) {
                (Some(0x41), Some(0xb8..=0xbf)) => before - 1,
                (_, Some(0xb8..=0xbf)) => before,
                _ => continue,
            };
            if found.len() < MAX_HITS {
                found.push((address + start as u64, *target));
            }
        }
    }
}

/// `adr`, or `adrp` with the `add` that completes it.
fn page_pairs(code: &[u8], address: u64, targets: &[u64], found: &mut Vec<(u64, u64)>) {
    let pages: Vec<u64> = targets.iter().map(|t| t >> 12).collect();
    for (i, word) in code.chunks_exact(4).enumerate() {
        let Some(&[b0, b1, b2, b3]) = word.first_chunk::<4>() else { break };
        if b3 & 0x1f != 0x10 {
            continue;
        }
        let instruction = u32::from_le_bytes([b0, b1, b2, b3]);
        let here = address.wrapping_add(i as u64 * 4);
        let immediate = i64::from((instruction >> 5 & 0x7_ffff) << 2 | instruction >> 29 & 3) << 43 >> 43;
        if instruction >> 31 == 0 {
            let target = here.wrapping_add_signed(immediate);
            if targets.contains(&target) && found.len() < MAX_HITS {
                found.push((here, target));
            }
            continue;
        }
        let page = (here >> 12).wrapping_add_signed(immediate);
        if !pages.contains(&page) {
            continue;
        }
        let register = instruction & 31;
        if let Some(low) = completing_add(code, i * 4 + 4, register) {
            let target = page << 12 | u64::from(low);
            if targets.contains(&target) && found.len() < MAX_HITS {
                found.push((here, target));
            }
        }
    }
}

/// The 12-bit immediate of the next `add xN, xREGISTER, #imm`.
fn completing_add(code: &[u8], from: usize, register: u32) -> Option<u32> {
    (0..PAIR_DISTANCE).find_map(|n| {
        let instruction = u32_at(code, from.checked_add(n * 4)?)?;
        let is_add = instruction & 0xffc0_0000 == 0x9100_0000 && instruction >> 5 & 31 == register;
        is_add.then_some(instruction >> 10 & 0xfff)
    })
}

/// The first jump from elsewhere into `from..to`.
pub(crate) fn jumps_into(image: &Image<'_>, from: u64, to: u64) -> Option<u64> {
    image.code().find_map(|(address, code)| match image.arch {
        Arch::X86_64 => memchr::memchr2_iter(0x0f, 0xe9, code).find_map(|at| {
            let conditional = code.get(at) == Some(&0x0f);
            if conditional && !matches!(code.get(at + 1), Some(0x80..=0x8f)) {
                return None;
            }
            let operand = at + 1 + usize::from(conditional);
            let displacement = u32_at(code, operand)?.cast_signed();
            let target = address.wrapping_add(operand as u64 + 4).wrapping_add_signed(i64::from(displacement));
            let here = address + at as u64;
            ((from..to).contains(&target) && !(from..to).contains(&here)).then_some(here)
        }),
        Arch::Aarch64 => code.chunks_exact(4).enumerate().find_map(|(i, word)| {
            let here = address.wrapping_add(i as u64 * 4);
            let target = here.wrapping_add_signed(crate::a64::branch_displacement(u32_at(word, 0)?)?);
            ((from..to).contains(&target) && !(from..to).contains(&here)).then_some(here)
        }),
        Arch::Other => None,
    })
}
