//! A release between places: `model export --to` writes it with all that proves it, `model import` takes it
//! in on the other side, from a file, a directory or a registry.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use fleetway_controller::catalog::fit::Fit;
use fleetway_controller::catalog::oci::carry::{Carried, CarryError};
use fleetway_controller::catalog::oci::unpack::{annotate, unpack};
use fleetway_controller::catalog::oci::{Artifact, OciError, archive, layout};
use fleetway_controller::catalog::source::{self, Candidate};
use fleetway_controller::catalog::{Catalog, CatalogRelease};
use fleetway_controller::registry::{Reference, Registry, RegistryError};
use fleetway_controller::trust::brought::{self, Believed, Files};
use fleetway_controller::trust::files::TrustDir;
use fleetway_controller::trust::repo::Repo;
use fleetway_controller::{audit, clock};
use fleetway_tuf::client::Release as Listed;
use fleetway_tuf::limits::FILE_BYTES_MAX;
use serde::Serialize;

use super::{local, release_facts};
use crate::api::client::operator;
use crate::api::failure::{Failure, Kind};
use crate::api::types::ReleaseView;
use crate::api::view::failed;
use crate::cli::args::ImportArgs;
use crate::cli::output::{bytes, facts, talk, time};
use crate::cli::values::ReleaseName;
use crate::cli::{Context, block_on, trust};
use crate::config::Config;

/// Bytes of a file that tell what it is.
const HEAD_BYTES: u64 = 512;

fn oci(error: OciError) -> Failure {
    failed(error.kind(), &error)
}

fn carry(error: CarryError) -> Failure {
    failed(error.kind(), &error)
}

fn registry(error: RegistryError) -> Failure {
    failed(error.kind(), &error)
}

/// The artifact at a source, if that is one: a registry's, a layout's, or one in a file.
pub(super) fn open(source: &Path) -> Result<Option<Artifact>, Failure> {
    let text = source.to_string_lossy();
    let (artifact, left_out) = if Reference::is_meant(&text) {
        let reference: Reference = text.parse().map_err(registry)?;
        talk(format!("asking {}", reference.host));
        block_on(async { Registry::new(reference).pull().await.map_err(registry) })?
    } else if source.join(layout::MARK).is_file() {
        layout::read(source).map_err(oci)?
    } else if source.is_file() && archive::is_archive(&head(source)?) {
        let file = File::open(source).map_err(|error| Failure::file("open", source, &error))?;
        archive::read(file).map_err(oci)?
    } else {
        return Ok(None);
    };
    left_out.iter().for_each(|sentence| talk(format!("note: {sentence}")));
    Ok(Some(artifact))
}

/// Whether it is a release of Fleetway's; else it is a model of whoever made it.
pub(super) fn is_release(artifact: &Artifact) -> Result<bool, Failure> {
    Ok(artifact.read().map_err(oci)?.is_release())
}

fn head(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut head = Vec::new();
    let read = File::open(path).and_then(|file| file.take(HEAD_BYTES).read_to_end(&mut head));
    read.map(|_| head).map_err(|error| Failure::file("read", path, &error))
}

/// A directory that goes when nobody needs it any more.
struct Unpacked(PathBuf);

