//! `fleetway model import`: from a source to a draft in the catalog.

use std::path::{Path, PathBuf};

use fleetway_controller::audit;
use fleetway_controller::catalog::fit::Fit;
use fleetway_controller::catalog::source::{self, Annotation, Candidate, Given, SourceError};
use fleetway_controller::catalog::{AttestationRequest, Catalog, ImportReport, ImportRequest};
use fleetway_engine::limits::NPZ_BYTES_MAX;
use fleetway_engine::selftest::SelfTest;
use fleetway_protocol::ids::Note;
use fleetway_protocol::limits::HARDWARE_MAX;
use fleetway_protocol::manifest::GoldenRule;
use fleetway_protocol::order::Terms;
use serde::Serialize;

use super::{local, release_facts, transfer};
use crate::api::client::operator;
use crate::api::failure::Failure;
use crate::api::types::ReleaseView;
use crate::api::view::failed;
use crate::cli::args::ImportArgs;
use crate::cli::output::{facts, millis, talk};
use crate::cli::{Context, policy};
use crate::config::Config;

/// What `model import` prints.
#[derive(Serialize)]
struct Imported {
    #[serde(flatten)]
    release: ReleaseView,
    /// What it was taken from.
    source: String,
    /// What the source says of it.
    annotations: Vec<Annotation>,
    /// Names of the documents that are kept.
    documents: Vec<String>,
    golden: String,
    golden_passed: bool,
    /// What the Model Signing bundle vouches for.
    attestation: Option<String>,
    latency_us: Option<u64>,
    /// How it fits the classes of microcontrollers that it may go to.
    fits: Vec<Fit>,
}

pub(super) fn run(args: ImportArgs, context: &Context) -> Result<(), Failure> {
    let candidate = match transfer::open(&args.source)? {
        Some(artifact) if transfer::is_release(&artifact)? => {
            return transfer::admit(&artifact, &args, context);
        }
        Some(artifact) => transfer::candidate(&artifact, &args, context)?,
        None => {
            let wrong = |error: SourceError| failed(error.kind(), &error);
            source::open(&args.source, args.file.as_deref()).map_err(wrong)?
        }
    };
    candidate.notes.iter().for_each(|note| talk(format!("note: {note}")));
    let golden = golden(args.golden.as_deref(), &candidate)?;
    let kind = format!("{}, {}", candidate.kind, args.source.display());
    let annotations = candidate.papers.annotations.clone();
    let documents = candidate.papers.documents.iter().map(|d| d.name.clone()).collect();
    let request = request(args, candidate, golden, context)?;
    talk(format!("running the golden vectors of {}", request.onnx.path.display()));
    let report = Catalog::open(&context.data)
        .import(&request)
        .map_err(|error| failed(error.kind(), &error))?;
    note(&report, context);
    let imported = Imported {
        release: local(&report.release),
        source: kind,
        annotations,
        documents,
        golden: report.golden,
        golden_passed: report.golden_passed,
        attestation: report.attestation.map(|found| {
            let others = found.files.saturating_sub(1);
            format!("vouches for it as {:?}, and for {others} other files", found.name)
        }),
        latency_us: report.latency_us,
        fits: report.fits,
    };
    context.output.data(&imported, || text(&imported))
}

/// The golden vectors: named, or beside the model under its name.
fn golden(named: Option<&Path>, candidate: &Candidate) -> Result<Given, Failure> {
    let beside = || candidate.onnx.path.with_extension("golden.npz");
    match (named, &candidate.golden) {
        (Some(path), _) if path.exists() => {
            Given::read(path, NPZ_BYTES_MAX as u64).map_err(|error| failed(error.kind(), &error))
        }
        (None, Some(golden)) => Ok(golden.clone()),
        (named, _) => {
            let path = named.map_or_else(beside, PathBuf::from);
            let what = format!("no golden vectors at {}", path.display());
            Err(Failure::not_found(what).mend(
                "make them with onnxruntime on the same file, and name them with --golden FILE.npz",
            ))
        }
    }
}

fn request(
    args: ImportArgs,
    candidate: Candidate,
    golden_npz: Given,
    context: &Context,
) -> Result<ImportRequest, Failure> {
    let note = |reason: String| {
        Note::new(&reason).map_err(|error| Failure::usage(format!("the reason {reason:?} {error}")))
    };
    if args.hardware.len() > HARDWARE_MAX {
        let named = args.hardware.len();
        return Err(Failure::usage(format!("{named} hardware classes; at most {HARDWARE_MAX}"))
            .mend("leave --hardware out if the release is for any"));
    }
    if args.trust_root.is_some() {
        return Err(Failure::usage("--trust-root is for signed releases, and this is none")
            .mend("leave it out: a model becomes a draft, which your own release key signs"));
    }
    let (Some(model), Some(version)) = (args.name, args.version) else {
        return Err(Failure::usage("a model that is no signed release needs a name and a version")
            .mend("say --name MODEL --version VERSION"));
    };
    let terms = Terms::default();
    Ok(ImportRequest {
        model,
        version,
        onnx: candidate.onnx,
        papers: candidate.papers,
        golden_npz,
        rule: GoldenRule { abs_err_max: args.abs_err, same_top1: true },
        chunk_bytes: args.chunk_bytes,
        compile: !args.onnx_only,
        counter: args.counter,
        min_release: args.min_release,
        hardware: args.hardware,
        classes: Config::classes(&context.data)?,
        health: policy::load(args.health.as_deref(), args.reference.as_deref())?,
        highest_published: None,
        accept_golden_mismatch: args.accept_golden_mismatch.map(note).transpose()?,
        attestation: args
            .attestation
            .zip(args.attestation_key)
            .map(|(bundle, key)| AttestationRequest { bundle, key }),
        self_test_exe: SelfTest::default().exe,
        self_test_ms_max: terms.self_test_ms_max,
        self_test_mib_max: terms.self_test_mib_max,
    })
}

/// What is on record of it, and what the importer should know.
fn note(report: &ImportReport, context: &Context) {
    let manifest = &report.release.manifest;
    let (model, version, digest) = (&manifest.model, &manifest.version, report.release.digest);
    let text = format!("imported {model} {version} as {digest:.12}");
    audit::offline::note(&context.data, &operator(), "model.import", None, &text);
    report.notes.iter().for_each(|note| talk(format!("note: {note}")));
    // Those that it names were checked: it is for any, and these devices would refuse it.
    for fit in report.fits.iter().filter(|fit| !fit.fits) {
        talk(format!("note: {fit}; name the classes that it is for with --hardware"));
    }
    if !report.golden_passed {
        talk(
            "WARNING: its answers differ from its golden vectors; the reason you gave travels with it",
        );
    }
}

fn text(imported: &Imported) -> String {
    let name = format!("{}@{}", imported.release.model, imported.release.version);
    let mut lines = release_facts(&imported.release);
    lines.push(("source", imported.source.clone()));
    lines.extend(imported.annotations.iter().map(|fact| {
        // A signature's JSON would fill the screen; the whole of it is in the bill of materials.
        let short: String = fact.value.chars().take(100).collect();
        ("", format!("{} {short}", fact.name))
    }));
    if !imported.documents.is_empty() {
        lines.push(("documents", imported.documents.join(", ")));
    }
    lines.push(("check", imported.golden.clone()));
    lines.extend(imported.attestation.clone().map(|said| ("bundle", said)));
    lines.push(("latency", millis(imported.latency_us)));
    lines.extend(imported.fits.iter().map(|fit| ("room", fit.to_string())));
    lines.push(("next", format!("fleetway model sign {name}")));
    facts(&lines)
}
