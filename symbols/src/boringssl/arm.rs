//! The same search on aarch64, from the other side: code that loads the path `ssl/ssl_lib.cc` leads to the functions,
//! and what their instructions do tells which is which.

use super::note;
use crate::a64;
use crate::elf::{Image, u32_at};
use crate::find::Found;
use crate::signature::boringssl as sig;
use crate::tls::Role;
use crate::unwind::UnwindTable;

/// Instructions between a function's start and an error macro in it.
const LOOK_BACK: usize = 160;
const BODY: usize = 2048;

pub(super) fn find(image: &Image<'_>, references: &[(u64, u64)]) -> Vec<Found> {
    let table = UnwindTable::of(image);
    let mut found = Vec::new();
    for (place, _) in references {
        let known = table.as_ref().and_then(|t| t.containing(image, *place));
        let judged = match known {
            Some(extent) => begins(image, extent.start, *place).map(|role| (extent.start, role)),
            None => judge(image, *place),
        };
        let Some((address, role)) = judged else { continue };
        note(&mut found, image, references, role, address);
    }
    found
}

/// Nearest function start before `place` whose instructions do what one of the functions does.
fn judge(image: &Image<'_>, place: u64) -> Option<(u64, Role)> {
    (0..LOOK_BACK as u64).find_map(|n| {
        let start = place.checked_sub(n * 4)?;
        begins(image, start, place).map(|role| (start, role))
    })
}

/// A function begins at `start`, reaches to `place`, and does what one of the functions does.
fn begins(image: &Image<'_>, start: u64, place: u64) -> Option<Role> {
    let before = image.code_at(start.checked_sub(4)?)?;
    let code = before.get(4..)?;
    if !a64::begins_like_a_function(code) || !a64::follows_an_end(before, 4) {
        return None;
    }
    let words = a64::body(code, BODY);
    let inside = place.checked_sub(start)? < words.len() as u64 * 4;
    let role = if is_write(&words) { Role::Write } else { read_or_peek(&words)? };
    inside.then_some(role)
}

/// Registers that hold the three arguments.
#[derive(Default)]
struct Saved {
    ssl: Option<u32>,
    buffer: bool,
    length: bool,
}

impl Saved {
    /// `mov xN, x0`, `mov xN, x1`, `mov wN, w2`.
    fn see(&mut self, i: u32) {
        match i & 0xffff_ffe0 {
            0xaa00_03e0 => self.ssl = Some(i & 31),
            0xaa01_03e0 => self.buffer = true,
            // mov, or sxtw.
            0x2a02_03e0 | 0xaa02_03e0 | 0x9340_7c40 => self.length = true,
            _ => {}
        }
    }

    fn all(&self) -> bool {
        self.ssl.is_some() && self.buffer && self.length
    }
}

const fn load(base: u32, offset: u64) -> u32 {
    0xf940_0000 | ((offset as u32 / 8) << 10) | (base << 5)
}

/// `ldr xN, [BASE, #quic_method]` and soon after it `cbz xN` or `cbnz xN`.
fn tests_quic(words: &[u32], n: usize, base: u32) -> bool {
    let Some((&this, after)) = words.get(n..).and_then(<[u32]>::split_first) else { return false };
    let branches = |next: &u32| next & 0xfe00_001f == 0xb400_0000 | (this & 31);
    this & 0xffff_ffe0 == load(base, sig::QUIC_METHOD) && after.iter().take(4).any(branches)
}

fn is_call(i: u32) -> bool {
    i & 0xfc00_0000 == 0x9400_0000
}

/// Saves all three arguments, resets `rwstate` before the first call, and tests for QUIC after it.
fn is_write(words: &[u32]) -> bool {
    let mut saved = Saved::default();
    let mut reset = false;
    for (n, &i) in words.iter().enumerate().take(64) {
        if is_call(i) && !(reset && saved.all()) {
            return false;
        }
        saved.see(i);
        // str wzr, [xN, #rwstate]
        reset |= i & 0xffff_fc1f == 0xb900_001f | (sig::RWSTATE / 4) << 10;
        if reset && saved.ssl.is_some_and(|ssl| tests_quic(words, n, ssl)) {
            return saved.all();
        }
    }
    false
}

/// Tests for QUIC before anything else, saves all three arguments, then stores to the length of the pending data
/// (`SSL_read`) or only loads it (`SSL_peek`).
fn read_or_peek(words: &[u32]) -> Option<Role> {
    let test =
        (0..words.len().min(24)).find(|n| tests_quic(words, *n, 0) || words.get(*n).is_some_and(|i| is_call(*i)))?;
    if !tests_quic(words, test, 0) {
        return None;
    }
    let mut saved = Saved::default();
    let (mut loads, mut stores) = (false, false);
    let pending = (sig::PENDING_LEN as u32 / 8) << 10;
    for &i in words {
        saved.see(i);
        if !saved.all() || i >> 5 & 31 == 31 {
            continue;
        }
        loads |= i & 0xffff_fc00 == 0xf940_0000 | pending;
        // str xN, [xM, #136], or stp xA, xB, [xM, #128]
        stores |= i & 0xffff_fc00 == 0xf900_0000 | pending;
        stores |= i & 0xffff_8000 == 0xa900_0000 | (sig::PENDING_LEN as u32 / 8 - 1) << 15;
        // ldp xA, xB, [xM, #128]
        loads |= i & 0xffff_8000 == 0xa940_0000 | (sig::PENDING_LEN as u32 / 8 - 1) << 15;
    }
    loads.then_some(if stores { Role::Read } else { Role::Peek })
}

/// The function's own instructions, or those of a cold part that it jumps to, load the string.
pub(super) fn refers(code: &[u8], address: u64, references: &[(u64, u64)]) -> bool {
    let words = a64::body(code, BODY);
    let end = address + words.len() as u64 * 4;
    references.iter().any(|(at, _)| (address..end).contains(at)) && u32_at(code, 0).is_some()
}
