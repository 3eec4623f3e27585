//! Numbers, times, states and shares as markup: one look for each kind of fact, everywhere.
//!
//! What comes from a device or a person is escaped here or by askama, never trusted.

use std::fmt::{self, Write as _};

use askama::filters::{Escaper as _, Html, HtmlSafe};

use crate::api::types::{DeviceModelView, DriftView, ReleaseRef, RolloutCounts};
use crate::cli::output::{self, ago as span_text, time};

/// A whole number, as templates hand it over: by reference.
pub(super) trait Figure {
    fn figure(&self) -> u64;
}

macro_rules! figures {
    ($($kind:ty),*) => {$(
        impl Figure for $kind {
            fn figure(&self) -> u64 {
                u64::try_from(*self).unwrap_or(u64::MAX)
            }
        }
    )*};
}

figures!(u8, u32, u64, usize);

impl<F: Figure> Figure for &F {
    fn figure(&self) -> u64 {
        (**self).figure()
    }
}

/// Text that is HTML already. Made in this file alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Markup(String);

impl fmt::Display for Markup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl HtmlSafe for Markup {}

/// Text with its special characters escaped.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    // Into a string: it cannot fail.
    let _ = Html.write_escaped_str(&mut out, text);
    out
}

/// How something is, for the eye: a colour and a sign, so that no one needs the colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Good,
    Busy,
    Wait,
    Bad,
    Quiet,
}

impl Tone {
    pub(super) fn class(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Busy => "busy",
            Self::Wait => "wait",
            Self::Bad => "bad",
            Self::Quiet => "quiet",
        }
    }

    pub(super) fn sign(self) -> &'static str {
        match self {
            Self::Good => "✓",
            Self::Busy => "▸",
            Self::Wait => "‖",
            Self::Bad => "✕",
            Self::Quiet => "○",
        }
    }
}

/// The tone of a state's word, whatever it is a state of.
pub(super) fn tone(state: &str) -> Tone {
    match state {
        "online" | "serving" | "confirmed" | "succeeded" | "up" | "pass" | "published"
        | "enrolled" | "full" | "stable" => Tone::Good,
        "running" | "moving" | "download" | "probation" | "shadow" | "eligibility"
        | "verification" | "self_test" | "activation" | "selftest" => Tone::Busy,
        "paused" | "held" | "inconclusive" | "silent" | "partial" | "reverted" | "soon"
        | "connecting" => Tone::Wait,
        "failed" | "halted" | "went_back" | "rolled_back" | "refusing" | "revoked" | "fail"
        | "down" | "rollback" | "drifts" | "expired" => Tone::Bad,
        _ => Tone::Quiet,
    }
}

/// A state as a sign and a word.
pub(super) fn state(word: &str) -> Markup {
    toned(tone(word), &word.replace('_', " "))
}

/// A text with a sign.
pub(super) fn toned(tone: Tone, text: &str) -> Markup {
    let (class, sign) = (tone.class(), tone.sign());
    Markup(format!(
        "<span class=\"state {class}\"><span aria-hidden=\"true\">{sign}</span> {}</span>",
        escaped(text)
    ))
}

/// Nothing to say.
pub(super) fn dash() -> Markup {
    Markup("<span class=\"none\">–</span>".to_owned())
}

fn when(unix_s: u64, text: &str) -> Markup {
    let full = time(unix_s);
    Markup(format!("<time datetime=\"{full}\" title=\"{full}\">{text}</time>"))
}

/// A moment in the past; the title has it in full.
pub(super) fn ago(now_s: u64, unix_s: u64) -> Markup {
    match now_s.saturating_sub(unix_s) {
        0..2 => when(unix_s, "now"),
        past_s => when(unix_s, &format!("{} ago", span_text(past_s))),
    }
}

/// A moment that comes; the title has it in full.
pub(super) fn until(now_s: u64, unix_s: u64) -> Markup {
    match unix_s.checked_sub(now_s) {
        Some(left_s) => when(unix_s, &format!("in {}", span_text(left_s))),
        None => when(unix_s, &format!("{} ago", span_text(now_s.saturating_sub(unix_s)))),
    }
}

