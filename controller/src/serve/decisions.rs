//! The journal of the planner's decisions, of a running controller. A disk that does not take them
//! is said, once, and stops nothing; see [`fleetway_controller::replay`].

use std::path::{Path, PathBuf};

use fleetway_controller::planner::{Input, Plan};
use fleetway_controller::replay::Journal;
use tracing::{error, info};

/// The journal, opened when there is something to write.
pub(super) struct Decisions {
    data: PathBuf,
    journal: Option<Journal>,
    /// What went wrong last; said once.
    trouble: String,
}

impl Decisions {
    /// Of a data directory.
    pub(super) fn new(data: &Path) -> Self {
        Self { data: data.to_owned(), journal: None, trouble: String::new() }
    }

    /// Writes what was decided.
    pub(super) fn note(&mut self, decided: Option<(Input, Plan)>) {
        let Some((input, plan)) = decided else { return };
        let text = match self.write(input, &plan) {
            Ok(()) => String::new(),
            Err(error) => error.to_string(),
        };
        if text != self.trouble {
            match text.is_empty() {
                true => info!("decisions are journaled again"),
                false => error!("decisions cannot be journaled, and go on without: {text}"),
            }
        }
        self.trouble = text;
    }

    fn write(&mut self, input: Input, plan: &Plan) -> std::io::Result<()> {
        if self.journal.is_none() {
            self.journal = Some(Journal::open(&self.data)?);
        }
        self.journal.as_mut().map_or(Ok(()), |journal| journal.note(input, plan))
    }
}
