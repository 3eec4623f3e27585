//! `fleetway audit`: what was done, and whether the record of it is whole.
//!
//! The files are read here, not by the daemon: an auditor needs the directory, not its trust. Only
//! where the log ends comes from the store, through the daemon or, while none runs, directly.

use std::collections::VecDeque;
use std::time::Duration;

use clap::Subcommand;
use fleetway_controller::audit::{Bounds, Entry, Head, Verdict, offline, verify};
use fleetway_controller::fleet::read_audit;
use fleetway_controller::store::SledStore;
use fleetway_protocol::ids::DeviceId;

use super::output::facts;
use super::{Context, block_on};
use crate::api::failure::{Failure, Kind};
use crate::api::types::AuditView;
use crate::api::view::failed;

/// Lines that the daemon has decided on and not yet written get this long.
const WRITTEN: Duration = Duration::from_millis(700);

/// `audit ...`.
#[derive(Debug, Subcommand)]
pub(crate) enum AuditVerb {
    /// List what was done
    #[command(
        after_long_help = "Example:\n  fleetway audit list --who ann --what rollout --last 20"
    )]
    List {
        /// Only what this person or part of the controller did
        #[arg(long, value_name = "NAME")]
        who: Option<String>,
        /// Only entries whose word begins like this: order, rollout, release.publish ...
        #[arg(long, value_name = "WORD")]
        what: Option<String>,
        /// Only what is about this device
        #[arg(long, value_name = "ID")]
        device: Option<DeviceId>,
        /// Only what is about this rollout
        #[arg(long, value_name = "N")]
        rollout: Option<u64>,
        /// At most this many, the newest
        #[arg(long, value_name = "N", default_value_t = 100)]
        last: usize,
    },
    /// Check the whole log; exit code 7 if it is not what was written
    #[command(
        after_long_help = "Example:\n  fleetway audit verify -o json\n\nA removed, changed, moved or cut-off line is found. Whoever can rewrite the files and the store\ncan forge a log: note the head that is printed elsewhere, and give it back with --head."
    )]
    Verify {
        /// A head that was printed earlier; it must still be in the log
        #[arg(long, value_name = "SEQ:HASH")]
        head: Option<Head>,
    },
}

pub(super) fn run(verb: AuditVerb, context: &Context) -> Result<(), Failure> {
    match verb {
        AuditVerb::List { who, what, device, rollout, last } => {
            let wanted = |entry: &Entry| {
                who.as_ref().is_none_or(|who| entry.who == *who)
                    && what.as_ref().is_none_or(|what| entry.what.starts_with(what.as_str()))
                    && device.as_ref().is_none_or(|device| entry.device.as_ref() == Some(device))
                    && rollout.is_none_or(|rollout| entry.rollout == Some(rollout))
            };
            list(context, wanted, last)
        }
        AuditVerb::Verify { head } => check(context, head.as_ref()),
    }
}

/// Where the log begins and ends by the store.
fn bounds(context: &Context) -> Result<Bounds, Failure> {
    match block_on(context.client().get("/v1/audit")) {
        Err(failure) if failure.code == Kind::Unreachable => {
            let opened = SledStore::open(&context.data).map_err(|e| failed(e.kind(), &e));
            let (store, _) = opened?;
            read_audit(&store).map_err(|error| failed(error.kind(), &error))
        }
        Err(failure) => Err(failure),
        Ok(AuditView { floor, head }) => {
            let read = |text: String| {
                let head: Result<Head, _> = text.parse();
                head.map_err(|error| {
                    Failure::error(format!("the controller's head {text:?} {error}"))
                })
            };
            Ok(Bounds { floor: read(floor)?, head: read(head)? })
        }
    }
}

fn read(
    context: &Context,
    bounds: &Bounds,
    known: Option<&Head>,
    seen: impl FnMut(Entry),
) -> Result<Verdict, Failure> {
    verify(&context.data, bounds, known, seen)
        .map_err(|error| Failure::file(error.doing, &error.path, &error.source))
}

fn list(context: &Context, wanted: impl Fn(&Entry) -> bool, last: usize) -> Result<(), Failure> {
    // What is listed is what is in the files, checked or not; `verify` judges.
    let listed = || {
        let mut entries = VecDeque::new();
        let verdict = read(context, &Bounds::default(), None, |entry| {
            if wanted(&entry) {
                entries.push_back(entry);
                if entries.len() > last {
                    entries.pop_front();
                }
            }
        })?;
        Ok::<_, Failure>((Vec::from(entries), verdict.head))
    };
    // Whoever did something a moment ago wants to see it.
    let decided = block_on(context.client().get::<AuditView>("/v1/audit")).map(|view| view.head);
    let (mut entries, head) = listed()?;
    let number = |head: &str| head.parse::<Head>().map_or(0, |head| head.seq);
    if decided.is_ok_and(|decided| number(&decided) > number(&head)) {
        std::thread::sleep(WRITTEN);
        (entries, _) = listed()?;
    }
    let waiting = offline::waiting(&context.data).len();
    if waiting > 0 {
        super::output::talk(format!(
            "{waiting} more were done offline and are not in the log yet; the daemon takes them in"
        ));
    }
    context.output.data(&entries, || {
        let lines: Vec<String> = entries.iter().map(line).collect();
        if lines.is_empty() { "nothing was noted".into() } else { lines.join("\n") }
    })
}

fn line(entry: &Entry) -> String {
    let time = i64::try_from(entry.time_s).ok().and_then(|s| jiff::Timestamp::from_second(s).ok());
    let time = time.map_or_else(|| entry.time_s.to_string(), |time| time.to_string());
    let key = entry.key.as_ref().map(|key| format!(" [key {key}]")).unwrap_or_default();
    let Entry { seq, who, what, text, .. } = entry;
    format!("{seq:>7}  {time}  {who}  {what}: {text}{key}")
}

fn check(context: &Context, known: Option<&Head>) -> Result<(), Failure> {
    let bounds = bounds(context)?;
    let mut verdict = read(context, &bounds, known, |_| ())?;
    if !verdict.ok {
        // The daemon may be just writing; what is really wrong is so the second time, too.
        std::thread::sleep(WRITTEN);
        verdict = read(context, &bounds, known, |_| ())?;
    }
    context.output.data(&verdict, || {
        let state = if verdict.ok { "whole" } else { "BROKEN" };
        let mut lines = vec![
            ("log", state.to_owned()),
            ("lines", format!("{}, from {}", verdict.lines, verdict.first)),
            ("head", verdict.head.clone()),
        ];
        lines.extend(verdict.notes.iter().map(|note| ("note", note.clone())));
        let fault = |fault: &fleetway_controller::audit::verify::Fault| {
            ("FAULT", format!("{}: {}", fault.place, fault.what))
        };
        lines.extend(verdict.faults.iter().map(fault));
        facts(&lines)
    })?;
    match verdict.faults.first() {
        None => Ok(()),
        Some(first) => {
            let count = verdict.faults.len();
            let text = format!(
                "the audit log was changed ({count} faults); first, {}: {}",
                first.place, first.what
            );
            Err(Failure::trust(text).mend("keep the files as they are, and compare with a backup"))
        }
    }
}
