//! Where in a file a key stands. A reader that checks one value at a time says so by itself; what
//! is wrong only beside another value is known by its key, and found here.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use toml::de::{DeTable, DeValue};

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Toml,
    Json,
}

/// Line and column, from 1, of the value under a path of keys and numbers of list entries; of
/// the deepest part of the path that is there.
pub(super) fn of(text: &str, format: Format, path: &[String]) -> (usize, usize) {
    let offset = match format {
        Format::Toml => in_toml(text, path),
        Format::Json => in_json(text, path),
    };
    line_and_column(text, offset.unwrap_or(0))
}

/// Line and column, from 1, of a byte.
pub(super) fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    (1 + before.matches('\n').count(), 1 + before[line_start..].chars().count())
}

fn in_toml(text: &str, path: &[String]) -> Option<usize> {
    let document = DeTable::parse(text).ok()?;
    let (first, rest) = path.split_first()?;
    let mut value = document.get_ref().get(first.as_str())?;
    for key in rest {
        let next = match value.get_ref() {
            DeValue::Table(table) => table.get(key.as_str()),
            DeValue::Array(array) => key.parse::<usize>().ok().and_then(|at| array.get(at)),
            _ => None,
        };
        let Some(next) = next else { break };
        value = next;
    }
    Some(value.span().start)
}

fn in_json(text: &str, path: &[String]) -> Option<usize> {
    let mut value: &RawValue = serde_json::from_str(text).ok()?;
    for key in path {
        let raw = value.get();
        let next = match key.parse::<usize>() {
            Ok(at) => {
                serde_json::from_str::<Vec<&RawValue>>(raw).ok().and_then(|v| v.get(at).copied())
            }
            Err(_) => serde_json::from_str::<BTreeMap<String, &RawValue>>(raw)
                .ok()
                .and_then(|v| v.get(key).copied()),
        };
        let Some(next) = next else { break };
        value = next;
    }
    // The raw value is a part of the text.
    (value.get().as_ptr() as usize).checked_sub(text.as_ptr() as usize)
}
