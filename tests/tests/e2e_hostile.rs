//! A broker in the attacker's hands gets nowhere.
//!
//! Real controller, real agents, real applications; between them somebody with the broker's
//! own certificate who drops, repeats, reorders, mutates, truncates, withholds, replays,
//! cross-wires and forges ([`fleetway_tests::hostile`]), on what passes during rollouts and
//! on everything that passed before. In the end: nothing ran that was not released, no
//! generation went down, nobody crashed, no application missed an answer, and as soon as
//! the broker is honest again the fleet takes the next release.
//!
//! Which check refused what is counted by agents and controller themselves (`refused` and
//! `late` in `fleetway-agent status -o json`, `reports_refused` in `fleetway status -o json`)
//! and printed per kind of mischief. Each kind has a list of checks that it must reach: one
//! that it did not reach shows nothing. What takes messages away reaches no check; there it is
//! what noticed. `FLEETWAY_SEED` repeats the choices, `FLEETWAY_MUTATIONS` sets their number.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fleetway_tests::bench::padded;
use fleetway_tests::harness::agent::AgentStatus;
use fleetway_tests::harness::controller::golden_of;
use fleetway_tests::harness::together::{report, seed};
use fleetway_tests::harness::views::Status;
use fleetway_tests::harness::{BrokerKind, Fleet, FleetSpec, wait};
use fleetway_tests::hostile::attack::{Attack, Class, Kind};
use tokio::time::{Instant, sleep};

/// Pieces of mischief in all, unless told otherwise.
const MUTATIONS: u64 = 100_000;
/// Messages taken away per kind that does so.
const TAKEN_AWAY: u64 = 2_000;
/// Devices.
const DEVICES: usize = 4;
/// Pause between two questions of an application.
const ASK: Duration = Duration::from_millis(25);
/// How devices judge a release here.
const JUDGE: &str = "--probation 1s --answers 10";
/// Everybody at once; what an attack costs must not stop the rollout for the others.
const ALL: &str = "--phase 100% --soak 0s --max-unavailable 100% --failures-max 100";
/// Small pieces of a large model, so that there is much to tamper with and to take away, and a
/// download lasts while it is attacked.
const CHUNKS: &str = "--chunk-bytes 512";
/// At this rate the large model takes longer than the mischief of one kind.
const BYTES_PER_S: u32 = 48_000;
/// The large model: 1880 pieces, a list holds 1920.
const MODEL_BYTES: usize = 940 * 1024;
/// Longest wait for anything, on a loaded machine.
const WAIT: Duration = Duration::from_secs(120);
/// How long it is waited until somebody notices what is missing: an order is sent again after
/// half a minute.
const NOTICE: Duration = Duration::from_secs(45);
/// Counters that do not change for this long have taken in what was sent.
const SETTLE: Duration = Duration::from_millis(400);

type Counts = BTreeMap<String, u64>;

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_broker_gets_nowhere() {
    attacks().await.unwrap();
}

async fn attacks() -> Result<()> {
    let seed = seed("e2e_hostile");
    let given = std::env::var("FLEETWAY_MUTATIONS").ok().and_then(|text| text.parse().ok());
    let invented = given.unwrap_or(MUTATIONS) / (Kind::ALL.len() as u64 - 2);
    let mut story = Story::begin(seed).await?;
    let mut table = Vec::new();
    for (number, kind) in Kind::ALL.into_iter().enumerate() {
        let aim = if kind.takes_away() { TAKEN_AWAY } else { invented };
        let before = story.counts().await?;
        story.attack(kind, aim, number).await.with_context(|| format!("{kind:?}"))?;
        let after = story.counts().await?;
        table.push((kind, story.count(kind), less(&after, &before)));
    }
    story.end().await?;
    let mut sum = 0;
    for (kind, count, reached) in &table {
        sum += count;
        report(&format!("{kind:?}: {count} ({})", words(&story.touched(*kind))));
        report(&format!("    reached {}", words(&reached.clone().into_iter().collect::<Vec<_>>())));
    }
    report(&format!("{sum} pieces of mischief in all"));
    for (kind, count, reached) in &table {
        ensure!(*count > 0, "{kind:?} did nothing");
        for check in must_reach(*kind) {
            ensure!(reached.contains_key(*check), "{kind:?} never reached {check:?}: {reached:?}");
        }
    }
    Ok(())
}

