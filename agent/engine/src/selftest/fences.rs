//! What the child can no longer do once it has fenced itself in.
//!
//! Each fence is tried; one that cannot be put up is named in the report instead of being ignored,
//! so that the caller's policy can refuse to go on. landlock and seccomp are the agent's to add.

use super::env;
use crate::limits::CHILD_OPEN_FILES_MAX;
use rustix::process::{DumpableBehavior, Pid, Resource, Rlimit, Signal};
use std::io;

/// What the fences left behind.
pub(super) struct Fenced {
    /// Names of those that would not stand.
    pub(super) missing: Vec<String>,
    /// Address space that the program itself took, before any model.
    pub(super) own_bytes: u64,
}

/// Puts up every fence.
pub(super) fn put_up() -> Result<Fenced, String> {
    let mut missing = Vec::new();
    let mut fence = |name: &str, result: io::Result<()>| {
        if let Err(error) = result {
            missing.push(format!("{name} ({error})"));
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
    let own_bytes = status_bytes("VmSize:");
    let allowed = own_bytes.saturating_add(number(env::MEMORY_BYTES)?);
    fence("address space", limit(Resource::As, allowed));
    Ok(Fenced { missing, own_bytes })
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

/// A size from `/proc/self/status`, which the kernel writes in KiB; 0 if it does not tell.
pub(super) fn status_bytes(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let size = status.lines().find_map(|line| line.strip_prefix(field)?.strip_suffix(" kB"));
    size.and_then(|kib| kib.trim().parse::<u64>().ok()).map_or(0, |kib| kib * 1024)
}
