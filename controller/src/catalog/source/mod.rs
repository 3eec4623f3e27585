//! Where a model comes from: what is found in other tools' files, before anything of it is believed.
//!
//! [`open`] looks at a path and says what it is: an ONNX file, an MLflow model ([`mlflow`]), or what
//! `hf download` leaves ([`huggingface`]). All give one [`Candidate`]: the bytes of one ONNX file, the
//! documents that belong to it, and facts by name. Documents and facts go into the release's bill of
//! materials, whose digest is signed; nothing decides by them.
//!
//! All of this was written by strangers: each reader has bounds, follows no link and never leaves
//! the directory that it was given.

pub mod huggingface;
pub mod mlflow;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Component, Path, PathBuf};

use fleetway_engine::external::External;
use fleetway_engine::limits::NPZ_BYTES_MAX;
use fleetway_protocol::limits::ARTIFACT_BYTES_MAX;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::ErrorKind;

/// Documents that are kept with a release: a model card, a licence, some configurations.
pub const DOCUMENTS_MAX: usize = 8;
/// Bytes of one document: model cards have some 20 KiB, the longest about 200.
pub const DOCUMENT_BYTES_MAX: u64 = 1 << 20;
/// Bytes of a document's name.
pub const DOCUMENT_NAME_BYTES_MAX: usize = 64;
/// Facts about a release's source.
pub const ANNOTATIONS_MAX: usize = 48;
/// Bytes of one fact: it stands in a bill of materials, where a person reads it.
pub const ANNOTATION_BYTES_MAX: usize = 1024;
/// Nodes of one YAML document, aliases followed: an `MLmodel` has about fifty.
const YAML_NODES_MAX: usize = 10_000;
/// Files that tensors lie in beside an ONNX file: exporters write one, or one for each tensor.
const EXTERNAL_FILES_MAX: usize = 4096;

/// A file's bytes, and what messages call it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// Where it was.
    pub path: PathBuf,
    /// All of it.
    pub bytes: Vec<u8>,
}

/// A document that came with the model and stays with the release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Its name: one component of `[A-Za-z0-9._-]`.
    pub name: String,
    /// Its bytes, at most [`DOCUMENT_BYTES_MAX`].
    pub bytes: Vec<u8>,
}

/// A fact about where a model comes from, by name: `mlflow:run_id`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Annotation {
    /// Which fact.
    pub name: String,
    /// As the source wrote it.
    pub value: String,
}

/// What came with a model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Papers {
    /// Documents, at most [`DOCUMENTS_MAX`].
    pub documents: Vec<Document>,
    /// Facts, at most [`ANNOTATIONS_MAX`].
    pub annotations: Vec<Annotation>,
}

/// What a source holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// What the source is, for people: "an MLflow model".
    pub kind: &'static str,
    /// The model in one file.
    pub onnx: Given,
    /// Golden vectors that lie beside it, under its name with `.golden.npz`.
    pub golden: Option<Given>,
    /// What came with it.
    pub papers: Papers,
    /// What whoever imports it should know, one sentence each.
    pub notes: Vec<String>,
}

/// Why nothing could be taken from a source.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A file could not be read.
    #[error("cannot {doing} {}; check the path and the permissions", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Over a bound.
    #[error("{} has more than {max} bytes, which is all that is taken", path.display())]
    TooLarge {
        /// Which file.
        path: PathBuf,
        /// The bound.
        max: u64,
    },
    /// Another tool's file that does not read.
    #[error("{}: {detail}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What is wrong, and the mend.
        detail: String,
    },
    /// No ONNX file.
    #[error("no ONNX file in {}; {hint}", path.display())]
    NoModel {
        /// Where was looked.
        path: PathBuf,
        /// What to do.
        hint: &'static str,
    },
    /// More than one.
    #[error("{} ONNX files in {}: {}; choose one with --file", found.len(), path.display(), found.join(", "))]
    Several {
        /// Where was looked.
        path: PathBuf,
        /// Their paths in it.
        found: Vec<String>,
    },
    /// The chosen file is none of the source's.
    #[error("{} has no ONNX file {chosen:?}; it has {}", path.display(), found.join(", "))]
    NotThere {
        /// Where was looked.
        path: PathBuf,
        /// What was asked for.
        chosen: String,
        /// What there is.
        found: Vec<String>,
    },
    /// A path that leads out of the source.
    #[error("{} names the file {named:?}, which is not inside of it: nothing was read", path.display())]
    Outside {
        /// The file with the name in it.
        path: PathBuf,
        /// The name.
        named: String,
    },
    /// A choice where there is nothing to choose.
    #[error("{} is one file; --file chooses among those of a directory or an artifact", path.display())]
    NothingToChoose {
        /// The file.
        path: PathBuf,
    },
}

impl SourceError {
    /// What kind of failure it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                ErrorKind::NotFound
            }
            Self::Io { .. } => ErrorKind::Unavailable,
            Self::NoModel { .. } | Self::NotThere { .. } => ErrorKind::NotFound,
            Self::Outside { .. } => ErrorKind::Trust,
            _ => ErrorKind::Usage,
        }
    }
}

/// Opens what lies at `path`. `chosen` is the path of one ONNX file in it, where there are several.
///
/// # Errors
/// [`SourceError`] says what it was not, and the way out.
pub fn open(path: &Path, chosen: Option<&str>) -> Result<Candidate, SourceError> {
    let about = fs::metadata(path).map_err(io("open", path))?;
    if !about.is_dir() {
        if chosen.is_some() {
            return Err(SourceError::NothingToChoose { path: path.to_owned() });
        }
        let mut notes = Vec::new();
        let onnx = model(path, &mut notes)?;
        let golden = golden(&onnx.path)?;
        let papers = Papers::default();
        return Ok(Candidate { kind: "an ONNX file", onnx, golden, papers, notes });
    }
    match path.join(mlflow::FILE).exists() {
        true => mlflow::open(path, chosen),
        false => huggingface::open(path, chosen),
    }
}

