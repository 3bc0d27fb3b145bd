//! Go programs: `crypto/tls` in the function table that the runtime itself needs (`.gopclntab`), so that stripping
//! does not remove it.
//!
//! A Go program's stacks move, so a return probe kills it: every return instruction is listed instead. Formats: Go
//! 1.2, 1.16, 1.18 and 1.20 (which is still current in 1.27), from the Go sources `internal/abi/symtab.go`,
//! `runtime/symtab.go` and `debug/gosym/pclntab.go` (BSD-3-Clause).

use memchr::memmem;

use crate::elf::{Image, u32_at, u64_at};
use crate::tls::{
    Abi, Arch, Confidence, Function, GoFacts, How, Identity, Layout, Library, Miss, Moved, Role, Slot, Unit, When,
};
use crate::{a64, x86};

/// Functions of a table that are looked at: the largest programs have half a million.
const MAX_FUNCTIONS: u64 = 4_000_000;
/// Entries that are checked to tell where the text begins.
const SAMPLES: u64 = 64;

/// Packages whose connections carry TLS: the standard library and its best-known copy.
const PACKAGES: [&str; 3] = ["crypto/tls", "github.com/refraction-networking/utls", "github.com/bogdanfinn/utls"];
const METHODS: [(&str, Role); 3] = [("Read", Role::GoRead), ("Write", Role::GoWrite), ("Close", Role::Free)];

/// Where a file names its Go version; `None` for what is no Go program.
pub(crate) fn facts(image: &Image<'_>) -> Option<GoFacts> {
    let info = image.section(b".go.buildinfo").map(|(_, bytes)| bytes);
    let table = image.section(b".gopclntab").or_else(|| image.section(b".data.rel.ro.gopclntab"));
    if info.is_none() && table.is_none() {
        return None;
    }
    Some(GoFacts { version: info.and_then(|bytes| version(image, bytes)) })
}

/// The version out of the build information: inline since 1.18, behind pointers before.
fn version(image: &Image<'_>, info: &[u8]) -> Option<String> {
    let at = memmem::find(info, b"\xff Go buildinf:")?;
    let head = info.get(at..)?;
    let text = if head.get(15)? & 2 != 0 {
        let length = usize::from(*head.get(32)?);
        head.get(33..33 + length.min(127))?
    } else {
        let string = image.at(u64_at(head, 16)?)?;
        let (pointer, length) = (u64_at(string, 0)?, u64_at(string, 8)?.min(64) as usize);
        image.at(pointer)?.get(..length)?
    };
    let text = std::str::from_utf8(text).ok()?;
    text.starts_with("go").then(|| text.split(' ').next().unwrap_or(text).to_owned())
}

/// The functions of `crypto/tls`, with every return site.
pub(crate) fn find(image: &Image<'_>, facts: &GoFacts) -> Result<Vec<Function>, Miss> {
    let miss = |reason: &str| Miss { family: Some(Library::GoCryptoTls), reason: reason.to_owned() };
    let table = Table::of(image).ok_or_else(|| miss("a Go program, but without a function table of a known format"))?;
    let wanted = table.wanted();
    if !wanted.iter().any(|w| w.role == Role::GoWrite) {
        return Err(miss("a Go program without crypto/tls"));
    }
    let text = table.text(image).ok_or_else(|| miss("where the Go program's text begins cannot be told"))?;
    let layout = layout(image.arch, table.format, facts.version.as_deref());
    let mut functions = Vec::new();
    for one in table.locate(&wanted, text) {
        match one.function(image, layout) {
            Some(function) => functions.push(function),
            None => return Err(miss(&format!("{} does not decode as a function", one.wanted.name))),
        }
    }
    if functions.iter().any(|f| f.role.reads()) && functions.iter().any(|f| f.role.writes()) {
        Ok(functions)
    } else {
        Err(miss("crypto/tls is named in the Go function table, but has no code"))
    }
}

