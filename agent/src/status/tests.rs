//! What a person at the box reads, word by word, for a device that is well, on trial, rolled
//! back, and new. A problem that is over must not be shown, and one that is not must be; and an
//! agent that does not run must be told from one that answers nonsense.

use super::*;
use crate::serving::http::Api;
use crate::serving::listen::{Endpoints, Server};
use fetch::{FetchError, fetch};
use fleetway_protocol::reason::Reason;
use render::render;

fn why(reason: Reason) -> Why {
    reason.into()
}

fn release(digits: &str) -> String {
    digits.repeat(32)
}

fn healthy() -> Status {
    Status {
        device: "cam-01".into(),
        agent: "0.1.0".into(),
        uptime_s: 3 * 3600 + 12 * 60,
        link: Link {
            broker: "mqtts://broker:8883".into(),
            connected: true,
            for_s: 200,
            last_error: None,
        },
        serving: Serving {
            tcp: Some("127.0.0.1:8800".into()),
            unix: Some("/var/lib/fleetway/serve.sock".into()),
            ..Serving::default()
        },
        certificate: Certificate { left_s: Some(20 * 86_400), ..Certificate::default() },
        sandbox: SandboxState::of(&Sandbox::default(), Require::Confined),
        telemetry: Some(Reports { produced: 1_200, delivered: 1_190, lost: 0, waiting: 10 }),
        models: vec![Model {
            name: "digits".into(),
            running: Some(Running {
                release: release("1a"),
                version: "v2".into(),
                slot: "b".into(),
                engine: "qnn".into(),
            }),
            phase: "idle".into(),
            target: Some(release("1a")),
            floor: 3,
            answers: Answers {
                requests: 1000,
                errors: 2,
                p50_us: Some(120),
                p95_us: Some(240),
                classes: vec![500, 0, 498],
                hung_runs: 0,
            },
            ..Model::default()
        }],
        authority: None,
        locks: vec![],
        generation: 0,
        refused: BTreeMap::new(),
        late: BTreeMap::new(),
        gateway: vec![],
        problems: vec![],
    }
}

fn on_trial() -> Status {
    let mut status = healthy();
    let model = &mut status.models[0];
    model.phase = "probation".into();
    model.probation = Some(Probation {
        age_s: 12,
        needed_s: 60,
        answers: 40,
        answers_needed: 50,
        checking: true,
    });
    status
}

fn rolled_back() -> Status {
    let mut status = healthy();
    status.link.connected = false;
    status.link.last_error = Some("connection refused".into());
    let model = &mut status.models[0];
    model.phase = "download".into();
    model.progress = Some(Progress { have: 7, total: 16 });
    model.waiting = Some(why(Reason::DiskFull));
    model.target = Some(release("99"));
    model.last = Some(Last {
        release: release("99"),
        result: "rolled-back".into(),
        why: Some(why(Reason::HealthCollapse)),
    });
    model.poisoned = vec![Poisoned { release: release("99"), why: why(Reason::HealthCollapse) }];
    status.problems = problems::find(&status, true);
    status
}

fn fresh() -> Status {
    let sandbox = SandboxState {
        missing: vec!["seccomp (no filter is written for arm)".into()],
        state: "partial".into(),
        require: "full".into(),
        met: false,
    };
    let device = "cam-02".into();
    let mut status = Status { device, agent: "0.1.0".into(), sandbox, ..Status::default() };
    status.problems = problems::find(&status, false);
    status
}

