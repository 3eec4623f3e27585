//! A time of the week at which something may be: `mon-fri 02:00-05:00`, in UTC.
//!
//! UTC and not local time: a device knows no time zone that anybody signed, and an hour that is
//! skipped or comes twice is nothing to update in.

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

const MINUTES_PER_DAY: u16 = 24 * 60;
const DAY_S: u64 = 24 * 3600;
/// Day of the week of 1 January 1970, a Thursday; Monday is 0.
const EPOCH_DAY: u64 = 3;
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// A time of day, in UTC, on some days of the week.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Days on which it opens: bit 0 is Monday. None: it never opens.
    pub days: u8,
    /// Minute of the day at which it opens.
    pub from_min: u16,
    /// Minute of the day at which it closes; not above `from_min`: on the day after.
    pub to_min: u16,
}

impl Window {
    /// All days of the week.
    pub const EVERY_DAY: u8 = 0x7f;

    /// Whether the numbers are ones that a day and a week have.
    pub fn is_sane(self) -> bool {
        self.days & !Self::EVERY_DAY == 0
            && self.days != 0
            && self.from_min < MINUTES_PER_DAY
            && self.to_min < MINUTES_PER_DAY
    }

    /// Whether it is open at `unix_s`.
    pub fn is_open(self, unix_s: u64) -> bool {
        let day = (unix_s / DAY_S + EPOCH_DAY) % 7;
        let minute = (unix_s % DAY_S / 60) as u16;
        let opens_on = |day: u64| self.days >> (day % 7) & 1 == 1;
        let (opened, closes) = (minute >= self.from_min, minute < self.to_min);
        if self.from_min < self.to_min {
            opens_on(day) && opened && closes
        } else {
            opens_on(day) && opened || opens_on(day + 6) && closes
        }
    }
}

/// A text that names no window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "is no window; write days and UTC times, such as `mon-fri 02:00-05:00` or `daily 22:00-04:00`"
)]
pub struct WindowError;

impl FromStr for Window {
    type Err = WindowError;

    /// `mon-fri 02:00-05:00`, `sat,sun 00:00-24:00`, `daily 22:00-04:00`.
    fn from_str(text: &str) -> Result<Self, WindowError> {
        let (days, times) = text.split_once(' ').ok_or(WindowError)?;
        let (from, to) = times.trim().split_once('-').ok_or(WindowError)?;
        let from_min = minute(from).filter(|minute| *minute < MINUTES_PER_DAY);
        // 24:00 is the midnight after.
        let to_min = minute(to).map(|minute| minute % MINUTES_PER_DAY);
        let (Some(from_min), Some(to_min)) = (from_min, to_min) else { return Err(WindowError) };
        Ok(Self { days: days_of(days)?, from_min, to_min })
    }
}

fn minute(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let digits = |text: &str| text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(hours) || !digits(minutes) {
        return None;
    }
    let (hours, minutes): (u16, u16) = (hours.parse().ok()?, minutes.parse().ok()?);
    (minutes < 60).then_some(hours * 60 + minutes).filter(|minute| *minute <= MINUTES_PER_DAY)
}

fn days_of(text: &str) -> Result<u8, WindowError> {
    if text == "daily" {
        return Ok(Window::EVERY_DAY);
    }
    let day = |text: &str| DAYS.iter().position(|day| *day == text).ok_or(WindowError);
    text.split(',').try_fold(0, |days, part| {
        let (first, last) = match part.split_once('-') {
            Some((first, last)) => (day(first)?, day(last)?),
            None => (day(part)?, day(part)?),
        };
        // `sat-mon` goes over the end of the week.
        let count = (last + 7 - first) % 7 + 1;
        Ok((first..first + count).fold(days, |days, day| days | 1 << (day % 7)))
    })
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.days == Self::EVERY_DAY {
            f.write_str("daily")?;
        } else {
            let mut all = DAYS.iter().enumerate().filter(|(day, _)| self.days >> day & 1 == 1);
            if let Some((_, first)) = all.next() {
                f.write_str(first)?;
            }
            all.try_for_each(|(_, day)| write!(f, ",{day}"))?;
        }
        let clock = |minute: u16| (minute / 60, minute % 60);
        let ((from_h, from_m), (to_h, to_m)) = (clock(self.from_min), clock(self.to_min));
        write!(f, " {from_h:02}:{from_m:02}-{to_h:02}:{to_m:02}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString as _;

    /// Saturday, 28 November 2026, 00:00 UTC.
    const SATURDAY_S: u64 = 1_795_824_000;

    fn at(day: u64, hour: u64, minute: u64) -> u64 {
        SATURDAY_S + day * DAY_S + hour * 3600 + minute * 60
    }

    #[test]
    fn windows_open_by_minute_and_day() {
        let saturday = 1 << 5;
        let day = Window { days: saturday, from_min: 9 * 60, to_min: 10 * 60 + 30 };
        let night = Window { days: saturday, from_min: 22 * 60, to_min: 4 * 60 };
        let whole = Window { days: saturday, from_min: 0, to_min: 0 };
        for (window, unix_s, open) in [
            (day, at(0, 8, 59), false),
            (day, at(0, 9, 0), true),
            (day, at(0, 10, 29), true),
            (day, at(0, 10, 30), false),
            (day, at(1, 9, 0), false),
            (day, at(7, 9, 0), true),
            (night, at(0, 3, 0), false),
            (night, at(0, 22, 0), true),
            (night, at(1, 3, 59), true),
            (night, at(1, 4, 0), false),
            (night, at(1, 22, 0), false),
            (whole, at(0, 0, 0), true),
            (whole, at(0, 23, 59), true),
            (whole, at(1, 0, 0), false),
            (Window::default(), at(0, 0, 0), false),
        ] {
            assert_eq!(window.is_open(unix_s), open, "{window:?} at {}", unix_s - SATURDAY_S);
        }
        assert!(day.is_sane() && night.is_sane() && !Window::default().is_sane());
        assert!(!Window { to_min: MINUTES_PER_DAY, ..day }.is_sane());
    }

    #[test]
    fn windows_are_written_and_read() {
        for (text, days, from_min, to_min, again) in [
            ("mon-fri 02:00-05:00", 0x1f, 120, 300, "mon,tue,wed,thu,fri 02:00-05:00"),
            ("daily 22:00-04:00", 0x7f, 1320, 240, "daily 22:00-04:00"),
            ("sat,sun 00:00-24:00", 0x60, 0, 0, "sat,sun 00:00-00:00"),
            ("sat-mon 09:30-10:00", 0x61, 570, 600, "mon,sat,sun 09:30-10:00"),
        ] {
            let window: Window = text.parse().unwrap();
            assert_eq!(window, Window { days, from_min, to_min }, "{text}");
            assert_eq!(window.to_string(), again);
            assert_eq!(again.parse(), Ok(window));
        }
        for text in [
            "",
            "02:00-05:00",
            "mon 2:00-5:00",
            "mon 24:00-05:00",
            "mon 02:60-05:00",
            "mon 02:00-24:01",
            "monday 02:00-05:00",
            "mon- 02:00-05:00",
            "mon 02:00",
        ] {
            assert_eq!(text.parse::<Window>(), Err(WindowError), "{text:?}");
        }
    }
}
