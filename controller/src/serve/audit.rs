//! The audit log of a running controller: what the store has in its journal goes to the files, and
//! what was done offline goes into the journal. Decides nothing; see [`fleetway_controller::audit`].

use std::path::{Path, PathBuf};

use fleetway_controller::audit::file::start_of_files;
use fleetway_controller::audit::{AuditError, AuditFiles, Bounds, Head, Tail, offline};
use fleetway_controller::clock;
use fleetway_controller::fleet::{By, Fleet, FleetError, read_audit, write_audit};
use fleetway_controller::store::{Kind, Store};
use tracing::{error, warn};

use crate::api::failure::{Failure, chain};
use crate::api::view::failed;

/// Lines written with one fsync.
const LINES_MAX: usize = 1_024;
/// Between two looks for what was done offline, milliseconds.
const OFFLINE_MS: u64 = 1_000;

/// The log's files and what they wait for.
pub(crate) struct AuditLog {
    data: PathBuf,
    files: AuditFiles,
    looked_ms: u64,
    /// What went wrong last; said once.
    trouble: String,
    /// For the journal: what opening found.
    found: Tail,
}

impl AuditLog {
    /// Opens the files beside a store, before the fleet is read from it: where the files are ahead
    /// (a store that lost its end, or was begun anew) numbers go on after them.
    pub(crate) fn open(data: &Path, store: &dyn Store) -> Result<Self, Failure> {
        let stored = |seq: u64| {
            let line = store.get(Kind::Journal, &seq.to_be_bytes()).ok()??;
            String::from_utf8(line).ok()
        };
        let disk = |error: AuditError| Failure::file(error.doing, &error.path, &error.source);
        let wrong = |error: FleetError| failed(error.kind(), &error);
        let (mut files, found) = AuditFiles::open(data, stored).map_err(disk)?;
        let bounds = read_audit(store).map_err(wrong)?;
        if files.head().seq > bounds.head.seq {
            let begun_anew = bounds.head == Head::START;
            let start = if begun_anew { start_of_files(data).map_err(disk)? } else { None };
            let bounds = Bounds { floor: start.unwrap_or(bounds.floor), head: files.head() };
            write_audit(store, &bounds).map_err(wrong)?;
        } else if matches!(found, Tail::Foreign { .. }) {
            files.restart_at(bounds.head);
        } else if files.head() == Head::START {
            // No files: all that the store still has is written again.
            files.restart_at(bounds.floor);
        }
        let (data, trouble) = (data.to_owned(), String::new());
        Ok(Self { data, files, looked_ms: 0, trouble, found })
    }

    /// Puts what opening found into the journal.
    pub(crate) fn tell(&mut self, fleet: &mut Fleet) -> Result<(), FleetError> {
        let by = By { who: "audit", now_s: clock::now_s() };
        match std::mem::replace(&mut self.found, Tail::Whole) {
            Tail::Whole => Ok(()),
            Tail::Mended { bytes } => {
                warn!(bytes, "the audit log ended in half a line, as after a power cut; mended");
                let text = format!(
                    "the log ended in {bytes} bytes of a line that was cut while it was written; they are written again"
                );
                fleet.note(by, "audit.mended", None, &text)
            }
            Tail::Foreign { path, why } => {
                let path = path.display();
                error!(%path, %why, "THE AUDIT LOG WAS CHANGED; see `fleetway audit verify`");
                let text = format!(
                    "the log was changed: {path}: {why}; it is left as it is, and goes on in a new file"
                );
                fleet.note(by, "audit.broken", None, &text)
            }
        }
    }

    /// Takes in what was done offline.
    pub(crate) fn take_offline(&mut self, fleet: &mut Fleet) {
        let now_ms = clock::now_ms();
        if now_ms.saturating_sub(self.looked_ms) < OFFLINE_MS {
            return;
        }
        self.looked_ms = now_ms;
        for (path, note) in offline::waiting(&self.data) {
            let by = By { who: &note.who, now_s: clock::now_s() };
            let text = format!("{} (offline, at Unix time {})", note.text, note.time_s);
            // In this order: a cut in between tells it twice, never not at all.
            if fleet.note_signed(by, &note.what, note.key, &text).is_err() {
                return;
            }
            let _ = std::fs::remove_file(path);
        }
    }

    /// Brings the files up to the journal. A disk that fails is said, and tried again: the lines
    /// are safe in the store meanwhile.
    pub(crate) fn catch_up(&mut self, fleet: &mut Fleet) {
        let text = match self.write(fleet) {
            Ok(()) => String::new(),
            Err(failure) => failure,
        };
        if text != self.trouble && !text.is_empty() {
            error!("the audit log: {text}");
        }
        self.trouble = text;
    }

    fn write(&mut self, fleet: &mut Fleet) -> Result<(), String> {
        while self.files.head().seq < fleet.audit().head.seq {
            let mut lines = Vec::new();
            for seq in (self.files.head().seq + 1..=fleet.audit().head.seq).take(LINES_MAX) {
                match fleet.audit_line(seq).map_err(|error| chain(&error))? {
                    Some(line) => lines.push(line),
                    None => break,
                }
            }
            if lines.is_empty() {
                // Older than what the store keeps, or rotten there: the gap stays visible.
                let seq = self.files.head().seq + 1;
                let next = (seq..=fleet.audit().head.seq)
                    .find(|seq| matches!(fleet.audit_line(*seq), Ok(Some(_))));
                let to = next.map_or(fleet.audit().head.seq, |next| next - 1);
                error!(
                    "lines {seq} to {to} of the audit log are lost; `fleetway audit verify` shows the gap"
                );
                self.files.restart_at(Head { seq: to, ..self.files.head() });
                continue;
            }
            if self.files.append(&lines).map_err(|error| chain(&error))? {
                self.rotate(fleet)?;
            }
        }
        Ok(())
    }

    fn rotate(&mut self, fleet: &mut Fleet) -> Result<(), String> {
        let over = self.files.oldest_over_bound().map_err(|error| chain(&error))?;
        let Some((path, head)) = over else { return Ok(()) };
        // One that does not read stays: it is evidence.
        let Some(head) = head else { return Ok(()) };
        let by = By { who: "audit", now_s: clock::now_s() };
        fleet.set_audit_floor(by, head).map_err(|error| chain(&error))?;
        std::fs::remove_file(&path).map_err(|error| format!("{}: {error}", path.display()))
    }
}