/// What a kind must reach, all of it. Checks that only a lucky moment reaches (a release or a
/// list is asked for once) are in the printed table and not here.
fn must_reach(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Drop => &["late piece", "order resent", "piece answered"],
        Kind::Withhold => &["late piece", "late trust file", "order resent", "piece answered"],
        Kind::Repeat | Kind::Reorder | Kind::Replay => {
            &["order generation", "report old", "trust version"]
        }
        Kind::Mutate => &[
            "block decode",
            "chunk digest",
            "order decode",
            "order signature",
            "report decode",
            "report signature",
            "trust content",
            "trust signature",
        ],
        Kind::Truncate => {
            &["block decode", "chunk digest", "order decode", "report decode", "trust content"]
        }
        Kind::CrossWire => &[
            "block decode",
            "chunk digest",
            "order decode",
            "order device",
            "order generation",
            "order signature",
            "report decode",
            "report signature",
            "trust content",
            "trust version",
        ],
        Kind::Forge => &[
            "block decode",
            "chunk digest",
            "order signature",
            "report algorithm",
            "report device",
            "report signature",
            "report topic",
            "report unsigned",
            "trust signature",
        ],
    }
}

fn less(after: &Counts, before: &Counts) -> Counts {
    let new = |(check, n): (&String, &u64)| (check.clone(), n - before.get(check).unwrap_or(&0));
    after.iter().map(new).filter(|(_, n)| *n > 0).collect()
}

fn words(counts: &[(String, u64)]) -> String {
    counts.iter().map(|(what, n)| format!("{what} {n}")).collect::<Vec<_>>().join(", ")
}

struct Story {
    fleet: Fleet,
    seed: u64,
    released: BTreeSet<String>,
    /// Of the padding, so that no two releases share bytes.
    models: u64,
    generations: BTreeMap<String, u64>,
}

impl Story {
    async fn begin(seed: u64) -> Result<Self> {
        let spec = FleetSpec::new(BrokerKind::Hostile { seed }, DEVICES);
        let mut fleet = Fleet::prepare(spec).await?;
        for at in 1..=DEVICES {
            fleet.add_device(&format!("cam-{at}"), "").await?;
        }
        for agent in &fleet.agents {
            // The last table of the file is `[link]`.
            let config = std::fs::read_to_string(agent.config()).context("agent.toml")?;
            let config = format!("{config}bytes_per_s = {BYTES_PER_S}\n");
            std::fs::write(agent.config(), config).context("agent.toml")?;
        }
        fleet.start_agents().await?;
        fleet.feed(ASK);
        let (released, generations) = (BTreeSet::new(), BTreeMap::new());
        let mut story = Self { fleet, seed, released, models: 0, generations };
        // Two honest rollouts: what is old must be there to be replayed.
        for version in ["old", "first"] {
            story.release("digits-v1", version).await?;
            story.fleet.roll_out(version, JUDGE, WAIT).await?;
        }
        Ok(story)
    }

    fn broker(&self) -> Result<&Attack> {
        Ok(&self.fleet.relay.as_ref().context("nobody in the middle")?.attack)
    }

    fn count(&self, kind: Kind) -> u64 {
        self.broker().map_or(0, |attack| attack.count(kind))
    }

    fn touched(&self, kind: Kind) -> Vec<(String, u64)> {
        self.broker().map_or_else(|_| Vec::new(), |attack| attack.touched(kind))
    }

    async fn release(&mut self, model: &str, version: &str) -> Result<()> {
        self.released.insert(version.to_owned());
        self.fleet.controller.release(model, version, CHUNKS).await
    }

    /// A large one.
    async fn release_large(&mut self, version: &str) -> Result<()> {
        self.released.insert(version.to_owned());
        self.models += 1;
        let model = if self.models.is_multiple_of(2) { "digits-v1" } else { "digits-v2" };
        let path = padded::write(model, self.fleet.dir(), self.models, MODEL_BYTES)?;
        self.fleet.controller.release_file(&path, &golden_of(model), version, CHUNKS).await?;
        std::fs::remove_file(path).context("padded model")
    }

    /// One kind of mischief during rollouts, until `aim` pieces of it are done and, where
    /// messages are taken away, somebody noticed.
    async fn attack(&mut self, kind: Kind, aim: u64, number: usize) -> Result<()> {
        let started = Instant::now();
        let before = self.counts().await?;
        let mut rollouts = 0;
        let mut unnoticed = kind.takes_away();
        while self.count(kind) < aim || unnoticed {
            let late = started.elapsed() > WAIT;
            ensure!(!late, "{} of {aim} in {WAIT:?}, noticed: {}", self.count(kind), !unnoticed);
            rollouts += 1;
            let version = format!("x{number}-{rollouts}");
            self.withhold(rollouts)?;
            // What is taken away is missing from the moment of its release.
            self.broker()?.set(Some(kind).filter(|kind| kind.takes_away()));
            self.release_large(&version).await?;
            let early = rollouts.is_multiple_of(2);
            if kind.takes_away() || early {
                self.broker()?.set(Some(kind));
            }
            let id = self.fleet.controller.rollout(&version, &format!("{ALL} {JUDGE}")).await?.id;
            if kind.takes_away() {
                unnoticed = !self.noticed(kind, &before, rollouts).await?;
            } else if early {
                self.mischief(kind, aim).await?;
            } else {
                // Half of it when there are downloads to be spoilt, half at the first steps.
                self.downloading().await?;
                self.broker()?.set(Some(kind));
                self.mischief(kind, aim / 2).await?;
            }
            self.broker()?.set(None);
            // Whatever became of it: the next one takes its place.
            let _ = self.fleet.controller.cli.run(&format!("rollout abort {id}")).await?;
            self.check().await?;
        }
        Ok(())
    }

