//! OpenSSL that was linked statically and stripped.
//!
//! Its error macros pass `__func__`, so the strings `ssl_read_internal` and `ssl_write_internal` survive. The code
//! that loads such a string is inside the function of that name, and the unwind table says where that begins:
//! two independent sources. Every public reading and writing function goes through these two.

use iced_x86::{InstructionInfoFactory, OpAccess, Register};

use crate::elf::Image;
use crate::find::Found;
use crate::tls::{Arch, Confidence, How, Layout, Library, Miss, Moved, Role, Slot, When};
use crate::unwind::{Extent, UnwindTable};
use crate::{a64, x86, xref};

const FUNCTIONS: [(Role, &str); 2] =
    [(Role::ReadInternal, "ssl_read_internal"), (Role::WriteInternal, "ssl_write_internal")];

/// The internal functions, and the reasons for what is missing. `references` are the places that load one of
/// `strings`, the names that error macros pass.
pub(crate) fn find(image: &Image<'_>, strings: &[u64], references: &[(u64, u64)]) -> (Vec<Found>, Vec<Miss>) {
    let (mut found, mut misses) = (Vec::new(), Vec::new());
    for (role, name) in FUNCTIONS {
        let own: Vec<u64> = strings.iter().copied().filter(|s| named(image, *s, name)).collect();
        if own.is_empty() {
            continue;
        }
        let places: Vec<u64> = references.iter().filter(|(_, s)| own.contains(s)).map(|(at, _)| *at).collect();
        match find_one(image, role, name, &places) {
            Ok(one) => found.push(one),
            Err(reason) => misses.push(Miss { family: Some(Library::OpenSsl), reason }),
        }
    }
    (found, misses)
}

fn named(image: &Image<'_>, address: u64, name: &str) -> bool {
    image.at(address).is_some_and(|b| b.starts_with(name.as_bytes()) && b.get(name.len()) == Some(&0))
}

fn find_one(image: &Image<'_>, role: Role, name: &'static str, places: &[u64]) -> Result<Found, String> {
    if places.is_empty() {
        return Err(format!("the string {name} is in the file but no code loads it"));
    }
    let table = UnwindTable::of(image)
        .ok_or(format!("{name} is referenced, but there is no unwind table to say where it begins"))?;
    let mut extents: Vec<Extent> = Vec::new();
    for at in places {
        let Some(inside) = table.containing(image, *at) else { continue };
        let whole = hot_part(image, &table, inside);
        if !extents.contains(&whole) {
            extents.push(whole);
        }
    }
    let [extent] = extents.as_slice() else {
        return Err(format!("{} functions load the string {name}: it was inlined", extents.len()));
    };
    let code = image.code_at(extent.start).unwrap_or(&[]);
    if !plausible(image, extent.start) {
        return Err(format!("what loads {name} does not begin like a function at {:#x}", extent.start));
    }
    let layout = Layout::c3(
        Moved::OutParam(Slot::Arg(count_argument(image.arch, role, code, extent))),
        if role == Role::ReadInternal { When::AtReturn } else { When::AtEntry },
    );
    Ok(Found {
        role,
        name,
        address: extent.start,
        size: Some(extent.size),
        how: vec![How::StringXref(name.to_owned()), How::Unwind],
        confidence: Confidence::Agreed,
        layout: Some(layout),
    })
}

/// A function begins here: what stands before ends something, and the first instruction is one that functions begin
/// with.
fn plausible(image: &Image<'_>, start: u64) -> bool {
    let Some((address, around)) = image.code_around(start, 16) else { return false };
    let at = (start - address) as usize;
    let code = around.get(at..).unwrap_or(&[]);
    match image.arch {
        Arch::X86_64 => x86::follows_an_end(around, at) && crate::find::begins_like_a_function(code),
        Arch::Aarch64 => a64::follows_an_end(around, at) && a64::begins_like_a_function(code),
        Arch::Other => false,
    }
}

/// GCC moves error paths into a part of their own, with its own unwind entry: then the function is the one that
/// jumps there.
fn hot_part(image: &Image<'_>, table: &UnwindTable<'_>, part: Extent) -> Extent {
    if plausible(image, part.start) {
        return part;
    }
    xref::jumps_into(image, part.start, part.start.saturating_add(part.size))
        .and_then(|from| table.containing(image, from))
        .unwrap_or(part)
}

/// Which argument points to the count. Up to 3.2 both functions have four arguments; from 3.3 on writing has
/// `flags` before it. A function that reads r8 (x4) before writing it takes five.
fn count_argument(arch: Arch, role: Role, code: &[u8], extent: &Extent) -> u8 {
    let five = role == Role::WriteInternal
        && match arch {
            Arch::X86_64 => reads_fifth_argument(code, extent),
            Arch::Aarch64 => a64::reads_fifth_argument(code, extent.size as usize),
            Arch::Other => false,
        };
    if five { 4 } else { 3 }
}

fn reads_fifth_argument(code: &[u8], extent: &Extent) -> bool {
    let mut info = InstructionInfoFactory::new();
    for i in x86::instructions(code, extent.start, extent.size as usize) {
        if i.is_call_near() || i.is_call_near_indirect() {
            // Calls end what arguments live; a five-argument function saved r8 before.
            return false;
        }
        for used in info.info(&i).used_registers() {
            if used.register().full_register() == Register::R8 {
                return matches!(used.access(), OpAccess::Read | OpAccess::ReadWrite | OpAccess::CondRead);
            }
        }
    }
    false
}
