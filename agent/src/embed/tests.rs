//! A guest must not harm its host: whatever goes wrong in here is an error there, and what was opened is
//! closed again, whoever closes it and from where.

use super::*;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fleetway_engine::{Engine, RunError as EngineError, TensorSpec};
use fleetway_protocol::ids::{Digest, ModelName};
use fleetway_protocol::slot::{Place, SlotId};

use super::changes::{Changes, SUBSCRIPTIONS_MAX, subscribe};
use crate::serving::live::{Loaded, Models};

/// Longer than anything here takes on a loaded machine.
const LONG: Duration = Duration::from_secs(20);
/// Short, for what must not come.
const SHORT: Duration = Duration::from_millis(200);

/// A device whose broker is not there.
fn device(dir: &Path) {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/src/config/root.json");
    let text = format!(
        "device = \"phone-1\"\ndata_dir = \"data\"\n[broker]\nurl = \"mqtt://127.0.0.1:1\"\n\
         [trust]\nroot = \"{root}\"\n"
    );
    std::fs::write(dir.join("agent.toml"), text).expect("agent.toml");
}

fn image() -> Vec<NamedTensor> {
    let tensor = Tensor::from_f32(&[1, 2], vec![0.0; 2]).expect("fits");
    vec![NamedTensor { name: "image".into(), tensor }]
}

fn until(what: &str, mut is: impl FnMut() -> bool) {
    for _ in 0..LONG.as_millis() / 10 {
        if is() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("waited {LONG:?} for {what}");
}

#[test]
fn opens_without_a_network_and_closes_for_good() {
    let dir = tempfile::tempdir().expect("a directory");
    device(dir.path());
    let agent = Agent::open(dir.path()).expect("opens");
    let status = agent.status();
    assert_eq!((status.device.as_str(), status.models.len()), ("phone-1", 0));
    assert_eq!(status.serving, crate::status::Serving::default(), "no socket was opened");
    let error = agent.infer("digits", image()).expect_err("no model");
    assert_eq!(error.to_string(), "no model \"digits\" on this device; it knows none yet");
    agent.close().expect("ends well");
    agent.close().expect("twice is no error");
    assert!(matches!(agent.infer("digits", image()), Err(InferError::Closed(_))));
    assert!(matches!(agent.on_model_changed(|_| ()), Err(SubscribeError::Closed)));
    assert_eq!(agent.status().problems[0], "the agent was closed");
    // The directory is free again, and the file itself opens it too.
    drop(Agent::open(dir.path().join("agent.toml")).expect("opens again"));
}

#[test]
fn a_directory_is_open_once() {
    let dir = tempfile::tempdir().expect("a directory");
    device(dir.path());
    let first = Agent::open(dir.path()).expect("opens");
    let error = Agent::open(dir.path()).expect_err("taken");
    assert!(matches!(&error, OpenError::OpenHere(path) if path.ends_with("data")), "{error:?}");
    drop(first);
    // Somebody else, who wrote their number as we would have.
    let path = dir.path().join("data/lock");
    std::fs::write(&path, "1\n").expect("lock");
    let file = std::fs::File::open(&path).expect("lock");
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).expect("locked");
    let error = Agent::open(dir.path()).expect_err("taken");
    assert!(matches!(error, OpenError::OpenElsewhere(_)), "{error:?}");
    assert!(error.to_string().contains("another fleetway-agent (pid 1)"), "{error}");
}

#[test]
fn what_cannot_be_opened_says_why() {
    let dir = tempfile::tempdir().expect("a directory");
    assert!(matches!(Agent::open(dir.path()), Err(OpenError::Config(_))));
    device(dir.path());
    let child = Child::Program(dir.path().join("agent.toml"));
    let options = Options { child, ..Options::default() };
    let error = Agent::open_with(dir.path(), options).expect_err("no program");
    assert!(matches!(error, OpenError::Child(_)), "{error:?}");
    std::fs::write(dir.path().join("data"), "a file").expect("in the way");
    assert!(matches!(Agent::open(dir.path()), Err(OpenError::Run(_))));
}

