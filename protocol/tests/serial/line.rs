//! A line between two ends, two applications that number their messages, and a referee who looks
//! at what comes out.
//!
//! The line is one of 115,200 baud in steps of a millisecond. Applications send messages of any
//! length, some longer than a frame by far, and take what comes after a pause of their own.

use std::collections::VecDeque;

use fleetway_protocol::serial::{Config, FRAME_WIRE_BYTES_MAX, Link};

use crate::rng::Rng;

/// Bytes that the line carries in a millisecond each way.
const BYTES_PER_MS: usize = 11;
/// Messages that each end's application sends in its last life.
const MESSAGES: u32 = 12;
/// Longest message: more frames than the widest window.
const MESSAGE_BYTES: usize = 2_500;
/// Everything has come this long after the line is good, or it never will.
const PATIENCE_MS: u64 = 60_000;

/// How bad the line is until `calm_at_ms`. Of a million bytes so many are altered, begin a gap,
/// or begin a piece that comes again later.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    pub(crate) calm_at_ms: u64,
    pub(crate) flips_ppm: u64,
    pub(crate) lost_ppm: u64,
    pub(crate) repeats_ppm: u64,
    /// Mean time between cuts, 0 for none.
    pub(crate) cuts_ms: u64,
    /// Mean time between starts of either end, 0 for none.
    pub(crate) restarts_ms: u64,
    /// Sessions are numbered by counted boots instead of at random.
    pub(crate) boots_counted: bool,
}

pub(crate) const CALM: Weather = Weather {
    calm_at_ms: 0,
    flips_ppm: 0,
    lost_ppm: 0,
    repeats_ppm: 0,
    cuts_ms: 0,
    restarts_ms: 0,
    boots_counted: false,
};

/// What happened, so that a test can say that something did.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) sessions: u32,
    pub(crate) again: u32,
    pub(crate) broken: u32,
    pub(crate) cuts: u32,
    pub(crate) restarts: u32,
    /// Messages that came once more, in a later session.
    pub(crate) twice: u32,
}

/// What an application has taken last: of which life of the other end, which number, and in
/// which session of this end's.
#[derive(Clone, Copy)]
struct Last {
    life: u32,
    number: u32,
    session: u32,
}

struct End {
    link: Link<MESSAGE_BYTES, MESSAGE_BYTES>,
    life: u32,
    next: u32,
    last: Option<Last>,
    /// Starts since it took something: with each a message may go that was whole already.
    starts: u32,
    /// The application takes the message that is there at this time.
    takes_at_ms: Option<u64>,
    /// The session in which that message came.
    came_in: u32,
    /// Bytes on their way to the other end.
    wire: VecDeque<u8>,
    /// Bytes that went before, for repeats.
    past: Vec<u8>,
}

pub(crate) struct World {
    weather: Weather,
    rng: Rng,
    now_ms: u64,
    ends: [End; 2],
    cut_until_ms: u64,
    seen: Seen,
}

fn config() -> Config {
    Config::for_baud(115_200, 4)
}

fn session(rng: &mut Rng, weather: &Weather, end: u32, life: u32) -> u32 {
    if weather.boots_counted { 1 + life + 1000 * end } else { rng.next() as u32 }
}

impl World {
    pub(crate) fn new(seed: u64, weather: Weather) -> Self {
        let mut rng = Rng::new(seed);
        let ends = [0, 1].map(|end| End {
            link: Link::new(session(&mut rng, &weather, end, 0), config()),
            life: 0,
            next: 0,
            last: None,
            starts: 0,
            takes_at_ms: None,
            came_in: 0,
            wire: VecDeque::new(),
            past: Vec::new(),
        });
        Self { weather, rng, now_ms: 0, ends, cut_until_ms: 0, seen: Seen::default() }
    }

    /// Until everything has come.
    pub(crate) fn run(&mut self) -> Result<Seen, String> {
        loop {
            self.now_ms += 1;
            self.change();
            for at in 0..2 {
                self.carry(at);
                self.application(at)?;
                self.transmit(at);
            }
            if self.now_ms >= self.weather.calm_at_ms && self.is_done() {
                for end in &self.ends {
                    self.seen.sessions += end.link.counts().sessions;
                    self.seen.again += end.link.counts().again;
                    self.seen.broken += end.link.counts().broken;
                }
                return Ok(self.seen);
            }
            if self.now_ms > self.weather.calm_at_ms + PATIENCE_MS {
                let heard = self.ends.each_ref().map(|end| end.last.map(|last| last.number));
                return Err(format!("not everything came: of {MESSAGES} at last {heard:?}"));
            }
        }
    }

    fn is_calm(&self) -> bool {
        self.now_ms >= self.weather.calm_at_ms
    }

    fn is_done(&self) -> bool {
        [0, 1].into_iter().all(|at| {
            let (sender, end) = (&self.ends[1 - at], &self.ends[at]);
            let is_through = sender.next == MESSAGES && sender.link.is_free();
            let next = end.last.filter(|last| last.life == sender.life).map_or(0, |l| l.number + 1);
            is_through && end.link.message().is_none() && next + end.starts >= MESSAGES
        })
    }

    fn chance(&mut self, mean_ms: u64) -> bool {
        mean_ms > 0 && !self.is_calm() && self.rng.below(mean_ms) == 0
    }

