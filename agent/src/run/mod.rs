//! The daemon: one event loop that carries facts to the device core and its commands out.
//! A program that has the agent inside ([`crate::embed`]) runs the same loop; what differs is in
//! `outside`.
//!
//! Nothing is decided here. What takes long (a self-test, loading an engine) runs on the
//! blocking pool and comes back as a fact; file effects run inside the core, on the loop.
//! If the process dies at any line, the next start takes everything up from the slot tables
//! and the stored order ([`crate::device`]).

pub mod again;
mod check;
mod facts;
mod jobs;
mod link;
mod lock;
mod measure;
mod outside;
mod shadow;
mod signing;
mod start;
mod story;
mod surroundings;
mod telemetry;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fleetway_engine::{Engine, LoadError, ModelBytes, Require};
use fleetway_link::{Link as _, LinkEvent, LinkHandle, Outgoing, Qos, Subscription};
use fleetway_protocol::enroll::Floor;
use fleetway_protocol::ids::ModelName;
use fleetway_protocol::machine::Phase;
use fleetway_protocol::manifest::VariantKind;
use fleetway_protocol::reason::Reason;
use fleetway_protocol::topics::Topic;
use fleetway_protocol::trust::VerifiedArtifact;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::clock::Clock;
use crate::config::Config;
use crate::device::{Device, ModelStatus, Now, Output, Publish, ShadowJob};
use crate::embed::changes::Changes;
use crate::fs::RealFs;
use crate::gateway::Gateway;
use crate::host::HostReader;
use crate::identity::floor::FloorQuestion;
use crate::service::Service;
use crate::serving::direct::Door;
use crate::serving::http::Api;
use crate::serving::listen::{ServeError, Server};
use crate::serving::live::Models;
use crate::status::{Board, Serving};
use crate::store::Store;
use again::Again;
use jobs::{Answer, Jobs};
pub(crate) use link::SESSION;
use link::Started;
pub use lock::LockError;
pub(crate) use outside::{Opened, Outside};
use shadow::Shadows;
use signing::ReportSigner;
pub(crate) use start::device_config;
use start::make_socket_dir;
use story::Story;
use surroundings::Around;
use telemetry::Telemetry;

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
    /// There are no threads for models.
    #[error(transparent)]
    Threads(#[from] fleetway_engine::crew::CrewError),
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

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Ended {
    /// It was asked to stop.
    Stopped,
    /// An engine hangs on a thread that only the end of the process frees: the process is to be
    /// started anew, now ([`again`]).
    Again,
}

/// Makes an engine of a verified artifact.
pub type Loader =
    fn(VariantKind, &VerifiedArtifact<'_>, ModelBytes) -> Result<Arc<dyn Engine>, LoadError>;

struct Agent {
    device: Device<RealFs>,
    clock: Clock,
    models: Arc<Models>,
    board: Arc<Board>,
    jobs: Jobs,
    require: Require,
    link: LinkHandle,
    signer: Arc<ReportSigner>,
    telemetry: Telemetry,
    question: Option<FloorQuestion>,
    floors: mpsc::Sender<Floor>,
    service: Service,
    story: Story,
    changes: Option<Arc<Changes>>,
    owns_process: bool,
    host: HostReader,
    /// When the process's memory was last looked at.
    memory_at_ms: u64,
    around: Around,
    shadows: Shadows,
    gateway: Gateway,
    halted: bool,
    again: Again,
    link_problem: Option<String>,
}

/// Runs the agent until it is asked to stop.
///
/// # Errors
/// [`RunError`], before anything was served. Once it runs, nothing ends it but a signal, or a hung
/// engine.
pub async fn run(config: Config) -> Result<Ended, RunError> {
    run_in(config, Outside::daemon().map_err(RunError::Signals)?).await
}

/// The same with another way to make engines: tests put faults between tract and the rest.
///
/// # Errors
/// As [`run`].
pub async fn run_with(config: Config, loader: Loader) -> Result<Ended, RunError> {
    let daemon = Outside::daemon().map_err(RunError::Signals)?;
    run_in(config, Outside { loader, ..daemon }).await
}

/// The same, wherever it is.
pub(crate) async fn run_in(config: Config, outside: Outside) -> Result<Ended, RunError> {
    let Outside { stops, service, child, owns_process, changes, opened, loader } = outside;
    let _lock = lock::take(&config.data_dir).await?;
    fleetway_engine::crew::start(config.serve.threads)?;
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
    let locks = board.locks();
    let api = Api::new(
        Arc::clone(&models),
        Arc::new(move || status.status()),
        config.serve.concurrent_max,
    )
    .with_locks(Arc::clone(&locks), clock.clone());
    let door = Door::of(&api, &models);
    let (jobs, answers) = Jobs::new(&config, child, loader);
    let Started { handle: link, events, shown, signer, problem } =
        link::start(&config, &mut device, &clock)?;
    link::start_renewal(&config, shown, &link, &clock, &board);
    let signer = Arc::new(signer);
    let telemetry =
        Telemetry::start(&config, device.epoch(), &clock, link.clone(), Arc::clone(&signer))
            .map_err(data)?;
    let question = link::floor_question(&config, &clock, device.epoch());
    // One answer, and one more if the disk refused the first.
    let (floors, told) = mpsc::channel(2);
    link::ask_floor(question.as_ref(), &device, &floors);
    let gateway = Gateway::start(&config.gateway, &config.broker.root, &link, &clock);
    let (shadows, around) = (jobs.shadows(), Around::new(locks, config.link.metered));
    let mut agent = Agent {
        device,
        clock,
        models,
        board,
        jobs,
        require: config.sandbox,
        link,
        signer,
        telemetry,
        question,
        floors,
        service,
        story: Story::default(),
        changes,
        owns_process,
        host: HostReader::new(&config.data_dir),
        memory_at_ms: 0,
        around,
        shadows,
        gateway,
        halted: false,
        again: Again::default(),
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
    Ok(agent.again.ended())
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
            if self.again.has_begun() {
                stop_by.get_or_insert_with(|| Instant::now() + STOP_MAX);
            }
            if stop_by.is_some_and(|by| Instant::now() >= by) {
                tracing::warn!("stopping without waiting any longer for the disk or a job");
                break;
            }
        }
    }

    fn stop(&mut self, stop_by: &mut Option<Instant>) {
        self.again.cancel();
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
        if self.device.wants_surroundings() {
            let around = self.around.look(now.ms, !self.clock.is_behind());
            self.device.handle_surroundings(now, &around);
        }
    }

    /// Real answers, for the judgement of a probation.
    fn take_answers(&mut self) {
        for live in self.models.list() {
            for (release, answer) in live.recorder().drain(ANSWERS_MAX) {
                self.around.asked(self.clock.monotonic_ms());
                self.device.handle_answer(live.model(), release, &answer);
            }
        }
    }

    fn drain(&mut self) {
        // On every turn: however busy the link is, the judge gets its evidence.
        self.take_answers();
        self.look_for_hangs(now(&self.clock));
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
                Output::Shadow(job) => self.start_shadow(*job),
                Output::EndShadow(model) => {
                    let live = self.models.get(model.as_str());
                    self.shadows.end(&model, live.as_deref());
                }
                Output::Activate(job) => self.jobs.activate(*job, self.clock.monotonic_ms()),
                Output::Check(job) => self.jobs.check(job),
                Output::Unload(model, token) => {
                    self.unload(&model);
                    self.device.handle_unloaded(now(&self.clock), &model, token);
                }
                Output::Telemetry(record) => self.telemetry.record(record),
                Output::Heard(heard) => self.telemetry.heard(heard),
                Output::Halt => self.halted = true,
            }
        }
        let problems = self.device.order_problem().map(str::to_owned).into_iter();
        let problems = problems.chain(self.device.factory_problems());
        let problems = problems.chain(self.link_problem.clone()).collect();
        let models = self.device.status(now(&self.clock));
        self.story.tell(&models);
        self.telemetry.set_fetches(models.iter().any(fetches));
        if let Some(changes) = &self.changes {
            changes.look(&self.models);
        }
        self.board.set_models(models, problems);
        self.board.set_trust(self.device.trust_status(), self.device.generation());
        self.board.set_counts(self.device.refused().clone(), self.device.late().clone());
        self.board.set_telemetry(self.telemetry.counts());
        self.board.set_gateway(self.gateway.status());
        let link_turns = self.link.stats().turns;
        self.service.turned(self.clock.monotonic_ms(), link_turns, &self.board);
    }

    fn start_shadow(&mut self, job: ShadowJob) {
        let (model, token) = (job.model.clone(), job.token);
        let live = self.models.get(model.as_str()).ok_or(Reason::Environment);
        if let Err(reason) = live.and_then(|live| self.shadows.start(job, live)) {
            self.device.handle_shadow_ended(now(&self.clock), &model, token, reason);
        }
    }

    fn unload(&mut self, model: &ModelName) {
        if let Some(live) = self.models.get(model.as_str()) {
            self.again.went(live.swap(None));
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
        self.telemetry.stop();
        self.gateway.stop().await;
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

/// Whether a model's bytes are on their way: then nothing else is in a hurry.
fn fetches(model: &ModelStatus) -> bool {
    model.phase == Phase::Download && model.waiting.is_none()
}