/// A device without a program to try models in says so, and does not try them.
#[test]
fn no_child_is_a_sandbox_that_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    device(dir.path());
    let options = Options { child: Child::Absent, ..Options::default() };
    let agent = Agent::open_with(dir.path(), options).expect("opens");
    until("the sandbox to be known", || agent.status().sandbox.state != "unknown");
    let status = agent.status();
    assert_eq!((status.sandbox.state.as_str(), status.sandbox.met), ("none", false));
    assert!(status.sandbox.missing[0].contains("no program to run a self-test in"), "{status:?}");
    let problem = |text: &String| text.contains("no new model is tried: the sandbox is none");
    assert!(status.problems.iter().any(problem), "{:?}", status.problems);
}

/// Whoever calls from an async task blocks a thread, and nothing worse.
#[tokio::test]
async fn a_host_may_be_async() {
    let dir = tempfile::tempdir().expect("a directory");
    device(dir.path());
    let agent = Agent::open(dir.path()).expect("opens");
    assert!(matches!(agent.infer("m", image()), Err(InferError::UnknownModel { .. })));
    agent.close().expect("ends well");
}

/// An agent whose loop does what `end` says once something is sent.
fn host(end: fn() -> Result<(), RunError>) -> (Agent, std::sync::mpsc::Sender<()>) {
    use crate::serving::{direct::Door, http::Api};
    let (go, wait) = channel::<()>();
    let host = Host::start_with(None, move |outside| async move {
        let models = Arc::new(Models::new());
        let clock = crate::clock::Clock::new(0);
        let id = fleetway_protocol::ids::DeviceId::new("phone-1").expect("an id");
        let require = fleetway_engine::Require::Full;
        let board = crate::status::Board::new(id, "b".into(), require, clock, models.clone());
        let api = Api::new(models.clone(), Arc::new(Status::default), 1);
        let door = Door::of(&api, &models);
        let opened = crate::run::Opened { board: Arc::new(board), door };
        let _ = outside.opened.expect("somebody waits").send(opened);
        let _ = wait.recv();
        end()
    });
    (Agent { host: host.expect("starts") }, go)
}

#[test]
fn a_panic_in_the_loop_ends_the_agent_and_not_the_host() {
    let (agent, go) = host(|| panic!("a bug"));
    assert!(matches!(agent.infer("m", image()), Err(InferError::UnknownModel { .. })));
    go.send(()).expect("it waits");
    until("the end", || matches!(agent.infer("m", image()), Err(InferError::Closed(_))));
    assert!(agent.status().problems[0].contains("the agent failed (a bug)"));
    assert_eq!(agent.close(), Err(CloseError::Failed("a bug".into())));
    let (agent, go) = host(|| Ok(()));
    go.send(()).expect("it waits");
    agent.close().expect("ends well");
}

#[test]
fn a_panic_or_an_error_before_it_runs_is_an_error() {
    let error = Host::start_with(None, |_| async { panic!("early") }).map(drop);
    assert!(matches!(error, Err(OpenError::Panicked(why)) if why == "early"));
    let denied = || std::io::Error::from(std::io::ErrorKind::PermissionDenied);
    let failing = move |_| async move { Err(RunError::Signals(denied())) };
    let error = Host::start_with(None, failing).map(drop);
    assert!(matches!(error, Err(OpenError::Run(RunError::Signals(_)))));
}

struct Nothing;

impl Engine for Nothing {
    fn inputs(&self) -> &[TensorSpec] {
        &[]
    }
    fn outputs(&self) -> &[TensorSpec] {
        &[]
    }
    fn run(&self, _: &[Tensor]) -> Result<Vec<Tensor>, EngineError> {
        Ok(Vec::new())
    }
    fn kind(&self) -> &'static str {
        "nothing"
    }
}

/// Models with `m`, and what the loop would do after each turn.
struct Bench {
    models: Models,
    changes: Arc<Changes>,
}

impl Bench {
    fn new() -> Self {
        Self { models: Models::new(), changes: Arc::default() }
    }

