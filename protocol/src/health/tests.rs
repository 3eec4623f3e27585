//! Each fault kind has its reason and needs evidence; too little of it is what the policy says.

use super::*;
use crate::codec;
use crate::counters::{Confidence, Scores};
use crate::drift::{BINS, DRIFT_SAMPLES_MIN, Reference, Watch, Watched};
use crate::limits::MANIFEST_BYTES_MAX;

const START_MS: u64 = 1_000;

fn terms() -> Terms {
    Terms { probation_s: 5, probation_answers: 50, ..Terms::default() }
}

/// A classifier with ten classes and one watched number, all of them equally frequent, and a
/// confidence of 0.9.
fn health() -> Health {
    let edges = core::array::from_fn(|at| at as f32);
    let watched = Watched { what: Watch::Mean { input: 0 }, edges, counts: [100; BINS] };
    Health {
        policy: HealthPolicy {
            p95_us_max: 10_000,
            p95_percent_max: 300,
            collapse_permille_max: 800,
            memory_mib_max: 500,
            memory_growth_mib_max: 100,
            ..HealthPolicy::default()
        },
        scores: Some(Scores::Logits),
        reference: Reference {
            watched: [watched].into_iter().collect(),
            classes: [100; 10].into_iter().collect(),
            confidence: Some(Confidence::of_share(0.9)),
        },
    }
}

/// A release without a reference: what drifts is not known.
fn plain() -> Health {
    let health = health();
    Health { reference: Reference::default(), ..health }
}

fn answer(n: u32) -> Answer {
    let mut answer = Answer::ok(900, Some((n % 10) as u16));
    answer.bins[0] = Some((n * 7 % 10) as u8);
    answer.confidence = Some(Confidence::of_share(0.9));
    answer
}

fn window(answers: impl IntoIterator<Item = Answer>) -> HealthWindow {
    let mut window = HealthWindow::new(START_MS, Some(1_000));
    answers.into_iter().for_each(|a| window.record(&a));
    window
}

fn judged(health: &Health, answers: impl IntoIterator<Item = Answer>, age_ms: u64) -> Verdict {
    window(answers).judge(START_MS + age_ms, health, &terms())
}

fn waits(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Inconclusive(_))
}

#[test]
fn confirmed_only_when_time_answers_and_evidence_are_complete() {
    let plain = plain();
    assert!(waits(judged(&plain, (0..50).map(answer), 4_999)));
    assert!(waits(judged(&plain, (0..49).map(answer), 60_000)));
    assert_eq!(judged(&plain, (0..50).map(answer), 5_000), Verdict::Healthy);
    assert!(waits(judged(&plain, [], u64::MAX - START_MS)));
    // With a reference, drift must have been looked at.
    let missing = Missing::Answers { of: Subject::Classes, have: 400, need: DRIFT_SAMPLES_MIN };
    let verdict = judged(&health(), (0..400).map(answer), 5_000);
    assert!(
        matches!(verdict, Verdict::Inconclusive(Missing::Answers { have: 400, need: 500, .. })),
        "{verdict:?} {missing:?}"
    );
    assert_eq!(judged(&health(), (0..500).map(answer), 5_000), Verdict::Healthy);
}

/// The bad answers are refused for `reason` with these numbers, once there are `needed` of them
/// and not before.
fn check(needed: u32, bad: fn(u32) -> Answer, reason: Reason, evidence: Evidence) {
    let before = judged(&health(), (0..needed - 1).map(bad), 0);
    assert!(waits(before), "{reason:?} too early: {before:?}");
    let verdict = judged(&health(), (0..needed).map(bad), 0);
    let expected = Verdict::Unhealthy(Finding { reason, evidence: Some(evidence) });
    assert_eq!(verdict, expected);
    // Old enough, the same answers are forgotten.
    let mut later = window((0..needed).map(bad));
    let window_ms = u64::from(health().policy.window_s) * 1000;
    assert!(waits(later.judge(START_MS + window_ms, &health(), &terms())), "{reason:?}");
}

