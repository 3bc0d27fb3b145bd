//! Function starts from `.eh_frame_hdr`: the linker's sorted table survives stripping.

use crate::elf::{Image, u32_at};

/// The binary search table of `.eh_frame_hdr`.
pub(crate) struct UnwindTable<'a> {
    base: u64,
    rows: &'a [u8],
}

/// A function as the unwind information describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) start: u64,
    pub(crate) size: u64,
}

impl<'a> UnwindTable<'a> {
    /// The table, when it has the usual encodings (every linker in use writes these).
    pub(crate) fn of(image: &Image<'a>) -> Option<UnwindTable<'a>> {
        let (base, range) = image.eh_frame_hdr.clone()?;
        let bytes = image.data().get(range)?;
        // version 1; frame pointer sdata4 pc-relative; count udata4; table sdata4 relative to this header.
        if bytes.get(..4) != Some(&[1, 0x1b, 0x03, 0x3b]) {
            return None;
        }
        let rows = u32_at(bytes, 8)? as usize;
        let end = rows.checked_mul(8)?.checked_add(12)?.min(bytes.len());
        Some(UnwindTable { base, rows: bytes.get(12..end)? })
    }

    fn row(&self, i: usize) -> Option<(u64, u64)> {
        let at = i.checked_mul(8)?;
        let relative = |v: u32| self.base.wrapping_add_signed(i64::from(v.cast_signed()));
        Some((relative(u32_at(self.rows, at)?), relative(u32_at(self.rows, at + 4)?)))
    }

    /// The function that contains `address`.
    pub(crate) fn containing(&self, image: &Image<'_>, address: u64) -> Option<Extent> {
        let (mut low, mut high) = (0, self.rows.len() / 8);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.row(middle)?.0 <= address {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let (start, description) = self.row(low.checked_sub(1)?)?;
        let extent = extent(image, start, description)?;
        (address < extent.start.checked_add(extent.size)?).then_some(extent)
    }
}

/// Start and size out of a frame description entry; `None` when its encoding is not the usual one.
fn extent(image: &Image<'_>, start: u64, description: u64) -> Option<Extent> {
    let entry = image.at(description)?;
    let begin = u32_at(entry, 8)?.cast_signed();
    let described = description.checked_add(8)?.wrapping_add_signed(i64::from(begin));
    (described == start).then_some(Extent { start, size: u64::from(u32_at(entry, 12)?) })
}
