//! `[hold]`: what the device's owner has every update wait for, whatever the order says.
//!
//! ```toml
//! [hold]
//! download = ["unmetered"]
//! activation = ["unlocked", "idle", "window"]
//! idle_s = 60
//! window = "daily 02:00-05:00"  # UTC
//! s_max = 604800                # then it goes all the same; without: never
//! ```

use std::ops::RangeInclusive;

use fleetway_protocol::hold::{Condition, Conditions, Hold, Window};
use serde::Deserialize;
use toml::Spanned;

use super::{Fault, check_range};

/// A minute is quiet, a day is not; without a number for it, this.
const IDLE_S: RangeInclusive<u32> = 1..=86_400;
const IDLE_S_DEFAULT: u32 = 60;
/// A year: longer is for ever.
const S_MAX: RangeInclusive<u32> = 1..=31_536_000;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HoldFile {
    #[serde(default)]
    download: Vec<Spanned<String>>,
    #[serde(default)]
    activation: Vec<Spanned<String>>,
    idle_s: Option<Spanned<u32>>,
    window: Option<Spanned<String>>,
    s_max: Option<Spanned<u32>>,
}

pub(super) fn check(file: &HoldFile) -> Result<Hold, Fault> {
    let window = match &file.window {
        Some(text) => {
            let wrong = |error| Fault::at(text, format_args!("{:?} {error}", text.get_ref()));
            text.get_ref().parse().map_err(wrong)?
        }
        None => Window::default(),
    };
    let conditions = |words: &[Spanned<String>]| {
        words.iter().try_fold(Conditions::NONE, |all, word| {
            let wrong = |error| Fault::at(word, format_args!("{:?} {error}", word.get_ref()));
            let condition: Condition = word.get_ref().parse().map_err(wrong)?;
            if condition == Condition::Window && file.window.is_none() {
                let text = "window needs hold.window, such as \"daily 02:00-05:00\" (UTC)";
                return Err(Fault::at(word, text));
            }
            Ok(all.with(condition))
        })
    };
    let number = |value: &Option<Spanned<u32>>, key, range, default| match value {
        Some(value) => check_range(value, key, range),
        None => Ok(default),
    };
    Ok(Hold {
        download: conditions(&file.download)?,
        activation: conditions(&file.activation)?,
        idle_s: number(&file.idle_s, "idle_s", IDLE_S, IDLE_S_DEFAULT)?,
        window,
        s_max: number(&file.s_max, "s_max", S_MAX, 0)?,
    })
}
