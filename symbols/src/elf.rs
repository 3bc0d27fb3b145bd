//! A 64-bit little-endian ELF image, read in place.
//!
//! Every read is checked against the file's length; nothing here can panic, loop without a bound or allocate
//! more than the (capped) number of headers. The bytes are the caller's, usually a mapping of the file: nothing
//! is copied but names that are asked for.

use std::ops::Range;

use crate::tls::Arch;

const MAX_HEADERS: usize = 4096;
/// Above every address of a user's process.
const MAX_ADDRESS: u64 = 1 << 56;
/// Symbols looked at per table; real ones stay below two million.
const MAX_SYMBOLS: usize = 8_000_000;

const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;
const PT_NOTE: u32 = 4;
const PT_GNU_EH_FRAME: u32 = 0x6474_e550;
const SHT_PROGBITS: u32 = 1;
const SHT_SYMTAB: u32 = 2;
const SHT_NOBITS: u32 = 8;
const SHT_DYNSYM: u32 = 11;
const SHF_WRITE: u64 = 1;
const SHF_ALLOC: u64 = 2;
const SHF_EXECINSTR: u64 = 4;
const ET_DYN: u16 = 3;

/// Reads a little-endian `u16`.
pub(crate) fn u16_at(d: &[u8], at: usize) -> Option<u16> {
    let b = d.get(at..at.checked_add(2)?)?;
    Some(u16::from_le_bytes(b.try_into().ok()?))
}

/// Reads a little-endian `u32`.
pub(crate) fn u32_at(d: &[u8], at: usize) -> Option<u32> {
    let b = d.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(b.try_into().ok()?))
}

/// Reads a little-endian `u64`.
pub(crate) fn u64_at(d: &[u8], at: usize) -> Option<u64> {
    let b = d.get(at..at.checked_add(8)?)?;
    Some(u64::from_le_bytes(b.try_into().ok()?))
}

fn size(v: u64) -> Option<usize> {
    usize::try_from(v).ok()
}

/// A loaded segment, cut to what the file really holds.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) address: u64,
    pub(crate) file: Range<usize>,
    pub(crate) executable: bool,
    pub(crate) writable: bool,
}

/// A run of bytes to search, and the address of its first one.
#[derive(Clone, Debug)]
struct Area {
    address: u64,
    file: Range<usize>,
}

#[derive(Clone, Debug)]
struct Section {
    name: u32,
    kind: u32,
    flags: u64,
    address: u64,
    file: Range<usize>,
    link: u32,
}

/// One symbol table: where its entries and its names are.
#[derive(Clone, Debug)]
pub(crate) struct SymbolTable {
    entries: Range<usize>,
    names: Range<usize>,
}

impl SymbolTable {
    /// Entries, imported ones included.
    pub(crate) fn len(&self) -> usize {
        self.entries.len() / 24
    }
}

/// A defined function symbol.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Symbol<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) address: u64,
    pub(crate) size: u64,
}

/// Called with a range of the file that was read through and is not needed soon.
pub(crate) type Release<'r> = &'r dyn Fn(Range<usize>);

/// Bytes of a large area, a piece at a time, with some of what is around the piece.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window<'a> {
    /// The address of the first byte.
    pub(crate) address: u64,
    pub(crate) bytes: &'a [u8],
    /// Where the piece itself begins: what lies before was in the window before.
    pub(crate) lead: usize,
    /// Where it ends: what lies after comes again in the next window.
    pub(crate) end: usize,
}

impl Window<'_> {
    /// Something found at this place belongs to this window, and not to one beside it.
    pub(crate) fn owns(&self, at: usize) -> bool {
        (self.lead..self.end).contains(&at)
    }
}

/// A window's own piece: small enough for the processor's cache, so that many searches cost one read of memory.
const PIECE: usize = 1 << 20;
/// What is shown before and after.
const AROUND: usize = 512;

