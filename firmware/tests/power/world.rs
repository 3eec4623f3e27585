//! A device that lives, goes dark, and lives again; and the gateway at the other end of its wire.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;

use fleetway_firmware::device::Device;
use fleetway_firmware::engine::Memory;
use fleetway_firmware::hardware::{Clock, Flash, Message, Sensor, Start, Uplink, Watchdog};
use fleetway_firmware::provision::Provision;
use fleetway_firmware::store::{Layout, Part, Store};
use fleetway_firmware::superloop::{Board, turn};
use fleetway_protocol::codec;
use fleetway_protocol::ids::{Digest, ShortDigest};
use fleetway_protocol::machine::Phase;
use fleetway_protocol::report::Want;
use fleetway_protocol::slot::Place;
use fleetway_protocol::topics::{Piece, Topic};

use crate::fleet::{Fleet, Nature, WIDTH, Wish};
use crate::nor::{BLOCK, Nor};
use crate::rules::{Claims, opened};

/// Journal, keysets, and two slots for a model of 16 KiB.
pub(crate) const LAYOUT: Layout = Layout::new(0, BLOCK, 4096, 16 * 1024);
/// Milliseconds that one turn takes here.
const TURN_MS: u64 = 50;
/// Turns of one life: an hour. Nothing that is waited for is longer.
const TURNS_MAX: u32 = 4_000;
/// Turns within which a device serves after a boot, whatever happened.
const SERVES_WITHIN: u32 = 60;

/// How a life ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// All is done that was ordered.
    Rest,
    /// The power went.
    Dark,
    /// The model did not come back.
    Hung,
}

/// An order as the gateway holds it.
#[derive(Clone)]
struct Said {
    generation: u64,
    wish: Wish,
    bytes: Vec<u8>,
}

#[derive(Clone)]
pub(crate) struct World<'f> {
    pub(crate) fleet: &'f Fleet,
    page: &'f [u8],
    pub(crate) nor: Nor,
    order: Option<Said>,
    /// What the fleet wants and has not signed for this boot yet.
    wish: Option<Wish>,
    /// The newest keyset that the gateway says.
    pub(crate) keyset: usize,
    pub(crate) claims: Claims,
    pub(crate) broken: Vec<String>,
    /// Lives that ended in a hang of the model, for each release.
    pub(crate) hangs: u32,
    start: Start,
    now_ms: u64,
    pub(crate) lives: u64,
    /// What served when the last life ended.
    serving: Option<Digest>,
    /// Orders that the gateway says beside the right one, again and again.
    pub(crate) rubbish: Vec<Vec<u8>>,
    /// A newer wish that comes when the update is in this phase.
    pub(crate) then: Option<(Phase, Wish)>,
}

impl<'f> World<'f> {
    pub(crate) fn new(fleet: &'f Fleet, page: &'f [u8]) -> Self {
        Self {
            fleet,
            page,
            nor: Nor::new(LAYOUT.end()),
            order: None,
            wish: None,
            keyset: 0,
            claims: Claims::default(),
            broken: Vec::new(),
            hangs: 0,
            start: Start::Power,
            now_ms: 0,
            lives: 0,
            serving: None,
            rubbish: Vec::new(),
            then: None,
        }
    }

    /// The fleet wants this from now on.
    pub(crate) fn wants(&mut self, wish: Wish) {
        self.wish = Some(wish);
    }

    fn fail(&mut self, text: String) {
        if self.broken.len() < 4 {
            self.broken.push(format!("life {}: {text}", self.lives));
        }
    }

    /// Lives until all is done, through everything that goes wrong.
    ///
    /// # Panics
    /// With what is broken.
    pub(crate) fn settle(&mut self) -> Result<(), String> {
        for _ in 0..40 {
            let end = self.live();
            if !self.broken.is_empty() {
                return Err(self.broken.join("\n"));
            }
            self.start = match end {
                End::Rest => return Ok(()),
                End::Dark => Start::Power,
                End::Hung => Start::Watchdog,
            };
        }
        Err("does not come to rest in 40 lives".into())
    }

