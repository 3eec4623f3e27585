//! Reading the log from its first kept line to its last, and telling every way in which it is not
//! what was written.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::chain::{Broken, Entry, Head, follow, read_line};
use super::file::{AuditError, dir, files};

/// Where the log begins and ends by the store. Kept there, so that what is cut off the end of the
/// files, or removed from their beginning, is missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    /// The head before the first kept line.
    pub floor: Head,
    /// The last line.
    pub head: Head,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { floor: Head::START, head: Head::START }
    }
}

/// What verifying found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Whether the log is what was written.
    pub ok: bool,
    /// Lines that hold.
    pub lines: u64,
    /// Number of the first kept line.
    pub first: u64,
    /// The last line that holds, as `number:hash`: note it elsewhere, and a forged log is found.
    pub head: String,
    /// What is wrong.
    pub faults: Vec<Fault>,
    /// What is not wrong but worth knowing: a line that a power cut left half written.
    pub notes: Vec<String>,
}

/// Something that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// File and line number, or what is missing.
    pub place: String,
    /// What is wrong with it.
    pub what: String,
}

/// Reads the log of a data directory and gives `seen` every line that reads, in order.
///
/// `bounds` come from the store; `known` is a head that somebody noted earlier.
///
/// # Errors
/// [`AuditError`] if a file does not read at all.
pub fn verify(
    data: &Path,
    bounds: &Bounds,
    known: Option<&Head>,
    mut seen: impl FnMut(Entry),
) -> Result<Verdict, AuditError> {
    let mut reader = Reader { head: bounds.floor, lines: 0, faults: Vec::new(), notes: Vec::new() };
    let mut met = known.is_none_or(|known| *known == bounds.floor);
    let mut reached = bounds.head == bounds.floor;
    let files = files(&dir(data))?;
    let count = files.len();
    for (at, (_, path)) in files.into_iter().enumerate() {
        let bytes = fs::read(&path).map_err(|source| AuditError {
            doing: "read",
            path: path.clone(),
            source,
        })?;
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        let name = name.unwrap_or_default();
        let (whole, torn) = match bytes.iter().rposition(|byte| *byte == b'\n') {
            Some(end) => (&bytes[..end], &bytes[end + 1..]),
            None => (&bytes[..0], &bytes[..]),
        };
        let lines = whole.split(|byte| *byte == b'\n').filter(|_| !whole.is_empty());
        for (number, line) in lines.enumerate() {
            if let Some(entry) = reader.take(&format!("{name}:{}", number + 1), line) {
                met |= known == Some(&reader.head);
                reached |= bounds.head == reader.head;
                seen(entry);
            }
        }
        if !torn.is_empty() {
            reader.torn(&name, at + 1 == count, bounds.head.seq);
        }
    }
    if !reached {
        let (seq, at) = (bounds.head.seq, reader.head.seq);
        let what = if at < seq {
            format!("lines {} to {seq} are missing: the store has seen them written", at + 1)
        } else {
            format!("line {seq} is not the one that the store has seen written")
        };
        reader.faults.push(Fault { place: "the end".to_owned(), what });
    }
    if let Some(known) = known.filter(|_| !met) {
        let what = "is not in this log: it was rewritten since you noted that head".to_owned();
        reader.faults.push(Fault { place: format!("head {known}"), what });
    }
    Ok(Verdict {
        ok: reader.faults.is_empty(),
        lines: reader.lines,
        first: bounds.floor.seq + 1,
        head: reader.head.to_string(),
        faults: reader.faults,
        notes: reader.notes,
    })
}

struct Reader {
    head: Head,
    lines: u64,
    faults: Vec<Fault>,
    notes: Vec<String>,
}

impl Reader {
    /// The entry of a line, whether or not it is the one that belongs here.
    fn take(&mut self, place: &str, line: &[u8]) -> Option<Entry> {
        let followed = follow(&self.head, line);
        let (entry, head) = match followed {
            Ok(both) => {
                self.lines += 1;
                both
            }
            Err(broken) => {
                let cut = matches!(broken, Broken::Gap { .. } | Broken::Link);
                self.faults.push(Fault { place: place.to_owned(), what: broken.to_string() });
                // After a line that was taken out the rest is checked from where it goes on;
                // after one that was changed the next one still says what it follows.
                let (entry, _, head) = read_line(line).ok().filter(|_| cut)?;
                (entry, head)
            }
        };
        self.head = head;
        Some(entry)
    }

    fn torn(&mut self, name: &str, is_last: bool, stored: u64) {
        let place = format!("{name}: its end");
        if is_last && stored > self.head.seq {
            self.notes.push(format!(
                "{place} is half a line, as a power cut leaves it; the controller mends it at its next start"
            ));
        } else {
            let what = "is half a line that nobody wrote".to_owned();
            self.faults.push(Fault { place, what });
        }
    }
}