fn evidence(of: Subject, measured: u32, bound: u32, samples: u32) -> Evidence {
    Evidence { of, measured, bound, samples }
}

#[test]
fn each_fault_has_its_reason_its_numbers_and_needs_evidence() {
    use Subject::{Before, Classes, Whole};
    let failing = |n| if n % 10 == 0 { Answer::failed(0) } else { answer(n) };
    check(20, failing, Reason::HealthErrors, evidence(Whole, 100, 20, 20));
    let slow = |n| Answer { latency_us: 20_000, ..answer(n) };
    check(20, slow, Reason::HealthLatency, evidence(Whole, 21_247, 10_000, 20));
    let slower = |n| Answer { latency_us: 4_000, ..answer(n) };
    check(20, slower, Reason::HealthLatency, evidence(Before, 4_096, 3_000, 20));
    let one_class = |n| Answer { class: Some(3), ..answer(n) };
    check(20, one_class, Reason::HealthCollapse, evidence(Whole, 1000, 800, 20));
    let unsure = |n| Answer { confidence: Some(Confidence::of_share(0.5)), ..answer(n) };
    check(500, unsure, Reason::HealthConfidence, evidence(Whole, 400, 150, 500));
    let half_the_classes = |n: u32| Answer { class: Some((n % 5) as u16), ..answer(n) };
    // 5 * 0.1 * ln(2) and 5 * 0.0999 * ln(1000), rounded down.
    check(500, half_the_classes, Reason::HealthDrift, evidence(Classes, 3_796, 100, 500));
    let shifted = |n: u32| {
        let mut answer = answer(n);
        answer.bins[0] = Some((n % 10).min(4) as u8 + 5);
        answer
    };
    let mean = Subject::Watched(Watch::Mean { input: 0 });
    let verdict = judged(&health(), (0..500).map(shifted), 0);
    let Verdict::Unhealthy(found) = verdict else { panic!("{verdict:?}") };
    assert_eq!((found.reason, found.evidence.map(|e| e.of)), (Reason::HealthDrift, Some(mean)));
}

#[test]
fn memory_is_judged_when_it_stays() {
    let check = |looks: &[u64], expected: Option<(Subject, u32, u32)>| {
        let mut window = window([]);
        looks.iter().for_each(|mib| window.note_memory(mib << 20));
        let verdict = window.judge(START_MS, &plain(), &terms());
        let found = match verdict {
            Verdict::Unhealthy(Finding { reason: Reason::HealthMemory, evidence: Some(e) }) => {
                Some((e.of, e.measured, e.bound))
            }
            _ => None,
        };
        assert_eq!(found, expected, "{looks:?}");
    };
    check(&[450, 600, 600, 600], None);
    check(&[450, 600, 600, 450, 600, 600, 600], None);
    check(&[450, 501, 600, 700, 800], Some((Subject::Whole, 501, 500)));
    check(&[100, 201, 202, 203, 204], Some((Subject::Growth, 101, 100)));
    check(&[100, 200, 200, 200, 200], None);
}

#[test]
fn too_little_evidence_is_what_the_policy_says() {
    let check = |inconclusive, age_s: u64, answers: u32, expected: Option<Result<(), Reason>>| {
        let policy = HealthPolicy { inconclusive, ..health().policy };
        let health = Health { policy, ..health() };
        let verdict = match judged(&health, (0..answers).map(answer), age_s * 1000) {
            Verdict::Healthy => Some(Ok(())),
            Verdict::Unhealthy(finding) => Some(Err(finding.reason)),
            Verdict::Inconclusive(_) => None,
        };
        assert_eq!(verdict, expected, "{inconclusive:?} after {age_s} s, {answers} answers");
    };
    use Inconclusive::{Confirm, RollBack, Wait};
    check(Wait, 3_000_000, 3, None);
    check(Confirm { after_s: 60 }, 59, 3, None);
    check(Confirm { after_s: 60 }, 60, 3, Some(Ok(())));
    check(RollBack { after_s: 60 }, 59, 3, None);
    check(RollBack { after_s: 60 }, 60, 3, Some(Err(Reason::HealthInconclusive)));
    // The probation's time is never cut short, and complete evidence is a verdict of its own.
    check(Confirm { after_s: 1 }, 4, 3, None);
    check(RollBack { after_s: 1 }, 4, 600, None);
    check(RollBack { after_s: 60 }, 5, 600, Some(Ok(())));
}

