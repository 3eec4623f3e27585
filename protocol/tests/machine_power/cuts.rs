//! The power is cut at every place of every story, at every pair of places, with an order or a
//! stop on the way, and many times by seed.

use std::collections::BTreeMap;

use fleetway_protocol::order::Action::{Remove, Rollback, Run};

use crate::common::Cut;
use crate::common::release::Release;
use crate::rng::Rng;
use crate::story::Scene::{Give, GiveAt, StopAt};
use crate::story::{STORIES, must, story};

#[test]
fn the_stories_end_well_without_a_cut() {
    for story in STORIES {
        assert!(must(story, &story.device(), &[]) > 0);
    }
}

#[test]
fn one_cut_at_every_place_of_every_story() {
    for story in STORIES {
        let device = story.device();
        let places = must(story, &device, &[]);
        for at in 1..=places {
            for cut in Cut::ALL {
                must(story, &device, &[(at, cut)]);
            }
        }
    }
}

/// The stories reach every phase, so that the power is cut in each: counted, not believed.
#[test]
fn the_cuts_come_in_every_phase() {
    let mut counts = BTreeMap::new();
    for story in STORIES {
        let places = must(story, &story.device(), &[]);
        for at in 1..=places {
            let mut device = story.device();
            story.play(&mut device, &[(at, Cut::Half)]).expect("ends well");
            for phase in device.cut_in {
                *counts.entry(format!("{phase:?}")).or_insert(0u32) += 1;
            }
        }
    }
    for (phase, least) in [
        ("Eligibility", 10),
        ("Download", 10),
        ("Verification", 10),
        ("SelfTest", 10),
        ("Shadow", 5),
        ("Held", 5),
        ("Activation", 10),
        ("Probation", 10),
        ("Rollback", 10),
        ("Removal", 3),
    ] {
        let count = counts.get(phase).copied().unwrap_or(0);
        assert!(count >= least, "{phase}: {count} cuts; {counts:?}");
    }
    println!("cuts by phase: {counts:?}");
}

#[test]
fn two_cuts_at_every_pair_of_places_recovery_included() {
    let mut runs = 0u32;
    for story in STORIES {
        let device = story.device();
        let places = must(story, &device, &[]);
        for first in 1..=places {
            for cut in Cut::ALL {
                let longer = must(story, &device, &[(first, cut)]);
                for second in first + 1..=longer {
                    let then = Cut::ALL[(first + second) as usize % 3];
                    must(story, &device, &[(first, cut), (second, then)]);
                    runs += 1;
                }
            }
        }
    }
    assert!(runs > 10_000, "{runs}");
}

#[test]
fn an_order_or_a_stop_at_every_place_with_one_cut_at_every_place() {
    an_order_or_a_stop_on_the_way_to(2, 14);
}

/// The same on a longer way: held, fetched, in the shadow, held again.
#[test]
fn an_order_or_a_stop_at_every_place_of_a_held_update_with_one_cut_at_every_place() {
    an_order_or_a_stop_on_the_way_to(13, 22);
}

fn an_order_or_a_stop_on_the_way_to(release: Release, places_max: u32) {
    let ends = [
        (GiveAt(0, Run, 3), Some(3)),
        (GiveAt(0, Run, release), Some(release)),
        (GiveAt(0, Run, 1), Some(1)),
        (GiveAt(0, Run, 5), Some(1)),
        (GiveAt(0, Rollback, 1), Some(1)),
        (GiveAt(0, Rollback, 3), Some(1)),
        (GiveAt(0, Remove, 1), None),
        (StopAt(0), Some(release)),
    ];
    for (end, serves) in ends {
        for place in 0..places_max {
            let end = match end {
                GiveAt(_, action, release) => GiveAt(place, action, release),
                _ => StopAt(place),
            };
            let scenes = [Give(Run, release), end];
            let mut story = story("an order on the way", None, &[1], &scenes, serves);
            if serves == Some(1) {
                story.or = Some(release);
            }
            let device = story.device();
            let places = must(&story, &device, &[]);
            for at in 1..=places {
                for cut in Cut::ALL {
                    must(&story, &device, &[(at, cut)]);
                }
            }
        }
    }
}

#[test]
fn three_and_more_cuts_by_seed() {
    let devices: Vec<_> = STORIES.iter().map(|s| (s, s.device())).collect();
    for seed in 0..60_000 {
        let mut rng = Rng::new(seed);
        let (story, device) = &devices[rng.index(devices.len())];
        let cuts: Vec<_> = (0..3 + rng.below(6))
            .map(|_| (1 + rng.below(45) as u32, Cut::ALL[rng.index(3)]))
            .collect();
        must(story, device, &cuts);
    }
}
