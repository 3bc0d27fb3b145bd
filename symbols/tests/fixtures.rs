//! What is found in pieces cut from real binaries, and what is refused when something about them is wrong.
#![allow(clippy::unwrap_used)]

mod elf;

use elf::Fixture;
use heron_symbols::{
    Abi, Analysis, Backend, Confidence, How, Identity, Library, Moved, Role, SiteClass, Slot, Tls, Unit, When, analyse,
};

const BORINGSSL: [&str; 11] = [
    "boringssl-bun-1.1.45",
    "boringssl-bun-1.3.14",
    "boringssl-bun-1.4.5",
    "boringssl-claude-2.1.332",
    "boringssl-claude-musl-2.1.332",
    "boringssl-curl_cffi-0.17.0",
    "boringssl-grpcio-1.85.3",
    "boringssl-bun-arm64-1.1.38",
    "boringssl-bun-arm64-1.4.5",
    "boringssl-claude-arm64-2.1.332",
    "boringssl-grpcio-arm64-1.85.3",
];
const OPENSSL: [&str; 3] = ["openssl-copilot-1.0.102", "openssl-codex-0.171.0", "openssl-codex-arm64-0.169.0"];
const AEAD: [&str; 3] = ["aead-codex-0.171.0", "aead-deno-2.2.0", "aead-codex-arm64-0.169.0"];

fn library(analysis: &Analysis, wanted: Library) -> &Tls {
    analysis.libraries.iter().find(|l| l.library == wanted).unwrap_or_else(|| panic!("no {wanted:?}: {analysis:#?}"))
}

fn addresses(tls: &Tls, role: Role) -> Vec<u64> {
    tls.role(role).map(|f| f.address).collect()
}

#[test]
fn stripped_boringssl_is_found_by_behaviour_and_string() {
    for name in BORINGSSL {
        let fixture = Fixture::read(name);
        let analysis = analyse(&fixture.elf());
        let tls = library(&analysis, Library::BoringSsl);
        assert_eq!(tls.confidence, Confidence::Agreed, "{name}");
        assert_eq!(addresses(tls, Role::Read), [fixture.expected("read")], "{name}");
        assert_eq!(addresses(tls, Role::Write), [fixture.expected("write")], "{name}");
        for f in tls.functions.iter().filter(|f| f.role != Role::Peek) {
            assert!(f.how.iter().any(|h| matches!(h, How::StringXref(s) if s == "ssl/ssl_lib.cc")), "{name}: {f:?}");
            assert_eq!(f.layout.moved, Moved::Return32);
        }
        assert!(analysis.misses.is_empty(), "{name}: {:?}", analysis.misses);
    }
}

#[test]
fn the_compressed_symbol_table_names_functions() {
    let mut fixture = Fixture::read("boringssl-curl_cffi-0.17.0");
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/elf/debugdata.xz");
    fixture.constants = vec![(0x1000, std::fs::read(path).unwrap(), Some(".gnu_debugdata"))];
    let analysis = analyse(&fixture.elf());
    let tls = library(&analysis, Library::BoringSsl);
    assert_eq!(tls.confidence, Confidence::Exact);
    assert_eq!(addresses(tls, Role::Read), [fixture.expected("read")]);
    assert_eq!(addresses(tls, Role::Write), [fixture.expected("write")]);
    assert!(tls.functions.iter().all(|f| f.how == [How::DebugData]));

    // Damaged, it is as if it were not there.
    for at in 0..fixture.constants[0].1.len() {
        let mut damaged = fixture.clone();
        damaged.constants[0].1[at] ^= 0x55;
        assert_eq!(library(&analyse(&damaged.elf()), Library::BoringSsl).role(Role::Write).count(), 1);
    }
}

#[test]
fn a_peek_is_not_taken_for_a_read() {
    let fixture = Fixture::read("boringssl-curl_cffi-0.17.0");
    let analysis = analyse(&fixture.elf());
    assert_eq!(addresses(library(&analysis, Library::BoringSsl), Role::Peek), [fixture.expected("peek")]);
}

