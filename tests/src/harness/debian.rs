//! A Debian box of its own for a test: this machine's root, copied on write, with a systemd that
//! is process 1 in it. Packages are installed there by the real dpkg and units run under the real
//! service manager, with every restriction they ask for; the machine itself is not touched.
//!
//! Takes root with the right to mount (`CAP_SYS_ADMIN`). Where a user has neither,
//! [`Debian::impossible`] says why, for the test to print.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::cli::{self, Done};
use super::process::Process;
use super::wait;

const BOOT: &str = include_str!("debian.sh");
/// Longer than a boot to `basic.target` takes on a loaded machine.
const BOOT_MAX: Duration = Duration::from_secs(60);
/// The capability to mount: bit 21.
const CAP_SYS_ADMIN: u32 = 21;

/// A running box. It ends, with all its processes, when it is dropped.
#[derive(Debug)]
pub struct Debian {
    process: Process,
    dir: PathBuf,
    cgroup: String,
    init: u32,
}

impl Debian {
    /// Why there can be no box here, if so.
    pub fn impossible() -> Option<String> {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let rights = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
        let rights = rights.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0);
        if rights & (1 << CAP_SYS_ADMIN) == 0 {
            return Some("this user may not mount (no CAP_SYS_ADMIN); run it as root".to_owned());
        }
        let systemd = Path::new("/lib/systemd/systemd");
        (!systemd.exists()).then(|| "there is no systemd; `apt-get install systemd`".to_owned())
    }

    /// Boots a box whose `/mnt` is `dir/share`.
    ///
    /// # Errors
    /// If it does not come up, with its last words.
    pub async fn boot(dir: &Path) -> Result<Self> {
        let share = dir.join("share");
        std::fs::create_dir_all(&share).with_context(|| share.display().to_string())?;
        let cgroup = format!("fleetway-box-{}", std::process::id());
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "sh", "-c", BOOT, "boot"]).arg(dir).arg(&cgroup);
        let process = Process::start("the box", &mut unshare, &dir.join("box.log"))?;
        let dir = dir.to_path_buf();
        let mut debian = Self { process, dir, cgroup, init: 0 };
        let init = wait::until("the box's process 1", BOOT_MAX, async || {
            debian.process.check_running()?;
            first_child(debian.process.pid())
        });
        debian.init = init.await?;
        wait::until("the box to be up", BOOT_MAX, async || {
            debian.process.check_running()?;
            debian.run("systemctl is-active basic.target").await?.expect_code(0).map(drop)
        })
        .await?;
        Ok(debian)
    }

    /// The box's root, as we see it.
    pub fn root(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root", self.init))
    }

    /// Runs a shell line in it, as root.
    ///
    /// # Errors
    /// Only if it cannot be run at all.
    pub async fn run(&self, line: &str) -> Result<Done> {
        let mut nsenter = tokio::process::Command::new("nsenter");
        nsenter.arg("--target").arg(self.init.to_string());
        nsenter.args(["--mount", "--pid", "--uts", "--ipc", "--cgroup", "--root"]);
        nsenter.args(["--", "/bin/sh", "-c", line]).env_clear();
        nsenter.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", "/root");
        nsenter.env("LANG", "C.UTF-8").env("DEBIAN_FRONTEND", "noninteractive");
        cli::run(nsenter, format!("box# {line}")).await
    }

    /// Runs it and expects success.
    ///
    /// # Errors
    /// With both outputs, if the exit code is not 0.
    pub async fn ok(&self, line: &str) -> Result<Done> {
        self.run(line).await?.expect_code(0)
    }

    /// What it prints, trimmed, if it succeeds.
    ///
    /// # Errors
    /// With both outputs, if the exit code is not 0.
    pub async fn text(&self, line: &str) -> Result<String> {
        Ok(self.ok(line).await?.stdout.trim().to_owned())
    }
}

/// The process that `unshare --fork` waits for.
fn first_child(pid: u32) -> Result<u32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let text = std::fs::read_to_string(&path).with_context(|| path.clone())?;
    let child: u32 = text.split(' ').next().unwrap_or_default().parse().context("no child yet")?;
    let comm = std::fs::read_to_string(format!("/proc/{child}/comm")).context("its name")?;
    ensure!(comm.trim() == "systemd", "it is still {}", comm.trim());
    Ok(child)
}

impl Drop for Debian {
    fn drop(&mut self) {
        // All of its processes go with process 1; then nobody is in its cgroups.
        let _ = self.process.kill();
        let sweep = "cd \"$1\" && mount -t cgroup2 cgroup2 cgroup && cd cgroup && \
                     for try in 1 2 3 4 5 6 7 8 9 10; do \
                     find \"$2\" -depth -type d -exec rmdir {} + && break; sleep 0.1; done";
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "sh", "-c", sweep, "sweep"]).arg(&self.dir).arg(&self.cgroup);
        let _ = unshare.stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}
