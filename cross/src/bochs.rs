//! AVX-512 where no processor has it: the tests of `protocol/qnn` as the only program of a Linux that
//! Bochs runs. Debian's kernel, started from an image of a CD that is made here; nothing is installed into it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::cargo::{self, cargo};
use crate::emulated::{SETS, target_dir};
use crate::needs;

const TARGET: &str = "x86_64-unknown-linux-musl";
/// What Bochs' Ice Lake must run.
const ICE_LAKE: &str = "portable,avx2,avx512-vnni";
/// Seconds until the tests must have ended: half a minute on a quiet machine.
const WAIT_S: u64 = 300;
/// Where the packages of Debian put what starts from a CD.
const ISOLINUX: &str = "/usr/lib/ISOLINUX/isolinux.bin";
const LDLINUX: &str = "/usr/lib/syslinux/modules/bios/ldlinux.c32";
/// Features of the processor that Linux must not use, by their numbers: Bochs tells sizes of saved state
/// without regard to PKU, XSAVEC and XSAVES, and Linux dies with one of ERMS, FSRM, SMEP, SMAP.
const WITHOUT: &str = "515,321,323,297,580,295,308";

/// Runs the tests.
pub(crate) fn avx512() -> Result<()> {
    needs::target(TARGET)?;
    needs::bochs()?;
    crate::say(&format!("int8 kernels on Bochs' Ice Lake: {ICE_LAKE}"));
    let dir = target_dir()?.join("bochs");
    let disc = dir.join("disc");
    fs::create_dir_all(&disc)?;
    fs::write(disc.join("initrd"), archive("init", &fs::read(test_program()?)?))?;
    fs::copy(linux(&dir)?, disc.join("linux"))?;
    fs::copy(ISOLINUX, disc.join("isolinux.bin")).context(ISOLINUX)?;
    fs::copy(LDLINUX, disc.join("ldlinux.c32")).context(LDLINUX)?;
    // Words that Linux does not know go to the only program, as its environment.
    let append = format!(
        "console=ttyS0 quiet nokaslr mitigations=off panic=0 clearcpuid={WITHOUT} rdinit=/init \
         RUST_TEST_THREADS=1 {SETS}={ICE_LAKE}"
    );
    let menu =
        format!("default linux\nlabel linux\nkernel linux\ninitrd initrd\nappend {append}\n");
    fs::write(disc.join("isolinux.cfg"), menu)?;
    let mut image = Command::new("xorriso");
    image.args(["-as", "mkisofs", "-quiet", "-o", "boot.iso", "-b", "isolinux.bin"]);
    image.args(["-c", "boot.cat", "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table"]);
    cargo::run(image.arg("disc").current_dir(&dir))?;
    watched(&dir)
}

/// The unit tests as a static program.
fn test_program() -> Result<PathBuf> {
    let mut build = cargo(&["test", "--no-run", "--release", "--target", TARGET]);
    build.args(["-p", "fleetway-qnn", "--lib", "--message-format=json-render-diagnostics"]);
    build.env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_MUSL_LINKER", "rust-lld");
    let output = build.stderr(Stdio::inherit()).output().context("cannot start cargo")?;
    let lines = output.stdout.split(|&byte| byte == b'\n');
    let messages = lines.filter_map(|line| serde_json::from_slice::<serde_json::Value>(line).ok());
    let path = messages.filter_map(|of| Some(of["executable"].as_str()?.to_owned())).next_back();
    path.map(PathBuf::from).context("cargo built no test program")
}

/// Debian's smallest kernel, unpacked, not installed.
fn linux(dir: &Path) -> Result<PathBuf> {
    const NAME: &str = "linux-image-cloud-amd64";
    let boot = dir.join("linux/boot");
    let kernel = || {
        let entries = fs::read_dir(&boot).ok()?.flatten().map(|entry| entry.path());
        entries.into_iter().find(|path| path.to_string_lossy().contains("/vmlinuz-"))
    };
    if let Some(kernel) = kernel() {
        return Ok(kernel);
    }
    let depends = Command::new("apt-cache").args(["depends", "--important", NAME]).output()?;
    let depends = String::from_utf8_lossy(&depends.stdout).into_owned();
    let package = depends.lines().find_map(|line| line.trim().strip_prefix("Depends: "));
    let package = package.with_context(|| format!("Debian's package {NAME} is needed"))?;
    let mut download = Command::new("apt-get");
    cargo::run(download.args(["-q", "download", package]).current_dir(dir))?;
    let entries = fs::read_dir(dir)?.flatten().map(|entry| entry.path());
    let is_it = |path: &PathBuf| path.extension().is_some_and(|end| end == "deb");
    let file = entries.into_iter().find(is_it).context("apt-get downloaded nothing")?;
    cargo::run(Command::new("dpkg-deb").arg("-x").arg(file).arg(dir.join("linux")))?;
    kernel().with_context(|| format!("{package} holds no kernel"))
}

