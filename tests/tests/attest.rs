//! Attestations against programs that are not ours: the reference signer of OpenSSF Model Signing
//! makes the bundles, and the official schema of CycloneDX judges the bill of materials.
//!
//! Both are Python packages, put into a virtual environment at the first run. Where that cannot be
//! done the test fails and says so: nothing is skipped.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use fleetway_tests::harness::controller::golden_of;
use fleetway_tests::harness::digits::model_dir;
use fleetway_tests::harness::{Cli, Controller};
use serde_json::Value;
use tempfile::TempDir;

/// Exit code of `fleetway` for what cannot be trusted.
const TRUST: i32 = 7;
/// Names of curves as the signer and `openssl` know them.
const CURVES: [(&str, &str); 3] =
    [("p256", "SECP256R1"), ("p384", "SECP384R1"), ("p521", "SECP521R1")];

fn python(code: &str, args: &[&Path]) -> Result<String> {
    let program = fleetway_tests::python::papers()?;
    let output = Command::new(program).arg("-c").arg(code).args(args).output();
    let output = output.with_context(|| program.display().to_string())?;
    if !output.status.success() {
        bail!("python: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

const MAKE_KEYS: &str = "
import sys
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives import serialization as s
name, curve, dir = sys.argv[1], sys.argv[2], sys.argv[3]
key = ec.generate_private_key(getattr(ec, curve)())
open(f'{dir}/{name}.key', 'wb').write(key.private_bytes(
    s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption()))
open(f'{dir}/{name}.pem', 'wb').write(key.public_key().public_bytes(
    s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo))
";

const SIGN: &str = "
import sys
from pathlib import Path
import model_signing
model, key, bundle = (Path(word) for word in sys.argv[1:4])
model_signing.signing.Config().use_elliptic_key_signer(private_key=key).sign(model, bundle)
";

const VALIDATE: &str = "
import sys
from cyclonedx.validation.json import JsonStrictValidator
from cyclonedx.schema import SchemaVersion
wrong = JsonStrictValidator(SchemaVersion.V1_6).validate_str(open(sys.argv[1]).read())
sys.exit(repr(wrong) if wrong else 0)
";

#[tokio::test]
async fn bundles_of_the_reference_signer_vouch_and_the_bom_is_valid() {
    attested().await.unwrap();
}

async fn attested() -> Result<()> {
    let dir = TempDir::new()?;
    let controller = Controller::init(dir.path(), None, false).await?;
    let cli = &controller.cli;
    let model = dir.path().join("model");
    std::fs::create_dir(&model)?;
    let onnx = model.join("digits.onnx");
    std::fs::copy(model_dir().join("digits-v1.onnx"), &onnx)?;
    std::fs::write(model.join("labels.txt"), "0 1 2 3 4 5 6 7 8 9")?;
    for (name, curve) in CURVES {
        python(MAKE_KEYS, &[Path::new(name), Path::new(curve), dir.path()])?;
        let file = |ending: &str| dir.path().join(format!("{name}.{ending}"));
        python(SIGN, &[&model, &file("key"), &file("json")])?;
        let bundle = (file("json"), file("pem"));
        let imported = import(cli, &onnx, name, &bundle).await?;
        let said = imported["attestation"].as_str().context("no attestation")?;
        ensure!(said.contains("\"digits.onnx\"") && said.contains("1 other"), "{said}");
        check_export(cli, dir.path(), name, &bundle.0).await?;
    }
    // Another key, and another model.
    let bundle = (dir.path().join("p256.json"), dir.path().join("p384.pem"));
    refused(cli, &onnx, &bundle, "not one of the given key").await?;
    let bundle = (dir.path().join("p256.json"), dir.path().join("p256.pem"));
    let other = model_dir().join("digits-v2.onnx");
    refused(cli, &other, &bundle, "vouches for other bytes").await
}

fn line(onnx: &Path, version: &str, (bundle, key): &(PathBuf, PathBuf)) -> String {
    format!(
        "model import '{}' --name digits --version {version} --golden '{}' --attestation '{}' --attestation-key '{}'",
        onnx.display(),
        golden_of("digits-v1").display(),
        bundle.display(),
        key.display()
    )
}

async fn import(
    cli: &Cli,
    onnx: &Path,
    version: &str,
    bundle: &(PathBuf, PathBuf),
) -> Result<Value> {
    cli.json(&line(onnx, version, bundle)).await
}

async fn refused(cli: &Cli, onnx: &Path, bundle: &(PathBuf, PathBuf), says: &str) -> Result<()> {
    let done = cli.run(&line(onnx, "bad", bundle)).await?.expect_code(TRUST)?;
    ensure!(done.stderr.contains(says), "{}", done.stderr);
    Ok(())
}

/// What is exported is what was imported, its papers are valid, and no byte of them can change.
async fn check_export(cli: &Cli, dir: &Path, version: &str, bundle: &Path) -> Result<()> {
    cli.ok(&format!("model sign digits@{version}")).await?;
    let to = dir.join(format!("out-{version}"));
    cli.ok(&format!("model export digits@{version} --dir '{}'", to.display())).await?;
    let read = |name: &str| std::fs::read(to.join(name)).with_context(|| name.to_owned());
    ensure!(read("model.onnx")? == std::fs::read(model_dir().join("digits-v1.onnx"))?, "model");
    ensure!(read("attestation.sigstore.json")? == std::fs::read(bundle)?, "bundle");
    ensure!(!read("manifest.bin")?.is_empty() && !read("release.env")?.is_empty(), "manifest");
    python(VALIDATE, &[&to.join("bom.cdx.json")])?;
    let bom: Value = serde_json::from_slice(&read("bom.cdx.json")?)?;
    let subject = &bom["metadata"]["component"];
    ensure!(subject["type"] == "machine-learning-model" && subject["version"] == version, "{bom}");
    let digest = fleetway_protocol::ids::Digest::of(&read("model.onnx")?).to_string();
    ensure!(subject["hashes"][0]["content"] == digest.as_str(), "{bom}");
    // The digest of the bill is signed: a changed one does not leave the catalog.
    let again = dir.join(format!("again-{version}"));
    let stored = find(dir, version)?;
    let text = std::fs::read_to_string(&stored)?;
    std::fs::write(&stored, text.replace("digits", "digitz"))?;
    let line = format!("model export digits@{version} --dir '{}'", again.display());
    let done = cli.run(&line).await?.expect_code(TRUST)?;
    ensure!(done.stderr.contains("bom.cdx.json"), "{}", done.stderr);
    std::fs::write(&stored, text)?;
    Ok(())
}

fn find(dir: &Path, version: &str) -> Result<PathBuf> {
    let entries = std::fs::read_dir(dir)?.filter_map(|entry| Some(entry.ok()?.path()));
    let boms = entries.map(|data| data.join("catalog/digits").join(version).join("bom.cdx.json"));
    boms.into_iter().find(|path| path.is_file()).context("no catalog")
}
