//! `fleetway trust ...`: the ceremony. Everything but `publish` is offline.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use fleetway_controller::trust::ceremony::{
    DETACHED_BYTES_MAX, Detached, DetachedSignature, Need, sign_files,
};
use fleetway_controller::trust::files::TrustDir;
use fleetway_controller::trust::online::ServerKeys;
use fleetway_controller::trust::repo::NamedKey;
use fleetway_controller::trust::signer::{KeyRef, Passphrase, Signer, SignerError};
use fleetway_controller::trust::stage::Setup;
use fleetway_controller::trust::{Repo, TrustError};
use fleetway_controller::{audit, clock, keys};
use fleetway_protocol::envelope::PublicKey;
use serde::Serialize;

use super::args::{DelegateArgs, SecretArgs, TrustInitArgs, TrustVerb};
use super::files::{self, Layout, PUBLIC};
use super::output::{facts, talk};
use super::{Context, block_on};
use crate::api::client::operator;
use crate::api::failure::{Failure, Kind};
use crate::api::types::TrustPublished;
use crate::api::view::failed;

/// The server's keys, by the names of their files.
pub(super) const SERVER_KEYS: [&str; 3] = ["snapshot", "timestamp", "director"];

pub(super) fn run(verb: TrustVerb, context: &Context) -> Result<(), Failure> {
    match verb {
        TrustVerb::Init(args) => {
            init(*args, context)?;
            note(context, "trust.init", None, "staged the first root");
            Ok(())
        }
        TrustVerb::Status => super::trust_status::run(context),
        TrustVerb::Sign { files, key, out, name, secret } => {
            let signer = open(&key, &secret)?;
            let text = if files.is_empty() {
                sign_here(&*signer, context)?;
                "signed what is staged".to_owned()
            } else {
                let text = format!("signed {} for another machine", shown(&files));
                sign_away(&files, &*signer, &name.unwrap_or(key), out, context)?;
                text
            };
            note(context, "trust.sign", Some(signer.public().id().to_string()), &text);
            Ok(())
        }
        TrustVerb::AddSignature { files } => {
            let keys = add_signatures(&files, context)?;
            let text = format!("took in {}", shown(&files));
            note(context, "trust.add-signature", Some(keys.join(" ")), &text);
            Ok(())
        }
        TrustVerb::Delegate(args) => {
            let text = format!("staged team {}", args.team);
            delegate(args, context)?;
            note(context, "trust.delegate", None, &text);
            Ok(())
        }
        TrustVerb::Unstage => {
            unstage(context)?;
            note(context, "trust.unstage", None, "dropped what was staged");
            Ok(())
        }
        TrustVerb::Publish => block_on(publish(context)),
    }
}

/// The word for what was put into force, with a daemon or without.
pub(crate) const PUBLISHED: &str = "trust.publish";

/// The sentence for it.
pub(crate) fn published_text(files: &[String]) -> String {
    format!("put {} into force", files.join(", "))
}