/// One program as the archive that Linux unpacks at its start (`cpio`, newc).
fn archive(name: &str, bytes: &[u8]) -> Vec<u8> {
    const PROGRAM: usize = 0o100_755;
    let mut archive = Vec::new();
    for (name, mode, bytes) in [(name, PROGRAM, bytes), ("TRAILER!!!", 0, &[])] {
        archive.extend_from_slice(b"070701");
        // Inode, mode, owner, group, links, time, size, two devices of two numbers, name, checksum.
        let numbers = [1, mode, 0, 0, 1, 0, bytes.len(), 0, 0, 0, 0, name.len() + 1, 0];
        numbers
            .iter()
            .for_each(|number| archive.extend_from_slice(format!("{number:08x}").as_bytes()));
        archive.extend_from_slice(name.as_bytes());
        archive.push(0);
        archive.resize(archive.len().next_multiple_of(4), 0);
        archive.extend_from_slice(bytes);
        archive.resize(archive.len().next_multiple_of(4), 0);
    }
    archive
}

/// Runs Bochs until the tests have said how they ended.
fn watched(dir: &Path) -> Result<()> {
    let said = dir.join("serial.txt");
    let _ = fs::remove_file(&said);
    fs::write(dir.join("bochsrc"), CONFIGURATION)?;
    fs::write(dir.join("commands"), "c\n")?;
    let mut bochs = Command::new("bochs-bin");
    bochs.args(["-q", "-f", "bochsrc", "-rc", "commands"]).current_dir(dir);
    let log = fs::File::create(dir.join("out.txt"))?;
    bochs.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    let mut child = Stopped(bochs.spawn().context("cannot start bochs")?);
    let started = started();
    while started.elapsed() < Duration::from_secs(WAIT_S) {
        std::thread::sleep(Duration::from_millis(500));
        let text = fs::read(&said).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        if let Some(at) = text.find("test result: ")
            && text[at..].contains('\n')
        {
            // Linux writes into the middle of it when its only program ends.
            text.lines()
                .filter(|line| line.starts_with("test "))
                .for_each(|line| println!("{line}"));
            let good =
                text[at..].starts_with("test result: ok. ") && !text.contains("ok. 0 passed");
            return if good { Ok(()) } else { Err(anyhow::anyhow!("tests failed under Bochs")) };
        }
        if child.0.try_wait()?.is_some() {
            break;
        }
    }
    bail!("Bochs did not get to the tests' end; see {}", dir.display())
}

/// Ends with its owner.
struct Stopped(Child);

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The wall clock, for the person who waits.
#[expect(clippy::disallowed_methods, reason = "nothing is decided by it but to give up")]
fn started() -> Instant {
    Instant::now()
}

/// A machine with a CD and a serial line into a file; no screen (nobody looks at the one of `rfb`).
const CONFIGURATION: &str = "\
megs: 256
romimage: file=/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest
cpu: model=corei7_icelake_u, ips=200000000, reset_on_triple_fault=0
ata0-master: type=cdrom, path=boot.iso, status=inserted
boot: cdrom
com1: enabled=1, mode=file, dev=serial.txt
display_library: rfb, options=\"timeout=0\"
speaker: enabled=0
clock: sync=none, time0=0
log: bochs.log
panic: action=fatal
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_has_a_header_a_name_and_bytes_each_at_a_multiple_of_four() {
        let archive = archive("init", b"abcde");
        let header = "0707010000000100 0081ed000000000000000000000001000000000000000500000000000000000000000000000000\
                      0000000500000000";
        assert_eq!(&archive[..110], header.replace(' ', "").as_bytes());
        assert_eq!(&archive[110..124], b"init\0\0abcde\0\0\0");
        assert!(archive.len().is_multiple_of(4) && archive[124..].starts_with(b"070701"));
    }
}
