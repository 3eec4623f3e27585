//! Bugs to plant: each a few words of the real source, and what a tired engineer might have
//! written instead. They are never in the product, not even behind a switch.

/// One bug.
pub(crate) struct Mutant {
    /// What the device would do.
    pub(crate) name: &'static str,
    /// The file, from the workspace's root.
    pub(crate) file: &'static str,
    /// Words that stand there exactly once.
    pub(crate) right: &'static str,
    /// What is planted instead.
    pub(crate) wrong: &'static str,
}

const fn mutant(
    name: &'static str,
    file: &'static str,
    right: &'static str,
    wrong: &'static str,
) -> Mutant {
    Mutant { name, file, right, wrong }
}

const JOURNAL: &str = "firmware/src/journal.rs";
const STORE: &str = "firmware/src/store.rs";
const DEVICE: &str = "firmware/src/device/mod.rs";
const ORDERS: &str = "firmware/src/device/orders.rs";
const FETCH: &str = "firmware/src/device/fetch.rs";
const JOBS: &str = "firmware/src/device/jobs.rs";
const COMMANDS: &str = "firmware/src/device/commands.rs";
const REPORTS: &str = "firmware/src/device/reports.rs";
const BOOT: &str = "protocol/src/machine/boot.rs";
const STEPS: &str = "protocol/src/machine/steps.rs";
const TRUST: &str = "protocol/src/trust.rs";
const RECORD: &str = "protocol/src/record.rs";
const ENVELOPE: &str = "protocol/src/envelope.rs";

/// All of them.
pub(crate) const MUTANTS: [Mutant; 30] = [
    mutant(
        "programs the cells of a torn record again",
        JOURNAL,
        "map_or(0, |last| last + 1)",
        "map_or(0, |last| last.saturating_sub(80))",
    ),
    mutant(
        "erases the half with the newest record",
        JOURNAL,
        "let other = 1 - self.newest;",
        "let other = self.newest;",
    ),
    mutant(
        "does not look at what it erased",
        JOURNAL,
        "if store.read(half).iter().any(|byte| *byte != 0xff)",
        "if store.read(half).is_empty()",
    ),
    mutant("writes a record once", JOURNAL, "const COPIES: u32 = 2;", "const COPIES: u32 = 1;"),
    mutant("uses a record's number again", JOURNAL, "self.seq += 1;", "self.seq += self.seq % 2;"),
    mutant(
        "takes a record without its checksum",
        RECORD,
        "magic != MAGIC || crc != CRC.checksum(&bytes[..end])",
        "magic != MAGIC || crc == 0",
    ),
    mutant(
        "does not read back what it wrote",
        STORE,
        "if self.read(region) == bytes { Ok(()) }",
        "if self.read(region).len() == bytes.len() { Ok(()) }",
    ),
    mutant(
        "believes that blank is erased when it erases a slot",
        JOBS,
        "let erased = self.store.erase(Region { at: left.at, len });",
        "let block = Region { at: left.at, len };\n        let blank = self.store.is_blank(block);\n        let erased = if blank { Ok(()) } else { self.store.erase(block) };",
    ),
    mutant(
        "erases the slot that is not spare",
        COMMANDS,
        "let whole = self.store.layout().slot(slot).whole();",
        "let whole = self.store.layout().slot(slot.other()).whole();",
    ),
    mutant(
        "erases nothing",
        COMMANDS,
        "self.job = Job::Erase { token, left: whole };",
        "let _ = whole;\n                self.machine.handle(now_ms, Event::Done(token, Ok(())));",
    ),
    mutant(
        "does not hash what it serves",
        JOBS,
        "Some(hasher.finish() == artifact.digest)",
        "Some(hasher.finish() != Digest([0; 32]))",
    ),
    mutant(
        "takes any answer for the golden one",
        JOBS,
        "if agrees { Ok(next) }",
        "if agrees || true { Ok(next) }",
    ),
    mutant(
        "does not note a self-test",
        JOBS,
        "self.commit(Kept { ordeal: Some(ordeal), ..self.kept.with(()) })?;",
        "let _ = ordeal;",
    ),
    mutant(
        "blames nobody for a hang in the self-test",
        JOBS,
        "Some(_) if self.start == Start::Watchdog => return Err(Reason::SelfTestTimeout),\n            Some(Ordeal { tries_left: 0, .. }) => return Err(Reason::SelfTestCrashed),",
        "Some(Ordeal { tries_left: 0, .. }) => Ordeal::first(release),",
    ),
    mutant(
        "does not count a trial before it runs",
        BOOT,
        "SlotState::Trial { tries_left: tries_left - 1 };",
        "SlotState::Trial { tries_left };",
    ),
    mutant(
        "does not make a boot durable",
        DEVICE,
        "self.kept_boot = self.commit(kept).is_ok();",
        "self.kept.take(&kept);\n        self.kept_boot = true;",
    ),
    mutant(
        "says what is not durable yet",
        REPORTS,
        "let table = &self.kept.table;\n        State {",
        "let table = self.machine.table();\n        State {",
    ),
    mutant(
        "acts on an order before that is durable",
        ORDERS,
        "self.keep_order(&order).map_err(|reason| (generation, reason))?;",
        "self.kept.generation = generation;",
    ),
    mutant(
        "takes up any order of a generation that it knows",
        ORDERS,
        "if *digest == self.kept.order => {",
        "if *digest != Digest([0; 32]) => {",
    ),
    mutant(
        "writes the next keyset over the one in force",
        ORDERS,
        "map_or(0, |kept| 1 - kept.place.min(1))",
        "map_or(0, |kept| kept.place.min(1))",
    ),
    mutant(
        "takes an order of any age",
        TRUST,
        "if order.value.nonce != Some(nonce) {",
        "if nonce.is_empty() {",
    ),
    mutant(
        "takes an order for another device",
        TRUST,
        "if value.device != *device {",
        "if value.device.as_str().is_empty() {",
    ),
    mutant(
        "takes a release for other hardware",
        TRUST,
        "if !manifest.is_for(target.hardware) {",
        "if target.hardware.is_none() {",
    ),
    mutant(
        "believes a signature by the name of its key",
        ENVELOPE,
        "s.key == id && key.verifies(&message, (&s.r, &s.s))",
        "s.key == id || key.verifies(&message, (&s.r, &s.s))",
    ),
    mutant(
        "takes a model that is larger than its slot",
        FETCH,
        "Some(parts) if self.fits(&parts) => Ok(facts(&release)),",
        "Some(_) => Ok(facts(&release)),",
    ),
    mutant(
        "takes any chunk for the listed one",
        FETCH,
        "&& self.listed(slot, part, n) == Some(Digest::of(bytes));",
        "&& self.listed(slot, part, n).is_some();",
    ),
    mutant(
        "writes on where a cut left doubt",
        FETCH,
        "let cleared = self.store.clear_doubt(slot).map_err(Reason::from);",
        "let cleared: Result<(), Reason> = Ok(());",
    ),
    mutant(
        "gives no subscription up",
        REPORTS,
        "let _ = self.leaving.push((of, piece));",
        "let _ = (of, piece);",
    ),
    mutant(
        "never raises the floor",
        STEPS,
        "self.table.version_floor = self.table.version_floor.max(min_release);",
        "let _ = min_release;",
    ),
    mutant(
        "erases a slot that its durable table still names",
        STEPS,
        "self.table.clear_slot(slot);\n        self.enter(Step::Persist(Next::Erase(slot, release)));",
        "self.table.clear_slot(slot);\n        self.enter(Step::Erase(slot, release));",
    ),
];
