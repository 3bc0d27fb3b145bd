//! x86-64 instructions: where a probe may sit, whether bytes are code, where functions return.

use iced_x86::{
    Code, Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, OpAccess, OpKind, Register,
};

use crate::elf::Image;
use crate::names::{arguments_needed, needs_stack};
use crate::tls::{Abi, Layout, ProbeSite, SiteClass};

/// How far from the entry a site is looked for.
const SITE_WINDOW: usize = 96;
/// How far jumps back into the prologue are looked for when the function's size is unknown.
const SWEEP: usize = 4096;
/// No function of interest is larger.
const MAX_FUNCTION: usize = 1 << 20;

/// The instructions from `address` on; stops at `limit` bytes or at the first invalid one.
pub(crate) fn instructions(code: &[u8], address: u64, limit: usize) -> impl Iterator<Item = Instruction> + '_ {
    let code = code.get(..limit.min(code.len())).unwrap_or(&[]);
    let mut decoder = Decoder::with_ip(64, code, address, DecoderOptions::NONE);
    std::iter::from_fn(move || {
        if !decoder.can_decode() {
            return None;
        }
        let instruction = decoder.decode();
        (!instruction.is_invalid()).then_some(instruction)
    })
}

/// What the kernel makes of an instruction under a uprobe (arch/x86/kernel/uprobes.c: `branch_setup_xol_ops`,
/// `push_setup_xol_ops`).
pub(crate) fn class(bytes: &[u8]) -> SiteClass {
    let mut rest = bytes;
    let mut operand_size = false;
    let mut rex = None;
    loop {
        match rest {
            [0x66, tail @ ..] => {
                operand_size = true;
                rest = tail;
            }
            [0xf2 | 0xf3 | 0xf0 | 0x2e | 0x36 | 0x3e | 0x26 | 0x64 | 0x65 | 0x67, tail @ ..] => {
                // Prefixed branches are left to single-stepping: not every kernel emulates them.
                return if tail.first() == Some(&0x90) && bytes.first() != Some(&0xf3) {
                    SiteClass::Nop
                } else {
                    SiteClass::SingleStepped
                };
            }
            [r @ 0x40..=0x4f, tail @ ..] if rex.is_none() => {
                rex = Some(*r);
                rest = tail;
            }
            _ => break,
        }
    }
    match rest {
        [0x90, ..] if rex.is_none() => SiteClass::Nop,
        [0x50..=0x57, ..] if !operand_size && matches!(rex, None | Some(0x41)) => SiteClass::Emulated,
        [0xe8 | 0xe9 | 0xeb | 0x70..=0x7f, ..] if !operand_size && rex.is_none() => SiteClass::Emulated,
        [0x0f, 0x80..=0x8f, ..] if !operand_size && rex.is_none() => SiteClass::Emulated,
        _ => SiteClass::SingleStepped,
    }
}

const ARGUMENTS: [Register; 6] =
    [Register::RDI, Register::RSI, Register::RDX, Register::RCX, Register::R8, Register::R9];
const GO_ARGUMENTS: [Register; 5] = [Register::RAX, Register::RBX, Register::RCX, Register::RDI, Register::RSI];

fn needed_registers(layout: &Layout) -> Vec<Register> {
    let mask = arguments_needed(layout);
    let order: &[Register] = match layout.abi {
        Abi::C => &ARGUMENTS,
        Abi::GoRegister => &GO_ARGUMENTS,
        Abi::GoStack => return vec![Register::RSP],
    };
    let mut wanted: Vec<Register> =
        order.iter().enumerate().filter(|(i, _)| mask & (1 << i) != 0).map(|(_, r)| *r).collect();
    if layout.abi == Abi::GoRegister {
        // The goroutine.
        wanted.push(Register::R14);
    }
    if needs_stack(layout) {
        wanted.push(Register::RSP);
    }
    wanted
}

/// Where to read arguments, and where a return probe may sit, of the function at `address`.
///
/// `size` is the function's length where it is known: jumps back to a place behind the entry make that place
/// unusable, since it would fire twice.
pub(crate) fn sites(
    image: &Image<'_>,
    address: u64,
    size: Option<u64>,
    layout: &Layout,
) -> Option<(ProbeSite, ProbeSite)> {
    let code = image.code_at(address)?;
    let offset = image.offset_of(address)?;
    let wanted = needed_registers(layout);
    let mut walk = Walk { offset, address, entry: None, at_return: None };
    walk.find(code, &wanted);
    let targets = walk.jump_targets(code, size);
    let plain = ProbeSite { file_offset: offset, class: class(code), at_entry: true };
    let usable = |site: Option<ProbeSite>| {
        site.filter(|s| {
            let into = s.file_offset - offset;
            !targets.iter().any(|t| *t > 0 && *t <= into)
        })
        .unwrap_or(plain)
    };
    Some((usable(walk.entry), usable(walk.at_return)))
}

struct Walk {
    offset: u64,
    address: u64,
    entry: Option<ProbeSite>,
    at_return: Option<ProbeSite>,
}

impl Walk {
    fn find(&mut self, code: &[u8], wanted: &[Register]) {
        let mut info = InstructionInfoFactory::new();
        let mut stack_moved = false;
        for instruction in instructions(code, self.address, SITE_WINDOW) {
            let into = instruction.ip() - self.address;
            let bytes = code.get(into as usize..).unwrap_or(&[]);
            let class = class(bytes.get(..instruction.len()).unwrap_or(bytes));
            if class != SiteClass::SingleStepped {
                let site = ProbeSite { file_offset: self.offset + into, class, at_entry: into == 0 };
                self.entry.get_or_insert(site);
                if !stack_moved {
                    self.at_return.get_or_insert(site);
                }
                return;
            }
            if instruction.flow_control() != FlowControl::Next {
                return;
            }
            for used in info.info(&instruction).used_registers() {
                let writes = matches!(
                    used.access(),
                    OpAccess::Write | OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite
                );
                let register = used.register().full_register();
                if writes && wanted.contains(&register) {
                    return;
                }
                stack_moved |= writes && register == Register::RSP;
            }
        }
    }

