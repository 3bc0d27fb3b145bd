//! Below OpenSSL's named functions: a cheaper place for the same calls.
//!
//! `SSL_read_ex` hands its arguments on to `ssl_read_internal`, and `SSL_read` calls the same function. Compilers begin such
//! thin forms with an instruction that the kernel must single-step, at every call and every return (Debian's and Ubuntu's
//! libssl); the function below begins with a push. What is called is proven: an exported form calls it with its own
//! arguments untouched, every other exported form goes there too, and the unwind table says that a function begins there.

use iced_x86::{FlowControl, Instruction, InstructionInfoFactory, OpAccess, OpKind, Register};

use crate::elf::Image;
use crate::find::{Found, begins_like_a_function};
use crate::tls::{Arch, Confidence, Function, How, Layout, Moved, Role, SiteClass, Slot, When};
use crate::unwind::UnwindTable;
use crate::x86;

/// How far into a thin form its call is looked for.
const FORM: usize = 96;

/// Object, buffer, length, then where the count goes, or flags and where the count goes.
const ARGUMENTS: [Register; 5] = [Register::RDI, Register::RSI, Register::RDX, Register::RCX, Register::R8];

/// Public forms of one direction, and what is below them.
struct Family {
    /// All forms that there may be.
    forms: &'static [&'static str],
    /// The one that hands its arguments on, and which of these points to the count.
    same: (&'static str, u8),
    below: Role,
    name: &'static str,
    when: When,
}

const FAMILIES: [Family; 3] = [
    Family {
        forms: &READ_FORMS,
        same: ("SSL_read_ex", 3),
        below: Role::ReadInternal,
        name: "ssl_read_internal",
        when: When::AtReturn,
    },
    Family {
        forms: &WRITE_FORMS,
        same: ("SSL_write_ex", 3),
        below: Role::WriteInternal,
        name: "ssl_write_internal",
        when: When::AtEntry,
    },
    // From 3.2 on writing has flags.
    Family {
        forms: &WRITE_FORMS,
        same: ("SSL_write_ex2", 4),
        below: Role::WriteInternal,
        name: "ssl_write_internal",
        when: When::AtEntry,
    },
];

pub(crate) const READ_FORMS: [&str; 2] = ["SSL_read", "SSL_read_ex"];
pub(crate) const WRITE_FORMS: [&str; 3] = ["SSL_write", "SSL_write_ex", "SSL_write_ex2"];

/// Adds the functions below the public forms, where that is proven and makes hits cheaper ([`crate::Tls::hooked`] then leaves
/// the forms out).
pub(crate) fn add_what_is_below(image: &Image<'_>, functions: &mut Vec<Function>) {
    if image.arch != Arch::X86_64 {
        return;
    }
    let Some(table) = UnwindTable::of(image) else { return };
    for family in &FAMILIES {
        if functions.iter().all(|f| f.role != family.below)
            && let Some(below) = below(image, &table, family, functions)
        {
            functions.push(below);
        }
    }
}

fn below(image: &Image<'_>, table: &UnwindTable<'_>, family: &Family, functions: &[Function]) -> Option<Function> {
    let named = |name: &str| functions.iter().find(|f| f.symbol.as_deref() == Some(name));
    let (same, count) = family.same;
    let same = named(same)?;
    let stepped = |f: &Function| f.return_site.is_some_and(|site| site.class == SiteClass::SingleStepped);
    let forms: Vec<&Function> = family.forms.iter().copied().filter_map(named).collect();
    if !forms.iter().any(|form| stepped(form)) {
        return None;
    }
    let target = called_with_own_arguments(image, same.address, ARGUMENTS.get(..=usize::from(count))?)?;
    let extent = table.containing(image, target).filter(|extent| extent.start == target)?;
    let (from, around) = image.code_around(target, 16)?;
    let at = (target - from) as usize;
    let begins = x86::follows_an_end(around, at) && begins_like_a_function(around.get(at..)?);
    let others = forms.iter().filter(|form| form.address != same.address);
    if !begins
        || forms.len() < 2
        || !others.into_iter().all(|form| goes_to(image, table, form.address, &[target, same.address]))
    {
        return None;
    }
    let found = Found {
        role: family.below,
        name: family.name,
        address: target,
        size: Some(extent.size),
        how: vec![How::DynSym, How::Semantics("every public form calls it".to_owned()), How::Unwind],
        confidence: Confidence::Agreed,
        layout: Some(Layout::c3(Moved::OutParam(Slot::Arg(count)), family.when)),
    };
    let function = found.function(image)?;
    let cheap = |class: SiteClass| class != SiteClass::SingleStepped;
    (cheap(function.entry_site.class) && cheap(function.return_site?.class)).then_some(function)
}

/// What the function at `address` calls first, when until then it left its arguments alone and did nothing but go on.
fn called_with_own_arguments(image: &Image<'_>, address: u64, arguments: &[Register]) -> Option<u64> {
    let mut info = InstructionInfoFactory::new();
    for instruction in x86::instructions(image.code_at(address)?, address, FORM) {
        if instruction.is_call_near() {
            return place(&instruction).filter(|target| image.is_code(*target));
        }
        if instruction.flow_control() != FlowControl::Next {
            return None;
        }
        let touches = info.info(&instruction).used_registers().iter().any(|used| {
            let reads = matches!(used.access(), OpAccess::Read | OpAccess::CondRead | OpAccess::None);
            !reads && arguments.contains(&used.register().full_register())
        });
        if touches {
            return None;
        }
    }
    None
}

/// Whether the function at `address` calls one of `targets`, or ends by jumping there.
fn goes_to(image: &Image<'_>, table: &UnwindTable<'_>, address: u64, targets: &[u64]) -> bool {
    let Some(code) = image.code_at(address) else { return false };
    let described = table.containing(image, address).filter(|extent| extent.start == address);
    let size = described.map_or_else(|| x86::body_len(code, address, FORM), |extent| extent.size as usize);
    x86::instructions(code, address, size).any(|instruction| {
        let leaves = instruction.is_call_near() || instruction.flow_control() == FlowControl::UnconditionalBranch;
        leaves && place(&instruction).is_some_and(|target| targets.contains(&target))
    })
}

/// Where a direct call or jump goes.
fn place(instruction: &Instruction) -> Option<u64> {
    (instruction.op0_kind() == OpKind::NearBranch64).then(|| instruction.near_branch_target())
}
