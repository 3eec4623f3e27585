//! How the machine does that the agent runs on: a few small files of `/proc` and `/sys`, read
//! when a report is due. What is not there, or does not read, is absent from the report: a sensor
//! that is missing must not look like one that says 0.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use fleetway_protocol::report::{Host, Stamp};
use fleetway_protocol::telemetry::Numbered;

/// Bytes of one file at most. `/proc/stat` begins with what we want; the rest is small.
const FILE_BYTES_MAX: u64 = 8 << 10;
/// Sensors looked at. Boards have one to a dozen.
const SENSORS_MAX: usize = 32;
/// What a sensor can mean, thousandths of a degree Celsius; some drivers say -274000 for "off".
const TEMPERATURES_MILLI_C: std::ops::RangeInclusive<i32> = -60_000..=150_000;

/// Reads how the machine does.
#[derive(Debug)]
pub struct HostReader {
    root: PathBuf,
    data_dir: PathBuf,
    cpu: Option<CpuTime>,
}

/// Processor time since the start of the system, in ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct CpuTime {
    busy: u64,
    all: u64,
}

impl HostReader {
    /// For this machine; `data_dir` is on the disk whose room counts.
    pub fn new(data_dir: &Path) -> Self {
        Self::with_root(Path::new("/"), data_dir)
    }

    fn with_root(root: &Path, data_dir: &Path) -> Self {
        Self { root: root.to_owned(), data_dir: data_dir.to_owned(), cpu: None }
    }

    /// What can be said now. The processors' load is that since the last call, so the first
    /// says nothing of it.
    pub fn read(&mut self) -> Host {
        let now = self.file("proc/stat").and_then(cpu_time);
        let before = std::mem::replace(&mut self.cpu, now);
        let memory = self.file("proc/meminfo").unwrap_or_default();
        let disk = rustix::fs::statvfs(&self.data_dir).ok();
        let disk = disk.as_ref();
        Host {
            stamp: Stamp::default(),
            numbered: Numbered::default(),
            uptime_s: self.file("proc/uptime").and_then(uptime_s),
            cpu_permille: before.zip(self.cpu).and_then(|(before, now)| load_permille(before, now)),
            memory_bytes: meminfo_bytes(&memory, "MemTotal:"),
            memory_available_bytes: meminfo_bytes(&memory, "MemAvailable:"),
            temperature_milli_c: self.temperature_milli_c(),
            disk_bytes: disk.map(|disk| disk.f_blocks.saturating_mul(disk.f_frsize)),
            disk_free_bytes: disk.map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize)),
        }
    }

    /// The hottest sensor.
    fn temperature_milli_c(&self) -> Option<i32> {
        let zone = |at: usize| {
            let text = self.file(&format!("sys/class/thermal/thermal_zone{at}/temp"))?;
            let milli_c = text.trim().parse().ok()?;
            TEMPERATURES_MILLI_C.contains(&milli_c).then_some(milli_c)
        };
        (0..SENSORS_MAX).filter_map(zone).max()
    }

    fn file(&self, path: &str) -> Option<String> {
        read(&self.root.join(path))
    }
}

fn read(path: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(FILE_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    // Cut off in the middle of a character is no reason to throw the beginning away.
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Resident memory of this process, bytes; `None` where the system does not say.
pub fn resident_bytes() -> Option<u64> {
    let statm = read(Path::new("/proc/self/statm"))?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// The first line of `/proc/stat`: user, nice, system, idle, iowait, irq, softirq, steal.
fn cpu_time(stat: String) -> Option<CpuTime> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Option<Vec<u64>> =
        line.split_whitespace().take(8).map(|field| field.parse().ok()).collect();
    let ticks = ticks.filter(|ticks| ticks.len() >= 4)?;
    let all = ticks.iter().fold(0u64, |sum, ticks| sum.saturating_add(*ticks));
    let idle = ticks[3].saturating_add(ticks.get(4).copied().unwrap_or(0));
    Some(CpuTime { busy: all.saturating_sub(idle), all })
}

fn load_permille(before: CpuTime, now: CpuTime) -> Option<u16> {
    let all = now.all.checked_sub(before.all).filter(|all| *all > 0)?;
    let busy = now.busy.saturating_sub(before.busy).min(all);
    u16::try_from(busy.saturating_mul(1000) / all).ok()
}

fn uptime_s(uptime: String) -> Option<u64> {
    uptime.split(['.', ' ']).next()?.parse().ok()
}

fn meminfo_bytes(meminfo: &str, key: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(key))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine made of files.
    fn machine(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        dir
    }

    #[test]
    fn what_the_files_say() {
        let dir = machine(&[
            ("proc/stat", "cpu  100 0 50 800 50 0 0 0 0 0\ncpu0 1 2 3 4\n"),
            ("proc/meminfo", "MemTotal:        1024 kB\nMemFree: 5 kB\nMemAvailable:     512 kB\n"),
            ("proc/uptime", "86400.51 1000.00\n"),
            ("sys/class/thermal/thermal_zone0/temp", "41000\n"),
            ("sys/class/thermal/thermal_zone1/temp", "52500\n"),
            ("sys/class/thermal/thermal_zone2/temp", "-274000\n"),
        ]);
        let mut reader = HostReader::with_root(dir.path(), dir.path());
        let first = reader.read();
        assert_eq!((first.cpu_permille, first.uptime_s), (None, Some(86_400)));
        assert_eq!(first.memory_bytes, Some(1 << 20));
        assert_eq!(first.memory_available_bytes, Some(512 << 10));
        assert_eq!(first.temperature_milli_c, Some(52_500));
        assert!(first.disk_bytes >= first.disk_free_bytes && first.disk_free_bytes > Some(0));
        // 200 ticks later, 50 of them busy.
        std::fs::write(dir.path().join("proc/stat"), "cpu  120 0 80 950 50 0 0 0\n").unwrap();
        assert_eq!(reader.read().cpu_permille, Some(250));
    }

    #[test]
    fn what_is_not_there_is_absent() {
        let nothing = Host {
            stamp: Stamp::default(),
            numbered: Numbered::default(),
            uptime_s: None,
            cpu_permille: None,
            memory_bytes: None,
            memory_available_bytes: None,
            temperature_milli_c: None,
            disk_bytes: None,
            disk_free_bytes: None,
        };
        let dir = machine(&[]);
        let mut reader = HostReader::with_root(dir.path(), &dir.path().join("nowhere"));
        assert_eq!([reader.read(), reader.read()], [nothing.clone(), nothing.clone()]);
        let dir = machine(&[
            ("proc/stat", "cpu  1 2 x 4\n"),
            ("proc/meminfo", "MemTotal: much kB\n"),
            ("proc/uptime", "\n"),
            ("sys/class/thermal/thermal_zone0/temp", "warm"),
        ]);
        let mut reader = HostReader::with_root(dir.path(), &dir.path().join("nowhere"));
        assert_eq!([reader.read(), reader.read()], [nothing.clone(), nothing]);
    }

    #[test]
    fn this_machine_says_something() {
        let mut reader = HostReader::new(Path::new("."));
        assert!(reader.read().memory_bytes > Some(1 << 20));
        assert!(resident_bytes() > Some(1 << 20));
    }
}
