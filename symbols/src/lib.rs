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
mod boringssl;
mod elf;
mod find;
mod names;
mod openssl;
mod signature;
mod symbols;
mod tls;
mod unwind;
mod x86;
mod xref;

use elf::Image;
use find::Found;
use symbols::Named;
pub use tls::{
    Abi, Analysis, Arch, Backend, Confidence, Function, GoFacts, How, Identity, ImageFacts, Layout, Library, Miss,
    Moved, ProbeSite, Role, SiteClass, Slot, Tls, When,
};

/// Looks for every TLS library in the bytes of an ELF file. Never fails: what is no ELF file gives an empty
/// analysis with the reason among its misses.
pub fn analyse(elf: &[u8]) -> Analysis {
    let image = match Image::parse(elf) {
        Ok(image) => image,
        Err(reason) => {
            let miss = Miss { family: None, reason: reason.to_owned() };
            return Analysis { misses: vec![miss], ..Analysis::default() };
        }
    };
    let mut analysis =
        Analysis { build_id: image.build_id(), arch: image.arch, image: facts(&image), ..Analysis::default() };
    named_libraries(&image, &mut analysis);
    let ssl_is_named = analysis
        .libraries
        .iter()
        .any(|l| matches!(l.library, Library::OpenSsl | Library::BoringSsl) && sees_both_ways(l));
    if !ssl_is_named {
        static_libraries(&image, &mut analysis);
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
fn named_libraries(image: &Image<'_>, analysis: &mut Analysis) {
    let named = symbols::named(image);
    let ssl = || {
        let boring = !xref::strings_ending(image, b"ssl_lib.cc\0").is_empty();
        if boring { Library::BoringSsl } else { Library::OpenSsl }
    };
    let ssl = if named.iter().any(|n| n.known.library.is_none()) { ssl() } else { Library::OpenSsl };
    let mut libraries: Vec<(Library, Vec<Function>)> = Vec::new();
    for one in &named {
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
            let version = if library == Library::OpenSsl { openssl::version(image) } else { None };
            analysis.libraries.push(assemble(library, version, functions));
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

/// Stripped static BoringSSL and OpenSSL.
fn static_libraries(image: &Image<'_>, analysis: &mut Analysis) {
    for (library, (found, misses)) in
        [(Library::BoringSsl, boringssl::find(image)), (Library::OpenSsl, openssl::find(image))]
    {
        let functions: Vec<Function> = found.iter().filter_map(|f| f.function(image)).collect();
        analysis.misses.extend(misses);
        if functions.iter().any(|f| f.role.reads() || f.role.writes()) {
            let version = if library == Library::OpenSsl { openssl::version(image) } else { None };
            analysis.libraries.push(assemble(library, version, functions));
        }
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