#[test]
fn without_the_string_what_behaves_right_is_only_a_candidate() {
    let mut fixture = Fixture::read("boringssl-bun-1.4.5");
    fixture.strings[0].1 = b"ssl/other.cc".to_vec();
    let analysis = analyse(&fixture.elf());
    let tls = library(&analysis, Library::BoringSsl);
    assert_eq!(tls.confidence, Confidence::Candidate);
    assert_eq!(addresses(tls, Role::Write), [fixture.expected("write")]);
}

#[test]
fn another_layout_of_the_structures_still_gives_candidates() {
    let mut fixture = Fixture::read("boringssl-curl_cffi-0.17.0");
    for (_, code) in &mut fixture.code {
        let places: Vec<usize> =
            (0..code.len() - 5).filter(|i| code[*i..*i + 5] == [0x98, 0, 0, 0, 0] && code[*i - 2] == 0x83).collect();
        for at in places {
            code[at] = 0xa8;
        }
    }
    let analysis = analyse(&fixture.elf());
    let tls = library(&analysis, Library::BoringSsl);
    assert_eq!(tls.confidence, Confidence::Candidate);
    assert_eq!(addresses(tls, Role::Write), [fixture.expected("write")]);
    assert!(addresses(tls, Role::Read).contains(&fixture.expected("read")));
}

#[test]
fn two_functions_that_behave_alike_are_candidates_both() {
    let mut fixture = Fixture::read("boringssl-claude-musl-2.1.332");
    let twins: Vec<(u64, Vec<u8>)> = fixture.code.iter().map(|(at, code)| (at + 0x10_0000, code.clone())).collect();
    fixture.code.extend(twins);
    let analysis = analyse(&fixture.elf());
    let tls = library(&analysis, Library::BoringSsl);
    let writes: Vec<_> = tls.role(Role::Write).collect();
    assert_eq!(writes.len(), 2);
    assert!(writes.iter().all(|f| f.confidence == Confidence::Candidate), "{writes:#?}");
}

#[test]
fn a_place_inside_a_function_is_refused() {
    // Without its first instruction, the function begins in the middle of another one.
    let mut fixture = Fixture::read("boringssl-claude-musl-2.1.332");
    for (_, code) in &mut fixture.code {
        code[16..20].copy_from_slice(&[0x48, 0x89, 0xe5, 0x0f]);
    }
    let analysis = analyse(&fixture.elf());
    assert!(analysis.libraries.is_empty(), "{:?}", analysis.libraries);
    assert_eq!(analysis.misses.len(), 2, "{:?}", analysis.misses);
    assert!(analysis.misses.iter().all(|m| m.reason.contains("no function behaves like")));
}

#[test]
fn stripped_openssl_is_found_by_its_own_error_macros() {
    for name in OPENSSL {
        let fixture = Fixture::read(name);
        let analysis = analyse(&fixture.elf());
        let tls = library(&analysis, Library::OpenSsl);
        assert_eq!(tls.confidence, Confidence::Agreed, "{name}");
        assert!(tls.version.as_ref().is_some_and(|v| v.starts_with("OpenSSL 3.")), "{name}: {:?}", tls.version);
        assert_eq!(addresses(tls, Role::ReadInternal), [fixture.expected("read_internal")], "{name}");
        assert_eq!(addresses(tls, Role::WriteInternal), [fixture.expected("write_internal")], "{name}");
        // From 3.3 on, writing has flags before the pointer to the count.
        let moved: Vec<Moved> = tls.functions.iter().map(|f| f.layout.moved).collect();
        assert_eq!(moved, [Moved::OutParam(Slot::Arg(3)), Moved::OutParam(Slot::Arg(4))], "{name}");
    }
}

#[test]
fn without_the_sorted_table_the_descriptions_serve() {
    // As in static programs of the GNU C library.
    for name in OPENSSL {
        let fixture = Fixture { listed: true, ..Fixture::read(name) };
        let analysis = analyse(&fixture.elf());
        let tls = library(&analysis, Library::OpenSsl);
        assert_eq!(addresses(tls, Role::ReadInternal), [fixture.expected("read_internal")], "{name}");
        assert_eq!(addresses(tls, Role::WriteInternal), [fixture.expected("write_internal")], "{name}");
    }
}

