//! A segment of the report spool as a disk gives it back: whatever it says, every number is waiting
//! or lost, and what can be read is read once.

use std::path::Path;

use fleetway_agent::fs::Fs as _;
use fleetway_agent::spool::Spool;
use fleetway_agent::telemetry::Record;
use fleetway_protocol::ids::ModelName;

use crate::samples as protocol;
use crate::world::disk::SimFs;

const DIR: &str = "data/spool";
const BYTES_MAX: u64 = 1 << 20;

/// Opens a spool whose only segment is `bytes`; takes whatever has a record that reads.
pub(super) fn segment(bytes: &[u8]) -> bool {
    let fs = SimFs::default();
    let dir = Path::new(DIR);
    drop(Spool::open(&fs, dir, BYTES_MAX, 1).expect("a disk that is well"));
    fs.write_at(&dir.join("00000000000000000001.seg"), 0, bytes).expect("writes");
    let mut spool = Spool::open(&fs, dir, BYTES_MAX, 2).expect("whatever is there");
    let (mut from, mut read) = (0, 0);
    let mut taken = false;
    loop {
        let some = spool.waiting(&fs, from, 3).expect("reads");
        let Some(last) = some.last() else { break };
        assert!(some.windows(2).all(|pair| pair[0].number < pair[1].number), "{some:?}");
        assert!(some.iter().all(|record| record.number >= from));
        from = last.number + 1;
        read += some.len() as u64;
        taken |= some.iter().any(|record| Record::decode(&record.bytes).is_some());
    }
    let counts = spool.counts();
    assert_eq!(counts.waiting, read);
    assert_eq!(counts.produced, counts.lost + counts.waiting, "{counts:?}");
    let pushed = spool.push(&fs, b"next").expect("writes");
    assert!(pushed.kept && pushed.number >= from, "{pushed:?} after {from}");
    taken
}

/// A segment as the agent writes it.
pub(super) fn samples() -> Vec<Vec<u8>> {
    let fs = SimFs::default();
    let dir = Path::new(DIR);
    let mut spool = Spool::open(&fs, dir, BYTES_MAX, 1).expect("a disk that is well");
    let model = ModelName::new("digits").expect("name");
    let telemetry = Record::Model(model, Box::new(protocol::telemetry()));
    for record in [telemetry, Record::Host(Box::new(protocol::host()))] {
        spool.push(&fs, &record.encode()).expect("writes");
    }
    vec![fs.read(&dir.join("00000000000000000001.seg"), BYTES_MAX).expect("reads")]
}
