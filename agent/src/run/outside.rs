//! What the loop gets from whoever runs it: a daemon's `main`, or a program with the agent inside.
//!
//! Signals, the service manager and everything else that belongs to a whole process are here, so that
//! the loop itself does nothing to a process that is not its own.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::Loader;
use crate::embed::changes::Changes;
use crate::service::Service;
use crate::serving::direct::Door;
use crate::status::Board;

/// Requests to stop that wait to be heard: the second one says "at once", a third says nothing more.
const STOPS_MAX: usize = 2;

/// Everything that differs between a daemon and a guest.
pub(crate) struct Outside {
    /// Each message asks the loop to stop; the second means at once.
    pub(crate) stops: mpsc::Receiver<()>,
    /// Who is told how we are, if anybody.
    pub(crate) service: Service,
    /// The program that is a self-test's child, if there is one.
    pub(crate) child: Option<PathBuf>,
    /// What makes engines.
    pub(crate) loader: Loader,
    /// Whether the process is the agent's alone. Its memory is measured only then.
    pub(crate) owns_process: bool,
    /// Where changes of what answers are told.
    pub(crate) changes: Option<Arc<Changes>>,
    /// Who is told that the agent runs.
    pub(crate) opened: Option<std::sync::mpsc::SyncSender<Opened>>,
}

/// An agent that runs, from outside its loop.
pub(crate) struct Opened {
    /// Where the status comes from.
    pub(crate) board: Arc<Board>,
    /// Where answers come from.
    pub(crate) door: Door,
}

impl Outside {
    /// A process of its own, under a service manager or a terminal: SIGTERM and SIGINT stop it, and it
    /// is its own child in a self-test.
    pub(super) fn daemon() -> io::Result<Self> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let (stop, stops) = mpsc::channel(STOPS_MAX);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                if stop.send(()).await.is_err() {
                    break;
                }
            }
        });
        Ok(Self {
            stops,
            service: Service::from_env(),
            child: Some("/proc/self/exe".into()),
            loader: fleetway_engine::load::load,
            owns_process: true,
            changes: None,
            opened: None,
        })
    }

    /// A part of another program, and the way to stop it.
    pub(crate) fn guest(
        child: Option<PathBuf>,
        changes: Arc<Changes>,
        opened: std::sync::mpsc::SyncSender<Opened>,
    ) -> (mpsc::Sender<()>, Self) {
        let (stop, stops) = mpsc::channel(STOPS_MAX);
        let outside = Self {
            stops,
            service: Service::default(),
            child,
            loader: fleetway_engine::load::load,
            owns_process: false,
            changes: Some(changes),
            opened: Some(opened),
        };
        (stop, outside)
    }
}
