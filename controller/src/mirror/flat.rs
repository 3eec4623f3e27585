//! One flat JSON message: keys of its table only, each with its type, in the table's order, and
//! never longer than its bound.

use super::BYTES_MAX;
use super::keys::{INTEGER_MAX, Kind, Type};

/// Longest string of a value, bytes: a sentence of two lines.
const TEXT_BYTES_MAX: usize = 160;

/// A message that is being put together.
pub(super) struct Flat {
    kind: &'static Kind,
    /// By place in the table.
    fields: Vec<Option<String>>,
}

impl Flat {
    pub(super) fn new(kind: &'static Kind) -> Self {
        Self { kind, fields: vec![None; kind.keys.len()] }
    }

    fn put(&mut self, name: &str, kinds: &[Type], value: String) {
        let at = self.kind.keys.iter().position(|key| key.name == name);
        debug_assert!(at.is_some(), "{name} is no key of {}", self.kind.name);
        let Some(at) = at else { return };
        debug_assert!(kinds.contains(&self.kind.keys[at].kind), "{name} has another type");
        self.fields[at] = Some(value);
    }

    /// A whole number, or nothing.
    pub(super) fn int(&mut self, name: &str, value: impl Into<Option<u64>>) -> &mut Self {
        if let Some(value) = value.into() {
            self.put(name, &[Type::Integer], value.min(INTEGER_MAX).to_string());
        }
        self
    }

    /// A number with so many digits behind the point at most, or nothing.
    pub(super) fn num(
        &mut self,
        name: &str,
        value: impl Into<Option<f64>>,
        digits: i32,
    ) -> &mut Self {
        let scale = 10f64.powi(digits);
        let rounded = value.into().map(|value| (value * scale).round() / scale);
        // JSON has no other numbers; "+ 0.0" makes 0 of -0.
        if let Some(value) = rounded.filter(|value| value.is_finite()) {
            self.put(name, &[Type::Number], format!("{}", value + 0.0));
        }
        self
    }

    /// 0 or 1, or nothing.
    pub(super) fn flag(&mut self, name: &str, value: impl Into<Option<bool>>) -> &mut Self {
        if let Some(value) = value.into() {
            self.put(name, &[Type::Flag], u8::from(value).to_string());
        }
        self
    }

    /// A string, cut where it is too long, or nothing.
    pub(super) fn text(&mut self, name: &str, value: Option<impl AsRef<str>>) -> &mut Self {
        let Some(value) = value else { return self };
        let value = value.as_ref();
        let cut =
            (0..=TEXT_BYTES_MAX.min(value.len())).rev().find(|at| value.is_char_boundary(*at));
        let value = &value[..cut.unwrap_or(0)];
        if !value.is_empty() {
            self.put(name, &[Type::Text], serde_json::Value::from(value).to_string());
        }
        self
    }

    /// The message. What does not fit is left out, the least important first; what is always there
    /// always fits.
    pub(super) fn finish(&self) -> Vec<u8> {
        let mut text = "{".to_owned();
        for (key, value) in self.kind.keys.iter().zip(&self.fields) {
            let Some(value) = value else {
                debug_assert!(!key.required, "{} has no {}", self.kind.name, key.name);
                continue;
            };
            let field =
                format!("{}\"{}\":{value}", if text.len() > 1 { "," } else { "" }, key.name);
            if text.len() + field.len() < BYTES_MAX {
                text.push_str(&field);
            } else {
                debug_assert!(!key.required, "{} does not fit", key.name);
            }
        }
        text.push('}');
        text.into_bytes()
    }
}
