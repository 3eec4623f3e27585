//! The world around one transfer: a network with weather, two sources of chunks, and a referee
//! that looks at every ask (window, budget, nothing twice) and at the end (all there, every
//! topic left). A [`Flaw`] makes the world carry out the asks wrongly.

use std::collections::{BTreeMap, BTreeSet};

use fleetway_protocol::ids::Digest;
use fleetway_protocol::limits::{CHUNK_BACKOFF_MS_MAX, CHUNK_TIMEOUT_MS, WINDOW_CHUNKS_MAX};
use fleetway_protocol::manifest::Artifact;
use fleetway_protocol::transfer::{Ask, Bitmap, Config, Event, Transfer};

use crate::rng::Rng;

/// Time from an ask to its chunk.
pub(crate) const ROUND_TRIP_MS: u64 = 40;

/// How bad the world is until `calm_at_ms`; after that nothing is lost any more.
#[derive(Clone, Debug)]
pub(crate) struct Weather {
    pub(crate) calm_at_ms: u64,
    pub(crate) lost_percent: u64,
    pub(crate) twice_percent: u64,
    pub(crate) wrong_percent: u64,
    /// Mean time between changes of the link, 0 for a link that stays.
    pub(crate) flaps_ms: u64,
    /// Sources that never answer, calm or not.
    pub(crate) retained_dead: bool,
    pub(crate) reply_dead: bool,
}

pub(crate) const CALM: Weather = Weather {
    calm_at_ms: 0,
    lost_percent: 0,
    twice_percent: 0,
    wrong_percent: 0,
    flaps_ms: 0,
    retained_dead: false,
    reply_dead: false,
};

/// How whoever carries out the asks is wrong on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    AsksTwiceAsMuch,
    ForgetsToLeave,
    AsksForWhatItHas,
    Sleeps,
    KnowsNoBudget,
}

pub(crate) struct World {
    pub(crate) transfer: Transfer,
    pub(crate) config: Config,
    chunks: u32,
    chunk_bytes: u32,
    pub(crate) now_ms: u64,
    up: bool,
    pub(crate) weather: Weather,
    rng: Rng,
    pub(crate) flaw: Option<Flaw>,
    /// Chunks on their way: when, which, right or wrong.
    pub(crate) arrivals: BTreeMap<(u64, u64), (u32, bool)>,
    sent: u64,
    pub(crate) subscribed: BTreeSet<u32>,
    /// Asked for and not there yet.
    open: BTreeSet<u32>,
    pub(crate) have: BTreeSet<u32>,
    /// Chunks that were on disk when the transfer began.
    resumed: BTreeSet<u32>,
    spent: Vec<(u64, u64)>,
    pub(crate) subscribes: u32,
    pub(crate) wants: u32,
    ticked_at_ms: Option<u64>,
}

impl World {
    pub(crate) fn new(
        chunks: u32,
        have: &[u32],
        config: Config,
        weather: Weather,
        seed: u64,
    ) -> Self {
        let chunk_bytes = 1000;
        let artifact = Artifact {
            digest: Digest([1; 32]),
            bytes: chunks * chunk_bytes - 7,
            chunk_bytes,
            chunk_list: Digest([2; 32]),
        };
        let mut bitmap = Bitmap::default();
        have.iter().for_each(|n| bitmap.set(*n));
        let bitmap = Bitmap::from_bytes(bitmap.as_bytes());
        let have: BTreeSet<_> = have.iter().copied().filter(|n| *n < chunks).collect();
        Self {
            transfer: Transfer::new(&artifact, bitmap, config, 0, true),
            config,
            chunks,
            chunk_bytes,
            now_ms: 0,
            up: true,
            weather,
            rng: Rng::new(seed),
            flaw: None,
            arrivals: BTreeMap::new(),
            sent: 0,
            subscribed: BTreeSet::new(),
            open: BTreeSet::new(),
            resumed: have.clone(),
            have,
            spent: Vec::new(),
            subscribes: 0,
            wants: 0,
            ticked_at_ms: None,
        }
    }

    fn percent(&mut self, percent: u64) -> bool {
        self.now_ms < self.weather.calm_at_ms && self.rng.below(100) < percent
    }

    /// A chunk leaves for here, if the weather lets it.
    fn send(&mut self, chunk: u32, dead: bool) {
        if dead || self.percent(self.weather.lost_percent) {
            return;
        }
        for _ in 0..1 + u64::from(self.percent(self.weather.twice_percent)) {
            let wrong = self.percent(self.weather.wrong_percent);
            let late = if self.percent(20) { self.rng.below(12_000) } else { 0 };
            self.sent += 1;
            let at = (self.now_ms + ROUND_TRIP_MS + late, self.sent);
            self.arrivals.insert(at, (chunk, !wrong));
        }
    }

    /// Everything that the transfer wants done now, looked at by the referee.
    pub(crate) fn drain(&mut self) -> Result<(), String> {
        for _ in 0..100 {
            let Some(ask) = self.transfer.poll(self.now_ms) else { return self.check_timeout() };
            let times = 1 + u32::from(self.flaw == Some(Flaw::AsksTwiceAsMuch));
            match ask {
                Ask::Unsubscribe(_) if self.flaw == Some(Flaw::ForgetsToLeave) => {}
                Ask::Unsubscribe(n) => {
                    if !self.subscribed.remove(&n) {
                        return Err(format!("leaves {n}, which is not subscribed"));
                    }
                }
                Ask::Subscribe(n) | Ask::Want(n) => {
                    for more in 0..times {
                        self.check_ask(n + more * 100)?;
                    }
                    match ask {
                        Ask::Subscribe(_) => {
                            self.subscribes += 1;
                            self.subscribed.insert(n);
                            self.send(n, self.weather.retained_dead);
                        }
                        _ => {
                            self.wants += 1;
                            self.send(n, self.weather.reply_dead);
                        }
                    }
                }
            }
        }
        Err("poll never ends".into())
    }

