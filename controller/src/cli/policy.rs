//! The file that says what healthy means for a release: `model import --health policy.toml`.
//!
//! ```toml
//! samples_min = 20                  # answers before anything is judged
//! window = "1h"                     # older answers do not count
//! probation_min = "10m"             # whatever a rollout says
//! inconclusive = "wait"             # or "confirm after 1d", "roll back after 2h"
//! errors_max = "2%"
//! p95_max = "20ms"
//! p95_beside_before_max = "300%"    # of the release before, on the same device
//! collapse_max = "95%"              # share of the most frequent class
//! psi_max = 0.1                     # drift from --reference
//! confidence_shift_max = 0.15       # likewise
//! memory_max = "512MiB"
//! memory_growth_max = "256MiB"
//! crashes_max = 2
//! watch = ["mean(image)", "confidence"]
//! watch_classes = true
//! ```
//! All of it may be left out; a bound is switched off with `"off"`. Errors name the line.

use std::path::Path;

use fleetway_controller::catalog::{HealthRequest, WatchName};
use fleetway_protocol::health::{HealthPolicy, Inconclusive, PSI_MILLI_MIN, WHOLE_PERMILLE};
use fleetway_protocol::limits::TRIAL_TRIES_MAX;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::values;
use crate::api::failure::Failure;
use crate::config::{one_line, place_of};

/// Bytes of the file: a page.
const FILE_BYTES_MAX: u64 = 64 * 1024;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    #[serde(deserialize_with = "at_least_one")]
    samples_min: u32,
    #[serde(deserialize_with = "window")]
    window: u32,
    #[serde(deserialize_with = "seconds")]
    probation_min: u32,
    #[serde(deserialize_with = "inconclusive")]
    inconclusive: Inconclusive,
    #[serde(deserialize_with = "share")]
    errors_max: u16,
    #[serde(deserialize_with = "latency")]
    p95_max: u32,
    #[serde(deserialize_with = "percent")]
    p95_beside_before_max: u16,
    #[serde(deserialize_with = "share")]
    collapse_max: u16,
    #[serde(deserialize_with = "psi")]
    psi_max: u16,
    #[serde(deserialize_with = "shift")]
    confidence_shift_max: u16,
    #[serde(deserialize_with = "mebibytes")]
    memory_max: u32,
    #[serde(deserialize_with = "mebibytes")]
    memory_growth_max: u32,
    #[serde(deserialize_with = "crashes")]
    crashes_max: u8,
    #[serde(deserialize_with = "watch")]
    watch: Option<Vec<WatchName>>,
    watch_classes: bool,
}

impl Default for File {
    fn default() -> Self {
        let policy = HealthPolicy::default();
        Self {
            samples_min: policy.samples_min,
            window: policy.window_s,
            probation_min: policy.probation_s_min,
            inconclusive: policy.inconclusive,
            errors_max: policy.error_permille_max,
            p95_max: policy.p95_us_max,
            p95_beside_before_max: policy.p95_percent_max,
            collapse_max: policy.collapse_permille_max,
            psi_max: policy.psi_milli_max,
            confidence_shift_max: policy.confidence_permille_max,
            memory_max: policy.memory_mib_max,
            memory_growth_max: policy.memory_growth_mib_max,
            crashes_max: policy.crashes_max,
            watch: None,
            watch_classes: true,
        }
    }
}

/// Reads a policy and the reference beside it.
pub(super) fn load(
    policy: Option<&Path>,
    reference: Option<&Path>,
) -> Result<HealthRequest, Failure> {
    let file = match policy {
        None => File::default(),
        Some(path) => {
            let size = std::fs::metadata(path).map_or(0, |meta| meta.len());
            if size > FILE_BYTES_MAX {
                return Err(Failure::usage(format!("{} has {size} bytes", path.display()))
                    .mend("a policy is a page of text; see `fleetway model import --help`"));
            }
            let text = std::fs::read_to_string(path)
                .map_err(|error| Failure::file("read", path, &error))?;
            parse(&text, path)?
        }
    };
    Ok(HealthRequest {
        policy: HealthPolicy {
            samples_min: file.samples_min,
            window_s: file.window,
            probation_s_min: file.probation_min,
            inconclusive: file.inconclusive,
            error_permille_max: file.errors_max,
            p95_us_max: file.p95_max,
            p95_percent_max: file.p95_beside_before_max,
            collapse_permille_max: file.collapse_max,
            psi_milli_max: file.psi_max,
            confidence_permille_max: file.confidence_shift_max,
            memory_mib_max: file.memory_max,
            memory_growth_mib_max: file.memory_growth_max,
            crashes_max: file.crashes_max,
        },
        reference: reference.map(Path::to_owned),
        watch: file.watch,
        classes: file.watch_classes,
    })
}

fn parse(text: &str, path: &Path) -> Result<File, Failure> {
    toml::from_str(text).map_err(|error| {
        let place = place_of(text, error.span().map_or(0, |span| span.start));
        Failure::usage(format!("{}:{place}: {}", path.display(), one_line(error.message())))
            .mend("correct it there; `fleetway model import --help` shows a policy")
    })
}

/// A number, or a text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Given {
    Number(f64),
    Text(String),
}

/// A text by its own grammar, or `off`.
fn text_or_off<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    off: T,
    read: impl Fn(&str) -> Result<T, String>,
) -> Result<T, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text == "off" { Ok(off) } else { read(&text).map_err(D::Error::custom) }
}