/// The image.
pub(crate) struct Image<'a> {
    data: &'a [u8],
    release: Option<Release<'a>>,
    pub(crate) arch: Arch,
    pub(crate) segments: Vec<Segment>,
    code: Vec<Area>,
    constants: Vec<Area>,
    sections: Vec<Section>,
    names: Range<usize>,
    dynamic: Option<Range<usize>>,
    notes: Vec<Range<usize>>,
    pub(crate) eh_frame_hdr: Option<(u64, Range<usize>)>,
    pub(crate) has_interpreter: bool,
    pub(crate) position_independent: bool,
}

impl<'a> Image<'a> {
    /// Reads the headers; `Err` says why this is nothing to look at.
    pub(crate) fn parse(data: &'a [u8]) -> Result<Image<'a>, &'static str> {
        let image = Image::parse_for_symbols(data)?;
        if !image.segments.iter().any(|s| s.executable) {
            return Err("no executable segment");
        }
        Ok(image)
    }

    /// As [`Image::parse`], for files that carry symbols but no code (`.gnu_debugdata`).
    pub(crate) fn parse_for_symbols(data: &'a [u8]) -> Result<Image<'a>, &'static str> {
        let head = data.get(..64).ok_or("shorter than an ELF header")?;
        if head.get(..4) != Some(b"\x7fELF") {
            return Err("not an ELF file");
        }
        if head.get(4) != Some(&2) || head.get(5) != Some(&1) {
            return Err("not a 64-bit little-endian ELF file");
        }
        let arch = match u16_at(head, 18) {
            Some(62) => Arch::X86_64,
            Some(183) => Arch::Aarch64,
            _ => return Err("neither x86-64 nor aarch64"),
        };
        let mut image = Image {
            data,
            release: None,
            arch,
            segments: Vec::new(),
            code: Vec::new(),
            constants: Vec::new(),
            sections: Vec::new(),
            names: 0..0,
            dynamic: None,
            notes: Vec::new(),
            eh_frame_hdr: None,
            has_interpreter: false,
            position_independent: u16_at(head, 16) == Some(ET_DYN),
        };
        image.read_segments().ok_or("program headers out of range")?;
        // Section headers may be gone or broken: the segments are what the kernel uses.
        let _ = image.read_sections();
        image.lay_out();
        Ok(image)
    }

