//! The two walls that the kernel builds around the child: landlock and seccomp.
//!
//! The child needs no file (the model comes by pipe), no network, no other process. So landlock
//! allows nothing at all, and seccomp allows what computing and answering take: memory, time,
//! three pipes. What no model can need and only an attack does (a socket, a program, a file, a
//! signal to somebody) kills the child at once, so that it is noticed and judged; what is merely
//! not needed fails with EPERM, so that a new libc that asks for a novelty is not a bad model.
//!
//! Two filters, because a filter has one action for a match and one for the rest; the kernel takes
//! the stricter answer of both.

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetStatus,
    Scope,
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};
use std::collections::BTreeMap;

use super::sandbox::{Fence, Sandbox};

/// Allows no file, no port, and notes what this kernel cannot forbid.
pub(super) fn landlock(sandbox: &mut Sandbox) {
    if let Err(error) = restrict() {
        sandbox.lacks(Fence::Files, &error);
        sandbox.lacks(Fence::Tcp, &error);
        return;
    }
    let hard = || Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    // Version 3 is the first that also knows truncation.
    if let Err(error) = hard().handle_access(AccessFs::from_all(ABI::V3)) {
        sandbox.lacks(Fence::Files, error);
    }
    if let Err(error) = hard().handle_access(AccessNet::from_all(ABI::V4)) {
        sandbox.lacks(Fence::Tcp, error);
    }
}

/// Everything that this library version and this kernel know, forbidden.
fn restrict() -> Result<(), String> {
    let status = Ruleset::default()
        .handle_access(AccessFs::from_all(ABI::V6))
        .and_then(|rules| rules.handle_access(AccessNet::from_all(ABI::V6)))
        .and_then(|rules| rules.scope(Scope::from_all(ABI::V6)))
        .and_then(Ruleset::create)
        .and_then(landlock::RulesetCreated::restrict_self)
        .map_err(|error| error.to_string())?;
    match status.ruleset {
        RulesetStatus::NotEnforced => Err("this kernel has no landlock".to_owned()),
        RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced => Ok(()),
    }
}

/// Leaves only the system calls that computing takes. The last fence: it forbids to build fences.
pub(super) fn seccomp(sandbox: &mut Sandbox) {
    let filtered = filters().and_then(|filters| {
        filters.iter().try_for_each(|filter| {
            seccompiler::apply_filter(filter).map_err(|error| error.to_string())
        })
    });
    if let Err(why) = filtered {
        sandbox.lacks(Fence::SystemCalls, why);
    }
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

fn filters() -> Result<[BpfProgram; 2], String> {
    let arch = std::env::consts::ARCH;
    let known: Result<TargetArch, _> = arch.try_into();
    let target = known.map_err(|_| format!("no filter is written for {arch}"))?;
    let compile = |rules, mismatch, hit| -> Result<BpfProgram, seccompiler::BackendError> {
        SeccompFilter::new(rules, mismatch, hit, target)?.try_into()
    };
    let forbidden: Rules = FORBIDDEN.iter().map(|call| (i64::from(*call), Vec::new())).collect();
    let eperm = SeccompAction::Errno(libc::EPERM as u32);
    let kill = SeccompAction::KillProcess;
    let both = (|| {
        Ok([
            compile(forbidden, SeccompAction::Allow, kill)?,
            compile(allowed()?, eperm, SeccompAction::Allow)?,
        ])
    })();
    both.map_err(|error: seccompiler::BackendError| error.to_string())
}

/// What the child may call, some of it only with harmless arguments.
fn allowed() -> Result<Rules, seccompiler::BackendError> {
    let mut rules: Rules = ALLOWED.iter().map(|call| (i64::from(*call), Vec::new())).collect();
    let when = |arg, op, value| SeccompCondition::new(arg, SeccompCmpArgLen::Qword, op, value);
    // Memory, but none that holds code: nothing here compiles at run time.
    let exec = libc::PROT_EXEC as u64;
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        let data = when(2, SeccompCmpOp::MaskedEq(exec), 0)?;
        rules.insert(i64::from(call), vec![SeccompRule::new(vec![data])?]);
    }
    // abort() signals itself; nobody else may be signalled.
    let own = u64::from(std::process::id());
    rules.insert(
        i64::from(libc::SYS_tgkill),
        vec![SeccompRule::new(vec![when(0, SeccompCmpOp::Eq, own)?])?],
    );
    // Limits may be read, not set.
    rules.insert(
        i64::from(libc::SYS_prlimit64),
        vec![SeccompRule::new(vec![when(0, SeccompCmpOp::Eq, 0)?, when(2, SeccompCmpOp::Eq, 0)?])?],
    );
    Ok(rules)
}

/// Memory, time, the pipes, the end; and what Rust's runtime and libc ask on the way.
const ALLOWED: &[libc::c_long] = &[
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_lseek,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_close,
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_getrandom,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_getrusage,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// What only an attack asks for: files, other processes, other programs, the network, the kernel.
const FORBIDDEN: &[libc::c_long] = &[
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_unlinkat,
    libc::SYS_renameat2,
    libc::SYS_mkdirat,
    libc::SYS_linkat,
    libc::SYS_symlinkat,
    libc::SYS_mknodat,
    libc::SYS_fchmodat,
    libc::SYS_fchownat,
    libc::SYS_truncate,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_chroot,
    libc::SYS_pivot_root,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_send_signal,
    libc::SYS_kill,
    libc::SYS_tkill,
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept4,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_sendmmsg,
    libc::SYS_memfd_create,
    libc::SYS_io_uring_setup,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_reboot,
    // What x86-64 keeps from before the calls above.
    #[cfg(target_arch = "x86_64")]
    libc::SYS_open,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_creat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_unlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rename,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mkdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_link,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_symlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_fork,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_vfork,
];

#[cfg(test)]
mod tests {
    use super::*;

    /// landlock alone, on a thread of its own: it binds whoever asks for it.
    #[test]
    fn landlock_alone_closes_files_and_tcp() {
        use std::io::ErrorKind::PermissionDenied;
        let dir = std::env::temp_dir();
        let inside = std::thread::spawn(move || {
            let mut sandbox = Sandbox::default();
            landlock(&mut sandbox);
            assert_eq!(sandbox.to_string(), "full");
            let kind = |result: std::io::Result<()>| result.map_err(|error| error.kind());
            let tries = [
                kind(std::fs::File::open("/etc/passwd").map(drop)),
                kind(std::fs::write(dir.join("fleetway-escape"), b"!")),
                kind(std::fs::read_dir("/").map(drop)),
                kind(std::net::TcpListener::bind("127.0.0.1:0").map(drop)),
                kind(std::net::TcpStream::connect("127.0.0.1:1").map(drop)),
            ];
            assert_eq!(tries, [Err(PermissionDenied); 5]);
        });
        inside.join().unwrap();
        assert!(std::fs::File::open("/etc/passwd").is_ok(), "only the thread that asked is bound");
    }

    #[test]
    fn the_two_lists_are_two() {
        let allowed = allowed().unwrap();
        assert!(FORBIDDEN.iter().all(|call| !allowed.contains_key(&i64::from(*call))));
        assert!(filters().unwrap().iter().all(|filter| !filter.is_empty()));
    }
}
