//! An artifact of other tools, as files in a directory: layers of one file each (`.raw`), and layers
//! that are a tar, plain or gzipped. What comes of it is opened like any other directory.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use fleetway_protocol::limits::ARTIFACT_BYTES_MAX;
use serde::Deserialize;

use super::{
    Artifact, CONFIG_BYTES_MAX, Descriptor, FETCHED_BYTES_MAX, MODEL_CONFIG, Manifest, OciError,
};
use crate::catalog::source::{Papers, is_below};

/// Files that one layer may hold.
const FILES_MAX: usize = 1024;

/// What is read of a ModelPack configuration.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Config {
    descriptor: About,
    config: Technical,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct About {
    name: Option<String>,
    version: Option<String>,
    family: Option<String>,
    vendor: Option<String>,
    revision: Option<String>,
    #[serde(rename = "sourceURL")]
    source_url: Option<String>,
    created_at: Option<String>,
    licenses: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Technical {
    format: Option<String>,
    architecture: Option<String>,
    precision: Option<String>,
    quantization: Option<String>,
}

/// Writes the files of an artifact into `dir`, which is new; says which layers were left out.
///
/// # Errors
/// [`OciError`]; what was written before is the caller's to remove.
pub fn unpack(artifact: &Artifact, dir: &Path) -> Result<Vec<String>, OciError> {
    let manifest = artifact.read()?;
    let mut notes = Vec::new();
    let mut left = FETCHED_BYTES_MAX;
    for layer in &manifest.layers {
        if !artifact.blobs.contains_key(&layer.sha256()?) {
            continue; // too large: whoever fetched it said so
        }
        let bytes = artifact.blob(layer)?;
        let kind = layer.media_type.rsplit_once('.').map_or("", |(_, kind)| kind);
        match kind {
            "tar" => untar(layer, bytes, dir, &mut left)?,
            "tar+gzip" => untar(layer, flate2::read::GzDecoder::new(bytes), dir, &mut left)?,
            "tar+zstd" | "tar+lz4" => {
                notes.push(format!("{} is left out: {kind} is not read", layer.what()));
            }
            _ => match layer.name() {
                Some(name) => write(layer, name, bytes, dir, &mut left)?,
                None => notes.push(format!("{} is left out: it has no name", layer.what())),
            },
        }
    }
    Ok(notes)
}

/// Adds what an artifact says of itself; a configuration that does not read is told.
pub fn annotate(artifact: &Artifact, manifest: &Manifest, papers: &mut Papers) -> Option<String> {
    papers.note("oci:digest", &format!("sha256:{}", artifact.digest()));
    for (name, value) in &manifest.annotations {
        papers.note(&format!("oci:{name}"), value);
    }
    if manifest.config.media_type != MODEL_CONFIG || manifest.config.size > CONFIG_BYTES_MAX {
        return None;
    }
    match artifact.blob(&manifest.config).map(read_config) {
        Ok(Ok(facts)) => {
            for (name, value) in facts {
                papers.note(&format!("modelpack:{name}"), &value.unwrap_or_default());
            }
            None
        }
        Ok(Err(error)) => Some(format!("the model's configuration is not read: {error}")),
        Err(error) => Some(error.to_string()),
    }
}

type Fact = (&'static str, Option<String>);

/// The facts of a ModelPack configuration.
///
/// # Errors
/// The parser's sentence.
pub fn read_config(bytes: &[u8]) -> Result<Vec<Fact>, String> {
    let Config { descriptor, config } =
        serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let licenses = Some(descriptor.licenses.join(", "));
    Ok(vec![
        ("name", descriptor.name),
        ("version", descriptor.version),
        ("family", descriptor.family),
        ("vendor", descriptor.vendor),
        ("revision", descriptor.revision),
        ("source", descriptor.source_url),
        ("created", descriptor.created_at),
        ("licenses", licenses),
        ("format", config.format),
        ("architecture", config.architecture),
        ("precision", config.precision),
        ("quantization", config.quantization),
    ])
}

/// The plain files of a tar. Links and devices are nothing that a model needs.
fn untar(layer: &Descriptor, bytes: impl Read, dir: &Path, left: &mut u64) -> Result<(), OciError> {
    let broken = |error: std::io::Error| OciError::Form {
        what: layer.what(),
        detail: format!("its tar is cut or damaged ({error})"),
    };
    // A bomb ends here, whether it is in the gzip or in a header.
    let mut tar = tar::Archive::new(bytes.take(FETCHED_BYTES_MAX));
    for (at, entry) in tar.entries().map_err(broken)?.enumerate() {
        let mut entry = entry.map_err(broken)?;
        if at >= FILES_MAX {
            return Err(OciError::TooLarge {
                what: layer.what(),
                max: FILES_MAX as u64,
                unit: "files",
            });
        }
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let name = name.trim_start_matches("./");
        match entry.header().entry_type() {
            tar::EntryType::Directory => continue,
            tar::EntryType::Regular => {}
            _ => return Err(outside(layer, name)),
        }
        let mut bytes = Vec::new();
        let max = (*left).min(u64::from(ARTIFACT_BYTES_MAX));
        (&mut entry).take(max + 1).read_to_end(&mut bytes).map_err(broken)?;
        if bytes.len() as u64 > max {
            return Err(OciError::TooLarge { what: layer.what(), max, unit: "bytes" });
        }
        write(layer, name, &bytes, dir, left)?;
    }
    Ok(())
}

/// Writes one file below `dir`, under a name that was checked. Nothing is written over.
fn write(
    layer: &Descriptor,
    name: &str,
    bytes: &[u8],
    dir: &Path,
    left: &mut u64,
) -> Result<(), OciError> {
    if !is_below(name) {
        return Err(outside(layer, name));
    }
    let rest = left.checked_sub(bytes.len() as u64);
    *left = rest.ok_or_else(|| OciError::TooLarge {
        what: "the artifact".to_owned(),
        max: FETCHED_BYTES_MAX,
        unit: "bytes",
    })?;
    let path: PathBuf = dir.join(name);
    let io = |doing| {
        let path = path.clone();
        move |source| OciError::Io { doing, path, source }
    };
    path.parent().map_or(Ok(()), fs::create_dir_all).map_err(io("create the directory of"))?;
    let mut file = fs::File::create_new(&path).map_err(io("create"))?;
    std::io::Write::write_all(&mut file, bytes).map_err(io("write"))
}

fn outside(layer: &Descriptor, name: &str) -> OciError {
    OciError::Outside { what: layer.what(), named: name.chars().take(200).collect() }
}
