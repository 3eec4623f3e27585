//! How orders ended, and why: for programs, and as a sentence with its numbers for people.

use fleetway_protocol::reason::Reason;
use fleetway_protocol::slot::{Ending, Outcome};
use serde::{Deserialize, Serialize};

/// A reason: for programs and for people.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Why {
    /// Stable name.
    pub code: String,
    /// What happened, and what can be done.
    pub sentence: String,
}

impl From<Reason> for Why {
    fn from(reason: Reason) -> Self {
        Self { code: reason.code().to_owned(), sentence: reason.to_string() }
    }
}

/// How an order ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Last {
    /// The release ordered.
    pub release: String,
    /// `confirmed`, `failed`, `rolled-back` or `removed`.
    pub result: String,
    /// Why, where it did not go well.
    pub why: Option<Why>,
}

impl From<Outcome> for Last {
    fn from(outcome: Outcome) -> Self {
        let (result, why) = match outcome.result {
            Ending::Confirmed => ("confirmed", None),
            Ending::Failed(reason) => ("failed", Some(reason.into())),
            Ending::RolledBack(reason) => {
                let numbers = outcome.evidence.map(|evidence| evidence.sentence(reason));
                let mut why = Why::from(reason);
                if let Some(numbers) = numbers {
                    why.sentence = format!("{} ({numbers})", why.sentence);
                }
                ("rolled-back", Some(why))
            }
            Ending::Removed => ("removed", None),
        };
        Self { release: outcome.release.to_string(), result: result.to_owned(), why }
    }
}
