//! The AEAD assembly below a TLS library: rustls has no stable functions of its own, ring and AWS-LC do.
//!
//! One pass over the 16-byte aligned places of the code finds all signatures. Which library a function that two of
//! them share belongs to is decided by its neighbours: an assembly file's functions lie together.

use crate::elf::{Window, u16_at};
use crate::find::Found;
use crate::pattern::Pattern;
use crate::signature::aead::{SIGNATURES, Signature};
use crate::strings::Strings;
use crate::tls::{Arch, Backend, Confidence, How, Library, Miss, Role};
use crate::x86;

/// Functions of one library lie within this many bytes of each other.
const NEIGHBOURHOOD: u64 = 4 << 20;
const MAX_HITS: usize = 256;

/// Everything found, by library.
pub(crate) fn find(hits: Vec<Hit>, marks: &Strings) -> (Vec<(Library, Vec<Found>)>, Vec<Miss>) {
    let hits = pair(hits);
    let mut groups: Vec<(Library, Vec<Found>)> = Vec::new();
    for hit in &hits {
        let backend = owner(hit, &hits, marks);
        let library = match (marks.rustls, backend) {
            (true, Backend::Ring | Backend::AwsLc) => Library::Rustls(backend),
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
    if marks.rustls && !groups.iter().any(|(l, _)| matches!(l, Library::Rustls(_))) {
        let family = if marks.aws_lc { Backend::AwsLc } else { Backend::Ring };
        misses.push(Miss {
            family: Some(Library::Rustls(family)),
            reason: "rustls is in the file, but none of the known AEAD functions".to_owned(),
        });
    }
    (groups, misses)
}

/// A place where a signature's bytes stand.
#[derive(Clone, Debug)]
pub(crate) struct Hit {
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

/// Looks for all signatures, window by window.
pub(crate) struct Scan {
    arch: Arch,
    wanted: Vec<Compiled>,
    /// Which first two bytes are worth a closer look.
    heads: Vec<bool>,
    landing: [u8; 4],
    hits: Vec<Hit>,
}

impl Scan {
    pub(crate) fn new(arch: Arch) -> Scan {
        let wanted: Vec<Compiled> = SIGNATURES
            .iter()
            .filter(|s| s.arch == arch)
            .map(|s| (s, Pattern::new(s.bytes), s.also.map(|(at, text)| (at, Pattern::new(text)))))
            .collect();
        // endbr64, or bti c.
        let landing = if arch == Arch::X86_64 { [0xf3, 0x0f, 0x1e, 0xfa] } else { [0x5f, 0x24, 0x03, 0xd5] };
        let mut heads = vec![false; 1 << 16];
        for head in wanted.iter().filter_map(|(_, p, _)| p.head()).chain([[landing[0], landing[1]]]) {
            if let Some(slot) = heads.get_mut(usize::from(u16::from_le_bytes(head))) {
                *slot = true;
            }
        }
        Scan { arch, wanted, heads, landing, hits: Vec::new() }
    }

    pub(crate) fn look(&mut self, window: &Window<'_>) {
        let code = window.bytes;
        let first = (16 - (window.address.wrapping_add(window.lead as u64) % 16) as usize) % 16 + window.lead;
        for at in (first..window.end).step_by(16) {
            let Some(head) = u16_at(code, at) else { break };
            if self.heads.get(usize::from(head)).copied().unwrap_or(false) {
                self.compare(window, at);
            }
        }
    }

    fn compare(&mut self, window: &Window<'_>, at: usize) {
        let start = window.bytes.get(at..).unwrap_or(&[]);
        let body = start.strip_prefix(&self.landing).unwrap_or(start);
        let matched = self.wanted.iter().find(|(_, pattern, also)| {
            pattern.matches(body)
                && also.as_ref().is_none_or(|(o, p)| body.get(*o..).is_some_and(|rest| p.matches(rest)))
        });
        let Some((signature, _, _)) = matched else { return };
        let begins = self.arch != Arch::X86_64 || x86::follows_an_end(window.bytes, at);
        if begins && self.hits.len() < MAX_HITS {
            // A digest is jumped to behind its landing pad.
            let skipped = if signature.role == Role::AeadDigest { start.len() - body.len() } else { 0 };
            self.hits.push(Hit { address: window.address + (at + skipped) as u64, signature, second: false });
        }
    }

    /// All hits, in ascending order.
    pub(crate) fn hits(mut self) -> Vec<Hit> {
        self.hits.sort_by_key(|h| h.address);
        self.hits
    }
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
fn owner(hit: &Hit, hits: &[Hit], marks: &Strings) -> Backend {
    // ring before 0.17 had what OpenSSL still has.
    let own =
        |backend| if backend == Backend::OpenSsl && marks.openssl_version.is_none() { Backend::Ring } else { backend };
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
        None if !marks.rustls && !marks.openssl.is_empty() => Backend::OpenSsl,
        None if marks.aws_lc => Backend::AwsLc,
        None => Backend::Ring,
    }
}