    fn swap(&self, release: Option<u8>) {
        let name = ModelName::new("m").expect("a name");
        let loaded = release.map(|n| {
            let (digest, place) = (Digest([n; 32]), Place::Slot(SlotId::A));
            Loaded::new(Arc::new(Nothing), name.clone(), &format!("v{n}"), digest, place, 0)
        });
        self.models.add(&name).expect("room").swap(loaded);
        self.changes.look(&self.models);
    }

    /// A subscription whose news come out at the other end.
    fn subscribe(&self) -> (Subscription, Receiver<Option<String>>) {
        let (tell, told) = channel();
        let told_to = subscribe(&self.changes, move |change| {
            assert_eq!(change.model, "m");
            let _ = tell.send(change.running.as_ref().map(|running| running.version.clone()));
        });
        (told_to.expect("room"), told)
    }
}

fn next(told: &Receiver<Option<String>>) -> Option<String> {
    told.recv_timeout(LONG).expect("news")
}

#[test]
fn everybody_is_told_what_answers_first_and_each_change_after() {
    let bench = Bench::new();
    let (first, news) = bench.subscribe();
    bench.swap(None);
    bench.swap(Some(1));
    assert_eq!(next(&news).as_deref(), Some("v1"));
    let (late, late_news) = bench.subscribe();
    assert_eq!(next(&late_news).as_deref(), Some("v1"), "what answers already");
    bench.swap(Some(2));
    assert_eq!(next(&late_news).as_deref(), Some("v2"));
    assert_eq!(next(&news).as_deref(), Some("v2"));
    late.cancel();
    bench.swap(None);
    assert_eq!(next(&news), None);
    assert!(late_news.recv_timeout(SHORT).is_err(), "cancelled");
    bench.swap(None);
    assert!(news.recv_timeout(SHORT).is_err(), "no news");
    drop(first);
}

#[test]
fn a_slow_callback_sees_the_newest_and_a_panic_is_not_its_last() {
    let bench = Bench::new();
    let (entered, enter) = channel();
    let (go, wait) = channel::<bool>();
    let told = subscribe(&bench.changes, move |change| {
        let _ = entered.send(change.running.as_ref().map(|running| running.version.clone()));
        assert!(!wait.recv().expect("told to go on"), "as it was told to");
    });
    bench.swap(Some(1));
    assert_eq!(next(&enter).as_deref(), Some("v1"));
    (2..=9).for_each(|release| bench.swap(Some(release)));
    go.send(true).expect("it waits");
    assert_eq!(next(&enter).as_deref(), Some("v9"), "and nothing in between");
    go.send(false).expect("it waits");
    drop(told);
    assert!(enter.recv_timeout(SHORT).is_err());
}

#[test]
fn ends_wait_for_calls_under_way_but_not_for_themselves() {
    let bench = Bench::new();
    let own: Arc<Mutex<Option<Subscription>>> = Arc::default();
    let (tell, told) = channel();
    let (inner, changes) = (own.clone(), bench.changes.clone());
    let subscription = subscribe(&bench.changes, move |_| {
        // Ends everything from within, and lives on to say so.
        inner.lock().expect("no panic").take().expect("there").cancel();
        changes.end();
        let _ = tell.send(());
    });
    *own.lock().expect("no panic") = Some(subscription.expect("room"));
    bench.swap(Some(1));
    told.recv_timeout(LONG).expect("no deadlock");
    bench.changes.end();
    let busy = Bench::new();
    let (entered, enter) = channel();
    let done = Arc::new(Mutex::new(false));
    let set = done.clone();
    let _told = subscribe(&busy.changes, move |_| {
        let _ = entered.send(());
        std::thread::sleep(SHORT);
        *set.lock().expect("no panic") = true;
    });
    busy.swap(Some(1));
    enter.recv_timeout(LONG).expect("called");
    busy.changes.end();
    assert!(*done.lock().expect("no panic"), "the call under way was waited for");
}

#[test]
fn subscriptions_are_bounded() {
    let bench = Bench::new();
    let all: Vec<_> = (0..SUBSCRIPTIONS_MAX).map(|_| bench.subscribe()).collect();
    let more = subscribe(&bench.changes, |_| ());
    assert!(matches!(more, Err(SubscribeError::TooMany)));
    drop(all);
    let _again = subscribe(&bench.changes, |_| ()).expect("room again");
}
