//! Puts the fences up, in the child, before it has read a byte of the model.
//!
//! Each fence is tried; one that cannot be put up is named instead of being ignored, so that the
//! caller's policy can refuse to go on. What the child needs from outside is fetched before: the
//! engine's look at the processor, and open files under `/proc/self` to read its own size and
//! processor time from.

use super::sandbox::{Fence, Sandbox};
use super::{env, landlocked};
use crate::clock::CpuClock;
use crate::limits::CHILD_OPEN_FILES_MAX;
use rustix::process::{DumpableBehavior, Pid, Resource, Rlimit, Signal};
use std::fs::File;
use std::io::{self, Read, Seek};

/// What the fences left behind.
pub(super) struct Fenced {
    /// How well they stand.
    pub(super) sandbox: Sandbox,
    /// Address space that the program itself took, before any model.
    pub(super) own_bytes: u64,
    /// What the engine's runs are measured by.
    pub(super) cpu: CpuClock,
    status: Option<File>,
}

/// Puts up every fence.
pub(super) fn put_up() -> Result<Fenced, String> {
    // What the engine wants to know of this machine it may not look up later.
    #[cfg(feature = "tract")]
    crate::tract::look_around();
    let mut status = File::open("/proc/self/status").ok();
    let cpu = CpuClock::open();
    let mut sandbox = Sandbox::default();
    let own_bytes = limits(&mut sandbox, &mut status)?;
    landlocked::put_up(&mut sandbox);
    // Last: it forbids to build fences.
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    super::seccomp::put_up(&mut sandbox);
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    sandbox.lacks(Fence::SystemCalls, "no list of calls is written for this processor");
    Ok(Fenced { sandbox, own_bytes, cpu, status })
}

/// The fences that every Unix has. Gives the address space that the program takes by itself.
fn limits(sandbox: &mut Sandbox, status: &mut Option<File>) -> Result<u64, String> {
    let mut fence = |name: &str, result: io::Result<()>| {
        if let Err(error) = result {
            sandbox.lacks(Fence::Limits, format_args!("{name}: {error}"));
        }
    };
    // First, so that no later step can leave an orphan.
    fence("death with the parent", die_with_parent());
    fence("no new privileges", rustix::thread::set_no_new_privs(true).map_err(io::Error::from));
    let dumpable = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
    fence("no memory dump", dumpable.map_err(io::Error::from));
    fence("no core file", limit(Resource::Core, 0));
    fence("no file written", limit(Resource::Fsize, 0));
    fence("few open files", limit(Resource::Nofile, CHILD_OPEN_FILES_MAX));
    fence("CPU time", limit(Resource::Cpu, number(env::CPU_SECONDS)?));
    // On top of what the program takes by itself, which differs between hosts and says nothing
    // about the model.
    let own_bytes = status_bytes(status.as_mut(), "VmSize:");
    let allowed = own_bytes.saturating_add(number(env::MEMORY_BYTES)?);
    fence("address space", limit(Resource::As, allowed));
    Ok(own_bytes)
}

impl Fenced {
    /// A size of this process from the kernel's status, in bytes; 0 if it does not tell.
    pub(super) fn status_bytes(&mut self, field: &str) -> u64 {
        status_bytes(self.status.as_mut(), field)
    }
}

/// Asks the kernel to kill this process when its parent ends, and checks that it has not already.
fn die_with_parent() -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    let parent = number(env::PARENT).map_err(io::Error::other)?;
    let now = rustix::process::getppid().map(Pid::as_raw_nonzero);
    if now.is_some_and(|pid| u64::from(pid.get().unsigned_abs()) == parent) {
        Ok(())
    } else {
        Err(io::Error::other("the parent is another one"))
    }
}

/// Soft and hard limit alike. A hard limit that is already lower stays: it is the stronger fence.
fn limit(resource: Resource, value: u64) -> io::Result<()> {
    let hard = rustix::process::getrlimit(resource).maximum;
    let value = hard.map_or(value, |hard| hard.min(value));
    let both = Rlimit { current: Some(value), maximum: Some(value) };
    rustix::process::setrlimit(resource, both).map_err(io::Error::from)
}

/// A limit from the environment. Without one the child does not start.
fn number(name: &str) -> Result<u64, String> {
    let value = std::env::var(name).map_err(|_| format!("{name} is not set"))?;
    value.parse().map_err(|_| format!("{name} is no number"))
}

/// A size from the open `/proc/self/status`, which the kernel writes anew, in KiB, at every read.
fn status_bytes(status: Option<&mut File>, field: &str) -> u64 {
    let mut text = String::new();
    let read = status.map(|file| {
        file.rewind()?;
        file.read_to_string(&mut text)
    });
    if !matches!(read, Some(Ok(_))) {
        return 0;
    }
    let size = text.lines().find_map(|line| line.strip_prefix(field)?.strip_suffix(" kB"));
    size.and_then(|kib| kib.trim().parse::<u64>().ok()).map_or(0, |kib| kib * 1024)
}
