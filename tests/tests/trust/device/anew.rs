//! The process ends while one model is on trial, by its own will or by a kill: which trial pays for it.

use super::*;
use fleetway_protocol::limits::TRIAL_TRIES_MAX;
use fleetway_protocol::machine::Phase::{Idle, Probation};
use fleetway_protocol::slot::SlotState;

fn gauges() -> ModelName {
    ModelName::new("gauges").unwrap()
}

/// What a model runs, where its update is, and how many tries a trial of it has left.
type Standing = (Option<Digest>, Phase, Option<u8>);

impl Box {
    /// `digits` confirmed `one`; `gauges` is on trial, and stays so while nobody asks it anything.
    fn gauges_on_trial() -> (Self, Release, Release) {
        let (mut bench, one) = Self::running_one();
        let gauge = bench.release_of(&gauges(), 1, Nature::Good);
        bench.list_of(&gauges(), &gauge, 1);
        bench.order_both(&one, &gauge);
        assert_eq!(bench.standing(&gauges()), (Some(gauge.digest), Probation, Some(TRIES)));
        (bench, one, gauge)
    }

    fn order_both(&mut self, digits: &Release, gauge: &Release) {
        self.authority.publish_next();
        self.publish();
        let wishes = [(model(), digits.digest), (gauges(), gauge.digest)];
        self.order_all(&wishes, &self.director.clone());
        self.pass_unasked(5);
    }

    /// The next release of `digits` goes on trial beside `gauges`.
    fn digits_on_trial(&mut self, gauge: &Release) -> Release {
        let two = self.release(2, Nature::Good);
        self.list(&two, 2);
        self.order_both(&two, gauge);
        assert_eq!(self.standing(&model()), (Some(two.digest), Probation, Some(TRIES)));
        two
    }

    fn standing(&self, of: &ModelName) -> Standing {
        let all = self.device.status(self.now);
        let status = all.iter().find(|status| status.model == *of).unwrap();
        let tries = status.table.slots.iter().find_map(|slot| match slot.state {
            SlotState::Trial { tries_left } => Some(tries_left),
            _ => None,
        });
        (status.running.map(|(_, digest)| digest), status.phase, tries)
    }

    /// As `run::again` does it before the process takes its own place.
    fn starts_anew(&mut self) {
        self.device.handle_stop(self.now);
        let mut halted = false;
        while let Some(output) = self.device.poll() {
            halted |= matches!(output, Output::Halt);
        }
        assert!(halted, "it would never start anew");
        self.boot();
        self.pass_unasked(1);
    }

    fn is_killed(&mut self) {
        self.boot();
        self.pass_unasked(1);
    }

    fn answer_gauges(&mut self, gauge: &Release) {
        for class in (0..10).cycle().take(30) {
            self.device.handle_answer(&gauges(), gauge.digest, &Answer::ok(100, Some(class)));
        }
        self.pass_unasked(2);
    }
}

/// Boots in a trial that are let pass.
const TRIES: u8 = TRIAL_TRIES_MAX - 1;

#[test]
fn a_process_that_starts_anew_is_held_against_no_trial() {
    let (mut bench, one, gauge) = Box::gauges_on_trial();
    let two = bench.digits_on_trial(&gauge);
    bench.device.handle_hang(bench.now, &model(), two.digest);
    bench.settle();
    // More often than there are tries.
    for _ in 0..=TRIAL_TRIES_MAX {
        bench.starts_anew();
        assert_eq!(bench.standing(&model()), (Some(one.digest), Idle, None));
        assert_eq!(bench.standing(&gauges()), (Some(gauge.digest), Probation, Some(TRIES)));
    }
    let status = &bench.device.status(bench.now)[0];
    let last = status.last.unwrap();
    assert_eq!(
        (last.release, last.result),
        (two.digest, Ending::RolledBack(Reason::HealthHang)),
        "the one that hung"
    );
    bench.answer_gauges(&gauge);
    assert_eq!(bench.standing(&gauges()), (Some(gauge.digest), Idle, None));
}

#[test]
fn a_process_that_is_killed_costs_the_model_on_trial_a_try_and_no_other_anything() {
    let (mut bench, one, gauge) = Box::gauges_on_trial();
    for left in (0..TRIES).rev() {
        bench.is_killed();
        assert_eq!(bench.standing(&gauges()), (Some(gauge.digest), Probation, Some(left)));
        assert_eq!(bench.standing(&model()), (Some(one.digest), Idle, None));
    }
    bench.is_killed();
    assert_eq!(bench.standing(&gauges()), (None, Idle, None), "three times is enough");
    assert_eq!(bench.standing(&model()), (Some(one.digest), Idle, None));
    let status = bench.device.status(bench.now);
    assert_eq!(status[1].last.unwrap().result, Ending::RolledBack(Reason::Interrupted));
    assert_eq!(status[0].last.unwrap().result, Ending::Confirmed);
    assert!(status[0].table.poison.is_empty() && status[1].table.poison.len() == 1);
    // Nor does it weigh on what comes next to the other one.
    bench.up();
    let two = bench.digits_on_trial(&gauge);
    bench.pass(5);
    assert_eq!(bench.standing(&model()), (Some(two.digest), Idle, None));
}

/// A kill does not say whose run it was. Each pays one of its tries, and none is given up for one.
#[test]
fn of_two_on_trial_each_bears_a_kill() {
    let (mut bench, _, gauge) = Box::gauges_on_trial();
    let two = bench.digits_on_trial(&gauge);
    bench.is_killed();
    assert_eq!(bench.standing(&gauges()), (Some(gauge.digest), Probation, Some(TRIES - 1)));
    assert_eq!(bench.standing(&model()), (Some(two.digest), Probation, Some(TRIES - 1)));
    bench.answer_gauges(&gauge);
    bench.pass(5);
    assert_eq!(bench.standing(&gauges()), (Some(gauge.digest), Idle, None));
    assert_eq!(bench.standing(&model()), (Some(two.digest), Idle, None));
}
