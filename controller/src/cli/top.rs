//! `fleetway top`: fleet and rollouts live, on the whole terminal.
//!
//! What is shown is a value ([`Screen`]), drawn by a pure function and changed by keys and by
//! what the API says; the loop below only brings these together. The terminal is given back
//! whatever ends it: a key, Ctrl-C, SIGTERM, an error or a panic.

mod draw;

use std::io::IsTerminal as _;
use std::time::Duration;

use fleetway_controller::clock;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use super::Context;
use crate::api::client::Client;
use crate::api::failure::Failure;
use crate::api::types::{RolloutSummary, RolloutView, StatusView};

/// Between two looks: what a person follows, and cheap for the controller.
const LOOK: Duration = Duration::from_secs(1);
/// Keys that wait to be handled; more are typed by a cat.
const KEYS_MAX: usize = 64;

/// Everything that is on the screen.
#[derive(Debug, Default)]
struct Screen {
    /// What the controller said last.
    status: Option<StatusView>,
    /// Every rollout, the newest first.
    rollouts: Vec<RolloutSummary>,
    /// The rollout that is looked into.
    detail: Option<RolloutView>,
    /// Which rollout's detail is wanted.
    opened: Option<u64>,
    /// Row of the list that is chosen.
    chosen: usize,
    /// Lines of the detail above the screen.
    scrolled: u16,
    /// Why what is shown is old.
    problem: Option<String>,
    /// Unix seconds.
    now_s: u64,
}

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    /// Nothing but another drawing.
    Draw,
    /// What is shown must be asked for.
    Look,
    /// The end.
    End,
}

impl Screen {
    fn handle_key(&mut self, key: KeyEvent) -> Wish {
        let ctrl_c =
            key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            _ if key.kind == KeyEventKind::Release => Wish::Draw,
            _ if ctrl_c => Wish::End,
            KeyCode::Char('q') => Wish::End,
            KeyCode::Esc | KeyCode::Left | KeyCode::Backspace => {
                (self.opened, self.detail, self.scrolled) = (None, None, 0);
                Wish::Draw
            }
            KeyCode::Enter | KeyCode::Right => {
                self.opened = self.rollouts.get(self.chosen).map(|rollout| rollout.id);
                Wish::Look
            }
            KeyCode::Down | KeyCode::Char('j') => self.step(1),
            KeyCode::Up | KeyCode::Char('k') => self.step(-1),
            KeyCode::PageDown => self.step(10),
            KeyCode::PageUp => self.step(-10),
            _ => Wish::Draw,
        }
    }

    fn step(&mut self, by: i16) -> Wish {
        if self.opened.is_some() {
            self.scrolled = self.scrolled.saturating_add_signed(by);
        } else {
            let last = self.rollouts.len().saturating_sub(1);
            self.chosen = self.chosen.saturating_add_signed(by.into()).min(last);
        }
        Wish::Draw
    }

    /// Asks for what is shown. An answer that does not come leaves what was there, and says so.
    async fn look(&mut self, client: &Client) {
        self.now_s = clock::now_s();
        match ask(client, self.opened).await {
            Ok((status, mut rollouts, detail)) => {
                rollouts.sort_by_key(|rollout| std::cmp::Reverse(rollout.id));
                (self.status, self.rollouts, self.detail) = (Some(status), rollouts, detail);
                self.chosen = self.chosen.min(self.rollouts.len().saturating_sub(1));
                self.problem = None;
            }
            Err(failure) => self.problem = Some(failure.message),
        }
    }
}

type Answers = (StatusView, Vec<RolloutSummary>, Option<RolloutView>);

async fn ask(client: &Client, opened: Option<u64>) -> Result<Answers, Failure> {
    let status = client.get("/v1/status").await?;
    let rollouts = client.list("/v1/rollouts").await?;
    let detail = match opened {
        Some(id) => Some(client.get(&format!("/v1/rollouts/{id}")).await?),
        None => None,
    };
    Ok((status, rollouts, detail))
}

pub(super) async fn run(context: &Context) -> Result<(), Failure> {
    if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        return Err(Failure::usage("`top` needs a terminal").mend("use `fleetway status`"));
    }
    let mut screen = Screen::default();
    // Before the terminal is taken: a wrong directory is told as by every other verb.
    let client = context.client();
    let _: StatusView = client.get("/v1/status").await?;
    let mut terminal = ratatui::try_init()
        .map_err(|error| Failure::from_error("cannot take the terminal", &error))?;
    let _given_back = GivenBack;
    let mut keys = read_keys();
    let mut terminate = signal(SignalKind::terminate())
        .map_err(|error| Failure::from_error("cannot wait for signals", &error))?;
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let wish = tokio::select! {
            _ = looks.tick() => Wish::Look,
            _ = terminate.recv() => Wish::End,
            key = keys.recv() => key.map_or(Wish::End, |key| screen.handle_key(key)),
        };
        match wish {
            Wish::End => return Ok(()),
            Wish::Look => screen.look(&client).await,
            Wish::Draw => {}
        }
        terminal
            .draw(|frame| draw::draw(frame, &mut screen))
            .map_err(|error| Failure::from_error("cannot draw", &error))?;
    }
}

/// Gives the terminal back at the end; a panic's hook does the same before it prints.
struct GivenBack;

impl Drop for GivenBack {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// Keys, by a thread that waits for them and ends with the process. A drawing follows a change
/// of the terminal's size as it follows a key.
fn read_keys() -> mpsc::Receiver<KeyEvent> {
    let (send, receive) = mpsc::channel(KEYS_MAX);
    std::thread::spawn(move || {
        while let Ok(event) = event::read() {
            let key = match event {
                Event::Key(key) => key,
                Event::Resize(..) => KeyEvent::new(KeyCode::Null, KeyModifiers::NONE),
                _ => continue,
            };
            if send.blocking_send(key).is_err() {
                return;
            }
        }
    });
    receive
}

#[cfg(test)]
mod tests;