    /// One life: from power to rest, darkness or a hang.
    pub(crate) fn live(&mut self) -> End {
        self.lives += 1;
        let mut nor = std::mem::replace(&mut self.nor, Nor::new(0));
        nor.power_up(self.lives ^ nor.ops << 8);
        let (dark, serves) = (nor.is_dark.clone(), nor.serves.clone());
        let provision = Provision::read(self.page).unwrap();
        let (mut arena, mut input, mut output) = ([0; 64], [0.0; WIDTH], [0.0; WIDTH]);
        let memory = Memory {
            arena: &mut arena,
            input: &mut input,
            output: &mut output,
            work_max: 1_000_000,
        };
        let store = Store::new(nor, LAYOUT).unwrap();
        let start = std::mem::replace(&mut self.start, Start::Power);
        let mut device = Device::start(provision, store, memory, start, self.now_ms);
        let mut board = Board {
            link: Link { down: VecDeque::new(), at: None, up: Vec::new(), dark: dark.clone() },
            sensor: Ramp(0),
            watchdog: Dog,
            clock: Time(self.now_ms),
        };
        let end = self.turns(&mut device, &mut board, &dark, &serves);
        self.now_ms = board.clock.0;
        self.serving = device.running().map(|(_, digest)| digest);
        self.nor = device.store().flash().clone();
        for bug in std::mem::take(&mut self.nor.bugs) {
            self.fail(bug);
        }
        end
    }

    fn turns(
        &mut self,
        device: &mut Device<'_, Nor>,
        board: &mut Board<Link, Ramp, Dog, Time>,
        dark: &Rc<Cell<bool>>,
        serves: &Rc<Cell<(u32, u32)>>,
    ) -> End {
        if dark.get() {
            return End::Dark;
        }
        self.born(device);
        board.link.down.push_back(Down::Up);
        self.say_all(device, &mut board.link);
        for n in 0..TURNS_MAX {
            if self.hangs_now(device) {
                self.hangs += 1;
                return End::Hung;
            }
            turn(device, board);
            board.clock.0 += TURN_MS;
            let up = std::mem::take(&mut board.link.up);
            for (topic, report) in up {
                self.hear(device, &mut board.link, &topic, &report);
            }
            if dark.get() {
                return End::Dark;
            }
            self.look(device, serves);
            if n == SERVES_WITHIN && device.running().is_none() {
                self.fail("I1: serves nothing".into());
            }
            if !self.broken.is_empty() || n > SERVES_WITHIN && self.is_at_rest(device, board) {
                return End::Rest;
            }
            self.change_mind(device, &mut board.link);
        }
        self.fail(format!("never rests: {:?}", device.machine().phase()));
        End::Rest
    }

    /// What the gateway says to whoever listens.
    fn say_all(&mut self, device: &Device<'_, Nor>, link: &mut Link) {
        for bytes in &self.fleet.keysets[..=self.keyset] {
            link.down.push_back(Down::Keyset(bytes.clone()));
        }
        link.down.extend(self.rubbish.iter().cloned().map(Down::Order));
        let seen = device.kept().generation;
        // What this device never took was signed for another boot: signed anew for this one.
        let unseen = self.order.take_if(|order| order.generation > seen).map(|order| order.wish);
        if let Some(wish) = self.wish.take().or(unseen) {
            let generation = self.claims.issued + 1;
            self.claims.issued = generation;
            let bytes = self.fleet.order(generation, wish, Some(device.nonce()));
            self.order = Some(Said { generation, wish, bytes });
        }
        link.down.extend(self.order.iter().map(|order| Down::Order(order.bytes.clone())));
    }

    fn change_mind(&mut self, device: &Device<'_, Nor>, link: &mut Link) {
        if let Some((phase, wish)) = self.then
            && device.machine().phase() == phase
        {
            self.then = None;
            self.wish = Some(wish);
            self.say_all(device, link);
        }
    }

    fn is_at_rest(&self, device: &Device<'_, Nor>, board: &Board<Link, Ramp, Dog, Time>) -> bool {
        let heard = self.order.as_ref().is_none_or(|o| o.generation <= device.kept().generation);
        heard
            && self.wish.is_none()
            && board.link.down.is_empty()
            && device.machine().phase() == Phase::Idle
            && device.machine().waiting().is_none()
            && device.work_ms_max().is_none()
            && device.machine().table() == &device.kept().table
    }

