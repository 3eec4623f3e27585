//! A broker in the attacker's hands gets nowhere.
//!
//! Real controller, real agents, real applications; between them somebody with the broker's
//! own certificate who drops, repeats, reorders, mutates, truncates, withholds, replays,
//! cross-wires and forges ([`fleetway_tests::hostile`]), on what passes during rollouts and
//! on everything that passed before. In the end: nothing ran that was not released, no
//! generation went down, nobody crashed, no application missed an answer, and as soon as
//! the broker is honest again the fleet takes the next release.
//!
//! Which check refused what is counted by the agents themselves (`fleetway-agent status -o
//! json`, `refused`) and printed per kind of mischief: an attack that reached no check
//! shows nothing. `FLEETWAY_SEED` repeats the choices, `FLEETWAY_MUTATIONS` sets their
//! number.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fleetway_tests::harness::agent::AgentStatus;
use fleetway_tests::harness::together::{report, seed};
use fleetway_tests::harness::{BrokerKind, Fleet, FleetSpec, wait};
use fleetway_tests::hostile::attack::{Attack, Kind};
use tokio::time::{Instant, sleep};

/// Pieces of mischief in all, unless told otherwise.
const MUTATIONS: u64 = 100_000;
/// Messages taken away per kind that does so: there are only so many, no invented ones.
const TAKEN_AWAY: u64 = 100;
/// Devices.
const DEVICES: usize = 4;
/// Pause between two questions of an application.
const ASK: Duration = Duration::from_millis(25);
/// How devices judge a release here.
const JUDGE: &str = "--probation 1s --answers 10";
/// Everybody at once; what an attack costs must not stop the rollout for the others.
const ALL: &str = "--phase 100% --soak 0s --max-unavailable 100% --failures-max 100";
/// Small pieces, so that there is much to tamper with.
const CHUNKS: &str = "--chunk-bytes 1024";
/// Longest wait for anything, on a loaded machine.
const WAIT: Duration = Duration::from_secs(120);
/// How long each class of message is withheld at a time.
const WITHHOLD: Duration = Duration::from_millis(400);
/// Counters that do not change for this long have taken in what was sent.
const SETTLE: Duration = Duration::from_millis(400);

type Refused = BTreeMap<String, u64>;

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
        let before = story.refused().await?;
        story.attack(kind, aim, number).await.with_context(|| format!("{kind:?}"))?;
        let after = story.refused().await?;
        table.push((kind, story.count(kind), less(&after, &before)));
    }
    story.end().await?;
    let mut sum = 0;
    for (kind, count, refused) in &table {
        sum += count;
        report(&format!("{kind:?}: {count} ({})", words(&story.touched(*kind))));
        report(&format!("    reached {}", words(&refused.clone().into_iter().collect::<Vec<_>>())));
        ensure!(*count > 0, "{kind:?} did nothing");
        let reached: u64 = refused.values().sum();
        ensure!(kind.takes_away() || reached > 0, "{kind:?} reached no check");
    }
    report(&format!("{sum} pieces of mischief in all"));
    let reached: BTreeSet<&str> =
        table.iter().flat_map(|(_, _, refused)| refused.keys().map(String::as_str)).collect();
    for check in CHECKS {
        ensure!(reached.contains(check), "nothing ever reached the check {check:?}: {reached:?}");
    }
    Ok(())
}

/// Checks of an agent that something must have reached.
const CHECKS: [&str; 11] = [
    "block decode",
    "chunk digest",
    "chunk list digest",
    "order decode",
    "order device",
    "order generation",
    "order signature",
    "release digest",
    "trust content",
    "trust signature",
    "trust version",
];

fn less(after: &Refused, before: &Refused) -> Refused {
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
    generations: BTreeMap<String, u64>,
}

impl Story {
    async fn begin(seed: u64) -> Result<Self> {
        let mut fleet = Fleet::start(FleetSpec::new(BrokerKind::Hostile { seed }, DEVICES)).await?;
        fleet.feed(ASK);
        let (released, generations) = (BTreeSet::new(), BTreeMap::new());
        let mut story = Self { fleet, seed, released, generations };
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

    /// One kind of mischief during a rollout, until `aim` pieces of it are done.
    async fn attack(&mut self, kind: Kind, aim: u64, number: usize) -> Result<()> {
        let started = Instant::now();
        let mut rollouts = 0;
        while self.count(kind) < aim {
            ensure!(started.elapsed() < WAIT, "{} of {aim} in {WAIT:?}", self.count(kind));
            rollouts += 1;
            let model = if rollouts % 2 == 0 { "digits-v1" } else { "digits-v2" };
            let version = format!("x{number}-{rollouts}");
            self.release(model, &version).await?;
            self.broker()?.set(Some(kind));
            let id = self.fleet.controller.rollout(&version, &format!("{ALL} {JUDGE}")).await?.id;
            self.mischief(kind, aim).await?;
            self.broker()?.set(None);
            // Whatever became of it: the next one takes its place.
            let _ = self.fleet.controller.cli.run(&format!("rollout abort {id}")).await?;
            self.check().await?;
        }
        Ok(())
    }

    /// Invents messages on all lines for a while, or takes away what there is.
    async fn mischief(&self, kind: Kind, aim: u64) -> Result<()> {
        let attack = self.broker()?;
        let from = Instant::now();
        let mut turned = from;
        while attack.count(kind) < aim && from.elapsed() < Duration::from_secs(10) {
            if turned.elapsed() > WITHHOLD {
                turned = Instant::now();
                attack.withhold_next();
            }
            let sent = attack.inject().await;
            if !sent {
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

    /// What all agents refused so far, once they have taken in what was sent.
    async fn refused(&self) -> Result<Refused> {
        let mut last = Refused::new();
        let what = "the agents to take in what was sent";
        wait::until(what, WAIT, async || {
            let mut sum = Refused::new();
            for (_, status) in self.statuses().await? {
                status.refused.into_iter().for_each(|(c, n)| *sum.entry(c).or_default() += n);
            }
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
