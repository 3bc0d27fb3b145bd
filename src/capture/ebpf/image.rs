//! Files that processes execute: opened once, analysed once, and what may be hooked in them.
//!
//! An image is identified by device, inode, size and change time; it stays open, so that what is hooked is what was
//! analysed. Surprising fact: a file is hooked through `/proc/self/fd`, because its path may mean something else in the
//! process's mount namespace, or nothing any more.
#![allow(unsafe_code)]

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use heron_symbols::{Abi, Analysis, Confidence, Function, Identity, Layout, Moved, Role, Slot, Tls, Unit};

use super::skel::types;
use super::{aead, dynamic};

/// What a file is, as long as it is not changed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FileId {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl FileId {
    fn of(meta: &Metadata) -> FileId {
        FileId { device: meta.dev(), inode: meta.ino(), size: meta.size(), changed: (meta.mtime(), meta.mtime_nsec()) }
    }
}

/// Which pair of programs serves a function.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Pair {
    /// C convention; the second is a return probe.
    C,
    /// Go; the second sits at the return instructions.
    Go,
    /// AEAD functions that take or begin a record; the second is a return probe.
    Aead,
    /// AEAD functions that end what others began; the second is a return probe.
    AeadStep,
}

/// A function that may be hooked, with its cookie but for the site number.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hook {
    /// Which programs.
    pub pair: Pair,
    /// Where the entry program sits.
    pub entry: u64,
    /// Where the second program sits, for functions whose bytes are taken at return.
    pub leaves: Vec<u64>,
    /// The low half of the cookie (`bpf/abi.h`).
    pub cookie: u64,
    /// The function's name, for people.
    pub name: String,
}

/// A file and what was found in it.
#[derive(Debug)]
pub struct Image {
    /// The open file.
    pub file: File,
    /// Its identity when it was analysed.
    pub id: FileId,
    /// A path for people.
    pub path: PathBuf,
    /// The library that is hooked, by name; empty when there is none.
    pub library: String,
    /// How its functions were found.
    pub found_by: String,
    /// What to hook.
    pub hooks: Vec<Hook>,
    /// Why nothing, or not everything, is hooked; empty when there is nothing to say.
    pub reason: String,
    /// Names of the libraries that the file needs (`DT_NEEDED`).
    pub needed: Vec<String>,
    /// Search path of its own (`DT_RUNPATH` or `DT_RPATH`).
    pub runpath: Vec<String>,
    /// Whether it is a program and no library.
    pub program: bool,
}

impl Image {
    /// Whether the file on disk is still the one that was analysed.
    pub fn is_unchanged(&self) -> bool {
        self.file.metadata().is_ok_and(|meta| FileId::of(&meta) == self.id)
    }
}

/// All images seen so far.
#[derive(Default)]
pub struct Images {
    known: HashMap<FileId, Arc<Image>>,
}

impl Images {
    /// Opens `via` (a path from here) and analyses it, unless the same file is known. `path` is its name for people.
    pub fn open(&mut self, via: &Path, path: &Path) -> io::Result<Arc<Image>> {
        let file = File::open(via)?;
        let meta = file.metadata()?;
        if !meta.is_file() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let id = FileId::of(&meta);
        if let Some(image) = self.known.get(&id) {
            return Ok(Arc::clone(image));
        }
        let image = Arc::new(analyse(file, id, path)?);
        self.known.insert(id, Arc::clone(&image));
        Ok(image)
    }
}

fn analyse(file: File, id: FileId, path: &Path) -> io::Result<Image> {
    let mut image = Image {
        file,
        id,
        path: path.to_owned(),
        library: String::new(),
        found_by: String::new(),
        hooks: Vec::new(),
        reason: String::new(),
        needed: Vec::new(),
        runpath: Vec::new(),
        program: false,
    };
    if id.size == 0 {
        return Ok(image);
    }
    // SAFETY: the map is private and read-only, and is dropped before this function returns. A file that is truncated
    // meanwhile would raise SIGBUS; images that are executing cannot be written to (ETXTBSY), libraries are replaced by rename.
    let map = unsafe { memmap2::Mmap::map(&image.file)? };
    let asks = dynamic::read(&map);
    (image.program, image.needed, image.runpath) = (asks.program, asks.needed, asks.runpath);
    let analysis = heron_symbols::analyse(&map);
    choose(&analysis, &mut image);
    Ok(image)
}

/// Takes the library that is worth hooking, and what of it can be.
fn choose(analysis: &Analysis, image: &mut Image) {
    let mut names = Vec::new();
    for library in analysis.preferred() {
        let mut hooks: Vec<Hook> = library.hooked().filter_map(hook).collect();
        let aead = aead::hooks(library);
        hooks.extend(aead.hooks);
        if hooks.iter().any(|hook| is_payload(hook.cookie)) {
            names.push(library.library.name());
            if image.found_by.is_empty() {
                image.found_by = found_by(library);
            }
            image.hooks.extend(hooks);
            if let Some(left_out) = aead.left_out {
                image.reason = left_out;
            }
        } else if let Some(left_out) = aead.left_out {
            image.reason = left_out;
        } else if image.reason.is_empty() {
            image.reason = format!("{} is there, but none of its functions can be hooked yet", library.library.name());
        }
    }
    image.library = names.join(", ");
    if image.hooks.is_empty()
        && image.reason.is_empty()
        && let Some(miss) = analysis.misses.iter().find(|miss| miss.family.is_some())
    {
        image.reason.clone_from(&miss.reason);
    }
}

