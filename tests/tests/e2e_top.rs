//! `fleetway top` in a real pseudo-terminal: it draws, and whatever ends it, the terminal is as
//! it was. `script` of util-linux has the terminal; it is on every Debian.
#![allow(clippy::unwrap_used, reason = "a test may")]

use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fleetway_tests::harness::{Controller, programs, wait};
use tempfile::TempDir;

/// Longer than a drawing or an end takes on a loaded machine.
const WAIT: Duration = Duration::from_secs(20);

/// What ends it.
#[derive(Clone, Copy, Debug)]
enum End {
    /// Ctrl-C arrives as a key: the terminal is raw.
    Key(u8),
    /// Somebody's `kill`.
    Terminate,
}

/// A terminal with `top` in it, which notes the terminal's settings before and after.
struct Session {
    child: Child,
    dir: TempDir,
}

impl Session {
    fn start(data: &Path) -> Result<Self> {
        let dir = TempDir::new()?;
        let line = "stty rows 24 cols 100; stty -g >before; \
            sh -c 'echo $$ >pid; exec \"$FLEETWAY\" top'; echo $? >code; stty -g >after";
        let mut script = Command::new("script");
        script.args(["--quiet", "--flush", "--command", line, "typescript"]);
        script.current_dir(dir.path()).env("FLEETWAY_DATA", data).env("TERM", "xterm");
        script.env("FLEETWAY", &programs::programs().fleetway);
        script.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Self { child: script.spawn().context("cannot start `script`")?, dir })
    }

    fn read(&self, name: &str) -> String {
        let bytes = std::fs::read(self.dir.path().join(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    async fn shows(&self, text: &str) -> Result<()> {
        wait::until(&format!("{text:?} on the terminal"), WAIT, async || {
            let typescript = self.read("typescript");
            ensure!(typescript.contains(text), "{} bytes so far", typescript.len());
            Ok(())
        })
        .await
    }

    fn type_key(&mut self, key: u8) -> Result<()> {
        let stdin = self.child.stdin.as_mut().context("no stdin")?;
        stdin.write_all(&[key])?;
        Ok(stdin.flush()?)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // It has ended, or the test has failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn check(controller: &Controller, end: End) -> Result<()> {
    let mut session = Session::start(controller.data())?;
    // Only what is new is drawn, so words of one span are what can be looked for.
    session.shows("embedded").await?;
    session.shows("rollout").await?;
    match end {
        End::Key(key) => session.type_key(key)?,
        End::Terminate => {
            let pid = session.read("pid").trim().parse().context("a pid")?;
            let pid = rustix::process::Pid::from_raw(pid).context("a pid")?;
            rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        }
    }
    wait::until("the end", WAIT, async || {
        ensure!(!session.read("after").is_empty(), "it goes on");
        Ok(())
    })
    .await?;
    ensure!(session.read("code").trim() == "0", "{end:?}: exit code {}", session.read("code"));
    ensure!(session.read("before") == session.read("after"), "{end:?}: the settings differ");
    let typescript = session.read("typescript");
    let last = |text: &str| typescript.rfind(text);
    ensure!(last("\x1b[?1049l") > last("\x1b[?1049h"), "{end:?}: on the other screen still");
    ensure!(last("\x1b[?25h") > last("\x1b[?25l"), "{end:?}: no cursor");
    Ok(())
}

async fn story() -> Result<()> {
    if programs::system("script").is_none() {
        println!("NOT RUN: no `script` here (`apt-get install bsdutils`)");
        return Ok(());
    }
    let dir = TempDir::new()?;
    let mut controller = Controller::init(dir.path(), None, false).await?;
    controller.start().await?;
    for end in [End::Key(3), End::Key(b'q'), End::Terminate] {
        check(&controller, end).await?;
    }
    controller.stop().await
}

#[tokio::test]
async fn top_draws_and_gives_the_terminal_back() {
    story().await.unwrap();
}
