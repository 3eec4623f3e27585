//! How the device is, for updates that wait for it: read where the system says it, decided nowhere
//! here. What cannot be read is not so.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use crate::device::Surroundings;
use crate::serving::locks::Locks;

/// Where Linux lists batteries and mains adapters.
const POWER_SUPPLY: &str = "/sys/class/power_supply";

/// What is looked at.
pub(super) struct Around {
    locks: Arc<Locks>,
    metered: bool,
    /// When an application last got an answer, or the start, monotonic milliseconds.
    asked_ms: u64,
}

impl Around {
    pub(super) fn new(locks: Arc<Locks>, metered: bool) -> Self {
        Self { locks, metered, asked_ms: 0 }
    }

    /// An application got an answer.
    pub(super) fn asked(&mut self, now_ms: u64) {
        self.asked_ms = now_ms;
    }

    /// How it all is now.
    pub(super) fn look(&self, now_ms: u64, time_known: bool) -> Surroundings {
        let idle_s = now_ms.saturating_sub(self.asked_ms) / 1000;
        Surroundings {
            time_known,
            idle_s: u32::try_from(idle_s).unwrap_or(u32::MAX),
            mains: on_mains(Path::new(POWER_SUPPLY)),
            unmetered: !self.metered,
            locked: self.locks.locked(now_ms),
        }
    }
}

/// Whether the device is on mains power: an adapter is plugged in, or there is no battery that it
/// could run on instead. Batteries of what is merely attached (a mouse) do not count.
pub(super) fn on_mains(power_supply: &Path) -> bool {
    let Ok(supplies) = fs::read_dir(power_supply) else {
        // No such class in this kernel: a board that knows of no battery has none.
        return !power_supply.exists();
    };
    let mut has_battery = false;
    for supply in supplies.flatten() {
        let said = |name: &str| {
            let text = fs::read_to_string(supply.path().join(name)).unwrap_or_default();
            text.trim().to_owned()
        };
        match said("type").as_str() {
            "Battery" | "UPS" => has_battery |= said("scope") != "Device",
            // `Mains`, `USB`, `Wireless`: whatever feeds it from outside.
            "" | "BMS" => {}
            _ if said("online") != "0" => return true,
            // It has a plug, so it runs on something else when that is out.
            _ => has_battery = true,
        }
    }
    !has_battery
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn power_is_read_from_the_kernel() {
        type Supply<'a> = (&'a str, &'a [(&'a str, &'a str)]);
        let battery: Supply<'_> = ("BAT0", &[("type", "Battery\n")]);
        let mouse: Supply<'_> = ("hid", &[("type", "Battery\n"), ("scope", "Device\n")]);
        let plugged: Supply<'_> = ("AC", &[("type", "Mains\n"), ("online", "1\n")]);
        let unplugged: Supply<'_> = ("AC", &[("type", "Mains\n"), ("online", "0\n")]);
        let usb: Supply<'_> = ("usb", &[("type", "USB\n"), ("online", "1\n")]);
        let cases: [(&[Supply<'_>], bool); 7] = [
            (&[], true),
            (&[mouse], true),
            (&[battery], false),
            (&[battery, unplugged], false),
            (&[battery, plugged], true),
            (&[battery, usb], true),
            (&[unplugged], false),
        ];
        for (supplies, mains) in cases {
            let dir = tempfile::tempdir().unwrap();
            for (name, files) in supplies {
                fs::create_dir(dir.path().join(name)).unwrap();
                for (file, text) in *files {
                    fs::write(dir.path().join(name).join(file), text).unwrap();
                }
            }
            assert_eq!(on_mains(dir.path()), mains, "{supplies:?}");
        }
        assert!(on_mains(Path::new("/nowhere")), "no such class");
    }
}