    fn check_ask(&mut self, n: u32) -> Result<(), String> {
        let n = match self.have.first() {
            Some(there) if self.flaw == Some(Flaw::AsksForWhatItHas) => *there,
            _ => n,
        };
        if !self.up {
            return Err("asks over a link that is down".into());
        }
        if self.have.contains(&n) || self.resumed.contains(&n) {
            return Err(format!("asks for {n}, which is there"));
        }
        self.open.insert(n);
        if self.open.len() > usize::from(self.config.window_chunks).clamp(1, WINDOW_CHUNKS_MAX) {
            return Err(format!("{} in flight", self.open.len()));
        }
        self.spent.push((self.now_ms, u64::from(self.chunk_bytes)));
        self.check_budget()
    }

    /// In any stretch of time: the rate, and two chunks or a second's worth and a chunk.
    fn check_budget(&self) -> Result<(), String> {
        let rate = u64::from(self.config.bytes_per_s);
        if rate == 0 {
            return Ok(());
        }
        let slack = rate.max(u64::from(self.chunk_bytes)) + u64::from(self.chunk_bytes);
        let mut bytes = 0;
        for (at_ms, spent) in self.spent.iter().rev() {
            bytes += spent;
            let allowed = rate * (self.now_ms - at_ms) / 1000 + slack;
            if bytes > allowed {
                return Err(format!("{bytes} bytes in {} ms", self.now_ms - at_ms));
            }
        }
        Ok(())
    }

    /// While the link is up and something is missing there is a time to wake, and after a tick
    /// it is later than now: neither asleep for ever nor spinning.
    fn check_timeout(&self) -> Result<(), String> {
        let at_ms = self.timeout();
        match at_ms {
            None if self.up && !self.transfer.is_complete() => Err("sleeps for ever".into()),
            Some(at_ms) if at_ms <= self.now_ms && self.ticked_at_ms == Some(self.now_ms) => {
                Err("spins".into())
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn timeout(&self) -> Option<u64> {
        self.transfer.poll_timeout().filter(|_| self.flaw != Some(Flaw::Sleeps))
    }

    pub(crate) fn handle(&mut self, event: Event) -> Result<(), String> {
        if let Event::Stored(n) = event {
            self.have.insert(n);
            self.open.remove(&n);
        }
        if event == Event::Tick {
            self.ticked_at_ms = Some(self.now_ms);
        }
        self.transfer.handle(self.now_ms, event);
        self.drain()
    }

    pub(crate) fn change_link(&mut self, up: bool) -> Result<(), String> {
        if up == self.up {
            return Ok(());
        }
        self.up = up;
        if up {
            // The link's own table is subscribed again, and brings what is retained.
            for n in self.subscribed.clone() {
                self.send(n, self.weather.retained_dead);
            }
        } else {
            self.arrivals.clear();
        }
        self.handle(if up { Event::Up } else { Event::Down })
    }

    pub(crate) fn arrive(&mut self) -> Result<(), String> {
        let Some((_, (chunk, right))) = self.arrivals.pop_first() else { return Ok(()) };
        if self.transfer.wants(chunk) {
            self.handle(if right { Event::Stored(chunk) } else { Event::Bad(chunk) })?;
        }
        Ok(())
    }

    /// Runs until all is there, at most until `until_ms`.
    pub(crate) fn run(&mut self, until_ms: u64) -> Result<(), String> {
        let mut flap_at_ms = self.next_flap();
        self.drain()?;
        while !self.transfer.is_complete() && self.now_ms < until_ms {
            let arrival = self.arrivals.keys().next().map(|k| k.0);
            let next = [arrival, self.timeout(), flap_at_ms].into_iter().flatten().min();
            let Some(next) = next else { return Err("nothing will ever happen".into()) };
            self.now_ms = self.now_ms.max(next);
            if arrival == Some(next) {
                self.arrive()?;
            } else if flap_at_ms == Some(next) {
                let calm = self.now_ms >= self.weather.calm_at_ms;
                self.change_link(calm || !self.up)?;
                flap_at_ms = self.next_flap().filter(|_| !calm);
            } else {
                self.handle(Event::Tick)?;
            }
        }
        if !self.transfer.is_complete() {
            return Err(format!("incomplete: {:?}", self.transfer.progress()));
        }
        self.check_end()
    }

    fn next_flap(&mut self) -> Option<u64> {
        let mean = self.weather.flaps_ms;
        (mean > 0).then(|| self.now_ms + 1 + self.rng.below(2 * mean))
    }

    fn check_end(&self) -> Result<(), String> {
        if !self.subscribed.is_empty() {
            return Err(format!("still subscribed: {:?}", self.subscribed));
        }
        if self.transfer.subscribed().next().is_some() {
            return Err("believes that it is subscribed".into());
        }
        let all: BTreeSet<_> = (0..self.chunks).collect();
        if self.have != all {
            return Err("says that it is complete and is not".into());
        }
        Ok(())
    }

    /// Longest time that it may take once nothing is lost any more.
    pub(crate) fn enough_ms(&self) -> u64 {
        let rate = u64::from(self.config.bytes_per_s);
        let bytes = u64::from(self.chunks) * u64::from(self.chunk_bytes);
        // Each chunk may be asked for at the dead source first; the last waits are the longest.
        let asks = u64::from(self.chunks) * CHUNK_TIMEOUT_MS * 5 / 4 + 3 * CHUNK_BACKOFF_MS_MAX;
        asks + (4 * bytes * 1000).checked_div(rate).unwrap_or(0)
    }
}
