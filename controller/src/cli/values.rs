//! Texts that people type: sizes, durations, `MODEL@VERSION`, counts or percents, labels.
//!
//! Units are always spoken: a bare `30` for a time would mean seconds to one person and
//! minutes to the next, so it is refused.

use std::str::FromStr;
use std::time::Duration;

use fleetway_controller::planner::check_label;
use fleetway_protocol::ids::{ModelName, Version};

/// One release, as people name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReleaseName {
    /// Which model.
    pub(crate) model: ModelName,
    /// Which version.
    pub(crate) version: Version,
}

impl FromStr for ReleaseName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (model, version) = text
            .split_once('@')
            .ok_or_else(|| "name a release as MODEL@VERSION, for example digits@v1".to_owned())?;
        Ok(Self {
            model: model.parse().map_err(|e| format!("the model name {model:?} {e}"))?,
            version: version.parse().map_err(|e| format!("the version {version:?} {e}"))?,
        })
    }
}

impl std::fmt::Display for ReleaseName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}", self.model, self.version)
    }
}

/// A share of answers in thousandths: `2%`, `0.5%`, `100`.
pub(crate) fn permille(text: &str) -> Result<u16, String> {
    let wrong = || "give a percentage from 0 to 100, for example 2% or 0.5%".to_owned();
    let number: f64 = text.strip_suffix('%').unwrap_or(text).parse().map_err(|_| wrong())?;
    if !(0.0..=100.0).contains(&number) {
        return Err(wrong());
    }
    Ok((number * 10.0).round() as u16)
}

/// A share of devices in whole percent: `95%`, `100`.
pub(crate) fn percent(text: &str) -> Result<u8, String> {
    match text.strip_suffix('%').unwrap_or(text).parse() {
        Ok(percent @ 1..=100) => Ok(percent),
        _ => Err("give a whole percentage from 1% to 100%".into()),
    }
}

/// Milliseconds as microseconds: `20`, `2.5`; 0 is off.
pub(crate) fn millis_as_us(text: &str) -> Result<u32, String> {
    let wrong = || "give milliseconds, for example 20 or 2.5; 0 is off".to_owned();
    let number: f64 = text.strip_suffix("ms").unwrap_or(text).parse().map_err(|_| wrong())?;
    if !(0.0..=3_600_000.0).contains(&number) {
        return Err(wrong());
    }
    Ok((number * 1000.0).round() as u32)
}

/// `90s`, `5m`, `1h30m`, `2d`, `500ms`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "give a time with its unit: 500ms, 30s, 5m, 1h30m or 2d".to_owned();
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let millis = match &rest[..unit] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(wrong()),
        };
        let part = number.checked_mul(millis).ok_or_else(wrong)?;
        total = total.checked_add(Duration::from_millis(part)).ok_or_else(wrong)?;
        rest = &rest[unit..];
    }
    if text.is_empty() { Err(wrong()) } else { Ok(total) }
}

/// A duration in whole seconds, for what the wire counts in seconds.
pub(crate) fn seconds(text: &str) -> Result<u32, String> {
    let duration = duration(text)?;
    if duration.subsec_nanos() != 0 {
        return Err("whole seconds only here".into());
    }
    u32::try_from(duration.as_secs()).map_err(|_| "that is more than a century".to_owned())
}

/// `512`, `4k`, `32KiB`, `1MiB`: bytes, always in powers of 1024.
pub(crate) fn bytes(text: &str) -> Result<u32, String> {
    let wrong = || "give a size in bytes, or with its unit: 4096, 32KiB or 1MiB".to_owned();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u32 = text[..digits].parse().map_err(|_| wrong())?;
    let unit = match text[digits..].to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1024,
        "m" | "mib" => 1024 * 1024,
        "kb" | "mb" => return Err("1024 or 1000? write KiB or MiB".into()),
        _ => return Err(wrong()),
    };
    number.checked_mul(unit).ok_or_else(|| "too large".to_owned())
}

/// One change of labels: `site=lab` sets, `site-` takes away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LabelEdit {
    /// Set a key to a value.
    Set(String, String),
    /// Take a key away.
    Unset(String),
}

impl FromStr for LabelEdit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some((key, value)) = text.split_once('=') {
            check_label(key, value).map_err(|error| error.to_string())?;
            return Ok(Self::Set(key.into(), value.into()));
        }
        match text.strip_suffix('-') {
            Some(key) if !key.is_empty() => Ok(Self::Unset(key.into())),
            _ => Err("write key=value to set a label, key- to take it away".into()),
        }
    }
}

/// `key=value`, for where labels can only be set.
pub(crate) fn label(text: &str) -> Result<(String, String), String> {
    match text.parse()? {
        LabelEdit::Set(key, value) => Ok((key, value)),
        LabelEdit::Unset(_) => Err("write key=value".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let ms = |text| duration(text).map(|d| d.as_millis()).ok();
        for (text, expected) in [
            ("500ms", Some(500)),
            ("30s", Some(30_000)),
            ("1h30m", Some(5_400_000)),
            ("2d", Some(172_800_000)),
            ("0s", Some(0)),
            ("30", None),
            ("", None),
            ("s", None),
            ("-1s", None),
            ("1w", None),
            ("99999999999999999999s", None),
        ] {
            assert_eq!(ms(text), expected, "{text:?}");
        }
        assert_eq!(seconds("2m"), Ok(120));
        assert!(seconds("1500ms").is_err());
    }

    #[test]
    fn sizes() {
        for (text, expected) in [
            ("512", Some(512)),
            ("32KiB", Some(32 * 1024)),
            ("4k", Some(4096)),
            ("1MiB", Some(1024 * 1024)),
            ("1MB", None),
            ("", None),
            ("KiB", None),
            ("5GiB", None),
            ("99999MiB", None),
        ] {
            assert_eq!(bytes(text).ok(), expected, "{text:?}");
        }
    }

    #[test]
    fn shares() {
        assert_eq!(permille("2%"), Ok(20));
        assert_eq!(permille("0.5%"), Ok(5));
        assert_eq!(permille("100"), Ok(1000));
        assert!(permille("NaN").is_err() && permille("101").is_err());
        assert_eq!((percent("95%"), percent("1")), (Ok(95), Ok(1)));
        assert!(percent("0%").is_err() && percent("101").is_err() && percent("9.5%").is_err());
        assert_eq!((millis_as_us("2.5"), millis_as_us("20ms")), (Ok(2_500), Ok(20_000)));
        assert!(millis_as_us("-1").is_err() && millis_as_us("inf").is_err());
    }

    #[test]
    fn releases() {
        let release: ReleaseName = "digits@v1.4.0-rc1".parse().unwrap();
        assert_eq!(release.to_string(), "digits@v1.4.0-rc1");
        for text in ["digits", "digits@", "@v1", "Digits@v1", "digits@v 1", "a@b@c"] {
            assert!(text.parse::<ReleaseName>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn labels() {
        let edit = |text: &str| text.parse::<LabelEdit>().ok();
        assert_eq!(edit("site=lab"), Some(LabelEdit::Set("site".into(), "lab".into())));
        assert_eq!(edit("site-"), Some(LabelEdit::Unset("site".into())));
        for text in ["site", "", "-", "=x", "a=", "a=b c", "a,b=c"] {
            assert_eq!(edit(text), None, "{text:?}");
        }
    }
}
