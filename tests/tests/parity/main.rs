//! Parity: one trace, two shells. The agent's device core over its real store, on a disk that loses
//! what was not synced, and the firmware's superloop over simulated NOR flash hear the very same signed
//! orders and releases, go dark in the same phases, and meet the same models: after each step
//! their slot tables are equal, and so is what they serve.
//!
//! Both run real engines on real bytes; golden vectors decide by what is computed. What is told and not
//! computed is which model hangs.
//!
//! Not in a trace, because the shells differ on purpose:
//! - *A hang that the agent notices itself* is a verdict at once (`HealthHang`); a microcontroller has no
//!   second thread, and counts it like any end that nobody asked for. Here both end with it.
//! - *Going dark in the self-test more than twice*: a microcontroller's self-test cannot be fenced in, and
//!   three are the model's; on Linux a child ran it, and the power is nobody's fault.
//! - *A factory model*: the agent's lies in a directory, the firmware's is told of by its page.
#![allow(clippy::unwrap_used, reason = "a test may")]

mod bytes;
#[path = "../../../firmware/tests/common/fleet.rs"]
#[allow(dead_code, reason = "the firmware's own tests use the rest")]
mod fleet;
mod linux;
mod micro;
#[path = "../../../firmware/tests/power/nor.rs"]
#[allow(dead_code, reason = "the firmware's own tests use the rest")]
mod nor;
mod releases;
#[path = "../../../firmware/tests/common/rng.rs"]
mod rng;

use fleetway_protocol::health::Evidence;
use fleetway_protocol::ids::Digest;
use fleetway_protocol::machine::Phase;
use fleetway_protocol::order::Action;
use fleetway_protocol::reason::Reason;
use fleetway_protocol::slot::{Ending, Outcome, SlotTable};

use fleet::{Fleet, Wish};
use linux::Linux;
use micro::Micro;
use rng::Rng;

/// Milliseconds that one turn of either takes.
pub(crate) const TURN_MS: u64 = 50;
/// Turns in which all must be done: half an hour, which is longer than anything is waited for.
pub(crate) const TURNS_MAX: u32 = 36_000;
/// Times that a device may start again in one step: more is a loop.
const STARTS_MAX: u32 = 12;
/// Steps of a random trace.
const STEPS: u64 = 8;
/// Random traces in every run.
const SEEDS: u64 = 40;

/// How a device goes dark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dark {
    /// The power fails: what was not made durable is lost.
    Power,
    /// The process, or the board, is ended and started again.
    Kill,
    /// By the model that runs.
    Model,
}

/// How a stretch of life ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// All is done that was ordered.
    Rest,
    /// The update is in the phase that was waited for.
    There,
    /// The model took the device with it.
    Died,
}

/// A device, whatever it is made of.
pub(crate) trait Shell {
    /// An order is in force from now on.
    fn hear(&mut self, order: &[u8], generation: u64);
    /// Lives until all is done, until the update is in `phase`, or until a model ends it.
    fn live(&mut self, phase: Option<Phase>) -> Stop;
    /// Goes dark, and starts again.
    fn restart(&mut self, how: Dark);
    /// What is durable.
    fn table(&self) -> SlotTable;
    /// What is served.
    fn running(&self) -> Option<Digest>;
}

/// One step of a trace: an order, and where the device goes dark on its way, how often.
#[derive(Clone, Copy, Debug)]
struct Step {
    wish: Wish,
    dark: Option<(Phase, Dark, u32)>,
}

const fn run(release: usize) -> Step {
    Step { wish: Wish { release, action: Action::Run }, dark: None }
}

const fn back(release: usize) -> Step {
    Step { wish: Wish { release, action: Action::Rollback }, dark: None }
}

const fn remove(release: usize) -> Step {
    Step { wish: Wish { release, action: Action::Remove }, dark: None }
}

