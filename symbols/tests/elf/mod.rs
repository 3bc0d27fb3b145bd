//! Builds ELF files for tests out of the pieces of a fixture (`testdata/elf/*.txt`).

use std::path::PathBuf;

/// A fixture: real bytes at their real addresses.
#[derive(Clone, Debug, Default)]
pub struct Fixture {
    pub aarch64: bool,
    pub fixed: bool,
    pub strings: Vec<(u64, Vec<u8>)>,
    pub unwind: Vec<(u64, u64)>,
    /// The unwind descriptions stand alone, in a section, without the sorted table.
    pub listed: bool,
    pub expect: Vec<(String, u64)>,
    pub code: Vec<(u64, Vec<u8>)>,
    /// Extra read-only segments, and named sections over them.
    pub constants: Vec<(u64, Vec<u8>, Option<&'static str>)>,
}

fn hex(text: &str) -> u64 {
    u64::from_str_radix(text.trim_start_matches("0x"), 16).expect("a hexadecimal number")
}

impl Fixture {
    pub fn read(name: &str) -> Fixture {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../testdata/elf").join(format!("{name}.txt"));
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let mut fixture = Fixture::default();
        for line in text.lines() {
            let mut words = line.split(' ');
            match (words.next(), words.next(), words.next()) {
                (Some("arch"), Some(arch), _) => fixture.aarch64 = arch == "aarch64",
                (Some("fixed"), Some(yes), _) => fixture.fixed = yes == "yes",
                (Some("string"), Some(at), Some(_)) => {
                    let text = line.splitn(3, ' ').nth(2).expect("three words");
                    fixture.strings.push((hex(at), text.as_bytes().to_vec()));
                }
                (Some("unwind"), Some(at), Some(size)) => fixture.unwind.push((hex(at), hex(size))),
                (Some("expect"), Some(what), Some(at)) => fixture.expect.push((what.to_owned(), hex(at))),
                (Some("code"), Some(at), _) => fixture.code.push((hex(at), Vec::new())),
                (Some(""), ..) => {
                    let digits = line.trim();
                    let bytes = (0..digits.len()).step_by(2).map(|i| hex(&digits[i..i + 2]) as u8);
                    fixture.code.last_mut().expect("code begins with its address").1.extend(bytes);
                }
                _ => assert!(line.starts_with('#'), "{name}: {line}"),
            }
        }
        fixture
    }

    /// The expected address of one function.
    pub fn expected(&self, what: &str) -> u64 {
        self.expect.iter().find(|(w, _)| w == what).unwrap_or_else(|| panic!("no {what}")).1
    }

    /// The ELF file: a header, one loaded segment per piece, and an unwind table if there is one.
    pub fn elf(&self) -> Vec<u8> {
        let mut segments: Vec<(u64, Vec<u8>, u32)> = Vec::new();
        for (at, code) in &self.code {
            segments.push((*at, code.clone(), 5));
        }
        for (at, text) in &self.strings {
            // A string lies between two others.
            let bytes = [b"\0".as_slice(), text, b"\0"].concat();
            segments.push((at - 1, bytes, 4));
        }
        for (at, bytes, _) in &self.constants {
            segments.push((*at, bytes.clone(), 4));
        }
        let unwind = self.unwind_segment();
        if self.listed {
            let (at, bytes) = unwind.expect("an unwind table to list");
            let table = 12 + self.unwind.len() * 8;
            let mut descriptions = 8_u32.to_le_bytes().to_vec();
            descriptions.extend([0; 8]);
            descriptions.extend(&bytes[table..]);
            descriptions.extend([0; 4]);
            let at = at + table as u64 - 12;
            segments.push((at, descriptions.clone(), 4));
            let named = Fixture { constants: vec![(at, descriptions, Some(".eh_frame"))], ..self.clone() };
            return build(&named, &segments, None);
        }
        segments.extend(unwind.clone().map(|(at, bytes)| (at, bytes, 4)));
        build(self, &segments, unwind.map(|(at, bytes)| (at, bytes.len())))
    }

