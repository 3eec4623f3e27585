//! Which devices: `site=berlin,role in (cam,gate),!lab`, `id=cam-01`, `all`.
//!
//! Commas mean *and*. As in Kubernetes, `k!=v` and `k notin (..)` also match devices
//! without the label `k`. `id` stands for the device's id. Labels are compared byte by byte.

use std::fmt;
use std::str::FromStr;

use fleetway_protocol::ids::DeviceId;
use serde::{Deserialize, Serialize};

use super::Labels;
use crate::ErrorKind;

/// Length of a selector that a person writes: one line of a terminal, several times over.
pub const SELECTOR_BYTES_MAX: usize = 1024;
/// Length of a selector that we wrote ourselves: thirty thousand of the longest device ids.
const OWN_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Length of a label's key or value.
pub const LABEL_BYTES_MAX: usize = 63;
/// Words of the selector's grammar, and the device id's own key.
const RESERVED: [&str; 4] = ["id", "all", "in", "notin"];

/// Which devices a rollout is for. Reads from and shows as its text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Selector {
    text: String,
    terms: Vec<Term>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Term {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Has(String),
    HasNot(String),
}

/// Why a text is no selector. Positions count characters, from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// Nothing there.
    #[error("the selector is empty; write `all` for every device, or labels like site=berlin")]
    Empty,
    /// Too long.
    #[error("the selector has {0} bytes, at most {SELECTOR_BYTES_MAX} are allowed")]
    TooLong(usize),
    /// Something else was expected.
    #[error("selector `{text}`, position {at}: expected {expected}, found {found}")]
    Expected {
        /// The whole selector.
        text: String,
        /// Where.
        at: usize,
        /// What could stand there.
        expected: &'static str,
        /// What stands there.
        found: String,
    },
}

impl SelectorError {
    /// What kind of failure it is.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Usage
    }
}

/// Why a text is no label.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("label {label:?} {rule}")]
pub struct LabelError {
    label: String,
    rule: &'static str,
}

/// Checks a label.
///
/// # Errors
/// [`LabelError`] says what labels look like.
pub fn check_label(key: &str, value: &str) -> Result<(), LabelError> {
    let refuse = |rule| Err(LabelError { label: format!("{key}={value}"), rule });
    if RESERVED.contains(&key) {
        return refuse("has a key with a meaning of its own; do not use id, all, in, notin");
    }
    for part in [key, value] {
        if part.is_empty() || part.len() > LABEL_BYTES_MAX || !part.chars().all(is_word) {
            return refuse("must be key=value, each 1 to 63 of a-z A-Z 0-9 . _ - /");
        }
    }
    Ok(())
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/')
}

impl Selector {
    /// Every device.
    pub fn all() -> Self {
        Self { text: "all".to_owned(), terms: Vec::new() }
    }

    /// Exactly these devices, whatever their labels become. `None` without one.
    pub fn devices<'a>(ids: impl IntoIterator<Item = &'a DeviceId>) -> Option<Self> {
        let mut ids: Vec<String> = ids.into_iter().map(ToString::to_string).collect();
        ids.sort();
        ids.dedup();
        let text = match ids.as_slice() {
            [] => return None,
            [id] => format!("id={id}"),
            ids => format!("id in ({})", ids.join(",")),
        };
        Some(Self { text, terms: vec![Term::In("id".to_owned(), ids)] })
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it matches a device.
    pub fn matches(&self, id: &DeviceId, labels: &Labels) -> bool {
        let value = |key: &str| match key {
            "id" => Some(id.as_str()),
            _ => labels.get(key).map(String::as_str),
        };
        self.terms.iter().all(|term| match term {
            Term::In(key, values) => value(key).is_some_and(|v| has(values, v)),
            Term::NotIn(key, values) => !value(key).is_some_and(|v| has(values, v)),
            Term::Has(key) => value(key).is_some(),
            Term::HasNot(key) => value(key).is_none(),
        })
    }
}

