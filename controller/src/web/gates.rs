//! Canary against control: what the last look at a rollout's metric gates found, drawn as two
//! intervals on one scale for each metric. They are drawn by the server, so they are read without
//! JavaScript, and the numbers stand beside them.

use super::words;
use crate::api::types::RolloutView;
use fleetway_controller::planner::analysis::{
    Bounded, ControlKind, GateResult, Looked, Mode, Shown,
};

/// Width of a drawing in its own units.
pub(super) const WIDTH: i64 = 1_000;
/// Room beside the outermost bound, in thousandths of the scale.
const MARGIN: i64 = 60;
/// Least width of an interval, so that an exact value is still seen.
const LEAST: i64 = 8;

/// One gate, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// What was measured.
    pub(super) metric: &'static str,
    /// Of which hardware, if of one class.
    pub(super) class: Option<String>,
    /// `pass`, `fail` or `inconclusive`.
    pub(super) verdict: &'static str,
    /// It decides nothing.
    pub(super) shown_only: bool,
    /// Devices that were offered the release, and those that were not.
    pub(super) sides: Vec<Side>,
    /// What follows from it.
    pub(super) sentence: String,
}

/// One side of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Side {
    /// `canary` or `control`.
    pub(super) name: &'static str,
    /// How it is coloured.
    pub(super) tone: &'static str,
    /// The value and its bounds.
    pub(super) text: String,
    /// How many devices and samples it is made of.
    pub(super) made_of: String,
    /// Where it lies, if anything was counted.
    pub(super) span: Option<Span>,
}

/// An interval on the drawing's scale, 0 to [`WIDTH`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    /// Where it begins.
    pub(super) from: i64,
    /// How wide it is.
    pub(super) width: i64,
    /// Where the best guess lies.
    pub(super) at: i64,
}

/// All gates of the last look, what needs a look first.
pub(super) fn rows(rollout: &RolloutView) -> Vec<Row> {
    let mut rows: Vec<Row> = rollout.gates.iter().flat_map(|l| &l.results).map(row).collect();
    let order = |row: &Row| match row.verdict {
        "fail" => 0,
        "inconclusive" => 1,
        _ => 2,
    };
    rows.sort_by_key(|row| (row.shown_only, order(row)));
    rows
}

/// Seconds over which both sides were counted.
pub(super) fn watched_s(looked: &Looked) -> u64 {
    looked.at_s.saturating_sub(looked.since_s)
}

/// Who the control cohort is, in words.
pub(super) fn control(looked: &Looked) -> &'static str {
    match looked.control_kind {
        ControlKind::NotYetOffered => "devices of this rollout that were not offered it yet",
        ControlKind::Outside => "devices that this rollout is not for: too few others are left",
    }
}

fn row(result: &GateResult) -> Row {
    use fleetway_controller::planner::analysis::GateVerdict::{Fail, Inconclusive, Pass};
    let values = [Some(&result.cohort), result.control.as_ref()];
    let scale = scale(values.into_iter().flatten().filter_map(|estimate| estimate.value));
    let verdict = match result.verdict {
        Pass => "pass",
        Fail => "fail",
        Inconclusive => "inconclusive",
    };
    let canary = if result.verdict == Fail { "bad" } else { "busy" };
    let sides = [("canary", canary), ("control", "quiet")].into_iter().zip(values);
    Row {
        metric: result.metric.name(),
        class: result.class.as_ref().map(ToString::to_string),
        verdict,
        shown_only: result.mode == Mode::DryRun,
        sides: sides
            .filter_map(|((name, tone), estimate)| {
                let estimate = estimate?;
                let offline = match estimate.offline {
                    0 => String::new(),
                    offline => format!(", {} offline", words::number(offline)),
                };
                Some(Side {
                    name,
                    tone,
                    text: estimate
                        .value
                        .map_or_else(|| "–".into(), |v| Shown(v, result.unit).to_string()),
                    made_of: format!(
                        "{} of {} counted{offline}, {}",
                        words::number(estimate.counted),
                        words::count(estimate.devices, "device"),
                        words::count(estimate.samples, "sample"),
                    ),
                    span: estimate.value.map(|value| span(value, scale)),
                })
            })
            .collect(),
        sentence: result.sentence.clone(),
    }
}

/// The least and the greatest bound, with some room.
fn scale(values: impl Iterator<Item = Bounded>) -> (i64, i64) {
    let both = values.fold(None, |both: Option<(i64, i64)>, v| {
        let (low, high) = both.unwrap_or((v.low, v.high));
        Some((low.min(v.low), high.max(v.high)))
    });
    let (low, high) = both.unwrap_or((0, 0));
    let room = (high.saturating_sub(low).saturating_mul(MARGIN) / 1_000).max(1);
    (low.saturating_sub(room), high.saturating_add(room))
}

fn span(value: Bounded, (low, high): (i64, i64)) -> Span {
    let wide = i128::from(high) - i128::from(low);
    let place = |v: i64| ((i128::from(v) - i128::from(low)) * i128::from(WIDTH) / wide) as i64;
    let (from, to) = (place(value.low), place(value.high));
    Span { from, width: (to - from).max(LEAST), at: place(value.value) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_lie_on_one_scale_with_room_beside_them() {
        let (canary, control) =
            (Bounded { value: 40, low: 20, high: 60 }, Bounded { value: 10, low: 0, high: 20 });
        let scale = scale([canary, control].into_iter());
        assert_eq!(scale, (-3, 63));
        let [canary, control] = [canary, control].map(|v| span(v, scale));
        assert!(control.from > 0 && canary.from + canary.width < WIDTH);
        assert!(control.from + control.width <= canary.from, "they do not overlap");
        assert!(control.from < control.at && control.at < canary.from && canary.from < canary.at);
    }

    #[test]
    fn exact_and_extreme_values_are_drawn_as_well() {
        let exact = Bounded { value: 0, low: 0, high: 0 };
        let drawn = span(exact, scale([exact].into_iter()));
        assert_eq!((drawn.width, drawn.at), (LEAST, WIDTH / 2));
        let all = Bounded { value: 0, low: i64::MIN, high: i64::MAX };
        let drawn = span(all, scale([all].into_iter()));
        assert_eq!((drawn.from, drawn.width), (0, WIDTH));
    }
}