    /// The whole file.
    pub(crate) fn data(&self) -> &'a [u8] {
        self.data
    }

    fn clip(&self, offset: u64, length: u64) -> Option<Range<usize>> {
        let start = size(offset)?;
        if start > self.data.len() {
            return None;
        }
        let end = start.saturating_add(size(length)?).min(self.data.len());
        Some(start..end)
    }

    fn read_segments(&mut self) -> Option<()> {
        let table = size(u64_at(self.data, 32)?)?;
        let each = usize::from(u16_at(self.data, 54)?);
        let count = usize::from(u16_at(self.data, 56)?).min(MAX_HEADERS);
        if each < 56 {
            return None;
        }
        for i in 0..count {
            let at = table.checked_add(i.checked_mul(each)?)?;
            let Some(entry) = self.data.get(at..at.checked_add(56)?) else { break };
            let (kind, flags) = (u32_at(entry, 0)?, u32_at(entry, 4)?);
            let (offset, address, length) = (u64_at(entry, 8)?, u64_at(entry, 16)?, u64_at(entry, 32)?);
            let Some(file) = self.clip(offset, length) else { continue };
            // Beyond what a process can have, sums of addresses could overflow.
            if address.checked_add(file.len() as u64).is_none_or(|end| end > MAX_ADDRESS) {
                continue;
            }
            match kind {
                PT_LOAD if !file.is_empty() => {
                    self.segments.push(Segment { address, file, executable: flags & 1 != 0, writable: flags & 2 != 0 })
                }
                PT_DYNAMIC => self.dynamic = Some(file),
                PT_INTERP => self.has_interpreter = true,
                PT_NOTE => self.notes.push(file),
                PT_GNU_EH_FRAME => self.eh_frame_hdr = Some((address, file)),
                _ => {}
            }
        }
        Some(())
    }

    fn read_sections(&mut self) -> Option<()> {
        let table = size(u64_at(self.data, 40)?)?;
        let each = usize::from(u16_at(self.data, 58)?);
        let count = usize::from(u16_at(self.data, 60)?).min(MAX_HEADERS);
        let names = usize::from(u16_at(self.data, 62)?);
        if each < 64 || table == 0 {
            return None;
        }
        for i in 0..count {
            let at = table.checked_add(i.checked_mul(each)?)?;
            let entry = self.data.get(at..at.checked_add(64)?)?;
            let kind = u32_at(entry, 4)?;
            let length = if kind == SHT_NOBITS { 0 } else { u64_at(entry, 32)? };
            self.sections.push(Section {
                name: u32_at(entry, 0)?,
                kind,
                flags: u64_at(entry, 8)?,
                address: u64_at(entry, 16)?,
                file: self.clip(u64_at(entry, 24)?, length).unwrap_or(0..0),
                link: u32_at(entry, 40)?,
            });
        }
        self.names = self.sections.get(names).map(|s| s.file.clone()).unwrap_or(0..0);
        Some(())
    }

    fn section_name(&self, section: &Section) -> &'a [u8] {
        let start = self.names.start.saturating_add(section.name as usize);
        self.data.get(start..self.names.end).and_then(|names| names.split(|b| *b == 0).next()).unwrap_or(b"")
    }

    /// Address and bytes of the section with this name.
    pub(crate) fn section(&self, name: &[u8]) -> Option<(u64, &'a [u8])> {
        let found = self.sections.iter().find(|s| self.section_name(s) == name)?;
        Some((found.address, self.data.get(found.file.clone())?))
    }

    /// What is code and what is constants: by section where that is said, else by segment. Some linkers put both
    /// into one executable segment.
    fn lay_out(&mut self) {
        let wanted = |s: &&Section| s.kind == SHT_PROGBITS && s.flags & SHF_ALLOC != 0 && !s.file.is_empty();
        let sections: Vec<&Section> = self.sections.iter().filter(wanted).filter(|s| self.is_mapped_there(s)).collect();
        let area = |s: &&Section| Area { address: s.address, file: s.file.clone() };
        let unwinding = |s: &&&Section| {
            let name = self.section_name(s);
            name.starts_with(b".eh_frame") || name.starts_with(b".gcc_except") || name == b".gopclntab"
        };
        let mut code: Vec<Area> =
            sections.iter().filter(|s| s.flags & SHF_EXECINSTR != 0 && self.is_code(s.address)).map(area).collect();
        let mut constants: Vec<Area> = sections
            .iter()
            .filter(|s| s.flags & (SHF_EXECINSTR | SHF_WRITE) == 0)
            .filter(|s| !unwinding(s))
            .map(area)
            .collect();
        let whole = |s: &Segment| Area { address: s.address, file: s.file.clone() };
        if code.is_empty() {
            code = self.segments.iter().filter(|s| s.executable).map(whole).collect();
            constants.clear();
        }
        if constants.is_empty() {
            let plain = |s: &&Segment| !s.executable && !s.writable;
            let any = self.segments.iter().any(|s| plain(&s));
            constants = self.segments.iter().filter(|s| if any { plain(s) } else { s.executable }).map(whole).collect();
        }
        self.code = code;
        self.constants = constants;
    }

    /// The section's bytes are really loaded at the address it claims.
    fn is_mapped_there(&self, s: &Section) -> bool {
        self.segments.iter().any(|g| {
            g.file.contains(&s.file.start)
                && s.file.end <= g.file.end
                && s.address.checked_sub(g.address) == Some((s.file.start - g.file.start) as u64)
        })
    }

    /// Reports what was read through to `release`.
    pub(crate) fn releasing(self, release: Release<'a>) -> Image<'a> {
        Image { release: Some(release), ..self }
    }

    /// All code, window by window.
    pub(crate) fn code_windows(&self, visit: impl FnMut(Window<'a>)) {
        self.windows(&self.code, visit);
    }

    /// All constants, window by window.
    pub(crate) fn constant_windows(&self, visit: impl FnMut(Window<'a>)) {
        self.windows(&self.constants, visit);
    }

    fn windows(&self, areas: &[Area], mut visit: impl FnMut(Window<'a>)) {
        for area in areas {
            let mut start = area.file.start;
            while start < area.file.end {
                let end = start.saturating_add(PIECE).min(area.file.end);
                let from = start.saturating_sub(AROUND).max(area.file.start);
                let to = end.saturating_add(AROUND).min(area.file.end);
                let address = area.address.wrapping_add((from - area.file.start) as u64);
                if let Some(bytes) = self.data.get(from..to) {
                    visit(Window { address, bytes, lead: start - from, end: end - from });
                }
                if let Some(release) = self.release {
                    release(start..end);
                }
                start = end;
            }
        }
    }

    /// The code from `before` bytes ahead of an address on (less at the start of an area): the first byte's address,
    /// and the bytes.
    pub(crate) fn code_around(&self, address: u64, before: u64) -> Option<(u64, &'a [u8])> {
        let area =
            self.code.iter().find(|a| address.checked_sub(a.address).is_some_and(|i| i < a.file.len() as u64))?;
        let start = address.saturating_sub(before).max(area.address);
        let into = size(start - area.address)?;
        Some((start, self.data.get(area.file.start + into..area.file.end)?))
    }

    /// File offset of an address.
    pub(crate) fn offset_of(&self, address: u64) -> Option<u64> {
        self.segments.iter().find_map(|s| {
            let into = address.checked_sub(s.address)?;
            (into < s.file.len() as u64).then(|| s.file.start as u64 + into)
        })
    }

    /// The bytes from an address to the end of its segment.
    pub(crate) fn at(&self, address: u64) -> Option<&'a [u8]> {
        let s =
            self.segments.iter().find(|s| address.checked_sub(s.address).is_some_and(|i| i < s.file.len() as u64))?;
        let into = size(address - s.address)?;
        self.data.get(s.file.start + into..s.file.end)
    }

    /// The bytes from an address on, when it lies in an executable segment.
    pub(crate) fn code_at(&self, address: u64) -> Option<&'a [u8]> {
        self.is_code(address).then(|| self.at(address)).flatten()
    }

    /// The address lies in an executable segment.
    pub(crate) fn is_code(&self, address: u64) -> bool {
        self.segments
            .iter()
            .any(|s| s.executable && address.checked_sub(s.address).is_some_and(|i| i < s.file.len() as u64))
    }

    /// `.dynsym`, from the section headers or, without them, from the dynamic segment.
    pub(crate) fn dynsym(&self) -> Option<SymbolTable> {
        self.table(SHT_DYNSYM).or_else(|| self.dynsym_from_dynamic())
    }

    /// `.symtab`.
    pub(crate) fn symtab(&self) -> Option<SymbolTable> {
        self.table(SHT_SYMTAB)
    }

    fn table(&self, kind: u32) -> Option<SymbolTable> {
        let found = self.sections.iter().find(|s| s.kind == kind && !s.file.is_empty())?;
        let names = self.sections.get(found.link as usize)?;
        Some(SymbolTable { entries: found.file.clone(), names: names.file.clone() })
    }

    /// Entries `(tag, value)` of the dynamic segment.
    fn dynamic_entries(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let bytes = self.dynamic.clone().and_then(|r| self.data.get(r)).unwrap_or(&[]);
        bytes
            .chunks_exact(16)
            .take(MAX_HEADERS)
            .map_while(|e| Some((u64_at(e, 0)?, u64_at(e, 8)?)))
            .take_while(|(tag, _)| *tag != 0)
    }

    fn dynsym_from_dynamic(&self) -> Option<SymbolTable> {
        let value = |wanted| self.dynamic_entries().find(|(t, _)| *t == wanted).map(|(_, v)| v);
        let symbols = size(self.offset_of(value(6)?)?)?;
        let strings = size(self.offset_of(value(5)?)?)?;
        let string_bytes = size(value(10)?)?;
        // The symbol count is nowhere; the string table follows the symbols in every linker's layout, and DT_HASH
        // says it where it exists.
        let by_hash = value(4).and_then(|h| u32_at(self.at(h)?, 4)).map(|n| n as usize);
        let by_layout = strings.checked_sub(symbols).map(|bytes| bytes / 24);
        let count = by_hash.or(by_layout)?.min(MAX_SYMBOLS);
        let end = symbols.checked_add(count.checked_mul(24)?)?.min(self.data.len());
        let names_end = strings.checked_add(string_bytes)?.min(self.data.len());
        Some(SymbolTable { entries: symbols..end, names: strings..names_end })
    }

    /// Defined functions of a table, in its order.
    pub(crate) fn functions(&self, table: &SymbolTable) -> impl Iterator<Item = Symbol<'a>> + use<'a> {
        let entries = self.data.get(table.entries.clone()).unwrap_or(&[]);
        let names = self.data.get(table.names.clone()).unwrap_or(&[]);
        entries.chunks_exact(24).take(MAX_SYMBOLS).filter_map(move |entry| {
            let info = *entry.get(4)?;
            let section = u16_at(entry, 6)?;
            // Functions that are defined here.
            if section == 0 || info & 15 != 2 {
                return None;
            }
            let name = names.get(u32_at(entry, 0)? as usize..)?;
            Some(Symbol { name, address: u64_at(entry, 8)?, size: u64_at(entry, 16)? })
        })
    }

    /// `DT_SONAME`.
    pub(crate) fn soname(&self) -> Option<String> {
        let strings = self.dynamic_entries().find(|(t, _)| *t == 5)?.1;
        let name = self.dynamic_entries().find(|(t, _)| *t == 14)?.1;
        let bytes = self.at(strings.checked_add(name)?)?;
        let bytes = bytes.get(..bytes.len().min(256))?.split(|b| *b == 0).next()?;
        Some(String::from_utf8_lossy(bytes).into_owned())
    }

    /// Names at least one library it needs.
    pub(crate) fn needs_libraries(&self) -> bool {
        self.dynamic_entries().any(|(tag, _)| tag == 1)
    }

    /// The GNU build-id, else Go's.
    pub(crate) fn build_id(&self) -> Option<Vec<u8>> {
        let in_notes = self.notes.iter().filter_map(|r| self.data.get(r.clone()));
        let in_sections = [b".note.gnu.build-id".as_slice(), b".note.go.buildid"]
            .into_iter()
            .filter_map(|name| self.section(name).map(|(_, bytes)| bytes));
        let all: Vec<&[u8]> = in_notes.chain(in_sections).collect();
        find_note(&all, b"GNU\0", 3).or_else(|| find_note(&all, b"Go\0\0", 4))
    }
}

fn find_note(blobs: &[&[u8]], owner: &[u8], kind: u32) -> Option<Vec<u8>> {
    for blob in blobs {
        let mut at = 0_usize;
        for _ in 0..256 {
            let Some((name_len, desc_len, note_kind)) = note_head(blob, at) else { break };
            let name_at = at + 12;
            let desc_at = name_at.saturating_add(name_len.div_ceil(4).saturating_mul(4));
            let desc_end = desc_at.saturating_add(desc_len);
            let name = blob.get(name_at..name_at.saturating_add(name_len));
            if note_kind == kind && name == Some(owner) && (1..=256).contains(&desc_len) {
                return blob.get(desc_at..desc_end).map(<[u8]>::to_vec);
            }
            at = desc_at.saturating_add(desc_len.div_ceil(4).saturating_mul(4));
        }
    }
    None
}

fn note_head(blob: &[u8], at: usize) -> Option<(usize, usize, u32)> {
    Some((u32_at(blob, at)? as usize, u32_at(blob, at.checked_add(4)?)? as usize, u32_at(blob, at.checked_add(8)?)?))
}
