//! The thread that the loop lives on, and its end.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::mpsc;

use super::changes::Changes;
use super::{Answer, CloseError, InferError, NamedTensor, OpenError, panic_text};
use crate::config::Config;
use crate::run::{Opened, Outside, RunError, run_in};
use crate::serving::direct::Door;
use crate::status::{Board, Status};

/// As many as the daemon has: one for the loop, one for applications.
const WORKERS: usize = 2;
/// How long threads that hang in an engine are waited for, as in the daemon. They are left behind.
const RUNTIME_END: Duration = Duration::from_secs(1);

/// How the loop ended: as asked, or by a panic.
type Ended = Result<Result<(), RunError>, String>;

/// A running loop.
pub(super) struct Host {
    board: Arc<Board>,
    door: Door,
    runtime: Handle,
    changes: Arc<Changes>,
    stop: mpsc::Sender<()>,
    life: Arc<Mutex<Life>>,
    thread: Mutex<Option<JoinHandle<Ended>>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Life {
    Runs,
    /// Somebody asked for the end.
    Closed,
    /// A bug ended it.
    Failed(String),
}

impl Life {
    fn text(&self) -> Option<String> {
        match self {
            Self::Runs => None,
            Self::Closed => Some("the agent was closed".to_owned()),
            Self::Failed(why) => {
                Some(format!("the agent failed ({why}) and has ended; close it and open it again"))
            }
        }
    }
}

impl Host {
    pub(super) fn start(config: Config, child: Option<PathBuf>) -> Result<Self, OpenError> {
        Self::start_with(child, move |outside| async move {
            // A guest never takes the process over.
            run_in(config, outside).await.map(drop)
        })
    }

    /// The same with another loop: the seam through which tests make it panic.
    pub(super) fn start_with<F>(
        child: Option<PathBuf>,
        run: impl FnOnce(Outside) -> F + Send + 'static,
    ) -> Result<Self, OpenError>
    where
        F: Future<Output = Result<(), RunError>>,
    {
        let runtime = Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .thread_name("fleetway-io")
            .enable_all()
            .build()
            .map_err(OpenError::Threads)?;
        let handle = runtime.handle().clone();
        let changes = Arc::new(Changes::default());
        let (opened, told) = sync_channel(1);
        let (stop, outside) = Outside::guest(child, changes.clone(), opened);
        let life = Arc::new(Mutex::new(Life::Runs));
        let work = {
            let life = life.clone();
            move || live(runtime, || run(outside), &life)
        };
        let thread = std::thread::Builder::new().name("fleetway".into()).spawn(work);
        let thread = thread.map_err(OpenError::Threads)?;
        match told.recv() {
            Ok(Opened { board, door }) => Ok(Self {
                board,
                door,
                runtime: handle,
                changes,
                stop,
                life,
                thread: Mutex::new(Some(thread)),
            }),
            // It ended before it ran.
            Err(_) => Err(match thread.join() {
                Ok(Ok(Err(error))) => OpenError::Run(error),
                Ok(Err(why)) => OpenError::Panicked(why),
                Ok(Ok(Ok(()))) => OpenError::Panicked("it ended at once".to_owned()),
                Err(panic) => OpenError::Panicked(panic_text(&*panic)),
            }),
        }
    }

    pub(super) fn changes(&self) -> &Arc<Changes> {
        &self.changes
    }

    fn life(&self) -> Life {
        self.life.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whatever ends the agent meanwhile, the answer channel ends too.
    pub(super) fn infer(
        &self,
        model: &str,
        inputs: Vec<NamedTensor>,
    ) -> Result<Answer, InferError> {
        let closed = || self.life().text().map(InferError::Closed);
        if let Some(error) = closed() {
            return Err(error);
        }
        let (tell, told) = sync_channel(1);
        self.runtime.spawn(ask(self.door.clone(), model.to_owned(), inputs, tell));
        told.recv().unwrap_or_else(|_| {
            let text = "the agent failed on this request; its log says more".to_owned();
            Err(closed().unwrap_or(InferError::Failed(text)))
        })
    }

    pub(super) fn status(&self) -> Status {
        let mut status = self.board.status();
        status.problems.splice(0..0, self.life().text());
        status
    }

    pub(super) fn close(&self) -> Result<(), CloseError> {
        {
            let mut life = self.life.lock().unwrap_or_else(PoisonError::into_inner);
            if *life == Life::Runs {
                *life = Life::Closed;
            }
        }
        // Full is asked already; without a receiver it has ended.
        let _ = self.stop.try_send(());
        {
            // Held meanwhile: whoever else closes it waits for the same end.
            let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(thread) = thread.take() {
                // Its panics are caught inside, and noted in its life.
                let _ = thread.join();
            }
        }
        self.changes.end();
        self.door.unload();
        match self.life() {
            Life::Failed(why) => Err(CloseError::Failed(why)),
            _ => Ok(()),
        }
    }
}

async fn ask(
    door: Door,
    model: String,
    inputs: Vec<NamedTensor>,
    tell: SyncSender<Result<Answer, InferError>>,
) {
    // Whoever asked may be gone.
    let _ = tell.send(door.infer(&model, inputs).await);
}

/// The loop from its first line to its last, whatever happens in between.
fn live<F>(runtime: Runtime, run: impl FnOnce() -> F, life: &Mutex<Life>) -> Ended
where
    F: Future<Output = Result<(), RunError>>,
{
    let ended = catch_unwind(AssertUnwindSafe(|| runtime.block_on(run())));
    // A hung engine must not keep the host: its thread is left behind.
    runtime.shutdown_timeout(RUNTIME_END);
    let ended = ended.map_err(|panic| panic_text(&*panic));
    let mut life = life.lock().unwrap_or_else(PoisonError::into_inner);
    match &ended {
        Err(why) => *life = Life::Failed(why.clone()),
        Ok(_) if *life == Life::Runs => *life = Life::Closed,
        Ok(_) => {}
    }
    ended
}
