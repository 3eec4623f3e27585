//! A rollout as a file: `rollout lint FILE`, `rollout plan -f FILE`, `rollout start -f FILE`.
//!
//! TOML or JSON, by the ending of its name; the same keys in both. [`mod@file`] says which keys there
//! are, [`place`] finds the line of one, [`lint`] says what is legal and unwise. A file becomes the
//! very request that flags become, so that the controller checks one thing only.

mod file;
pub(super) mod lint;
mod place;
mod values;

use std::path::Path;

use fleetway_controller::planner::RolloutSpec;
use fleetway_protocol::ids::{Digest, ModelName, Version};

use crate::api::failure::Failure;
use crate::api::spec::spec_of;
use crate::api::types::RolloutRequest;
use crate::config::one_line;
use file::File;
use place::Format;

/// Bytes of the file: some pages, and a list of canaries.
const FILE_BYTES_MAX: u64 = 256 * 1024;
/// Where a person finds the keys.
const MEND: &str = "see docs/rollouts/README.md for the keys, and `fleetway rollout lint` to check";

/// A file that was read.
#[derive(Debug)]
pub(super) struct Loaded {
    /// As it was named.
    name: String,
    text: String,
    format: Format,
    /// What it asks for.
    pub(super) request: RolloutRequest,
    /// The same, checked; the digest is not known here and is zero.
    spec: RolloutSpec,
}

/// Reads and checks a file.
///
/// # Errors
/// [`Failure`] with the file, the line and the column.
pub(super) fn load(path: &Path) -> Result<Loaded, Failure> {
    let name = path.display().to_string();
    let format = match path.extension().and_then(|ending| ending.to_str()) {
        Some("toml") => Format::Toml,
        Some("json") => Format::Json,
        _ => {
            return Err(Failure::usage(format!("{name} is neither .toml nor .json"))
                .mend("give it the ending of what it is"));
        }
    };
    let size = std::fs::metadata(path).map_or(0, |meta| meta.len());
    if size > FILE_BYTES_MAX {
        return Err(Failure::usage(format!("{name} has {size} bytes")).mend(MEND));
    }
    let text = std::fs::read_to_string(path).map_err(|e| Failure::file("read", path, &e))?;
    parse(name, text, format)
}

fn parse(name: String, text: String, format: Format) -> Result<Loaded, Failure> {
    let file: File = match format {
        Format::Toml => toml::from_str(&text).map_err(|error| {
            let offset = error.span().map_or(0, |span| span.start);
            at(&name, place::line_and_column(&text, offset), error.message())
        })?,
        Format::Json => serde_json::from_str(&text).map_err(|error| {
            let message = error.to_string();
            let message = message.rsplit_once(" at line ").map_or(&*message, |(what, _)| what);
            at(&name, (error.line(), error.column().max(1)), message)
        })?,
    };
    let request = file.request();
    let loaded = |spec| Loaded { name: name.clone(), text: text.clone(), format, request, spec };
    let (model, version) = (file.release.model.clone(), file.release.version.clone());
    let unchecked = spec_of_file(&file, model, version)
        .map_err(|failure| at(&name, (1, 1), &failure.message))?;
    match unchecked.checked() {
        Ok(spec) => Ok(loaded(spec)),
        Err(error) => {
            let field = error.field();
            Err(at(&name, place::of(&text, format, &field), &error.to_string()))
        }
    }
}

fn spec_of_file(file: &File, model: ModelName, version: Version) -> Result<RolloutSpec, Failure> {
    spec_of(&file.request(), model, Digest([0; 32]), version)
}

fn at(name: &str, (line, column): (usize, usize), message: &str) -> Failure {
    Failure::usage(format!("{name}:{line}:{column}: {}", one_line(message))).mend(MEND)
}

#[cfg(test)]
mod tests {
    use fleetway_controller::planner::HaltScope;
    use fleetway_controller::planner::analysis::spec::DEVICES_MIN_DEFAULT;
    use fleetway_controller::planner::analysis::{Metric, Mode};

    use super::*;

    fn refused(format: Format, text: &str) -> String {
        parse("f".to_owned(), text.to_owned(), format).expect_err(text).message
    }

