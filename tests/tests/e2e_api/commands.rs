//! Commands that several people and programs give at once: preconditions, repetitions, pages.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::{PLAIN, Served, web};

#[tokio::test]
async fn a_command_for_another_state_changes_nothing() {
    preconditions().await.unwrap();
}

async fn preconditions() -> Result<()> {
    let served = Served::start(PLAIN).await?;
    let web = served.token("ann", "admin").await?;
    web.post("/v1/devices", &json!({ "id": "cam" })).await?.expect(200)?;
    let seen = web.get("/v1/devices/cam").await?.expect(200)?;
    let tag = seen.header("etag").to_owned();
    ensure!(tag.starts_with('"') && seen.header("cache-control") == "no-store", "{seen:?}");
    let label = json!({ "set": { "site": "lab" } });
    let with_tag = web.with("if-match", &tag);
    let labelled = with_tag.post("/v1/devices/cam/labels", &label).await?.expect(200)?;
    ensure!(labelled.header("etag") != tag, "the tag names the state");
    // Whoever still has the old page in front of him decides on what is not there any more.
    let stale = with_tag.post("/v1/devices/cam/labels", &json!({ "set": { "site": "x" } })).await?;
    ensure!(stale.expect(412)?.json()["error"]["code"] == "stale");
    with_tag.post("/v1/devices/cam/revoke", &json!(null)).await?.expect(412)?;
    let now = web.get("/v1/devices/cam").await?;
    ensure!(now.json()["labels"]["site"] == "lab" && now.json()["identity"] == "added");
    ensure!(now.header("etag") == labelled.header("etag"), "looking changes nothing");
    web.with("if-match", now.header("etag"))
        .post("/v1/devices/cam/revoke", &json!(null))
        .await?
        .expect(200)?;
    Ok(())
}

#[tokio::test]
async fn a_request_that_is_sent_again_is_done_once() {
    repetitions().await.unwrap();
}

async fn repetitions() -> Result<()> {
    let mut served = Served::start(PLAIN).await?;
    let ann = served.token("ann", "admin").await?;
    let keyed = ann.with("idempotency-key", "k-1");
    let camera = json!({ "id": "cam", "labels": { "site": "lab" } });
    let first = keyed.post("/v1/devices", &camera).await?.expect(200)?;
    ann.post("/v1/devices/cam/labels", &json!({ "unset": ["site"] })).await?.expect(200)?;
    // As a new request it would be a conflict by now.
    let again = keyed.post("/v1/devices", &camera).await?.expect(200)?;
    ensure!(again.body == first.body && again.header("idempotency-replayed") == "true");
    ann.post("/v1/devices", &camera).await?.expect(409)?;
    let other = json!({ "id": "cam-2" });
    let reused = keyed.post("/v1/devices", &other).await?.expect(422)?;
    ensure!(reused.json()["error"]["code"] == "key_reused");
    keyed.post("/v1/tokens", &camera).await?.expect(422)?;
    // The key is ann's: to somebody else it is new.
    let bob = served.token("bob", "admin").await?.with("idempotency-key", "k-1");
    bob.post("/v1/devices", &other).await?.expect(200)?;
    // What shows a secret is done once too, and the secret is not kept for it.
    let token = json!({ "name": "x", "role": "viewer", "life_s": 60 });
    let made = ann.with("idempotency-key", "k-3");
    made.post("/v1/tokens", &token).await?.expect(200)?;
    let again = made.post("/v1/tokens", &token).await?.expect(409)?;
    ensure!(again.header("idempotency-replayed") == "true" && again.json()["token"].is_null());
    // A refusal is an answer like any other, and so are they after a crash.
    let bad = ann.with("idempotency-key", "k-2");
    bad.post("/v1/devices", &json!({ "id": "Not An Id" })).await?.expect(400)?;
    ann.with("idempotency-key", &"k".repeat(256)).post("/v1/tokens", &token).await?.expect(400)?;
    served.controller.kill()?;
    served.controller.start().await?;
    let ann = web(&served.controller)?.like(&ann);
    let again =
        ann.with("idempotency-key", "k-1").post("/v1/devices", &camera).await?.expect(200)?;
    ensure!(again.body == first.body, "the answer outlives kill -9");
    let again = ann.with("idempotency-key", "k-2");
    again.post("/v1/devices", &json!({ "id": "Not An Id" })).await?.expect(400)?;
    // Nobody without a right to ask makes a note.
    let wall = ann.like(&served.token("wall", "viewer").await?);
    wall.with("idempotency-key", "k-1").post("/v1/devices", &camera).await?.expect(403)?;
    Ok(())
}

#[tokio::test]
async fn pages_miss_nothing_and_repeat_nothing_while_the_fleet_changes() {
    pages().await.unwrap();
}

async fn pages() -> Result<()> {
    let served = Served::start(PLAIN).await?;
    let web = served.token("ann", "admin").await?;
    let add = async |id: String| -> Result<()> {
        web.post("/v1/devices", &json!({ "id": id })).await?.expect(200)?;
        Ok(())
    };
    for n in 0..9 {
        add(format!("cam-{n}")).await?;
    }
    let (mut seen, mut cursor) = (Vec::<String>::new(), String::new());
    loop {
        let page = web.get(&format!("/v1/devices?limit=2{cursor}")).await?.expect(200)?.json();
        let ids = page["items"].as_array().into_iter().flatten();
        seen.extend(ids.filter_map(|item| item["id"].as_str().map(str::to_owned)));
        let Some(next) = page["next"].as_str() else { break };
        cursor = format!("&cursor={next}");
        // One that sorts before every page that is still to come.
        add(format!("aaa-{}", seen.len())).await?;
    }
    let expected: Vec<_> = (0..9).map(|n| format!("cam-{n}")).collect();
    ensure!(seen == expected, "{seen:?}");
    let lines: Vec<Value> = served.controller.cli.json("device list").await?;
    ensure!(lines.len() == 13, "the command line reads all pages: {}", lines.len());
    for wrong in ["limit=0", "limit=1001", "limit=x", "limit=-1"] {
        web.get(&format!("/v1/devices?{wrong}")).await?.expect(400)?;
    }
    let page = web.get("/v1/audit/entries?limit=3").await?.expect(200)?.json();
    let seqs: Vec<_> =
        page["items"].as_array().into_iter().flatten().map(|e| e["seq"].as_u64()).collect();
    ensure!(seqs.len() == 3 && seqs.is_sorted_by(|a, b| a > b), "the newest first: {seqs:?}");
    let next = page["next"].as_str().unwrap_or_default();
    let more = web.get(&format!("/v1/audit/entries?limit=3&cursor={next}")).await?.json();
    ensure!(more["items"][0]["seq"].as_u64().map(|seq| seq + 1) == seqs[2], "{more}");
    Ok(())
}