#[test]
fn without_an_unwind_table_openssl_is_refused_with_the_reason() {
    let mut fixture = Fixture::read("openssl-codex-0.171.0");
    fixture.unwind.clear();
    let analysis = analyse(&fixture.elf());
    assert!(analysis.libraries.is_empty());
    assert_eq!(analysis.misses.len(), 2);
    assert!(analysis.misses[0].reason.contains("no unwind table"), "{:?}", analysis.misses);
}

#[test]
fn an_unwind_entry_that_is_no_function_start_is_refused() {
    let mut fixture = Fixture::read("openssl-codex-0.171.0");
    for (start, size) in &mut fixture.unwind {
        // The endbr64 is left out: what follows is half of an instruction.
        *start += 5;
        *size -= 5;
    }
    let analysis = analyse(&fixture.elf());
    assert!(analysis.libraries.is_empty(), "{:#?}", analysis.libraries);
    assert!(analysis.misses.iter().all(|m| m.reason.contains("does not begin like a function")));
}

fn backend(text: &str) -> Backend {
    if text == "ring" { Backend::Ring } else { Backend::AwsLc }
}

#[test]
fn aead_assembly_is_found_in_every_variant() {
    for name in AEAD {
        let fixture = Fixture::read(name);
        let analysis = analyse(&fixture.elf());
        for (what, address) in &fixture.expect {
            let (owner, function) = what.split_once(':').unwrap();
            let tls = library(&analysis, Library::Rustls(backend(owner)));
            let found = tls.functions.iter().find(|f| f.address == *address);
            let found = found.unwrap_or_else(|| panic!("{name}: no {what}"));
            assert_eq!(found.symbol.as_deref(), Some(function), "{name}");
        }
        let all: usize = analysis.libraries.iter().map(|l| l.functions.len()).sum();
        assert_eq!(all, fixture.expect.len(), "{name}: nothing else");
    }
}

#[test]
fn aead_arguments_are_where_the_assembly_has_them() {
    let fixture = Fixture::read("aead-codex-0.171.0");
    let analysis = analyse(&fixture.elf());
    let of = |owner: Backend, name: &str| {
        let tls = library(&analysis, Library::Rustls(owner));
        let found = tls.functions.iter().find(|f| f.symbol.as_deref() == Some(name)).unwrap();
        (found.role, found.layout)
    };
    let (role, seal) = of(Backend::AwsLc, "aes_gcm_encrypt_avx512");
    assert_eq!(role, Role::AeadSeal);
    assert_eq!((seal.object, seal.buffer, seal.length), (Slot::Arg(0), Slot::Arg(3), Slot::Arg(4)));
    assert_eq!(seal.when, When::AtEntry);
    let (role, open) = of(Backend::AwsLc, "aes_gcm_decrypt_avx512");
    assert_eq!(role, Role::AeadOpen);
    assert_eq!((open.buffer, open.other, open.when), (Slot::Arg(5), Some(Slot::Arg(3)), When::AtReturn));
    let (role, open) = of(Backend::Ring, "aes_gcm_dec_update_vaes_avx2");
    assert_eq!(role, Role::AeadOpen);
    assert_eq!((open.object, open.buffer, open.length), (Slot::Arg(3), Slot::Arg(1), Slot::Arg(2)));
    let (_, part) = of(Backend::Ring, "aesni_gcm_decrypt");
    assert_eq!(part.moved, Moved::Return64);
    let (_, counter) = of(Backend::Ring, "aes_hw_ctr32_encrypt_blocks");
    assert_eq!(counter.length_unit, Unit::AesBlock);
    let (_, chacha) = of(Backend::AwsLc, "chacha20_poly1305_seal");
    assert_eq!((chacha.identity, chacha.object), (Identity::Bytes(32), Slot::Arg(5)));
}