/// Values are sorted: a list of devices may be long.
fn has(values: &[String], value: &str) -> bool {
    values.binary_search_by(|v| v.as_str().cmp(value)).is_ok()
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl From<Selector> for String {
    fn from(selector: Selector) -> Self {
        selector.text
    }
}

impl TryFrom<String> for Selector {
    type Error = SelectorError;
    /// From the store or another program: it may be one of ours, and long.
    fn try_from(text: String) -> Result<Self, SelectorError> {
        read(&text, OWN_BYTES_MAX)
    }
}

impl FromStr for Selector {
    type Err = SelectorError;
    fn from_str(text: &str) -> Result<Self, SelectorError> {
        read(text, SELECTOR_BYTES_MAX)
    }
}

fn read(text: &str, bytes_max: usize) -> Result<Selector, SelectorError> {
    let text = text.trim();
    match text.len() {
        0 => return Err(SelectorError::Empty),
        n if n > bytes_max => return Err(SelectorError::TooLong(n)),
        _ => {}
    }
    if text == "all" {
        return Ok(Selector::all());
    }
    let mut parser = Parser { text, chars: text.chars().collect(), at: 0 };
    let mut terms = vec![parser.term()?];
    while !parser.at_end() {
        parser.expect(',', "`,` between two conditions")?;
        terms.push(parser.term()?);
    }
    Ok(Selector { text: text.to_owned(), terms })
}

struct Parser<'a> {
    text: &'a str,
    chars: Vec<char>,
    at: usize,
}