fn shown(files: &[PathBuf]) -> String {
    files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// Notes in the audit log what was done here, without the daemon.
pub(super) fn note(context: &Context, what: &str, key: Option<String>, text: &str) {
    audit::offline::note(&context.data, &operator(), what, key, text);
}

pub(crate) fn refused(error: TrustError) -> Failure {
    failed(error.kind(), &error)
}

fn signer_refused(error: SignerError) -> Failure {
    failed(error.kind(), &error)
}

/// The signer that a reference names.
pub(super) fn open(reference: &str, secret: &SecretArgs) -> Result<Box<dyn Signer>, Failure> {
    let reference: KeyRef = reference.parse().map_err(signer_refused)?;
    reference.open(&passphrase(secret)).map_err(signer_refused)
}

pub(super) fn passphrase(secret: &SecretArgs) -> Passphrase {
    Passphrase::new(secret.passphrase_file.clone())
}

/// `NAME=KEY`, where KEY is a public key file or a reference to a key.
pub(super) fn named_key(text: &str, secret: &SecretArgs) -> Result<NamedKey, Failure> {
    let (name, key) = text
        .split_once('=')
        .filter(|(name, key)| !name.is_empty() && !key.is_empty())
        .ok_or_else(|| {
            Failure::usage(format!("{text:?} is no NAME=KEY"))
                .mend("write whose key it is and where its public half is: ada=ada.key.pub")
        })?;
    let key = match key.strip_suffix(".pub") {
        Some(_) => keys::load_public(Path::new(key.strip_prefix("file:").unwrap_or(key)))
            .map_err(|error| failed(error.kind(), &error))?,
        None => open(key, secret)?.public(),
    };
    Ok(NamedKey { name: name.to_owned(), key })
}

fn named_keys(texts: &[String], secret: &SecretArgs) -> Result<Vec<NamedKey>, Failure> {
    texts.iter().map(|text| named_key(text, secret)).collect()
}

/// The trust directory and what is in it.
pub(super) fn load(context: &Context) -> Result<(TrustDir, Repo), Failure> {
    let dir = TrustDir::new(&context.data);
    let repo = dir.load().map_err(refused)?;
    Ok((dir, repo))
}

/// A key of the server: the one that is there, or a new one.
pub(super) fn server_key(layout: &Layout, name: &str) -> Result<NamedKey, Failure> {
    let path = layout.key(name);
    let wrong = |error: keys::KeyFileError| failed(error.kind(), &error);
    let key = match path.exists() {
        true => keys::load(&path).map_err(wrong)?,
        false => keys::create(&path).map_err(wrong)?,
    };
    Ok(NamedKey { name: name.to_owned(), key: PublicKey::of(&key) })
}

fn init(args: TrustInitArgs, context: &Context) -> Result<(), Failure> {
    let layout = Layout::new(&context.data);
    let dir = TrustDir::new(&context.data);
    if dir.exists() && !dir.load().map_err(refused)?.staged.is_empty() {
        return Err(
            refused(TrustError::Exists).mend("`fleetway trust unstage` drops what is staged")
        );
    }
    if dir.exists() && dir.load().is_ok_and(|repo| repo.published.root.is_some()) {
        return Err(refused(TrustError::Exists));
    }
    let root = named_keys(&args.root, &args.secret)?;
    let targets = named_keys(&args.targets, &args.secret)?;
    files::make_dir(&layout.keys())?;
    let [snapshot, timestamp, director] = [0, 1, 2].map(|n| server_key(&layout, SERVER_KEYS[n]));
    let setup = Setup {
        root_threshold: args.root_threshold,
        targets_threshold: args.targets_threshold,
        root,
        targets,
        snapshot: snapshot?,
        timestamp: timestamp?,
        director: director?,
    };
    let repo = Repo::begin(&setup, clock::now_s()).map_err(refused)?;
    dir.save_staged(&repo).map_err(refused)?;
    staged(&dir, &repo, Vec::new(), context)
}

/// What a change leaves behind: the staged files, and what they need.
#[derive(Serialize)]
struct Staged {
    signed: Vec<String>,
    staged: Vec<String>,
    missing: Vec<String>,
}

/// Says what is staged, whose signatures are missing, and what to do next.
pub(super) fn staged(
    dir: &TrustDir,
    repo: &Repo,
    signed: Vec<String>,
    context: &Context,
) -> Result<(), Failure> {
    let needs = repo.needs().map_err(refused)?;
    let view = Staged {
        signed,
        staged: repo.staged_files().into_iter().map(|(name, _)| name).collect(),
        missing: needs.iter().filter_map(Need::sentence).collect(),
    };
    context.output.data(&view, || {
        let mut lines = Vec::new();
        if !view.signed.is_empty() {
            lines.push(("signed", view.signed.join(", ")));
        }
        lines.push(("staged", format!("{} in {}", view.staged.join(", "), dir.staged().display())));
        lines.extend(view.missing.iter().map(|sentence| ("missing", sentence.clone())));
        lines.push((
            "next",
            match (view.staged.is_empty(), view.missing.is_empty()) {
                (true, _) => "nothing: everything is published".to_owned(),
                (_, true) => "fleetway trust publish".to_owned(),
                _ => {
                    "fleetway trust sign --key KEY, here or (with the files) on the other machines"
                        .to_owned()
                }
            },
        ));
        facts(&lines)
    })
}

fn sign_here(signer: &dyn Signer, context: &Context) -> Result<(), Failure> {
    let (dir, mut repo) = load(context)?;
    let done = repo.sign(signer, clock::now_s()).map_err(refused)?;
    dir.save_staged(&repo).map_err(refused)?;
    staged(&dir, &repo, done, context)
}

/// What signing away from home prints.
#[derive(Serialize)]
struct SignedAway {
    file: String,
    signed: Vec<String>,
}

fn sign_away(
    paths: &[PathBuf],
    signer: &dyn Signer,
    name: &str,
    out: Option<PathBuf>,
    context: &Context,
) -> Result<(), Failure> {
    let mut inputs = Vec::new();
    for path in paths {
        let bytes = std::fs::read(path).map_err(|error| Failure::file("read", path, &error))?;
        let file = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        inputs.push((file, bytes));
    }
    let made = sign_files(&inputs, signer, name).map_err(refused)?;
    let out = out.unwrap_or_else(|| PathBuf::from("signatures.json"));
    let text = serde_json::to_vec_pretty(&made)
        .map_err(|error| Failure::from_error("cannot write signatures", &error))?;
    files::write(&super::absolute(&out)?, PUBLIC, &text)?;
    let view = SignedAway {
        file: out.display().to_string(),
        signed: inputs.into_iter().map(|(file, _)| file).collect(),
    };
    context.output.data(&view, || {
        facts(&[
            ("signed", view.signed.join(", ")),
            ("signatures", view.file.clone()),
            ("next", format!("bring it home: fleetway trust add-signature {}", view.file)),
        ])
    })
}

/// Takes signatures in; gives the ids of the keys that made them.
fn add_signatures(paths: &[PathBuf], context: &Context) -> Result<Vec<String>, Failure> {
    let (dir, mut repo) = load(context)?;
    let mut done = Vec::new();
    let mut keys = BTreeSet::new();
    for path in paths {
        let length = std::fs::metadata(path).map_err(|e| Failure::file("read", path, &e))?.len();
        let what = path.display().to_string();
        if length > DETACHED_BYTES_MAX {
            return Err(Failure::usage(format!(
                "{what} has {length} bytes, a file of signatures at most {DETACHED_BYTES_MAX}"
            )));
        }
        let bytes = std::fs::read(path).map_err(|error| Failure::file("read", path, &error))?;
        let detached = Detached::read(&bytes, &what).map_err(refused)?;
        done.extend(repo.add(&detached, clock::now_s()).map_err(refused)?);
        let made_by = |made: &DetachedSignature| Some(made.key.public().ok()?.id().to_string());
        keys.extend(detached.signatures.iter().filter_map(made_by));
    }
    dir.save_staged(&repo).map_err(refused)?;
    staged(&dir, &repo, done, context)?;
    Ok(keys.into_iter().collect())
}

fn delegate(args: DelegateArgs, context: &Context) -> Result<(), Failure> {
    let (dir, mut repo) = load(context)?;
    let members = named_keys(&args.keys, &args.secret)?;
    repo.stage_team(&args.team, &args.models, &members, clock::now_s()).map_err(refused)?;
    dir.save_staged(&repo).map_err(refused)?;
    staged(&dir, &repo, Vec::new(), context)
}

fn unstage(context: &Context) -> Result<(), Failure> {
    let (dir, mut repo) = load(context)?;
    repo.staged = Default::default();
    dir.save_staged(&repo).map_err(refused)?;
    context.output.line("nothing is staged any more; what is published stays in force")
}

/// Through the controller if one runs, else in the directory itself.
pub(super) async fn publish(context: &Context) -> Result<(), Failure> {
    let published = match context.client().post::<_, TrustPublished>("/v1/trust/publish", &()).await
    {
        Err(failure) if failure.code == Kind::Unreachable => {
            talk("no controller runs: publishing in its directory");
            publish_here(context)?
        }
        answer => answer?,
    };
    context.output.data(&published, || {
        facts(&[
            ("published", published.files.join(", ")),
            ("good until", super::output::time(published.expires_s)),
            ("next", "fleetway trust status".to_owned()),
        ])
    })
}

/// Publishes with the server's keys of this data directory.
pub(super) fn publish_here(context: &Context) -> Result<TrustPublished, Failure> {
    let (dir, repo) = load(context)?;
    let files: Vec<_> = repo.staged_files().into_iter().map(|(name, _)| name).collect();
    let server = ServerKeys::find(&Layout::new(&context.data).keys(), &repo).map_err(refused)?;
    let next = repo.publish(&server.online(), clock::now_s()).map_err(refused)?;
    dir.save(&next).map_err(refused)?;
    note(context, PUBLISHED, Some(server.online().ids()), &published_text(&files));
    Ok(TrustPublished { files, expires_s: next.timestamp.map_or(0, |meta| meta.expires_s()) })
}