    fn nature(&self, digest: Digest) -> Option<Nature> {
        let releases = &self.fleet.releases;
        releases.iter().find(|release| release.digest == digest).map(|release| release.nature)
    }

    fn hangs_now(&self, device: &Device<'_, Nor>) -> bool {
        let running = device.running().and_then(|(_, digest)| self.nature(digest));
        let tested = device.machine().goal().and_then(|goal| self.nature(goal.release));
        running == Some(Nature::Hangs)
            || device.work_ms_max().is_some() && tested == Some(Nature::HangsInTest)
    }

    /// What serves is marked in the flash, and is what it should be, to the byte.
    fn look(&mut self, device: &Device<'_, Nor>, serves: &Rc<Cell<(u32, u32)>>) {
        let Some((place, digest)) = device.running() else { return serves.set((0, 0)) };
        let Some(release) = self.fleet.releases.iter().find(|r| r.digest == digest) else {
            return self.fail("serves what nobody released".into());
        };
        if matches!(release.nature, Nature::WrongAnswers | Nature::OtherHardware | Nature::Forged)
            || matches!(release.nature, Nature::TooLarge | Nature::HangsInTest)
        {
            self.fail(format!("serves a release that is {:?}", release.nature));
        }
        let Place::Slot(slot) = place else { return serves.set((0, 0)) };
        let map = LAYOUT.slot(slot);
        let whole = (map.whole().at, map.whole().end());
        if serves.replace(whole) != whole {
            let model = map.part(Part::Model);
            let there = &device.store().flash().mapped()[model.at as usize..];
            if !there.starts_with(&release.model) {
                self.fail("serves bytes that are not the release's".into());
            }
        }
    }

    /// A report came out of the wire.
    fn hear(&mut self, device: &Device<'_, Nor>, link: &mut Link, topic: &Topic, report: &[u8]) {
        let Some(bytes) = opened(topic, report) else {
            return self.fail(format!("{topic:?} is not signed by the device"));
        };
        if let Topic::Want(_) = topic {
            let want: Want = codec::decode(&bytes, 4096).unwrap();
            for piece in want.pieces {
                if let Some(bytes) = self.fleet.piece(want.of, piece) {
                    link.down.push_back(Down::Piece(want.of, piece, bytes.to_vec()));
                }
            }
        }
        if let Err(text) = self.claims.hear(topic, &bytes, device) {
            self.fail(text);
        }
    }

    /// Number of the release that serves when all is done.
    pub(crate) fn served(&mut self) -> Option<usize> {
        self.live();
        let digest = self.serving?;
        self.fleet.releases.iter().position(|release| release.digest == digest)
    }

    fn born(&mut self, device: &Device<'_, Nor>) {
        if let Err(text) = self.claims.check_boot(device.kept()) {
            self.fail(text);
        }
    }
}

enum Down {
    Up,
    Order(Vec<u8>),
    Keyset(Vec<u8>),
    Piece(ShortDigest, Piece, Vec<u8>),
}

struct Link {
    down: VecDeque<Down>,
    at: Option<Down>,
    up: Vec<(Topic, Vec<u8>)>,
    dark: Rc<Cell<bool>>,
}

impl Uplink for Link {
    fn poll(&mut self, _now_ms: u64) -> Option<Message<'_>> {
        self.at = self.down.pop_front();
        self.at.as_ref().map(|down| match down {
            Down::Up => Message::Up,
            Down::Order(bytes) => Message::Order(bytes),
            Down::Keyset(bytes) => Message::Keyset(bytes),
            Down::Piece(of, piece, bytes) => Message::Piece { of: *of, piece: *piece, bytes },
        })
    }

    fn send(&mut self, _now_ms: u64, topic: &Topic, report: &[u8]) -> bool {
        // In the dark nothing leaves the device, whatever the code after the cut would say.
        if !self.dark.get() {
            self.up.push((topic.clone(), report.to_vec()));
        }
        true
    }
}

struct Ramp(u8);

impl Sensor for Ramp {
    fn sample(&mut self, input: &mut [f32]) -> bool {
        self.0 = self.0.wrapping_add(1) % 100;
        for (at, value) in input.iter_mut().enumerate() {
            *value = f32::from(self.0) + at as f32;
        }
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
