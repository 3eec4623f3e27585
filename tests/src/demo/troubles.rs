//! What happens to real fleets: a device dies in the middle of a download, and the
//! network is gone for a while.

use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::time::sleep;

use super::story::{DEVICES, ROLLOUT_TIME, Story};
use crate::harness::views::DeviceModel;
use crate::harness::wait;

/// How much of the pieces the device must have reported when it is killed, in percent.
const KILL_FROM: u32 = 30;
const KILL_TO: u32 = 70;
/// A report is up to a quarter second old: pull the trigger while there is room.
const TRIGGER: std::ops::RangeInclusive<u32> = 38..=55;
/// How long the network is gone.
const CUT: Duration = Duration::from_secs(5);

fn percent(model: &DeviceModel) -> u32 {
    (100 * model.have).checked_div(model.total).unwrap_or(0)
}

/// Kills one agent with SIGKILL in the middle of its download, and starts it again.
pub(super) async fn kill_in_download(story: &mut Story, id: u64, canary: &str) -> Result<String> {
    story.say("Now the others download. One of them gets SIGKILL in the middle of it:");
    let (victim, before) = wait::until("a device in mid-download", ROLLOUT_TIME, async || {
        let rollout = story.fleet.controller.rollout_status(id).await?;
        let found = rollout.devices.iter().filter(|d| d.id != canary).find_map(|device| {
            let model = device.model.as_ref()?;
            let fits = TRIGGER.contains(&percent(model)) && model.total >= 16;
            fits.then(|| (device.id.clone(), model.clone()))
        });
        let Some(found) = found else { anyhow::bail!("{}", progress(&rollout.devices)) };
        Ok(found)
    })
    .await?;
    let at = story.fleet.at(&victim)?;
    story.fleet.feeders[at].expect_down(true);
    story.fleet.agents[at].kill()?;
    println!("$ kill -9 <agent of {victim}>");
    let connections = story.fleet.proxy.connections().len();
    // What it had sent before it died may still be on the line.
    sleep(Duration::from_millis(700)).await;
    let device = story.fleet.controller.device(&victim).await?;
    let model = device.digits().cloned().unwrap_or(before);
    let claim = format!(
        "{victim} was killed at {} % of its download ({} of {} pieces reported)",
        percent(&model),
        model.have,
        model.total
    );
    let fits = (KILL_FROM..=KILL_TO).contains(&percent(&model));
    story.check(fits, &claim, || format!("wanted {KILL_FROM} to {KILL_TO} %"))?;
    println!("$ fleetway-agent run --config …/{victim}/agent.toml &");
    story.fleet.agents[at].start().await?;
    resumed(story, at, &model, connections).await?;
    story.note(&victim, "killed in mid-download of v2");
    Ok(victim)
}

/// It answers with what it had, and fetches only what it lacks.
async fn resumed(
    story: &mut Story,
    at: usize,
    killed: &DeviceModel,
    connections: usize,
) -> Result<()> {
    let victim = story.fleet.agents[at].id.clone();
    let answered = story.fleet.feeders[at].books().answers();
    wait::until(&format!("{victim} to answer again"), Duration::from_secs(10), async || {
        ensure!(story.fleet.feeders[at].books().answers() > answered, "no answer yet");
        Ok(())
    })
    .await?;
    story.fleet.feeders[at].expect_down(false);
    let version = story.fleet.feeders[at].books().version.unwrap_or_default();
    let claim = format!("{victim} answers again, with v1, which it had");
    story.check(version == "v1", &claim, || format!("with {version:?}"))?;
    let mut least = u32::MAX;
    wait::until(&format!("{victim} to finish its download"), ROLLOUT_TIME, async || {
        let device = story.fleet.controller.device(&victim).await?;
        let Some(model) = device.digits().filter(|_| device.online) else {
            anyhow::bail!("{victim} is not online yet");
        };
        if model.total == killed.total {
            least = least.min(model.have);
        }
        let runs = device.runs().unwrap_or("nothing");
        ensure!(runs == "v2", "it runs {runs}, has {} of {}", model.have, model.total);
        Ok(())
    })
    .await?;
    let later = story.fleet.proxy.connections().split_off(connections);
    let carried: u64 = later.iter().map(|connection| connection.down).sum();
    let came_back = if least > killed.total { "all".to_owned() } else { least.to_string() };
    let claim = format!(
        "it went on where it was: it came back with {came_back} pieces ({:.1} kB came in since, \
         greetings included)",
        carried as f64 / 1000.0
    );
    story.check(least >= killed.have, &claim, || format!("it had {}", killed.have))
}

/// The network is gone in the middle of an update of everybody.
pub(super) async fn cut(story: &mut Story) -> Result<()> {
    story.section("The network goes away in the middle of an update");
    story.say("v2.1 has the bytes of v2 under a new number.");
    story.release("digits-v2", "v2.1", "").await?;
    let id = story.start_rollout("v2.1", "--phase 100% --soak 0s --max-unavailable 100%").await?;
    wait::until("downloads under way", ROLLOUT_TIME, async || {
        let rollout = story.fleet.controller.rollout_status(id).await?;
        let models = || rollout.devices.iter().filter_map(|d| d.model.as_ref());
        let under_way = models().filter(|m| m.total > 0 && percent(m) >= 20).count();
        ensure!(under_way >= DEVICES / 2, "{}", progress(&rollout.devices));
        Ok(())
    })
    .await?;
    story.fleet.proxy.cut();
    println!("$ (the proxy between devices and broker is cut for {} s)", CUT.as_secs() + 1);
    // What was on its way arrives in the first second.
    sleep(Duration::from_secs(1)).await;
    let (answers_before, heard_before) = (answers(story), heard(story).await?);
    sleep(CUT).await;
    let (answers_after, heard_after) = (answers(story), heard(story).await?);
    story.operator("device list", 0).await?;
    story.say("(a device counts as offline when its line is broken for 10 s)");
    let silent = heard_before == heard_after;
    story.check(silent, "the controller hears nobody any more", || {
        format!("{heard_before:?}, then {heard_after:?}")
    })?;
    let during: Vec<u64> =
        answers_after.iter().zip(&answers_before).map(|(now, then)| now - then).collect();
    let least = during.iter().copied().min().unwrap_or(0);
    let sum: u64 = during.iter().sum();
    let claim = format!("the devices went on answering: {sum} answers, at least {least} on each");
    story.check(least >= 30, &claim, || format!("{during:?}"))?;
    story.fleet.proxy.heal();
    println!("$ (the network is back)");
    let rollout = story.wait_rollout(id, 0).await?;
    let confirmed = rollout.counts.confirmed;
    let claim = "all devices came back by themselves, went on, and confirmed v2.1";
    story.check(confirmed == DEVICES, claim, || format!("{confirmed} of {DEVICES} did"))?;
    story.check_none_missed("through the cut")
}

fn answers(story: &Story) -> Vec<u64> {
    story.fleet.feeders.iter().map(|feeder| feeder.books().answers()).collect()
}

/// When each device was last heard.
async fn heard(story: &Story) -> Result<Vec<Option<u64>>> {
    let devices = story.fleet.controller.devices().await?;
    Ok(devices.iter().map(|device| device.last_seen_s).collect())
}

fn progress(devices: &[crate::harness::views::RolloutDevice]) -> String {
    let one = |device: &crate::harness::views::RolloutDevice| {
        let model = device.model.as_ref();
        let (have, total) = model.map_or((0, 0), |m| (m.have, m.total));
        format!("{} {have}/{total}", device.id)
    };
    devices.iter().map(one).collect::<Vec<_>>().join(", ")
}
