//! Finds the functions of an ELF binary through which TLS plaintext passes: by symbol, by signature, by string
//! cross-reference, in Go's function table, and as a last resort the AEAD assembly below.
//!
//! Bytes of a file go in, an [`Analysis`] comes out: which libraries the file carries, which functions may be probed
//! at which file offsets, what their arguments mean, how sure that is, and why something was not found. Nothing
//! here reads `/proc`, attaches anything or keeps state; the caller maps the file and may cache the result by
//! build-id. The surprising fact: a probe off an instruction boundary kills the program under it, so a place that
//! was found by pattern is reported only after a second method agreed, or as a [`Confidence::Candidate`].
#![forbid(unsafe_code)]

mod a64;
mod aead;
mod boringssl;
mod elf;
mod find;
mod forward;
mod go;
mod names;
mod openssl;
mod pattern;
mod signature;
mod strings;
mod symbols;
mod tls;
mod unwind;
mod x86;
mod xref;

use std::ops::Range;

use elf::Image;
use find::Found;
use strings::Strings;
use symbols::Named;
pub use tls::{
    Abi, Analysis, Arch, Backend, Confidence, Function, GoFacts, How, Identity, ImageFacts, Layout, Library, Miss,
    Moved, ProbeSite, Role, SiteClass, Slot, Tls, Unit, When,
};
use xref::References;

/// Looks for every TLS library in the bytes of an ELF file. Never fails: what is no ELF file gives an empty
/// analysis with the reason among its misses.
pub fn analyse(elf: &[u8]) -> Analysis {
    analyse_releasing(elf, &|_| {})
}

/// As [`analyse`], and calls `release` with each range of the file that was read through: a caller that mapped a large
/// file can let go of those pages, so that the whole scan stays within a few megabytes of memory. Ranges may be
/// read again later.
pub fn analyse_releasing(elf: &[u8], release: &dyn Fn(Range<usize>)) -> Analysis {
    let image = match Image::parse(elf) {
        Ok(image) => image.releasing(release),
        Err(reason) => {
            let miss = Miss { family: None, reason: reason.to_owned() };
            return Analysis { misses: vec![miss], ..Analysis::default() };
        }
    };
    let go = go::facts(&image);
    let mut analysis = Analysis {
        build_id: image.build_id(),
        arch: image.arch,
        image: ImageFacts { go: go.clone(), ..facts(&image) },
        ..Analysis::default()
    };
    let named = symbols::named(&image);
    match &go {
        // A Go program links no C library that is not named; its own assembly is not of interest.
        Some(go) => {
            named_libraries(&image, &named, &Strings::default(), &mut analysis);
            go_library(&image, go, &mut analysis);
        }
        None => {
            let strings = Strings::of(&image);
            named_libraries(&image, &named, &strings, &mut analysis);
            unnamed_libraries(&image, &strings, &mut analysis);
        }
    }
    analysis.libraries.sort_by_key(|l| (l.fallback, l.library));
    analysis
}

fn facts(image: &Image<'_>) -> ImageFacts {
    let dynamic = image.has_interpreter || image.needs_libraries();
    ImageFacts {
        go: None,
        static_pie: image.position_independent && !dynamic,
        dynamic,
        stripped: is_stripped(image),
        position_independent: image.position_independent,
        soname: image.soname(),
    }
}

/// No `.symtab`, or one that repeats what is exported (as Bun's does).
fn is_stripped(image: &Image<'_>) -> bool {
    let exported = image.dynsym().map_or(0, |t| t.len());
    image.symtab().is_none_or(|t| t.len() <= exported + 64)
}

fn sees_both_ways(library: &Tls) -> bool {
    library.functions.iter().any(|f| f.role.reads()) && library.functions.iter().any(|f| f.role.writes())
}

/// Libraries whose functions the file names.
fn named_libraries(image: &Image<'_>, named: &[Named], strings: &Strings, analysis: &mut Analysis) {
    let ssl = if strings.boringssl.is_empty() { Library::OpenSsl } else { Library::BoringSsl };
    let mut libraries: Vec<(Library, Vec<Function>)> = Vec::new();
    for one in named {
        let library = one.known.library.unwrap_or(ssl);
        let Some(function) = function_of(image, one) else { continue };
        match libraries.iter_mut().find(|(l, _)| *l == library) {
            Some((_, functions)) => functions.push(function),
            None => libraries.push((library, vec![function])),
        }
    }
    for (library, mut functions) in libraries {
        drop_internals(&mut functions);
        if functions.iter().any(|f| f.role.reads() || f.role.writes()) || library == Library::Nss {
            let version = strings.openssl_version.clone().filter(|_| library == Library::OpenSsl);
            let mut tls = assemble(library, version, functions);
            if library == Library::OpenSsl {
                forward::add_what_is_below(image, &mut tls.functions);
            }
            analysis.libraries.push(tls);
        }
    }
}

