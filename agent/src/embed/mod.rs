//! The agent inside another program: for phones, and for applications that want no second process.
//!
//! [`Agent::open`] runs the daemon's own loop ([`crate::run`]) on threads of its own; there is no second
//! implementation. What a daemon does to its process is not done here: no signal handler, no log
//! is set up, no service manager is told, no file descriptor is inherited. Log lines are `tracing`'s, for
//! whoever listens.
//!
//! Read in this order: this page, [`child`] (the program that tries models), [`changes`] (who is told
//! that another release answers), `host` (the thread, and its end).
//!
//! **What a host must know.** A panic in here is caught and becomes an error; the program must be built
//! with `panic = "unwind"` for that. A model that was admitted and runs can still abort the process, as
//! it can abort the daemon: the self-test before, in its own process, is the fence. After `fork` the
//! child must not use the agent. A host that ignores SIGCHLD takes the self-test its child's end.
//!
//! ```no_run
//! use fleetway_agent::embed::{Agent, NamedTensor, Tensor};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let agent = Agent::open("/var/lib/my-app/fleetway")?;
//! let told = agent.on_model_changed(|change| println!("{change:?}"))?;
//! let tensor = Tensor::from_f32(&[1, 1, 8, 8], vec![0.0; 64])?;
//! let answer = agent.infer("digits", vec![NamedTensor { name: "image".into(), tensor }])?;
//! println!("{} of release {} says {:?}", answer.version, answer.release, answer.outputs);
//! drop(told);
//! agent.close()?;
//! # Ok(())
//! # }
//! ```

pub mod changes;
pub mod child;
mod host;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use crate::config::{Config, ConfigError};
use crate::run::{LockError, RunError};
use crate::serving::listen::Endpoints;
use crate::serving::panic_text;
use crate::status::Status;

pub use crate::serving::direct::{Answer, InferError, NamedTensor};
pub use changes::{ModelChange, SubscribeError, Subscription};
pub use child::{Child, ChildError};
pub use fleetway_engine::selftest::{child_main, child_requested};
pub use fleetway_engine::tensor::{DType, Tensor, TensorData, TensorError};

use host::Host;

/// The file that a directory is opened by, as `fleetway-agent join` writes it.
const CONFIG_FILE: &str = "agent.toml";

/// How to open an agent.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The program that tries models in a process of its own.
    pub child: Child,
    /// Whether the sockets of the configuration are opened too, for other applications and for
    /// `fleetway-agent status`. Without them the agent is this program's alone.
    pub sockets: bool,
}

/// Why no agent was opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The configuration is missing or wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The program for self-tests is not there.
    #[error(transparent)]
    Child(#[from] ChildError),
    /// This very process has it open.
    #[error("{0}: is open in this program already; close that agent first, or share it")]
    OpenHere(PathBuf),
    /// Another process has it open.
    #[error(transparent)]
    OpenElsewhere(LockError),
    /// It cannot run.
    #[error(transparent)]
    Run(RunError),
    /// A panic in here would end the host.
    #[error("this program ends at a panic; build it with panic = \"unwind\"")]
    PanicEnds,
    /// The system has no threads.
    #[error("cannot start threads")]
    Threads(#[source] std::io::Error),
    /// A bug of ours, which was caught.
    #[error("the agent failed while it was opened ({0}); this is a bug of fleetway's")]
    Panicked(String),
}

/// Why an agent did not end as it should.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CloseError {
    /// Its loop had ended before, by a bug that was caught. What is on the disk is as after a power cut.
    #[error("the agent had failed before ({0}); this is a bug of fleetway's")]
    Failed(String),
}

/// An agent in this process. May be used from any number of threads; dropped, it closes itself.
pub struct Agent {
    host: Host,
}

impl Agent {
    /// Opens the device whose configuration is the file `at`, or `agent.toml` in the directory `at`.
    ///
    /// Blocks until what was confirmed before is being loaded, which takes some milliseconds, or two seconds
    /// where somebody else has the directory; never for the network.
    ///
    /// # Errors
    /// [`OpenError`] says what to mend.
    pub fn open(at: impl AsRef<Path>) -> Result<Self, OpenError> {
        Self::open_with(at, Options::default())
    }

    /// The same, as `options` say.
    ///
    /// # Errors
    /// [`OpenError`] says what to mend.
    pub fn open_with(at: impl AsRef<Path>, options: Options) -> Result<Self, OpenError> {
        if cfg!(panic = "abort") {
            return Err(OpenError::PanicEnds);
        }
        let at = at.as_ref();
        let file = if at.is_dir() { at.join(CONFIG_FILE) } else { at.to_path_buf() };
        let mut config = Config::load(&file)?;
        if !options.sockets {
            config.serve.endpoints = Endpoints::default();
        }
        let child = options.child.find()?;
        let data_dir = config.data_dir.clone();
        let host = Host::start(config, child).map_err(|error| match error {
            OpenError::Run(RunError::Lock(LockError::Taken { pid, .. }))
                if pid == std::process::id().to_string() =>
            {
                OpenError::OpenHere(data_dir)
            }
            OpenError::Run(RunError::Lock(taken @ LockError::Taken { .. })) => {
                OpenError::OpenElsewhere(taken)
            }
            error => error,
        })?;
        Ok(Self { host })
    }

    /// Asks a model and waits for its answer: for a turn at most a second, for the run at most ten.
    ///
    /// `inputs` are in any order, each with its name, exact type and shape; what is copied is their
    /// elements, once.
    ///
    /// # Errors
    /// [`InferError`] tells the caller's mistakes from the release's failures.
    pub fn infer(&self, model: &str, inputs: Vec<NamedTensor>) -> Result<Answer, InferError> {
        self.host.infer(model, inputs)
    }

    /// What runs, why, and what is wrong: what `fleetway-agent status` shows.
    pub fn status(&self) -> Status {
        self.host.status()
    }

    /// Calls `callback` with every model that answers now, and from then on whenever another release, or
    /// none, answers for a model. It runs on a thread of its own, one call at a time, and may be slow: it
    /// sees the newest state then, and not what came and went meanwhile. A panic in it is logged.
    ///
    /// # Errors
    /// [`SubscribeError`]: too many, or no agent any more.
    pub fn on_model_changed(
        &self,
        callback: impl FnMut(&ModelChange) + Send + 'static,
    ) -> Result<Subscription, SubscribeError> {
        changes::subscribe(self.host.changes(), callback)
    }

    /// Ends as the daemon does on SIGTERM: what is under way is brought to a safe place, the fleet is
    /// told, and the next start goes on from there. Takes ten seconds at most, and waits for
    /// callbacks that run, unless it is called from one. Everything asked afterwards is refused.
    ///
    /// # Errors
    /// [`CloseError`], when there was nothing left to end gracefully. Closing twice is no error.
    pub fn close(&self) -> Result<(), CloseError> {
        self.host.close()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::error!("{error}");
        }
    }
}

impl std::fmt::Debug for Agent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Agent").finish_non_exhaustive()
    }
}
