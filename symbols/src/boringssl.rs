//! `SSL_read` and `SSL_write` of a BoringSSL that was linked statically and stripped.
//!
//! A short byte run that every known build contains gives candidates; the candidate must then *do* what the
//! function does (save these arguments, reset that field, make this test), independent of which registers the
//! compiler chose; and code inside it must load the path `ssl/ssl_lib.cc` for its error macro. Two of these that
//! agree make it [`Confidence::Agreed`]. Where the compiler moved error paths away (profile-guided builds), the
//! cross-reference is looked for behind the function's own jumps.

use iced_x86::{Instruction, Mnemonic, OpKind, Register};
use memchr::memmem;

use crate::elf::{Image, Window};
use crate::find::{Found, candidate_starts};
use crate::signature::boringssl as sig;
use crate::tls::{Arch, Confidence, How, Library, Miss, Role};
use crate::x86;

mod arm;

/// How far before a byte run its function may begin.
const LOOK_BACK: usize = 96;
/// More hits than this say that the run is no signature.
const MAX_ANCHORS: usize = 4096;
/// `SSL_read` and `SSL_write` with everything inlined stay far below.
const BODY: usize = 2048;

/// What was found, and the reason when that is not both directions. `references` are the places that load one of
/// `strings`, the path in the error macro; `anchors` are where the byte runs stand.
pub(crate) fn find(
    image: &Image<'_>,
    anchors: &Anchors,
    strings: &[u64],
    references: &[(u64, u64)],
) -> (Vec<Found>, Vec<Miss>) {
    let references: Vec<(u64, u64)> = references.iter().filter(|(_, s)| strings.contains(s)).copied().collect();
    let mut found = match image.arch {
        Arch::X86_64 => find_x86(image, anchors, &references),
        Arch::Aarch64 => arm::find(image, &references),
        Arch::Other => Vec::new(),
    };
    settle(&mut found);
    let misses = if strings.is_empty() { Vec::new() } else { explain(&found, references.len()) };
    (found, misses)
}

/// Several of one role are candidates, whatever each has to show for itself.
fn settle(found: &mut [Found]) {
    for role in [Role::Read, Role::Write] {
        let agreed = |f: &Found| f.role == role && f.confidence == Confidence::Agreed;
        if found.iter().filter(|f| agreed(f)).count() > 1 {
            found.iter_mut().filter(|f| f.role == role).for_each(|f| f.confidence = Confidence::Candidate);
        }
    }
}

fn explain(found: &[Found], references: usize) -> Vec<Miss> {
    [(Role::Read, "SSL_read"), (Role::Write, "SSL_write")]
        .into_iter()
        .filter(|(role, _)| !found.iter().any(|f| f.role == *role))
        .map(|(_, name)| Miss {
            family: Some(Library::BoringSsl),
            reason: format!(
                "the path ssl/ssl_lib.cc is in the file ({references} references), but no function behaves like {name}"
            ),
        })
        .collect()
}

/// Where the byte runs of the signature stand.
#[derive(Debug, Default)]
pub(crate) struct Anchors {
    rwstate: Vec<u64>,
    quic: Vec<u64>,
}

impl Anchors {
    pub(crate) fn look(&mut self, window: &Window<'_>) {
        for (run, found) in [(sig::RWSTATE_RESET, &mut self.rwstate), (sig::QUIC_TEST, &mut self.quic)] {
            let hits = memmem::find_iter(window.bytes, run).filter(|at| window.owns(*at));
            let room = MAX_ANCHORS.saturating_sub(found.len());
            found.extend(hits.take(room).map(|at| window.address + at as u64));
        }
    }
}

fn find_x86(image: &Image<'_>, anchors: &Anchors, references: &[(u64, u64)]) -> Vec<Found> {
    let mut found: Vec<Found> = Vec::new();
    let starts = |anchor: u64| {
        let (address, code) = image.code_around(anchor, LOOK_BACK as u64)?;
        let at = usize::try_from(anchor - address).ok()?;
        let code = code.get(..code.len().min(at + LOOK_BACK + BODY))?;
        Some(candidate_starts(code, at, LOOK_BACK).filter_map(move |s| Some((address + s as u64, code.get(s..)?))))
    };
    for anchor in &anchors.rwstate {
        let mut candidates = starts(*anchor).into_iter().flatten();
        if let Some((start, _)) = candidates.find(|(start, code)| is_write(code, *start, *anchor)) {
            note(&mut found, image, references, Role::Write, start);
        }
    }
    for anchor in &anchors.quic {
        let mut candidates = starts(*anchor).into_iter().flatten();
        if let Some((start, role)) =
            candidates.find_map(|(start, code)| Some((start, read_or_peek(code, start, *anchor)?)))
        {
            note(&mut found, image, references, role, start);
        }
    }
    found
}

