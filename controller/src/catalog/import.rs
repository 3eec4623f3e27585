//! Import: from an ONNX file and its golden vectors to a manifest that waits for a
//! signature.

use std::fs;
use std::path::Path;
use std::time::Duration;

use fleetway_engine::GoldenSet;
use fleetway_engine::golden::GoldenRule as EngineRule;
use fleetway_engine::selftest::{Candidate, SelfTest, SelfTestError};
use fleetway_protocol::codec;
use fleetway_protocol::ids::{Counter, Digest, HardwareClass, ModelName, Version};
use fleetway_protocol::limits::{
    CHUNK_BYTES_DEFAULT, HARDWARE_MAX, MANIFEST_BYTES_MAX, MCU_CHUNK_BYTES,
};
use fleetway_protocol::manifest::{
    Artifact, Attestation, AttestationKind, GoldenRule, Manifest, Variant, VariantKind,
};

use crate::attest::bundle::{BUNDLE_BYTES_MAX, KEY_BYTES_MAX};
use crate::attest::{self, AttestationKey, bom};

use super::files::{create_dir, io, read, sync_dir, write};
use super::fit::{self, Classes, Fit, Load};
use super::forms::{self, Compiled, Form};
use super::health;
use super::{
    AttestationRequest, BOM, BUNDLE, Catalog, CatalogError, CatalogRelease, DOCUMENTS,
    ImportReport, ImportRequest, MANIFEST,
};

/// Bytes of a compiled network, or of its golden vectors, up to which a microcontroller may have room for
/// it: flash of the large ones is 1 to 4 MiB.
const MCU_BYTES_MAX: usize = 4 << 20;

/// What the self-test of a candidate found.
struct Tested {
    figures: String,
    passed: bool,
    latency_us: Option<u64>,
}

impl Catalog {
    /// Imports a release: checks sizes, runs the golden vectors in a child process, writes
    /// artifacts, chunk lists and manifest. It is there whole or not at all.
    ///
    /// # Errors
    /// [`CatalogError`] says what is wrong with the candidate or the request.
    pub fn import(&self, request: &ImportRequest) -> Result<ImportReport, CatalogError> {
        let ImportRequest { model, version, .. } = request;
        let dir = self.release_dir(model, version);
        if dir.exists() {
            let (model, version) = (model.clone(), version.clone());
            return Err(CatalogError::Exists { model, version, dir });
        }
        let (counter, previous) = self.counters(request)?;
        let onnx = &request.onnx.bytes;
        let golden_error =
            |source| CatalogError::Golden { path: request.golden_npz.path.clone(), source };
        let golden_set = GoldenSet::from_npz(&request.golden_npz.bytes).map_err(golden_error)?;
        let golden = golden_set.encode().map_err(golden_error)?;
        let came = Form { kind: VariantKind::Onnx, model: onnx.clone(), golden: golden.clone() };
        let came = Packed::of(came, request.chunk_bytes)?;
        let attested = request.attestation.as_ref().map(|a| attested(a, onnx)).transpose()?;
        let (bundle, verified) = attested.unzip();
        let test = self_test_of(request);
        let tested = self_test(&test, request.rule, onnx, &golden)?;
        let made = health::make(&request.health, onnx, &golden_set, &test)?;
        let compiled = match request.compile {
            true => forms::compile(onnx, &golden_set, &golden, engine_rule(request.rule), &test),
            false => Compiled::not("it was imported as ONNX only"),
        };
        let why_not = compiled.why_not.unwrap_or_default();
        let mut packed = vec![came];
        if let Some(form) = compiled.form {
            packed.push(Packed::of(form, request.chunk_bytes)?);
        }
        let mut manifest = Manifest {
            model: model.clone(),
            version: version.clone(),
            counter,
            min_release: request.min_release.unwrap_or(previous),
            variants: packed.iter().map(|form| form.variant).collect(),
            golden: request.rule,
            golden_mismatch_accepted: None,
            attestations: heapless::Vec::new(),
            hardware: request.hardware.iter().take(HARDWARE_MAX).cloned().collect(),
            health: made.health,
        };
        let qnn = packed.iter().find(|form| form.variant.kind == VariantKind::Qnn);
        let qnn = qnn.map(|form| form.form.model.as_slice()).ok_or(why_not.as_str());
        let fits = fits(&manifest, &request.classes, qnn)?;
        if !tested.passed {
            match &request.accept_golden_mismatch {
                Some(reason) => manifest.golden_mismatch_accepted = Some(reason.clone()),
                None => return Err(CatalogError::Mismatch { figures: tested.figures }),
            }
        }
        let (inputs, outputs) = (golden_set.inputs(), golden_set.outputs());
        let bom = bom::write(&manifest, inputs, outputs, verified.as_ref(), &request.papers);
        let kinds = verified.iter().map(|v| (AttestationKind::ModelSigning, v.digest));
        let kinds = kinds.chain([(AttestationKind::BillOfMaterials, Digest::of(&bom))]);
        // Two of four.
        manifest.attestations = kinds.map(|(kind, digest)| Attestation { kind, digest }).collect();
        manifest.check()?;
        let mut buf = [0; MANIFEST_BYTES_MAX];
        let encoded = codec::encode(&manifest, &mut buf)
            .map_err(|e| CatalogError::Encode { what: "the manifest", max: e.max })?;
        let mut files: Vec<(&str, &[u8])> = vec![(MANIFEST, encoded), (BOM, &bom)];
        for form in &packed {
            form.files(&mut files);
        }
        files.extend(bundle.as_deref().map(|bundle| (BUNDLE, bundle)));
        let documents = request.papers.documents.iter();
        let documents: Vec<_> =
            documents.map(|d| (format!("{DOCUMENTS}/{}", d.name), d.bytes.as_slice())).collect();
        files.extend(documents.iter().map(|(name, bytes)| (name.as_str(), *bytes)));
        self.put_into_place(model, version, &files)?;
        let digest = Digest::of(encoded);
        Ok(ImportReport {
            release: CatalogRelease { dir, digest, manifest, envelope: None },
            golden: tested.figures,
            golden_passed: tested.passed,
            attestation: verified,
            latency_us: tested.latency_us,
            fits,
            notes: [compiled.notes, made.notes, unknown(request)].concat(),
        })
    }

