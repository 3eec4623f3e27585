//! When an update may go on: consent and safe points.
//!
//! Two rules must both let it go: the operator's, which travels in the order's terms, and the
//! device owner's, which stands in the device's own configuration. So a device may always hold
//! more strictly than the order asks, and never less. Each rule may end its own patience
//! (`s_max`); neither ends the other's.
//!
//! A hold stands before the download or before the activation, of a release on its way in.
//! What goes back is never held: not after a bad verdict, not by an order, not at a boot.
//!
//! What is not known does not count as well: without facts every condition holds, and a device
//! whose clock is behind what was signed for it knows no time of day.

mod window;

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::reason::Reason;
pub use window::{Window, WindowError};

/// Something that an update can wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Condition {
    /// No application holds a lock on the model.
    Unlocked,
    /// No application asked for a while.
    Idle,
    /// The device is on mains power.
    Mains,
    /// The link costs nothing by the byte.
    Unmetered,
    /// It is the time of day, and the day, for it.
    Window,
}

impl Condition {
    /// All, in the order in which they are told.
    pub const ALL: [Self; 5] =
        [Self::Unlocked, Self::Idle, Self::Mains, Self::Unmetered, Self::Window];

    /// What people write for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unlocked => "unlocked",
            Self::Idle => "idle",
            Self::Mains => "mains",
            Self::Unmetered => "unmetered",
            Self::Window => "window",
        }
    }

    /// The reason for which an update waits that waits for this.
    pub fn reason(self) -> Reason {
        match self {
            Self::Unlocked => Reason::HeldByApplication,
            Self::Idle => Reason::HeldUntilIdle,
            Self::Mains => Reason::HeldForMains,
            Self::Unmetered => Reason::HeldForUnmetered,
            Self::Window => Reason::HeldForWindow,
        }
    }
}

/// A word that names no condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is no condition; use unlocked, idle, mains, unmetered or window")]
pub struct NoCondition;

impl FromStr for Condition {
    type Err = NoCondition;

    fn from_str(text: &str) -> Result<Self, NoCondition> {
        Self::ALL.into_iter().find(|condition| condition.name() == text).ok_or(NoCondition)
    }
}

/// Some of the conditions.
#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Conditions(u8);

/// Bits that stand for no condition: a newer fleet asks for what this device cannot judge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown conditions in {0:#04x}; this device needs a newer agent")]
pub struct UnknownConditions(u8);

impl Conditions {
    /// None.
    pub const NONE: Self = Self(0);

    /// These with `condition`.
    #[must_use]
    pub const fn with(self, condition: Condition) -> Self {
        Self(self.0 | 1 << condition as u8)
    }

    /// Those of either.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether `condition` is one of them.
    pub const fn has(self, condition: Condition) -> bool {
        self.0 & 1 << condition as u8 != 0
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// One after the other.
    pub fn iter(self) -> impl Iterator<Item = Condition> {
        Condition::ALL.into_iter().filter(move |condition| self.has(*condition))
    }
}

impl From<Conditions> for u8 {
    fn from(conditions: Conditions) -> Self {
        conditions.0
    }
}

impl TryFrom<u8> for Conditions {
    type Error = UnknownConditions;

    fn try_from(bits: u8) -> Result<Self, UnknownConditions> {
        if bits >> Condition::ALL.len() == 0 {
            Ok(Self(bits))
        } else {
            Err(UnknownConditions(bits))
        }
    }
}

impl FromIterator<Condition> for Conditions {
    fn from_iter<I: IntoIterator<Item = Condition>>(all: I) -> Self {
        all.into_iter().fold(Self::NONE, Self::with)
    }
}

impl fmt::Debug for Conditions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// Where an update is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Point {
    /// Before its bytes are fetched; also in the middle of that.
    Download,
    /// Before it answers applications.
    Activation,
}

impl Point {
    /// What people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Download => "download",
            Self::Activation => "activation",
        }
    }
}

/// What an update waits for, and for how long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// What must be so for its bytes to be fetched.
    pub download: Conditions,
    /// What must be so for it to be activated.
    pub activation: Conditions,
    /// For [`Condition::Idle`]: seconds without a request.
    pub idle_s: u32,
    /// For [`Condition::Window`]: when.
    pub window: Window,
    /// Seconds after which this rule holds no longer, counted from the first wait of this
    /// update, reboots included. 0: it holds for as long as it takes.
    pub s_max: u32,
}