/// The internal functions are below the public ones: hooking both would show everything twice.
fn drop_internals(functions: &mut Vec<Function>) {
    let public = functions.iter().any(|f| f.role == Role::Read) && functions.iter().any(|f| f.role == Role::Write);
    if public {
        functions.retain(|f| !matches!(f.role, Role::ReadInternal | Role::WriteInternal));
    }
}

fn function_of(image: &Image<'_>, named: &Named) -> Option<Function> {
    let found = Found {
        role: named.known.role,
        name: "",
        address: named.address,
        size: (named.size > 0).then_some(named.size),
        how: vec![named.how.clone()],
        confidence: Confidence::Exact,
        layout: Some(named.known.layout),
    };
    let function = found.function(image)?;
    Some(Function { symbol: Some(named.name.clone()), ..function })
}

/// Stripped static BoringSSL and OpenSSL, and AEAD assembly: one pass over the code for everything.
fn unnamed_libraries(image: &Image<'_>, strings: &Strings, analysis: &mut Analysis) {
    let ssl_is_named = analysis
        .libraries
        .iter()
        .any(|l| matches!(l.library, Library::OpenSsl | Library::BoringSsl) && sees_both_ways(l));
    if analysis.libraries.iter().any(sees_both_ways) && !strings.rustls {
        return;
    }
    let targets: Vec<u64> =
        if ssl_is_named { Vec::new() } else { strings.boringssl.iter().chain(&strings.openssl).copied().collect() };
    let mut references = References::new(image, &targets);
    let mut anchors = boringssl::Anchors::default();
    let mut aead = aead::Scan::new(image.arch);
    image.code_windows(|window| {
        references.look(&window);
        if !ssl_is_named && image.arch == Arch::X86_64 {
            anchors.look(&window);
        }
        aead.look(&window);
    });
    if !ssl_is_named {
        let references = references.sorted();
        let boring = boringssl::find(image, &anchors, &strings.boringssl, &references);
        add_static(image, Library::BoringSsl, boring, None, analysis);
        let open = openssl::find(image, &strings.openssl, &references);
        add_static(image, Library::OpenSsl, open, strings.openssl_version.clone(), analysis);
    }
    add_aead(image, aead.hits(), strings, analysis);
}

/// A statically linked library, with what speaks for its functions.
fn add_static(
    image: &Image<'_>,
    library: Library,
    (found, misses): (Vec<Found>, Vec<Miss>),
    version: Option<String>,
    analysis: &mut Analysis,
) {
    let functions: Vec<Function> = found.iter().filter_map(|f| f.function(image)).collect();
    analysis.misses.extend(misses);
    if functions.iter().any(|f| f.role.reads() || f.role.writes()) {
        analysis.libraries.push(assemble(library, version, functions));
    }
}

/// Go's own `crypto/tls`.
fn go_library(image: &Image<'_>, facts: &GoFacts, analysis: &mut Analysis) {
    match go::find(image, facts) {
        Ok(functions) => {
            analysis.libraries.push(assemble(Library::GoCryptoTls, facts.version.clone(), functions));
        }
        Err(miss) => analysis.misses.push(miss),
    }
}

/// rustls by its AEAD assembly; the assembly alone where nothing else was found for certain.
fn add_aead(image: &Image<'_>, hits: Vec<aead::Hit>, strings: &Strings, analysis: &mut Analysis) {
    let seen = analysis.libraries.iter().any(|l| sees_both_ways(l) && l.confidence > Confidence::Candidate);
    let doubtful = !seen && analysis.libraries.iter().any(sees_both_ways);
    let general = symbols::is_general_cryptography(image);
    let (groups, misses) = aead::find(hits, strings);
    analysis.misses.extend(misses);
    for (library, found) in groups {
        let rustls = matches!(library, Library::Rustls(_));
        if seen && !rustls {
            // The assembly of a library whose functions are known.
            continue;
        }
        let functions: Vec<Function> = found.iter().filter_map(|f| f.function(image)).collect();
        let version = strings.rustls_version.as_ref().filter(|_| rustls).map(|v| format!("rustls {v}"));
        let library = assemble(library, version, functions);
        analysis.libraries.push(Tls { fallback: !rustls && (doubtful || general), ..library });
    }
}

fn assemble(library: Library, version: Option<String>, mut functions: Vec<Function>) -> Tls {
    functions.sort_by_key(|f| (f.role, f.address));
    let confidence = functions
        .iter()
        .filter(|f| f.role.reads() || f.role.writes())
        .map(|f| f.confidence)
        .min()
        .unwrap_or(Confidence::Exact);
    Tls { library, version, confidence, fallback: false, functions }
}
