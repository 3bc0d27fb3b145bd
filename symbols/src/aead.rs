//! The AEAD assembly below a TLS library: rustls has no stable functions of its own, ring and AWS-LC do.
//!
//! One pass over the 16-byte aligned places of the code finds all signatures. Which library a function that two of
//! them share belongs to is decided by its neighbours: an assembly file's functions lie together.

use crate::elf::{Image, u64_at};
use crate::find::Found;
use crate::pattern::Pattern;
use crate::signature::aead::{SIGNATURES, Signature};
use crate::tls::{Arch, Backend, Confidence, How, Library, Miss, Role};
use crate::x86;

/// Functions of one library lie within this many bytes of each other.
const NEIGHBOURHOOD: u64 = 4 << 20;
const MAX_HITS: usize = 256;

/// What the constants say about who uses the assembly.
#[derive(Clone, Debug, Default)]
pub(crate) struct Marks {
    /// The version of rustls in a panic path.
    pub(crate) rustls: Option<String>,
    ring: bool,
    aws_lc: bool,
    openssl: bool,
}

/// Looks for the crates' names in panic paths and version texts.
pub(crate) fn marks(image: &Image<'_>) -> Marks {
    let openssl = crate::openssl::version(image).is_some();
    let mut marks = Marks { openssl, ..Marks::default() };
    for (_, bytes) in image.constants() {
        marks.rustls = marks.rustls.or_else(|| crate_version(bytes, b"/rustls-"));
        if marks.rustls.is_some() || image.arch == Arch::Other {
            marks.ring |= crate_version(bytes, b"/ring-").is_some();
            marks.aws_lc |= crate_version(bytes, b"/aws-lc-rs-").is_some();
        }
    }
    marks
}

/// `0.23.46` out of `.../rustls-0.23.46/src/...`.
fn crate_version(bytes: &[u8], before: &[u8]) -> Option<String> {
    memchr::memmem::find_iter(bytes, before).take(4096).find_map(|at| {
        let rest = bytes.get(at + before.len()..)?;
        let end = rest.iter().take(32).position(|b| *b == b'/')?;
        let version = std::str::from_utf8(rest.get(..end)?).ok()?;
        let plausible = version.starts_with(|c: char| c.is_ascii_digit()) && version.matches('.').count() == 2;
        plausible.then(|| version.to_owned())
    })
}

/// Everything found, by library.
pub(crate) fn find(image: &Image<'_>, marks: &Marks) -> (Vec<(Library, Vec<Found>)>, Vec<Miss>) {
    let hits = pair(scan(image));
    let mut groups: Vec<(Library, Vec<Found>)> = Vec::new();
    for hit in &hits {
        let backend = owner(hit, &hits, marks);
        let library = match (&marks.rustls, backend) {
            (Some(_), Backend::Ring | Backend::AwsLc) => Library::Rustls(backend),
            _ => Library::Aead(backend),
        };
        let found = found(hit);
        match groups.iter_mut().find(|(l, _)| *l == library) {
            Some((_, list)) => list.push(found),
            None => groups.push((library, vec![found])),
        }
    }
    let both =
        |list: &[Found]| list.iter().any(|f| f.role == Role::AeadSeal) && list.iter().any(|f| f.role == Role::AeadOpen);
    groups.retain(|(_, list)| both(list));
    let mut misses = Vec::new();
    if let Some(version) = &marks.rustls
        && !groups.iter().any(|(l, _)| matches!(l, Library::Rustls(_)))
    {
        let family = if marks.aws_lc { Backend::AwsLc } else { Backend::Ring };
        misses.push(Miss {
            family: Some(Library::Rustls(family)),
            reason: format!("rustls {version} is in the file, but none of the known AEAD functions"),
        });
    }
    (groups, misses)
}

#[derive(Clone, Debug)]
struct Hit {
    address: u64,
    signature: &'static Signature,
    /// The second of a pair.
    second: bool,
}

