//! What the device keeps, and where:
//!
//! ```text
//! <data>/device.{0,1}               generation, boot epoch, time floor  (two-copy record)
//! <data>/floor                      which orders are old, told before the first start (only removed)
//! <data>/order                      the order being carried out         (replaced whole)
//! <data>/models/<m>/table.{0,1}     the slot table                      (two-copy record)
//! <data>/models/<m>/slot-{a,b}/     release, its keyset, model, golden, and their chunk lists
//! <data>/trust/                     the release authority               ([`trust_files`])
//! <factory>/<m>/                    release, keyset, model, golden             (never written)
//! ```
//! No chunk bitmap is stored: a chunk counts as there when its bytes hash to what the
//! signed list says. That is re-derived when a download resumes ([`slot_files`]), so a
//! bitmap can never claim bytes that the disk lost or that rotted.
//!
//! If power fails in the middle of any write here: a record keeps its other copy, a
//! replaced file keeps its old content, a slot's bytes are checked before they count.

mod record_file;
mod slot_files;
mod trust_files;

use std::io;
use std::path::{Path, PathBuf};

use fleetway_protocol::enroll::Floor;
use fleetway_protocol::ids::{Generation, ModelName};
use fleetway_protocol::limits::{ENVELOPE_BYTES_MAX, TABLE_BYTES_MAX};
use fleetway_protocol::reason::Reason;
use fleetway_protocol::slot::{Place, SlotTable};
use serde::{Deserialize, Serialize};

use crate::fs::{self, Fs};
pub use record_file::RecordFile;
pub use slot_files::{Part, SlotFiles};
use trust_files::TrustFiles;
pub use trust_files::TrustShelf;

/// Longest file that says which orders are old: a number.
const FLOOR_FILE_BYTES_MAX: u64 = 64;

/// What survives a reset for the whole device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRecord {
    /// Highest generation acted on. Written before any machine acts; never lowered.
    pub generation: Generation,
    /// Number of this boot.
    pub epoch: u64,
    /// No clock reading below this is believed, Unix seconds.
    pub time_floor_s: u64,
    /// Whether the device was told which orders are old; before that it takes none.
    pub floor_known: bool,
}

/// The reason for a disk error that the update machine understands.
pub fn disk_reason(error: &io::Error) -> Reason {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Reason::DiskFull,
        _ => Reason::DiskError,
    }
}

/// The device's directory.
pub struct Store<F> {
    fs: F,
    data: PathBuf,
    factory: Option<PathBuf>,
    device: RecordFile<DeviceRecord>,
    trust: TrustFiles,
}

impl<F: Fs> Store<F> {
    /// Opens (or begins) the directory.
    ///
    /// # Errors
    /// The disk's.
    pub fn open(fs: F, data: &Path, factory: Option<&Path>) -> io::Result<Self> {
        fs.create_dir(&data.join("models"))?;
        fs.sync_dir(data)?;
        if let Some(parent) = data.parent().filter(|p| !p.as_os_str().is_empty()) {
            fs.sync_dir(parent)?;
        }
        let device = RecordFile::open(&fs, data, "device", 256)?;
        let trust = TrustFiles::open(&fs, data)?;
        let factory = factory.map(Path::to_path_buf);
        Ok(Self { fs, data: data.to_path_buf(), factory, device, trust })
    }

    /// The disk.
    pub fn fs(&self) -> &F {
        &self.fs
    }

    /// The device's record, zeros on a new device.
    pub fn device(&self) -> DeviceRecord {
        self.device.value().copied().unwrap_or_default()
    }

    /// Whether there is a record: without one the device is new, or has forgotten everything.
    pub fn has_device(&self) -> bool {
        self.device.value().is_some()
    }

    /// What a new device is told about old orders, if it is.
    pub fn floor(&self) -> Option<Floor> {
        Floor::parse(&self.fs.read(&self.data.join(Floor::FILE), FLOOR_FILE_BYTES_MAX).ok()?)
    }

    /// Removes what [`Store::floor`] read once it is in the record: should the record be lost
    /// later, it would say too little.
    pub fn clear_floor(&self) {
        if self.device().floor_known {
            // Left behind it is read again only by a device that forgot.
            let _ = self.fs.remove(&self.data.join(Floor::FILE));
        }
    }

    /// Makes the device's record durable.
    ///
    /// # Errors
    /// The disk's; the old record stays then.
    pub fn put_device(&mut self, record: DeviceRecord) -> io::Result<()> {
        self.device.put(&self.fs, record)
    }

    /// What is kept of the release authority.
    pub fn trust(&mut self) -> TrustShelf<'_, F> {
        TrustShelf { fs: &self.fs, files: &mut self.trust }
    }

    /// The stored order's exact bytes, if there is one.
    pub fn order(&self) -> Option<Vec<u8>> {
        self.fs.read(&self.data.join("order"), ENVELOPE_BYTES_MAX as u64).ok()
    }

    /// Makes the order durable.
    ///
    /// # Errors
    /// The disk's; the old order stays then.
    pub fn put_order(&self, bytes: &[u8]) -> io::Result<()> {
        fs::replace(&self.fs, &self.data.join("order"), bytes)
    }

    /// The models that have a slot table or a factory release here.
    pub fn models(&self) -> Vec<ModelName> {
        let mut names = self.fs.list(&self.data.join("models")).unwrap_or_default();
        if let Some(factory) = &self.factory {
            names.extend(self.fs.list(factory).unwrap_or_default());
        }
        names.sort();
        names.dedup();
        names.iter().filter_map(|name| ModelName::new(name).ok()).collect()
    }

    /// The slot table of a model.
    ///
    /// # Errors
    /// The disk's.
    pub fn table(&self, model: &ModelName) -> io::Result<RecordFile<SlotTable>> {
        let dir = self.model_dir(model);
        self.fs.create_dir(&dir)?;
        self.fs.sync_dir(&self.data.join("models"))?;
        RecordFile::open(&self.fs, &dir, "table", TABLE_BYTES_MAX)
    }

    /// Makes a slot table durable.
    ///
    /// # Errors
    /// The disk's; the old table stays then.
    pub fn put_table(&self, file: &mut RecordFile<SlotTable>, table: SlotTable) -> io::Result<()> {
        file.put(&self.fs, table)
    }

    /// The files of a place; `None` for the factory place on a device without one.
    pub fn files(&self, model: &ModelName, place: Place) -> Option<SlotFiles<'_, F>> {
        let dir = match place {
            Place::Slot(slot) => self.model_dir(model).join(format!("slot-{}", slot.letter())),
            Place::Factory => self.factory.as_ref()?.join(model.as_str()),
        };
        Some(SlotFiles::new(&self.fs, dir))
    }

    fn model_dir(&self, model: &ModelName) -> PathBuf {
        self.data.join("models").join(model.as_str())
    }
}