/// Seconds as a person counts them.
pub(super) fn span(seconds: impl Figure) -> String {
    span_text(seconds.figure())
}

/// A number with its thousands apart.
pub(super) fn number(number: impl Figure) -> String {
    let digits = number.figure().to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

/// A share of the whole as a whole percentage; a part is never shown as nothing or as all.
pub(super) fn share(part: impl Figure, all: impl Figure) -> String {
    let (part, all) = (part.figure(), all.figure());
    match (part * 100).checked_div(all) {
        None => "–".to_owned(),
        Some(0) if part > 0 => "<1 %".to_owned(),
        // To the nearest, and all only where it is all.
        Some(_) if part < all => format!("{} %", ((part * 200 + all) / (all * 2)).min(99)),
        Some(percent) => format!("{percent} %"),
    }
}

/// The first digits of a digest.
pub(super) fn short(digest: impl AsRef<str>) -> String {
    digest.as_ref().chars().take(12).collect()
}

/// `1 device`, `2 devices`.
pub(super) fn count(things: impl Figure, thing: &str) -> String {
    let things = things.figure();
    format!("{} {thing}{}", number(things), if things == 1 { "" } else { "s" })
}

/// Bytes in a unit that a person reads.
pub(super) fn bytes(bytes: impl Figure) -> String {
    output::bytes(bytes.figure())
}

/// Microseconds as milliseconds.
pub(super) fn millis(us: &Option<u64>) -> Markup {
    text(&us.map(|us| output::millis(Some(us))))
}

/// The same of what is always there.
pub(super) fn millis_of(us: impl Figure) -> String {
    output::millis(Some(us.figure()))
}

/// Microseconds as a bare number of milliseconds, for a chart; empty for none.
pub(super) fn milli(us: &Option<u32>) -> String {
    us.map_or_else(String::new, |us| format!("{:.2}", f64::from(us) / 1000.0))
}

/// A share from 0 to 1, with two digits after the point.
pub(super) fn part(value: &f32) -> String {
    format!("{value:.2}")
}

/// With one digit after the point.
pub(super) fn decimal(value: &f32) -> String {
    format!("{value:.1}")
}

/// With three digits after the point.
pub(super) fn fine(value: &f64) -> String {
    format!("{value:.3}")
}

/// A text, or a dash.
pub(super) fn text<T: fmt::Display>(value: &Option<T>) -> Markup {
    value.as_ref().map_or_else(dash, |value| Markup(escaped(&value.to_string())))
}

/// A release's short name, or a dash.
pub(super) fn release(release: &Option<ReleaseRef>) -> Markup {
    text(&release.as_ref().map(ReleaseRef::text))
}

/// Whether a device is there.
pub(super) fn link(online: &bool) -> Markup {
    state(if *online { "online" } else { "offline" })
}

/// The word for where a model's update is.
pub(super) fn phase_word(model: &DeviceModelView) -> &str {
    match model.phase.as_str() {
        "idle" if model.running.is_some() => "serving",
        phase => phase,
    }
}

/// Where an update is, with how far a download is.
pub(super) fn phase(model: &DeviceModelView) -> String {
    match model.phase.as_str() {
        "download" if model.total > 0 => format!("download {} of {}", model.have, model.total),
        phase => phase.replace('_', " "),
    }
}

/// How many devices of a rollout are where, as a bar.
pub(super) fn rollout_bar(counts: &RolloutCounts) -> Markup {
    let parts = rollout_parts(counts);
    bar(&parts, counts.total)
}

/// The same in words.
pub(super) fn counts_text(counts: &RolloutCounts) -> String {
    let parts = rollout_parts(counts);
    let said: Vec<_> = parts
        .iter()
        .filter(|(word, n)| *n > 0 || *word == "confirmed")
        .map(|(word, n)| format!("{} {word}", number(*n)))
        .collect();
    format!("{} of {}", said.join(", "), number(counts.total))
}

/// Silent devices are on the move too, and are told apart.
fn rollout_parts(counts: &RolloutCounts) -> [(&'static str, u32); 5] {
    let RolloutCounts { waiting, moving, silent, confirmed, failed, .. } = *counts;
    let heard = moving.saturating_sub(silent);
    let parts = [("confirmed", confirmed), ("failed", failed), ("moving", heard)];
    [parts[0], parts[1], parts[2], ("silent", silent), ("not offered yet", waiting)]
}

/// One share of a whole as a bar.
pub(super) fn plain_bar(part: impl Figure, all: impl Figure) -> Markup {
    let clamp = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    bar(&[("running", clamp(part.figure()))], clamp(all.figure()))
}

/// A distance beside its bound, which is at the middle.
pub(super) fn drift_bar(drift: &DriftView) -> Markup {
    let ratio = if drift.bound > 0.0 { drift.psi / drift.bound } else { 0.0 };
    let width = (ratio * 50.0).clamp(0.0, 100.0);
    let class = if drift.alarm { Tone::Bad } else { Tone::Good }.class();
    let title = format!("{:.0} % of its bound", ratio * 100.0);
    Markup(format!(
        "<svg class=\"bar\" role=\"img\" aria-label=\"{title}\"><title>{title}</title>\
         <rect class=\"{class}\" width=\"{width:.1}%\" height=\"100%\"/>\
         <rect class=\"mark\" x=\"50%\" width=\"2\" height=\"100%\"/></svg>"
    ))
}

/// Parts of a whole as one bar. The list beside it says the numbers; the title too.
pub(super) fn bar(parts: &[(&str, u32)], all: u32) -> Markup {
    let title: Vec<String> = parts
        .iter()
        .filter(|(_, part)| *part > 0)
        .map(|(word, part)| format!("{} {}", number(*part), word.replace('_', " ")))
        .collect();
    let title = format!("{} of {}", title.join(", "), number(all));
    let mut out = format!("<svg class=\"bar\" role=\"img\" aria-label=\"{title}\">");
    let _ = write!(out, "<title>{title}</title>");
    let mut at = 0.0;
    for (word, part) in parts {
        let width = if all == 0 { 0.0 } else { f64::from(*part) * 100.0 / f64::from(all) };
        let class = tone(word).class();
        let _ = write!(
            out,
            "<rect class=\"{class}\" x=\"{at:.2}%\" width=\"{width:.2}%\" height=\"100%\"/>"
        );
        at += width;
    }
    out.push_str("</svg>");
    Markup(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_shares() {
        for (value, text) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1\u{202f}000"),
            (12_345_678, "12\u{202f}345\u{202f}678"),
        ] {
            assert_eq!(number(value as u64), text);
        }
        for (part, all, text) in [
            (0_u64, 0_u64, "–"),
            (0, 9, "0 %"),
            (1, 1000, "<1 %"),
            (999, 1000, "99 %"),
            (2, 3, "67 %"),
            (5, 5, "100 %"),
        ] {
            assert_eq!(share(part, all), text);
        }
    }

    #[test]
    fn what_comes_from_outside_is_escaped() {
        let shown = state("<script>alert(1)</script>").to_string();
        assert!(!shown.contains("<script"), "{shown}");
    }

    #[test]
    fn moments() {
        let text = ago(1_000_600, 1_000_000).to_string();
        assert_eq!(
            text,
            "<time datetime=\"1970-01-12T13:46:40Z\" title=\"1970-01-12T13:46:40Z\">10 min ago</time>"
        );
        assert!(until(1_000_000, 1_000_060).to_string().contains(">in 60 s<"));
        assert!(until(1_000_600, 1_000_000).to_string().contains(">10 min ago<"));
        assert!(ago(5, 9).to_string().contains(">now<"));
    }

    #[test]
    fn a_bar_adds_up() {
        let text = bar(&[("confirmed", 3), ("failed", 1)], 8).to_string();
        assert!(text.contains("<title>3 confirmed, 1 failed of 8</title>"), "{text}");
        assert!(text.contains("class=\"bad\" x=\"37.50%\" width=\"12.50%\""), "{text}");
    }
}
