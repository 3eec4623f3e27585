//! `fleetway model ...`: import and sign offline, publish through the API.

mod compiled;
mod diff;
mod import;
mod transfer;

use fleetway_controller::audit;
use fleetway_controller::catalog::{Catalog, CatalogError, CatalogRelease};
use fleetway_controller::clock;
use fleetway_controller::trust::files::TrustDir;
use fleetway_controller::trust::signer::Signer;
use fleetway_controller::trust::stage::Release;
use std::path::Path;

use hyper::Method;

use super::args::{ModelVerb, SecretArgs};
use super::files::Layout;
use super::output::{bytes, count, facts, or_dash, table, talk};
use super::show::measured_lines;
use super::values::ReleaseName;
use super::{Context, block_on, known_bad, trust};
use crate::api::client::{escape, operator};
use crate::api::failure::{Failure, Kind};
use crate::api::types::{AnswersView, ArtifactView, BlobView, ReleaseView, TrustPublished};
use crate::api::view::{self, failed};
use crate::config::Config;

pub(super) fn run(verb: ModelVerb, context: &Context) -> Result<(), Failure> {
    match verb {
        ModelVerb::Import(args) => import::run(*args, context),
        ModelVerb::Sign { release, key, secret } => sign(&release, key, &secret, context),
        ModelVerb::Publish { release } => block_on(publish(&release, context)),
        ModelVerb::Export { release, to: Some(to), .. } => transfer::export(&release, &to, context),
        ModelVerb::Export { release, dir, .. } => {
            export(&release, &dir.unwrap_or_default(), context)
        }
        ModelVerb::Compile { model, to, class } => {
            compiled::compile(&model, to.as_deref(), class.as_ref(), context)
        }
        ModelVerb::Inspect { model } => compiled::inspect(&model, context),
        ModelVerb::Diff { from, to } => diff::run(&from, &to, context),
        ModelVerb::Bad => block_on(known_bad::list(context)),
        ModelVerb::Allow { release, hardware, reason } => {
            block_on(known_bad::allow(&release, &hardware, reason, context))
        }
        ModelVerb::List => block_on(list(context)),
        ModelVerb::Show { release } => block_on(show(&release, context)),
    }
}

/// A release of the catalog in the API's words.
fn local(release: &CatalogRelease) -> ReleaseView {
    let state = if release.envelope.is_some() { "signed" } else { "draft" };
    view::release(release.digest, &release.manifest, state, release.envelope.as_deref())
}

fn export(name: &ReleaseName, dir: &Path, context: &Context) -> Result<(), Failure> {
    let written = Catalog::open(&context.data)
        .export(&name.model, &name.version, dir)
        .map_err(|error| failed(error.kind(), &error))?;
    context.output.data(&written, || {
        written.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join("\n")
    })
}

fn sign(
    name: &ReleaseName,
    key: Option<String>,
    secret: &SecretArgs,
    context: &Context,
) -> Result<(), Failure> {
    let default = || Layout::new(&context.data).release_key().display().to_string();
    let signer = trust::open(&key.unwrap_or_else(default), secret)?;
    let catalog = Catalog::open(&context.data);
    let wrong = |error: CatalogError| failed(error.kind(), &error);
    let draft = catalog.load(&name.model, &name.version).map_err(wrong)?;
    // Imported before its class was written down, or before the board was found to have less.
    catalog.fits(&draft, &Config::classes(&context.data)?).map_err(wrong)?;
    // Then: a key that may not release this model leaves no signature behind.
    let missing = list_as_target(&*signer, &draft, context)?;
    let release = catalog.sign(&name.model, &name.version, &*signer).map_err(wrong)?;
    let signed = local(&release);
    let text = format!("signed {name} ({:.12})", signed.digest);
    let key_name = Some(signer.public().id().to_string());
    audit::offline::note(&context.data, &operator(), "model.sign", key_name, &text);
    context.output.data(&signed, || {
        let next = match missing {
            Some(sentence) => format!("missing: {sentence}"),
            None => format!("next: fleetway model publish {name}"),
        };
        format!("{name} signed by {}\n{next}", signer.public().id())
    })
}

