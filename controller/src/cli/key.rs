//! `fleetway key ...`: make keys, list them, and put others in their place.

use std::path::PathBuf;

use fleetway_controller::trust::Repo;
use fleetway_controller::trust::repo::root_keys;
use fleetway_controller::trust::signer::age_encrypt;
use fleetway_controller::trust::stage::ROLES;
use fleetway_controller::{clock, keys};
use fleetway_protocol::envelope::PublicKey;
use serde::Serialize;

use super::Context;
use super::args::KeyVerb;
use super::output::{facts, table, talk};
use super::trust::{load, named_key, note, passphrase, refused, staged};
use crate::api::failure::Failure;
use crate::api::view::failed;

pub(super) fn run(verb: KeyVerb, context: &Context) -> Result<(), Failure> {
    match verb {
        KeyVerb::Generate { name, out, plain, secret } => {
            let path = out.unwrap_or_else(|| PathBuf::from(format!("{name}.key")));
            let path = super::absolute(&path)?;
            let wrong = |error: keys::KeyFileError| failed(error.kind(), &error);
            let key = keys::generate().map_err(wrong)?;
            let text = if plain {
                talk(
                    "NOT ENCRYPTED: whoever reads this file has the key. For the server's own keys and for trying things out.",
                );
                keys::secret_text(&key)
            } else {
                let refused = |error: fleetway_controller::trust::signer::SignerError| {
                    failed(error.kind(), &error)
                };
                let chosen = passphrase(&secret).choose(&name).map_err(refused)?;
                age_encrypt(&key, chosen).map_err(refused)?
            };
            let public = PublicKey::of(&key);
            keys::write_pair(&path, &text, &public).map_err(wrong)?;
            let text = format!("made the key {name} in {}", path.display());
            note(context, "key.generate", Some(public.id().to_string()), &text);
            generated(&name, path, &public, context)
        }
        KeyVerb::List => list(context),
        KeyVerb::Rotate { name, to, secret } => {
            let (dir, mut repo) = load(context)?;
            let old = find(&repo, &name)?;
            let new = named_key(&to, &secret)?;
            repo.stage_replace(&old, Some(&new), clock::now_s()).map_err(refused)?;
            dir.save_staged(&repo).map_err(refused)?;
            let text = format!("staged {} in the place of {name}", new.name);
            note(context, "key.rotate", Some(old.id().to_string()), &text);
            staged(&dir, &repo, Vec::new(), context)
        }
        KeyVerb::Revoke { name } => {
            let (dir, mut repo) = load(context)?;
            let old = find(&repo, &name)?;
            repo.stage_replace(&old, None, clock::now_s()).map_err(refused)?;
            dir.save_staged(&repo).map_err(refused)?;
            note(
                context,
                "key.revoke",
                Some(old.id().to_string()),
                &format!("staged the end of {name}"),
            );
            staged(&dir, &repo, Vec::new(), context)
        }
    }
}

/// What `key generate` prints.
#[derive(Serialize)]
struct Generated {
    name: String,
    file: String,
    public: String,
    id: String,
}

fn generated(
    name: &str,
    path: PathBuf,
    public: &PublicKey,
    context: &Context,
) -> Result<(), Failure> {
    let made = Generated {
        name: name.to_owned(),
        public: keys::public_path(&path).display().to_string(),
        file: path.display().to_string(),
        id: public.id().to_string(),
    };
    context.output.data(&made, || {
        facts(&[
            ("key", made.id.clone()),
            ("secret", format!("{} (keep it, and a copy of it elsewhere)", made.file)),
            (
                "public",
                format!("{} (give it to whoever runs `trust init` or `key rotate`)", made.public),
            ),
        ])
    })
}

/// A key by name; the director's is in the keyset alone and has no name there.
fn find(repo: &Repo, name: &str) -> Result<PublicKey, Failure> {
    match repo.key_named(name) {
        Ok(named) => Ok(named.key),
        Err(_) if name == "director" => {
            let keyset = repo.keyset().map_err(refused)?;
            let first = keyset.keyset.director.keys().next();
            first.ok_or_else(|| Failure::not_found("the keyset has no director"))
        }
        Err(error) => Err(refused(error)),
    }
}

/// One key of `key list`.
#[derive(Debug, Serialize)]
pub(super) struct KeyView {
    pub(super) name: String,
    pub(super) id: String,
    pub(super) may: Vec<String>,
}

/// Every key with what it may do.
pub(super) fn keys_of(repo: &Repo) -> Result<Vec<KeyView>, Failure> {
    let mut all: Vec<(PublicKey, KeyView)> = Vec::new();
    let mut add = |name: String, key: PublicKey, may: String| match all
        .iter_mut()
        .find(|(known, _)| *known == key)
    {
        Some((_, view)) => view.may.push(may),
        None => {
            all.push((key, KeyView { name, id: key.id().to_string(), may: vec![may] }));
        }
    };
    let root = &repo.root().map_err(refused)?.role;
    for role in ROLES {
        for named in root_keys(root, role).0 {
            add(named.name, named.key, role.to_owned());
        }
    }
    for team in repo.teams() {
        let models: Vec<_> = team.models.iter().map(ToString::to_string).collect();
        for named in team.keys {
            add(named.name, named.key, format!("{} ({})", team.name, models.join(", ")));
        }
    }
    for key in repo.keyset().map_err(refused)?.keyset.director.keys() {
        add("director".to_owned(), key, "director".to_owned());
    }
    Ok(all.into_iter().map(|(_, view)| view).collect())
}

fn list(context: &Context) -> Result<(), Failure> {
    let (_, repo) = load(context)?;
    let keys = keys_of(&repo)?;
    context.output.data(&keys, || {
        let row = |key: &KeyView| [key.name.clone(), key.may.join(", "), key.id.clone()];
        table(["key", "signs", "id"], keys.iter().map(row))
    })
}
