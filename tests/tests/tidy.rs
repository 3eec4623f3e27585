//! What the compiler does not hold: the crate graph, `no_std`, and that no file grew past
//! what a reader takes in.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Lines above which a file has a second reason to change. Tests are read too, and split by
/// what they are about.
const LINES_MAX: usize = 450;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_path_buf()
}

/// Which of our crates each of our crates depends on, development dependencies included.
fn graph() -> BTreeMap<String, Vec<String>> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let text = |value: &serde_json::Value| value.as_str().expect("a string").to_owned();
    packages
        .iter()
        .map(|package| {
            let dependencies = package["dependencies"].as_array().expect("dependencies").iter();
            let ours = dependencies
                .map(|d| text(&d["name"]))
                .filter(|name| name.starts_with("fleetway-"))
                .collect();
            (text(&package["name"]), ours)
        })
        .collect()
}

#[test]
fn the_crate_graph_is_the_one_in_architecture_md() {
    let allowed: BTreeMap<&str, &[&str]> = [
        ("fleetway-protocol", &[][..]),
        ("fleetway-link", &[]),
        ("fleetway-tuf", &["fleetway-protocol"]),
        ("fleetway-engine", &["fleetway-protocol", "fleetway-qnn"]),
        ("fleetway-qnn", &[]),
        ("fleetway-qnnc", &["fleetway-qnn"]),
        (
            "fleetway-firmware",
            &["fleetway-protocol", "fleetway-qnn", "fleetway-qnnc", "fleetway-emulator"],
        ),
        ("fleetway-emulator", &["fleetway-firmware", "fleetway-protocol", "fleetway-qnn"]),
        (
            "fleetway-agent",
            &["fleetway-protocol", "fleetway-link", "fleetway-tuf", "fleetway-engine"],
        ),
        ("fleetway-ffi", &["fleetway-agent"]),
        (
            "fleetway-controller",
            &[
                "fleetway-protocol",
                "fleetway-link",
                "fleetway-tuf",
                "fleetway-engine",
                "fleetway-qnn",
                "fleetway-qnnc",
            ],
        ),
        ("xtask", &[]),
    ]
    .into();
    let graph = graph();
    assert!(graph.contains_key("fleetway-tests"), "{graph:?}");
    for (name, dependencies) in graph.iter().filter(|(name, _)| *name != "fleetway-tests") {
        let allowed = allowed.get(name.as_str());
        let allowed = allowed.unwrap_or_else(|| panic!("{name} has no place in ARCHITECTURE.md"));
        for dependency in dependencies {
            assert!(allowed.contains(&dependency.as_str()), "{name} must not use {dependency}");
        }
    }
}

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && !name.starts_with('.') && !name.starts_with("target") {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn files_are_readable_in_one_sitting_and_open_with_what_they_are_for() {
    let mut found = Vec::new();
    sources(&root(), &mut found);
    assert!(found.len() > 50, "only {} sources found", found.len());
    for path in found {
        let text = std::fs::read_to_string(&path).expect("text");
        let lines = text.lines().count();
        assert!(lines <= LINES_MAX, "{}: {lines} lines", path.display());
        assert!(text.starts_with("//!"), "{}: no page of why at its top", path.display());
    }
}

#[test]
fn protocol_needs_neither_std_nor_an_allocator() {
    let lib = std::fs::read_to_string(root().join("protocol/src/lib.rs")).expect("text");
    assert!(lib.contains("#![no_std]") && lib.contains("#![forbid(unsafe_code)]"));
    assert!(!lib.contains("extern crate alloc"));
    // The runtime has unsafe code, in its kernels alone.
    let lib = std::fs::read_to_string(root().join("protocol/qnn/src/lib.rs")).expect("text");
    assert!(lib.contains("#![no_std]") && lib.contains("#![deny(unsafe_code)]"));
    assert!(!lib.contains("extern crate alloc"));
    let mut found = Vec::new();
    sources(&root().join("protocol/qnn/src"), &mut found);
    let vectors = |path: &Path| {
        let dirs = ["/kernels/x86/", "/kernels/aarch64/"];
        let name = path.to_string_lossy();
        dirs.iter().any(|dir| name.contains(dir)) || path.ends_with("kernels/dsp.rs")
    };
    for path in found.iter().filter(|path| !vectors(path)) {
        let text = std::fs::read_to_string(path).expect("text");
        assert!(!text.contains("unsafe {"), "{} is no kernel of a vector set", path.display());
    }
}
