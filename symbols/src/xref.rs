//! Which code loads the address of a string. Strings survive stripping.

use memchr::{memchr_iter, memmem};

use crate::elf::{Image, Window, u32_at};
use crate::tls::Arch;

/// Places and hits that are kept per search: more means that the string says nothing.
const MAX_HITS: usize = 4096;
/// Instructions between `adrp` and the `add` that completes it.
const PAIR_DISTANCE: usize = 12;

/// Collects the places that load one of `targets`, window by window.
pub(crate) struct References<'t> {
    arch: Arch,
    /// Programs at a fixed address also load addresses as plain numbers.
    absolute: bool,
    targets: &'t [u64],
    found: Vec<(u64, u64)>,
}

impl<'t> References<'t> {
    pub(crate) fn new(image: &Image<'_>, targets: &'t [u64]) -> References<'t> {
        References { arch: image.arch, absolute: !image.position_independent, targets, found: Vec::new() }
    }

    pub(crate) fn look(&mut self, window: &Window<'_>) {
        if self.targets.is_empty() {
            return;
        }
        match self.arch {
            Arch::X86_64 => {
                relative_loads(window.bytes, window.address, self.targets, &mut self.found);
                if self.absolute {
                    absolute_loads(window.bytes, window.address, self.targets, &mut self.found);
                }
            }
            Arch::Aarch64 => page_pairs(window.bytes, window.address, self.targets, &mut self.found),
            Arch::Other => {}
        }
    }

    /// Addresses of code that loads a target, with the target, in ascending order.
    pub(crate) fn sorted(mut self) -> Vec<(u64, u64)> {
        self.found.sort_unstable();
        // Windows overlap.
        self.found.dedup();
        self.found
    }
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

/// `adr`, or `adrp` with the `add` that completes it; GCC reaches a group of constants through one such pair (its
/// section anchor) and a second `add`.
fn page_pairs(code: &[u8], address: u64, targets: &[u64], found: &mut Vec<(u64, u64)>) {
    let (Some(low), Some(high)) = (targets.iter().min(), targets.iter().max()) else { return };
    let (first_page, last_page) = ((low >> 12).saturating_sub(1), high >> 12);
    for (i, word) in code.chunks_exact(4).enumerate() {
        let Some(&[b0, b1, b2, b3]) = word.first_chunk::<4>() else { break };
        if b3 & 0x1f != 0x10 {
            continue;
        }
        let instruction = u32::from_le_bytes([b0, b1, b2, b3]);
        let here = address.wrapping_add(i as u64 * 4);
        let immediate = i64::from((instruction >> 5 & 0x7_ffff) << 2 | instruction >> 29 & 3) << 43 >> 43;
        let target = if instruction >> 31 == 0 {
            let target = here.wrapping_add_signed(immediate);
            targets.contains(&target).then_some(target)
        } else {
            let page = (here >> 12).wrapping_add_signed(immediate);
            (first_page..=last_page)
                .contains(&page)
                .then(|| completed(code, i * 4 + 4, instruction & 31, page << 12, targets))
                .flatten()
        };
        if let Some(target) = target
            && found.len() < MAX_HITS
        {
            found.push((here, target));
        }
    }
}

/// Which target the `add`s after an `adrp` arrive at.
fn completed(code: &[u8], from: usize, register: u32, page: u64, targets: &[u64]) -> Option<u64> {
    let (low, base, at) = next_add(code, from, register)?;
    let first = page + u64::from(low);
    if targets.contains(&first) {
        return Some(first);
    }
    // The anchor may be used several times.
    let mut from = at;
    for _ in 0..4 {
        let (more, _, at) = next_add(code, from, base)?;
        let second = first + u64::from(more);
        if targets.contains(&second) {
            return Some(second);
        }
        from = at;
    }
    None
}

/// The next `add xN, xREGISTER, #imm`: the immediate, N, and where to go on.
fn next_add(code: &[u8], from: usize, register: u32) -> Option<(u32, u32, usize)> {
    (0..PAIR_DISTANCE).find_map(|n| {
        let at = from.checked_add(n * 4)?;
        let instruction = u32_at(code, at)?;
        let is_add = instruction & 0xffc0_0000 == 0x9100_0000 && instruction >> 5 & 31 == register;
        is_add.then_some((instruction >> 10 & 0xfff, instruction & 31, at + 4))
    })
}

/// The first jump from elsewhere into `from..to`.
pub(crate) fn jumps_into(image: &Image<'_>, from: u64, to: u64) -> Option<u64> {
    let mut found = None;
    image.code_windows(|window| {
        if found.is_none() {
            found = jump_in(image.arch, window.bytes, window.address, from, to);
        }
    });
    found
}

fn jump_in(arch: Arch, code: &[u8], address: u64, from: u64, to: u64) -> Option<u64> {
    let arrives =
        |here: u64, target: u64| ((from..to).contains(&target) && !(from..to).contains(&here)).then_some(here);
    match arch {
        Arch::X86_64 => memchr::memchr2_iter(0x0f, 0xe9, code).find_map(|at| {
            let conditional = code.get(at) == Some(&0x0f);
            if conditional && !matches!(code.get(at + 1), Some(0x80..=0x8f)) {
                return None;
            }
            let operand = at + 1 + usize::from(conditional);
            let displacement = u32_at(code, operand)?.cast_signed();
            let target = address.wrapping_add(operand as u64 + 4).wrapping_add_signed(i64::from(displacement));
            arrives(address + at as u64, target)
        }),
        Arch::Aarch64 => code.chunks_exact(4).enumerate().find_map(|(i, word)| {
            let here = address.wrapping_add(i as u64 * 4);
            arrives(here, here.wrapping_add_signed(crate::a64::branch_displacement(u32_at(word, 0)?)?))
        }),
        Arch::Other => None,
    }
}