/// Lists the release in the metadata and signs that as well; gives what is still missing.
fn list_as_target(
    signer: &dyn Signer,
    release: &CatalogRelease,
    context: &Context,
) -> Result<Option<String>, Failure> {
    if !TrustDir::new(&context.data).exists() {
        talk(
            "no trust directory: signed for microcontrollers and old agents only; see `fleetway trust init`",
        );
        return Ok(None);
    }
    let (dir, mut repo) = trust::load(context)?;
    let manifest = &release.manifest;
    let bytes = std::fs::read(release.dir.join("manifest.bin"))
        .map_err(|error| Failure::file("read", &release.dir.join("manifest.bin"), &error))?;
    let listed = Release {
        model: &manifest.model,
        version: &manifest.version,
        counter: manifest.counter,
        digest: release.digest,
        bytes: bytes.len() as u64,
    };
    let now_s = clock::now_s();
    repo.stage_release(&signer.public(), &listed, now_s).map_err(trust::refused)?;
    repo.sign(signer, now_s).map_err(trust::refused)?;
    dir.put_release(manifest.model.as_str(), manifest.version.as_str(), &bytes)
        .map_err(trust::refused)?;
    dir.save_staged(&repo).map_err(trust::refused)?;
    let needs = repo.needs().map_err(trust::refused)?;
    Ok(needs.iter().find_map(fleetway_controller::trust::ceremony::Need::sentence))
}

async fn publish(name: &ReleaseName, context: &Context) -> Result<(), Failure> {
    let catalog = Catalog::open(&context.data);
    let release =
        catalog.load(&name.model, &name.version).map_err(|error| failed(error.kind(), &error))?;
    let Some(envelope) = &release.envelope else {
        return Err(Failure::new(Kind::Trust, format!("{name} is not signed"))
            .mend(format!("sign it first: `fleetway model sign {name}`")));
    };
    let client = context.client();
    let mut files = catalog.artifacts(&release).map_err(|error| failed(error.kind(), &error))?;
    // A compiled form may answer just what onnxruntime does: then both have the same golden vectors.
    let mut seen = std::collections::HashSet::new();
    files.retain(|file| seen.insert(file.artifact.digest));
    for (at, file) in files.iter().enumerate() {
        let content =
            std::fs::read(&file.path).map_err(|error| Failure::file("read", &file.path, &error))?;
        talk(format!("sending {} of {}: {}", at + 1, files.len(), bytes(content.len() as u64)));
        let path = format!("/v1/blobs/{}", file.artifact.digest);
        let _: BlobView = client.upload(Method::PUT, &path, content.into()).await?;
    }
    publish_metadata(context).await?;
    let published: ReleaseView =
        client.upload(Method::POST, "/v1/releases", envelope.clone().into()).await?;
    context.output.data(&published, || {
        format!("{name} published as {:.12}\nnext: fleetway rollout start {name}", published.digest)
    })
}

/// What `model sign` staged goes out first: devices ask for it when they hear of the release.
async fn publish_metadata(context: &Context) -> Result<(), Failure> {
    if !TrustDir::new(&context.data).exists() || trust::load(context)?.1.staged.is_empty() {
        return Ok(());
    }
    let client = context.client();
    let _: TrustPublished = client.post("/v1/trust/publish", &()).await?;
    Ok(())
}

