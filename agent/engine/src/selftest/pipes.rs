//! The three pipes to the child. Each is served by a thread of its own, so that a child that writes
//! a lot, reads nothing, or does both cannot block the parent.

use std::io::{Read, Write};

/// What to do with bytes past the bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tail {
    /// Stop keeping: too long an answer is no answer.
    Stop,
    /// Keep the end: the last lines of a crash say why.
    KeepEnd,
}

/// Writes the parts and closes the pipe. A child that dies early breaks the pipe; what that means
/// is read from its exit, not from here.
pub(super) fn feed(pipe: Option<impl Write>, parts: [&[u8]; 3]) {
    let Some(mut pipe) = pipe else { return };
    for part in parts {
        if pipe.write_all(part).is_err() {
            return;
        }
    }
}

/// Reads until the other end closes and keeps at most `max` bytes. It goes on reading past the
/// bound, so that the child never blocks on a full pipe.
pub(super) fn collect(pipe: Option<impl Read>, max: usize, tail: Tail) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut chunk = [0; 4096];
    let Some(mut pipe) = pipe else { return kept };
    while let Ok(count @ 1..) = pipe.read(&mut chunk) {
        kept.extend_from_slice(&chunk[..count]);
        if kept.len() > max {
            match tail {
                Tail::Stop => kept.truncate(max),
                Tail::KeepEnd => drop(kept.drain(..kept.len() - max)),
            }
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn collect_is_bounded_at_either_end() {
        let long: Vec<u8> = (0..20_000u32).map(|at| at as u8).collect();
        assert_eq!(collect(Some(&long[..]), 100, Tail::Stop), &long[..100]);
        assert_eq!(collect(Some(&long[..]), 100, Tail::KeepEnd), &long[19_900..]);
        assert_eq!(collect(Some(&long[..7]), 100, Tail::KeepEnd), &long[..7]);
    }
}
