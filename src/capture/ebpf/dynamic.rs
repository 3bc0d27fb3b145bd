//! What an ELF file asks of the dynamic linker. 64-bit little-endian files; anything else asks nothing.
//!
//! The bytes are untrusted: every offset is checked, every loop is bounded by the file's size.

/// What the dynamic section says.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Dynamic {
    /// It is a program: it names an interpreter, or is a static executable, position-independent or not.
    pub program: bool,
    /// `DT_NEEDED`.
    pub needed: Vec<String>,
    /// `DT_RPATH` and `DT_RUNPATH`, split.
    pub runpath: Vec<String>,
}

const ET_EXEC: u64 = 2;
const PT_LOAD: u64 = 1;
const PT_DYNAMIC: u64 = 2;
const PT_INTERP: u64 = 3;
const DT_NULL: u64 = 0;
const DT_NEEDED: u64 = 1;
const DT_STRTAB: u64 = 5;
/// Linkers put it into programs only.
const DT_DEBUG: u64 = 21;
const DT_RPATH: u64 = 15;
const DT_RUNPATH: u64 = 29;
const DT_FLAGS_1: u64 = 0x6fff_fffb;
const DF_1_PIE: u64 = 0x0800_0000;
/// More entries than any real file has.
const MOST_ENTRIES: usize = 4096;

#[derive(Clone, Copy)]
struct Segment {
    kind: u64,
    offset: u64,
    address: u64,
    size: u64,
}

/// Reads a little-endian number of `size` bytes.
fn number(bytes: &[u8], at: u64, size: u64) -> Option<u64> {
    let at = usize::try_from(at).ok()?;
    let field = bytes.get(at..at.checked_add(usize::try_from(size).ok()?)?)?;
    Some(field.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

fn text(bytes: &[u8], at: u64) -> Option<String> {
    let rest = bytes.get(usize::try_from(at).ok()?..)?;
    let end = rest.iter().take(4096).position(|byte| *byte == 0)?;
    rest.get(..end).map(|text| String::from_utf8_lossy(text).into_owned())
}

/// Reads the dynamic section; empty for what has none or is no such file.
pub fn read(bytes: &[u8]) -> Dynamic {
    let mut found = Dynamic::default();
    if !bytes.starts_with(b"\x7fELF\x02\x01") {
        return found;
    }
    let segments = segments(bytes).unwrap_or_default();
    let is_executable = number(bytes, 16, 2) == Some(ET_EXEC);
    let interpreter = segments.iter().any(|segment| segment.kind == PT_INTERP);
    let dynamic = segments.iter().find(|segment| segment.kind == PT_DYNAMIC);
    found.program = is_executable || interpreter || dynamic.is_none();
    let Some(dynamic) = dynamic else {
        return found;
    };
    let entries = entries(bytes, dynamic);
    // A static position-independent program (musl builds, Codex) names no interpreter.
    found.program |= entries.iter().any(|(tag, value)| *tag == DT_DEBUG || *tag == DT_FLAGS_1 && value & DF_1_PIE != 0);
    let strings = entries.iter().find(|(tag, _)| *tag == DT_STRTAB).and_then(|(_, at)| file_offset(&segments, *at));
    let Some(strings) = strings else {
        return found;
    };
    let string = |at: u64| text(bytes, strings.checked_add(at)?);
    // A static position-independent program has a dynamic section, and needs nothing.
    found.needed = entries.iter().filter(|(tag, _)| *tag == DT_NEEDED).filter_map(|(_, at)| string(*at)).collect();
    let paths =
        entries.iter().filter(|(tag, _)| *tag == DT_RPATH || *tag == DT_RUNPATH).filter_map(|(_, at)| string(*at));
    found.runpath = paths.flat_map(|path| path.split(':').map(str::to_owned).collect::<Vec<_>>()).collect();
    found.runpath.retain(|path| !path.is_empty());
    found
}

fn segments(bytes: &[u8]) -> Option<Vec<Segment>> {
    let (table, size, count) = (number(bytes, 32, 8)?, number(bytes, 54, 2)?, number(bytes, 56, 2)?);
    let one = |index: u64| {
        let at = table.checked_add(index.checked_mul(size)?)?;
        let field = |offset: u64, size: u64| number(bytes, at.checked_add(offset)?, size);
        Some(Segment { kind: field(0, 4)?, offset: field(8, 8)?, address: field(16, 8)?, size: field(32, 8)? })
    };
    (0..count).map(one).collect()
}

fn entries(bytes: &[u8], dynamic: &Segment) -> Vec<(u64, u64)> {
    let count = usize::try_from(dynamic.size / 16).unwrap_or(MOST_ENTRIES).min(MOST_ENTRIES);
    let mut entries = Vec::new();
    let mut at = dynamic.offset;
    for _ in 0..count {
        let (Some(tag), Some(value)) = (number(bytes, at, 8), number(bytes, at.saturating_add(8), 8)) else {
            break;
        };
        if tag == DT_NULL {
            break;
        }
        entries.push((tag, value));
        at = at.saturating_add(16);
    }
    entries
}

fn file_offset(segments: &[Segment], address: u64) -> Option<u64> {
    let loads = segments.iter().filter(|segment| segment.kind == PT_LOAD);
    loads
        .filter_map(|segment| {
            let into = address.checked_sub(segment.address)?;
            (into < segment.size).then(|| segment.offset.checked_add(into))?
        })
        .next()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_program_names_what_it_needs() {
        let bytes = std::fs::read("/proc/self/exe").unwrap();
        let dynamic = read(&bytes);
        assert!(dynamic.program);
        assert!(dynamic.needed.iter().any(|name| name.starts_with("libc.so")), "{dynamic:?}");
    }

    #[test]
    fn a_static_position_independent_program_is_no_library() {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("made.c");
        std::fs::write(&source, "int main(void) { return 0; }\n").unwrap();
        let made = |how: &[&str]| {
            let file = dir.path().join("made");
            let cc = std::process::Command::new("cc").args(how).arg("-o").arg(&file).arg(&source).status().unwrap();
            assert!(cc.success(), "cc {how:?}");
            read(&std::fs::read(&file).unwrap())
        };
        assert_eq!(made(&["-static-pie"]), Dynamic { program: true, ..Dynamic::default() });
        assert!(made(&["-static"]).program);
        assert!(!made(&["-shared", "-fPIC"]).program);
    }

    #[test]
    fn a_file_cut_anywhere_in_its_head_is_no_panic() {
        let bytes = std::fs::read("/proc/self/exe").unwrap();
        for end in 0..2048.min(bytes.len()) {
            let _ = read(&bytes[..end]);
        }
        let mut wild = bytes[..2048.min(bytes.len())].to_vec();
        for at in 16..wild.len() {
            wild[at] = 0xff;
            let _ = read(&wild);
        }
    }

    #[test]
    fn what_is_no_elf_file_asks_nothing() {
        assert_eq!(read(b"#!/bin/sh\n"), Dynamic::default());
        assert_eq!(read(b""), Dynamic::default());
    }
}
