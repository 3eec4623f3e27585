//! The factory model: a signed release that lies read-only beside the program, for a device that has
//! nothing else to serve.
//!
//! Its directory is like a slot's (`release`, `keyset`, `model`, `golden`), so a copy of the slot of a
//! device that serves it is one. Nothing says which form of the release its `model` is: the manifest
//! does, by length and digest. A factory model that cannot be served is said so, at the start, in the
//! status and by the doctor, and the device goes on without it.

use std::io;

use fleetway_protocol::envelope::Envelope;
use fleetway_protocol::ids::{Digest, ModelName};
use fleetway_protocol::manifest::{Manifest, Variant, VariantKind};
use fleetway_protocol::slot::{Place, ReleaseFacts};
use fleetway_protocol::trust::Verified;

use super::{Device, commands};
use crate::fs::Fs;

/// Why the factory model is not served. Ends with what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FactoryError {
    /// Files without the one that says what they are.
    #[error("there is no signed release beside it; {WHOLE}")]
    NoRelease,
    /// By nobody whom this device believes.
    #[error("nobody whom this device believes signed its release; {WHOLE}")]
    Untrusted,
    /// It is one of another model.
    #[error("its release is one of the model {0}; name the directory like the model")]
    OtherModel(ModelName),
    /// The file with the network in it is not there, or not whole.
    #[error("its file `model` cannot be read ({0}); {WHOLE}")]
    Unreadable(String),
    /// It is not what the release names.
    #[error("its file `model` ({0} bytes) is no form of the release beside it; {WHOLE}")]
    NotOfRelease(usize),
    /// This agent has no engine for it.
    #[error(
        "it is an ONNX file, and this agent has no tract; give it the release's compiled form (`fleetway model compile` says whether there is one), or take the agent with tract"
    )]
    NeedsTract,
    /// The same for any other form.
    #[error("this agent runs no models of the form {0:?}; give it another form of the release")]
    NotRun(VariantKind),
}

/// How to get one that is whole.
const WHOLE: &str = "copy the whole slot of a device that serves it: `release`, `keyset`, `model` and `golden` belong together";

impl<F: Fs> Device<F> {
    /// What the slot table is told of the factory model; `None` if the device has none.
    ///
    /// # Errors
    /// [`FactoryError`], if there is one that cannot be served.
    pub(super) fn factory(&self, model: &ModelName) -> Result<Option<ReleaseFacts>, FactoryError> {
        let Some(files) = self.store.files(model, Place::Factory) else { return Ok(None) };
        if files.is_empty() {
            return Ok(None);
        }
        let release = files.release().ok_or(FactoryError::NoRelease)?;
        let manifest = self.believed(&release, &files).ok_or(FactoryError::Untrusted)?;
        if manifest.get().model != *model {
            return Err(FactoryError::OtherModel(manifest.get().model.clone()));
        }
        let unreadable = |error: io::Error| FactoryError::Unreadable(error.to_string());
        let bytes = files.model().map_err(unreadable)?;
        let form = form(manifest.get(), &bytes).ok_or(FactoryError::NotOfRelease(bytes.len()))?;
        match form {
            form if self.config.forms.contains(&form) => {}
            VariantKind::Onnx | VariantKind::Mixed => return Err(FactoryError::NeedsTract),
            form => return Err(FactoryError::NotRun(form)),
        }
        Ok(Some(commands::facts(&manifest, form)))
    }

    fn believed(
        &self,
        release: &[u8],
        files: &crate::store::SlotFiles<'_, F>,
    ) -> Option<Verified<Manifest>> {
        let digest = Digest::of(Envelope::decode(release).ok()?.payload_unchecked());
        Verified::<Manifest>::recheck(release, &self.keyring_of(files)?, &digest).ok()
    }
}

/// Which form of the release `model` is. Its bytes are hashed only where two forms are as long: all of
/// them are checked before they are served.
fn form(manifest: &Manifest, model: &[u8]) -> Option<VariantKind> {
    let as_long = || manifest.variants.iter().filter(|v| v.model.bytes as usize == model.len());
    let is_it = |v: &&Variant| as_long().count() == 1 || v.model.digest == Digest::of(model);
    as_long().find(is_it).map(|variant| variant.kind)
}
