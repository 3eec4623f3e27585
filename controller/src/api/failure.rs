//! What went wrong, for a person and for a script: one shape everywhere.
//!
//! The server puts a [`Failure`] into its answer, the client takes it out again, `main`
//! prints it and ends with the exit code of its [`Kind`]. So a script sees the same code
//! whether the command failed here or in the controller.

use std::fmt::Display;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What kind of failure; decides the exit code. Names and numbers are an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// Something else: the disk, a file, the system.
    Error,
    /// The command itself makes no sense.
    Usage,
    /// The rollout failed, halted or was aborted.
    RolloutFailed,
    /// No answer from the controller, or not in time.
    Unreachable,
    /// It names something that is not there.
    NotFound,
    /// It contradicts what is there, or something has to be done first.
    Conflict,
    /// A signature, a key or a digest does not hold.
    Trust,
    /// Nobody known asks: no token or session, or one that is over.
    Unauthenticated,
    /// Whoever asks may not do this.
    Forbidden,
    /// It has changed since it was looked at.
    Stale,
    /// The key of another request.
    KeyReused,
}

impl Kind {
    /// The process's exit code.
    pub(crate) fn exit_code(self) -> u8 {
        match self {
            Self::Error => 1,
            Self::Usage => 2,
            Self::RolloutFailed => 3,
            Self::Unreachable => 4,
            Self::NotFound => 5,
            Self::Conflict | Self::Stale | Self::KeyReused => 6,
            Self::Trust | Self::Unauthenticated | Self::Forbidden => 7,
        }
    }

    /// What it means, as the OpenAPI document says it.
    pub(crate) fn sentence(self) -> &'static str {
        match self {
            Self::Error | Self::RolloutFailed => "The disk, a file, the system",
            Self::Usage => "The request itself makes no sense",
            Self::Unreachable => "No answer in time; it may still be done",
            Self::NotFound => "It names something that is not there",
            Self::Conflict => "It contradicts what is there, or something has to be done first",
            Self::Trust | Self::KeyReused => {
                "A signature, a key or a digest does not hold, or the `Idempotency-Key` is another request's"
            }
            Self::Unauthenticated => "No token or session that is good",
            Self::Forbidden => "Not for this role, or from a page of another site",
            Self::Stale => "It has changed since `If-Match` was seen",
        }
    }

    /// The HTTP status that goes with it.
    pub(crate) fn http_status(self) -> u16 {
        match self {
            Self::Error | Self::RolloutFailed => 500,
            Self::Usage => 400,
            Self::Unreachable => 503,
            Self::NotFound => 404,
            Self::Conflict => 409,
            Self::Stale => 412,
            Self::Trust | Self::KeyReused => 422,
            Self::Unauthenticated => 401,
            Self::Forbidden => 403,
        }
    }
}

/// One failure: what happened to which thing, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Failure {
    /// What kind.
    pub(crate) code: Kind,
    /// What happened, and which thing.
    pub(crate) message: String,
    /// What to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) mend: Option<String>,
}

/// The JSON form: `{"error": {...}}`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Envelope {
    /// The failure.
    pub(crate) error: Failure,
}

impl Failure {
    /// A failure of `code`.
    pub(crate) fn new(code: Kind, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), mend: None }
    }

    /// With what to do about it.
    #[must_use]
    pub(crate) fn mend(mut self, mend: impl Into<String>) -> Self {
        self.mend = Some(mend.into());
        self
    }

    /// Of kind [`Kind::Error`].
    pub(crate) fn error(message: impl Into<String>) -> Self {
        Self::new(Kind::Error, message)
    }

    /// Of kind [`Kind::Usage`].
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    /// Of kind [`Kind::NotFound`].
    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, message)
    }

    /// Of kind [`Kind::Conflict`].
    pub(crate) fn conflict(message: impl Into<String>) -> Self {
        Self::new(Kind::Conflict, message)
    }

    /// Of kind [`Kind::Trust`].
    pub(crate) fn trust(message: impl Into<String>) -> Self {
        Self::new(Kind::Trust, message)
    }

    /// Of kind [`Kind::Unreachable`].
    pub(crate) fn unreachable(message: impl Into<String>) -> Self {
        Self::new(Kind::Unreachable, message)
    }

    /// From an error and all its causes, of kind [`Kind::Error`].
    pub(crate) fn from_error(what: impl Display, error: &dyn std::error::Error) -> Self {
        Self::error(format!("{what}: {}", chain(error)))
    }

    /// From an error about a file.
    pub(crate) fn file(what: &str, path: &std::path::Path, error: &std::io::Error) -> Self {
        let failure = Self::error(format!("cannot {what} {}: {error}", path.display()));
        match error.kind() {
            std::io::ErrorKind::NotFound => {
                Self { code: Kind::NotFound, ..failure }.mend("check the path")
            }
            std::io::ErrorKind::PermissionDenied => {
                failure.mend("run it as the user that owns the file, or correct its permissions")
            }
            std::io::ErrorKind::StorageFull => {
                failure.mend("free some space and repeat the command; nothing was lost")
            }
            _ => failure,
        }
    }

    /// The text that a person reads on stderr.
    pub(crate) fn text(&self, colour: bool) -> String {
        let (red, off) = if colour { ("\x1b[1;31m", "\x1b[0m") } else { ("", "") };
        match &self.mend {
            Some(mend) => format!("{red}error:{off} {}\n  mend: {mend}", self.message),
            None => format!("{red}error:{off} {}", self.message),
        }
    }

    /// The JSON form, on one line.
    pub(crate) fn json(&self) -> String {
        serde_json::to_string(&Envelope { error: self.clone() })
            .unwrap_or_else(|_| r#"{"error":{"code":"error","message":"unprintable"}}"#.into())
    }
}

/// An error and its causes in one line; a cause that the error quotes already is left out.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_pinned() {
        let all = [
            (Kind::Error, 1, "error"),
            (Kind::Usage, 2, "usage"),
            (Kind::RolloutFailed, 3, "rollout_failed"),
            (Kind::Unreachable, 4, "unreachable"),
            (Kind::NotFound, 5, "not_found"),
            (Kind::Conflict, 6, "conflict"),
            (Kind::Trust, 7, "trust"),
            (Kind::Unauthenticated, 7, "unauthenticated"),
            (Kind::Forbidden, 7, "forbidden"),
            (Kind::Stale, 6, "stale"),
            (Kind::KeyReused, 6, "key_reused"),
        ];
        for (kind, code, name) in all {
            assert_eq!(kind.exit_code(), code);
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("{name:?}"));
        }
    }

    #[test]
    fn both_forms_say_what_and_mend() {
        let failure = Failure::not_found("no device \"cam-9\"").mend("see `fleetway device list`");
        assert_eq!(
            failure.text(false),
            "error: no device \"cam-9\"\n  mend: see `fleetway device list`"
        );
        assert_eq!(
            failure.json(),
            r#"{"error":{"code":"not_found","message":"no device \"cam-9\"","mend":"see `fleetway device list`"}}"#
        );
        let back: Envelope = serde_json::from_str(&failure.json()).unwrap();
        assert_eq!(back.error, failure);
    }
}
