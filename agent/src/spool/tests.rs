//! The spool on the real disk: order, bounds, rot. Power cuts are `tests/tests/spool.rs`'s.

use super::*;
use crate::fs::RealFs;

fn spool(dir: &Path, bytes_max: u64) -> Spool {
    Spool::open(&RealFs, &dir.join("spool"), bytes_max, 7).unwrap()
}

fn holds(spool: &Spool) -> Counts {
    let counts = spool.counts();
    assert_eq!(counts.produced, counts.delivered + counts.lost + counts.waiting, "{counts:?}");
    counts
}

fn all(spool: &Spool) -> Vec<u64> {
    let (mut from, mut numbers) = (0, Vec::new());
    loop {
        let some = spool.waiting(&RealFs, from, 7).unwrap();
        let Some(last) = some.last() else { return numbers };
        from = last.number + 1;
        for record in &some {
            assert_eq!(record.bytes, format!("report {}", record.number).into_bytes());
            numbers.push(record.number);
        }
    }
}

fn push(spool: &mut Spool, n: u64) {
    for _ in 0..n {
        let text = format!("report {}", spool.next);
        assert!(spool.push(&RealFs, text.as_bytes()).unwrap().kept);
    }
}

#[test]
fn what_waits_comes_back_in_order_after_a_restart_and_goes_when_it_arrived() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = spool(dir.path(), 1 << 20);
    push(&mut first, 100);
    first.delivered(&RealFs, 30, None).unwrap();
    assert_eq!(all(&first), (31..=100).collect::<Vec<_>>());
    let counts = Counts { produced: 100, delivered: 30, lost: 0, waiting: 70 };
    assert_eq!(holds(&first), counts);
    // Not marked yet: they come again, under their numbers.
    let mut again = spool(dir.path(), 1 << 20);
    assert_eq!(all(&again), (1..=100).collect::<Vec<_>>());
    push(&mut again, 10);
    again.delivered(&RealFs, 110, None).unwrap();
    assert_eq!((all(&again), again.bytes()), (vec![], 0));
    let mut last = spool(dir.path(), 1 << 20);
    assert_eq!(holds(&last), Counts { produced: 110, delivered: 110, lost: 0, waiting: 0 });
    push(&mut last, 1);
    assert_eq!(all(&last), [111]);
}

#[test]
fn the_oldest_go_first_within_the_bound_and_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = spool(dir.path(), 1024);
    for _ in 0..500 {
        push(&mut spool, 1);
        assert!(spool.bytes() <= 1024, "{}", spool.bytes());
        holds(&spool);
    }
    let counts = holds(&spool);
    assert!(counts.waiting >= 20 && counts.lost == 500 - counts.waiting, "{counts:?}");
    assert_eq!(all(&spool).last(), Some(&500));
    let again = Spool::open(&RealFs, &dir.path().join("spool"), 1024, 8).unwrap();
    assert_eq!((again.series(), again.first()), (7, 501 - counts.waiting));
    assert_eq!((holds(&again), all(&again)), (counts, all(&spool)));
}

#[test]
fn the_receiver_knows_better_what_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let mut spool = spool(dir.path(), 1024);
    push(&mut spool, 200);
    let dropped = holds(&spool).lost;
    assert!(dropped > 10);
    // It has some of what was dropped here; an older answer does not take that back.
    spool.delivered(&RealFs, 190, Some(3)).unwrap();
    spool.delivered(&RealFs, 150, Some(99)).unwrap();
    assert_eq!(holds(&spool), Counts { produced: 200, delivered: 187, lost: 3, waiting: 10 });
    spool.skip(5);
    assert_eq!(holds(&spool), Counts { produced: 205, delivered: 187, lost: 8, waiting: 10 });
}

#[test]
fn without_a_mark_another_series_begins() {
    let dir = tempfile::tempdir().unwrap();
    push(&mut spool(dir.path(), 4096), 50);
    let path = dir.path().join("spool");
    for copy in ["mark.0", "mark.1"] {
        std::fs::write(path.join(copy), b"rotten").unwrap();
    }
    let mut again = Spool::open(&RealFs, &path, 4096, 8).unwrap();
    assert_eq!((again.series(), holds(&again)), (8, Counts::default()));
    push(&mut again, 1);
    assert_eq!(all(&again), [1]);
}

#[test]
fn rot_costs_what_it_touched_and_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("spool");
    let mut fresh = spool(dir.path(), 4096);
    push(&mut fresh, 120);
    let files = || -> Vec<PathBuf> {
        std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()).collect()
    };
    let before: Vec<_> =
        files().into_iter().map(|p| (p.clone(), std::fs::read(p).unwrap())).collect();
    let segments: Vec<_> =
        files().into_iter().filter(|p| p.extension().is_some_and(|e| e == "seg")).collect();
    assert!(segments.len() >= 3, "{segments:?}");
    for segment in &segments {
        let bytes = std::fs::read(segment).unwrap();
        for at in (0..bytes.len()).step_by(7) {
            let mut rotten = bytes.clone();
            rotten[at] ^= 0x10;
            std::fs::write(segment, &rotten).unwrap();
            let mut spool = spool(dir.path(), 4096);
            let counts = Counts { produced: 120, delivered: 0, lost: 1, waiting: 119 };
            assert_eq!(holds(&spool), counts, "{at} in {segment:?}");
            assert_eq!(all(&spool).len(), 119);
            // It goes on behind whatever does not read, in a segment of its own or not.
            push(&mut spool, 1);
            assert_eq!(all(&spool).last(), Some(&121));
            spool.delivered(&RealFs, 60, None).unwrap();
            holds(&spool);
            for path in files() {
                std::fs::remove_file(path).unwrap();
            }
            for (path, bytes) in &before {
                std::fs::write(path, bytes).unwrap();
            }
        }
    }
}