fn is_payload(cookie: u64) -> bool {
    let role = cookie & 0xff;
    [
        types::heron_role::HERON_ROLE_READ,
        types::heron_role::HERON_ROLE_WRITE,
        types::heron_role::HERON_ROLE_SEAL,
        types::heron_role::HERON_ROLE_OPEN,
    ]
    .iter()
    .any(|payload| u64::from(payload.0) == role)
}

fn found_by(library: &Tls) -> String {
    use heron_symbols::How;
    let mut ways: Vec<&str> = Vec::new();
    let functions = library.hooked().filter(|f| f.role.reads() || f.role.writes());
    for how in functions.flat_map(|f| &f.how) {
        let way = match how {
            How::DynSym => "dynsym",
            How::SymTab => "symtab",
            How::DebugData => "debugdata",
            How::Signature(_) => "signature",
            How::StringXref(_) => "string reference",
            How::Unwind => "unwind table",
            How::GoPclntab => "pclntab",
            How::Semantics(_) => "semantics",
            How::AeadSignature(_) => "aead signature",
        };
        if !ways.contains(&way) {
            ways.push(way);
        }
    }
    ways.join(" + ")
}

/// `HERON_COOKIE_GO_STACK`.
const GO_STACK: u64 = 1 << 28;

/// What the programs need to serve a function; `None` for what they cannot.
fn hook(function: &Function) -> Option<Hook> {
    // A place that only one method found is not probed: a wrong one would kill the process.
    if function.confidence == Confidence::Candidate {
        return None;
    }
    let layout = &function.layout;
    if layout.identity != Identity::Pointer || layout.length_unit != Unit::Byte {
        return None;
    }
    let role = role(function.role)?;
    let payload = role == types::heron_role::HERON_ROLE_READ || role == types::heron_role::HERON_ROLE_WRITE;
    let (pair, leaves, cookie) = match layout.abi {
        Abi::C => {
            let leave = if payload { vec![function.return_site.as_ref()?.file_offset] } else { Vec::new() };
            (Pair::C, leave, cookie(role, layout, payload)?)
        }
        Abi::GoRegister | Abi::GoStack => {
            let leaves = if payload { function.ret_sites.clone() } else { Vec::new() };
            if payload && leaves.is_empty() {
                return None;
            }
            let stack = if layout.abi == Abi::GoStack { GO_STACK } else { 0 };
            (Pair::Go, leaves, u64::from(role.0) | stack)
        }
    };
    let name = function.symbol.clone().unwrap_or_else(|| format!("{:?}", function.role));
    Some(Hook { pair, entry: function.entry_site.file_offset, leaves, cookie, name })
}

fn role(role: Role) -> Option<types::heron_role> {
    match role {
        Role::Read | Role::ReadEx | Role::ReadInternal | Role::GnutlsRecv | Role::GoRead => {
            Some(types::heron_role::HERON_ROLE_READ)
        }
        Role::Write | Role::WriteEx | Role::WriteEx2 | Role::WriteInternal | Role::GnutlsSend | Role::GoWrite => {
            Some(types::heron_role::HERON_ROLE_WRITE)
        }
        Role::Free => Some(types::heron_role::HERON_ROLE_FREE),
        Role::Handshake => Some(types::heron_role::HERON_ROLE_HANDSHAKE),
        _ => None,
    }
}

pub(super) fn argument(slot: Slot) -> Option<u64> {
    match slot {
        Slot::Arg(n) if n < 6 => Some(u64::from(n) + 1),
        _ => None,
    }
}

fn cookie(role: types::heron_role, layout: &Layout, payload: bool) -> Option<u64> {
    let mut cookie = u64::from(role.0) | argument(layout.object)? << 8;
    if !payload {
        return Some(cookie);
    }
    cookie |= argument(layout.buffer)? << 12 | argument(layout.length)? << 16;
    let (count, out) = match layout.moved {
        Moved::Return32 | Moved::Return64 => (types::heron_count::HERON_COUNT_RETURN, 0),
        Moved::OutParam(slot) => (types::heron_count::HERON_COUNT_OUT, argument(slot)?),
        Moved::Length => (types::heron_count::HERON_COUNT_LEN, 0),
        Moved::ReturnStack(_) | Moved::Nothing => return None,
    };
    Some(cookie | out << 20 | u64::from(count.0) << 24)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_tls_gives_no_hooks_and_its_needs() {
        let me = std::env::current_exe().unwrap();
        let image = Images::default().open(&me, &me).unwrap();
        assert!(image.program);
        assert!(image.needed.iter().any(|name| name.starts_with("libc.so")));
        assert!(image.is_unchanged());
    }

    #[test]
    fn the_same_file_is_analysed_once() {
        let me = std::env::current_exe().unwrap();
        let mut images = Images::default();
        let first = images.open(&me, &me).unwrap();
        let second = images.open(Path::new("/proc/self/exe"), &me).unwrap();
        assert!(Arc::ptr_eq(&first, &second));
    }
}