#[test]
fn half_a_pair_of_aead_functions_is_refused() {
    let mut fixture = Fixture::read("aead-codex-0.171.0");
    let lost = fixture.expected("ring:aes_gcm_dec_update_vaes_avx2");
    fixture.code.retain(|(at, code)| !(*at..at + code.len() as u64).contains(&lost));
    let analysis = analyse(&fixture.elf());
    let names = analysis.libraries.iter().flat_map(|l| &l.functions).filter_map(|f| f.symbol.as_deref());
    assert_eq!(names.filter(|n| n.contains("vaes_avx2")).count(), 0, "which of the two it is cannot be told");
}

#[test]
fn probe_sites_are_instruction_boundaries_that_the_kernel_emulates() {
    for name in BORINGSSL.iter().chain(&OPENSSL).chain(&AEAD).filter(|n| !n.contains("arm64")) {
        let fixture = Fixture::read(name);
        let file = fixture.elf();
        let analysis = analyse(&file);
        for f in analysis.libraries.iter().flat_map(|l| &l.functions) {
            // Vector instructions from its first to its last but for the return.
            let is_straight = f.role == Role::AeadDigest;
            let class = if is_straight { SiteClass::SingleStepped } else { SiteClass::Emulated };
            assert_eq!(f.entry_site.class, class, "{name}: {f:?}");
            let into = (f.entry_site.file_offset - f.file_offset) as usize;
            let code = &file[f.file_offset as usize..];
            let mut decoder = iced_x86::Decoder::with_ip(64, code, 0, 0);
            let boundary = std::iter::from_fn(|| Some(decoder.decode().ip() as usize)).take(12).any(|ip| ip == into);
            assert!(boundary, "{name}: {:?} +{into:#x}", f.symbol);
            assert!(f.return_site.is_some_and(|s| s.class == class), "{name}: {f:?}");
        }
    }
}

// --- Go -------------------------------------------------------------------------------------------------

#[derive(Clone, Copy, Debug)]
enum Pclntab {
    Go12,
    Go116,
    Go118 { magic: u32, text_in_header: bool },
}

/// A function table around the fixture's two functions, in one of the formats that Go had.
fn pclntab(fixture: &Fixture, format: Pclntab, text: u64) -> Vec<u8> {
    let names = b"\0main.main\0crypto/tls.(*Conn).Read\0crypto/tls.(*Conn).Write\0";
    let offset = |name: &[u8]| names.windows(name.len()).position(|w| w == name).unwrap() as u32;
    let quantum = if fixture.aarch64 { 4 } else { 1 };
    let mut functions: Vec<(u64, u64, u32)> = Vec::new();
    for (start, size) in &fixture.unwind {
        let read = *start == fixture.expected("go_read");
        let name: &[u8] = if read { b"crypto/tls.(*Conn).Read" } else { b"crypto/tls.(*Conn).Write" };
        functions.push((*start, *size, offset(name)));
    }
    functions.sort_unstable();
    let (magic, words) = match format {
        Pclntab::Go12 => (0xffff_fffb_u32, 1),
        Pclntab::Go116 => (0xffff_fffa, 7),
        Pclntab::Go118 { magic, .. } => (magic, 8),
    };
    let relative = matches!(format, Pclntab::Go118 { .. });
    let head = 8 + words * 8;
    let row = if relative { 8 } else { 16 };
    // Two rows per function: its own, and the gap behind it.
    let count = functions.len() * 2;
    let (names_at, rows_at) = match format {
        Pclntab::Go12 => (0, 16),
        _ => (head, head + names.len()),
    };
    let descriptions_at = (count + 1) * row;
    let mut rows = Vec::new();
    let mut descriptions = Vec::new();
    let base = if matches!(format, Pclntab::Go12) { rows_at as u64 } else { 0 };
    let names_base = if matches!(format, Pclntab::Go12) { (rows_at + descriptions_at + count * 16) as u32 } else { 0 };
    for (start, size, name) in &functions {
        for (at, name) in [(*start, *name), (start + size, 1)] {
            let to = base + (descriptions_at + descriptions.len()) as u64;
            if relative {
                rows.extend(((at - text) as u32).to_le_bytes());
                rows.extend((to as u32).to_le_bytes());
                descriptions.extend(((at - text) as u32).to_le_bytes());
                descriptions.extend(name.to_le_bytes());
                descriptions.extend([0; 8]);
            } else {
                rows.extend(at.to_le_bytes());
                rows.extend(to.to_le_bytes());
                descriptions.extend(at.to_le_bytes());
                descriptions.extend((name + names_base).to_le_bytes());
                descriptions.extend([0; 4]);
            }
        }
    }
    rows.resize(descriptions_at, 0);
    let mut out = magic.to_le_bytes().to_vec();
    out.extend([0, 0, quantum, 8]);
    let header_text = if matches!(format, Pclntab::Go118 { text_in_header: true, .. }) { text } else { 0 };
    let values: Vec<u64> = match format {
        Pclntab::Go12 => vec![count as u64],
        Pclntab::Go116 => vec![count as u64, 0, names_at as u64, 0, 0, 0, rows_at as u64],
        Pclntab::Go118 { .. } => vec![count as u64, 0, header_text, names_at as u64, 0, 0, 0, rows_at as u64],
    };
    out.extend(values.iter().flat_map(|v| v.to_le_bytes()));
    if matches!(format, Pclntab::Go12) {
        out.extend(rows);
        out.extend(descriptions);
        out.extend(names);
    } else {
        out.extend(names);
        out.extend(rows);
        out.extend(descriptions);
    }
    out
}

