//! The screen on a terminal in memory.

use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::*;
use crate::api::types::{BlobsView, BrokerView, DeviceCounts, LinkView};
use crate::cli::tree::tests::view;

fn status() -> StatusView {
    StatusView {
        version: "0.1.0".into(),
        pid: 1,
        started_s: 0,
        data: "/srv/fleet".into(),
        broker: BrokerView { kind: "embedded".into(), url: "mqtts://x:1".into(), sessions: None },
        link: LinkView { up: true, ..LinkView::default() },
        blobs: BlobsView::default(),
        devices: DeviceCounts { total: 9, online: 8 },
        rollouts: Vec::new(),
        bad_messages: Default::default(),
        reports_refused: Default::default(),
        orders_resent: 0,
    }
}

fn screen() -> Screen {
    Screen {
        status: Some(status()),
        rollouts: vec![view().summary],
        now_s: 90,
        ..Screen::default()
    }
}

/// What is on a terminal of this size.
fn drawn(screen: &mut Screen, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw::draw(frame, screen)).unwrap();
    let buffer = terminal.backend().buffer().clone();
    let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
    (0..height).map(|y| line(y).trim_end().to_owned() + "\n").collect()
}

fn press(screen: &mut Screen, code: KeyCode) -> Wish {
    screen.handle_key(KeyEvent::new(code, KeyModifiers::NONE))
}

#[test]
fn the_overview_shows_controller_devices_and_rollouts() {
    let expected = "\
fleetway 0.1.0  /srv/fleet  for 90 s
broker mqtts://x:1 (embedded)  link up for 90 s, 0 messages waiting
0 releases on the broker, 0 pieces waiting, 0 B sent, 0 messages refused
devices ██████████·· 8 online of 9

     release          state     phase confirmed              moving failed gate, why
3    digits@v2        running   2/3   1/9       █▒x········· 1      1      1 in flight, 1 confirmed

Enter opens  j k choose  q end
";
    assert_eq!(drawn(&mut screen(), 110, 9), expected);
}

#[test]
fn a_rollout_opens_scrolls_within_its_lines_and_closes() {
    let mut screen = screen();
    assert_eq!(press(&mut screen, KeyCode::Enter), Wish::Look);
    assert_eq!(screen.opened, Some(3));
    assert!(drawn(&mut screen, 80, 9).contains("asking for the rollout"));
    screen.detail = Some(view());
    let text = drawn(&mut screen, 80, 9);
    assert!(text.contains("rollout 3 of digits@v2 is running"), "{text}");
    for _ in 0..100 {
        press(&mut screen, KeyCode::Down);
    }
    let text = drawn(&mut screen, 120, 9);
    assert!(text.contains("1 OFFLINE: offline; last heard 9 s ago (cam-4)"), "{text}");
    press(&mut screen, KeyCode::Esc);
    assert_eq!((screen.opened, screen.scrolled), (None, 0));
}

#[test]
fn a_problem_is_told_beside_what_was_known_and_small_terminals_do_no_harm() {
    let mut screen = screen();
    screen.problem = Some("no controller answers".into());
    let text = drawn(&mut screen, 80, 12);
    assert!(text.contains("no controller answers") && text.contains("digits@v2"), "{text}");
    for (width, height) in [(1, 1), (5, 3), (300, 2)] {
        drawn(&mut screen, width, height);
    }
    drawn(&mut Screen::default(), 80, 9);
}

#[test]
fn keys_end_it_and_choose_within_the_list() {
    let mut screen = screen();
    screen.rollouts.push(view().summary);
    for (code, chosen) in
        [(KeyCode::Char('j'), 1), (KeyCode::Down, 1), (KeyCode::Char('k'), 0), (KeyCode::PageUp, 0)]
    {
        press(&mut screen, code);
        assert_eq!(screen.chosen, chosen, "{code:?}");
    }
    assert_eq!(press(&mut screen, KeyCode::Char('q')), Wish::End);
    let ctrl_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(screen.handle_key(ctrl_c), Wish::End);
}

/// Run by the next test, in a terminal.
#[test]
#[ignore = "it is the next one's child, and needs a terminal"]
fn a_drawing_that_panics() {
    let mut terminal = ratatui::try_init().unwrap();
    let _given_back = GivenBack;
    terminal.draw(|_| panic!("in a drawing")).unwrap();
}

#[test]
fn a_panic_gives_the_terminal_back() {
    let dir = tempfile::tempdir().unwrap();
    let us = std::env::current_exe().unwrap();
    let line = "stty -g >before; \"$US\" --ignored --exact cli::top::tests::a_drawing_that_panics \
                --nocapture; stty -g >after";
    let mut script = std::process::Command::new("script");
    script.args(["--quiet", "--flush", "--command", line, "typescript"]).current_dir(dir.path());
    script.env("US", us).env("TERM", "xterm").stdin(std::process::Stdio::null());
    let Ok(output) = script.output() else {
        println!("NOT RUN: no `script` here (`apt-get install bsdutils`)");
        return;
    };
    let read = |name: &str| std::fs::read(dir.path().join(name)).unwrap_or_default();
    let typescript = String::from_utf8_lossy(&read("typescript")).into_owned();
    assert!(typescript.contains("in a drawing"), "{output:?} {typescript}");
    assert!(!read("before").is_empty() && read("before") == read("after"), "{typescript}");
    assert!(typescript.rfind("\x1b[?1049l") > typescript.rfind("\x1b[?1049h"), "{typescript}");
}
