//! Runs the device's own check of a release ([`crate::device::CheckJob`]): one program, named by the
//! configuration alone, without a shell, with a clean environment and a deadline.
//!
//! It is told what is on trial and where to ask it:
//!
//! | variable | what |
//! |---|---|
//! | `FLEETWAY_DEVICE` | the device's id |
//! | `FLEETWAY_MODEL` | name of the model |
//! | `FLEETWAY_RELEASE` | digest of the release, hexadecimal |
//! | `FLEETWAY_SOCKET` | unix socket on which the release answers, if there is one |
//!
//! Exit code 0 is yes and 1 is no. Anything else is no answer, and it is asked again: a check that
//! is broken must not send good releases back. What it prints goes into the log.

use std::io::Read;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use fleetway_protocol::ids::{DeviceId, Digest, ModelName};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::config::{Check, Config};
use crate::device::CheckAnswer;

/// Bytes of what a check prints that are kept for the log; the rest is read and forgotten, so that
/// it does not wait for us.
const PRINTED_BYTES_MAX: usize = 4 << 10;
/// Where programs are found that the check starts.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// How often it is looked whether the check has ended.
const LOOK: Duration = Duration::from_millis(20);
/// Exit code that is a no.
const NO: i32 = 1;

/// What a check needs to know.
#[derive(Clone, Debug)]
pub(super) struct Place {
    device: DeviceId,
    socket: Option<std::path::PathBuf>,
}

impl Place {
    pub(super) fn of(config: &Config) -> Self {
        let socket = config.serve.endpoints.unix.as_ref().map(|unix| unix.path.clone());
        Self { device: config.device.clone(), socket }
    }
}

/// Asks it. Blocks until it ends or its time is over.
pub(super) fn ask(
    check: &Check,
    place: &Place,
    model: &ModelName,
    release: &Digest,
) -> CheckAnswer {
    let mut command = Command::new(&check.program);
    command
        .args(&check.args)
        .env_clear()
        .env("PATH", PATH)
        .env("FLEETWAY_DEVICE", place.device.as_str())
        .env("FLEETWAY_MODEL", model.as_str())
        .env("FLEETWAY_RELEASE", release.to_string())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    if let Some(socket) = &place.socket {
        command.env("FLEETWAY_SOCKET", socket);
    }
    let program = check.program.display();
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            tracing::error!(%model, "the check {program} cannot be started: {error}");
            return CheckAnswer::NotYet;
        }
    };
    let printed = listen(&mut child);
    let ended = wait(&mut child, check.timeout);
    let printed = printed.join().unwrap_or_default();
    let (answer, how) = judge(ended, check.timeout);
    match answer {
        CheckAnswer::Yes => {
            tracing::info!(%model, %release, "the check {program} {how}: {printed}")
        }
        _ => tracing::warn!(%model, %release, "the check {program} {how}: {printed}"),
    }
    answer
}

/// What its end means, and in words.
fn judge(ended: Option<ExitStatus>, timeout: Duration) -> (CheckAnswer, String) {
    let Some(status) = ended else {
        let text = format!("did not end within {} s; it is asked again", timeout.as_secs());
        return (CheckAnswer::NotYet, text);
    };
    match (status.code(), status.signal()) {
        (Some(0), _) => (CheckAnswer::Yes, "says yes".into()),
        (Some(NO), _) => (CheckAnswer::No, "says no".into()),
        (Some(code), _) => (CheckAnswer::NotYet, format!("ended with {code}; it is asked again")),
        (None, signal) => {
            let text = format!("was killed by signal {}; it is asked again", signal.unwrap_or(0));
            (CheckAnswer::NotYet, text)
        }
    }
}

/// Reads what it prints on both channels, each on a thread, so that it never waits for us.
fn listen(child: &mut Child) -> std::thread::JoinHandle<String> {
    let (out, err) = (child.stdout.take(), child.stderr.take());
    std::thread::spawn(move || {
        let err = std::thread::spawn(move || err.map(first_bytes).unwrap_or_default());
        let mut text = out.map(first_bytes).unwrap_or_default();
        text.push_str(&err.join().unwrap_or_default());
        text.trim_end().to_owned()
    })
}

fn first_bytes(mut from: impl Read) -> String {
    let (mut kept, mut buffer) = (Vec::new(), [0; 1024]);
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        let room = PRINTED_BYTES_MAX.saturating_sub(kept.len()).min(read);
        kept.extend_from_slice(&buffer[..room]);
    }
    String::from_utf8_lossy(&kept).into_owned()
}

/// Its end, or `None` after it was killed with all that it started.
fn wait(child: &mut Child, timeout: Duration) -> Option<ExitStatus> {
    let mut left = timeout;
    let ended = loop {
        match child.try_wait() {
            Ok(Some(status)) => break Some(status),
            Ok(None) if left.is_zero() => break None,
            Ok(None) => {}
            Err(error) => {
                tracing::warn!("cannot wait for the check: {error}");
                break None;
            }
        }
        let pause = LOOK.min(left);
        std::thread::sleep(pause);
        left -= pause;
    };
    // What it left behind holds its pipes, and would be listened to for ever.
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(group, Signal::KILL);
    }
    if ended.is_none() {
        let _ = child.wait();
    }
    ended
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::CheckRule;

    fn asked(script: &str, timeout_ms: u64) -> CheckAnswer {
        let check = Check {
            program: "/bin/sh".into(),
            args: vec!["-c".into(), script.into()],
            timeout: Duration::from_millis(timeout_ms),
            rule: CheckRule::default(),
        };
        let place = Place {
            device: DeviceId::new("cam-01").unwrap(),
            socket: Some("/run/fleetway/serve.sock".into()),
        };
        ask(&check, &place, &ModelName::new("digits").unwrap(), &Digest::of(b"release"))
    }

    #[test]
    fn only_zero_is_yes_and_only_one_is_no() {
        assert_eq!(asked("exit 0", 5_000), CheckAnswer::Yes);
        assert_eq!(asked("echo gate stuck; exit 1", 5_000), CheckAnswer::No);
        for broken in ["exit 2", "exit 75", "exit 127", "kill -9 $$"] {
            assert_eq!(asked(broken, 5_000), CheckAnswer::NotYet, "{broken}");
        }
    }

    #[test]
    fn it_knows_what_is_on_trial_and_nothing_else() {
        let script = r#"
            test "$FLEETWAY_DEVICE $FLEETWAY_MODEL" = "cam-01 digits" || exit 1
            test "$FLEETWAY_SOCKET" = /run/fleetway/serve.sock || exit 1
            test "${#FLEETWAY_RELEASE}" = 64 || exit 1
            test -z "$CARGO_MANIFEST_DIR$HOME" || exit 1
        "#;
        assert_eq!(asked(script, 5_000), CheckAnswer::Yes);
    }

    #[test]
    fn a_flood_of_words_and_a_child_left_behind_hold_nobody_up() {
        assert_eq!(asked("yes | head -c 1000000; yes >&2 & exit 0", 20_000), CheckAnswer::Yes);
    }

    #[test]
    fn one_that_hangs_is_killed_with_all_it_started() {
        assert_eq!(asked("sleep 100 & sleep 100", 200), CheckAnswer::NotYet);
    }
}
