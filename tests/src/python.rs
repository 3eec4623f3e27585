//! Python with python-tuf, and one with the signer of OpenSSF Model Signing and the schema of
//! CycloneDX (they want another tuf), for the tests that let programs of others judge ours.
//!
//! It is prepared once, in a virtual environment under the target directory. Where that cannot
//! be done the test fails and says how to get it; it is never skipped.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context as _, Result, ensure};

/// What is installed: the versions that the official conformance suite asks for.
const PACKAGES: [&str; 2] = ["tuf==7.0.0", "securesystemslib[crypto]==1.4.0"];
const HOW: &str = "Python packages are needed: install Python 3.10 or newer with venv and pip (Debian: \
                   `apt-get install python3 python3-venv`) and let pip reach a package index";

/// What reads and makes a model's papers.
const PAPERS: [&str; 3] =
    ["model-signing==1.1.1", "pyopenssl", "cyclonedx-python-lib[json-validation]==11.12.0"];

/// The interpreter that signs models and validates bills of materials.
///
/// # Errors
/// If it cannot be prepared, with what to install.
pub fn papers() -> Result<&'static Path> {
    static PYTHON: OnceLock<std::result::Result<PathBuf, String>> = OnceLock::new();
    let prepared = PYTHON
        .get_or_init(|| prepare("python-papers-1", &PAPERS).map_err(|error| format!("{error:#}")));
    prepared.as_deref().map_err(|error| anyhow::anyhow!("{error}"))
}

/// NVIDIA's client of the Open Inference Protocol, with everything that it can do.
const TRITON: [&str; 1] = ["tritonclient[all]==2.73.0"];

/// The interpreter that has tritonclient.
///
/// # Errors
/// If it cannot be prepared, with what to install.
pub fn triton() -> Result<&'static Path> {
    static PYTHON: OnceLock<std::result::Result<PathBuf, String>> = OnceLock::new();
    let prepared = PYTHON.get_or_init(|| {
        prepare("python-triton-2.73.0", &TRITON).map_err(|error| format!("{error:#}"))
    });
    prepared.as_deref().map_err(|error| anyhow::anyhow!("{error}"))
}

/// The JSON Schema validator that most people use.
const SCHEMA: [&str; 1] = ["jsonschema==4.25.1"];

/// Validates messages, one `{"topic": ..., "payload": ...}` a line, against the shipped schemas; what the
/// script counted.
///
/// # Errors
/// If a message is not as its schema says, with both.
pub fn validate_telemetry(messages: &Path) -> Result<String> {
    static PYTHON: OnceLock<std::result::Result<PathBuf, String>> = OnceLock::new();
    let prepared = PYTHON.get_or_init(|| {
        prepare("python-schema-4.25.1", &SCHEMA).map_err(|error| format!("{error:#}"))
    });
    let python = prepared.as_deref().map_err(|error| anyhow::anyhow!("{error}"))?;
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let schemas = here.parent().context("a workspace")?.join("docs/telemetry");
    run(Command::new(python).arg(here.join("python/telemetry.py")).arg(schemas).arg(messages))
}

/// What tries an API by its OpenAPI document.
const SCHEMATHESIS: [&str; 1] = ["schemathesis==4.32.5"];

/// The interpreter that has schemathesis.
///
/// # Errors
/// If it cannot be prepared, with what to install.
pub fn schemathesis() -> Result<&'static Path> {
    static PYTHON: OnceLock<std::result::Result<PathBuf, String>> = OnceLock::new();
    let prepared = PYTHON.get_or_init(|| {
        prepare("python-schemathesis-4.32.5", &SCHEMATHESIS).map_err(|error| format!("{error:#}"))
    });
    prepared.as_deref().map_err(|error| anyhow::anyhow!("{error}"))
}

/// OpenTelemetry's own messages.
const OTLP: [&str; 1] = ["opentelemetry-proto==1.45.2"];

/// An export request as OpenTelemetry's package reads it, as JSON; `coding` is `gzip` or nothing.
///
/// # Errors
/// If it does not read it.
pub fn otlp(body: &Path, coding: &str) -> Result<String> {
    static PYTHON: OnceLock<std::result::Result<PathBuf, String>> = OnceLock::new();
    let prepared = PYTHON
        .get_or_init(|| prepare("python-otlp-1.45.2", &OTLP).map_err(|error| format!("{error:#}")));
    let python = prepared.as_deref().map_err(|error| anyhow::anyhow!("{error}"))?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/otlp.py");
    run(Command::new(python).arg(script).arg(body).arg(coding))
}

