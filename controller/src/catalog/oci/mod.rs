//! A model as an OCI artifact, in the CNCF ModelPack form: a manifest that names a configuration and
//! layers by digest. The same artifact lies in a registry ([`crate::registry`]), in an image-layout
//! directory ([`layout`]), or in one file that is such a directory in a tar ([`archive`]).
//!
//! Read in this order:
//! 1. this file: what a manifest may be, and which layers are fetched;
//! 2. [`layout`], [`archive`]: where bytes lie;
//! 3. [`unpack`]: an artifact of other tools, as files that [`source`](super::source) opens;
//! 4. [`carry`]: a signed release with all that proves it, out of here and into another place.
//!
//! Everything is checked against the digest that named it before anybody parses it, and everything
//! has a bound: a registry, a directory and a file are all somebody else's.

pub mod archive;
pub mod carry;
pub mod layout;
#[cfg(test)]
mod tests;
pub mod unpack;

use std::collections::BTreeMap;
use std::path::PathBuf;

use fleetway_protocol::ids::Digest;
use fleetway_protocol::limits::ARTIFACT_BYTES_MAX;
use serde::{Deserialize, Serialize};

use crate::ErrorKind;

/// Media type of an OCI image manifest, in which artifacts travel.
pub const IMAGE_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Media type of an index of manifests.
pub const IMAGE_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// ModelPack: what the artifact is.
pub const MODEL_ARTIFACT: &str = "application/vnd.cncf.model.manifest.v1+json";
/// ModelPack: its configuration.
pub const MODEL_CONFIG: &str = "application/vnd.cncf.model.config.v1+json";
/// ModelPack: what a layer's file is called.
pub const FILEPATH: &str = "org.cncf.model.filepath";
/// The same, by tools that know no models.
pub const TITLE: &str = "org.opencontainers.image.title";

/// Bytes of one manifest or index: the distribution specification asks registries for 4 MiB; a model of
/// 64 layers has 30 KiB.
pub const MANIFEST_BYTES_MAX: u64 = 1 << 20;
/// Bytes of one configuration.
pub const CONFIG_BYTES_MAX: u64 = 1 << 20;
/// Layers of one artifact.
pub const LAYERS_MAX: usize = 128;
/// Bytes of all that is fetched of one artifact: the largest model, its golden vectors, and papers.
pub const FETCHED_BYTES_MAX: u64 = 2 * ARTIFACT_BYTES_MAX as u64;

/// Some bytes, by digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What they are.
    pub media_type: String,
    /// `sha256:` and 64 digits.
    pub digest: String,
    /// How many.
    pub size: u64,
    /// Names and the like.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// An image manifest, as far as artifacts use it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// [`IMAGE_MANIFEST`], where it says so.
    #[serde(default)]
    pub media_type: Option<String>,
    /// [`MODEL_ARTIFACT`] for a model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The configuration.
    pub config: Descriptor,
    /// The files.
    pub layers: Vec<Descriptor>,
    /// What is said of all of it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// A list of manifests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// [`IMAGE_INDEX`], where it says so.
    #[serde(default)]
    pub media_type: Option<String>,
    /// What it lists.
    pub manifests: Vec<Descriptor>,
}

/// An artifact that is here: its manifest, and the bytes that were wanted of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifact {
    /// The exact manifest.
    pub manifest: Vec<u8>,
    /// Bytes by what they hash to.
    pub blobs: BTreeMap<Digest, Vec<u8>>,
}

/// Why an artifact cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum OciError {
    /// A file of a layout.
    #[error("cannot {doing} {}; check the path, the disk and the permissions", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// No manifest, or none that is a model's.
    #[error("{what} is no OCI artifact that can be read: {detail}")]
    Form {
        /// Which manifest, index or layer.
        what: String,
        /// What is wrong.
        detail: String,
    },
    /// Bytes that are not those that were named.
    #[error(
        "{what} was changed or cut: it should be {expected} with {size} bytes; fetch it again from where it was made"
    )]
    Digest {
        /// Which bytes.
        what: String,
        /// What they were named by.
        expected: String,
        /// How many they should be.
        size: u64,
    },
    /// Bytes that are named and not there.
    #[error("{what} is named and not there: the copy is not complete")]
    Missing {
        /// Which bytes.
        what: String,
    },
    /// Over a bound.
    #[error("{what} has more than {max} {unit}, which is all that is taken")]
    TooLarge {
        /// What.
        what: String,
        /// The bound.
        max: u64,
        /// Of what.
        unit: &'static str,
    },
    /// A name that leads out of the place it is unpacked to.
    #[error("{what} holds {named:?}, which is no plain file inside of it: nothing was unpacked")]
    Outside {
        /// Which layer or file.
        what: String,
        /// The name.
        named: String,
    },
}

impl OciError {
    /// What kind of failure it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                ErrorKind::NotFound
            }
            Self::Io { .. } => ErrorKind::Unavailable,
            Self::Digest { .. } | Self::Missing { .. } | Self::Outside { .. } => ErrorKind::Trust,
            Self::Form { .. } | Self::TooLarge { .. } => ErrorKind::Usage,
        }
    }
}

