//! A device that lost its memory, by a factory reset or a new disk, and what it does with an
//! order that is signed, unexpired and of before.

use fleetway_protocol::enroll::Floor;

use super::*;

#[test]
fn a_device_that_forgot_takes_no_order_before_it_knows_which_are_old() {
    let (mut bench, one) = Box::running_one();
    std::fs::remove_dir_all(bench.dir.path()).unwrap();
    let asks = true;
    let boot = |bench: &mut Box| {
        bench.subscribed.clear();
        bench.device = device(bench.dir.path(), config(&bench.pinned, FORMS, asks), bench.now);
        bench.settle();
        bench.up();
        bench.pass(5);
    };
    boot(&mut bench);
    assert!(bench.device.needs_floor() && bench.device.epoch() > NOW_S, "above every boot before");
    assert_eq!((bench.running(), bench.device.generation()), (None, 0));
    assert!(bench.device.order_problem().is_some_and(|p| p.contains("which orders are old")));
    // Nor after a boot in between.
    boot(&mut bench);
    assert!(bench.device.needs_floor() && bench.running().is_none());
    // The answer is durable before the order is looked at, and refuses it; again after a boot.
    let floor = Floor { generation: bench.generation + 1, epoch: 0 };
    bench.device.handle_floor(bench.now, floor).unwrap();
    bench.pass(5);
    assert_eq!((bench.running(), bench.refused("order generation")), (None, 1));
    boot(&mut bench);
    assert!(!bench.device.needs_floor() && bench.running().is_none());
    assert_eq!(bench.refused("order generation"), 1);
    // The order made above the floor is carried out.
    bench.generation += 1;
    bench.order(&one);
    bench.pass(5);
    assert_eq!(bench.running(), Some(one.digest));
}

#[test]
fn the_very_generation_of_the_floor_is_no_order_that_it_has() {
    let (mut bench, _) = Box::running_one();
    std::fs::remove_dir_all(bench.dir.path()).unwrap();
    // As `join` and `device add` leave it.
    std::fs::create_dir_all(bench.dir.path()).unwrap();
    let floor = Floor { generation: bench.generation, epoch: 0 };
    std::fs::write(bench.dir.path().join(Floor::FILE), floor.text().as_bytes()).unwrap();
    bench.device = device(bench.dir.path(), config(&bench.pinned, FORMS, true), bench.now);
    assert!(!bench.device.needs_floor() && bench.device.generation() == floor.generation);
    assert!(!bench.dir.path().join(Floor::FILE).exists(), "it says too little later");
    bench.up();
    bench.publish();
    bench.pass(5);
    assert_eq!((bench.running(), bench.refused("order generation")), (None, 1));
}
