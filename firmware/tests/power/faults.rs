//! Flash that fails without a cut: errors, bits that are not what was written, rot; and a gateway
//! that says what it should not.

use std::cell::Cell;

use embedded_storage::nor_flash::{ErrorType, NorFlash, ReadNorFlash};
use fleetway_firmware::hardware::Flash;
use fleetway_firmware::journal::Journal;
use fleetway_firmware::store::{Part, Store};
use fleetway_protocol::order::Action;
use fleetway_protocol::record;
use fleetway_protocol::slot::SlotId;

use crate::cuts::{NATURES, STORIES, must, prepared};
use crate::fleet::{Fleet, Wish};
use crate::nor::{Fault, Nor, Torn};
use crate::rng::Rng;
use crate::world::{LAYOUT, WIDTH, World};

/// Boots one after the other: every third turns the journal over, and the bit is somewhere else each time.
const BOOTS: u64 = 80;

/// The driver reports an error, or says nothing and is wrong in one bit: the device notices, tries
/// again, and comes to the same end.
#[test]
fn one_failure_at_every_operation() {
    let fleet = Fleet::new(WIDTH as u32, &NATURES);
    let page = fleet.page();
    let world = prepared(&fleet, &page, 1);
    for story in [&STORIES[0], &STORIES[2], &STORIES[12]] {
        let ops = must(&world, story, &[]).unwrap();
        for op in 1..=ops {
            let torn = Torn::EVERY[op as usize % Torn::EVERY.len()];
            for fault in [Fault::Error(torn), Fault::Wrong] {
                must(&world, story, &[(op, fault)]).unwrap();
            }
            // For a while nothing becomes durable, and nothing is said of it.
            let fails = [0, 1, 2, 3].map(|later| (op + later, Fault::Error(torn)));
            must(&world, story, &fails).unwrap();
        }
    }
}

/// An erase leaves a bit in the journal, wherever; then the power fails while the first record behind it is
/// written, so that it reads well once, and again in the next boot. That boot must not erase what is older.
#[test]
fn an_erase_that_leaves_a_bit() {
    let fleet = Fleet::new(WIDTH as u32, &NATURES);
    let page = fleet.page();
    let mut world = prepared(&fleet, &page, 0);
    for boots in 0..BOOTS {
        for cut in 2..=4 {
            let dark = |op, torn| (op, Fault::Cut(torn));
            let faults = [(1, Fault::Wrong), dark(cut, Torn::Fickle), dark(cut + 1, Torn::All)];
            must(&world, &STORIES[0], &faults)
                .unwrap_or_else(|problem| panic!("{boots}: {problem}"));
        }
        world.settle().unwrap();
    }
}

/// Flash of which the newest record reads well while the journal looks for it, and not when it is taken.
struct Flickers {
    nor: Nor,
    /// What it reads like from then on.
    then: Vec<u8>,
    /// Times that it still reads well.
    left: Cell<u32>,
}

impl ErrorType for Flickers {
    type Error = <Nor as ErrorType>::Error;
}

impl ReadNorFlash for Flickers {
    const READ_SIZE: usize = Nor::READ_SIZE;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Self::Error> {
        self.nor.read(offset, bytes)
    }

    fn capacity(&self) -> usize {
        self.nor.capacity()
    }
}

impl NorFlash for Flickers {
    const WRITE_SIZE: usize = Nor::WRITE_SIZE;
    const ERASE_SIZE: usize = Nor::ERASE_SIZE;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), Self::Error> {
        self.nor.erase(from, to)
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Self::Error> {
        self.nor.write(offset, bytes)
    }
}

impl Flash for Flickers {
    fn mapped(&self) -> &[u8] {
        let left = self.left.get();
        self.left.set(left.saturating_sub(1));
        if left > 0 { self.nor.mapped() } else { &self.then }
    }
}

/// The record before counts then, and the number of the one that was seen is not used again.
#[test]
fn a_record_reads_well_only_once() {
    let mut store = Store::new(Nor::new(LAYOUT.end()), LAYOUT).unwrap();
    let (mut journal, none) = Journal::open::<_, u32>(&store);
    assert_eq!(none, None);
    journal.append(&mut store, &1u32).unwrap();
    let then = store.flash().mapped().to_vec();
    journal.append(&mut store, &2u32).unwrap();
    let nor = store.flash().clone();
    // One look at each half.
    let left = Cell::new(2);
    let mut store = Store::new(Flickers { nor, then, left }, LAYOUT).unwrap();
    let (mut journal, found) = Journal::open::<_, u32>(&store);
    assert_eq!(found, Some(1));
    // Beside it the second may yet read well: what is said now is newer than both.
    store.flash().left.set(u32::MAX);
    journal.append(&mut store, &3u32).unwrap();
    let bytes = store.flash().nor.mapped();
    let records = (0..bytes.len()).step_by(64).filter_map(|at| record::read::<u32>(&bytes[at..]));
    assert_eq!(records.max(), Some((3, 3)));
}

