//! The power goes at every operation of every story, and again while the device recovers.

use fleetway_protocol::machine::Phase;
use fleetway_protocol::order::Action;

use crate::fleet::{Fleet, Nature, Wish};
use crate::nor::{Fault, Torn};
use crate::rng::Rng;
use crate::world::{WIDTH, World};

/// What the fleet wants of a device that has confirmed release 1.
pub(crate) struct Story {
    pub(crate) name: &'static str,
    pub(crate) wish: Wish,
    /// A newer wish, once the update is in this phase.
    pub(crate) then: Option<(Phase, Wish)>,
    /// Keysets that come with it.
    pub(crate) keysets: usize,
    /// What serves in the end.
    pub(crate) serves: usize,
}

/// The releases: the factory model, two good ones, and every kind that is not.
pub(crate) const NATURES: [Nature; 10] = [
    Nature::Good,
    Nature::Good,
    Nature::Good,
    Nature::WrongAnswers,
    Nature::Unhealthy,
    Nature::Hangs,
    Nature::HangsInTest,
    Nature::OtherHardware,
    Nature::TooLarge,
    Nature::Forged,
];

const fn story(name: &'static str, release: usize, serves: usize) -> Story {
    let wish = Wish { release, action: Action::Run };
    Story { name, wish, then: None, keysets: 0, serves }
}

pub(crate) const STORIES: [Story; 13] = [
    story("upgrade", 2, 2),
    story("wrong answers", 3, 1),
    story("unhealthy", 4, 1),
    story("hangs", 5, 1),
    story("hangs in its self-test", 6, 1),
    story("for other hardware", 7, 1),
    story("too large", 8, 1),
    story("forged", 9, 1),
    Story {
        name: "back to the factory model",
        wish: Wish { release: 0, action: Action::Rollback },
        ..story("", 0, 0)
    },
    Story {
        name: "a new order in the trial",
        then: Some((Phase::Probation, Wish { release: 2, action: Action::Run })),
        ..story("", 4, 2)
    },
    Story {
        name: "a new order in the download",
        then: Some((Phase::Download, Wish { release: 2, action: Action::Run })),
        ..story("", 3, 2)
    },
    Story {
        name: "aborted in the trial",
        then: Some((Phase::Probation, Wish { release: 1, action: Action::Rollback })),
        ..story("", 2, 1)
    },
    Story { name: "upgrade under new keys", keysets: 2, ..story("", 2, 2) },
];

/// Where journals stand when a story begins: so many boots before it.
pub(crate) fn prepared<'f>(fleet: &'f Fleet, page: &'f [u8], boots: u64) -> World<'f> {
    let mut world = World::new(fleet, page);
    world.settle().unwrap();
    world.wants(Wish::run(1));
    world.settle().unwrap();
    for _ in 0..boots {
        world.settle().unwrap();
    }
    world
}

/// Plays a story on a world; how many operations it took, or what broke.
pub(crate) fn play(world: &mut World<'_>, story: &Story) -> Result<u64, String> {
    let (before, erases) = (world.nor.ops, world.nor.erases.iter().sum::<u32>());
    world.wants(story.wish);
    world.then = story.then;
    world.keyset = story.keysets;
    world.settle()?;
    // What was cut in between may have left a wish for later; the next boot takes it up.
    world.nor.faults.clear();
    world.settle()?;
    let erased = world.nor.erases.iter().sum::<u32>() - erases;
    if erased > 60 + 40 * world.lives as u32 {
        return Err(format!("I11: {erased} blocks erased"));
    }
    Ok(world.nor.ops - before)
}

/// Plays it, and holds the end against what must serve. `in_trial`: cuts may have used up the
/// tries, so that the release counts as interrupted.
pub(crate) fn must(
    world: &World<'_>,
    story: &Story,
    faults: &[(u64, Fault)],
) -> Result<u64, String> {
    let mut world = world.clone();
    world.lives = 0;
    world.nor.faults = faults.iter().map(|(op, fault)| (world.nor.ops + op, *fault)).collect();
    let said = |problem: String| format!("{}, {faults:?}: {problem}", story.name);
    let ops = play(&mut world, story).map_err(said)?;
    let served = world.served().ok_or_else(|| said("serves nothing".into()))?;
    let is_cut = |(_, fault): &&(u64, Fault)| matches!(fault, Fault::Cut(_));
    let interrupted = faults.iter().filter(is_cut).count() >= 3 && served == 1;
    if served != story.serves && !interrupted {
        return Err(said(format!("serves {served}, not {}", story.serves)));
    }
    Ok(ops)
}

/// Every story, cut at each operation in each way; the journal stands differently each time.
#[test]
fn one_cut_at_every_operation() {
    let fleet = Fleet::new(WIDTH as u32, &NATURES);
    let page = fleet.page();
    let worlds: Vec<_> = (0..4).map(|boots| prepared(&fleet, &page, boots)).collect();
    let mut runs = 0;
    for story in &STORIES {
        let ops = must(&worlds[0], story, &[]).unwrap();
        for op in 1..=ops {
            let torn = Torn::EVERY[(op + runs) as usize % Torn::EVERY.len()];
            let world = &worlds[(op % 4) as usize];
            must(world, story, &[(op, Fault::Cut(torn))]).unwrap();
            runs += 1;
        }
    }
    println!("{runs} runs");
    assert!(runs > 500, "{runs}");
}

/// A second cut while the device recovers from the first.
#[test]
fn two_cuts_by_seed() {
    let fleet = Fleet::new(WIDTH as u32, &NATURES);
    let page = fleet.page();
    let worlds: Vec<_> = (0..8).map(|boots| prepared(&fleet, &page, boots)).collect();
    for seed in 0..600 {
        let mut rng = Rng::new(seed);
        let story = &STORIES[rng.below(STORIES.len() as u64) as usize];
        let world = &worlds[rng.below(8) as usize];
        let first = 1 + rng.below(110);
        let faults = [
            (first, Fault::Cut(Torn::any(&mut rng))),
            (first + 1 + rng.below(12), Fault::Cut(Torn::any(&mut rng))),
        ];
        must(world, story, &faults).unwrap_or_else(|problem| panic!("seed {seed}: {problem}"));
    }
}
