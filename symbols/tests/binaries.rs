//! The scan of real binaries: libraries of this machine, and with `HERON_BINARIES=DIR` everything below a directory
//! of unpacked packages. What is not there is skipped, and said so.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use heron_symbols::{Analysis, Confidence, Function, Library, Role, SiteClass, Tls, analyse};

fn library(analysis: &Analysis, wanted: Library) -> Option<&Tls> {
    analysis.libraries.iter().find(|l| l.library == wanted)
}

fn symbols(tls: &Tls) -> Vec<&str> {
    tls.functions.iter().filter_map(|f| f.symbol.as_deref()).collect()
}

/// The first of these files that exists.
fn installed(paths: &[&str]) -> Option<Vec<u8>> {
    let found = paths.iter().map(Path::new).find(|p| p.is_file());
    if found.is_none() {
        eprintln!("SKIPPED: none of {paths:?} is installed");
    }
    std::fs::read(found?).ok()
}

#[test]
fn the_machines_shared_openssl_is_named() {
    let Some(file) = installed(&["/usr/lib/x86_64-linux-gnu/libssl.so.3", "/usr/lib64/libssl.so.3"]) else { return };
    let analysis = analyse(&file);
    let tls = library(&analysis, Library::OpenSsl).unwrap();
    assert_eq!(tls.confidence, Confidence::Exact);
    for name in ["SSL_read", "SSL_write", "SSL_read_ex", "SSL_write_ex", "SSL_do_handshake", "SSL_free", "SSL_set_fd"] {
        assert!(symbols(tls).contains(&name), "{name}");
    }
    if memchr::memmem::find(&file, b"OPENSSL_3.2.0").is_some() {
        eprintln!("SKIPPED a part: a newer OpenSSL than the one whose forms are known to be thin");
        return;
    }
    // Distributions build it so that the public forms begin with an instruction that is single-stepped.
    let stepped = |f: &Function| f.return_site.is_some_and(|site| site.class == SiteClass::SingleStepped);
    for role in [Role::Read, Role::ReadEx, Role::Write, Role::WriteEx] {
        let hooked: Vec<&Function> = tls.hooked().filter(|f| f.role == role).collect();
        assert!(hooked.iter().all(|f| !stepped(f)), "{hooked:#?}");
    }
    assert!(tls.hooked().any(|f| f.role.reads()) && tls.hooked().any(|f| f.role.writes()));
    assert!(analysis.build_id.is_some());
}

#[test]
fn a_libcrypto_is_no_tls_library_of_its_own() {
    let Some(file) = installed(&["/usr/lib/x86_64-linux-gnu/libcrypto.so.3"]) else { return };
    let analysis = analyse(&file);
    assert_eq!(analysis.preferred().count(), 0, "{:?}", analysis.libraries);
}

#[test]
fn the_machines_gnutls_and_nspr_are_named() {
    if let Some(file) = installed(&["/usr/lib/x86_64-linux-gnu/libgnutls.so.30"]) {
        let analysis = analyse(&file);
        let tls = library(&analysis, Library::GnuTls).unwrap();
        assert!(symbols(tls).contains(&"gnutls_record_send") && symbols(tls).contains(&"gnutls_record_recv"));
    }
    if let Some(file) = installed(&["/usr/lib/x86_64-linux-gnu/libnspr4.so"]) {
        let analysis = analyse(&file);
        let tls = library(&analysis, Library::Nss).unwrap();
        assert!(symbols(tls).contains(&"PR_Write") && symbols(tls).contains(&"PR_Read"));
    }
}

/// What a path promises.
enum Promise {
    Static(Library),
    Named(Library),
    Rustls,
    Go,
}