    /// The line is cut, an end starts anew.
    fn change(&mut self) {
        if self.chance(self.weather.cuts_ms) {
            self.cut_until_ms = self.now_ms + self.rng.below(15_000);
            self.seen.cuts += 1;
        }
        for at in 0..2 {
            if self.chance(self.weather.restarts_ms) {
                self.seen.restarts += 1;
                let life = self.ends[at].life + 1;
                let session = session(&mut self.rng, &self.weather, at as u32, life);
                let end = &mut self.ends[at];
                self.seen.again += end.link.counts().again;
                self.seen.broken += end.link.counts().broken;
                end.starts += 1;
                end.link = Link::new(session, config());
                // What it heard it has forgotten; the referee only forgets the session.
                (end.life, end.next, end.takes_at_ms) = (life, 0, None);
                end.last = end.last.map(|last| Last { session: u32::MAX, ..last });
            }
        }
    }

    /// What arrives at an end in this millisecond.
    fn carry(&mut self, at: usize) {
        let from = 1 - at;
        let is_cut = self.now_ms < self.cut_until_ms && !self.is_calm();
        for _ in 0..BYTES_PER_MS {
            let Some(mut byte) = self.ends[from].wire.pop_front() else { return };
            if is_cut {
                continue;
            }
            if !self.is_calm() {
                if self.rng.below(1_000_000) < self.weather.flips_ppm {
                    byte ^= 1 << self.rng.below(8);
                }
                if self.rng.below(1_000_000) < self.weather.lost_ppm {
                    let gap = self.rng.index(300).min(self.ends[from].wire.len());
                    self.ends[from].wire.drain(..gap);
                    continue;
                }
                if self.rng.below(1_000_000) < self.weather.repeats_ppm {
                    self.repeat(from);
                }
            }
            self.ends[at].link.receive(self.now_ms, &[byte]);
        }
    }

    /// A piece of what went before, whole frames of it perhaps, comes again.
    fn repeat(&mut self, from: usize) {
        let past = &self.ends[from].past;
        let start = self.rng.index(past.len());
        let end = (start + self.rng.index(800)).min(past.len());
        let piece = past[start..end].to_vec();
        for byte in piece.into_iter().rev() {
            self.ends[from].wire.push_front(byte);
        }
    }

    fn transmit(&mut self, at: usize) {
        let end = &mut self.ends[at];
        let mut wire = [0; FRAME_WIRE_BYTES_MAX];
        // A port's own buffer is not endless.
        while end.wire.len() < FRAME_WIRE_BYTES_MAX {
            let Some(bytes) = end.link.poll_transmit(self.now_ms, &mut wire) else { return };
            end.wire.extend(bytes);
            end.past.extend(bytes);
        }
    }

    fn application(&mut self, at: usize) -> Result<(), String> {
        let now_ms = self.now_ms;
        let end = &mut self.ends[at];
        if end.next < MESSAGES && end.link.is_free() && self.rng.below(20) == 0 {
            let text = message(at, end.life, end.next);
            let (head, body) = text.split_at(text.len() / 3);
            end.link.send(now_ms, &[head, body]).map_err(|error| error.to_string())?;
            end.next += 1;
        }
        if end.link.message().is_some() && end.takes_at_ms.is_none() {
            end.came_in = end.link.counts().sessions;
            end.takes_at_ms = Some(now_ms + self.rng.below(50) * self.rng.below(10));
        }
        if end.takes_at_ms.is_some_and(|at_ms| now_ms >= at_ms) {
            end.takes_at_ms = None;
            let taken = end.link.message().map(<[u8]>::to_vec).ok_or("a message went away")?;
            self.judge(at, &taken)?;
            self.ends[at].link.release();
        }
        Ok(())
    }

    /// Within a session: every message once, the next one each time, exactly as it was sent.
    fn judge(&mut self, at: usize, taken: &[u8]) -> Result<(), String> {
        let field = |n: usize| {
            let bytes = taken.get(4 * n..4 * n + 4).and_then(|b| b.try_into().ok());
            bytes.map(u32::from_le_bytes).ok_or("a message without its head")
        };
        let (life, number) = (field(0)?, field(1)?);
        if taken != message(1 - at, life, number) {
            return Err(format!("message {number} of life {life} came altered"));
        }
        let session = self.ends[at].came_in;
        let now = Last { life, number, session };
        let starts = std::mem::take(&mut self.ends[at].starts);
        let last = self.ends[at].last.replace(now);
        let fits = match last {
            Some(last) if life == last.life && number == last.number => {
                self.seen.twice += 1;
                session != last.session
            }
            Some(last) if life < last.life => false,
            Some(last) if life == last.life => {
                (last.number + 1..=last.number + 1 + starts).contains(&number)
            }
            _ => number <= starts,
        };
        if !fits {
            let last = last.map(|last| (last.life, last.number, last.session));
            return Err(format!("end {at} took ({life}, {number}, {session}) after {last:?}"));
        }
        Ok(())
    }
}

/// The message that an end sends as its `number`th in a life.
fn message(end: usize, life: u32, number: u32) -> Vec<u8> {
    let mut rng = Rng::new(u64::from(life) << 32 | u64::from(number) << 1 | end as u64);
    let bytes = match rng.below(3) {
        0 => 8,
        1 => 8 + rng.index(300),
        _ => 8 + rng.index(MESSAGE_BYTES - 8),
    };
    let mut message = [life.to_le_bytes(), number.to_le_bytes()].concat();
    let zeros = rng.below(2) == 0;
    message.resize_with(bytes, || if zeros { 0 } else { rng.next() as u8 });
    message
}
