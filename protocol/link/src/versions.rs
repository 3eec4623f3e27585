//! Which protocol version to try next: 5.0 first, 3.1.1 when there is evidence that the broker lacks 5.0.
//!
//! A network that fails is no evidence. A broker that says so is; one that hangs up [`STRIKES`] times in a row between
//! our CONNECT and its answer is too, but then the other version gets a single attempt, and only its success counts.
//! A broker that does not answer at all looks like a broken network: 3.1.1 is tried, but even a success is not
//! remembered, so a long outage never costs a link its 5.0.

use crate::message::Version;

/// How often in a row a broker may hang up before the other version is tried.
const STRIKES: u8 = 3;

/// Why an attempt to connect failed, as far as the version is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConnectFailure {
    /// The broker said that it does not speak this version.
    VersionRefused,
    /// The broker hung up, or answered with something else, between CONNECT and CONNACK.
    HungUp,
    /// Nothing came in time.
    NoAnswer,
    /// The network, TLS, or a refusal for another reason.
    Other,
}

/// What one link learned about its broker.
#[derive(Debug)]
pub(crate) struct VersionChoice {
    fixed: bool,
    preferred: Version,
    next: Version,
    strikes: u8,
    /// Whether a success of `next` makes it the preferred one.
    sure: bool,
}

impl VersionChoice {
    /// `fixed`: this version and no other.
    pub(crate) fn new(fixed: Option<Version>) -> Self {
        let preferred = fixed.unwrap_or(Version::V5);
        Self { fixed: fixed.is_some(), preferred, next: preferred, strikes: 0, sure: true }
    }

    /// Version of the next attempt.
    pub(crate) fn next(&self) -> Version {
        self.next
    }

    /// The broker accepted [`Self::next`].
    pub(crate) fn accepted(&mut self) {
        if self.sure {
            self.preferred = self.next;
        }
        self.back_to_preferred();
    }

    /// An attempt with [`Self::next`] failed.
    pub(crate) fn failed(&mut self, why: ConnectFailure) {
        if self.fixed {
            return;
        }
        match why {
            ConnectFailure::Other => self.back_to_preferred(),
            ConnectFailure::VersionRefused => {
                self.next = other(self.next);
                self.strikes = 0;
                self.sure = true;
            }
            ConnectFailure::HungUp | ConnectFailure::NoAnswer => {
                if self.next != self.preferred {
                    return self.back_to_preferred();
                }
                self.strikes += 1;
                self.sure &= why == ConnectFailure::HungUp;
                if self.strikes >= STRIKES {
                    self.next = other(self.preferred);
                    self.strikes = 0;
                }
            }
        }
    }

    fn back_to_preferred(&mut self) {
        self.next = self.preferred;
        self.strikes = 0;
        self.sure = true;
    }
}

fn other(version: Version) -> Version {
    match version {
        Version::V5 => Version::V311,
        Version::V311 => Version::V5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays a broker's answers (`r` refused, `h` hung up, `n` no answer, `o` other failure, `k` accepted) and returns
    /// the versions tried.
    fn check(fixed: Option<Version>, answers: &str, expected: &str) {
        let mut choice = VersionChoice::new(fixed);
        let mut tried = String::new();
        for answer in answers.chars() {
            tried.push(if choice.next() == Version::V5 { '5' } else { '3' });
            match answer {
                'k' => choice.accepted(),
                'r' => choice.failed(ConnectFailure::VersionRefused),
                'h' => choice.failed(ConnectFailure::HungUp),
                'n' => choice.failed(ConnectFailure::NoAnswer),
                _ => choice.failed(ConnectFailure::Other),
            }
        }
        assert_eq!(tried, expected, "answers {answers}");
    }

    #[test]
    fn falls_back_on_evidence_only() {
        check(None, "kkk", "555");
        check(None, "rkkk", "5333"); // said so: remembered
        check(None, "rkoookhhkk", "5333333333"); // a bad network does not take it back
        check(None, "hhhkkk", "555333"); // hung up three times: remembered
        check(None, "hhhhhhhk", "55535553"); // hangs up on both: alternate
        check(None, "hhohhohho", "555555555"); // not in a row
        check(None, "oooooo", "555555"); // a plain network failure is no evidence
        check(None, "nnnkkk", "555355"); // silence: tried, not remembered
        check(None, "hhnkk", "55535"); // mixed counts as silence
        check(None, "rrkk", "5355"); // refuses both, then takes 5.0 again
        check(Some(Version::V311), "rhhhhk", "333333");
        check(Some(Version::V5), "rhhhhk", "555555");
    }
}
