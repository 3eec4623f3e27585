//! What is generated is of now: the header in the repository, and bindings in three languages.

use anyhow::{Context as _, Result, ensure};
use fleetway_tests::library;

#[test]
fn the_header_is_the_one_that_the_code_makes() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let made = dir.path().join("fleetway_device.h");
    library::generate(&["header", made.to_str().context("a path")?])?;
    let made = std::fs::read_to_string(made)?;
    let kept = std::fs::read_to_string(library::source().join("include/fleetway_device.h"))?;
    ensure!(made == kept, "agent/ffi/include/fleetway_device.h is old: run `cargo xtask bindings`");
    // What a program in C relies on, by its number.
    for line in ["FLEETWAY_CODE_OK = 0", "FLEETWAY_CODE_BUG = 14", "FLEETWAY_TYPE_F32 = 1"] {
        ensure!(kept.contains(line), "no {line:?} in the header");
    }
    Ok(())
}

#[test]
fn kotlin_swift_and_python_have_all_of_it() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let library = library::shared()?.to_str().context("a path")?;
    library::generate(&["bindings", library, dir.path().to_str().context("a path")?])?;
    for (file, words) in [
        (
            "kotlin/fleetway/device/fleetway_device.kt",
            [
                "fun `infer`(",
                "fun `onModelChanged`(",
                "fun `status`(",
                "fun `open`(",
                "fun `stop`(",
            ],
        ),
        (
            "swift/FleetwayDevice.swift",
            ["func infer(", "func onModelChanged(", "func status(", "func `open`(", "func stop("],
        ),
        (
            "python/fleetway_device.py",
            ["def infer(", "def on_model_changed(", "def status(", "def open(", "def stop("],
        ),
    ] {
        let text = std::fs::read_to_string(dir.path().join(file)).context(file)?;
        for word in words {
            ensure!(text.contains(word), "no {word:?} in {file}");
        }
    }
    Ok(())
}
