//! Figures with their units, aims, and how they were measured.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Map, Value, json};

/// One figure.
#[derive(Clone, Debug)]
pub(super) struct Figure {
    /// Its key in the JSON; the unit is its last word.
    pub(super) key: &'static str,
    /// Its value.
    pub(super) value: f64,
    /// What is aimed at: at most this.
    pub(super) aim: Option<f64>,
    /// How it was measured, in some words.
    pub(super) how: String,
}

/// All figures, in the order of measuring.
#[derive(Debug, Default)]
pub(super) struct Figures(Vec<Figure>);

impl Figures {
    /// Adds one.
    pub(super) fn add(
        &mut self,
        key: &'static str,
        value: f64,
        aim: Option<f64>,
        how: impl Into<String>,
    ) {
        self.0.push(Figure { key, value, aim, how: how.into() });
    }

    /// The table.
    pub(super) fn print(&self) {
        println!("\n{:<22} {:>9}  {:<12} how", "figure", "value", "aim");
        for figure in &self.0 {
            let aim = figure.aim.map_or(String::new(), |aim| {
                let met = if figure.value <= aim { "met" } else { "MISSED" };
                format!("{aim} {met}")
            });
            println!("{:<22} {:>9.3}  {aim:<12} {}", figure.key, figure.value, figure.how);
        }
    }

    /// Writes one flat object.
    pub(super) fn write(&self, path: &Path) -> Result<()> {
        let pairs = self.0.iter().map(|f| (f.key.to_owned(), json!(rounded(f.value))));
        let object: Map<String, Value> = pairs.collect();
        let text = format!("{:#}\n", Value::Object(object));
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    }
}

/// Three places: more would be noise.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// The value below which `permille` of the sorted values lie; the last for small sets.
pub(super) fn quantile(values: &mut [f64], permille: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    let at = (values.len() * permille).div_ceil(1000).saturating_sub(1);
    values.get(at).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_were_seen() {
        let mut values = [5.0, 1.0, 3.0];
        assert_eq!(quantile(&mut values, 500).total_cmp(&3.0), std::cmp::Ordering::Equal);
        assert_eq!(quantile(&mut values, 990).total_cmp(&5.0), std::cmp::Ordering::Equal);
        assert!(quantile(&mut [], 500).is_nan());
    }
}
