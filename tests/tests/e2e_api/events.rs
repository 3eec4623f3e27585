//! The stream of events: what happens comes, and whoever was away gets what he missed.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use fleetway_tests::harness::http::Web;
use http_body_util::BodyExt as _;
use hyper::Method;
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{PLAIN, Served};

const WAIT: Duration = Duration::from_secs(15);

#[derive(Debug)]
struct Event {
    id: Option<u64>,
    what: String,
    data: Value,
}

struct Stream {
    body: Incoming,
    rest: String,
}

impl Stream {
    async fn open(web: &Web) -> Result<Self> {
        let answer = web.begin(Method::GET, "/v1/events", Default::default()).await?;
        ensure!(answer.status() == 200, "{:?}", answer.status());
        ensure!(answer.headers()["content-type"] == "text/event-stream");
        Ok(Self { body: answer.into_body(), rest: String::new() })
    }

    async fn next(&mut self) -> Result<Event> {
        loop {
            if let Some((text, rest)) = self.rest.split_once("\n\n") {
                let field = |name: &str| {
                    let prefix = format!("{name}: ");
                    text.lines().find_map(|line| line.strip_prefix(&prefix).map(str::to_owned))
                };
                let event = field("event").map(|what| Event {
                    id: field("id").and_then(|id| id.parse().ok()),
                    what,
                    data: serde_json::from_str(&field("data").unwrap_or_default())
                        .unwrap_or_default(),
                });
                self.rest = rest.to_owned();
                match event {
                    Some(event) => return Ok(event),
                    None => continue, // A heartbeat.
                }
            }
            let frame = timeout(WAIT, self.body.frame()).await.context("no event in time")?;
            let Some(frame) = frame else { bail!("the stream ended") };
            if let Ok(data) = frame?.into_data() {
                self.rest.push_str(std::str::from_utf8(&data)?);
            }
        }
    }

    async fn until(&mut self, fits: impl Fn(&Event) -> bool) -> Result<Event> {
        loop {
            let event = self.next().await?;
            if fits(&event) {
                return Ok(event);
            }
        }
    }
}

#[tokio::test]
async fn whoever_watches_hears_all_and_whoever_comes_back_hears_the_rest() {
    watched().await.unwrap();
}

async fn watched() -> Result<()> {
    let mut served = Served::start(PLAIN).await?;
    let web = served.token("ann", "admin").await?;
    ensure!(served.web.get("/v1/events").await?.status == 401);
    let add = async |id: &str| -> Result<()> {
        web.post("/v1/devices", &json!({ "id": id })).await?.expect(200)?;
        Ok(())
    };
    let added =
        |id: &'static str| move |e: &Event| e.data["text"] == format!("added {id} with no labels");
    let mut stream = Stream::open(&web).await?;
    let hello = stream.next().await?;
    ensure!(hello.what == "hello" && hello.data["resumed"] == false, "{hello:?}");
    add("a").await?;
    let event = stream.until(added("a")).await?;
    ensure!(event.what == "audit" && event.id > hello.id, "{event:?}");
    let changed = stream.until(|e| e.what == "devices").await?;
    ensure!(changed.data["ids"] == json!(["a"]) && changed.id.is_none(), "{changed:?}");
    drop(stream);
    // Away: two more.
    let last = event.id.context("an id")?.to_string();
    add("b").await?;
    add("c").await?;
    let mut stream = Stream::open(&web.with("last-event-id", &last)).await?;
    let mut ids = vec![event.id];
    loop {
        let event = stream.next().await?;
        if event.what == "hello" {
            ensure!(event.data["resumed"] == true && event.id == ids[ids.len() - 1], "{event:?}");
            break;
        }
        ids.push(event.id);
    }
    ensure!(ids.windows(2).all(|w| w[0].map(|id| id + 1) == w[1]) && ids.len() >= 3, "{ids:?}");
    // One that is of another log, or too old, is told to read all again.
    let mut lost = Stream::open(&web.with("last-event-id", "999999")).await?;
    ensure!(lost.next().await?.data["resumed"] == false);
    web.with("last-event-id", "x").get("/v1/events").await?.expect(400)?;
    // A stop ends the streams with a word, and is not held up by them.
    let stopping = std::time::Duration::from_secs(10);
    timeout(stopping, served.controller.stop()).await.context("the stop hangs")??;
    let end = stream.until(|e| e.what == "end").await?;
    ensure!(end.data["why"] == "stopping", "{end:?}");
    Ok(())
}