#[test]
fn an_order_can_only_add() {
    let stricter = Terms {
        probation_s: 10,
        error_permille_max: 5,
        p95_us_max: 3,
        collapse_permille_max: 999,
        ..Terms::default()
    };
    let policy = HealthPolicy { probation_s_min: 60, ..health().policy }.tightened(&stricter);
    assert_eq!((policy.probation_s_min, policy.error_permille_max), (60, 5));
    assert_eq!((policy.p95_us_max, policy.collapse_permille_max), (3, 800));
    // No bound in the order leaves the manifest's, and the other way round.
    let lax = Terms::default();
    assert_eq!(health().policy.tightened(&lax).p95_us_max, 10_000);
    let off = HealthPolicy { p95_us_max: 0, ..health().policy };
    assert_eq!(off.tightened(&stricter).p95_us_max, 3);
}

#[test]
fn the_window_slides_in_halves() {
    let half_ms = u64::from(health().policy.window_s) * 500;
    let mut window = window((0..20).map(|_| Answer::failed(0)));
    let mut judge = |at_ms| window.judge(START_MS + at_ms, &plain(), &terms());
    assert!(!waits(judge(half_ms)), "half a window old");
    assert!(!waits(judge(2 * half_ms - 1)), "not yet a whole one");
    assert!(waits(judge(2 * half_ms)), "a whole window old");
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let checked = |health: &Health| {
        let mut buf = [0; MANIFEST_BYTES_MAX];
        let bytes = codec::encode(health, &mut buf).expect("fits");
        codec::decode::<HealthView<'_>>(bytes, MANIFEST_BYTES_MAX).expect("reads").check()
    };
    assert_eq!(checked(&health()), Ok(()));
    assert_eq!(checked(&Health::default()), Ok(()));
    let check = |change: fn(&mut Health), says: &str| {
        let mut health = health();
        change(&mut health);
        let error = checked(&health).expect_err(says);
        assert!(std::format!("{error}").contains(says), "{error}");
    };
    check(|h| h.policy.samples_min = 0, "samples_min");
    check(|h| h.policy.window_s = 0, "window_s");
    check(|h| h.policy.crashes_max = 3, "crashes_max");
    check(|h| h.policy.error_permille_max = 1001, "error_permille_max");
    check(|h| h.policy.psi_milli_max = 99, "psi_milli_max");
    check(|h| h.reference.watched[0].edges[4] = f32::NAN, "edges");
    check(|h| h.reference.watched[0].edges[8] = f32::INFINITY, "edges");
    check(|h| h.reference.watched[0].counts = [29; BINS], "290 samples");
    check(|h| h.reference.classes[0] = u16::MAX, "66435 samples");
}

#[test]
fn findings_read_as_sentences() {
    let check = |reason, evidence: Evidence, says: &str| {
        assert_eq!(std::format!("{}", evidence.sentence(reason)), says);
    };
    let whole = |measured, bound| evidence(Subject::Whole, measured, bound, 300);
    check(Reason::HealthErrors, whole(45, 20), "4.5 % of 300 answers failed, tolerated are 2.0 %");
    check(
        Reason::HealthLatency,
        whole(21_247, 10_000),
        "95 % of 300 answers took up to 21.247 ms, tolerated are 10.000 ms",
    );
    check(
        Reason::HealthDrift,
        Evidence { of: Subject::Watched(Watch::Mean { input: 1 }), ..whole(312, 114) },
        "PSI of the mean of input 1 is 0.312 over 300 answers, tolerated are 0.114",
    );
    check(
        Reason::HealthInconclusive,
        Evidence { of: Subject::Classes, ..whole(12, 500) },
        "12 answers that tell of the classes, 500 are needed",
    );
}