#[test]
fn a_person_reads_what_runs_and_why() {
    let expected = "\
cam-01     agent 0.1.0, up 3 h 12 min
link       connected to mqtts://broker:8883 for 3 min 20 s
answers    http://127.0.0.1:8800/v2, /var/lib/fleetway/serve.sock
identity   certificate good for 20 d 0 h
sandbox    full (required: confined)
telemetry  1200 made, 1190 delivered, 10 wait

digits     runs v2 on qnn (release 1a1a1a1a, slot b)
           nothing to do
           1000 requests, 2 failed; half within 120 us, 95 % within 240 us
           classes 0: 50 %, 2: 49 %
           refuses releases with a counter below 3

problems   none
";
    assert_eq!(render(&healthy()), expected);
    let text = render(&on_trial());
    let expected = "probation of release 1a1a1a1a, 12 of 60 s and 40 of 50 answers; asks the check that agent.toml names\n";
    assert!(text.contains(expected), "{text}");
}

#[test]
fn a_person_reads_what_a_held_update_waits_for() {
    let mut status = healthy();
    status.locks = vec![Lock { model: "digits".into(), by: "till".into(), left_s: 40 }];
    let model = &mut status.models[0];
    (model.phase, model.target) = ("held".into(), Some(release("99")));
    let waits: Vec<Why> = vec![Reason::HeldByApplication.into(), Reason::HeldForMains.into()];
    model.waiting = Some(waits[0].clone());
    model.held = Some(Held { before: "activation".into(), waits_for: waits, since_s: Some(7) });
    model.shadow = Some(Shadow {
        release: release("99"),
        compared: 300,
        agreed: 294,
        failed: 1,
        dropped: 2,
        p95_us: 250,
        serving_p95_us: 240,
        ended: true,
        ..Shadow::default()
    });
    let text = render(&status);
    for said in [
        "lock       digits by till, ends in 40 s\n",
        "           held of release 99999999\n",
        "           held before the activation: an application holds a lock on the model; goes on \
         when it is released; not on mains power; goes on when the device is\n",
        "           shadow of release 99999999: 294 of 300 agree, 1 failed, 2 not copied, 95 % within \
         250 us beside 240 us; passed\n",
    ] {
        assert!(text.contains(said), "{said:?} in\n{text}");
    }
    // Somebody wants it so: no problem.
    assert_eq!(problems::find(&status, false), Vec::<String>::new());
}

#[test]
fn a_person_reads_what_is_wrong() {
    let expected = "\
cam-01     agent 0.1.0, up 3 h 12 min
link       NOT connected to mqtts://broker:8883 for 3 min 20 s
answers    http://127.0.0.1:8800/v2, /var/lib/fleetway/serve.sock
identity   certificate good for 20 d 0 h
sandbox    full (required: confined)
telemetry  1200 made, 1190 delivered, 10 wait

digits     runs v2 on qnn (release 1a1a1a1a, slot b)
           download of release 99999999, 7 of 16 chunks (43 %); waits: no room on the disk; goes on by itself when there is
           1000 requests, 2 failed; half within 120 us, 95 % within 240 us
           classes 0: 50 %, 2: 49 %
           last order: release 99999999 rolled back: answers collapsed to one class in probation
           refuses releases with a counter below 3
           remembers 99999999 as bad: answers collapsed to one class in probation

PROBLEM    digits: download waits: no room on the disk; goes on by itself when there is
PROBLEM    digits: the ordered release 99999999 does not run: answers collapsed to one class in probation
PROBLEM    broker mqtts://broker:8883 unreachable for 3 min 20 s: connection refused; what runs keeps serving
PROBLEM    the system clock is behind what was signed; set it (NTP or by hand)
";
    assert_eq!(render(&rolled_back()), expected);
    let text = render(&fresh());
    assert!(text.contains("models     none yet") && text.contains("answers    nowhere"), "{text}");
    let expected =
        "sandbox    partial: lacks seccomp (no filter is written for arm) (required: full)";
    assert!(text.contains(expected), "{text}");
    let expected =
        "PROBLEM    no new model is tried: the sandbox is partial and agent.toml requires `full`";
    assert!(text.contains(expected), "{text}");
    assert!(text.contains("PROBLEM    broker  unreachable for 0 s: not connected yet\n"), "{text}");
}