impl Promise {
    fn of(path: &Path) -> Option<Promise> {
        let text = path.to_string_lossy();
        let name = path.file_name()?.to_string_lossy();
        match name.as_ref() {
            "bun" | "claude" | "opencode" | "kilo" | "cygrpc.so" => Some(Promise::Static(Library::BoringSsl)),
            "codex" | "deno" => Some(Promise::Rustls),
            "runtime.node" if text.contains("copilot-1.0.102") => Some(Promise::Static(Library::OpenSsl)),
            "node" => Some(Promise::Named(Library::OpenSsl)),
            "_wrapper.abi3.so" => Some(Promise::Named(Library::BoringSsl)),
            "gh" => Some(Promise::Go),
            n if n.starts_with("go1") => Some(Promise::Go),
            _ => None,
        }
    }

    fn hold(&self, path: &Path, analysis: &Analysis) {
        let shown = path.display();
        match self {
            Promise::Static(wanted) => {
                let tls = library(analysis, *wanted).unwrap_or_else(|| panic!("{shown}: {:?}", analysis.misses));
                assert_eq!(tls.confidence, Confidence::Agreed, "{shown}");
                assert_eq!(tls.functions.iter().filter(|f| f.role.reads()).count(), 1, "{shown}");
                assert_eq!(tls.functions.iter().filter(|f| f.role.writes()).count(), 1, "{shown}");
            }
            Promise::Named(wanted) => {
                let tls = library(analysis, *wanted).unwrap_or_else(|| panic!("{shown}: {:?}", analysis.misses));
                assert_eq!(tls.confidence, Confidence::Exact, "{shown}");
            }
            Promise::Rustls => {
                let found: Vec<&Tls> =
                    analysis.libraries.iter().filter(|l| matches!(l.library, Library::Rustls(_))).collect();
                assert!(!found.is_empty(), "{shown}: {:?}", analysis.misses);
                for tls in found {
                    for role in [Role::AeadSeal, Role::AeadOpen, Role::AeadCounter] {
                        assert!(tls.role(role).next().is_some(), "{shown}: {role:?}");
                    }
                }
            }
            Promise::Go => {
                let tls = library(analysis, Library::GoCryptoTls).unwrap_or_else(|| panic!("{shown}"));
                assert!(tls.functions.iter().all(|f| !f.ret_sites.is_empty() && f.return_site.is_none()), "{shown}");
            }
        }
    }
}

fn files_below(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => files_below(&path, found),
            Ok(kind) if kind.is_file() => found.push(path),
            _ => {}
        }
    }
}

#[test]
fn installed_packages_keep_what_their_names_promise() {
    let Some(dir) = std::env::var_os("HERON_BINARIES") else {
        eprintln!("SKIPPED: HERON_BINARIES names no directory of unpacked packages (docs/symbols.md)");
        return;
    };
    let mut files = Vec::new();
    files_below(Path::new(&dir), &mut files);
    files.sort();
    let mut held = 0;
    for path in files {
        let Some(promise) = Promise::of(&path) else { continue };
        let file = std::fs::read(&path).unwrap();
        if file.starts_with(b"\x7fELF") {
            promise.hold(&path, &analyse(&file));
            held += 1;
        }
    }
    assert!(held > 0, "nothing known below {}", Path::new(&dir).display());
    eprintln!("{held} binaries");
}

#[test]
fn what_is_found_without_symbols_is_where_the_symbols_say() {
    let Some(dir) = std::env::var_os("HERON_BINARIES") else {
        eprintln!("SKIPPED: HERON_BINARIES names no directory of unpacked packages (docs/symbols.md)");
        return;
    };
    let mut files = Vec::new();
    files_below(Path::new(&dir), &mut files);
    for path in files.iter().filter(|p| p.ends_with("_wrapper.abi3.so")) {
        let mut file = std::fs::read(path).unwrap();
        let named = analyse(&file);
        // Without section headers there is no .symtab: the file is as good as stripped.
        file[40..48].fill(0);
        file[60..64].fill(0);
        let found = analyse(&file);
        let places = |analysis: &Analysis, role: Role| -> Vec<u64> {
            library(analysis, Library::BoringSsl).into_iter().flat_map(|l| l.role(role)).map(|f| f.address).collect()
        };
        for role in [Role::Read, Role::Write, Role::Peek] {
            assert_eq!(places(&found, role), places(&named, role), "{}: {role:?}", path.display());
        }
    }
}