const fn dark(step: Step, phase: Phase, how: Dark, times: u32) -> Step {
    Step { dark: Some((phase, how, times)), ..step }
}

/// Both devices, and the fleet that they are of.
struct Pair {
    fleet: &'static Fleet,
    linux: Linux,
    micro: Micro,
    generation: u64,
}

impl Pair {
    fn new(fleet: &'static Fleet, seed: u64) -> Self {
        Self { fleet, linux: Linux::new(fleet, seed), micro: Micro::new(fleet), generation: 0 }
    }

    /// Plays a step on both.
    fn play(&mut self, step: &Step) -> Result<SlotTable, String> {
        self.generation += 1;
        let nonce = Some(self.micro.nonce());
        let order = self.fleet.order(0, self.generation, step.wish, nonce);
        through(&mut self.linux, step, &order, self.generation)
            .map_err(|e| format!("agent: {e}"))?;
        through(&mut self.micro, step, &order, self.generation)
            .map_err(|e| format!("firmware: {e}"))?;
        let (agent, firmware) = (known(self.linux.table()), known(self.micro.table()));
        let (serves, too) = (self.linux.running(), self.micro.running());
        if agent != firmware {
            return Err(format!("agent:    {agent:?}\nfirmware: {firmware:?}"));
        }
        if serves != too || !agent.is_sane() {
            return Err(format!("agent serves {serves:?}, firmware {too:?}, by {agent:?}"));
        }
        Ok(agent)
    }
}

/// What both are asked about, again and again.
pub(crate) fn image() -> [f32; 64] {
    std::array::from_fn(|at| (at % 17) as f32)
}

/// A step on one device.
fn through(
    shell: &mut impl Shell,
    step: &Step,
    order: &[u8],
    generation: u64,
) -> Result<(), String> {
    shell.hear(order, generation);
    let mut left = step.dark.map_or(0, |(.., times)| times);
    for _ in 0..STARTS_MAX {
        let phase = step.dark.filter(|_| left > 0).map(|(phase, ..)| phase);
        match (shell.live(phase), step.dark) {
            (Stop::There, Some((_, how, _))) => {
                left -= 1;
                shell.restart(how);
            }
            (Stop::Died, _) => shell.restart(Dark::Model),
            _ => return Ok(()),
        }
    }
    Err(format!("started {STARTS_MAX} times and is not at rest"))
}

/// A table without how many answers a verdict was measured on: that is the pace of requests.
fn known(table: SlotTable) -> SlotTable {
    let evidence = |evidence: Evidence| Evidence { samples: 0, ..evidence };
    let last = table.last.map(|o| Outcome { evidence: o.evidence.map(evidence), ..o });
    SlotTable { last, ..table }
}

/// Plays a trace, and holds the end of each step against what must have come of it.
fn check(name: &str, trace: &[(Step, Ending)]) {
    let mut pair = Pair::new(releases::fleet(), 1);
    for (n, (step, ending)) in trace.iter().enumerate() {
        let table = pair.play(step).unwrap_or_else(|e| panic!("{name}, step {n} {step:?}:\n{e}"));
        let last = table.last.map(|last| last.result);
        assert_eq!(last, Some(*ending), "{name}, step {n} {step:?}: {table:?}");
    }
}

const CONFIRMED: Ending = Ending::Confirmed;

#[test]
fn updates_and_ways_back() {
    use releases::{V1, V2, V3};
    check(
        "good ones",
        &[(run(V1), CONFIRMED), (run(V2), CONFIRMED), (back(V1), CONFIRMED), (run(V3), CONFIRMED)],
    );
    check(
        "removed, and again",
        &[
            (run(V1), CONFIRMED),
            (run(V2), CONFIRMED),
            (remove(V2), Ending::Removed),
            (run(V3), CONFIRMED),
        ],
    );
    // Nothing to go back to: what is not there, and what is below the floor.
    check(
        "back to what is gone",
        &[
            (run(V1), CONFIRMED),
            (back(V2), Ending::Failed(Reason::NotOnDevice)),
            (run(V3), CONFIRMED),
            (run(V1), Ending::Failed(Reason::BelowFloor)),
        ],
    );
}

