//! What is stored, judged by the code that judges it at a boot: the device core over a disk that
//! reads and forgets what is written. So the doctor never says something else than the next start.

use std::io;
use std::path::Path;

use fleetway_protocol::slot::SlotState;

use super::Findings;
use crate::clock::Clock;
use crate::config::Config;
use crate::device::{Device, Now, StoredModel, StoredPlace, place_name};
use crate::fs::{Fs, RealFs};
use crate::run::device_config;
use crate::store::Store;

/// The real disk to read from; writes are taken and lost.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FrozenFs;

impl Fs for FrozenFs {
    fn read(&self, path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
        RealFs.read(path, bytes_max)
    }

    fn write_at(&self, _: &Path, _: u64, _: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn set_len(&self, _: &Path, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn sync(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn remove(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn create_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        RealFs.list(path)
    }
}

/// The device as it would boot now.
pub(super) struct Stored(Device<FrozenFs>);

impl Stored {
    /// Reads what the configuration's agent keeps.
    pub(super) fn read(config: &Config) -> io::Result<Self> {
        // What cannot be listed would read as an empty device.
        if config.data_dir.exists() {
            std::fs::read_dir(&config.data_dir)?;
        }
        let store = Store::open(FrozenFs, &config.data_dir, config.factory_dir.as_deref())?;
        let clock = Clock::new(store.device().time_floor_s);
        let now = Now { ms: clock.monotonic_ms(), unix_s: clock.unix_s() };
        Device::open(device_config(config), store, now).map(Self)
    }

    /// The newest signed time, Unix seconds; 0 if there is none yet.
    pub(super) fn time_floor_s(&self) -> u64 {
        self.0.time_floor_s()
    }

    /// Whether a place that could serve does not hold what was signed.
    pub(super) fn has_bad(&self) -> bool {
        let stored = self.0.stored();
        stored.iter().flat_map(|model| &model.places).any(|place| place.checked.is_err())
    }

    /// The slots, byte by byte, and the release authority.
    pub(super) fn look(&self, found: &mut Findings) {
        self.look_at_trust(found);
        let models = self.0.stored();
        if models.is_empty() {
            found.ok("slots", "no model yet");
        }
        for StoredModel { model, damaged, no_factory, places } in &models {
            if *damaged > 0 {
                let text =
                    format!("{model}: {damaged} of 2 copies of the slot table cannot be read");
                let mend = "the next change writes it anew; if it comes again, replace the card";
                found.warn("slots", text, mend);
            }
            if let Some(error) = no_factory.as_ref().map(ToString::to_string) {
                let (what, mend) = error.split_once("; ").unwrap_or((&error, "see the log"));
                found.problem("slots", format!("{model}: the factory model: {what}"), mend);
            }
            if places.is_empty() {
                found.warn(
                    "slots",
                    format!("{model}: no slot holds a model that could serve"),
                    "roll one out",
                );
            }
            places.iter().for_each(|place| look_at_place(place, found));
        }
    }

    fn look_at_trust(&self, found: &mut Findings) {
        let status = self.0.trust_status();
        let version =
            |role: &fleetway_tuf::client::RoleState| format!("{} {}", role.role, role.version);
        let roles: Vec<_> = status.roles.iter().map(version).collect();
        let keyset = status.keyset.map_or("no keyset yet".into(), |v| format!("keyset {v}"));
        let text = format!("{keyset}; {}", roles.join(", "));
        match status.problem {
            None => found.ok("trust", text),
            Some(problem) => found.warn(
                "trust",
                format!("{text}: {problem}"),
                "connect to the broker; the controller sends what is missing. What runs goes on",
            ),
        }
    }
}

fn look_at_place(stored: &StoredPlace, found: &mut Findings) {
    let StoredPlace { model, place, state, release, version, checked } = stored;
    let state = match state {
        None => "factory".to_owned(),
        Some(SlotState::Confirmed) => "confirmed".to_owned(),
        Some(SlotState::Trial { tries_left }) => format!("on trial, {tries_left} tries left"),
        Some(_) => "verified".to_owned(),
    };
    let version = version.as_deref().unwrap_or("?");
    let what = format!("{model}: {} holds {version} ({release:.8}), {state}", place_name(*place));
    match checked {
        Ok(()) => found.ok("slots", format!("{what}: every byte as signed")),
        Err(reason) => found.problem(
            "slots",
            format!("{what}: NOT as signed: {reason}"),
            "it will not be served; roll it out again, and replace the card if it comes again",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::replace;

    #[test]
    fn nothing_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("order");
        std::fs::write(&path, "old").unwrap();
        replace(&FrozenFs, &path, b"new").unwrap();
        FrozenFs.remove(&path).unwrap();
        FrozenFs.create_dir(&dir.path().join("models")).unwrap();
        assert_eq!(FrozenFs.read(&path, 9).unwrap(), b"old");
        assert_eq!(FrozenFs.list(dir.path()).unwrap(), ["order"]);
    }
}
