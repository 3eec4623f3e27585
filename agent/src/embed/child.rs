//! The program in which a new model is tried before it may answer.
//!
//! The daemon starts itself again. Inside somebody else's program that would start theirs, so the program
//! is named or found: any of the same version whose `main` begins with
//! [`child_requested`](fleetway_engine::selftest::child_requested); `fleetway-agent` and
//! `fleetway-engine-child` are such programs. An application may carry one in its package (on Android
//! as `lib….so` in the directory of native libraries, which is the one place to execute files from).
//!
//! **Where there is none**, no new model is tried, and so none is activated: a test that cannot be killed
//! is none, and a model that aborts would take the host down at each start. That is reported, to the fleet
//! and in the status, as a sandbox of state `none` that lacks every fence for want of a program; orders end
//! with `SANDBOX_TOO_WEAK`. What was confirmed before, and factory models, answer all the same.

use std::path::{Path, PathBuf};

/// What the program is called where it is looked for.
const PROGRAM: &str = "fleetway-agent";
/// Where packages put it. Not all of `PATH`: whoever can write somewhere in it would see models.
const DIRS: [&str; 2] = ["/usr/bin", "/usr/local/bin"];

/// Which program tries models.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Child {
    /// `fleetway-agent` beside this program, or where packages put it; none if it is not there.
    #[default]
    Find,
    /// This one.
    Program(PathBuf),
    /// This very program: its `main` begins with
    /// [`child_requested`](fleetway_engine::selftest::child_requested).
    ThisProgram,
    /// None: nothing new is installed.
    Absent,
}

/// The program that was named cannot be it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}: is no program; name one such as fleetway-agent, in which self-tests are run")]
pub struct ChildError(pub PathBuf);

impl Child {
    /// Where it is.
    pub(super) fn find(self) -> Result<Option<PathBuf>, ChildError> {
        match self {
            Self::Absent => Ok(None),
            Self::ThisProgram => Ok(Some("/proc/self/exe".into())),
            Self::Program(path) if is_program(&path) => Ok(Some(path)),
            Self::Program(path) => Err(ChildError(path)),
            Self::Find => {
                let us = std::env::current_exe().ok();
                let beside = us.as_deref().and_then(Path::parent).map(Path::to_path_buf);
                let dirs = beside.into_iter().chain(DIRS.map(PathBuf::from));
                Ok(dirs.map(|dir| dir.join(PROGRAM)).find(|path| is_program(path)))
            }
        }
    }
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    let executable = |meta: std::fs::Metadata| meta.permissions().mode() & 0o111 != 0;
    path.is_file() && path.metadata().is_ok_and(executable)
}