impl Descriptor {
    /// For these bytes.
    pub fn of(media_type: &str, bytes: &[u8]) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest: format!("sha256:{}", Digest::of(bytes)),
            size: bytes.len() as u64,
            annotations: BTreeMap::new(),
        }
    }

    /// With the name of its file.
    pub fn named(mut self, path: &str) -> Self {
        self.annotations.insert(FILEPATH.to_owned(), path.to_owned());
        self.annotations.insert(TITLE.to_owned(), path.to_owned());
        self
    }

    /// The name of its file.
    pub fn name(&self) -> Option<&str> {
        self.annotations.get(FILEPATH).or_else(|| self.annotations.get(TITLE)).map(String::as_str)
    }

    /// What it hashes to.
    ///
    /// # Errors
    /// [`OciError::Form`] for another algorithm or a damaged digest.
    pub fn sha256(&self) -> Result<Digest, OciError> {
        let digits = self.digest.strip_prefix("sha256:").and_then(|digits| digits.parse().ok());
        digits.ok_or_else(|| OciError::Form {
            what: self.what(),
            detail: "its digest is no SHA-256".to_owned(),
        })
    }

    /// Whether these are the bytes.
    ///
    /// # Errors
    /// [`OciError::Digest`].
    pub fn check(&self, bytes: &[u8]) -> Result<(), OciError> {
        match Digest::of(bytes) == self.sha256()? && bytes.len() as u64 == self.size {
            true => Ok(()),
            false => {
                let (expected, size) = (self.digest.clone(), self.size);
                Err(OciError::Digest { what: self.what(), expected, size })
            }
        }
    }

    /// What messages call it: names of others are shown short, and not as they like.
    pub fn what(&self) -> String {
        let name = self.name().unwrap_or(&self.media_type);
        format!("the layer {:?}", name.chars().take(80).collect::<String>())
    }
}

impl Manifest {
    /// Reads a manifest and checks its bounds.
    ///
    /// # Errors
    /// [`OciError::Form`], [`OciError::TooLarge`].
    pub fn read(bytes: &[u8]) -> Result<Self, OciError> {
        let form = |detail: String| OciError::Form { what: "the manifest".to_owned(), detail };
        let large =
            |max: u64, unit| OciError::TooLarge { what: "the manifest".to_owned(), max, unit };
        if bytes.len() as u64 > MANIFEST_BYTES_MAX {
            return Err(large(MANIFEST_BYTES_MAX, "bytes"));
        }
        if serde_json::from_slice::<Index>(bytes).is_ok() {
            return Err(form(
                "it is an index of several; name one of them by its digest".to_owned(),
            ));
        }
        let manifest: Self =
            serde_json::from_slice(bytes).map_err(|error| form(error.to_string()))?;
        if manifest.schema_version != 2 {
            return Err(form(format!("its schemaVersion is {}", manifest.schema_version)));
        }
        if manifest.layers.len() > LAYERS_MAX {
            return Err(large(LAYERS_MAX as u64, "layers"));
        }
        for descriptor in manifest.layers.iter().chain([&manifest.config]) {
            descriptor.sha256()?;
        }
        Ok(manifest)
    }

    /// What is fetched: the configuration, and every layer that can be a part of one model. What is
    /// left out is told.
    ///
    /// # Errors
    /// [`OciError::TooLarge`].
    pub fn wanted(&self) -> Result<(Vec<&Descriptor>, Vec<String>), OciError> {
        let (mut wanted, mut left_out) = (Vec::new(), Vec::new());
        if self.config.size <= CONFIG_BYTES_MAX {
            wanted.push(&self.config);
        }
        let mut total = 0u64;
        for layer in &self.layers {
            if layer.size > u64::from(ARTIFACT_BYTES_MAX) {
                let (what, size) = (layer.what(), layer.size);
                left_out.push(format!("{what} is not fetched: it has {size} bytes"));
                continue;
            }
            total = total.saturating_add(layer.size);
            wanted.push(layer);
        }
        if total > FETCHED_BYTES_MAX {
            let what = "the artifact".to_owned();
            return Err(OciError::TooLarge { what, max: FETCHED_BYTES_MAX, unit: "bytes" });
        }
        Ok((wanted, left_out))
    }

    /// Whether it is a release of Fleetway's, with what proves it.
    pub fn is_release(&self) -> bool {
        self.layers.iter().any(|layer| layer.media_type == carry::RELEASE)
    }
}

impl Artifact {
    /// Its manifest, read.
    ///
    /// # Errors
    /// [`OciError`].
    pub fn read(&self) -> Result<Manifest, OciError> {
        Manifest::read(&self.manifest)
    }

    /// The digest that names the whole artifact.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.manifest)
    }

    /// The bytes of a descriptor, checked.
    ///
    /// # Errors
    /// [`OciError::Missing`], [`OciError::Digest`].
    pub fn blob(&self, descriptor: &Descriptor) -> Result<&[u8], OciError> {
        let missing = || OciError::Missing { what: descriptor.what() };
        let bytes = self.blobs.get(&descriptor.sha256()?).ok_or_else(missing)?;
        descriptor.check(bytes)?;
        Ok(bytes)
    }
}
