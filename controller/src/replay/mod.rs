//! Every input of the planner and what it decided, on file; and the same decisions made again.
//!
//! The planner is a pure function, so a journal of its inputs is a proof of its decisions: [`replay`]
//! reads the files, plans anew, and names the first decision whose bytes are others. What a decision
//! is: the orders and the changes of a plan, encoded ([`decision`]).
//!
//! Inputs are written as what changed since the one before ([`delta`]); each file begins with a whole
//! one. The files are bounded and the oldest go ([`file`]); what could not be written is counted and
//! said in the next record that could be. Nothing waits for them: they are read by people, and never
//! by the controller that writes them.

mod delta;
mod file;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::planner::{Assignment, Change, Input, Plan, plan};

use delta::{Op, patch};
pub use file::{Journal, dir, files};
use file::{Record, read};

/// What is decided of a plan: its orders and changes, in bytes.
pub fn decision(plan: &Plan) -> Vec<u8> {
    // Into memory, and of types that all encode: it cannot fail.
    postcard::to_allocvec(&(&plan.orders, &plan.changes)).unwrap_or_default()
}

/// One decision and what led to it, as it is on file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Frame {
    /// Its number: rises by one with every decision of a run of the controller.
    number: u64,
    /// Decisions before this one that could not be written.
    lost: u64,
    /// Unix seconds.
    now_s: u64,
    /// What changed in the input.
    ops: Vec<Op>,
    /// What was decided.
    decision: Vec<u8>,
}

/// What a replay found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Replayed {
    /// Files read.
    pub files: usize,
    /// Decisions made again, all the same.
    pub decisions: u64,
    /// Of these, the ones that ordered or changed something.
    pub acted: u64,
    /// Orders in them.
    pub orders: u64,
    /// When the first one was made, Unix seconds.
    pub from_s: u64,
    /// When the last one was.
    pub to_s: u64,
    /// Decisions that the controller could not write.
    pub lost: u64,
    /// Bytes at the ends of files that a power cut left of a record.
    pub torn_bytes: u64,
}

/// Why a replay does not come to the same.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// A file does not read.
    #[error("cannot read {}; check the path and the permissions", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// There is nothing to replay.
    #[error("no decisions in {}; the controller writes them while a rollout is open", path.display())]
    Nothing {
        /// Where was looked.
        path: PathBuf,
    },
    /// A file of another kind or version.
    #[error("{} is no journal of decisions that this version reads; use the version that wrote it", path.display())]
    Foreign {
        /// Which.
        path: PathBuf,
    },
    /// Bytes are not what was written.
    #[error("{}: {}the record at byte {at} is not what was written ({why}); the file was damaged or changed", path.display(), following(*.after))]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Where it begins.
        at: u64,
        /// The last decision before it, if there is one.
        after: Option<u64>,
        /// What is wrong with it.
        why: String,
    },
    /// The same input leads to another decision.
    #[error("{}: decision {number} of {now_s} (Unix seconds) is another now: {difference}", path.display())]
    Differs {
        /// Which file.
        path: PathBuf,
        /// Which decision.
        number: u64,
        /// When it was made.
        now_s: u64,
        /// What is other.
        difference: String,
    },
}

fn following(number: Option<u64>) -> String {
    number.map_or(String::new(), |number| format!("after decision {number} "))
}

/// Makes the decisions of a file, or of all files in a directory, again.
///
/// # Errors
/// [`ReplayError`] at the first difference.
pub fn replay(path: &Path) -> Result<Replayed, ReplayError> {
    let io = |source| ReplayError::Io { path: path.to_owned(), source };
    let files = if path.is_dir() { files(path).map_err(io)? } else { vec![path.to_owned()] };
    let mut found = Replayed::default();
    for file in &files {
        replay_file(file, &mut found)?;
    }
    if found.decisions == 0 {
        return Err(ReplayError::Nothing { path: path.to_owned() });
    }
    Ok(found)
}

fn replay_file(path: &Path, found: &mut Replayed) -> Result<(), ReplayError> {
    found.files += 1;
    let bytes =
        std::fs::read(path).map_err(|source| ReplayError::Io { path: path.to_owned(), source })?;
    let mut input = Input::default();
    let mut last = None;
    for record in read(path, &bytes)? {
        let damaged = |at: usize, why: &str| ReplayError::Damaged {
            path: path.to_owned(),
            at: at as u64,
            after: last,
            why: why.to_owned(),
        };
        let (at, payload) = match record {
            Record::Whole { at, payload } => (at, payload),
            Record::Torn { bytes } => {
                found.torn_bytes += bytes as u64;
                continue;
            }
            Record::Damaged { at, why } => return Err(damaged(at, why)),
        };
        let frame: Frame =
            postcard::from_bytes(payload).map_err(|_| damaged(at, "it does not decode"))?;
        if last.is_some_and(|last| frame.number != last + 1 + frame.lost) {
            return Err(damaged(at, "a record before it is missing"));
        }
        patch(&mut input, frame.now_s, &frame.ops)
            .ok_or_else(|| damaged(at, "it changes what is not there"))?;
        compare(path, &input, &frame, found)?;
        last = Some(frame.number);
    }
    Ok(())
}

fn compare(
    path: &Path,
    input: &Input,
    frame: &Frame,
    found: &mut Replayed,
) -> Result<(), ReplayError> {
    let plan = plan(input);
    if decision(&plan) != frame.decision {
        return Err(ReplayError::Differs {
            path: path.to_owned(),
            number: frame.number,
            now_s: frame.now_s,
            difference: difference(&frame.decision, &plan),
        });
    }
    if found.decisions == 0 {
        found.from_s = frame.now_s;
    }
    found.decisions += 1;
    found.acted += u64::from(!plan.orders.is_empty() || !plan.changes.is_empty());
    found.orders += plan.orders.len() as u64;
    (found.to_s, found.lost) = (frame.now_s, found.lost + frame.lost);
    Ok(())
}

/// The first order or change that is another, in words for whoever looks for the bug.
fn difference(recorded: &[u8], now: &Plan) -> String {
    type Decided = (Vec<Assignment>, Vec<Change>);
    let Ok((orders, changes)) = postcard::from_bytes::<Decided>(recorded) else {
        return "what was recorded does not decode".to_owned();
    };
    fn first<T: PartialEq + std::fmt::Debug>(then: &[T], now: &[T]) -> Option<String> {
        let at = (0..then.len().max(now.len())).find(|at| then.get(*at) != now.get(*at))?;
        let show = |item: Option<&T>| item.map_or("nothing".to_owned(), |item| format!("{item:?}"));
        Some(format!("recorded {}, now {}", show(then.get(at)), show(now.get(at))))
    }
    let found = first(&changes, &now.changes).or_else(|| first(&orders, &now.orders));
    found.unwrap_or_else(|| "the same in other bytes".to_owned())
}
