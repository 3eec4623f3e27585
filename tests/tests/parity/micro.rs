//! The firmware: its device and its superloop over a simulated flash, and a gateway that says what it is
//! asked for.

use std::collections::VecDeque;

use fleetway_firmware::device::Device;
use fleetway_firmware::engine::Memory;
use fleetway_firmware::hardware::{Clock, Sensor, Start, Uplink, Watchdog};
use fleetway_firmware::provision::Provision;
use fleetway_firmware::store::{Layout, Store};
use fleetway_firmware::superloop::{Board, turn};
use fleetway_protocol::ids::Digest;
use fleetway_protocol::machine::Phase;
use fleetway_protocol::serial::Message;
use fleetway_protocol::slot::SlotTable;
use fleetway_protocol::topics::Topic;
use fleetway_protocol::trust_file::TrustFile;

use crate::fleet::{Fleet, Nature, id};
use crate::nor::{BLOCK, Nor};
use crate::{Dark, Shell, Stop, TURN_MS, TURNS_MAX, releases};

/// Slots with room for the digits and their golden vectors.
const LAYOUT: Layout = Layout::new(0, BLOCK, 8 * 1024, 40 * 1024);
const PIXELS: usize = 64;
const DIGITS: usize = 10;
const ARENA_BYTES: usize = 16 * 1024;
/// Turns after a start in which everything is said and heard once.
const GREETING_TURNS: u32 = 60;

pub(crate) struct Micro {
    page: &'static [u8],
    device: Device<'static, Nor>,
    board: Board<Wire, Same, Dog, Time>,
    generation: u64,
    /// Turns since it started.
    turns: u32,
}

impl Micro {
    pub(crate) fn new(fleet: &'static Fleet) -> Self {
        let page = fleet.page();
        let page = Provision { factory: None, ..Provision::read(&page).unwrap() };
        // A board's page outlives all its boots; here the test does.
        let page: &'static [u8] = page.write(Vec::leak(vec![0; 8 * 1024])).unwrap();
        let device = started(page, Nor::new(LAYOUT.end()), Start::Power, 0);
        let wire = Wire { fleet, order: None, down: VecDeque::new(), begun: true };
        let board = Board { link: wire, sensor: Same, watchdog: Dog, clock: Time(0) };
        Self { page, device, board, generation: 0, turns: 0 }
    }

    /// What an order for this boot has to carry.
    pub(crate) fn nonce(&self) -> [u8; 16] {
        self.device.nonce()
    }

    fn hangs_now(&self) -> bool {
        let running = self.device.running().map(|(_, digest)| digest);
        let tested = self.device.machine().goal().map(|goal| goal.release);
        let tested = tested.filter(|_| self.device.work_ms_max().is_some());
        releases::is(running, Nature::Hangs) || releases::is(tested, Nature::HangsInTest)
    }

    fn is_at_rest(&self) -> bool {
        let (machine, kept) = (self.device.machine(), self.device.kept());
        self.turns > GREETING_TURNS
            && kept.generation >= self.generation
            && self.board.link.down.is_empty()
            && machine.phase() == Phase::Idle
            && machine.waiting().is_none()
            && self.device.work_ms_max().is_none()
            && machine.table() == &kept.table
    }
}

fn started(page: &'static [u8], nor: Nor, start: Start, now_ms: u64) -> Device<'static, Nor> {
    let memory = Memory {
        arena: Vec::leak(vec![0; ARENA_BYTES]),
        input: Vec::leak(vec![0.0; PIXELS]),
        output: Vec::leak(vec![0.0; DIGITS]),
        work_max: 100_000_000,
    };
    let store = Store::new(nor, LAYOUT).unwrap();
    let mut device = Device::new(Provision::read(page).unwrap(), store, memory, start);
    device.begin(now_ms);
    device
}

impl Shell for Micro {
    fn hear(&mut self, order: &[u8], generation: u64) {
        self.board.link.order = Some(order.to_vec());
        self.board.link.down.push_back((Topic::Order(id()), order.to_vec()));
        self.generation = generation;
    }

    fn live(&mut self, phase: Option<Phase>) -> Stop {
        for _ in 0..TURNS_MAX {
            if self.hangs_now() {
                return Stop::Died;
            }
            turn(&mut self.device, &mut self.board);
            self.board.clock.0 += TURN_MS;
            self.turns += 1;
            if phase == Some(self.device.machine().phase()) {
                return Stop::There;
            }
            if self.is_at_rest() {
                return Stop::Rest;
            }
        }
        panic!("the firmware never rests: {:?}", self.device.machine().phase());
    }

    fn restart(&mut self, how: Dark) {
        let start = if how == Dark::Model { Start::Watchdog } else { Start::Power };
        let mut nor = self.device.store().flash().clone();
        assert!(nor.bugs.is_empty(), "{:?}", nor.bugs);
        nor.power_up(self.board.clock.0);
        self.device = started(self.page, nor, start, self.board.clock.0);
        self.board.link.down.clear();
        self.board.link.begun = true;
        self.turns = 0;
    }

    fn table(&self) -> SlotTable {
        self.device.kept().table.clone()
    }

    fn running(&self) -> Option<Digest> {
        self.device.running().map(|(_, digest)| digest)
    }
}

/// The gateway: the order in force, the first keyset, and pieces.
struct Wire {
    fleet: &'static Fleet,
    order: Option<Vec<u8>>,
    down: VecDeque<(Topic, Vec<u8>)>,
    begun: bool,
}

impl Uplink for Wire {
    fn is_up(&self, _now_ms: u64) -> bool {
        true
    }

    fn carry(&mut self, _now_ms: u64) -> bool {
        self.begun
    }

    fn poll(&mut self, take: &mut dyn FnMut(Message<'_>)) {
        if std::mem::take(&mut self.begun) {
            take(Message::Broker(true));
        } else if let Some((topic, bytes)) = self.down.pop_front() {
            take(Message::Deliver(topic, &bytes));
        }
    }

    fn send(&mut self, _now_ms: u64, message: &Message<'_>) -> bool {
        let Message::Subscribe(topic) = message else { return true };
        let bytes = match topic {
            Topic::Order(_) => self.order.as_deref(),
            Topic::Trust(TrustFile::KeysetVersion(1)) => Some(self.fleet.keysets[0].as_slice()),
            Topic::Blob(of, piece) => self.fleet.piece(*of, *piece),
            _ => None,
        };
        self.down.extend(bytes.map(|bytes| (topic.clone(), bytes.to_vec())));
        true
    }
}

/// A sensor that always sees the same.
struct Same;

impl Sensor for Same {
    fn sample(&mut self, input: &mut [f32]) -> bool {
        input.copy_from_slice(&crate::image());
        true
    }

    fn answered(&mut self, _output: &[f32]) {}
}

struct Dog;

impl Watchdog for Dog {
    fn feed(&mut self, _ms: u32) {}
}

struct Time(u64);

impl Clock for Time {
    fn now_us(&self) -> u64 {
        self.0 * 1000
    }
}