/// What an application in Python has.
const NUMPY: [&str; 1] = ["numpy==2.3.4"];

/// The interpreter that has numpy and nothing else.
///
/// # Errors
/// If it cannot be prepared, with what to install.
pub fn numpy() -> Result<&'static Path> {
    static PYTHON: OnceLock<std::result::Result<PathBuf, String>> = OnceLock::new();
    let prepared = PYTHON.get_or_init(|| {
        prepare("python-numpy-2.3.4", &NUMPY).map_err(|error| format!("{error:#}"))
    });
    prepared.as_deref().map_err(|error| anyhow::anyhow!("{error}"))
}

/// What Home Assistant is written for.
const PYTHON_OF_HOME_ASSISTANT: &str = "python3.13";
const HOW_HOME_ASSISTANT: &str = "Home Assistant 2025.4.4 runs on CPython 3.13 only: put a `python3.13` with venv and pip in the \
                                  path (`pyenv install 3.13`, or Debian 13), and let pip reach a package index";

/// The interpreter that has Home Assistant's core and MQTT integration; `None`, and a line that says so,
/// where there is no CPython 3.13: Debian 12 has no package of it. What is published is held against Home
/// Assistant's rules in any case (`tests/home_assistant/rules.json`).
///
/// # Errors
/// If it cannot be prepared, with what to install.
pub fn home_assistant() -> Result<Option<PathBuf>> {
    let Some(base) = python_3_13() else {
        eprintln!("NOT RUN in Home Assistant itself: {HOW_HOME_ASSISTANT}");
        return Ok(None);
    };
    let wanted = Path::new(env!("CARGO_MANIFEST_DIR")).join("home_assistant/requirements.txt");
    let wanted = wanted.to_str().context("a path in UTF-8")?;
    // Exactly those of the file, so that nothing is built that it does not load.
    let packages = ["--no-deps", "--prefer-binary", "-r", wanted];
    prepare_by(&base, HOW_HOME_ASSISTANT, "python-home-assistant-2025.4.4", &packages).map(Some)
}

/// Of the path, or of pyenv, whose own one in the path runs only where it is switched on.
fn python_3_13() -> Option<PathBuf> {
    let pyenv = std::env::var_os("PYENV_ROOT").map(PathBuf::from);
    let pyenv = pyenv.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".pyenv")))?;
    let versions = std::fs::read_dir(pyenv.join("versions")).into_iter().flatten().flatten();
    let of_pyenv = versions.map(|entry| entry.path().join("bin").join(PYTHON_OF_HOME_ASSISTANT));
    let runs = |program: &PathBuf| {
        Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
    };
    std::iter::once(PathBuf::from(PYTHON_OF_HOME_ASSISTANT)).chain(of_pyenv).find(runs)
}

/// The interpreter that has python-tuf.
///
/// # Errors
/// If it cannot be prepared, with what to install.
pub fn python() -> Result<&'static Path> {
    static PYTHON: OnceLock<std::result::Result<PathBuf, String>> = OnceLock::new();
    let prepared = PYTHON.get_or_init(|| {
        prepare("python-tuf-7.0.0", &PACKAGES).map_err(|error| format!("{error:#}"))
    });
    prepared.as_deref().map_err(|error| anyhow::anyhow!("{error}"))
}

fn prepare(name: &str, packages: &[&str]) -> Result<PathBuf> {
    prepare_by(Path::new("python3"), HOW, name, packages)
}

fn prepare_by(base: &Path, how: &'static str, name: &str, packages: &[&str]) -> Result<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from).unwrap_or_else(|| {
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace").join("target")
    });
    let dir = target.join(name);
    let (python, ready) = (dir.join("bin/python"), dir.join("ready"));
    // Test programs may run at once: one of them prepares it, the others wait.
    let lock = std::fs::File::create(target.join(format!("{name}.lock")))?;
    lock.lock()?;
    if !ready.exists() {
        run(Command::new(base).args(["-m", "venv", "--clear"]).arg(&dir)).context(how)?;
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
        run(Command::new(&python).args(pip).args(packages)).context(how)?;
        std::fs::write(&ready, b"")?;
    }
    Ok(python)
}

/// Runs one of the scripts in `tests/python/`; what it prints.
///
/// # Errors
/// If it fails, with what it said.
pub fn script(name: &str, args: &[&std::ffi::OsStr]) -> Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("python").join(name);
    run(Command::new(python()?).arg(path).args(args))
}

fn run(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{command:?} does not start"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} failed: {said}");
    Ok(String::from_utf8(output.stdout)?)
}
