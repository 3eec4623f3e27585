//! What the agent stands on: clock, kernel, fences, memory, heat.

use std::fs;
use std::path::Path;

use fleetway_engine::selftest::sandbox::Missing;
use fleetway_engine::{Require, SelfTest};

use super::Findings;
use crate::status::render::age;

/// A clock that is off by less hurts nobody, seconds.
const CLOCK_OFF_S_MAX: u64 = 120;
/// The controller signs its word anew every few days: after so long there was no contact, or the
/// clock is ahead, seconds.
const SILENCE_S_MAX: u64 = 30 * 24 * 3_600;
/// 2025-01-01: no clock that was ever set is before this program.
const EARLIEST_S: u64 = 1_735_689_600;
/// From here on processors slow themselves down, thousandths of a degree.
const HOT_MILLI_C: i64 = 85_000;
/// Less, and a self-test may not fit, KiB.
const MEMORY_KIB_MIN: u64 = 64 << 10;

/// The system's clock against the newest signed time.
pub(super) fn look_at_clock(system_s: u64, floor_s: u64, found: &mut Findings) {
    let mend = "set it (NTP or by hand); until then signed time is believed instead";
    let behind = floor_s.saturating_sub(system_s);
    let since = system_s.saturating_sub(floor_s);
    if behind > CLOCK_OFF_S_MAX {
        found.warn("clock", format!("is {} behind what was signed", age(behind)), mend);
    } else if system_s < EARLIEST_S {
        found.warn("clock", "was never set", mend);
    } else if floor_s == 0 {
        found.ok("clock", "is plausible; nothing signed has come yet to compare it with");
    } else if since > SILENCE_S_MAX {
        let text = format!("the newest signed word is {} old", age(since));
        found.warn("contact", text, "check the link; if that is well, the clock is ahead");
    } else {
        found.ok("clock", format!("is plausible; the newest signed word is {} old", age(since)));
    }
}

/// How well a self-test would be fenced in: a child process says it.
pub(super) async fn look_at_sandbox(require: Require, found: &mut Findings) {
    let test = SelfTest { require, ..SelfTest::default() };
    let probed = tokio::task::spawn_blocking(move || test.probe()).await;
    let kernel = read("/proc/sys/kernel/osrelease").unwrap_or_default();
    let kernel = format!("Linux {}", kernel.trim());
    match probed {
        Ok(Ok(sandbox)) => {
            let name = |missing: &Missing| format!("{} ({})", missing.fence.name(), missing.why);
            let missing: Vec<_> = sandbox.missing().iter().map(name).collect();
            let text = format!("{kernel}: {}", sandbox.state());
            let lacks = format!("{text}, lacks {}", missing.join(", "));
            let mend = "use a newer kernel with landlock and seccomp";
            if !require.is_met_by(&sandbox) {
                let text = format!("{lacks}; agent.toml requires `{}`", require.name());
                found.problem("sandbox", text, format!("{mend}, or a weaker [sandbox] require"));
            } else if missing.is_empty() {
                found.ok("sandbox", format!("{text}: landlock, seccomp and limits stand"));
            } else {
                found.warn("sandbox", lacks, mend);
            }
        }
        Ok(Err(error)) => {
            found.problem("sandbox", format!("{kernel}: {error}"), "no new model can be tried");
        }
        Err(error) => found.problem("sandbox", error.to_string(), "report this"),
    }
}

/// Memory and heat, where the system tells.
pub(super) fn look(found: &mut Findings) {
    if let Some(kib) = read("/proc/meminfo").as_deref().and_then(available_kib) {
        let text = format!("{} MiB available", kib / 1024);
        match kib < MEMORY_KIB_MIN {
            true => found.warn("memory", text, "end what else runs here, or use a smaller model"),
            false => found.ok("memory", text),
        }
    }
    if let Some(milli_c) = hottest(Path::new("/sys/class/thermal")) {
        let text = format!("{} °C at the hottest sensor", milli_c / 1000);
        match milli_c > HOT_MILLI_C {
            true => found.warn("heat", text, "cool it: the processor slows itself down"),
            false => found.ok("heat", text),
        }
    }
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok()
}

fn available_kib(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse().ok()
}

fn hottest(dir: &Path) -> Option<i64> {
    let zones = fs::read_dir(dir).ok()?.filter_map(|entry| entry.ok().map(|e| e.path()));
    let read = |zone: std::path::PathBuf| {
        fs::read_to_string(zone.join("temp")).ok()?.trim().parse::<i64>().ok()
    };
    zones.filter_map(read).max()
}

/// The user's name, or the number.
pub(super) fn user_name(uid: u32) -> String {
    name_in("/etc/passwd", uid).unwrap_or_else(|| uid.to_string())
}

/// The group's name.
pub(super) fn group_name(gid: u32) -> Option<String> {
    name_in("/etc/group", gid)
}

fn name_in(path: &str, id: u32) -> Option<String> {
    let text = read(path)?;
    let mut lines = text.lines().map(|line| line.split(':'));
    lines.find_map(|mut line| {
        let name = line.next()?;
        (line.nth(1)?.parse() == Ok(id)).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn clocks_are_judged_by_what_was_signed() {
        const NOW_S: u64 = 1_800_000_000;
        let table = [
            (NOW_S, NOW_S - 60, Level::Ok, "1 min 0 s old"),
            (NOW_S - 100, NOW_S, Level::Ok, "0 s old"),
            (NOW_S - 86_400, NOW_S, Level::Warning, "1 d 0 h behind"),
            (0, 0, Level::Warning, "never set"),
            (NOW_S, 0, Level::Ok, "nothing signed"),
            (NOW_S + 40 * 86_400, NOW_S, Level::Warning, "40 d 0 h old"),
        ];
        for (system_s, floor_s, level, says) in table {
            let mut found = Findings::default();
            look_at_clock(system_s, floor_s, &mut found);
            let [finding] = found.0.as_slice() else { panic!("{found:?}") };
            assert!(finding.level == level && finding.text.contains(says), "{finding:?}");
        }
    }

    #[test]
    fn the_system_is_read() {
        assert_eq!(available_kib("MemTotal: 5 kB\nMemAvailable:    123 kB\n"), Some(123));
        assert_eq!(available_kib("MemTotal: 5 kB\n"), None);
        assert_eq!(user_name(0), "root");
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(hottest(dir.path()), None);
        for (zone, milli_c) in [("thermal_zone0", "41000\n"), ("thermal_zone1", "52500\n")] {
            fs::create_dir(dir.path().join(zone)).unwrap();
            fs::write(dir.path().join(zone).join("temp"), milli_c).unwrap();
        }
        assert_eq!(hottest(dir.path()), Some(52_500));
    }
}