    /// Offsets from the entry that relative branches in the function (or in what follows, when its size is
    /// unknown) go to, as far as they lie in the window.
    fn jump_targets(&self, code: &[u8], size: Option<u64>) -> Vec<u64> {
        let limit = size.map_or(SWEEP, |s| (s as usize).clamp(1, MAX_FUNCTION));
        instructions(code, self.address, limit)
            .filter(|i| matches!(i.op0_kind(), OpKind::NearBranch64) && i.op_count() == 1)
            .filter_map(|i| i.near_branch_target().checked_sub(self.address))
            .filter(|into| *into < SITE_WINDOW as u64)
            .collect()
    }
}

/// Length of the `endbr64` at the start, or 0.
pub(crate) fn endbr_len(code: &[u8]) -> usize {
    if code.starts_with(&[0xf3, 0x0f, 0x1e, 0xfa]) { 4 } else { 0 }
}

/// The bytes before `at` end a function: padding, a return, a jump, or a trap.
pub(crate) fn follows_an_end(code: &[u8], at: usize) -> bool {
    if at == 0 {
        return true;
    }
    let before = code.get(at.saturating_sub(16)..at).unwrap_or(&[]);
    match before {
        [.., 0xcc | 0xc3 | 0x90 | 0x00] | [.., 0x0f, 0x0b] => true,
        // Multi-byte nops end in zero bytes and were caught; a tail jump or a call that never returns remains.
        [.., 0xe8 | 0xe9, _, _, _, _] | [.., 0xeb, _] => true,
        _ => false,
    }
}

/// Offset of every return instruction in the function's `size` bytes; `None` when they do not decode cleanly.
pub(crate) fn returns(code: &[u8], address: u64, size: usize) -> Option<Vec<u64>> {
    let size = size.min(MAX_FUNCTION).min(code.len());
    let mut found = Vec::new();
    let mut end = address;
    for instruction in instructions(code, address, size) {
        if matches!(instruction.code(), Code::Retnq | Code::Retnq_imm16) {
            found.push(instruction.ip() - address);
        }
        end = instruction.next_ip();
    }
    // Everything up to the end, or to padding too short for an instruction, must have decoded.
    let covered = end - address;
    (covered as usize + 15 >= size).then_some(found)
}

/// Length of the function at `address`, judged by its own branches: it ends at the first instruction that does
/// not fall through and that no earlier branch jumps over. At most `limit`.
pub(crate) fn body_len(code: &[u8], address: u64, limit: usize) -> usize {
    let mut furthest = address;
    let mut end = address;
    for instruction in instructions(code, address, limit) {
        end = instruction.next_ip();
        let direct = instruction.op_count() == 1 && instruction.op0_kind() == OpKind::NearBranch64;
        if direct
            && matches!(instruction.flow_control(), FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch)
        {
            let target = instruction.near_branch_target();
            // A far jump is a tail call or goes to a cold part elsewhere.
            if target > furthest && target - address < limit as u64 {
                furthest = target;
            }
        }
        let falls_through = !matches!(
            instruction.flow_control(),
            FlowControl::Return
                | FlowControl::UnconditionalBranch
                | FlowControl::IndirectBranch
                | FlowControl::Exception
        ) && instruction.code() != Code::Int3;
        if !falls_through && end > furthest {
            break;
        }
    }
    (end - address) as usize
}

/// Every instruction from `address` to the boundary at `target` decodes.
pub(crate) fn reaches(code: &[u8], address: u64, target: u64) -> bool {
    let Some(distance) = target.checked_sub(address) else { return false };
    if distance as usize > SWEEP {
        return false;
    }
    distance == 0
        || instructions(code, address, distance as usize + 16)
            .take_while(|i| i.ip() < target)
            .any(|i| i.next_ip() == target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instruction_classes_follow_the_kernel() {
        for (bytes, expected) in [
            (&[0x55][..], SiteClass::Emulated),
            (&[0x41, 0x57], SiteClass::Emulated),
            (&[0x49, 0x57], SiteClass::SingleStepped),
            (&[0x66, 0x50], SiteClass::SingleStepped),
            (&[0x78, 0x10], SiteClass::Emulated),
            (&[0x0f, 0x84, 0, 0, 0, 0], SiteClass::Emulated),
            (&[0x90], SiteClass::Nop),
            (&[0x66, 0x90], SiteClass::Nop),
            (&[0xf3, 0x90], SiteClass::SingleStepped),
            (&[0x0f, 0x1f, 0x44, 0, 0], SiteClass::SingleStepped),
            (&[0x48, 0x83, 0xec, 0x18], SiteClass::SingleStepped),
            (&[0xf3, 0x0f, 0x1e, 0xfa], SiteClass::SingleStepped),
            (&[0xc3], SiteClass::SingleStepped),
            (&[], SiteClass::SingleStepped),
        ] {
            assert_eq!(class(bytes), expected, "{bytes:02x?}");
        }
    }

    #[test]
    fn returns_are_refused_when_the_body_does_not_decode() {
        assert_eq!(returns(&[0x55, 0x5d, 0xc3, 0xcc], 0x1000, 4), Some(vec![2]));
        let mut broken = vec![0x55, 0xc3, 0x06];
        broken.extend([0x90; 40]);
        assert_eq!(returns(&broken, 0x1000, broken.len()), None);
    }
}
