//! How long a person waits for a view of a fleet of ten thousand devices: a real controller, a real
//! browser on the same machine, from the click to the browser's load event.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tokio::task::JoinSet;

use super::figures::{Figures, quantile};
use crate::browser;
use crate::harness::Controller;
use crate::harness::http::Web;
use crate::harness::views::RunFile;

/// Devices of the fleet.
const DEVICES: usize = 10_000;
/// Commands under way at once while they are added.
const AT_ONCE: usize = 16;
/// Loads of each view.
const TIMES: usize = 9;
/// What is aimed at for each, milliseconds.
const AIM_MS: f64 = 200.0;
/// The views, and the names of their figures.
const VIEWS: [(&str, &str); 6] = [
    ("/", "page_overview_ms"),
    ("/devices", "page_devices_ms"),
    ("/devices?q=site%3Ds7&page=2", "page_filter_ms"),
    ("/devices/cam-05000", "page_device_ms"),
    ("/rollouts/1", "page_rollout_ms"),
    ("/rollouts/new?release=digits%40v1", "page_plan_ms"),
];

/// The median load of each view.
pub(super) async fn loads(figures: &mut Figures) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut controller = Controller::init(dir.path(), None, false).await?;
    controller.configure_enroll("\n[api]\nlisten = \"127.0.0.1:0\"")?;
    controller.start().await?;
    let run = std::fs::read(controller.data().join("run.json")).context("run.json")?;
    let run: RunFile = serde_json::from_slice(&run).context("run.json")?;
    let base = run.api_url.context("no API on the network")?;
    let token = controller.cli.ok("token create bench --role operator --expires 1h").await?.stdout;
    let web = Web::new(&base, None)?.bearer(token.trim());
    controller.release("digits-v1", "v1", "").await?;
    add_devices(&web).await?;
    // Nobody is there: each of them has its reason, which is what the rollout's view gathers.
    let rollout = json!({ "model": "digits", "version": "v1" });
    web.post("/v1/rollouts", &rollout).await?.expect(200)?;
    let views: Vec<&str> = VIEWS.iter().map(|(view, _)| *view).collect();
    let instructions =
        json!({ "base": base, "token": token.trim(), "views": views, "times": TIMES });
    let file = dir.path().join("load.json");
    std::fs::write(&file, instructions.to_string()).context("instructions")?;
    let said = tokio::task::spawn_blocking(move || browser::run("web/load.mjs", &file)).await??;
    let mut loads: BTreeMap<String, Vec<f64>> = serde_json::from_str(&said).context("loads")?;
    for (view, name) in VIEWS {
        let loads = loads.get_mut(view).with_context(|| format!("{view} was not loaded"))?;
        ensure!(loads.len() == TIMES, "{} loads of {view}", loads.len());
        let how = format!(
            "{view}, {DEVICES} devices, click to load event in Chromium, median of {TIMES}, slowest {:.0}",
            quantile(loads, 1000)
        );
        figures.add(name, quantile(loads, 500), Some(AIM_MS), how);
    }
    controller.stop().await
}

async fn add_devices(web: &Web) -> Result<()> {
    let mut under_way = JoinSet::new();
    for n in 0..DEVICES {
        if under_way.len() >= AT_ONCE {
            under_way.join_next().await.context("nothing was under way")???;
        }
        let web = web.clone();
        under_way.spawn(async move {
            let (id, site) = (format!("cam-{n:05}"), format!("s{}", n % 40));
            let device = json!({ "id": id, "labels": { "site": site } });
            web.post("/v1/devices", &device).await?.expect(200).map(drop)
        });
    }
    while let Some(done) = under_way.join_next().await {
        done??;
    }
    Ok(())
}
