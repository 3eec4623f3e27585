//! Whether a person is asked before something that is hard to take back.
//!
//! Asked is only who sits at a terminal. In a script the command is the consent, as it always
//! was; `--no-input` makes a question that nobody could answer a mistake instead, and `--yes`
//! answers every one.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use super::Context;
use crate::api::failure::Failure;

/// Longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: u64 = 64;

impl Context {
    /// Whether [`Context::confirm`] would ask somebody.
    pub(crate) fn would_ask(&self) -> bool {
        !self.yes && !self.settings.no_input.value && std::io::stdin().is_terminal()
    }

    /// Asks, where somebody can answer.
    ///
    /// # Errors
    /// The answer was not yes, or a question would be needed and none is allowed.
    pub(crate) fn confirm(&self, question: &str) -> Result<(), Failure> {
        if self.yes {
            return Ok(());
        }
        if self.settings.no_input.value {
            return Err(Failure::usage(format!("not done: it asks \"{question}\" first"))
                .mend("say --yes, or leave --no-input away"));
        }
        if !self.would_ask() {
            return Ok(());
        }
        let mut err = std::io::stderr().lock();
        let _ = write!(err, "{question} [y/N] ");
        let _ = err.flush();
        let mut answer = String::new();
        let read = std::io::Read::take(std::io::stdin().lock(), ANSWER_BYTES_MAX);
        let mut read = std::io::BufReader::new(read);
        read.read_line(&mut answer)
            .map_err(|e| Failure::from_error("cannot read the answer", &e))?;
        match answer.trim().to_ascii_lowercase().as_str() {
            "y" | "yes" => Ok(()),
            _ => Err(Failure::conflict("not done: the answer was not yes")),
        }
    }
}