/// A number in thousandths, or `off`.
fn milli_or_off<'de, D: Deserializer<'de>>(
    deserializer: D,
    off: u16,
    min: u16,
    max: u16,
) -> Result<u16, D::Error> {
    let (low, high) = (f64::from(min) / 1000.0, f64::from(max) / 1000.0);
    match Given::deserialize(deserializer)? {
        Given::Text(text) if text == "off" => Ok(off),
        Given::Number(number) if (low..=high).contains(&number) => {
            Ok((number * 1000.0).round() as u16)
        }
        _ => Err(D::Error::custom(format!("give a number from {low} to {high}, or \"off\""))),
    }
}

fn at_least_one<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    match u32::deserialize(deserializer)? {
        0 => Err(D::Error::custom("at least 1: nothing is judged by no answers")),
        number => Ok(number),
    }
}

fn crashes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u8, D::Error> {
    let max = TRIAL_TRIES_MAX - 1;
    let number = u8::deserialize(deserializer)?;
    let wrong = || D::Error::custom(format!("0 to {max}: the next one poisons in any case"));
    (number <= max).then_some(number).ok_or_else(wrong)
}

fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    values::seconds(&String::deserialize(deserializer)?).map_err(D::Error::custom)
}

fn window<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    match seconds(deserializer)? {
        0 => Err(D::Error::custom("a window of no time holds no answers")),
        window => Ok(window),
    }
}

fn inconclusive<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Inconclusive, D::Error> {
    let text = String::deserialize(deserializer)?;
    let after = |text: &str| values::seconds(text.trim()).map_err(D::Error::custom);
    match (text.strip_prefix("confirm after "), text.strip_prefix("roll back after ")) {
        (Some(time), _) => Ok(Inconclusive::Confirm { after_s: after(time)? }),
        (_, Some(time)) => Ok(Inconclusive::RollBack { after_s: after(time)? }),
        _ if text == "wait" => Ok(Inconclusive::Wait),
        _ => Err(D::Error::custom("say \"wait\", \"confirm after 1d\" or \"roll back after 2h\"")),
    }
}

fn share<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
    text_or_off(deserializer, WHOLE_PERMILLE, values::permille)
}

fn latency<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    text_or_off(deserializer, 0, values::millis_as_us)
}

fn percent<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
    text_or_off(deserializer, 0, |text| {
        let number = text.strip_suffix('%').and_then(|digits| digits.parse().ok());
        let wrong = "give a percentage of at least 100%, for example 300%, or \"off\"";
        number.filter(|percent: &u16| *percent >= 100).ok_or_else(|| wrong.to_owned())
    })
}

fn psi<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
    milli_or_off(deserializer, 0, PSI_MILLI_MIN, u16::MAX)
}

fn shift<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
    milli_or_off(deserializer, WHOLE_PERMILLE, 1, WHOLE_PERMILLE)
}

fn mebibytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    text_or_off(deserializer, 0, |text| match values::bytes(text)? >> 20 {
        0 => Err("at least 1MiB, or \"off\"".to_owned()),
        mib => Ok(mib),
    })
}

fn watch<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<WatchName>>, D::Error> {
    let names = Vec::<String>::deserialize(deserializer)?;
    let names: Result<Vec<WatchName>, _> = names.iter().map(|name| name.parse()).collect();
    names.map(Some).map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the page is read, and is what it says.
    #[test]
    fn the_example_is_a_policy() {
        let page = include_str!("policy.rs");
        let example = page.split("```toml\n").nth(1).and_then(|rest| rest.split("//! ```").next());
        let lines = example.unwrap().lines().map(|line| line.trim_start_matches("//! "));
        let file =
            parse(&lines.collect::<Vec<_>>().join("\n"), Path::new("p")).map_err(|f| f.message);
        let file = file.unwrap();
        assert_eq!((file.window, file.probation_min, file.p95_max), (3_600, 600, 20_000));
        assert_eq!((file.errors_max, file.collapse_max, file.psi_max), (20, 950, 100));
        assert_eq!((file.memory_max, file.p95_beside_before_max), (512, 300));
        assert_eq!(file.watch.map(|watch| watch.len()), Some(2));
    }

    #[test]
    fn everything_can_be_off() {
        let text = "errors_max = 'off'\np95_max = 'off'\ncollapse_max = 'off'\npsi_max = 'off'\n\
            confidence_shift_max = 'off'\nmemory_growth_max = 'off'\n\
            inconclusive = 'roll back after 90s'\n";
        let file = parse(text, Path::new("p")).map_err(|f| f.message).unwrap();
        assert_eq!((file.errors_max, file.p95_max, file.collapse_max), (1000, 0, 1000));
        assert_eq!((file.psi_max, file.confidence_shift_max), (0, 1000));
        assert_eq!(file.memory_growth_max, 0);
        assert_eq!(file.inconclusive, Inconclusive::RollBack { after_s: 90 });
    }

    #[test]
    fn what_is_wrong_is_told_by_line() {
        let check = |line: &str, says: &str| {
            let text = format!("# a policy\n\n{line}\n");
            let Err(failure) = parse(&text, Path::new("p.toml")) else {
                panic!("{line} was taken")
            };
            let message = failure.message;
            assert!(message.starts_with("p.toml:3:") && message.contains(says), "{message}");
        };
        check("errors_mx = '2%'", "errors_mx");
        check("errors_max = '200%'", "percentage");
        check("errors_max = 2", "string");
        check("window = '30'", "unit");
        check("window = '0s'", "no time");
        check("samples_min = 0", "at least 1");
        check("crashes_max = 3", "0 to 2");
        check("psi_max = 0.01", "0.1 to");
        check("confidence_shift_max = 2", "0.001 to 1");
        check("memory_max = '1GB'", "MiB");
        check("memory_max = '1KiB'", "at least 1MiB");
        check("p95_beside_before_max = '50%'", "at least 100%");
        check("inconclusive = 'hope'", "wait");
        check("inconclusive = 'confirm after soon'", "unit");
        check("watch = ['median(x)']", "mean(INPUT)");
    }
}
