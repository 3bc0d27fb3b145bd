//! Functions that the file names itself: `.dynsym`, `.symtab`, `.gnu_debugdata`.

use std::io::Read;

use crate::elf::{Image, Symbol, SymbolTable};
use crate::names::{Known, known, may_be_known};
use crate::tls::How;

/// A named function of interest.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    pub(crate) known: Known,
    pub(crate) name: String,
    pub(crate) address: u64,
    pub(crate) size: u64,
    pub(crate) how: How,
}

/// The compressed symbol table is refused beyond this; real ones are a few MB.
const MAX_DEBUGDATA: u64 = 64 << 20;
/// Names of one file that are kept.
const MAX_NAMED: usize = 1024;

/// Everything the file names, exported names first; a second name or table for the same address adds nothing.
pub(crate) fn named(image: &Image<'_>) -> Vec<Named> {
    let mut found: Vec<Named> = Vec::new();
    collect(image, image.dynsym(), image, &How::DynSym, &mut found);
    // An exported library is complete; the large table need not be read then.
    let complete = found.iter().any(|n| n.known.role.reads()) && found.iter().any(|n| n.known.role.writes());
    if !complete {
        collect(image, image.symtab(), image, &How::SymTab, &mut found);
    }
    if found.is_empty()
        && let Some(bytes) = debugdata(image)
        && let Ok(inner) = Image::parse_for_symbols(&bytes)
    {
        collect(&inner, inner.symtab(), image, &How::DebugData, &mut found);
    }
    found
}

/// The file offers cryptography to other files (`libcrypto`): what uses it for TLS is elsewhere, and seen there.
pub(crate) fn is_general_cryptography(image: &Image<'_>) -> bool {
    let offers = |s: Symbol<'_>| {
        [b"EVP_CipherUpdate\0".as_slice(), b"EVP_AEAD_CTX_seal\0"].iter().any(|n| s.name.starts_with(n))
    };
    image.dynsym().is_some_and(|table| image.functions(&table).any(offers))
}

fn collect(tables: &Image<'_>, table: Option<SymbolTable>, image: &Image<'_>, how: &How, found: &mut Vec<Named>) {
    let Some(table) = table else { return };
    for symbol in tables.functions(&table) {
        if found.len() >= MAX_NAMED {
            return;
        }
        if !may_be_known(symbol.name) || !image.is_code(symbol.address) {
            continue;
        }
        let Some((name, known)) = resolve(&symbol) else { continue };
        // One function may have several names (versions, aliases): the first one wins.
        if !found.iter().any(|n| n.address == symbol.address && n.known.role == known.role) {
            found.push(Named { known, name, address: symbol.address, size: symbol.size, how: how.clone() });
        }
    }
}

fn resolve(symbol: &Symbol<'_>) -> Option<(String, Known)> {
    let name = symbol.name.get(..symbol.name.len().min(128))?.split(|b| *b == 0).next()?;
    let known = known(name)?;
    Some((String::from_utf8_lossy(name).into_owned(), known))
}

/// `.gnu_debugdata`: an xz-compressed ELF file with the symbols that were stripped.
fn debugdata(image: &Image<'_>) -> Option<Vec<u8>> {
    let (_, packed) = image.section(b".gnu_debugdata")?;
    let mut unpacked = Vec::new();
    let reader = lzma_rust2::XzReader::new(packed, false);
    reader.take(MAX_DEBUGDATA).read_to_end(&mut unpacked).ok()?;
    Some(unpacked)
}
