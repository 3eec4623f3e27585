//! A device that lives, goes dark, and lives again; and the gateway at the other end of its wire.

use std::cell::Cell;
use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;

use fleetway_firmware::device::Device;
use fleetway_firmware::engine::Memory;
use fleetway_firmware::hardware::{Flash, Start, Uplink};
use fleetway_firmware::provision::Provision;
use fleetway_firmware::store::{Layout, Part, Store};
use fleetway_firmware::superloop::{Board, turn};
use fleetway_protocol::codec;
use fleetway_protocol::ids::{DeviceId, Digest, ShortDigest};
use fleetway_protocol::machine::Phase;
use fleetway_protocol::report::Want;
use fleetway_protocol::serial::Message;
use fleetway_protocol::slot::Place;
use fleetway_protocol::topics::{Piece, Topic};
use fleetway_protocol::trust_file::TrustFile;

use crate::fleet::{Fleet, Nature, Wish, id, opened};
use crate::nor::{BLOCK, Nor};
use crate::parts::{Dog, Ramp, Time};
use crate::rules::Claims;

/// Journal, keysets, and two slots for a model of 16 KiB.
pub(crate) const LAYOUT: Layout = Layout::new(0, BLOCK, 4096, 16 * 1024);
/// Numbers that the models of this world take and give.
pub(crate) const WIDTH: usize = 4;
/// Milliseconds that one turn takes here.
const TURN_MS: u64 = 50;
/// Turns of one life: an hour. Nothing that is waited for is longer.
const TURNS_MAX: u32 = 4_000;
/// What a gateway bears of one device.
const SUBSCRIPTIONS_MAX: usize = 5;
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
    /// Orders for this release as well that are right in all but one thing: whose they are, or who
    /// signed them.
    pub(crate) forges: Option<usize>,
    /// Whether every chunk is altered when it is said first, and which were.
    pub(crate) lies: bool,
    pub(crate) lied: BTreeSet<(ShortDigest, Piece)>,
    /// The fleet wanted it so.
    pub(crate) may_serve_nothing: bool,
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
            forges: None,
            lies: false,
            lied: BTreeSet::new(),
            may_serve_nothing: false,
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
        let mut device = Device::new(provision, store, memory, start);
        device.begin(self.now_ms);
        let mut board = Board {
            link: Link {
                down: VecDeque::new(),
                up: Vec::new(),
                subscribed: vec![Topic::Order(id()), Topic::Block(id())],
                begun: true,
                greeted: false,
                dark: dark.clone(),
            },
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
        for n in 0..TURNS_MAX {
            if self.hangs_now(device) {
                self.hangs += 1;
                return End::Hung;
            }
            if self.may_serve_nothing {
                // What served may be erased in the very turn in which it is unloaded.
                serves.set((0, 0));
            }
            turn(device, board);
            board.clock.0 += TURN_MS;
            let up = std::mem::take(&mut board.link.up);
            for message in up {
                self.hear(device, &mut board.link, &message);
            }
            if dark.get() {
                return End::Dark;
            }
            if let Err(text) = self.claims.check_slots(device, self.fleet) {
                self.fail(text);
            }
            self.look(device, serves);
            if n == SERVES_WITHIN && device.running().is_none() && !self.may_serve_nothing {
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

    /// What the device is subscribed to is said.
    fn deliver(&mut self, device: &Device<'_, Nor>, link: &mut Link, topic: &Topic) {
        match topic {
            Topic::Order(_) => self.say_order(device, link),
            Topic::Trust(TrustFile::KeysetVersion(version))
                if *version <= self.keyset as u64 + 1 =>
            {
                let bytes = self.fleet.keysets[*version as usize - 1].clone();
                link.down.push_back((topic.clone(), bytes));
            }
            Topic::Blob(of, piece) => {
                let mut bytes = self.fleet.piece(*of, *piece).map(<[u8]>::to_vec);
                let is_chunk = matches!(piece, Piece::Chunk(_));
                if self.lies && is_chunk && self.lied.insert((*of, *piece)) {
                    bytes.iter_mut().for_each(|bytes| bytes[0] ^= 1);
                }
                link.down.extend(bytes.map(|bytes| (topic.clone(), bytes)));
            }
            _ => {}
        }
    }

    /// A gateway refuses what is more than it bears, and the device would wait.
    fn subscribe(&mut self, link: &mut Link, topic: &Topic) {
        if !link.subscribed.contains(topic) {
            link.subscribed.push(topic.clone());
        }
        if link.subscribed.len() > SUBSCRIPTIONS_MAX {
            self.fail(format!("too many subscriptions: {:?}", link.subscribed));
        }
    }

    /// The order, made for this boot if no other boot took it.
    fn say_order(&mut self, device: &Device<'_, Nor>, link: &mut Link) {
        let order = |bytes| (Topic::Order(id()), bytes);
        link.down.extend(self.rubbish.iter().cloned().map(order));
        if let Some(wish) = self.forges.map(Wish::run) {
            let (later, nonce) = (self.claims.issued + 100, Some(device.nonce()));
            let other = DeviceId::new("sensor-2").unwrap();
            let others = self.fleet.order_for(other, self.keyset, later, wish, nonce);
            let unsigned = self.fleet.order(self.keyset + 1, later, wish, nonce);
            link.down.extend([order(others), order(unsigned)]);
        }
        let seen = device.kept().generation;
        // What this device never took was signed for another boot: signed anew for this one.
        let unseen = self.order.take_if(|order| order.generation > seen).map(|order| order.wish);
        if let Some(wish) = self.wish.take().or(unseen) {
            let generation = self.claims.issued + 1;
            self.claims.issued = generation;
            let bytes = self.fleet.order(self.keyset, generation, wish, Some(device.nonce()));
            self.order = Some(Said { generation, wish, bytes });
        }
        link.down.extend(self.order.iter().map(|said| order(said.bytes.clone())));
    }

    fn change_mind(&mut self, device: &Device<'_, Nor>, link: &mut Link) {
        if let Some((phase, wish)) = self.then
            && device.machine().phase() == phase
        {
            self.then = None;
            self.wish = Some(wish);
            self.say_order(device, link);
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

    /// A message came out of the wire.
    fn hear(&mut self, device: &Device<'_, Nor>, link: &mut Link, up: &Up) {
        let (topic, report) = match up {
            Up::Subscribe(topic) => {
                self.subscribe(link, topic);
                return self.deliver(device, link, topic);
            }
            Up::Unsubscribe(topic) => return link.subscribed.retain(|other| other != topic),
            Up::Report(topic, report) => (topic, report),
        };
        let Some(bytes) = opened(topic, report) else {
            return self.fail(format!("{topic:?} is not signed by the device"));
        };
        if let Topic::Want(_) = topic {
            let want: Want = codec::decode(&bytes, 4096).unwrap();
            for piece in want.pieces {
                self.deliver(device, link, &Topic::Blob(want.of, piece));
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

enum Up {
    Report(Topic, Vec<u8>),
    Subscribe(Topic),
    Unsubscribe(Topic),
}

struct Link {
    down: VecDeque<(Topic, Vec<u8>)>,
    up: Vec<Up>,
    subscribed: Vec<Topic>,
    begun: bool,
    greeted: bool,
    dark: Rc<Cell<bool>>,
}

impl Uplink for Link {
    fn is_up(&self, _now_ms: u64) -> bool {
        true
    }

    fn carry(&mut self, _now_ms: u64) -> bool {
        std::mem::take(&mut self.begun)
    }

    fn poll(&mut self, take: &mut dyn FnMut(Message<'_>)) {
        if !std::mem::replace(&mut self.greeted, true) {
            take(Message::Broker(true));
        } else if let Some((topic, bytes)) = self.down.pop_front() {
            take(Message::Deliver(topic, &bytes));
        }
    }

    fn send(&mut self, _now_ms: u64, message: &Message<'_>) -> bool {
        // In the dark nothing leaves the device, whatever the code after the cut would say.
        if self.dark.get() {
            return true;
        }
        match message {
            Message::Publish(topic, bytes) | Message::Will(topic, bytes) => {
                self.up.push(Up::Report(topic.clone(), bytes.to_vec()));
            }
            Message::Subscribe(topic) => self.up.push(Up::Subscribe(topic.clone())),
            Message::Unsubscribe(topic) => self.up.push(Up::Unsubscribe(topic.clone())),
            _ => {}
        }
        true
    }
}