impl Parser<'_> {
    fn skip_blanks(&mut self) {
        while self.chars.get(self.at) == Some(&' ') {
            self.at += 1;
        }
    }

    fn at_end(&mut self) -> bool {
        self.skip_blanks();
        self.at == self.chars.len()
    }

    fn refuse<T>(&self, expected: &'static str) -> Result<T, SelectorError> {
        let found = match self.chars.get(self.at) {
            Some(c) => format!("`{c}`"),
            None => "the end".to_owned(),
        };
        let text = self.text.to_owned();
        Err(SelectorError::Expected { text, at: self.at + 1, expected, found })
    }

    fn take(&mut self, c: char) -> bool {
        self.skip_blanks();
        let there = self.chars.get(self.at) == Some(&c);
        self.at += usize::from(there);
        there
    }

    fn expect(&mut self, c: char, expected: &'static str) -> Result<(), SelectorError> {
        if self.take(c) { Ok(()) } else { self.refuse(expected) }
    }

    fn word(&mut self, expected: &'static str) -> Result<String, SelectorError> {
        self.skip_blanks();
        let word: String = self.chars[self.at..].iter().take_while(|c| is_word(**c)).collect();
        if word.is_empty() {
            return self.refuse(expected);
        }
        // The alphabet is ASCII: one byte a character.
        self.at += word.len();
        Ok(word)
    }

    fn key(&mut self) -> Result<String, SelectorError> {
        self.skip_blanks();
        let start = self.at;
        let key = self.word("a label's key")?;
        if key != "id" && RESERVED.contains(&key.as_str()) {
            self.at = start;
            return self.refuse("a label's key (`all` stands alone; in and notin follow a key)");
        }
        Ok(key)
    }

    fn term(&mut self) -> Result<Term, SelectorError> {
        if self.take('!') {
            return Ok(Term::HasNot(self.key()?));
        }
        let key = self.key()?;
        if self.take('=') {
            // `==` is what many write.
            self.take('=');
            return Ok(Term::In(key, vec![self.word("a label's value")?]));
        }
        if self.take('!') {
            self.expect('=', "`!=`")?;
            return Ok(Term::NotIn(key, vec![self.word("a label's value")?]));
        }
        self.skip_blanks();
        if self.at == self.chars.len() || self.chars[self.at] == ',' {
            return Ok(Term::Has(key));
        }
        let start = self.at;
        match self.word("`=`, `!=`, `in (..)`, `notin (..)` or `,`")?.as_str() {
            "in" => Ok(Term::In(key, self.values()?)),
            "notin" => Ok(Term::NotIn(key, self.values()?)),
            _ => {
                self.at = start;
                self.refuse("`=`, `!=`, `in (..)`, `notin (..)` or `,`")
            }
        }
    }

    fn values(&mut self) -> Result<Vec<String>, SelectorError> {
        self.expect('(', "`(`")?;
        let mut values = vec![self.word("a label's value")?];
        while self.take(',') {
            values.push(self.word("a label's value")?);
        }
        self.expect(')', "`,` or `)`")?;
        values.sort();
        Ok(values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_match_as_they_read() {
        let id = DeviceId::new("cam-01").unwrap();
        let labels: Labels =
            [("site", "berlin"), ("role", "cam")].map(|(k, v)| (k.into(), v.into())).into();
        let check = |text: &str, expected: bool| {
            let selector: Selector = text.parse().unwrap();
            assert_eq!(selector.matches(&id, &labels), expected, "{text}");
            assert_eq!(selector.to_string().parse::<Selector>().unwrap(), selector);
        };
        check("all", true);
        check("site=berlin", true);
        check("site==berlin", true);
        check(" site = berlin , role = cam ", true);
        check("site=berlin,role=gate", false);
        check("site=Berlin", false);
        check("site!=berlin", false);
        check("floor!=3", true);
        check("role in (cam, gate)", true);
        check("role in (gate)", false);
        check("role notin (gate)", true);
        check("floor notin (1,2)", true);
        check("role notin (gate,cam)", false);
        check("site", true);
        check("!site", false);
        check("floor", false);
        check("!floor,site", true);
        check("id=cam-01", true);
        check("id in (cam-02,cam-03)", false);
        check("id", true);
    }

    #[test]
    fn a_list_of_devices_reads_back_however_long() {
        let ids: Vec<DeviceId> =
            (0..3000).rev().map(|n| DeviceId::new(&format!("cam-{n}")).unwrap()).collect();
        let selector = Selector::devices(&ids).unwrap();
        let back = Selector::try_from(String::from(selector.clone())).unwrap();
        assert_eq!(back, selector);
        assert!(ids.iter().all(|id| back.matches(id, &Labels::new())));
        assert!(!back.matches(&DeviceId::new("cam-3000").unwrap(), &Labels::new()));
        assert_eq!(Selector::devices(&ids[..1]).unwrap().as_str(), "id=cam-2999");
        assert_eq!(Selector::devices(&[]), None);
    }

    #[test]
    fn errors_say_where_and_what() {
        let check = |text: &str, expected: &str| {
            assert_eq!(text.parse::<Selector>().unwrap_err().to_string(), expected);
        };
        check(
            "",
            "the selector is empty; write `all` for every device, or labels like site=berlin",
        );
        check("site=", "selector `site=`, position 6: expected a label's value, found the end");
        check(
            "site=a b=c",
            "selector `site=a b=c`, position 8: expected `,` between two conditions, found `b`",
        );
        check("=x", "selector `=x`, position 1: expected a label's key, found `=`");
        check("a,,b", "selector `a,,b`, position 3: expected a label's key, found `,`");
        check("a in b", "selector `a in b`, position 6: expected `(`, found `b`");
        check("a in (b", "selector `a in (b`, position 8: expected `,` or `)`, found the end");
        check(
            "a of b",
            "selector `a of b`, position 3: expected `=`, `!=`, `in (..)`, `notin (..)` or `,`, found `o`",
        );
        check("a=ä", "selector `a=ä`, position 3: expected a label's value, found `ä`");
        assert!("all,a=b".parse::<Selector>().is_err());
        assert_eq!("x".repeat(2000).parse::<Selector>(), Err(SelectorError::TooLong(2000)));
    }

    #[test]
    fn labels_keep_to_their_alphabet() {
        for (key, value) in [("id", "x"), ("", "x"), ("a", ""), ("a b", "c"), ("a", "b,c")] {
            assert!(check_label(key, value).is_err(), "{key}={value}");
        }
        assert!(check_label("site", "Berlin-2.a").is_ok());
    }
}