    /// The release's counter and the one of the release before it.
    fn counters(&self, request: &ImportRequest) -> Result<(Counter, Counter), CatalogError> {
        let own = self.list()?;
        let own = own.iter().filter(|r| r.manifest.model == request.model);
        let highest = own.map(|r| r.manifest.counter).max().unwrap_or(0);
        let highest = highest.max(request.highest_published.unwrap_or(0));
        let next = highest.saturating_add(1);
        match request.counter {
            Some(counter) if counter <= highest => {
                Err(CatalogError::Counter { model: request.model.clone(), counter, highest, next })
            }
            Some(counter) => Ok((counter, highest)),
            None => Ok((next, highest)),
        }
    }

    /// Writes a release's files where they belong, all of them or none.
    pub(super) fn put_into_place(
        &self,
        model: &ModelName,
        version: &Version,
        files: &[(&str, &[u8])],
    ) -> Result<(), CatalogError> {
        let dir = self.release_dir(model, version);
        let parent = self.model_dir(model);
        create_dir(&parent)?;
        // A leading dot is no version that `list` would take for one.
        let tmp = parent.join(format!(".importing-{version}"));
        if tmp.exists() {
            fs::remove_dir_all(&tmp).map_err(io("remove", &tmp))?;
        }
        create_dir(&tmp)?;
        for (name, bytes) in files {
            let path = tmp.join(name);
            path.parent().map_or(Ok(()), create_dir)?;
            write(&path, bytes)?;
            path.parent().map_or(Ok(()), sync_dir)?;
        }
        fs::rename(&tmp, &dir).map_err(io("move into place", &dir))?;
        sync_dir(&parent)
    }
}

/// The classes that it names and that nothing is known of: a machine that finds room by itself, or a slip.
fn unknown(request: &ImportRequest) -> Vec<String> {
    let unknown = request.hardware.iter().filter(|class| !request.classes.contains_key(class));
    let note = |class: &HardwareClass| {
        format!(
            "nothing is known of what {class} has room for, so nothing was compared; a board's figures go into fleetway.toml as [hardware.{class}]"
        )
    };
    unknown.map(note).collect()
}

/// How a release fits each class that it may go to; `file` is its qnn form, or why it has none.
///
/// # Errors
/// [`CatalogError::Unfit`] if it does not fit one that it names. A release for any hardware is for
/// whatever it fits.
pub(super) fn fits(
    manifest: &Manifest,
    classes: &Classes,
    file: Result<&[u8], &str>,
) -> Result<Vec<Fit>, CatalogError> {
    let artifacts = manifest.variant(VariantKind::Qnn).map(|v| (v.model, v.golden));
    let load = file.map(|file| Load { file, artifacts });
    let may_go = classes.iter().filter(|(class, _)| manifest.is_for(Some(class)));
    let fits: Vec<Fit> = may_go.map(|(class, room)| fit::judge(class, room, load)).collect();
    let unfit: Vec<_> = fits.iter().filter(|fit| !fit.fits).map(Fit::to_string).collect();
    if manifest.hardware.is_empty() || unfit.is_empty() {
        return Ok(fits);
    }
    let (model, version) = (manifest.model.clone(), manifest.version.clone());
    Err(CatalogError::Unfit { model, version, how: unfit.join("; ") })
}

