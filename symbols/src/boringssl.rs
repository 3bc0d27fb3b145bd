//! `SSL_read` and `SSL_write` of a BoringSSL that was linked statically and stripped.
//!
//! A short byte run that every known build contains gives candidates; the candidate must then *do* what the
//! function does (save these arguments, reset that field, make this test), independent of which registers the
//! compiler chose; and code inside it must load the path `ssl/ssl_lib.cc` for its error macro. Two of these that
//! agree make it [`Confidence::Agreed`]. Where the compiler moved error paths away (profile-guided builds), the
//! cross-reference is looked for behind the function's own jumps.

use iced_x86::{FlowControl, Instruction, Mnemonic, OpKind, Register};
use memchr::memmem;

use crate::elf::{Image, Window};
use crate::find::{Found, candidate_starts};
use crate::signature::boringssl as sig;
use crate::tls::{Arch, Confidence, How, Library, Miss, Role};
use crate::unwind::UnwindTable;
use crate::x86;

mod arm;

/// How far before a byte run its function may begin.
const LOOK_BACK: usize = 96;
/// The same for code that loads the path, which may stand at the function's end.
const WIDE: usize = 480;
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
    let both = [Role::Read, Role::Write].iter().all(|role| found.iter().any(|f| f.role == *role));
    if image.arch == Arch::X86_64 && !both {
        find_alike(image, &references, &mut found);
    }
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
        let code = window.bytes;
        // mov dword [reg + disp32], imm32
        let reset = |at: usize| matches!(code.get(at.checked_sub(2)?..at)?, [0xc7, 0x80..=0x87]).then_some(2);
        // cmp qword [reg + disp32], imm8
        let test =
            |at: usize| matches!(code.get(at.checked_sub(3)?..at)?, [0x48 | 0x49, 0x83, 0xb8..=0xbf]).then_some(3);
        collect(&mut self.rwstate, window, sig::RWSTATE_RESET, reset);
        collect(&mut self.quic, window, sig::QUIC_TEST, test);
    }
}

