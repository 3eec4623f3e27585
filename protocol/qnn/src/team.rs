//! Several processors at one run: a large operator is cut in two, and each half again, until a part is
//! too small to be worth a meeting or everybody has one.
//!
//! Halves of an operator write different lines of its output and only read the rest, so the bits are the
//! same however many take part, and no lock or `unsafe` is needed: whoever brings the threads brings
//! nothing but [`Team::both`]. Without a team ([`Alone`], and every microcontroller) nothing is cut.

use crate::kernels::Kernels;
use core::ops::Range;

/// Multiply-accumulates that a part should have: some ten microseconds of work, against the few that it
/// takes to wake a thread.
pub const PART_WORK: u64 = 500_000;

/// Who can do two things at once.
pub trait Team: Sync {
    /// How many parts work of so many multiply-accumulates is cut into; 0 and 1 are as it is.
    fn parts(&self, work: u64) -> usize;

    /// Does both, in any order or at the same time, and returns when both are done.
    fn both(&self, a: &mut (dyn FnMut() + Send), b: &mut (dyn FnMut() + Send));
}

/// One processor.
#[derive(Debug, Clone, Copy)]
pub struct Alone;

impl Team for Alone {
    fn parts(&self, _: u64) -> usize {
        1
    }

    fn both(&self, a: &mut (dyn FnMut() + Send), b: &mut (dyn FnMut() + Send)) {
        a();
        b();
    }
}

/// What an operator runs on.
#[derive(Clone, Copy)]
pub(crate) struct Hands<'a> {
    pub(crate) kernels: Kernels,
    pub(crate) team: &'a dyn Team,
}

/// Something that can be cut into lines.
pub(crate) struct Part<'a> {
    /// Which lines it is.
    pub(crate) lines: Range<usize>,
    /// Their output.
    pub(crate) output: &'a mut [u8],
    /// What it may use as it likes.
    pub(crate) scratch: &'a mut [u8],
}

/// How work is cut.
pub(crate) struct Cut<'a> {
    pub(crate) hands: Hands<'a>,
    /// Bytes of a line of output.
    pub(crate) line: usize,
    /// Bytes of scratch without which a part cannot be done.
    pub(crate) scratch: usize,
}

impl Cut<'_> {
    /// Calls `each` with every part of `whole`, of at most `parts`. Nothing comes back if any of the
    /// calls gives nothing.
    pub(crate) fn run(
        &self,
        parts: usize,
        whole: Part<'_>,
        each: &(dyn Fn(Part<'_>) -> Option<()> + Sync),
    ) -> Option<()> {
        let lines = whole.lines.len();
        let parts = parts.min(lines);
        if parts < 2 || whole.scratch.len() < 2 * self.scratch {
            return each(whole);
        }
        let first = parts / 2;
        let lines = lines * first / parts;
        let middle = whole.lines.start + lines;
        let (a, b) = whole.output.split_at_mut_checked(lines * self.line)?;
        let (c, d) = whole.scratch.split_at_mut(whole.scratch.len() / 2);
        let mut one = Some(Part { lines: whole.lines.start..middle, output: a, scratch: c });
        let mut two = Some(Part { lines: middle..whole.lines.end, output: b, scratch: d });
        let (mut done_one, mut done_two) = (None, None);
        self.hands.team.both(
            &mut || done_one = one.take().and_then(|part| self.run(first, part, each)),
            &mut || done_two = two.take().and_then(|part| self.run(parts - first, part, each)),
        );
        done_one.and(done_two)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use std::vec::Vec;

    /// A thread for each part.
    struct Many;

    impl Team for Many {
        fn parts(&self, _: u64) -> usize {
            4
        }

        fn both(&self, a: &mut (dyn FnMut() + Send), b: &mut (dyn FnMut() + Send)) {
            std::thread::scope(|scope| {
                scope.spawn(b);
                a();
            });
        }
    }

    #[test]
    fn parts_are_all_lines_once_and_no_more_than_asked_for() {
        for (lines, parts, scratch) in [(7, 3, 0), (100, 8, 0), (2, 8, 0), (1, 4, 0), (64, 4, 30)] {
            let (mut output, mut room) = ([0_u8; 300], [0_u8; 100]);
            let seen = Mutex::new(Vec::new());
            let hands = Hands { kernels: Kernels::portable(), team: &Many };
            let whole =
                Part { lines: 0..lines, output: &mut output[..3 * lines], scratch: &mut room };
            let done = Cut { hands, line: 3, scratch }.run(parts, whole, &|part| {
                assert_eq!(part.output.len(), 3 * part.lines.len());
                assert!(part.scratch.len() >= scratch);
                part.output.iter_mut().for_each(|byte| *byte += 1);
                seen.lock().unwrap().push(part.lines);
                Some(())
            });
            assert_eq!(done, Some(()));
            assert!(output[..3 * lines].iter().all(|&byte| byte == 1), "{lines} {parts}");
            let seen = seen.into_inner().unwrap();
            let most = parts.min(lines).min(100_usize.checked_div(scratch).unwrap_or(usize::MAX));
            assert!(seen.len() <= most, "{seen:?}");
            assert!(seen.len() > 1 || lines == 1, "{seen:?}");
        }
    }

    #[test]
    fn a_part_that_fails_fails_the_whole() {
        let hands = Hands { kernels: Kernels::portable(), team: &Many };
        let whole = Part { lines: 0..8, output: &mut [0; 8], scratch: &mut [] };
        let each = |part: Part<'_>| (!part.lines.contains(&5)).then_some(());
        assert_eq!(Cut { hands, line: 1, scratch: 0 }.run(4, whole, &each), None);
    }
}