fn found(hit: &Hit) -> Found {
    let (name, role) = match (hit.second, hit.signature.second) {
        (true, Some(second)) => second,
        _ => (hit.signature.name, hit.signature.role),
    };
    let layout = match role {
        Role::AeadOpen if hit.second => hit.signature.layout.opened(),
        _ => hit.signature.layout,
    };
    Found {
        role,
        name,
        address: hit.address,
        size: None,
        how: vec![How::AeadSignature(name.to_owned())],
        // Long runs of hand-written assembly at an aligned place: nothing else has these bytes.
        confidence: Confidence::Agreed,
        layout: Some(layout),
    }
}

/// A signature, its bytes, and its bytes further on.
type Compiled = (&'static Signature, Pattern, Option<(usize, Pattern)>);

/// All hits, in ascending order.
fn scan(image: &Image<'_>) -> Vec<Hit> {
    let wanted: Vec<Compiled> = SIGNATURES
        .iter()
        .filter(|s| s.arch == image.arch)
        .map(|s| (s, Pattern::new(s.bytes), s.also.map(|(at, text)| (at, Pattern::new(text)))))
        .collect();
    let mut heads = vec![false; 1 << 16];
    let landing: &[u8] = if image.arch == Arch::X86_64 { &[0xf3, 0x0f, 0x1e, 0xfa] } else { &[0x5f, 0x24, 0x03, 0xd5] };
    for head in wanted.iter().filter_map(|(_, p, _)| p.head()).chain([[landing[0], landing[1]]]) {
        if let Some(slot) = heads.get_mut(usize::from(u16::from_le_bytes(head))) {
            *slot = true;
        }
    }
    let mut hits = Vec::new();
    for (address, code) in image.code() {
        let first = (16 - (address % 16) as usize) % 16;
        for at in (first..code.len()).step_by(16) {
            let Some(word) = u64_at(code, at) else { break };
            if !heads.get((word & 0xffff) as usize).copied().unwrap_or(false) {
                continue;
            }
            let start = code.get(at..).unwrap_or(&[]);
            let body = start.strip_prefix(landing).unwrap_or(start);
            let matched = wanted.iter().find(|(_, pattern, also)| {
                pattern.matches(body)
                    && also.as_ref().is_none_or(|(o, p)| body.get(*o..).is_some_and(|rest| p.matches(rest)))
            });
            if let Some((signature, _, _)) = matched
                && hits.len() < MAX_HITS
                && (image.arch != Arch::X86_64 || x86::follows_an_end(code, at))
            {
                hits.push(Hit { address: address + at as u64, signature, second: false });
            }
        }
    }
    hits
}

/// Tells the two functions of a pair apart; a signature of pairs that does not hit exactly twice is refused.
fn pair(mut hits: Vec<Hit>) -> Vec<Hit> {
    let mut refused: Vec<&'static str> = Vec::new();
    for signature in SIGNATURES.iter().filter(|s| s.second.is_some()) {
        let mut own = hits.iter_mut().filter(|h| std::ptr::eq(h.signature, signature));
        match (own.next(), own.next(), own.next()) {
            (Some(_), Some(second), None) => second.second = true,
            (None, ..) => {}
            _ => refused.push(signature.name),
        }
    }
    hits.retain(|h| h.signature.second.is_none() || !refused.contains(&h.signature.name));
    hits
}

/// Whose function it is: by its own bytes, by its nearest neighbour whose bytes say it, or by what the file names.
fn owner(hit: &Hit, hits: &[Hit], marks: &Marks) -> Backend {
    // ring before 0.17 had what OpenSSL still has.
    let own = |backend| if backend == Backend::OpenSsl && !marks.openssl { Backend::Ring } else { backend };
    if let Some(backend) = hit.signature.backend {
        return own(backend);
    }
    let nearest = hits
        .iter()
        .filter_map(|h| Some((h.address.abs_diff(hit.address), h.signature.backend?)))
        .filter(|(distance, _)| *distance < NEIGHBOURHOOD)
        .min_by_key(|(distance, _)| *distance);
    match nearest {
        Some((_, backend)) => own(backend),
        None if marks.aws_lc => Backend::AwsLc,
        None => Backend::Ring,
    }
}
