//! Makes what other languages need of the library: `header OUT` writes the C header, `bindings LIBRARY
//! DIR` Kotlin, Swift and Python for a built shared library.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use camino::Utf8PathBuf;
use uniffi_bindgen::BindgenPaths;
use uniffi_bindgen::bindings::{GenerateOptions, TargetLanguage, generate_with_bindgen_paths};

const USAGE: &str = "usage: generate header OUT | generate bindings LIBRARY DIR";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["header", out] => header(Path::new(out)),
        ["bindings", library, dir] => bindings(library, dir),
        _ => Err(anyhow::anyhow!(USAGE)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The library's crate.
fn ffi() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

fn header(out: &Path) -> Result<()> {
    let config = cbindgen::Config::from_file(ffi().join("cbindgen.toml"))
        .map_err(|error| anyhow::anyhow!("cbindgen.toml: {error}"))?;
    // File by file, not by crate: what is exported is in these three, and cargo need not be asked.
    let sources = ["src/code.rs", "src/value.rs", "src/c.rs"];
    let builder = sources
        .iter()
        .fold(cbindgen::Builder::new(), |builder, source| builder.with_src(ffi().join(source)));
    let bindings = builder.with_config(config).generate().context("the header")?;
    let mut text = Vec::new();
    bindings.write(&mut text);
    std::fs::write(out, text).with_context(|| out.display().to_string())
}

fn bindings(library: &str, dir: &str) -> Result<()> {
    let config = Utf8PathBuf::from_path_buf(ffi().join("uniffi.toml"));
    let Ok(config) = config else { bail!("the path of this repository is not UTF-8") };
    for (language, name) in [
        (TargetLanguage::Kotlin, "kotlin"),
        (TargetLanguage::Swift, "swift"),
        (TargetLanguage::Python, "python"),
    ] {
        let options = GenerateOptions {
            languages: vec![language],
            source: library.into(),
            out_dir: Utf8PathBuf::from(dir).join(name),
            config_override: Some(config.clone()),
            format: false,
            ..GenerateOptions::default()
        };
        generate_with_bindgen_paths(options, BindgenPaths::default()).context(name)?;
    }
    Ok(())
}
