//! The arena, cut so that an operator writes one part while it reads others: in safe code.

use core::ops::Range;

/// An arena with two parts to write, and what lies around them to read.
pub(crate) struct Parts<'a> {
    /// Where the operator's result goes.
    pub(crate) output: &'a mut [u8],
    /// What the operator may use as it likes.
    pub(crate) scratch: &'a mut [u8],
    rest: [(usize, &'a [u8]); 3],
}

impl<'a> Parts<'a> {
    /// `len` bytes at `start`, unless they touch what is written.
    pub(crate) fn read(&self, start: u32, len: usize) -> Option<&'a [u8]> {
        let start = start as usize;
        self.rest.iter().find_map(|&(at, bytes)| {
            let from = start.checked_sub(at)?;
            bytes.get(from..from.checked_add(len)?)
        })
    }
}

/// Cuts out two ranges that do not overlap, or nothing.
pub(crate) fn carve(
    arena: &mut [u8],
    output: Range<usize>,
    scratch: Range<usize>,
) -> Option<Parts<'_>> {
    // An empty scratch lies nowhere.
    let scratch = if scratch.is_empty() { output.end..output.end } else { scratch };
    let swapped = scratch.start < output.start;
    let (first, second) = if swapped { (scratch, output) } else { (output, scratch) };
    let (second_at, tail_at) = (second.start.checked_sub(first.end)?, second.end);
    let (head, rest) = arena.split_at_mut_checked(first.start)?;
    let (one, rest) = rest.split_at_mut_checked(first.len())?;
    let (middle, rest) = rest.split_at_mut_checked(second_at)?;
    let (two, tail) = rest.split_at_mut_checked(second.len())?;
    let rest = [(0, &*head), (first.end, &*middle), (tail_at, &*tail)];
    let (output, scratch) = if swapped { (two, one) } else { (one, two) };
    Some(Parts { output, scratch, rest })
}

/// The range of an arena or a file.
pub(crate) fn range(start: u32, len: usize) -> Range<usize> {
    start as usize..start as usize + len
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_where_they_were_cut_and_never_overlap() {
        let mut arena: [u8; 32] = core::array::from_fn(|i| i as u8);
        let parts = carve(&mut arena, 8..12, 20..24).unwrap();
        assert_eq!((&*parts.output, &*parts.scratch), (&[8, 9, 10, 11][..], &[20, 21, 22, 23][..]));
        assert_eq!(parts.read(12, 8).unwrap()[0], 12);
        assert_eq!(parts.read(24, 8).unwrap()[7], 31);
        assert_eq!(parts.read(0, 8).unwrap()[7], 7);
        assert!(parts.read(7, 2).is_none() && parts.read(19, 2).is_none());
        let parts = carve(&mut arena, 20..24, 8..12).unwrap();
        assert_eq!((parts.output[0], parts.scratch[0]), (20, 8));
        assert!(carve(&mut arena, 8..12, 11..13).is_none());
        assert!(carve(&mut arena, 30..33, 0..0).is_none());
        let parts = carve(&mut arena, 8..12, 0..0).unwrap();
        assert!(parts.scratch.is_empty() && parts.read(0, 8).is_some());
    }
}