/// The ends of instructions in this window that stand as `run`, as the addresses of the instructions' opcodes: `before`
/// says how far before the run that is.
fn collect(found: &mut Vec<u64>, window: &Window<'_>, run: &[u8], before: impl Fn(usize) -> Option<usize>) {
    for at in memmem::find_iter(window.bytes, run).filter(|at| window.owns(*at)) {
        if let Some(before) = before(at)
            && found.len() < MAX_ANCHORS
        {
            found.push(window.address + (at - before) as u64);
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
        if !matches!(i.mnemonic(), Mnemonic::Mov | Mnemonic::Movsxd)
            || i.op0_kind() != OpKind::Register
            || i.op1_kind() != OpKind::Register
        {
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

    /// The register holds the SSL pointer.
    fn is_ssl(&self, register: Register) -> bool {
        register == Register::RDI || Some(register) == self.ssl
    }

    fn all(&self) -> bool {
        self.ssl.is_some() && self.buffer.is_some() && self.length.is_some()
    }
}

/// `cmp qword [ssl + disp], 0`, of which `disp` is returned.
fn tests_field(i: &Instruction, saved: &Saved) -> Option<u64> {
    let tests = i.mnemonic() == Mnemonic::Cmp
        && i.op0_kind() == OpKind::Memory
        && i.op1_kind() != OpKind::Register
        && i.immediate(1) == 0
        && i.memory_index() == Register::None
        && saved.is_ssl(i.memory_base());
    tests.then(|| i.memory_displacement64())
}

/// Saves all three arguments, then resets `rwstate`, then calls, then tests for QUIC: only `SSL_write`.
fn is_write(code: &[u8], address: u64, reset: u64) -> bool {
    let mut saved = Saved::default();
    let mut s3 = None;
    let (mut was_reset, mut called) = (false, false);
    for i in x86::instructions(code, address, LOOK_BACK + 96) {
        if i.is_call_near() || i.is_call_near_indirect() || i.flow_control() != FlowControl::Next {
            if !was_reset || !saved.all() {
                return false;
            }
            called = true;
            continue;
        }
        saved.see(&i);
        if i.mnemonic() == Mnemonic::Mov && i.op1_kind() == OpKind::Memory && saved.is_ssl(i.memory_base()) {
            s3 = (i.memory_displacement64() == sig::S3).then(|| i.op0_register()).or(s3);
        }
        // The anchor is the opcode; a prefix may stand before it.
        was_reset |= matches!(reset.wrapping_sub(i.ip()), 0 | 1)
            && i.op0_kind() == OpKind::Memory
            && Some(i.memory_base()) == s3;
        if called && tests_field(&i, &saved) == Some(sig::QUIC_METHOD) {
            return saved.all();
        }
    }
    false
}

/// Tests for QUIC at `test` before it calls anything, saves all three arguments, then stores to the length of the
/// pending data (`SSL_read`) or only reads it (`SSL_peek`).
fn read_or_peek(code: &[u8], address: u64, test: u64) -> Option<Role> {
    let mut saved = Saved::default();
    let (mut tested, mut loads, mut stores) = (false, false, false);
    let size = x86::body_len(code, address, BODY);
    for i in x86::instructions(code, address, size) {
        if !tested && i.flow_control() != FlowControl::Next {
            return None;
        }
        if i.ip() == test && tests_field(&i, &saved) == Some(sig::QUIC_METHOD) {
            tested = true;
        }
        if !saved.all() {
            saved.see(&i);
        }
        let pending = i.op_count() == 2
            && i.memory_displacement64() == sig::PENDING_LEN
            && !matches!(i.memory_base(), Register::RSP | Register::RBP | Register::None);
        if pending && saved.all() {
            let changes = matches!(i.mnemonic(), Mnemonic::Mov | Mnemonic::Sub | Mnemonic::Add);
            stores |= i.op0_kind() == OpKind::Memory && changes;
            loads |= i.op1_kind() == OpKind::Memory;
        }
    }
    (tested && loads).then_some(if stores { Role::Read } else { Role::Peek })
}

/// For builds whose structures are laid out otherwise: functions that load the path and look right but for the
/// offsets. Good enough for probation, not for more.
fn find_alike(image: &Image<'_>, references: &[(u64, u64)], found: &mut Vec<Found>) {
    let table = UnwindTable::of(image);
    let mut seen = Vec::new();
    for (place, _) in references {
        let Some(start) = function_around(image, table.as_ref(), *place) else { continue };
        if seen.contains(&start) {
            continue;
        }
        seen.push(start);
        let Some(role) = image.code_at(start).and_then(|code| alike(code, start)) else { continue };
        if found.iter().any(|f| f.role == role && f.confidence == Confidence::Agreed) {
            continue;
        }
        let name = if role == Role::Write { "SSL_write" } else { "SSL_read" };
        let how = vec![How::StringXref("ssl/ssl_lib.cc".to_owned()), How::Semantics(format!("resembles {name}"))];
        let confidence = Confidence::Candidate;
        found.push(Found { role, name, address: start, size: None, how, confidence, layout: None });
    }
}

/// The start of the function around a place in it.
fn function_around(image: &Image<'_>, table: Option<&UnwindTable<'_>>, place: u64) -> Option<u64> {
    if let Some(extent) = table.and_then(|t| t.containing(image, place)) {
        return Some(extent.start);
    }
    let (address, code) = image.code_around(place, WIDE as u64)?;
    let at = usize::try_from(place - address).ok()?;
    candidate_starts(code, at, WIDE).map(|s| address + s as u64).next()
}

/// What a function with three saved arguments and these reason codes resembles.
fn alike(code: &[u8], address: u64) -> Option<Role> {
    let mut saved = Saved::default();
    let (mut tested, mut called, mut stores) = (false, false, false);
    let mut reasons = Vec::new();
    let size = x86::body_len(code, address, BODY);
    for i in x86::instructions(code, address, size) {
        let calls = i.is_call_near() || i.is_call_near_indirect();
        if !called {
            saved.see(&i);
            tested |= !calls && tests_field(&i, &saved).is_some();
        }
        called |= calls && saved.all();
        if i.mnemonic() == Mnemonic::Mov && i.op0_kind() == OpKind::Register && i.op1_kind() == OpKind::Immediate32 {
            reasons.push(i.immediate32());
        }
        let field = i.op0_kind() == OpKind::Memory && !matches!(i.memory_base(), Register::RSP | Register::RBP);
        stores |= called && field && matches!(i.mnemonic(), Mnemonic::Mov | Mnemonic::Sub | Mnemonic::Add);
    }
    if !called || !reasons.contains(&sig::SHOULD_NOT) {
        return None;
    }
    match (reasons.contains(&sig::BAD_LENGTH), tested && stores) {
        (true, _) => Some(Role::Write),
        (false, true) => Some(Role::Read),
        _ => None,
    }
}
