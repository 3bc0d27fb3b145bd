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

/// The version text, such as `OpenSSL 3.5.8 1 Sep 2026`.
pub(crate) fn version(image: &Image<'_>) -> Option<String> {
    let finder = memchr::memmem::Finder::new(b"OpenSSL ");
    image.constants().find_map(|(_, bytes)| {
        finder.find_iter(bytes).take(4096).find_map(|at| {
            let text = bytes.get(at..bytes.len().min(at + 48))?.split(|b| *b == 0).next()?;
            let text = std::str::from_utf8(text).ok()?;
            let mut words = text.split(' ').skip(1);
            let number = words.next()?;
            let day = words.find(|w| !w.is_empty())?;
            let plausible = number.starts_with(|c: char| c.is_ascii_digit())
                && number.matches('.').count() == 2
                && day.chars().all(|c| c.is_ascii_digit());
            plausible.then(|| text.to_owned())
        })
    })
}

/// The internal functions, and the reasons for what is missing.
pub(crate) fn find(image: &Image<'_>) -> (Vec<Found>, Vec<Miss>) {
    let (mut found, mut misses) = (Vec::new(), Vec::new());
    for (role, name) in [(Role::ReadInternal, "ssl_read_internal"), (Role::WriteInternal, "ssl_write_internal")] {
        match find_one(image, role, name) {
            Ok(Some(one)) => found.push(one),
            Ok(None) => {}
            Err(reason) => misses.push(Miss { family: Some(Library::OpenSsl), reason }),
        }
    }
    (found, misses)
}

fn find_one(image: &Image<'_>, role: Role, name: &'static str) -> Result<Option<Found>, String> {
    let text = format!("\0{name}\0");
    let strings: Vec<u64> =
        xref::strings_ending(image, text.as_bytes()).iter().filter_map(|a| exact(image, *a, name)).collect();
    if strings.is_empty() {
        return Ok(None);
    }
    let references = xref::references(image, &strings);
    if references.is_empty() {
        return Err(format!("the string {name} is in the file but no code loads it"));
    }
    let table = UnwindTable::of(image)
        .ok_or(format!("{name} is referenced, but there is no unwind table to say where it begins"))?;
    let mut extents: Vec<Extent> = Vec::new();
    for (at, _) in &references {
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
    if !plausible(image.arch, code) {
        return Err(format!("what loads {name} does not begin like a function at {:#x}", extent.start));
    }
    let layout = Layout::c3(
        Moved::OutParam(Slot::Arg(count_argument(image.arch, role, code, extent))),
        if role == Role::ReadInternal { When::AtReturn } else { When::AtEntry },
    );
    Ok(Some(Found {
        role,
        name,
        address: extent.start,
        size: Some(extent.size),
        how: vec![How::StringXref(name.to_owned()), How::Unwind],
        confidence: Confidence::Agreed,
        layout: Some(layout),
    }))
}

/// [`xref::strings_ending`] goes back to the NUL before; here that NUL is part of the search.
fn exact(image: &Image<'_>, address: u64, name: &str) -> Option<u64> {
    let bytes = image.at(address)?;
    let at = memchr::memmem::find(bytes.get(..bytes.len().min(1024))?, name.as_bytes())?;
    address.checked_add(at as u64)
}

fn plausible(arch: Arch, code: &[u8]) -> bool {
    match arch {
        Arch::X86_64 => crate::find::begins_like_a_function(code),
        Arch::Aarch64 => a64::begins_like_a_function(code),
        Arch::Other => false,
    }
}

/// GCC moves error paths into a part of their own, with its own unwind entry: then the function is the one that
/// jumps there.
fn hot_part(image: &Image<'_>, table: &UnwindTable<'_>, part: Extent) -> Extent {
    let code = image.code_at(part.start).unwrap_or(&[]);
    if plausible(image.arch, code) {
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
