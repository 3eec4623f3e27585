//! `fleetway rollout lint FILE`: what is wrong, what is unwise, and, if a controller answers, what
//! the fleet says to it.

use std::path::Path;

use fleetway_controller::planner::unwise;
use serde::Serialize;

use super::{Loaded, load, place};
use crate::api::failure::{Failure, Kind};
use crate::api::types::PlanView;
use crate::cli::Context;

/// What lint found.
#[derive(Debug, Serialize)]
struct Findings {
    /// The file.
    file: String,
    /// Legal and unwise.
    warnings: Vec<Warning>,
    /// Whether a controller was asked.
    asked: bool,
}

#[derive(Debug, Serialize)]
struct Warning {
    line: usize,
    column: usize,
    text: String,
}

/// Checks a file. What is wrong is an error, what is unwise is printed.
pub(crate) async fn run(path: &Path, context: &Context) -> Result<(), Failure> {
    let loaded = load(path)?;
    let mut warnings = warnings(&loaded);
    let asked = match ask(&loaded, context).await {
        Ok(notes) => {
            warnings.extend(notes);
            true
        }
        Err(failure) if failure.code == Kind::Unreachable => false,
        Err(failure) => return Err(failure),
    };
    let findings = Findings { file: loaded.name, warnings, asked };
    context.output.data(&findings, || text(&findings))
}

fn warnings(loaded: &Loaded) -> Vec<Warning> {
    let found = unwise(&loaded.spec).into_iter().map(|found| {
        let (line, column) = place::of(&loaded.text, loaded.format, &found.field);
        Warning { line, column, text: found.text }
    });
    found.collect()
}

/// What a plan of it, made now, warns of. A release that is not there yet, devices that are not:
/// what is right tomorrow may be written today.
async fn ask(loaded: &Loaded, context: &Context) -> Result<Vec<Warning>, Failure> {
    let at = |field: &str, text: String| {
        let (line, column) = place::of(&loaded.text, loaded.format, &[field.to_owned()]);
        Warning { line, column, text }
    };
    match context.client().post::<_, PlanView>("/v1/rollouts/plan", &loaded.request).await {
        Ok(plan) => {
            // What the file alone tells was said with its line.
            let known: Vec<_> = unwise(&loaded.spec).into_iter().map(|found| found.text).collect();
            let notes = plan.notes.into_iter().filter(|note| !known.contains(note));
            Ok(notes.map(|note| at("release", note)).collect())
        }
        Err(failure) if matches!(failure.code, Kind::NotFound | Kind::Conflict) => {
            let field = if failure.message.contains("selector") { "select" } else { "release" };
            Ok(vec![at(field, format!("the controller says: {}", failure.message))])
        }
        Err(failure) => Err(failure),
    }
}

fn text(findings: &Findings) -> String {
    let file = &findings.file;
    let mut lines: Vec<_> = findings
        .warnings
        .iter()
        .map(|w| format!("{file}:{}:{}: warning: {}", w.line, w.column, w.text))
        .collect();
    let said = match findings.warnings.len() {
        0 => "nothing to say".to_owned(),
        1 => "1 warning".to_owned(),
        n => format!("{n} warnings"),
    };
    let asked =
        if findings.asked { "" } else { "; no controller answers, the fleet was not asked" };
    lines.push(format!("{file}: it can be started; {said}{asked}"));
    lines.join("\n")
}