impl Drop for Unpacked {
    fn drop(&mut self) {
        // What stays is hidden from the catalog, and replaced the next time.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The model in an artifact of other tools.
pub(super) fn candidate(
    artifact: &Artifact,
    args: &ImportArgs,
    context: &Context,
) -> Result<Candidate, Failure> {
    let name = format!(".unpacked-{:.12}", artifact.digest().to_string());
    let dir = context.data.join("catalog").join(name);
    let made = |error: std::io::Error| Failure::file("create", &dir, &error);
    let unpacked = Unpacked(dir.clone());
    if dir.exists() {
        std::fs::remove_dir_all(&dir).map_err(made)?;
    }
    std::fs::create_dir_all(&dir).map_err(made)?;
    let notes = unpack(artifact, &unpacked.0).map_err(oci)?;
    let found = source::open(&unpacked.0, args.file.as_deref());
    let mut found = found.map_err(|error| failed(error.kind(), &error))?;
    found.kind = "an OCI artifact";
    found.notes.extend(notes);
    // The directory will be gone; what people know is the path in the artifact.
    if let Ok(inside) = found.onnx.path.strip_prefix(&unpacked.0) {
        found.onnx.path = inside.to_owned();
    }
    let manifest = artifact.read().map_err(oci)?;
    found.notes.extend(annotate(artifact, &manifest, &mut found.papers));
    Ok(found)
}

/// What `model import` prints for a release.
#[derive(Serialize)]
struct Admitted {
    #[serde(flatten)]
    release: ReleaseView,
    source: String,
    /// Whether it was released under this place's own authority.
    own_authority: bool,
    /// Until when the word that nothing newer exists was good: it was packed before.
    fresh_until_s: u64,
    /// When what lists it ends.
    targets_until_s: u64,
    /// How it fits the classes of microcontrollers that it may go to.
    fits: Vec<Fit>,
    next: String,
}

/// Takes a signed release in: believed first, then all of it or nothing.
pub(super) fn admit(
    artifact: &Artifact,
    args: &ImportArgs,
    context: &Context,
) -> Result<(), Failure> {
    refuse_terms(args)?;
    let carried = Carried::read(artifact).map_err(carry)?;
    let manifest = &carried.release;
    let name = format!("{}@{}", manifest.model, manifest.version);
    let is_asked_for = args.name.as_ref().is_none_or(|name| *name == manifest.model)
        && args.version.as_ref().is_none_or(|version| *version == manifest.version);
    if !is_asked_for {
        return Err(Failure::usage(format!(
            "it is the release {name}, not the one that you named"
        ))
        .mend("leave out --name and --version: a signed release has both"));
    }
    let own = TrustDir::new(&context.data).exists().then(|| trust::load(context)).transpose()?;
    let own = own.filter(|(_, repo)| brought::is_of(repo, &carried.metadata));
    let believed = believe(&carried, own.as_ref().map(|(_, repo)| repo), args)?;
    let fits = carried.fits(&Config::classes(&context.data)?).map_err(|error| {
        failed(error.kind(), &error).mend(
            "have it made smaller where it was released, or correct the class's [hardware] section in fleetway.toml if the board has more",
        )
    })?;
    if let Some((dir, repo)) = &own {
        stage(dir, repo, &carried)?;
    }
    let admitted = Catalog::open(&context.data).admit(&carried);
    let admitted = admitted.map_err(|error| failed(error.kind(), &error))?;
    let text =
        format!("brought {} {} as {:.12}", manifest.model, manifest.version, admitted.digest);
    audit::offline::note(&context.data, &operator(), "model.import", None, &text);
    let verb = if own.is_some() { "publish" } else { "sign" };
    let admitted = Admitted {
        release: local(&admitted),
        source: args.source.display().to_string(),
        own_authority: own.is_some(),
        fresh_until_s: believed.fresh_until_s,
        targets_until_s: believed.targets_until_s,
        fits,
        next: format!("fleetway model {verb} {name}"),
    };
    for fit in admitted.fits.iter().filter(|fit| !fit.fits) {
        talk(format!("note: {fit}; devices of that class will refuse it"));
    }
    context.output.data(&admitted, || text_of(&admitted))
}

/// A signed release is taken as it was signed: what says how to make one has no place.
fn refuse_terms(args: &ImportArgs) -> Result<(), Failure> {
    let terms = [
        ("--golden", args.golden.is_some()),
        ("--file", args.file.is_some()),
        ("--counter", args.counter.is_some()),
        ("--min-release", args.min_release.is_some()),
        ("--hardware", !args.hardware.is_empty()),
        ("--health", args.health.is_some()),
        ("--reference", args.reference.is_some()),
        ("--chunk-bytes", args.chunk_bytes.is_some()),
        ("--accept-golden-mismatch", args.accept_golden_mismatch.is_some()),
        ("--attestation", args.attestation.is_some()),
    ];
    match terms.iter().find(|(_, given)| *given) {
        None => Ok(()),
        Some((flag, _)) => {
            Err(Failure::usage(format!("{flag} has no meaning for a release that is signed"))
                .mend("leave it out: a signed release is taken as it is, or not at all"))
        }
    }
}

/// Asks what a device would: beginning with this place's first root, or with one that was named.
fn believe(carried: &Carried, own: Option<&Repo>, args: &ImportArgs) -> Result<Believed, Failure> {
    let pinned = match (own.and_then(brought::first_root), &args.trust_root) {
        (Some(root), _) => root,
        (None, Some(path)) => {
            let root = source::Given::read(path, FILE_BYTES_MAX as u64);
            root.map_err(|error| failed(error.kind(), &error))?.bytes
        }
        (None, None) => {
            return Err(Failure::trust("it was released under another authority than this place's")
                .mend(
                    "if you trust it, get its root (trust/metadata/1.root.json there) in another way, name it with --trust-root FILE, and sign the release yourself",
                ));
        }
    };
    let release = Listed {
        model: &carried.release.model,
        version: &carried.release.version,
        counter: carried.release.counter,
        digest: carried.digest(),
        length: carried.manifest.len() as u64,
    };
    brought::believe(&pinned, &carried.metadata, &release, clock::now_s()).map_err(trust::refused)
}

/// What the other place published is staged here with its signatures, for the next publication.
fn stage(dir: &TrustDir, repo: &Repo, carried: &Carried) -> Result<(), Failure> {
    let staged = brought::adopt(repo, &carried.metadata).map_err(trust::refused)?;
    if !repo.staged.is_empty() && repo.staged != staged {
        return Err(Failure::new(Kind::Conflict, "other changes of the metadata wait here")
            .mend("publish them, or drop them with `fleetway trust unstage`; then import again"));
    }
    let release = &carried.release;
    dir.put_release(release.model.as_str(), release.version.as_str(), &carried.manifest)
        .map_err(trust::refused)?;
    let mut next = repo.clone();
    next.staged = staged;
    dir.save_staged(&next).map_err(trust::refused)
}

fn text_of(admitted: &Admitted) -> String {
    let mut lines = release_facts(&admitted.release);
    let whose =
        if admitted.own_authority { "this place's own authority" } else { "another authority" };
    lines.extend([
        ("source", admitted.source.clone()),
        ("listed", format!("by {whose}, until {}", time(admitted.targets_until_s))),
        ("packed", format!("before {}", time(admitted.fresh_until_s))),
    ]);
    lines.extend(admitted.fits.iter().map(|fit| ("room", fit.to_string())));
    lines.push(("next", admitted.next.clone()));
    facts(&lines)
}

/// What `model export --to` prints.
#[derive(Serialize)]
struct Exported {
    release: String,
    digest: String,
    to: String,
    /// The artifact's digest, by which a registry names it.
    artifact: String,
    bytes: u64,
    targets_until_s: u64,
}

/// Writes a release with all that proves it: into one file, or into a registry.
pub(super) fn export(name: &ReleaseName, to: &str, context: &Context) -> Result<(), Failure> {
    let catalog = Catalog::open(&context.data);
    let release = catalog.load(&name.model, &name.version);
    let release = release.map_err(|error| failed(error.kind(), &error))?;
    let (_, repo) = trust::load(context)?;
    let metadata: Files = repo.files_for_devices().into_iter().collect();
    let believed = listed(&release, &repo, &metadata).map_err(|failure| {
        failure.mend(format!("publish it first: `fleetway model publish {name}`"))
    })?;
    let artifact = catalog.pack(&release, &metadata).map_err(carry)?;
    let digest = format!("sha256:{}", artifact.digest());
    let written = match Reference::is_meant(to) {
        true => push(&artifact, to)?,
        false => archive::save(&artifact, name.version.as_str(), Path::new(to)).map_err(oci)?,
    };
    let exported = Exported {
        release: name.to_string(),
        digest: release.digest.to_string(),
        to: to.to_owned(),
        artifact: digest,
        bytes: written,
        targets_until_s: believed.targets_until_s,
    };
    context.output.data(&exported, || {
        facts(&[
            ("release", format!("{} ({:.12})", exported.release, exported.digest)),
            ("to", format!("{}, {}", exported.to, bytes(exported.bytes))),
            ("artifact", exported.artifact.clone()),
            ("good until", time(exported.targets_until_s)),
            ("there", format!("fleetway model import {to}")),
        ])
    })
}

fn push(artifact: &Artifact, to: &str) -> Result<u64, Failure> {
    let reference: Reference = to.parse().map_err(registry)?;
    talk(format!("sending to {}", reference.host));
    block_on(async { Registry::new(reference).push(artifact).await.map_err(registry) })?;
    Ok(artifact.blobs.values().map(|bytes| bytes.len() as u64).sum())
}

/// What is written is what the other side would believe: asked here, the same way.
fn listed(release: &CatalogRelease, repo: &Repo, metadata: &Files) -> Result<Believed, Failure> {
    let path = release.dir.join("manifest.bin");
    let length = std::fs::metadata(&path).map_err(|error| Failure::file("read", &path, &error))?;
    let root = brought::first_root(repo).unwrap_or_default();
    let release = Listed {
        model: &release.manifest.model,
        version: &release.manifest.version,
        counter: release.manifest.counter,
        digest: release.digest,
        length: length.len(),
    };
    brought::believe(&root, metadata, &release, clock::now_s()).map_err(|error| {
        let said = error.to_string();
        Failure::trust(format!("not exported: {}", said.trim_start_matches("not imported, ")))
    })
}