    /// `.eh_frame_hdr` and one description per function, at an address behind everything else.
    fn unwind_segment(&self) -> Option<(u64, Vec<u8>)> {
        if self.unwind.is_empty() {
            return None;
        }
        let end = self.code.iter().map(|(at, code)| at + code.len() as u64).max().expect("code");
        let base = end.next_multiple_of(0x1000) + 0x1000;
        let mut sorted = self.unwind.clone();
        sorted.sort_unstable();
        let table = 12 + sorted.len() * 8;
        let relative = |to: u64, from: u64| (to.wrapping_sub(from) as i64 as i32).to_le_bytes();
        let mut head = vec![1, 0x1b, 3, 0x3b];
        head.extend(relative(base + table as u64, base + 4));
        head.extend((sorted.len() as u32).to_le_bytes());
        let mut descriptions = Vec::new();
        for (start, size) in &sorted {
            let at = base + table as u64 + descriptions.len() as u64;
            head.extend(relative(*start, base));
            head.extend(relative(at, base));
            descriptions.extend(20_u32.to_le_bytes());
            descriptions.extend(24_u32.to_le_bytes());
            descriptions.extend(relative(*start, at + 8));
            descriptions.extend((*size as u32).to_le_bytes());
            descriptions.extend([0; 8]);
        }
        head.extend(descriptions);
        Some((base, head))
    }
}

fn build(fixture: &Fixture, segments: &[(u64, Vec<u8>, u32)], unwind: Option<(u64, usize)>) -> Vec<u8> {
    let count = segments.len() + usize::from(unwind.is_some());
    let mut out = vec![0_u8; 64 + 56 * count];
    out[..8].copy_from_slice(b"\x7fELF\x02\x01\x01\0");
    out[16..18].copy_from_slice(&(if fixture.fixed { 2_u16 } else { 3 }).to_le_bytes());
    out[18..20].copy_from_slice(&(if fixture.aarch64 { 183_u16 } else { 62 }).to_le_bytes());
    out[32..40].copy_from_slice(&64_u64.to_le_bytes());
    out[54..56].copy_from_slice(&56_u16.to_le_bytes());
    out[56..58].copy_from_slice(&(count as u16).to_le_bytes());
    let mut sections: Vec<(&'static str, u64, usize, usize)> = Vec::new();
    for (i, (address, bytes, flags)) in segments.iter().enumerate() {
        let offset = out.len();
        out.extend(bytes);
        header(&mut out, i, 1, *flags, offset, *address, bytes.len());
        let named = fixture.constants.iter().find(|(at, _, name)| at == address && name.is_some());
        sections.extend(named.and_then(|(_, _, name)| Some(((*name)?, *address, offset, bytes.len()))));
        if let Some((_, size)) = unwind.filter(|(at, _)| at == address) {
            header(&mut out, segments.len(), 0x6474_e550, 4, offset, *address, size);
        }
    }
    add_sections(&mut out, &sections);
    out
}

fn header(out: &mut [u8], i: usize, kind: u32, flags: u32, offset: usize, address: u64, size: usize) {
    let at = 64 + 56 * i;
    out[at..at + 4].copy_from_slice(&kind.to_le_bytes());
    out[at + 4..at + 8].copy_from_slice(&flags.to_le_bytes());
    for (n, value) in [(8, offset as u64), (16, address), (24, address), (32, size as u64), (40, size as u64)] {
        out[at + n..at + n + 8].copy_from_slice(&value.to_le_bytes());
    }
}

fn add_sections(out: &mut Vec<u8>, sections: &[(&'static str, u64, usize, usize)]) {
    if sections.is_empty() {
        return;
    }
    let mut names = vec![0_u8];
    let mut heads = vec![[0_u8; 64]];
    let mut entry = |name: &str, kind: u32, address: u64, offset: usize, size: usize| {
        let mut head = [0_u8; 64];
        head[..4].copy_from_slice(&(names.len() as u32).to_le_bytes());
        head[4..8].copy_from_slice(&kind.to_le_bytes());
        head[8..16].copy_from_slice(&2_u64.to_le_bytes());
        head[16..24].copy_from_slice(&address.to_le_bytes());
        head[24..32].copy_from_slice(&(offset as u64).to_le_bytes());
        head[32..40].copy_from_slice(&(size as u64).to_le_bytes());
        names.extend(name.as_bytes());
        names.push(0);
        heads.push(head);
    };
    for (name, address, offset, size) in sections {
        entry(name, 1, *address, *offset, *size);
    }
    entry(".shstrtab", 3, 0, out.len(), 64);
    let at = out.len();
    names.resize(64, 0);
    out.extend(&names);
    let table = out.len();
    for head in &heads {
        out.extend(head);
    }
    out[40..48].copy_from_slice(&(table as u64).to_le_bytes());
    out[58..60].copy_from_slice(&64_u16.to_le_bytes());
    out[60..62].copy_from_slice(&(heads.len() as u16).to_le_bytes());
    out[62..64].copy_from_slice(&((heads.len() - 1) as u16).to_le_bytes());
    let _ = at;
}