#[test]
fn problems_are_of_now() {
    let check = |change: fn(&mut Model), expected: &[&str]| {
        let mut status = healthy();
        change(&mut status.models[0]);
        let found = problems::find(&status, false);
        assert_eq!(found.len(), expected.len(), "{found:?}");
        assert!(found.iter().zip(expected).all(|(f, e)| f.contains(e)), "{found:?}");
    };
    check(|_| {}, &[]);
    check(|m| m.running = None, &["nothing is loaded"]);
    check(
        |m| {
            m.running = None;
            m.last = Some(Last { result: "removed".into(), ..Last::default() });
        },
        &[],
    );
    check(|m| m.answers.hung_runs = 2, &["2 runs hang"]);
    check(|m| m.poison_dropped = 1, &["1 bad releases were forgotten"]);
    check(
        |m| {
            m.probation = Some(Probation {
                age_s: 60,
                needed_s: 60,
                answers: 40,
                answers_needed: 50,
                checking: false,
            });
        },
        &["before 10 more requests"],
    );
    // History: an older failure that a newer order has mended.
    check(
        |m| {
            m.last = Some(Last {
                release: "99".repeat(32),
                result: "failed".into(),
                why: Some(Reason::Golden.into()),
            });
        },
        &[],
    );
}

#[test]
fn ages_have_at_most_two_units() {
    let check = |seconds, expected: &str| assert_eq!(render::age(seconds), expected);
    check(0, "0 s");
    check(59, "59 s");
    check(61, "1 min 1 s");
    check(7_320, "2 h 2 min");
    check(200_000, "2 d 7 h");
}

#[test]
fn the_board_says_since_when_the_link_is_gone() {
    let clock = Clock::new(0);
    let device = DeviceId::new("cam-01").unwrap();
    let board =
        Board::new(device, "mqtt://b:1".into(), Require::Full, clock, Arc::new(Models::new()));
    board.link_up();
    assert_eq!(board.status().sandbox.state, "unknown");
    board.set_sandbox(&Sandbox::default());
    assert_eq!(board.status().sandbox, SandboxState::of(&Sandbox::default(), Require::Full));
    assert!(board.status().link.connected && board.status().problems.is_empty());
    board.link_down("reset".into());
    board.link_down("refused".into());
    board.set_models(Vec::new(), vec!["the sandbox is weak".into()]);
    let status = board.status();
    assert_eq!(status.link.last_error.as_deref(), Some("refused"));
    assert_eq!(status.problems[0], "the sandbox is weak");
    assert!(status.problems[1].starts_with("broker mqtt://b:1 unreachable"), "{status:?}");
    let json = serde_json::to_string(&status).unwrap();
    assert_eq!(serde_json::from_str::<Status>(&json).unwrap(), status);
}

#[tokio::test]
async fn the_status_comes_over_the_socket_or_says_that_nobody_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("serve.sock");
    let absent = fetch(&socket).await.expect_err("nobody").to_string();
    assert!(absent.contains("the agent is not running"), "{absent}");

    let api = Api::new(Arc::new(Models::new()), Arc::new(rolled_back), 1);
    let endpoints = Endpoints {
        unix: Some(crate::serving::listen::UnixEndpoint::new(&socket)),
        ..Endpoints::default()
    };
    let server = Server::start(&endpoints, api).await.unwrap();
    assert_eq!(fetch(&socket).await.unwrap(), rolled_back());
    server.shutdown().await;

    // The socket that a power cut leaves, and one of something else.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    assert!(matches!(fetch(&socket).await, Err(FetchError::NotRunning(_))));
    std::fs::remove_file(&socket).unwrap();
    let other = tokio::net::UnixListener::bind(&socket).unwrap();
    let hangs_up = tokio::spawn(async move { drop(other.accept().await) });
    assert!(matches!(fetch(&socket).await, Err(FetchError::Answer(_))));
    hangs_up.await.unwrap();
}
