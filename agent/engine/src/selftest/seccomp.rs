//! The wall around the kernel itself: seccomp. What is allowed is what computing and answering take:
//! memory, time, three pipes.
//!
//! What no model can need and only an attack does (a socket, a program, a file, a signal to
//! somebody) kills the child at once, so that it is noticed and judged; what is merely not needed
//! fails with EPERM, so that a new libc that asks for a novelty is not a bad model. Two filters,
//! because a filter has one action for a match and one for the rest; the kernel takes the stricter
//! answer of both.

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};
use std::collections::BTreeMap;

use super::sandbox::{Fence, Sandbox};

/// Leaves only the system calls that computing takes. The last fence: it forbids to build fences.
pub(super) fn put_up(sandbox: &mut Sandbox) {
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
    let forbidden: Rules = FORBIDDEN.iter().map(|call| (*call, Vec::new())).collect();
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
    let mut rules: Rules = ALLOWED.iter().map(|call| (*call, Vec::new())).collect();
    let when = |arg, op, value| SeccompCondition::new(arg, SeccompCmpArgLen::Qword, op, value);
    // Memory, but none that holds code: nothing here compiles at run time.
    let exec = libc::PROT_EXEC as u64;
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        let data = when(2, SeccompCmpOp::MaskedEq(exec), 0)?;
        rules.insert(call, vec![SeccompRule::new(vec![data])?]);
    }
    // abort() signals itself; nobody else may be signalled.
    let own = u64::from(std::process::id());
    rules.insert(libc::SYS_tgkill, vec![SeccompRule::new(vec![when(0, SeccompCmpOp::Eq, own)?])?]);
    // Limits may be read, not set.
    rules.insert(
        libc::SYS_prlimit64,
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

/// `libc` has no name for it on Android; this is asm-generic/unistd.h's number, which AArch64 has.
#[cfg(target_os = "android")]
const SYS_TRUNCATE: libc::c_long = 45;
#[cfg(not(target_os = "android"))]
const SYS_TRUNCATE: libc::c_long = libc::SYS_truncate;

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
    SYS_TRUNCATE,
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

    #[test]
    fn the_two_lists_are_two() {
        let allowed = allowed().unwrap();
        assert!(FORBIDDEN.iter().all(|call| !allowed.contains_key(call)));
        assert!(filters().unwrap().iter().all(|filter| !filter.is_empty()));
    }
}
