//! Values of a file as people write them. Each is a text with its unit, read by the grammar that
//! the flag of the same meaning has; a wrong one is told at its own line.

use std::fmt::Display;

use fleetway_controller::planner::Size;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::cli::values;

/// A text that is read by a grammar of its own.
macro_rules! text {
    ($(#[$doc:meta] $name:ident($of:ty) = $read:expr;)+) => {$(
        #[$doc]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) struct $name(pub(super) $of);

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let read: fn(&str) -> Result<$of, String> = $read;
                read(&String::deserialize(deserializer)?).map(Self).map_err(D::Error::custom)
            }
        }
    )+};
}

text! {
    /// A time in seconds: `10m`.
    Time(u32) = values::seconds;
    /// A share of devices, percent: `95%`.
    Share(u8) = values::percent;
    /// A share of answers, thousandths: `0.5%`.
    Permille(u16) = values::permille;
    /// Milliseconds, kept as microseconds: `20ms`.
    Latency(u32) = values::millis_as_us;
    /// Bytes: `2GiB`.
    Bytes(u64) = bytes;
    /// A moment, Unix seconds: `2026-12-01T20:00:00Z`, or with an offset.
    Moment(u64) = moment;
}

/// A number of devices, or a share: `5`, `"5"`, `"5%"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Amount(pub(super) Size);

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "a number of devices (5) or a share (\"5%\")")]
        enum Given {
            Number(u32),
            Text(String),
        }
        let text = match Given::deserialize(deserializer)? {
            Given::Number(number) => number.to_string(),
            Given::Text(text) => text,
        };
        text.parse().map(Self).map_err(D::Error::custom)
    }
}

/// A text that parses by itself.
pub(super) fn parsed<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: std::str::FromStr<Err: Display>,
{
    String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
}

fn bytes(text: &str) -> Result<u64, String> {
    let wrong = || "give a size with its unit: 500MiB, 2GiB or 1TiB".to_owned();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().map_err(|_| wrong())?;
    let shift = match text[digits..].to_ascii_lowercase().as_str() {
        "kib" => 10,
        "mib" => 20,
        "gib" => 30,
        "tib" => 40,
        "kb" | "mb" | "gb" | "tb" => return Err("1024 or 1000? write GiB or MiB".into()),
        _ => return Err(wrong()),
    };
    let bytes = number.checked_mul(1 << shift).ok_or_else(|| "too large".to_owned())?;
    if bytes == 0 { Err("0 is no budget; leave it out for no bound".into()) } else { Ok(bytes) }
}

fn moment(text: &str) -> Result<u64, String> {
    let moment = text.parse::<jiff::Timestamp>().map_err(|_| {
        "give a moment with its offset: 2026-12-01T20:00:00Z or 2026-12-01T21:00:00+01:00"
            .to_owned()
    })?;
    u64::try_from(moment.as_second()).map_err(|_| "that is before 1970".to_owned())
}