/// Published releases, and what else lies in the catalog of this machine.
async fn list(context: &Context) -> Result<(), Failure> {
    let mut all: Vec<ReleaseView> = match context.client().list("/v1/models").await {
        Ok(published) => published,
        Err(failure) if failure.code == Kind::Unreachable => {
            talk(format!("{}: showing this machine's catalog only", failure.message));
            Vec::new()
        }
        Err(failure) => return Err(failure),
    };
    let drafts =
        Catalog::open(&context.data).list().map_err(|error| failed(error.kind(), &error))?;
    for release in &drafts {
        let digest = release.digest.to_string();
        if !all.iter().any(|known| known.digest == digest) {
            all.push(local(release));
        }
    }
    all.sort_by(|a, b| (&a.model, a.counter).cmp(&(&b.model, b.counter)));
    context.output.data(&all, || {
        table(
            ["model", "version", "counter", "state", "size", "chunks", "digest", "note"],
            all.iter().map(|release| {
                let artifacts = || {
                    release.variants.iter().flat_map(|variant| [&variant.artifact, &variant.golden])
                };
                [
                    release.model.clone(),
                    release.version.clone(),
                    release.counter.to_string(),
                    release.state.clone(),
                    bytes(artifacts().map(|a| u64::from(a.bytes)).sum()),
                    artifacts().map(|a| a.chunks).sum::<u32>().to_string(),
                    release.digest.chars().take(12).collect(),
                    mismatch(release.golden_mismatch_accepted.as_deref()),
                ]
            }),
        )
    })
}

/// What everybody shall know about a release that does not match its golden vectors.
pub(super) fn mismatch(reason: Option<&str>) -> String {
    reason.map_or_else(String::new, |reason| format!("golden mismatch accepted: {reason}"))
}

async fn show(name: &ReleaseName, context: &Context) -> Result<(), Failure> {
    let path =
        format!("/v1/models/{}/{}", escape(name.model.as_str()), escape(name.version.as_str()));
    let shown = match context.client().get::<ReleaseView>(&path).await {
        Ok(published) => published,
        Err(failure) if matches!(failure.code, Kind::Unreachable | Kind::NotFound) => {
            match Catalog::open(&context.data).load(&name.model, &name.version) {
                Ok(release) => local(&release),
                Err(error) if failure.code == Kind::NotFound => {
                    return Err(failed(error.kind(), &error));
                }
                Err(_) => return Err(failure),
            }
        }
        Err(failure) => return Err(failure),
    };
    context.output.data(&shown, || facts(&release_facts(&shown)))
}

fn artifact_text(artifact: &ArtifactView) -> String {
    format!(
        "{}, {} of {}, {}",
        bytes(u64::from(artifact.bytes)),
        count(u64::from(artifact.chunks), "chunk"),
        bytes(u64::from(artifact.chunk_bytes)),
        artifact.digest
    )
}

fn release_facts(release: &ReleaseView) -> Vec<(&str, String)> {
    let mut lines = vec![
        ("release", format!("{}@{}", release.model, release.version)),
        ("state", release.state.clone()),
        ("counter", release.counter.to_string()),
        ("floor", format!("{} once confirmed", release.min_release)),
        ("digest", release.digest.clone()),
        ("signed by", or_dash((!release.signers.is_empty()).then(|| release.signers.join(", ")))),
        ("tolerance", format!("{} and the same best class", release.golden_abs_err_max)),
    ];
    for variant in &release.variants {
        lines.push((&variant.kind, artifact_text(&variant.artifact)));
        lines.push(("golden", artifact_text(&variant.golden)));
    }
    lines.extend(release.scores.clone().map(|scores| ("scores", format!("taken for {scores}"))));
    for (at, sentence) in release.health.iter().enumerate() {
        lines.push((if at == 0 { "health" } else { "" }, sentence.clone()));
    }
    if let Some(in_use) = &release.in_use {
        let AnswersView { requests, errors, p95_us, .. } = in_use.answers;
        let p95 = super::output::millis(p95_us);
        let devices = count(in_use.devices as u64, "device");
        lines.push((
            "in use",
            format!("on {devices}: {requests} requests, {errors} errors, p95 {p95}"),
        ));
        lines.extend(measured_lines(&in_use.answers));
    }
    if release.golden_mismatch_accepted.is_some() {
        lines.push(("WARNING", mismatch(release.golden_mismatch_accepted.as_deref())));
    }
    lines
}
