//! Function starts from the unwind information, which survives stripping: the linker's sorted table
//! (`.eh_frame_hdr`), or, in static programs of the GNU C library that have none, the descriptions themselves.

use crate::elf::{Image, u32_at};

/// Descriptions that are read when there is no table; larger programs have one.
const MAX_DESCRIPTIONS: usize = 400_000;

/// Where functions begin and end.
pub(crate) enum UnwindTable<'a> {
    /// The rows of `.eh_frame_hdr` and the address that they are relative to.
    Sorted(u64, &'a [u8]),
    /// All descriptions, sorted by their start.
    Listed(Vec<Extent>),
}

/// A function as the unwind information describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Extent {
    pub(crate) start: u64,
    pub(crate) size: u64,
}

impl<'a> UnwindTable<'a> {
    /// The table, when it has the usual encodings (every linker in use writes these).
    pub(crate) fn of(image: &Image<'a>) -> Option<UnwindTable<'a>> {
        UnwindTable::sorted(image).or_else(|| UnwindTable::listed(image))
    }

    fn sorted(image: &Image<'a>) -> Option<UnwindTable<'a>> {
        let (base, range) = image.eh_frame_hdr.clone()?;
        let bytes = image.data().get(range)?;
        // version 1; frame pointer sdata4 pc-relative; count udata4; table sdata4 relative to this header.
        if bytes.get(..4) != Some(&[1, 0x1b, 0x03, 0x3b]) {
            return None;
        }
        let rows = u32_at(bytes, 8)? as usize;
        let end = rows.checked_mul(8)?.checked_add(12)?.min(bytes.len());
        Some(UnwindTable::Sorted(base, bytes.get(12..end)?))
    }

    fn listed(image: &Image<'a>) -> Option<UnwindTable<'a>> {
        let (address, bytes) = image.section(b".eh_frame")?;
        let mut extents = Vec::new();
        let mut at = 0_usize;
        while extents.len() < MAX_DESCRIPTIONS {
            // Zero ends the list; a 64-bit length is not in use.
            let Some(length) = u32_at(bytes, at).filter(|n| (8..0xffff_fff0).contains(n)) else { break };
            // The second word is 0 for what descriptions share, else it points back to that.
            if u32_at(bytes, at + 4) != Some(0) {
                let here = address.wrapping_add(at as u64 + 8);
                let begin = u32_at(bytes, at + 8).unwrap_or(0).cast_signed();
                let start = here.wrapping_add_signed(i64::from(begin));
                let size = u64::from(u32_at(bytes, at + 12).unwrap_or(0));
                if image.is_code(start) && size > 0 {
                    extents.push(Extent { start, size });
                }
            }
            let Some(next) = at.checked_add(4 + length as usize) else { break };
            at = next;
        }
        extents.sort_unstable();
        (!extents.is_empty()).then_some(UnwindTable::Listed(extents))
    }

    /// The function that contains `address`.
    pub(crate) fn containing(&self, image: &Image<'_>, address: u64) -> Option<Extent> {
        let extent = match self {
            UnwindTable::Sorted(base, rows) => look_up(image, *base, rows, address)?,
            UnwindTable::Listed(extents) => {
                let after = extents.partition_point(|e| e.start <= address);
                *extents.get(after.checked_sub(1)?)?
            }
        };
        (address < extent.start.checked_add(extent.size)?).then_some(extent)
    }
}

fn row(base: u64, rows: &[u8], i: usize) -> Option<(u64, u64)> {
    let at = i.checked_mul(8)?;
    let relative = |v: u32| base.wrapping_add_signed(i64::from(v.cast_signed()));
    Some((relative(u32_at(rows, at)?), relative(u32_at(rows, at + 4)?)))
}

fn look_up(image: &Image<'_>, base: u64, rows: &[u8], address: u64) -> Option<Extent> {
    let (mut low, mut high) = (0, rows.len() / 8);
    while low < high {
        let middle = low + (high - low) / 2;
        if row(base, rows, middle)?.0 <= address {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    let (start, description) = row(base, rows, low.checked_sub(1)?)?;
    extent(image, start, description)
}

/// Start and size out of a frame description entry; `None` when its encoding is not the usual one.
fn extent(image: &Image<'_>, start: u64, description: u64) -> Option<Extent> {
    let entry = image.at(description)?;
    let begin = u32_at(entry, 8)?.cast_signed();
    let described = description.checked_add(8)?.wrapping_add_signed(i64::from(begin));
    (described == start).then_some(Extent { start, size: u64::from(u32_at(entry, 12)?) })
}