impl Given {
    /// Reads a file of at most `max` bytes.
    ///
    /// # Errors
    /// [`SourceError::Io`], [`SourceError::TooLarge`].
    pub fn read(path: &Path, max: u64) -> Result<Self, SourceError> {
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(io("open", path))?;
        file.take(max + 1).read_to_end(&mut bytes).map_err(io("read", path))?;
        if bytes.len() as u64 > max {
            return Err(SourceError::TooLarge { path: path.to_owned(), max });
        }
        Ok(Self { path: path.to_owned(), bytes })
    }
}

impl Papers {
    /// Adds a fact, cut to its bound; an empty one, or one too many, is left out.
    pub fn note(&mut self, name: &str, value: &str) {
        let value = value.trim();
        if value.is_empty() || self.annotations.len() >= ANNOTATIONS_MAX {
            return;
        }
        let end = value.floor_char_boundary(ANNOTATION_BYTES_MAX);
        let visible = |c: char| if c.is_control() { ' ' } else { c };
        let value = value[..end].chars().map(visible).collect();
        let name = name.chars().map(visible).take(ANNOTATION_BYTES_MAX / 4).collect();
        self.annotations.push(Annotation { name, value });
    }

    /// Keeps a document under its own name, if it is there and within the bounds; says so if not.
    fn keep(&mut self, dir: &Path, name: &str, notes: &mut Vec<String>) -> Option<&Document> {
        let path = dir.join(name);
        if self.documents.len() >= DOCUMENTS_MAX || !is_file_inside(dir, &path) {
            return None;
        }
        match Given::read(&path, DOCUMENT_BYTES_MAX) {
            Ok(given) => {
                self.documents.push(Document { name: name.to_owned(), bytes: given.bytes });
                self.documents.last()
            }
            Err(error) => {
                notes.push(format!("{name} is not kept: {error}"));
                None
            }
        }
    }
}

/// Whether a document may be called so: it becomes a file in the catalog.
pub fn is_document_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    (1..=DOCUMENT_NAME_BYTES_MAX).contains(&name.len())
        && name.chars().all(plain)
        && !name.starts_with('.')
}

/// A YAML document of a stranger: what it names twice, nests without end or multiplies by aliases is refused.
///
/// # Errors
/// The parser's sentence, with line and column.
pub fn yaml<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_nodes: YAML_NODES_MAX },
        with_snippet: false,
    };
    serde_saphyr::from_slice_with_options(bytes, options).map_err(|error| error.to_string())
}

fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> SourceError {
    let path = path.to_owned();
    move |source| SourceError::Io { doing, path, source }
}

/// A relative path without `..`, of at least one component.
pub(crate) fn is_below(named: &str) -> bool {
    let mut parts = Path::new(named).components().peekable();
    parts.peek().is_some() && parts.all(|part| matches!(part, Component::Normal(_)))
}

/// Whether a path is a plain file that lies in `dir` once links are followed.
fn is_file_inside(dir: &Path, path: &Path) -> bool {
    let real = |path: &Path| fs::canonicalize(path).ok();
    real(dir).zip(real(path)).is_some_and(|(dir, path)| path.starts_with(dir) && path.is_file())
}

/// A file that another file of the source names.
fn inside(dir: &Path, by: &Path, named: &str) -> Result<PathBuf, SourceError> {
    let path = dir.join(named);
    if is_below(named) && (!path.exists() || is_file_inside(dir, &path)) {
        return Ok(path);
    }
    Err(SourceError::Outside { path: by.to_owned(), named: named.chars().take(200).collect() })
}

/// The golden vectors beside an ONNX file, if there are some.
fn golden(onnx: &Path) -> Result<Option<Given>, SourceError> {
    let path = onnx.with_extension("golden.npz");
    path.exists().then(|| Given::read(&path, NPZ_BYTES_MAX as u64)).transpose()
}

/// The ONNX file at `path`; tensors that lie beside it are brought in.
fn model(path: &Path, notes: &mut Vec<String>) -> Result<Given, SourceError> {
    let max = u64::from(ARTIFACT_BYTES_MAX);
    let mut given = Given::read(path, max)?;
    let unreadable = |detail: String| SourceError::Unreadable { path: path.to_owned(), detail };
    if given.bytes.is_empty() {
        return Err(unreadable("it is empty; export the model again, or download it again".into()));
    }
    // What is no ONNX at all the validator says, in the self-test's child.
    let Ok(Some(external)) = External::find(&given.bytes) else { return Ok(given) };
    let dir = path.parent().unwrap_or(Path::new("."));
    let mut files = BTreeMap::new();
    let (mut bytes, mut left) = (0, max);
    for location in external.locations() {
        if files.len() >= EXTERNAL_FILES_MAX {
            return Err(unreadable(format!(
                "its tensors lie in more than {EXTERNAL_FILES_MAX} files"
            )));
        }
        let beside = Given::read(&inside(dir, path, location)?, left)?;
        bytes += beside.bytes.len() as u64;
        left = left.saturating_sub(beside.bytes.len() as u64);
        files.insert(location.to_owned(), beside.bytes);
    }
    let count = files.len();
    given.bytes = external.inline(&files).map_err(|error| unreadable(error.to_string()))?;
    if given.bytes.len() as u64 > max {
        return Err(SourceError::TooLarge { path: path.to_owned(), max });
    }
    notes.push(format!(
        "{bytes} bytes of tensors beside {} (files: {count}) were brought into it: a release is one file, and its digest is another",
        path.display()
    ));
    Ok(given)
}