fn go_file(name: &str, format: Pclntab, section: Option<&'static str>) -> (Fixture, Vec<u8>) {
    let mut fixture = Fixture::read(name);
    let text = fixture.code.iter().map(|(at, _)| *at).min().unwrap();
    let table = pclntab(&fixture, format, text);
    let mut info = b"\xff Go buildinf:\x08\x02".to_vec();
    info.resize(32, 0);
    info.push(8);
    info.extend(match format {
        Pclntab::Go12 => b"go1.15.2",
        Pclntab::Go116 => b"go1.17.1",
        Pclntab::Go118 { .. } => b"go1.27.3",
    });
    fixture.constants = vec![(0x20_0000, info, Some(".go.buildinfo")), (0x30_0000, table, section)];
    // Nothing here is for the unwinder: the list only says how long the functions are.
    let file = Fixture { unwind: Vec::new(), ..fixture.clone() }.elf();
    (fixture, file)
}

#[test]
fn go_functions_are_resolved_in_every_table_format() {
    for name in ["go-1.27.3", "go-arm64-1.27.3"] {
        for format in [
            Pclntab::Go12,
            Pclntab::Go116,
            Pclntab::Go118 { magic: 0xffff_fff0, text_in_header: true },
            Pclntab::Go118 { magic: 0xffff_fff1, text_in_header: true },
            Pclntab::Go118 { magic: 0xffff_fff1, text_in_header: false },
        ] {
            for section in [Some(".gopclntab"), None] {
                let (fixture, file) = go_file(name, format, section);
                let analysis = analyse(&file);
                let tls = library(&analysis, Library::GoCryptoTls);
                assert_eq!(addresses(tls, Role::GoRead), [fixture.expected("go_read")], "{name} {format:?}");
                assert_eq!(addresses(tls, Role::GoWrite), [fixture.expected("go_write")], "{name} {format:?}");
                assert!(tls.functions.iter().all(|f| f.return_site.is_none()), "a return probe kills a Go program");
            }
        }
    }
}

#[test]
fn go_return_sites_are_all_the_return_instructions() {
    // Counted with objdump: 7 in Read, 8 in Write, on both architectures.
    for name in ["go-1.27.3", "go-arm64-1.27.3"] {
        let format = Pclntab::Go118 { magic: 0xffff_fff1, text_in_header: true };
        let (_, file) = go_file(name, format, Some(".gopclntab"));
        let analysis = analyse(&file);
        let tls = library(&analysis, Library::GoCryptoTls);
        for (role, count) in [(Role::GoRead, 7), (Role::GoWrite, 8)] {
            let f = tls.role(role).next().unwrap();
            assert_eq!(f.ret_sites.len(), count, "{name} {role:?}");
            for site in &f.ret_sites {
                let code = &file[*site as usize..];
                let is_return = code[0] == 0xc3 || code[..4] == [0xc0, 0x03, 0x5f, 0xd6];
                assert!(is_return, "{name} {role:?} {site:#x}");
            }
        }
    }
}

