//! The arena: where each buffer lies, so that buffers that are never needed together share bytes.
//!
//! Largest first, each at the lowest address where it meets no buffer that lives at the same time.
//! That is not optimal (finding the optimum is NP-hard), and close to it: no plan can do with less
//! than what the hungriest step needs.

use crate::ir::Program;
use fleetway_qnn::format::ALIGN;

/// Addresses of the buffers, and the bytes of the arena.
#[derive(Debug)]
pub(crate) struct Arena {
    pub(crate) at: Vec<usize>,
    pub(crate) bytes: usize,
    /// What the hungriest step needs: no plan can do with less.
    #[cfg(test)]
    pub(crate) least: usize,
}

/// First and last moment at which a buffer holds something, both included.
type Life = Option<(usize, usize)>;

pub(crate) fn plan(program: &Program) -> Arena {
    let lives = lives(program);
    let sizes: Vec<usize> =
        program.buffers.iter().map(|bytes| bytes.next_multiple_of(ALIGN)).collect();
    let mut order: Vec<usize> =
        (0..sizes.len()).filter(|&buffer| lives[buffer].is_some()).collect();
    order.sort_by_key(|&buffer| (std::cmp::Reverse(sizes[buffer]), buffer));
    let mut at = vec![0; sizes.len()];
    let mut placed: Vec<usize> = Vec::new();
    for &buffer in &order {
        let mut beside: Vec<usize> =
            placed.iter().copied().filter(|&other| meet(lives[buffer], lives[other])).collect();
        beside.sort_by_key(|&other| at[other]);
        let mut lowest = 0;
        for other in beside {
            if lowest + sizes[buffer] <= at[other] {
                break;
            }
            lowest = lowest.max(at[other] + sizes[other]);
        }
        at[buffer] = lowest;
        placed.push(buffer);
    }
    let bytes = placed.iter().map(|&buffer| at[buffer] + sizes[buffer]).max().unwrap_or(0);
    #[cfg(test)]
    let need = |moment: usize| -> usize {
        let alive = |buffer: &&usize| meet(lives[**buffer], Some((moment, moment)));
        placed.iter().filter(alive).map(|&buffer| sizes[buffer]).sum()
    };
    #[cfg(test)]
    let least = (0..program.steps.len() + 2).map(need).max().unwrap_or(0);
    Arena {
        at,
        bytes,
        #[cfg(test)]
        least,
    }
}

fn meet(a: Life, b: Life) -> bool {
    matches!((a, b), (Some(a), Some(b)) if a.0 <= b.1 && b.0 <= a.1)
}

/// Inputs are there from moment 0 on, step `i` runs at moment `i + 1`, outputs stay to the end.
fn lives(program: &Program) -> Vec<Life> {
    let mut lives: Vec<Life> = vec![None; program.buffers.len()];
    let mut touch = |buffer: usize, moment: usize| {
        let (from, to) = lives[buffer].unwrap_or((moment, moment));
        lives[buffer] = Some((from.min(moment), to.max(moment)));
    };
    for port in &program.inputs {
        touch(port.buffer, 0);
    }
    for (index, step) in program.steps.iter().enumerate() {
        let buffers = step.inputs.iter().chain([&step.output]).map(|place| place.buffer);
        for buffer in buffers.chain(step.scratch) {
            touch(buffer, index + 1);
        }
    }
    for port in &program.outputs {
        touch(port.buffer, program.steps.len() + 1);
    }
    lives
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::{Place, Step};
    use fleetway_qnn::format::{Op, Table};

    /// A chain of `sizes`, each read by the next step, and `kept` read by the last step again.
    fn chain(sizes: &[usize], kept: Option<usize>) -> Program {
        let mut program = Program::default();
        for &size in sizes {
            program.buffer(size);
        }
        let place = |buffer| Place { buffer, offset: 0 };
        for step in 1..sizes.len() {
            let mut inputs = vec![place(step - 1)];
            inputs.extend(kept.filter(|_| step + 1 == sizes.len()).map(place));
            program.steps.push(Step {
                op: Op::Table(Table::default()),
                inputs,
                output: place(step),
                scratch: None,
                blobs: vec![],
            });
        }
        program
    }

    #[test]
    fn buffers_that_live_together_never_overlap_and_others_share() {
        let mut rng = fastrand::Rng::with_seed(3);
        for _ in 0..200 {
            let sizes: Vec<usize> = (0..rng.usize(2..12)).map(|_| rng.usize(1..5000)).collect();
            let program = chain(&sizes, rng.bool().then(|| rng.usize(0..sizes.len())));
            let (arena, lives) = (plan(&program), lives(&program));
            for a in 0..sizes.len() {
                for b in 0..a {
                    let apart = arena.at[a] + sizes[a] <= arena.at[b]
                        || arena.at[b] + sizes[b] <= arena.at[a];
                    assert!(apart || !meet(lives[a], lives[b]), "{sizes:?} {a} {b}");
                }
            }
            assert!(arena.bytes >= arena.least);
        }
        let equal = chain(&[640; 10], None);
        assert_eq!(plan(&equal).bytes, 1280, "two buffers take turns");
    }
}
