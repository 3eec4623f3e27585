//! `fleetway model diff`: two releases of this machine's catalog beside each other.

use std::collections::{BTreeMap, BTreeSet};

use fleetway_controller::catalog::Catalog;
use fleetway_controller::catalog::compare::{Comparison, Tensors};
use serde::Serialize;

use super::local;
use crate::api::failure::Failure;
use crate::api::view::failed;
use crate::cli::Context;
use crate::cli::output::{bytes, count, table};
use crate::cli::values::ReleaseName;

/// Names of tensors that are listed; the JSON has them all.
const NAMES_SHOWN_MAX: usize = 5;
/// Characters of a value in the table.
const VALUE_CHARS_MAX: usize = 60;

/// What `model diff` prints.
#[derive(Serialize)]
struct Diff {
    #[serde(flatten)]
    comparison: Comparison,
    health_from: Vec<String>,
    health_to: Vec<String>,
}

pub(super) fn run(from: &ReleaseName, to: &ReleaseName, context: &Context) -> Result<(), Failure> {
    let catalog = Catalog::open(&context.data);
    let load = |name: &ReleaseName| {
        catalog.load(&name.model, &name.version).map_err(|error| failed(error.kind(), &error))
    };
    let (a, b) = (load(from)?, load(to)?);
    let comparison = catalog.compare(&a, &b).map_err(|error| failed(error.kind(), &error))?;
    let (health_from, health_to) = (local(&a).health, local(&b).health);
    let diff = Diff { comparison, health_from, health_to };
    context.output.data(&diff, || {
        let names = [from, to].map(ToString::to_string);
        let rows = rows(&diff).into_iter().map(|(what, a, b)| [what, a, b]);
        format!(
            "{}\n\n{}",
            table(["", &names[0], &names[1]], rows),
            tensors(&diff.comparison.tensors)
        )
    })
}

type Row = (String, String, String);

/// One row for each thing; the second cell says `same` where it is.
fn rows(diff: &Diff) -> Vec<Row> {
    let Comparison { from, to, .. } = &diff.comparison;
    let mut rows = Vec::new();
    let mut add = |what: &str, a: String, b: String| {
        let b = if a == b { "same".to_owned() } else { b };
        rows.push((what.to_owned(), cut(&a), cut(&b)));
    };
    let short = |digest: &str| digest.chars().take(12).collect::<String>();
    add("counter", from.counter.to_string(), to.counter.to_string());
    add("digest", short(&from.digest), short(&to.digest));
    add("inputs", from.inputs.join("; "), to.inputs.join("; "));
    add("outputs", from.outputs.join("; "), to.outputs.join("; "));
    add("precision", shares(&from.precision), shares(&to.precision));
    add("opset", from.opset.to_string(), to.opset.to_string());
    add("producer", from.producer.clone(), to.producer.clone());
    add("model", bytes(from.model_bytes), bytes(to.model_bytes));
    add("download", bytes(from.download_bytes), bytes(to.download_bytes));
    let (a, b) = (&from.operators, &to.operators);
    for name in differing(a, b) {
        let uses = |side: &BTreeMap<String, usize>| side.get(name).map_or(0, |n| *n).to_string();
        add(&format!("operator {name}"), uses(a), uses(b));
    }
    let health = diff.health_from.len().max(diff.health_to.len());
    for at in 0..health {
        let line = |side: &[String]| side.get(at).cloned().unwrap_or_else(|| "-".to_owned());
        let (a, b) = (line(&diff.health_from), line(&diff.health_to));
        if a != b {
            add("health", a, b);
        }
    }
    let pairs =
        [("", &from.annotations, &to.annotations), ("document ", &from.documents, &to.documents)];
    for (prefix, a, b) in pairs {
        for name in differing(a, b) {
            let of = |side: &BTreeMap<String, String>| {
                side.get(name).cloned().unwrap_or_else(|| "-".to_owned())
            };
            add(&format!("{prefix}{name}"), of(a), of(b));
        }
    }
    rows
}

/// Keys whose values differ, or that one side has alone.
fn differing<'a, T: PartialEq>(
    a: &'a BTreeMap<String, T>,
    b: &'a BTreeMap<String, T>,
) -> BTreeSet<&'a String> {
    a.keys().chain(b.keys()).filter(|name| a.get(*name) != b.get(*name)).collect()
}

/// `int8 87%, float 13%`: element types by their share of the stored bytes.
fn shares(precision: &BTreeMap<String, u64>) -> String {
    let total: u64 = precision.values().sum::<u64>().max(1);
    let mut parts: Vec<_> = precision.iter().filter(|(_, bytes)| **bytes > 0).collect();
    parts.sort_by_key(|(_, bytes)| std::cmp::Reverse(**bytes));
    let parts = parts.iter().map(|(name, bytes)| format!("{name} {}", percent(**bytes, total)));
    parts.collect::<Vec<_>>().join(", ")
}

fn percent(part: u64, of: u64) -> String {
    format!("{:.1}%", part as f64 * 100.0 / of.max(1) as f64)
}

fn tensors(tensors: &Tensors) -> String {
    let Tensors { same, changed, added, removed, changed_bytes, changed_elements, elements } =
        tensors;
    let mut lines = vec![format!(
        "tensors: {} changed, {same} the same, {} added, {} removed",
        changed.len(),
        added.len(),
        removed.len()
    )];
    if !changed.is_empty() {
        lines.push(format!(
            "changed: {changed_elements} of {} ({}), in {} of tensors",
            count(*elements, "element"),
            percent(*changed_elements, *elements),
            bytes(*changed_bytes)
        ));
    }
    for (what, names) in [("changed", changed), ("added", added), ("removed", removed)] {
        if !names.is_empty() {
            let more = names.len().saturating_sub(NAMES_SHOWN_MAX);
            let shown = names.iter().take(NAMES_SHOWN_MAX).map(|name| cut(name));
            let shown = shown.collect::<Vec<_>>().join(", ");
            let rest = if more > 0 { format!(", and {more} more") } else { String::new() };
            lines.push(format!("  {what}: {shown}{rest}"));
        }
    }
    lines.join("\n")
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(VALUE_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