#[test]
fn bad_releases() {
    use releases::{COLLAPSES, HANGS, HANGS_IN_TEST, NEARLY, OTHER_HARDWARE, V1, WRONG};
    let bad = [
        (WRONG, Ending::Failed(Reason::Golden)),
        (NEARLY, Ending::Failed(Reason::Golden)),
        (COLLAPSES, Ending::RolledBack(Reason::HealthCollapse)),
        (HANGS, Ending::RolledBack(Reason::Interrupted)),
        (HANGS_IN_TEST, Ending::Failed(Reason::SelfTestTimeout)),
        (OTHER_HARDWARE, Ending::Failed(Reason::WrongHardware)),
    ];
    for (release, ending) in bad {
        // A second time it is not even fetched.
        let again = match ending {
            Ending::Failed(Reason::WrongHardware) => ending,
            _ => Ending::Failed(Reason::Poisoned),
        };
        check(
            &format!("bad release {release}"),
            &[(run(V1), CONFIRMED), (run(release), ending), (run(release), again)],
        );
        // Nothing is there to go back to.
        check(&format!("bad release {release} first"), &[(run(release), ending)]);
    }
}

/// Every phase, dark once and twice; and a trial that goes dark once too often.
#[test]
fn dark_in_every_phase() {
    use releases::{COLLAPSES, V1, V2};
    for phase in PHASES {
        for how in [Dark::Power, Dark::Kill] {
            for times in [1, 2] {
                let trace = [
                    (run(V1), CONFIRMED),
                    (dark(run(V2), phase, how, times), CONFIRMED),
                    (
                        dark(run(COLLAPSES), phase, how, times),
                        Ending::RolledBack(Reason::HealthCollapse),
                    ),
                ];
                check(&format!("dark in {phase:?}"), &trace);
            }
        }
    }
    let interrupted = Ending::RolledBack(Reason::Interrupted);
    let trace =
        [(run(V1), CONFIRMED), (dark(run(V2), Phase::Probation, Dark::Power, 3), interrupted)];
    check("dark three times on trial", &trace);
}

/// Where a device may go dark: the phases that both stay in for longer than a moment.
const PHASES: [Phase; 5] =
    [Phase::Eligibility, Phase::Download, Phase::SelfTest, Phase::Activation, Phase::Probation];

/// A step by seed: any release, any way back, dark anywhere.
fn any(rng: &mut Rng) -> Step {
    let release = rng.below(releases::COUNT as u64) as usize;
    let step = match rng.below(10) {
        0 => back(release),
        1 => remove(release),
        _ => run(release),
    };
    let (phase, how) = (PHASES[rng.below(5) as usize], [Dark::Power, Dark::Kill]);
    let times = if phase == Phase::SelfTest { 1 + rng.below(2) } else { 1 + rng.below(4) };
    match rng.below(3) {
        0 => step,
        _ => dark(step, phase, how[rng.below(2) as usize], times as u32),
    }
}

#[test]
fn whatever_happens() {
    let one = fleetway_tests::seeds::number("FLEETWAY_SEED");
    let seeds = one.map_or(0..SEEDS, |seed| seed..seed + 1);
    for seed in seeds {
        let mut rng = Rng::new(seed);
        let mut pair = Pair::new(releases::fleet(), seed);
        let mut trace = Vec::new();
        for _ in 0..STEPS {
            trace.push(any(&mut rng));
            if let Err(problem) = pair.play(trace.last().unwrap()) {
                panic!(
                    "{problem}\nafter {trace:#?}\nagain: FLEETWAY_SEED={seed} cargo xtask test --test parity whatever"
                );
            }
        }
    }
}