fn note(found: &mut Vec<Found>, image: &Image<'_>, references: &[(u64, u64)], role: Role, address: u64) {
    if found.iter().any(|f| f.address == address) {
        return;
    }
    let name = match role {
        Role::Write => "SSL_write",
        Role::Peek => "SSL_peek",
        _ => "SSL_read",
    };
    let refers = if image.arch == Arch::Aarch64 { arm::refers } else { refers };
    let mut how = vec![How::Semantics(format!("behaves like {name}"))];
    if image.code_at(address).is_some_and(|code| refers(code, address, references)) {
        how.push(How::StringXref("ssl/ssl_lib.cc".to_owned()));
    }
    let confidence = if how.len() > 1 { Confidence::Agreed } else { Confidence::Candidate };
    found.push(Found { role, name, address, size: None, how, confidence, layout: None });
}

/// The function, or a cold part that it jumps to, loads the string.
fn refers(code: &[u8], address: u64, references: &[(u64, u64)]) -> bool {
    let size = x86::body_len(code, address, BODY) as u64;
    let within = |from: u64, to: u64| references.iter().any(|(at, _)| (from..to).contains(at));
    if within(address, address + size) {
        return true;
    }
    x86::instructions(code, address, size as usize)
        .filter(|i| i.op_count() == 1 && i.op0_kind() == OpKind::NearBranch64 && i.mnemonic() != Mnemonic::Call)
        .map(|i| i.near_branch_target())
        .filter(|t| *t < address || *t >= address + size)
        .any(|t| within(t, t.saturating_add(48)))
}

/// Registers that hold the three arguments, as the walk goes on.
#[derive(Default)]
struct Saved {
    ssl: Option<Register>,
    buffer: Option<Register>,
    length: Option<Register>,
}

impl Saved {
    fn see(&mut self, i: &Instruction) {
        if i.mnemonic() != Mnemonic::Mov || i.op0_kind() != OpKind::Register || i.op1_kind() != OpKind::Register {
            return;
        }
        let to = Some(i.op0_register().full_register());
        match i.op1_register() {
            Register::RDI => self.ssl = to,
            Register::RSI => self.buffer = to,
            Register::EDX | Register::RDX => self.length = to,
            _ => {}
        }
    }

    fn all(&self) -> bool {
        self.ssl.is_some() && self.buffer.is_some() && self.length.is_some()
    }
}

/// `cmp qword [register + QUIC_METHOD], 0`.
fn tests_quic(i: &Instruction, ssl: Option<Register>) -> bool {
    i.mnemonic() == Mnemonic::Cmp
        && i.op0_kind() == OpKind::Memory
        && i.memory_displacement64() == sig::QUIC_METHOD
        && i.memory_index() == Register::None
        && Some(i.memory_base()) == ssl
}

/// Saves all three arguments, then resets `rwstate` at `reset`, then tests for QUIC: only `SSL_write`.
fn is_write(code: &[u8], address: u64, reset: u64) -> bool {
    let Some(load) = (reset - address).checked_sub(4) else { return false };
    if code.get(load as usize..).is_none_or(|c| !c.starts_with(sig::S3_LOAD)) {
        return false;
    }
    let mut saved = Saved::default();
    let mut on_boundary = false;
    for i in x86::instructions(code, address, LOOK_BACK + 80) {
        on_boundary |= i.ip() == reset;
        if i.ip() < reset {
            if i.is_call_near() || i.is_jmp_short_or_near() {
                return false;
            }
            saved.see(&i);
        } else if tests_quic(&i, saved.ssl) {
            return on_boundary && saved.all();
        }
    }
    false
}

/// Tests for QUIC at `test` with the SSL pointer still in rdi, then saves all three arguments, then stores to the
/// length of the pending data (`SSL_read`) or only reads it (`SSL_peek`).
fn read_or_peek(code: &[u8], address: u64, test: u64) -> Option<Role> {
    let mut saved = Saved::default();
    let (mut on_boundary, mut loads, mut stores) = (false, false, false);
    let size = x86::body_len(code, address, BODY);
    for i in x86::instructions(code, address, size) {
        on_boundary |= i.ip() == test;
        if i.ip() < test && !matches!(i.mnemonic(), Mnemonic::Push | Mnemonic::Mov | Mnemonic::Sub | Mnemonic::Endbr64)
        {
            return None;
        }
        if i.ip() == test + 8 && !i.is_jcc_short_or_near() {
            return None;
        }
        if !saved.all() {
            saved.see(&i);
        }
        let pending = i.op_count() == 2
            && i.memory_displacement64() == sig::PENDING_LEN
            && !matches!(i.memory_base(), Register::RSP | Register::RBP | Register::None);
        if pending && saved.all() {
            stores |=
                i.op0_kind() == OpKind::Memory && matches!(i.mnemonic(), Mnemonic::Mov | Mnemonic::Sub | Mnemonic::Add);
            loads |= i.op1_kind() == OpKind::Memory;
        }
    }
    (on_boundary && loads).then_some(if stores { Role::Read } else { Role::Peek })
}
