//! The daemon: one event loop that carries facts to the device core and its commands out.
//! A program that has the agent inside ([`crate::embed`]) runs the same loop; what differs is in
//! `outside`.
//!
//! Nothing is decided here. What takes long (a self-test, loading an engine) runs on the
//! blocking pool and comes back as a fact; file effects run inside the core, on the loop.
//! If the process dies at any line, the next start takes everything up from the slot tables
//! and the stored order ([`crate::device`]).

mod jobs;
mod link;
mod lock;
mod measure;
mod outside;
mod signing;
mod start;
mod story;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fleetway_engine::tract::TractEngine;
use fleetway_engine::{Require, Sandbox};
use fleetway_link::{Link as _, LinkEvent, LinkHandle, Outgoing, Qos, Subscription};
use fleetway_protocol::enroll::Floor;
use fleetway_protocol::ids::ModelName;
use fleetway_protocol::topics::Topic;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::clock::Clock;
use crate::config::Config;
use crate::device::{Device, Now, Output, Publish};
use crate::embed::changes::Changes;
use crate::fs::RealFs;
use crate::host::HostReader;
use crate::identity::floor::FloorQuestion;
use crate::service::Service;
use crate::serving::direct::Door;
use crate::serving::http::Api;
use crate::serving::listen::{ServeError, Server};
use crate::serving::live::Models;
use crate::status::{Board, Serving};
use crate::store::Store;
use jobs::{Answer, Jobs};
pub(crate) use link::SESSION;
use link::Started;
pub use lock::LockError;
pub(crate) use outside::{Opened, Outside};
use signing::ReportSigner;
pub(crate) use start::device_config;
use start::make_socket_dir;
use story::Story;

/// How long the end may take until what is under way is cut: a service manager waits longer.
const STOP_MAX: Duration = Duration::from_secs(8);
/// How long the last messages may take.
const DRAIN_MAX: Duration = Duration::from_secs(2);
/// Messages taken between two looks at everything else: as many as the link holds for us.
const EVENTS_PER_TURN_MAX: usize = 64;
/// Answers taken from the recorder at once.
const ANSWERS_MAX: usize = 1024;
/// Longest sleep of the loop, milliseconds: the status shows a download's progress, and a trial's
/// memory is looked at, by the second.
const LOOK_MS: u64 = 1_000;

