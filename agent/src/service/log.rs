//! Where log lines go: to journald with their fields if stderr is its stream, else as text.
//!
//! Under a unit systemd sets `JOURNAL_STREAM` to the device and inode of the stream that it gave
//! us as stderr. If stderr still is that, nobody redirected it, and the journal gets what a line
//! of text would lose: `FLEETWAY_MODEL`, `FLEETWAY_ROLLOUT`, `FLEETWAY_REASON` and so on, one
//! field for each name at the place where something is logged.

use std::io::IsTerminal as _;
use std::os::fd::AsFd;

use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Before the names of our fields in the journal.
const FIELD_PREFIX: &str = "FLEETWAY";

/// Starts logging. `FLEETWAY_LOG` says how much (default `info`).
pub fn init() {
    // Levels by target, no regular expressions: they would be a twentieth of a small device's program.
    let asked = std::env::var("FLEETWAY_LOG").ok().map(|asked| asked.parse::<Targets>());
    let wrong = asked.as_ref().and_then(|asked| asked.as_ref().err()).map(ToString::to_string);
    let usual = || Targets::new().with_default(Level::INFO);
    start(asked.and_then(Result::ok).unwrap_or_else(usual));
    if let Some(wrong) = wrong {
        tracing::warn!(
            "FLEETWAY_LOG is ignored ({wrong}); write `debug`, or `info,fleetway_agent=debug`"
        );
    }
}

fn start(filter: Targets) {
    let stream = std::env::var("JOURNAL_STREAM").ok();
    let is_journal = stream.is_some_and(|stream| is_stream(&stream, std::io::stderr()));
    if is_journal && let Ok(journal) = tracing_journald::layer() {
        let journal = journal.with_field_prefix(Some(FIELD_PREFIX.to_owned()));
        tracing_subscriber::registry().with(filter).with(journal).init();
        return;
    }
    let is_colored = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let text = fmt::layer().with_writer(std::io::stderr).with_ansi(is_colored);
    tracing_subscriber::registry().with(filter).with(text).init();
}

/// Whether `file` is the stream that `JOURNAL_STREAM` names: `device:inode`, both decimal.
fn is_stream(stream: &str, file: impl AsFd) -> bool {
    let named = stream.split_once(':').and_then(|(device, inode)| {
        Some((device.parse::<u64>().ok()?, inode.parse::<u64>().ok()?))
    });
    let is = rustix::fs::fstat(file).map(|stat| (stat.st_dev, stat.st_ino));
    named.is_some_and(|named| is == Ok(named))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt as _;

    #[test]
    fn only_the_very_stream_is_the_journals() {
        let file = tempfile::tempfile().unwrap();
        let stat = file.metadata().unwrap();
        assert!(is_stream(&format!("{}:{}", stat.dev(), stat.ino()), &file));
        assert!(!is_stream(&format!("{}:{}", stat.dev(), stat.ino() + 1), &file));
        for nothing in ["", ":", "1", "x:y"] {
            assert!(!is_stream(nothing, &file), "{nothing:?}");
        }
    }
}