/// A form as it is put into the catalog: cut into chunks and named.
struct Packed {
    form: Form,
    variant: Variant,
    model_chunks: Vec<u8>,
    golden_chunks: Vec<u8>,
}

impl Packed {
    fn of(form: Form, chunk_bytes: Option<u32>) -> Result<Self, CatalogError> {
        // A microcontroller takes a chunk into memory, and a sector of its flash.
        let small = |bytes: &[u8]| {
            if bytes.len() <= MCU_BYTES_MAX { MCU_CHUNK_BYTES } else { CHUNK_BYTES_DEFAULT }
        };
        let model_chunk = match form.kind {
            VariantKind::Qnn => small(&form.model),
            VariantKind::Onnx | VariantKind::Mixed => CHUNK_BYTES_DEFAULT,
        };
        // The same for every form: two may have the same vectors, and a file is cut in one way.
        let golden_chunk = small(&form.golden);
        let (model, model_chunks) = artifact_of(&form.model, chunk_bytes.unwrap_or(model_chunk))?;
        let (golden, golden_chunks) =
            artifact_of(&form.golden, chunk_bytes.unwrap_or(golden_chunk))?;
        let variant = Variant { kind: form.kind, model, golden };
        Ok(Self { form, variant, model_chunks, golden_chunks })
    }

    /// Adds its files; those that another form has already are the same.
    fn files<'a>(&'a self, files: &mut Vec<(&'a str, &'a [u8])>) {
        let names = forms::names(self.form.kind);
        let own: [(&str, &[u8]); 4] = [
            (names.model, &self.form.model),
            (names.golden, &self.form.golden),
            (names.model_chunks, &self.model_chunks),
            (names.golden_chunks, &self.golden_chunks),
        ];
        for (name, bytes) in own {
            if !files.iter().any(|(other, _)| *other == name) {
                files.push((name, bytes));
            }
        }
    }
}

/// The artifact that these bytes are, and its chunk list.
pub(super) fn artifact_of(
    bytes: &[u8],
    chunk_bytes: u32,
) -> Result<(Artifact, Vec<u8>), CatalogError> {
    // `read` holds files below the bound, which is below u32's.
    let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let mut artifact = Artifact {
        digest: Digest::of(bytes),
        bytes: len,
        chunk_bytes,
        chunk_list: Digest([0; 32]),
    };
    artifact.check()?;
    let chunks: Vec<u8> =
        bytes.chunks(chunk_bytes as usize).flat_map(|c| Digest::of(c).0).collect();
    artifact.chunk_list = Digest::of(&chunks);
    Ok((artifact, chunks))
}

/// A bundle that vouches for the model: its bytes, and what it says.
fn attested(
    request: &AttestationRequest,
    onnx: &[u8],
) -> Result<(Vec<u8>, attest::Verified), CatalogError> {
    let wrong = |path: &Path| {
        let path = path.to_owned();
        move |source| CatalogError::Attestation { path, source }
    };
    let pem = read(&request.key, KEY_BYTES_MAX as u64)?;
    let key = AttestationKey::from_pem(&String::from_utf8_lossy(&pem));
    let key = key.map_err(wrong(&request.key))?;
    let bundle = read(&request.bundle, BUNDLE_BYTES_MAX as u64)?;
    let verified = attest::bundle::verify(&bundle, &key, onnx).map_err(wrong(&request.bundle))?;
    Ok((bundle, verified))
}

fn engine_rule(rule: GoldenRule) -> EngineRule {
    EngineRule { max_abs_err: rule.abs_err_max, require_same_top1: rule.same_top1 }
}

/// Where the candidate can do no harm.
fn self_test_of(request: &ImportRequest) -> SelfTest {
    SelfTest {
        deadline: Duration::from_millis(u64::from(request.self_test_ms_max)),
        memory_bytes: u64::from(request.self_test_mib_max) << 20,
        ..SelfTest::with_exe(request.self_test_exe.clone())
    }
}

/// Loads and runs the candidate there.
fn self_test(
    test: &SelfTest,
    rule: GoldenRule,
    onnx: &[u8],
    golden: &[u8],
) -> Result<Tested, CatalogError> {
    match test.run(Candidate::onnx(onnx), golden, engine_rule(rule)) {
        Ok(report) => Ok(Tested {
            figures: report.golden.to_string(),
            passed: report.golden.passed,
            latency_us: Some(report.run_us_p50),
        }),
        Err(SelfTestError::Golden { verdict }) => {
            Ok(Tested { figures: verdict.to_string(), passed: false, latency_us: None })
        }
        Err(source) => Err(CatalogError::SelfTest { source }),
    }
}