    #[test]
    fn what_is_wrong_is_told_by_line_and_column() {
        let check = |text: &str, says: &str| {
            let text = format!("release = \"digits@v2\"\n{text}\n");
            let message = refused(Format::Toml, &text);
            assert!(message.starts_with("f:") && message.contains(says), "{message}");
        };
        check("selct = 'all'", "f:2:1: unknown field `selct`");
        check("select = 'site='", "f:2:10: selector `site=`, position 6");
        check("soak = '30'", "f:2:8: give a time with its unit");
        check("max_unavailable = '0%'", "f:2:19: \"0%\" is no size");
        check("membership = 'maybe'", "f:2:14: unknown variant `maybe`");
        check("[[phase]]\nsize = 2\n[[phase]]\nsize = 1", "f:5:8: phase 2 is smaller");
        check("[[phase]]\nsize = 2\nreporters_min = 3", "f:4:17: phase 1 wants reports of 3");
        check("[rate]\nper_minute = 0", "f:2:1: the rate makes no sense");
        check("[[phase]]\nsize = 1\ndevices = ['cam-1']", "name the devices or give a size");
        check("[[phase]]\nsize = 1\n[[phase]]\ndevices = ['c']", "only the first phase");
        check("[[schedule.window]]\ntimes = 'noon'\nzone = 'UTC'", "f:3:9: is no window");
        check(
            "[schedule]\nnot_before = '2027-01-01T00:00:00Z'\nnot_after = '2026-01-01T00:00:00Z'",
            "f:4:13: the schedule ends before it begins",
        );
        check(
            "[[schedule.window]]\ntimes = 'daily 01:00-02:00'\nzone = 'Mars/Base'",
            "f:2:1: window 1: there is no time zone \"Mars/Base\"",
        );
        check(
            "[retry]\ntimes = 9\nwait = '1m'\non = ['silent']",
            "f:2:1: the retry makes no sense",
        );
        check("[budget]\nper_day = '1GB'", "f:3:11: 1024 or 1000? write GiB");
        check("[[gate]]\nmetric = 'eror-rate'", "f:3:10: unknown variant `eror-rate`");
        check(
            "[[gate]]\nmetric = 'drift'\ntolerated_permille = 9\nexcluded_permille = 1",
            "f:2:1: the gate on drift must rule out at least what it tolerates",
        );
        check("[[gate]]\nmetric = 'drift'\nphase = 0", "f:4:9: invalid value: integer `0`");
        check("[[gate]]\nmetric = 'drift'\nphase = 9", "f:2:1: a gate is for phase 9 of 3");
        check("halt = 'some'", "f:2:8: unknown variant `some`");
        check("priority = 2000", "f:2:12: the priority is 2000; use -1000 to 1000");
    }

    /// The examples of the documentation say what they seem to say, and lint has no word on them.
    #[test]
    fn every_example_is_good() {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/rollouts");
        let paths = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        let files: Vec<_> = paths.filter(|path| path.extension() != Some("md".as_ref())).collect();
        assert!(files.len() >= 5, "{files:?}");
        for path in files {
            let loaded = load(&path).map_err(|failure| failure.message).unwrap();
            assert_eq!(fleetway_controller::planner::unwise(&loaded.spec), [], "{path:?}");
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let spec = &loaded.spec;
            match name.as_str() {
                "canary.toml" => assert_eq!((spec.canary.len(), spec.phases.len()), (3, 3)),
                "nights.toml" => assert_eq!(spec.schedule.windows.len(), 2),
                "large-fleet.toml" => assert!(spec.rate.is_some() && spec.retry.is_some()),
                "approved.toml" => {
                    assert_eq!([0, 1, 2].map(|at| spec.wants_approval(at)), [true; 3])
                }
                "gates.toml" => {
                    assert_eq!(spec.halt, HaltScope::Class);
                    let of = |phase, metric| {
                        let gate = spec.gates_of(phase).iter().find(|g| g.metric == metric);
                        gate.map(|g| (g.mode, g.tolerated, g.excluded, g.devices_min)).unwrap()
                    };
                    let errors = (Mode::Require, 10_000, 30_000, DEVICES_MIN_DEFAULT);
                    assert_eq!([0, 1].map(|phase| of(phase, Metric::ErrorRate)), [errors; 2]);
                    assert_eq!([0, 1].map(|at| of(at, Metric::P95Latency).3), [20, 5]);
                    assert_eq!(of(0, Metric::Confidence).0, Mode::DryRun);
                    assert_eq!(of(1, Metric::Drift).0, Mode::Halt, "others keep their defaults");
                }
                "careful-devices.json" => assert!(spec.terms.shadow.is_some()),
                other => panic!("{other} has no line here"),
            }
        }
    }

    #[test]
    fn json_is_the_same_with_places_of_its_own() {
        let check = |text: &str, says: &str| {
            let message = refused(Format::Json, text);
            assert!(message.contains(says), "{message}");
        };
        check(
            "{\n  \"release\": \"digits@v2\",\n  \"selct\": 1\n}",
            "f:3:9: unknown field `selct`",
        );
        check("{\"release\": \"digits@v2\",}", "f:1:25: trailing comma");
        check(
            "{\n \"release\": \"digits@v2\",\n \"phase\": [{\"size\": 2},\n  {\"size\": 1}]\n}",
            "f:4:12: phase 2 is smaller",
        );
    }
}
