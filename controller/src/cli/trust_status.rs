//! `fleetway trust status`: who can do what, with how many signatures, and what expires when,
//! in words for people who do this once a year.

use fleetway_controller::clock;
use fleetway_controller::trust::ceremony::Need;
use fleetway_controller::trust::online::plain_keys;
use fleetway_controller::trust::repo::{NamedKey, root_keys};
use fleetway_controller::trust::{Meta, Repo};
use fleetway_protocol::envelope::PublicKey;
use serde::Serialize;

use super::Context;
use super::files::Layout;
use super::output::{ago, facts, talk, time};
use super::trust::{load, refused};
use crate::api::failure::Failure;

/// Days before an expiry from which it is said loudly: a ceremony needs an appointment.
pub(crate) const WARN_DAYS: u64 = 30;

/// What the status says.
#[derive(Clone, Serialize)]
pub(crate) struct Status {
    pub(crate) may: Vec<May>,
    pub(crate) expires: Vec<Expires>,
    pub(crate) staged: Vec<String>,
    pub(crate) missing: Vec<String>,
    pub(crate) development_keys: Vec<String>,
}

/// Who may do something.
#[derive(Clone, Serialize)]
pub(crate) struct May {
    pub(crate) what: String,
    pub(crate) who: Vec<String>,
    pub(crate) threshold: u8,
}

impl May {
    /// Whose signatures it takes.
    pub(crate) fn who(&self) -> String {
        match (self.who.len(), self.threshold) {
            (1, _) => self.who[0].clone(),
            (_, 1) => format!("any of {}", self.who.join(", ")),
            (n, t) => format!("{t} of these {n} together: {}", self.who.join(", ")),
        }
    }
}

/// When a file stops being good.
#[derive(Clone, Serialize)]
pub(crate) struct Expires {
    pub(crate) what: String,
    pub(crate) version: u64,
    pub(crate) expires_s: u64,
    pub(crate) by_itself: bool,
}

pub(super) fn run(context: &Context) -> Result<(), Failure> {
    let (_, repo) = load(context)?;
    let (status, now_s) = (status(&repo, &Layout::new(&context.data))?, clock::now_s());
    if !status.development_keys.is_empty() {
        talk(shout(&status.development_keys));
    }
    context.output.data(&status, || text(&status, now_s))
}

/// The sentence that stands above everything as long as development keys are in use.
pub(super) fn shout(keys: &[String]) -> String {
    format!(
        "DEVELOPMENT KEYS IN USE: {} lie unencrypted on this machine. Whoever takes it over can\n\
         sign any model for the whole fleet. Replace each: `fleetway key generate NAME` on a safe\n\
         machine, then `fleetway key rotate OLD --to NAME=NAME.key.pub` here.",
        keys.join(", ")
    )
}

/// Root, targets and team keys whose secret halves lie here in the open.
pub(super) fn development_keys(repo: &Repo, layout: &Layout) -> Result<Vec<String>, Failure> {
    let here: Vec<_> = plain_keys(&layout.keys()).iter().map(|(_, k)| PublicKey::of(k)).collect();
    let root = &repo.root().map_err(refused)?.role;
    let mut people = root_keys(root, "root").0;
    people.extend(root_keys(root, "targets").0);
    people.extend(repo.teams().into_iter().flat_map(|team| team.keys));
    people.retain(|named| here.contains(&named.key));
    people.sort_by(|a, b| a.name.cmp(&b.name));
    people.dedup();
    Ok(people.into_iter().map(|named| named.name).collect())
}

/// Who may do what in a fleet, and what expires when.
pub(crate) fn status(repo: &Repo, layout: &Layout) -> Result<Status, Failure> {
    let root = &repo.root().map_err(refused)?.role;
    let names = |keys: Vec<NamedKey>| keys.into_iter().map(|named| named.name).collect::<Vec<_>>();
    let of = |what: &str, role: &str| {
        let (keys, threshold) = root_keys(root, role);
        May { what: what.to_owned(), who: names(keys), threshold }
    };
    let mut may =
        vec![of("change keys and thresholds", "root"), of("release any model", "targets")];
    for team in repo.teams() {
        let models: Vec<_> = team.models.iter().map(ToString::to_string).collect();
        let what = format!("release {} (team {})", models.join(", "), team.name);
        may.push(May { what, who: names(team.keys), threshold: team.threshold });
    }
    let director = repo.keyset().map_err(refused)?.keyset.director.keys().len();
    may.push(May {
        what: "order released models to devices".to_owned(),
        who: vec![format!("the server ({director} director key)")],
        threshold: 1,
    });
    let mut expires = Vec::new();
    let mut add = |what: &str, version: u64, expires_s: u64, by_itself: bool| {
        expires.push(Expires { what: what.to_owned(), version, expires_s, by_itself });
    };
    let published = &repo.published;
    published.root.iter().for_each(|m| add("root", m.version(), m.expires_s(), false));
    published.targets.iter().for_each(|m| add("targets", m.version(), m.expires_s(), false));
    for (team, meta) in &published.teams {
        add(team.as_str(), meta.version(), meta.expires_s(), false);
    }
    let mut server = |what: &str, meta: Option<&Meta<_>>| {
        if let Some(meta) = meta {
            add(what, meta.version(), meta.expires_s(), true);
        }
    };
    server("snapshot", repo.snapshot.as_ref());
    server("timestamp", repo.timestamp.as_ref());
    Ok(Status {
        may,
        expires,
        staged: repo.staged_files().into_iter().map(|(name, _)| name).collect(),
        missing: repo.needs().map_err(refused)?.iter().filter_map(Need::sentence).collect(),
        development_keys: development_keys(repo, layout)?,
    })
}

fn text(status: &Status, now_s: u64) -> String {
    let mut lines: Vec<(&str, String)> = Vec::new();
    for may in &status.may {
        lines.push(("who can", format!("{}: {}", may.what, may.who())));
    }
    for file in &status.expires {
        let who = if file.by_itself { "; the server renews it" } else { "" };
        let left = match file.expires_s.checked_sub(now_s) {
            None => "EXPIRED: devices install nothing new until it is renewed".to_owned(),
            Some(left) if !file.by_itself && left < WARN_DAYS * 24 * 3600 => {
                format!("SOON, in {}: stage a new one", ago(left))
            }
            Some(left) => format!("in {}", ago(left)),
        };
        let when = time(file.expires_s);
        lines.push(("expires", format!("{} {}: {when} ({left}{who})", file.what, file.version)));
    }
    if status.staged.is_empty() {
        lines.push(("staged", "nothing".to_owned()));
    } else {
        lines.push(("staged", status.staged.join(", ")));
        lines.extend(status.missing.iter().map(|sentence| ("missing", sentence.clone())));
        if status.missing.is_empty() {
            lines.push(("next", "fleetway trust publish".to_owned()));
        }
    }
    facts(&lines)
}