/// One bit anywhere rots while the device is off. It serves something good at once, and after an
/// order what was ordered.
#[test]
fn a_bit_rots_anywhere() {
    let fleet = Fleet::new(WIDTH as u32, &NATURES);
    let page = fleet.page();
    let mut confirmed = prepared(&fleet, &page, 2);
    confirmed.wants(Wish::run(2));
    confirmed.settle().unwrap();
    for seed in 0..300 {
        let mut rng = Rng::new(seed);
        let mut world = confirmed.clone();
        // Anywhere, and every other time in what the device remembers.
        let journal = LAYOUT.journal[1].end();
        let end = if seed % 2 == 0 { journal } else { LAYOUT.end() };
        let at = rng.below(end.into()) as u32;
        world.nor.rot(at, rng.below(8) as u32);
        world.claims.rotten = true;
        // Of two copies of every record one is left, so that nothing said is taken back.
        world.settle().unwrap_or_else(|problem| panic!("seed {seed}, {at}: {problem}"));
        let served = world.served();
        assert!(matches!(served, Some(0..=2)), "seed {seed}, {at}: {served:?}");
        world.wants(Wish::run(2));
        world.settle().unwrap_or_else(|problem| panic!("seed {seed}, {at}: {problem}"));
        assert_eq!(world.served(), Some(2), "seed {seed}, {at}");
    }
}

/// A gateway alters every chunk when it says it first: nothing of that is written, so that nothing
/// has to be erased again.
#[test]
fn what_a_gateway_alters_is_never_written() {
    let fleet = Fleet::new(WIDTH as u32, &NATURES);
    let page = fleet.page();
    let erases = |lies: bool| {
        let mut world = prepared(&fleet, &page, 1);
        let before: u32 = world.nor.erases.iter().sum();
        world.lies = lies;
        world.wants(Wish::run(2));
        world.settle().unwrap();
        assert_eq!(world.served(), Some(2));
        assert!(!lies || world.lied.len() > 3, "{:?}", world.lied);
        world.nor.erases.iter().sum::<u32>() - before
    };
    assert_eq!(erases(true), erases(false));
}

/// What the fleet removes is gone from the flash, whatever serves then.
#[test]
fn what_is_removed_is_erased() {
    let fleet = Fleet::new(WIDTH as u32, &NATURES);
    let page = fleet.page();
    let mut world = prepared(&fleet, &page, 1);
    world.wants(Wish { release: 1, action: Action::Remove });
    world.may_serve_nothing = true;
    world.settle().unwrap();
    assert!(slots(&world).iter().all(|byte| *byte == 0xff), "something is left");
}

/// Every byte of the flash is wrong: the factory model serves, and the order that the gateway still
/// has brings back what ran before.
#[test]
fn nothing_is_left() {
    let fleet = Fleet::new(WIDTH as u32, &NATURES);
    let page = fleet.page();
    for seed in 0..20 {
        let mut rng = Rng::new(seed);
        let mut world = prepared(&fleet, &page, 1);
        for at in 0..LAYOUT.end() {
            world.nor.rot(at, rng.below(8) as u32);
        }
        world.claims.forgets = true;
        world.settle().unwrap();
        assert_eq!(world.served(), Some(1), "seed {seed}");
    }
}

/// Orders of before, of another device, by another key, for another boot; and releases below the
/// floor. Nothing is written for any of them but a refusal.
#[test]
fn old_orders_change_nothing() {
    let fleet = Fleet::new(WIDTH as u32, &NATURES);
    let page = fleet.page();
    let mut world = prepared(&fleet, &page, 1);
    world.wants(Wish::run(2));
    world.settle().unwrap();
    let before = slots(&world);
    world.rubbish = vec![
        // Signed, newer than all, and not for this boot: it may be years old.
        fleet.order(0, 1_000, Wish::run(3), None),
        fleet.order(0, 1_000, Wish::run(3), Some([7; 16])),
        // Of a generation that was acted on, and another one.
        fleet.order(0, 1, Wish::run(3), None),
        fleet.order(0, 2, Wish::run(3), None),
        vec![1, 2, 3],
        Vec::new(),
    ];
    world.forges = Some(3);
    world.settle().unwrap();
    assert!(before == slots(&world), "a slot was written to");
    assert_eq!(world.served(), Some(2));
    // Below the floor: release 2 raised it to that of release 1, so the factory's is.
    (world.rubbish, world.forges) = (Vec::new(), None);
    world.wants(Wish::run(0));
    world.settle().unwrap();
    assert!(before == slots(&world), "a slot was written to");
    assert_eq!(world.served(), Some(2));
}

fn slots(world: &World<'_>) -> Vec<u8> {
    use fleetway_firmware::hardware::Flash as _;
    let bytes = world.nor.mapped();
    let slot = |slot| {
        let whole = LAYOUT.slot(slot).whole();
        bytes[whole.at as usize..whole.end() as usize].to_vec()
    };
    assert!(LAYOUT.slot(SlotId::A).part(Part::Model).len > 0);
    SlotId::BOTH.map(slot).concat()
}