/// How the methods are called: registers since Go 1.17 on amd64 and 1.18 on arm64.
fn layout(arch: Arch, format: Format, version: Option<&str>) -> Layout {
    let minor = version
        .and_then(|v| v.strip_prefix("go1."))
        .and_then(|v| v.split(|c: char| !c.is_ascii_digit()).next())
        .and_then(|v| v.parse::<u32>().ok());
    let first = if arch == Arch::X86_64 { 17 } else { 18 };
    let registers = match minor {
        Some(minor) => minor >= first,
        None => format >= Format::Go118,
    };
    let shared = Layout {
        abi: Abi::GoRegister,
        object: Slot::Arg(0),
        identity: Identity::Pointer,
        buffer: Slot::Arg(1),
        length: Slot::Arg(2),
        length_unit: Unit::Byte,
        moved: Moved::Return64,
        when: When::AtReturn,
        other: None,
    };
    if registers {
        return shared;
    }
    Layout {
        abi: Abi::GoStack,
        object: Slot::Stack(8),
        buffer: Slot::Stack(16),
        length: Slot::Stack(24),
        moved: Moved::ReturnStack(40),
        ..shared
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Format {
    Go12,
    Go116,
    Go118,
}

/// The function table, in place.
struct Table<'a> {
    format: Format,
    address: u64,
    /// From the header on.
    bytes: &'a [u8],
    functions: u64,
    /// Offsets into `bytes`.
    names: usize,
    rows: usize,
    /// The start of the text as the header says it (1.18 to 1.25; 0 or relocated elsewhere).
    header_text: u64,
}

#[derive(Clone, Debug)]
struct Wanted {
    name: String,
    role: Role,
    name_offset: u64,
}

struct Located {
    wanted: Wanted,
    address: u64,
    size: u64,
}

impl<'a> Table<'a> {
    fn of(image: &Image<'a>) -> Option<Table<'a>> {
        let named = [b".gopclntab".as_slice(), b".data.rel.ro.gopclntab"]
            .into_iter()
            .find_map(|name| image.section(name))
            .and_then(|(address, bytes)| Table::parse(address, bytes, image.arch));
        named.or_else(|| Table::search(image))
    }

    /// Without a section of that name: by the header's bytes, in everything that is loaded.
    fn search(image: &Image<'a>) -> Option<Table<'a>> {
        image.segments.iter().find_map(|segment| {
            let bytes = image.data().get(segment.file.clone())?;
            [0xf1, 0xf0, 0xfa, 0xfb].into_iter().find_map(|magic| {
                let quantum = if image.arch == Arch::X86_64 { 1 } else { 4 };
                let head = [magic, 0xff, 0xff, 0xff, 0, 0, quantum, 8];
                memmem::find_iter(bytes, &head)
                    .take(64)
                    .find_map(|at| Table::parse(segment.address.checked_add(at as u64)?, bytes.get(at..)?, image.arch))
            })
        })
    }

    fn parse(address: u64, bytes: &'a [u8], arch: Arch) -> Option<Table<'a>> {
        let quantum = if arch == Arch::X86_64 { 1 } else { 4 };
        if bytes.get(4..8)? != [0, 0, quantum, 8] {
            return None;
        }
        let word = |n: usize| u64_at(bytes, 8 + n * 8);
        let offset = |n: usize| usize::try_from(word(n)?).ok();
        let functions = word(0)?;
        let (format, header_text, names, rows) = match u32_at(bytes, 0)? {
            0xffff_fffb => (Format::Go12, 0, 0, 16),
            0xffff_fffa => (Format::Go116, 0, offset(2)?, offset(6)?),
            0xffff_fff0 | 0xffff_fff1 => (Format::Go118, word(2)?, offset(3)?, offset(7)?),
            _ => return None,
        };
        let inside = names < bytes.len() && rows < bytes.len();
        (inside && (1..=MAX_FUNCTIONS).contains(&functions)).then_some(Table {
            format,
            address,
            bytes,
            functions,
            names,
            rows,
            header_text,
        })
    }

    /// Entry `i`: the function's address (or offset in the text) and where its description is.
    fn row(&self, i: u64) -> Option<(u64, usize)> {
        let i = usize::try_from(i).ok()?;
        if self.format == Format::Go118 {
            let at = self.rows.checked_add(i.checked_mul(8)?)?;
            Some((u64::from(u32_at(self.bytes, at)?), u32_at(self.bytes, at + 4)? as usize))
        } else {
            let at = self.rows.checked_add(i.checked_mul(16)?)?;
            Some((u64_at(self.bytes, at)?, usize::try_from(u64_at(self.bytes, at + 8)?).ok()?))
        }
    }

    /// The offset of a function's name, out of its description.
    fn name_of(&self, description: usize) -> Option<u64> {
        let (base, skip) = match self.format {
            Format::Go118 => (self.rows, 4),
            Format::Go116 => (self.rows, 8),
            Format::Go12 => (0, 8),
        };
        Some(u64::from(u32_at(self.bytes, base.checked_add(description)?.checked_add(skip)?)?))
    }

    /// Which of the wanted names are in the table.
    fn wanted(&self) -> Vec<Wanted> {
        let names = self.bytes.get(self.names..self.rows.max(self.names)).filter(|n| !n.is_empty());
        // In 1.2 names lie anywhere.
        let names = if self.format == Format::Go12 { Some(self.bytes) } else { names };
        let names = names.or_else(|| self.bytes.get(self.names..)).unwrap_or(&[]);
        let mut found = Vec::new();
        for package in PACKAGES {
            for (method, role) in METHODS {
                let name = format!("{package}.(*Conn).{method}");
                let text = format!("\0{name}\0");
                if let Some(at) = memmem::find(names, text.as_bytes()) {
                    found.push(Wanted { name, role, name_offset: at as u64 + 1 });
                }
            }
        }
        found
    }

    /// Addresses and sizes of the wanted functions.
    fn locate(&self, wanted: &[Wanted], text: u64) -> Vec<Located> {
        let mut found = Vec::new();
        for i in 0..self.functions {
            let Some((start, description)) = self.row(i) else { break };
            let Some(name) = self.name_of(description) else { continue };
            let Some(wanted) = wanted.iter().find(|w| w.name_offset == name) else { continue };
            let Some((next, _)) = self.row(i + 1).or(Some((start, 0))) else { continue };
            if let (Some(address), Some(size)) = (start.checked_add(text), next.checked_sub(start)) {
                found.push(Located { wanted: wanted.clone(), address, size });
            }
        }
        found
    }

    /// What the rows' offsets are relative to: 0 where they are addresses.
    fn text(&self, image: &Image<'_>) -> Option<u64> {
        if self.format != Format::Go118 {
            return Some(0);
        }
        let section = image.section(b".text").map(|(address, _)| address);
        let segments = image.segments.iter().filter(|s| s.executable).map(|s| s.address);
        let candidates =
            [Some(self.header_text), self.module_text(image), section].into_iter().flatten().chain(segments);
        candidates.into_iter().find(|text| *text != 0 && self.text_fits(image, *text))
    }

    /// The module data's first field points to this table; its text field is 22 words further on.
    fn module_text(&self, image: &Image<'_>) -> Option<u64> {
        image.segments.iter().filter(|s| s.writable).find_map(|s| {
            let bytes = image.data().get(s.file.clone())?;
            memmem::find_iter(bytes, &self.address.to_le_bytes())
                .take(16)
                .filter_map(|at| u64_at(bytes, at.checked_add(22 * 8)?))
                .find(|text| image.is_code(*text))
        })
    }

    /// With the text at this address, functions begin where the ones before them end.
    fn text_fits(&self, image: &Image<'_>, text: u64) -> bool {
        let step = (self.functions / SAMPLES).max(1);
        let mut checked = 0;
        for i in (1..self.functions).step_by(step as usize) {
            let Some(address) = self.row(i).and_then(|(start, _)| start.checked_add(text)) else { return false };
            let Some(code) = address.checked_sub(16).and_then(|a| image.code_at(a)) else { return false };
            let fits = match image.arch {
                Arch::X86_64 => x86::follows_an_end(code, 16),
                _ => address.is_multiple_of(4) && a64::follows_an_end(code, 16),
            };
            if !fits {
                return false;
            }
            checked += 1;
        }
        checked > 0
    }
}

impl Located {
    fn function(&self, image: &Image<'_>, layout: Layout) -> Option<Function> {
        let code = image.code_at(self.address)?;
        let offset = image.offset_of(self.address)?;
        let size = usize::try_from(self.size).ok()?;
        let role = self.wanted.role;
        let layout = match role {
            Role::GoRead => layout,
            Role::GoWrite => Layout { when: When::AtEntry, ..layout },
            _ => Layout { moved: Moved::Nothing, when: When::AtEntry, ..layout },
        };
        let (entry_site, returns) = match image.arch {
            Arch::X86_64 => {
                let (site, _) = x86::sites(image, self.address, Some(self.size), &layout)?;
                (site, x86::returns(code, self.address, size)?)
            }
            Arch::Aarch64 => (a64::sites(image, self.address)?.0, a64::returns(code, size)),
            Arch::Other => return None,
        };
        if returns.is_empty() && role != Role::Free {
            return None;
        }
        Some(Function {
            role,
            symbol: Some(self.wanted.name.clone()),
            address: self.address,
            file_offset: offset,
            entry_site,
            return_site: None,
            ret_sites: returns.iter().map(|into| offset + into).collect(),
            how: vec![How::GoPclntab],
            confidence: Confidence::Exact,
            layout,
        })
    }
}
