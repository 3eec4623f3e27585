//! What `hf download --local-dir` leaves, or any directory with ONNX files: `onnx/model.onnx`, its
//! quantized siblings, `config.json`, and a model card with YAML at its head.
//!
//! No network here: who downloads, and with which rights, is the operator's affair. The revision is
//! read from the notes that `hf` keeps in `.cache/huggingface/`.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::{
    Candidate, DOCUMENT_BYTES_MAX, Document, Given, Papers, SourceError, golden, inside, model,
    yaml,
};

/// The model card.
const CARD: &str = "README.md";
/// The model's configuration.
const CONFIG: &str = "config.json";
/// Other documents that are kept.
const DOCUMENTS: [&str; 5] = [
    "LICENSE",
    "LICENSE.txt",
    "preprocessor_config.json",
    "generation_config.json",
    "quantize_config.json",
];
/// Levels of directories that are looked through; repositories have two.
const DEPTH_MAX: usize = 4;
/// Entries that are looked at: a repository has some hundred files.
const ENTRIES_MAX: usize = 10_000;
/// Bytes of one of `hf`'s notes: three short lines.
const NOTE_BYTES_MAX: u64 = 4096;

/// Adds what a document says.
type Reader = fn(&[u8], &mut Papers) -> Result<(), String>;

/// What is read at the head of a model card.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Card {
    license: Option<Value>,
    base_model: Option<Value>,
    pipeline_tag: Option<Value>,
    library_name: Option<Value>,
}

/// What is read of `config.json`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Config {
    model_type: Option<Value>,
    architectures: Option<Value>,
    _name_or_path: Option<Value>,
}

/// Opens such a directory.
///
/// # Errors
/// [`SourceError`]; where there are several ONNX files and none was chosen, their names.
pub fn open(dir: &Path, chosen: Option<&str>) -> Result<Candidate, SourceError> {
    let name = choose(dir, chosen)?;
    let mut notes = Vec::new();
    let onnx = model(&inside(dir, dir, &name)?, &mut notes)?;
    let mut papers = Papers::default();
    papers.note("source:file", &name);
    papers.note("huggingface:revision", &revision(dir, &name).unwrap_or_default());
    let readers: [(&str, Reader); 2] = [(CARD, read_card), (CONFIG, read_config)];
    for (name, read) in readers {
        let Some(Document { bytes, .. }) = papers.keep(dir, name, &mut notes).cloned() else {
            continue;
        };
        if let Err(error) = read(&bytes, &mut papers) {
            notes.push(format!("{name} is kept, and not read: {error}"));
        }
    }
    for name in DOCUMENTS {
        papers.keep(dir, name, &mut notes);
    }
    let golden = golden(&onnx.path)?;
    Ok(Candidate { kind: "a directory with ONNX files", onnx, golden, papers, notes })
}

/// The one ONNX file, or the one that was chosen.
fn choose(dir: &Path, chosen: Option<&str>) -> Result<String, SourceError> {
    let mut found = Vec::new();
    let mut seen = 0;
    collect(dir, PathBuf::new(), &mut seen, &mut found)?;
    found.sort();
    let path = dir.to_owned();
    match (chosen, found.as_slice()) {
        (_, []) => {
            let hint = "export the model to ONNX first, or download the files that end in .onnx";
            Err(SourceError::NoModel { path, hint })
        }
        (None, [one]) => Ok(one.clone()),
        (None, _) => Err(SourceError::Several { path, found }),
        (Some(chosen), _) => match found.iter().any(|name| name == chosen) {
            true => Ok(chosen.to_owned()),
            false => Err(SourceError::NotThere { path, chosen: chosen.to_owned(), found }),
        },
    }
}

/// Paths of ONNX files below `dir`. Hidden directories are `hf`'s and git's own; links to
/// directories are not followed.
fn collect(
    dir: &Path,
    below: PathBuf,
    seen: &mut usize,
    found: &mut Vec<String>,
) -> Result<(), SourceError> {
    let here = dir.join(&below);
    let io = |doing| super::io(doing, &here);
    for entry in fs::read_dir(&here).map_err(io("list"))? {
        let entry = entry.map_err(io("list"))?;
        *seen += 1;
        if *seen > ENTRIES_MAX {
            let detail = format!(
                "it has more than {ENTRIES_MAX} entries; name the directory of the model, or its file"
            );
            return Err(SourceError::Unreadable { path: dir.to_owned(), detail });
        }
        let name = entry.file_name().to_string_lossy().into_owned();
        let kind = entry.file_type().map_err(io("look at"))?;
        let path = below.join(&name);
        if kind.is_dir() && !name.starts_with('.') && path.components().count() < DEPTH_MAX {
            collect(dir, path, seen, found)?;
        } else if !kind.is_dir() && name.ends_with(".onnx") {
            found.push(path.to_string_lossy().into_owned());
        }
    }
    Ok(())
}

/// The commit that `hf download` noted for a file.
fn revision(dir: &Path, name: &str) -> Option<String> {
    let note = dir.join(format!(".cache/huggingface/download/{name}.metadata"));
    let note = Given::read(&note, NOTE_BYTES_MAX).ok()?;
    let line = String::from_utf8(note.bytes).ok()?.lines().next()?.trim().to_owned();
    let is_commit = line.len() == 40 && line.bytes().all(|b| b.is_ascii_hexdigit());
    is_commit.then_some(line)
}

/// Adds what the YAML at the head of a model card says.
///
/// # Errors
/// The parser's sentence.
pub fn read_card(bytes: &[u8], papers: &mut Papers) -> Result<(), String> {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(DOCUMENT_BYTES_MAX as usize)]);
    let head = text.strip_prefix("---\n").and_then(|rest| rest.split_once("\n---"));
    let Some((head, _)) = head else { return Ok(()) };
    let card: Card = yaml(head.as_bytes())?;
    let facts = [
        ("license", card.license),
        ("base_model", card.base_model),
        ("pipeline_tag", card.pipeline_tag),
        ("library_name", card.library_name),
    ];
    note_all(facts, papers);
    Ok(())
}

/// Adds what `config.json` says.
///
/// # Errors
/// The parser's sentence.
pub fn read_config(bytes: &[u8], papers: &mut Papers) -> Result<(), String> {
    let config: Config = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let facts = [
        ("model_type", config.model_type),
        ("architectures", config.architectures),
        ("name_or_path", config._name_or_path),
    ];
    note_all(facts, papers);
    Ok(())
}

/// Notes texts, and lists of texts with commas between.
fn note_all<const N: usize>(facts: [(&str, Option<Value>); N], papers: &mut Papers) {
    for (name, value) in facts {
        let text = match value {
            Some(Value::String(text)) => text,
            Some(Value::Array(all)) => {
                let texts: Vec<&str> = all.iter().filter_map(Value::as_str).collect();
                texts.join(", ")
            }
            _ => continue,
        };
        papers.note(&format!("huggingface:{name}"), &text);
    }
}