    /// Waits until a device fetches the large model.
    async fn downloading(&self) -> Result<()> {
        wait::until("a download", WAIT, async || {
            let all = self.statuses().await?;
            let mut models = all.iter().flat_map(|(_, status)| &status.models);
            ensure!(models.any(|model| model.progress.is_some()), "{all:?}");
            Ok(())
        })
        .await
    }

    /// What is kept back, if anything is: all that an order needs, or the orders, in turn.
    fn withhold(&self, rollouts: u64) -> Result<()> {
        let classes: &[Class] = match rollouts % 2 {
            1 => &[Class::Release, Class::List, Class::Chunk, Class::Trust],
            _ => &[Class::Order, Class::Report],
        };
        self.broker()?.withhold(classes);
        Ok(())
    }

    /// Waits until what this rollout can show was noticed; whether all of it was by now.
    async fn noticed(&self, kind: Kind, before: &Counts, rollouts: u64) -> Result<bool> {
        let orders = "order resent";
        let mut this: Vec<&str> = must_reach(kind).to_vec();
        if kind == Kind::Withhold {
            this.retain(|what| (*what == orders) == rollouts.is_multiple_of(2));
        }
        let from = Instant::now();
        loop {
            sleep(SETTLE).await;
            let new = less(&self.counts_now().await?, before);
            let all = |names: &[&str]| names.iter().all(|name| new.contains_key(*name));
            if all(&this) || from.elapsed() > NOTICE {
                return Ok(all(must_reach(kind)));
            }
        }
    }

    /// Invents messages on all lines for a while.
    async fn mischief(&self, kind: Kind, aim: u64) -> Result<()> {
        let attack = self.broker()?;
        let from = Instant::now();
        while attack.count(kind) < aim && from.elapsed() < Duration::from_secs(10) {
            if !attack.inject().await {
                sleep(Duration::from_millis(5)).await;
            }
        }
        Ok(())
    }

    async fn statuses(&self) -> Result<Vec<(String, AgentStatus)>> {
        let mut all = Vec::new();
        for agent in &self.fleet.agents {
            let status = agent.status().await.with_context(|| agent.id.clone())?;
            all.push((agent.id.clone(), status));
        }
        Ok(all)
    }

    /// What agents and controller refused and noticed so far.
    async fn counts_now(&self) -> Result<Counts> {
        let mut sum = Counts::new();
        let mut add = |name: String, n: u64| *sum.entry(name).or_default() += n;
        for (_, status) in self.statuses().await? {
            status.refused.into_iter().for_each(|(check, n)| add(check, n));
            status.late.into_iter().for_each(|(kind, n)| add(format!("late {kind}"), n));
        }
        let status: Status = self.fleet.controller.cli.json("status").await?;
        status.reports_refused.into_iter().for_each(|(check, n)| add(check, n));
        add("order resent".into(), status.orders_resent);
        add("piece answered".into(), status.blobs.wants_answered);
        Ok(sum)
    }

    /// The same, once they have taken in what was sent.
    async fn counts(&self) -> Result<Counts> {
        let mut last = Counts::new();
        let what = "everybody to take in what was sent";
        wait::until(what, WAIT, async || {
            let sum = self.counts_now().await?;
            let quiet = sum == last;
            last = sum.clone();
            sleep(SETTLE).await;
            ensure!(quiet, "still counting");
            Ok(sum)
        })
        .await
    }

    /// What must hold at any moment, attack or not.
    async fn check(&mut self) -> Result<()> {
        let again = format!("repeat it with FLEETWAY_SEED={}", self.seed);
        self.fleet.controller.check_running().with_context(|| again.clone())?;
        for agent in &mut self.fleet.agents {
            agent.check_running().with_context(|| again.clone())?;
        }
        for (id, status) in self.statuses().await? {
            for model in &status.models {
                let running = model.running.as_ref().context("it lost its model")?;
                let known = self.released.contains(&running.version);
                ensure!(known, "{id} runs {}, which nobody released; {again}", running.version);
            }
            let seen = self.generations.insert(id.clone(), status.generation).unwrap_or(0);
            let now = status.generation;
            ensure!(now >= seen, "{id}: generation {seen} became {now}; {again}");
        }
        self.fleet.check_no_errors().context(again)
    }

    /// An honest broker again: the fleet takes the next release.
    async fn end(&mut self) -> Result<()> {
        self.release("digits-v2", "last").await?;
        self.fleet.roll_out("last", JUDGE, WAIT).await.context("with an honest broker again")?;
        self.check().await
    }
}