/// Why the agent cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Another agent has this directory.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The data directory cannot be used.
    #[error(
        "{path}: cannot be used; check that it exists on a writable disk and belongs to this user"
    )]
    Data {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Applications cannot be served.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] fleetway_link::TlsError),
    /// The link cannot even be tried.
    #[error(transparent)]
    Link(#[from] fleetway_link::StartError),
    /// Signals cannot be had.
    #[error("cannot listen for signals")]
    Signals(#[source] io::Error),
}

struct Agent {
    device: Device<RealFs>,
    clock: Clock,
    models: Arc<Models>,
    board: Arc<Board>,
    jobs: Jobs,
    require: Require,
    link: LinkHandle,
    signer: ReportSigner,
    question: Option<FloorQuestion>,
    floors: mpsc::Sender<Floor>,
    service: Service,
    story: Story,
    changes: Option<Arc<Changes>>,
    owns_process: bool,
    host: HostReader,
    /// When the process's memory was last looked at.
    memory_at_ms: u64,
    halted: bool,
    link_problem: Option<String>,
}

/// Runs the agent until it is asked to stop.
///
/// # Errors
/// [`RunError`], before anything was served. Once it runs, nothing ends it but a signal.
pub async fn run(config: Config) -> Result<(), RunError> {
    run_in(config, Outside::daemon().map_err(RunError::Signals)?).await
}

/// The same, wherever it is.
pub(crate) async fn run_in(config: Config, outside: Outside) -> Result<(), RunError> {
    let Outside { stops, service, child, owns_process, changes, opened } = outside;
    let _lock = lock::take(&config.data_dir).await?;
    let data = |source| RunError::Data { path: config.data_dir.clone(), source };
    let store =
        Store::open(RealFs, &config.data_dir, config.factory_dir.as_deref()).map_err(data)?;
    let clock = Clock::new(store.device().time_floor_s);
    let mut device = Device::open(device_config(&config), store, now(&clock)).map_err(data)?;
    let models = Arc::new(Models::with(config.serve.models.clone()));
    let broker = config.broker.url.to_string();
    let device_id = config.device.clone();
    let board = Board::new(device_id, broker, config.sandbox, clock.clone(), Arc::clone(&models));
    let board = Arc::new(board);
    let status = Arc::clone(&board);
    let api = Api::new(
        Arc::clone(&models),
        Arc::new(move || status.status()),
        config.serve.concurrent_max,
    );
    let door = Door::of(&api, &models);
    let (jobs, answers) = Jobs::new(config.sandbox, child);
    let Started { handle: link, events, shown, signer, problem } =
        link::start(&config, &mut device, &clock)?;
    link::start_renewal(&config, shown, &link, &clock, &board);
    let question = link::floor_question(&config, &clock, device.epoch());
    // One answer, and one more if the disk refused the first.
    let (floors, told) = mpsc::channel(2);
    link::ask_floor(question.as_ref(), &device, &floors);
    let mut agent = Agent {
        device,
        clock,
        models,
        board,
        jobs,
        require: config.sandbox,
        link,
        signer,
        question,
        floors,
        service,
        story: Story::default(),
        changes,
        owns_process,
        host: HostReader::new(&config.data_dir),
        memory_at_ms: 0,
        halted: false,
        link_problem: problem,
    };
    for model in agent.device.status(now(&agent.clock)) {
        // Known and not loaded yet is "not ready", not "unknown".
        if let Err(error) = agent.models.add(&model.model) {
            tracing::error!("{error}");
        }
    }
    make_socket_dir(&config);
    let server = Server::start(&config.serve.endpoints, api).await?;
    let serving = Serving::of(&server);
    tracing::info!(device = %config.device, ?serving, "fleetway-agent runs");
    agent.board.set_serving(serving);
    agent.jobs.probe();
    if let Some(opened) = opened {
        // Who opened it waits for this.
        let _ = opened.send(Opened { board: Arc::clone(&agent.board), door });
    }
    agent.event_loop(events, answers, told, stops, config.link.telemetry).await;
    agent.say_goodbye(&config).await;
    server.shutdown().await;
    Ok(())
}

fn now(clock: &Clock) -> Now {
    Now { ms: clock.monotonic_ms(), unix_s: clock.unix_s() }
}

impl Agent {
    async fn event_loop(
        &mut self,
        mut events: mpsc::Receiver<LinkEvent>,
        mut answers: mpsc::Receiver<Answer>,
        mut told: mpsc::Receiver<Floor>,
        mut stops: mpsc::Receiver<()>,
        telemetry: Duration,
    ) {
        let mut report = tokio::time::interval(telemetry);
        let mut stop_by: Option<Instant> = None;
        self.drain();
        while !self.halted {
            let wake = self.sleep();
            tokio::select! {
                Some(event) = events.recv() => {
                    self.link_event(event);
                    // What else has come is taken in one go, before the disk is synced again. Not
                    // without end: under a flood everything below must have its turn too.
                    for _ in 0..EVENTS_PER_TURN_MAX {
                        let Ok(event) = events.try_recv() else { break };
                        self.link_event(event);
                    }
                }
                Some(answer) = answers.recv() => self.job_ended(answer),
                Some(floor) = told.recv() => self.floor_told(floor),
                _ = report.tick() => self.send_telemetry(),
                _ = tokio::time::sleep(wake) => self.tick(),
                Some(()) = stops.recv() => self.stop(&mut stop_by),
            }
            self.drain();
            if stop_by.is_some_and(|by| Instant::now() >= by) {
                tracing::warn!("stopping without waiting any longer for the disk or a job");
                break;
            }
        }
    }

    fn stop(&mut self, stop_by: &mut Option<Instant>) {
        if stop_by.is_some() {
            tracing::warn!("asked twice: stopping now");
            self.halted = true;
            return;
        }
        tracing::info!("stopping: ends what is under way, at most {} s", STOP_MAX.as_secs());
        *stop_by = Some(Instant::now() + STOP_MAX);
        self.service.stopping(STOP_MAX + DRAIN_MAX);
        self.device.handle_stop(now(&self.clock));
    }

    fn sleep(&self) -> Duration {
        let now = now(&self.clock);
        let wake_ms = self.device.poll_timeout(now).unwrap_or(u64::MAX);
        Duration::from_millis(wake_ms.saturating_sub(now.ms).clamp(1, LOOK_MS))
    }

    fn tick(&mut self) {
        let now = now(&self.clock);
        self.look_at_memory(now);
        self.device.handle_tick(now);
    }

    /// Real answers, for the judgement of a probation.
    fn take_answers(&mut self) {
        for live in self.models.list() {
            for (release, answer) in live.recorder().drain(ANSWERS_MAX) {
                self.device.handle_answer(live.model(), release, &answer);
            }
        }
    }

    fn link_event(&mut self, event: LinkEvent) {
        let now = now(&self.clock);
        match event {
            LinkEvent::Up { version, .. } => {
                tracing::info!(%version, "connected");
                self.board.link_up();
                self.device.handle_up(now);
            }
            LinkEvent::Down { reason, retry_in } => {
                tracing::warn!(%reason, retry_s = retry_in.as_secs_f32(), "not connected");
                self.board.link_down(reason);
                self.device.handle_down(now);
            }
            LinkEvent::Message { topic, payload, .. } => {
                self.device.handle_message(now, &topic, &payload);
                self.clock.raise_floor(self.device.time_floor_s());
            }
            LinkEvent::Refused { topic, code, .. } => {
                let text = format!(
                    "the broker refused {topic} with code {code:#04x}; check that its rules know this device's certificate"
                );
                tracing::warn!("{text}");
                self.link_problem = Some(text);
            }
        }
    }

    fn floor_told(&mut self, floor: Floor) {
        if let Err(error) = self.device.handle_floor(now(&self.clock), floor) {
            tracing::error!("which orders are old cannot be stored ({error}); asking again");
            link::ask_floor(self.question.as_ref(), &self.device, &self.floors);
        }
    }

    fn sandbox_is(&mut self, sandbox: &Sandbox) {
        self.board.set_sandbox(sandbox);
        self.device.handle_sandbox(now(&self.clock), sandbox.report(self.require));
    }

    fn job_ended(&mut self, answer: Answer) {
        let now = now(&self.clock);
        match answer {
            Answer::SelfTested { model, token, result } => {
                let result = result.map(|sandbox| self.sandbox_is(&sandbox));
                self.device.handle_self_test(now, &model, token, result);
            }
            Answer::Probed(sandbox) => {
                if let Some(sandbox) = sandbox {
                    tracing::info!(%sandbox, "self-tests are fenced in");
                    self.sandbox_is(&sandbox);
                }
            }
            Answer::Loaded { model, token, result } => {
                // The counters of the release that goes: nobody asks for them later.
                self.send_telemetry();
                let result = result.and_then(|loaded| {
                    let release = loaded.release;
                    let live = self.models.add(&model).map_err(|error| {
                        tracing::error!("{error}");
                        fleetway_protocol::reason::Reason::ActivationFailed
                    })?;
                    // The one moment of the swap: requests under way end on the old engine.
                    live.swap(Some(loaded));
                    Ok(release)
                });
                self.device.handle_activated(now, &model, token, result);
            }
        }
    }

    fn drain(&mut self) {
        // On every turn: however busy the link is, the judge gets its evidence.
        self.take_answers();
        while let Some(output) = self.device.poll() {
            match output {
                Output::Publish(publish) => self.publish(publish),
                Output::Subscribe(topic) => {
                    // A chunk that is lost is asked for again at once, a timestamp is not.
                    let is_trust = matches!(
                        Topic::parse(&self.device.config().root, &topic),
                        Some(Topic::Trust(_))
                    );
                    let qos = if is_trust { Qos::AtLeastOnce } else { Qos::AtMostOnce };
                    let subscription = Subscription::new(topic, qos);
                    if let Err(error) = self.link.subscribe(subscription) {
                        // The transfer asks again, elsewhere, when nothing comes.
                        tracing::warn!("{error}");
                    }
                }
                Output::Unsubscribe(topic) => self.link.unsubscribe(&topic),
                Output::SelfTest(job) => self.jobs.self_test(*job),
                Output::Activate(job) => self.jobs.activate(*job, self.clock.monotonic_ms()),
                Output::Unload(model, token) => {
                    self.unload(&model);
                    self.device.handle_unloaded(now(&self.clock), &model, token);
                }
                Output::Halt => self.halted = true,
            }
        }
        let problems = self.device.order_problem().map(str::to_owned);
        let problems = problems.into_iter().chain(self.link_problem.clone()).collect();
        let models = self.device.status(now(&self.clock));
        self.story.tell(&models);
        if let Some(changes) = &self.changes {
            changes.look(&self.models);
        }
        self.board.set_models(models, problems);
        self.board.set_trust(self.device.trust_status(), self.device.generation());
        self.board.set_counts(self.device.refused().clone(), self.device.late().clone());
        let link_turns = self.link.stats().turns;
        self.service.turned(self.clock.monotonic_ms(), link_turns, &self.board);
    }

    fn unload(&self, model: &ModelName) {
        if let Some(live) = self.models.get(model.as_str()) {
            live.swap(None);
        }
    }

    fn publish(&self, publish: Publish) {
        let Publish { topic, payload, at_least_once, retain } = publish;
        let mut message = Outgoing::new(topic.as_str(), self.signer.seal(&topic, &payload));
        if !at_least_once {
            message = message.at_most_once();
        }
        if retain {
            message = message.retained();
        }
        if let Err(error) = self.link.publish(message) {
            // Counted by the link; states are said again by themselves.
            tracing::debug!("{error}");
        }
    }

    /// Says that the device goes, so that nobody has to wait for the will.
    async fn say_goodbye(&mut self, config: &Config) {
        let topic = Topic::Presence(config.device.clone()).text(&config.broker.root);
        let payload = self.signer.seal(&topic, &self.device.presence(false));
        let message = Outgoing::new(topic.as_str(), payload).retained();
        if let Err(error) = self.link.publish(message) {
            tracing::debug!("{error}");
        }
        let unsent = self.link.shutdown(DRAIN_MAX).await;
        tracing::info!(unsent, "stopped");
    }
}

/// The engine of a verified artifact; here so that the shell names the one engine there is.
fn load(
    artifact: &fleetway_protocol::trust::VerifiedArtifact<'_>,
) -> Result<TractEngine, fleetway_engine::LoadError> {
    TractEngine::load(artifact)
}
