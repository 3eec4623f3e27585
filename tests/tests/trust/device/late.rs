//! The twelfth kind of bad model (the others are in `e2e_bad_models.rs`): it does well for an hour
//! of use and then fails every request. The hour is virtual, the device core is not.

use super::*;

/// When it begins to fail, seconds after its activation.
const GOOD_S: u64 = 3_600;
/// The window of its policy, seconds: a release that fails every request fails within it.
const WINDOW_S: u64 = 60;

impl Box {
    /// One second in which every request to `release` fails.
    fn fail(&mut self, release: Digest) {
        self.now.ms += 1_000;
        self.now.unix_s += 1;
        for _ in 0..30 {
            self.device.handle_answer(&model(), release, &Answer::failed(100));
        }
        self.device.handle_tick(self.now);
        self.settle();
    }
}

#[test]
fn one_that_dies_after_an_hour_is_undone_without_a_network() {
    let (mut bench, one) = Box::running_one();
    let two = bench.release(2, Nature::Late);
    bench.list(&two, 2);
    bench.authority.publish_next();
    bench.publish();
    bench.order(&two);
    bench.pass(5);
    bench.device.handle_down(bench.now);
    bench.pass(GOOD_S);
    let status = &bench.device.status(bench.now)[0];
    assert_eq!((bench.running(), status.phase), (Some(two.digest), Phase::Probation));

    let mut failing_s = 0;
    while bench.running() == Some(two.digest) {
        bench.fail(two.digest);
        failing_s += 1;
        assert!(failing_s <= WINDOW_S, "still on trial");
    }
    println!("an hour of good answers, then undone after {failing_s} s of failed ones");
    let status = &bench.device.status(bench.now)[0];
    let last = status.last.unwrap();
    let result = Ending::RolledBack(Reason::HealthErrors);
    assert_eq!(
        (bench.running(), last.release, last.result),
        (Some(one.digest), two.digest, result)
    );
    assert!(status.table.poisoned(&two.digest).is_some());
}
