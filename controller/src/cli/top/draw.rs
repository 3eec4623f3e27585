//! The screen of `top`, drawn. Nothing is asked for or decided here.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Row, Table, TableState, Wrap};

use super::Screen;
use crate::api::types::{RolloutSummary, StatusView};
use crate::cli::output::{ago, bytes, count};
use crate::cli::tree;

/// Devices of one phase with a line each; the rest is a number.
const DEVICES_MAX: usize = 500;
/// Cells of a bar of progress.
const BAR: usize = 12;

pub(super) fn draw(frame: &mut Frame<'_>, screen: &mut Screen) {
    let areas =
        Layout::vertical([Constraint::Length(5), Constraint::Min(3), Constraint::Length(1)]);
    let [head, body, foot] = areas.areas(frame.area());
    let lines = match &screen.status {
        Some(status) => head_lines(status, screen.now_s),
        None => vec![Line::from("asking the controller")],
    };
    frame.render_widget(Paragraph::new(lines), head);
    if screen.opened.is_some() {
        draw_detail(frame, screen, body);
    } else {
        draw_list(frame, screen, body);
    }
    draw_foot(frame, screen, foot);
}

fn head_lines(status: &StatusView, now_s: u64) -> Vec<Line<'static>> {
    let (link, blobs) = (&status.link, &status.blobs);
    let up = if link.up { ("up", Color::Green) } else { ("down", Color::Red) };
    let since = ago(now_s.saturating_sub(link.since_s));
    let bad: u64 = status.bad_messages.values().sum();
    let (online, total) = (status.devices.online as u32, status.devices.total as u32);
    let colour = if online == total { Color::Green } else { Color::Yellow };
    let bold = Style::new().add_modifier(Modifier::BOLD);
    vec![
        Line::from(vec![
            Span::styled(format!("fleetway {}", status.version), bold),
            Span::raw(format!(
                "  {}  for {}",
                status.data,
                ago(now_s.saturating_sub(status.started_s))
            )),
        ]),
        Line::from(vec![
            Span::raw(format!("broker {} ({})  link ", status.broker.url, status.broker.kind)),
            Span::styled(up.0, Style::new().fg(up.1)),
            Span::raw(format!(" for {since}, {} messages waiting", link.outbox_messages)),
        ]),
        Line::from(format!(
            "{} on the broker, {} pieces waiting, {} sent, {bad} messages refused",
            count(blobs.seeded_releases, "release"),
            blobs.pieces_waiting,
            bytes(blobs.bytes_out),
        )),
        Line::from(vec![
            Span::raw("devices "),
            Span::styled(bar(online, 0, 0, total), Style::new().fg(colour)),
            Span::raw(format!(" {online} online of {total}")),
        ]),
    ]
}

fn draw_list(frame: &mut Frame<'_>, screen: &Screen, area: Rect) {
    if screen.rollouts.is_empty() && screen.status.is_some() {
        let text = "no rollout yet: `fleetway rollout start MODEL@VERSION` starts one";
        return frame.render_widget(Paragraph::new(text), area);
    }
    let header =
        ["", "release", "state", "phase", "confirmed", "", "moving", "failed", "gate, why"];
    let header = Row::new(header).style(Style::new().add_modifier(Modifier::BOLD));
    let widths = [4, 16, 9, 5, 9, BAR as u16, 6, 6].map(Constraint::Length);
    let widths = widths.into_iter().chain([Constraint::Fill(1)]);
    let table = Table::new(screen.rollouts.iter().map(row), widths)
        .header(header)
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let mut state = TableState::default().with_selected(screen.chosen);
    frame.render_stateful_widget(table, area, &mut state);
}

fn row(rollout: &RolloutSummary) -> Row<'static> {
    let counts = &rollout.counts;
    let why = rollout.reason.as_ref().map(|why| &why.text).or(rollout.gate_text.as_ref());
    Row::new([
        rollout.id.to_string(),
        format!("{}@{}", rollout.model, rollout.release.text()),
        rollout.state.clone(),
        format!("{}/{}", rollout.phase, rollout.phases),
        format!("{}/{}", counts.confirmed, counts.total),
        bar(counts.confirmed, counts.moving, counts.failed, counts.total),
        counts.moving.to_string(),
        counts.failed.to_string(),
        why.cloned().unwrap_or_default(),
    ])
    .style(Style::new().fg(state_colour(&rollout.state)))
}

fn state_colour(state: &str) -> Color {
    match state {
        "running" | "paused" => Color::Yellow,
        "halted" | "aborted" => Color::Red,
        "succeeded" => Color::Green,
        _ => Color::Reset,
    }
}

/// `█` confirmed, `▒` moving, `x` failed, `·` waiting; what is there has a cell at least.
fn bar(confirmed: u32, moving: u32, failed: u32, total: u32) -> String {
    let cells = |n: u32| match (n as usize * BAR).checked_div(total as usize) {
        Some(0) if n > 0 => 1,
        Some(cells) => cells,
        None => 0,
    };
    let mut bar = "█".repeat(cells(confirmed));
    bar.push_str(&"▒".repeat(cells(moving)));
    bar.push_str(&"x".repeat(cells(failed)));
    let bar: String = bar.chars().take(BAR).collect();
    let rest = if total == 0 { 0 } else { BAR - bar.chars().count() };
    bar + &"·".repeat(rest)
}

fn draw_detail(frame: &mut Frame<'_>, screen: &mut Screen, area: Rect) {
    let Some(view) = &screen.detail else {
        return frame.render_widget(Paragraph::new("asking for the rollout"), area);
    };
    let summary = &view.summary;
    let why = summary.reason.as_ref().map_or_else(String::new, |why| format!(": {}", why.text));
    let title = Line::from(vec![
        Span::raw(format!(
            "rollout {} of {}@{} is ",
            summary.id,
            summary.model,
            summary.release.text()
        )),
        Span::styled(summary.state.clone(), Style::new().fg(state_colour(&summary.state))),
        Span::raw(why),
    ]);
    let mut lines = vec![title];
    lines.extend(tree::lines(view, DEVICES_MAX).into_iter().map(Line::from));
    // The last lines stay on the screen, however often somebody pressed the key.
    let hidden = u16::try_from(lines.len()).unwrap_or(u16::MAX).saturating_sub(area.height);
    screen.scrolled = screen.scrolled.min(hidden);
    let text = Paragraph::new(lines).wrap(Wrap { trim: false }).scroll((screen.scrolled, 0));
    frame.render_widget(text, area);
}

fn draw_foot(frame: &mut Frame<'_>, screen: &Screen, area: Rect) {
    let keys = match screen.opened {
        Some(_) => "Esc back  j k scroll  q end",
        None => "Enter opens  j k choose  q end",
    };
    let line = match &screen.problem {
        Some(problem) => Line::styled(problem.clone(), Style::new().fg(Color::Red)),
        None => Line::styled(keys, Style::new().add_modifier(Modifier::DIM)),
    };
    frame.render_widget(Paragraph::new(line), area);
}