/// How the device is, as far as a hold asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Unix seconds, never behind what was signed.
    pub unix_s: u64,
    /// Whether the system's clock agrees with that: only then the time of day is known.
    pub time_known: bool,
    /// Whether an application holds a lock on the model.
    pub locked: bool,
    /// Seconds since an application last asked.
    pub idle_s: u32,
    /// Whether the device is on mains power.
    pub mains: bool,
    /// Whether the link costs nothing by the byte.
    pub unmetered: bool,
}

impl Hold {
    /// What must be so at `point`.
    pub fn at(&self, point: Point) -> Conditions {
        match point {
            Point::Download => self.download,
            Point::Activation => self.activation,
        }
    }

    /// What is not so yet at `point`, for an update that first waited at `since_s` (Unix
    /// seconds; 0: it has not waited yet). Without facts, all of it.
    pub fn unmet(&self, point: Point, facts: Option<&Facts>, since_s: u64) -> Conditions {
        let Some(facts) = facts else { return self.at(point) };
        let waited_s = facts.unix_s.saturating_sub(since_s);
        if self.s_max > 0 && since_s > 0 && waited_s >= u64::from(self.s_max) {
            return Conditions::NONE;
        }
        let met = |condition: &Condition| match condition {
            Condition::Unlocked => !facts.locked,
            Condition::Idle => facts.idle_s >= self.idle_s,
            Condition::Mains => facts.mains,
            Condition::Unmetered => facts.unmetered,
            Condition::Window => facts.time_known && self.window.is_open(facts.unix_s),
        };
        self.at(point).iter().filter(|condition| !met(condition)).collect()
    }
}

/// An update that is held, as it is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Where.
    pub before: Point,
    /// What it waits for.
    pub conditions: Conditions,
    /// When it first waited, Unix seconds; 0 in its first moment.
    pub since_s: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_S: u64 = 24 * 3600;
    /// Saturday, 28 November 2026, 00:00 UTC.
    const SATURDAY_S: u64 = 1_795_824_000;

    const GOOD: Facts = Facts {
        unix_s: SATURDAY_S,
        time_known: true,
        locked: false,
        idle_s: 60,
        mains: true,
        unmetered: true,
    };

    fn at(day: u64, hour: u64, minute: u64) -> u64 {
        SATURDAY_S + day * DAY_S + hour * 3600 + minute * 60
    }

    #[test]
    fn each_condition_holds_alone_and_the_unknown_holds_all() {
        let hold = Hold {
            activation: Condition::ALL.into_iter().collect(),
            idle_s: 60,
            window: Window { days: Window::EVERY_DAY, from_min: 0, to_min: 60 },
            ..Hold::default()
        };
        let unmet = |facts: &Facts| hold.unmet(Point::Activation, Some(facts), 0);
        assert_eq!(unmet(&GOOD), Conditions::NONE);
        for (facts, condition) in [
            (Facts { locked: true, ..GOOD }, Condition::Unlocked),
            (Facts { idle_s: 59, ..GOOD }, Condition::Idle),
            (Facts { mains: false, ..GOOD }, Condition::Mains),
            (Facts { unmetered: false, ..GOOD }, Condition::Unmetered),
            (Facts { unix_s: at(0, 1, 0), ..GOOD }, Condition::Window),
            (Facts { time_known: false, ..GOOD }, Condition::Window),
        ] {
            assert_eq!(unmet(&facts), Conditions::NONE.with(condition));
        }
        assert_eq!(hold.unmet(Point::Activation, None, 0), hold.activation);
        assert_eq!(hold.unmet(Point::Download, None, 0), Conditions::NONE);
    }

    #[test]
    fn patience_ends_by_the_clock_and_only_after_a_first_wait() {
        let activation = Conditions::NONE.with(Condition::Mains);
        let hold = Hold { activation, s_max: 3600, ..Hold::default() };
        let bad = |unix_s| Facts { unix_s, mains: false, ..GOOD };
        let unmet = |unix_s, since_s| hold.unmet(Point::Activation, Some(&bad(unix_s)), since_s);
        assert_eq!(unmet(at(0, 1, 0), at(0, 0, 0)), Conditions::NONE);
        assert_eq!(unmet(at(0, 0, 59), at(0, 0, 0)), activation);
        assert_eq!(unmet(at(0, 1, 0), 0), activation);
        // A clock that was set back since.
        assert_eq!(unmet(at(0, 0, 0), at(0, 1, 0)), activation);
    }

    #[test]
    fn unknown_conditions_are_refused() {
        let all: Conditions = Condition::ALL.into_iter().collect();
        assert_eq!(Conditions::try_from(u8::from(all)), Ok(all));
        assert_eq!(Conditions::try_from(0x20), Err(UnknownConditions(0x20)));
    }
}
