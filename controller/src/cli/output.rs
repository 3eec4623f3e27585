//! What reaches the terminal: data on stdout, talk on stderr, colour only where a person
//! looks and did not say no.

use std::io::{IsTerminal as _, Write as _};

use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};
use serde::Serialize;

use super::args::Format;
use crate::api::failure::Failure;

/// Where and how to print.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    format: Format,
    colour: bool,
    terminal: bool,
}

impl Output {
    /// For this process's stdout.
    pub(crate) fn new(format: Format) -> Self {
        let terminal = std::io::stdout().is_terminal();
        Self { format, colour: terminal && wants_colour(), terminal }
    }

    /// Whether programs read stdout as data with names and values.
    pub(crate) fn is_data(self) -> bool {
        matches!(self.format, Format::Json | Format::Jsonl | Format::Yaml)
    }

    /// Whether tables may have more columns.
    pub(crate) fn is_wide(self) -> bool {
        self.format == Format::Wide
    }

    /// Whether people read stdout.
    pub(crate) fn is_text(self) -> bool {
        matches!(self.format, Format::Table | Format::Wide)
    }

    /// Whether stdout is a terminal that can be redrawn.
    pub(crate) fn is_terminal(self) -> bool {
        self.terminal
    }

    /// Prints data in the form asked for; `text` makes it for people.
    pub(crate) fn data<T: Serialize>(
        self,
        value: &T,
        text: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        if self.is_text() {
            return self.line(text().trim_end());
        }
        match super::forms::print(self.format, value)?.trim_end() {
            // A list of nothing has no lines; an empty one would be a thing without a name.
            "" => Ok(()),
            printed => self.line(printed),
        }
    }

    /// Prints one line, or several, on stdout.
    pub(crate) fn line(self, text: &str) -> Result<(), Failure> {
        let mut out = std::io::stdout().lock();
        let text = if self.is_text() { self.painted(text) } else { text.to_owned() };
        match writeln!(out, "{text}").and_then(|()| out.flush()) {
            // `fleetway ... | head` is no mistake.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            Err(error) => Err(Failure::from_error("cannot write to stdout", &error)),
            Ok(()) => Ok(()),
        }
    }

    /// Colours the words that say how something is, where they stand alone. Done after the
    /// layout, so that no width is counted wrong.
    fn painted(self, text: &str) -> String {
        if !self.colour {
            return text.to_owned();
        }
        text.split_inclusive([' ', '\n']).map(paint).collect()
    }
}

fn paint(word: &str) -> String {
    let bare = word.trim_end_matches([' ', '\n', ',', ':']);
    let code = match bare {
        "confirmed" | "online" | "succeeded" | "up" | "published" => "32",
        "failed" | "halted" | "aborted" | "offline" | "down" | "revoked" => "31",
        "moving" | "running" | "paused" | "waiting" => "33",
        _ => return word.to_owned(),
    };
    format!("\x1b[{code}m{bare}\x1b[0m{}", &word[bare.len()..])
}

fn wants_colour() -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    !set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Talk: what is going on, for a person.
pub(crate) fn talk(text: impl AsRef<str>) {
    let mut err = std::io::stderr().lock();
    // Nobody to talk to is no reason to stop.
    let _ = writeln!(err, "{}", text.as_ref());
}

/// Prints a failure on stderr, as text or as the JSON envelope.
pub(crate) fn report(failure: &Failure, json: bool) {
    let colour = std::io::stderr().is_terminal() && wants_colour();
    talk(if json { failure.json() } else { failure.text(colour) });
}

/// A table without lines: it can be read, cut and grepped.
pub(crate) fn table<const N: usize>(
    header: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.map(str::to_uppercase));
    for row in rows {
        table.add_row(row);
    }
    table.trim_fmt().lines().map(|line| line.trim()).collect::<Vec<_>>().join("\n")
}

/// Facts below each other: `name  value`.
pub(crate) fn facts(facts: &[(&str, String)]) -> String {
    let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let line = |(name, value): &(&str, String)| format!("{name:width$}  {value}");
    facts.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// `-` for nothing.
pub(crate) fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".into(), |value| value.to_string())
}

/// Bytes in a unit that a person reads.
pub(crate) fn bytes(bytes: u64) -> String {
    match bytes {
        0..10_240 => format!("{bytes} B"),
        10_240..10_485_760 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}

/// Microseconds as milliseconds.
pub(crate) fn millis(us: Option<u64>) -> String {
    us.map_or_else(|| "-".into(), |us| format!("{:.1} ms", us as f64 / 1000.0))
}

/// Thousandths as a percentage.
pub(crate) fn percent(permille: u32) -> String {
    match permille % 10 {
        0 => format!("{}%", permille / 10),
        tenth => format!("{}.{tenth}%", permille / 10),
    }
}

/// `1 chunk`, `2 chunks`.
pub(crate) fn count(number: u64, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

/// Seconds as a person counts them.
pub(crate) fn ago(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// A Unix time in UTC.
pub(crate) fn time(unix_s: u64) -> String {
    i64::try_from(unix_s)
        .ok()
        .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok())
        .map_or_else(|| unix_s.to_string(), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_plain_text() {
        let text = table(["id", "state"], [["a".to_owned(), "online".into()]]);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text:?}");
        assert_eq!(lines[0].split_whitespace().collect::<Vec<_>>(), ["ID", "STATE"]);
        assert_eq!(lines[1].split_whitespace().collect::<Vec<_>>(), ["a", "online"]);
    }

    #[test]
    fn colour_touches_whole_words_only() {
        let output = Output { format: Format::Table, colour: true, terminal: true };
        assert_eq!(output.painted("a online,\nofflined"), "a \x1b[32monline\x1b[0m,\nofflined");
        let plain = Output { colour: false, ..output };
        assert_eq!(plain.painted("a online"), "a online");
    }

    #[test]
    fn figures() {
        assert_eq!(bytes(512), "512 B");
        assert_eq!(bytes(40 * 1024), "40.0 KiB");
        assert_eq!(millis(Some(1_234)), "1.2 ms");
        assert_eq!((percent(20), percent(5)), ("2%".into(), "0.5%".into()));
        assert_eq!(time(0), "1970-01-01T00:00:00Z");
        assert_eq!((ago(5), ago(600), ago(90_000)), ("5 s".into(), "10 min".into(), "25 h".into()));
    }
}
