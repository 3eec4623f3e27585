//! The held-out images of handwritten digits, as an application sends them; and where the
//! models are.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use serde_json::json;

/// Pixels of an image.
const PIXELS: usize = 64;

/// Images with their labels, as requests that are ready to be sent.
#[derive(Debug)]
pub struct Digits {
    images: Vec<f32>,
    bodies: Vec<Bytes>,
    labels: Vec<u8>,
}

/// The directory of the models.
pub fn model_dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("models/digits")
}

impl Digits {
    /// All held-out images; read once.
    ///
    /// # Panics
    /// If the repository's own file cannot be read.
    pub fn heldout() -> Arc<Self> {
        static HELDOUT: OnceLock<Arc<Digits>> = OnceLock::new();
        HELDOUT
            .get_or_init(|| match Self::read() {
                Ok(digits) => Arc::new(digits),
                Err(error) => panic!("the held-out images cannot be read: {error:#}"),
            })
            .clone()
    }

    fn read() -> Result<Self> {
        let path = model_dir().join("heldout.npz");
        let file = std::fs::File::open(&path).with_context(|| path.display().to_string())?;
        let mut zip = zip::ZipArchive::new(file).context("heldout.npz is no archive")?;
        let mut array = |name: &str| -> Result<Vec<u8>> {
            let mut bytes = Vec::new();
            zip.by_name(name).context("not there")?.read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        let images = array("images.npy")?;
        let labels = array("labels.npy")?;
        let images: Vec<f32> = npyz::NpyFile::new(&images[..])?.into_vec()?;
        let labels: Vec<u8> = npyz::NpyFile::new(&labels[..])?.into_vec()?;
        ensure!(images.len() == labels.len() * PIXELS, "images and labels do not match");
        let bodies = images.chunks_exact(PIXELS).map(body).collect();
        Ok(Self { images, bodies, labels })
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Writes all images as reference samples for `model import --reference`, `times` as bright
    /// as applications send them.
    ///
    /// # Errors
    /// The disk's.
    pub fn write_reference(&self, path: &Path, times: f32) -> Result<()> {
        let header = format!(
            "{{'descr': '<f4', 'fortran_order': False, 'shape': ({}, 1, 8, 8), }}\n",
            self.len()
        );
        let length = u16::try_from(header.len())?.to_le_bytes();
        let mut zip = zip::ZipWriter::new(std::fs::File::create(path)?);
        zip.start_file("in.image.npy", zip::write::SimpleFileOptions::default())?;
        zip.write_all(&[b"\x93NUMPY\x01\x00", &length[..], header.as_bytes()].concat())?;
        for pixel in &self.images {
            zip.write_all(&(pixel * times).to_le_bytes())?;
        }
        zip.finish().map(drop).context("reference")
    }

    /// The request with image `at`.
    pub fn body(&self, at: usize) -> Bytes {
        self.bodies[at].clone()
    }

    /// The pixels of image `at`, row by row.
    pub fn pixels(&self, at: usize) -> &[f32] {
        &self.images[at * PIXELS..(at + 1) * PIXELS]
    }

    /// What image `at` shows.
    pub fn label(&self, at: usize) -> usize {
        usize::from(self.labels[at])
    }
}

/// A request of the Open Inference Protocol.
fn body(pixels: &[f32]) -> Bytes {
    let input = json!({
        "name": "image", "datatype": "FP32", "shape": [1, 1, 8, 8], "data": pixels,
    });
    Bytes::from(json!({ "inputs": [input] }).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_images_are_there() {
        let digits = Digits::heldout();
        assert_eq!(digits.len(), 450);
        let classes = (0..digits.len()).map(|at| digits.label(at)).max();
        assert_eq!(classes, Some(9));
        assert!(digits.body(0).starts_with(b"{\"inputs\":[{\"data\":["), "{:?}", digits.body(0));
    }
}
