//! A device reads and writes its own topics and nothing else, by what is *delivered*: with
//! the configuration that `fleetway broker config` writes, and at the embedded broker.

use std::time::Duration;

use anyhow::{Result, ensure};
use fleetway_tests::harness::{BrokerKind, Fleet, FleetSpec};

use super::client::Client;

const HEAR: Duration = Duration::from_secs(15);

#[tokio::test]
async fn at_the_embedded_broker() {
    story(BrokerKind::Embedded).await.unwrap();
}

#[tokio::test]
async fn at_mosquitto() {
    story(BrokerKind::Mosquitto).await.unwrap();
}

async fn story(broker: BrokerKind) -> Result<()> {
    let mut fleet = Fleet::prepare(FleetSpec::new(broker, 2)).await?;
    fleet.join_device("cam-1").await?;
    fleet.join_device("cam-2").await?;
    let addr = fleet.controller.broker();
    let files = Client::controller_files(fleet.controller.data());
    // mosquitto takes the client id from the certificate: there is one controller.
    let observer_id = match broker {
        BrokerKind::Embedded => "controller-observer",
        _ => {
            fleet.controller.stop().await?;
            "controller"
        }
    };
    let mut observer = Client::connect(addr, observer_id, files, &["fleetway/v1/d/#"]).await?;
    let device = async |id: &str, filters: &[&str]| {
        Client::connect(addr, id, Client::device_files(&fleet.device_dir(id)), filters).await
    };
    let everything = [
        "fleetway/v1/d/cam-1/dn/#",
        "fleetway/v1/d/cam-2/dn/#",
        "fleetway/v1/d/+/dn/x",
        "fleetway/v1/#",
        "#",
        "fleetway/v1/d/cam-2/up/#",
    ];
    let mut curious = device("cam-1", &everything).await?;
    let other = device("cam-2", &["fleetway/v1/d/cam-2/dn/x"]).await?;

    // Writing: into its own `up`, and nowhere else.
    for topic in [
        "fleetway/v1/d/cam-2/up/x",
        "fleetway/v1/d/cam-2/dn/x",
        "fleetway/v1/d/cam-1/dn/x",
        "fleetway/v1/d/cam-1/x",
        "fleetway/v1/d/controller/up/x",
    ] {
        curious.say(topic, "forged")?;
    }
    curious.say("fleetway/v1/d/cam-1/up/x", "mine")?;
    let heard = observer.heard("mine", HEAR).await;
    let texts: Vec<_> = heard.iter().map(|(_, text)| text.as_str()).collect();
    ensure!(texts.contains(&"mine") && !texts.contains(&"forged"), "{heard:?}");
    // The forged ones went first, so they would have come first; one more look all the same.
    let late = observer.heard("", Duration::from_secs(1)).await;
    ensure!(late.iter().all(|(_, text)| text != "forged"), "{late:?}");

    // Reading: what the controller sends to it, and not what it sends to another.
    other.say("fleetway/v1/d/cam-2/up/x", "a report")?;
    observer.say("fleetway/v1/d/cam-2/dn/x", "for cam-2")?;
    observer.say("fleetway/v1/d/cam-1/dn/x", "for cam-1")?;
    let heard = curious.heard("for cam-1", HEAR).await;
    let texts: Vec<_> = heard.iter().map(|(_, text)| text.as_str()).collect();
    ensure!(texts == ["for cam-1"], "{heard:?}");
    let late = curious.heard("", Duration::from_secs(1)).await;
    ensure!(late.iter().all(|(topic, _)| topic.starts_with("fleetway/v1/d/cam-1/dn/")), "{late:?}");
    Ok(())
}