#[test]
fn the_go_calling_convention_follows_the_version() {
    for (format, abi) in [
        (Pclntab::Go12, Abi::GoStack),
        (Pclntab::Go116, Abi::GoRegister),
        (Pclntab::Go118 { magic: 0xffff_fff1, text_in_header: true }, Abi::GoRegister),
    ] {
        let (_, file) = go_file("go-1.27.3", format, Some(".gopclntab"));
        let analysis = analyse(&file);
        let f = library(&analysis, Library::GoCryptoTls).role(Role::GoWrite).next().unwrap();
        assert_eq!(f.layout.abi, abi, "{format:?}");
    }
    // arm64 got registers one version later.
    let (_, file) = go_file("go-arm64-1.27.3", Pclntab::Go116, Some(".gopclntab"));
    let analysis = analyse(&file);
    let f = library(&analysis, Library::GoCryptoTls).role(Role::GoWrite).next().unwrap();
    assert_eq!((f.layout.abi, f.layout.length), (Abi::GoStack, Slot::Stack(24)));
}

// --- hostile files --------------------------------------------------------------------------------------

struct Xorshift(u64);

impl Xorshift {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

fn samples() -> Vec<Vec<u8>> {
    let mut files: Vec<Vec<u8>> =
        ["boringssl-bun-1.4.5", "openssl-codex-0.171.0", "aead-codex-arm64-0.169.0", "boringssl-bun-arm64-1.4.5"]
            .iter()
            .map(|name| Fixture::read(name).elf())
            .collect();
    files.push(Fixture { listed: true, ..Fixture::read("openssl-copilot-1.0.102") }.elf());
    for format in [Pclntab::Go12, Pclntab::Go118 { magic: 0xffff_fff1, text_in_header: false }] {
        files.push(go_file("go-1.27.3", format, Some(".gopclntab")).1);
    }
    files
}

#[test]
fn a_file_cut_anywhere_is_survived() {
    for file in samples() {
        for cut in (0..file.len()).step_by(7) {
            let _ = analyse(&file[..cut]);
        }
    }
}

#[test]
fn changed_headers_and_tables_are_survived() {
    let mut random = Xorshift(0x9e37_79b9_7f4a_7c15);
    for file in samples() {
        let headers = 64 + 56 * 12;
        for round in 0..3000 {
            let mut changed = file.clone();
            for _ in 0..1 + random.next() % 4 {
                // Mostly headers, sometimes tables and code.
                let limit = if round % 3 == 0 { changed.len() } else { headers.min(changed.len()) };
                let at = (random.next() as usize) % limit;
                let value = random.next();
                let width = [1, 2, 4, 8][(value % 4) as usize];
                let bytes = match value >> 8 & 3 {
                    0 => random.next().to_le_bytes(),
                    1 => u64::MAX.to_le_bytes(),
                    2 => (random.next() % 0x4000).to_le_bytes(),
                    _ => (1_u64 << 63).to_le_bytes(),
                };
                let end = (at + width).min(changed.len());
                changed[at..end].copy_from_slice(&bytes[..end - at]);
            }
            let analysis = analyse(&changed);
            for f in analysis.libraries.iter().flat_map(|l| &l.functions) {
                assert!((f.file_offset as usize) < changed.len(), "a place outside the file");
                assert!((f.entry_site.file_offset as usize) < changed.len());
            }
        }
    }
}

#[test]
fn what_is_no_elf_file_says_so() {
    for (bytes, reason) in [
        (&b""[..], "shorter than an ELF header"),
        (&[0_u8; 100][..], "not an ELF file"),
        (&b"#!/usr/bin/env node\nconsole.log('a script that is longer than a header is')\n"[..], "not an ELF file"),
    ] {
        let analysis = analyse(bytes);
        assert_eq!(analysis.misses[0].reason, reason);
        assert_eq!(analysis.misses[0].family, None);
    }
}
