//! A function found without symbols, before it is turned into something to probe.

use crate::elf::Image;
use crate::names;
use crate::tls::{Arch, Confidence, Function, How, Layout, Role};
use crate::{a64, x86};

/// A function and what speaks for it.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) role: Role,
    /// What the function is called where it has a name.
    pub(crate) name: &'static str,
    pub(crate) address: u64,
    pub(crate) size: Option<u64>,
    pub(crate) how: Vec<How>,
    pub(crate) confidence: Confidence,
    /// Where it differs from what the name says.
    pub(crate) layout: Option<Layout>,
}

impl Found {
    /// With its probe sites; `None` when the address cannot be probed.
    pub(crate) fn function(&self, image: &Image<'_>) -> Option<Function> {
        let layout = self.layout.or_else(|| names::known(self.name.as_bytes()).map(|k| k.layout))?;
        let (entry_site, return_site) = match image.arch {
            Arch::X86_64 => x86::sites(image, self.address, self.size, &layout)?,
            Arch::Aarch64 => a64::sites(image, self.address)?,
            Arch::Other => return None,
        };
        Some(Function {
            role: self.role,
            symbol: Some(self.name.to_owned()),
            address: self.address,
            file_offset: image.offset_of(self.address)?,
            entry_site,
            return_site: Some(return_site),
            ret_sites: Vec::new(),
            how: self.how.clone(),
            confidence: self.confidence,
            layout,
        })
    }
}

/// Offsets at or before `at`, nearest first, where a function may begin: 16-byte aligned, after something that
/// ends a function, and with instructions that decode up to `at`.
pub(crate) fn candidate_starts(code: &[u8], at: usize, look_back: usize) -> impl Iterator<Item = usize> + '_ {
    // Alignment is the address's; segments begin at least 16-byte aligned relative to their first byte only by
    // accident, so every offset is a candidate and the end before it decides.
    (at.saturating_sub(look_back)..=at).rev().filter(move |start| {
        x86::follows_an_end(code, *start)
            && begins_like_a_function(code.get(*start..).unwrap_or(&[]))
            && x86::reaches(code.get(*start..).unwrap_or(&[]), 0, (at - start) as u64)
    })
}

/// `push`, `endbr64` or a stack allocation: what compilers begin non-leaf functions with.
pub(crate) fn begins_like_a_function(code: &[u8]) -> bool {
    let code = code.get(x86::endbr_len(code)..).unwrap_or(&[]);
    matches!(code, [0x50..=0x57, ..] | [0x41, 0x50..=0x57, ..] | [0x48, 0x83 | 0x81, 0xec, ..])
}
