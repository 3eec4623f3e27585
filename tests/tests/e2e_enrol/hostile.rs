//! The one listener that strangers can reach: whatever they send, it answers those who
//! belong. (What is inside TLS is tested beside the listener itself.)

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fleetway_link::EnrollUrl;
use fleetway_protocol::join::Join;
use fleetway_tests::harness::agent::join;
use fleetway_tests::harness::{BrokerKind, Fleet, FleetSpec};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

/// Above the listener's own deadline.
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn strangers_get_nothing_and_delay_nobody() {
    story().await.unwrap();
}

async fn story() -> Result<()> {
    let mut fleet = Fleet::prepare(FleetSpec::new(BrokerKind::Embedded, 0)).await?;
    let text = fleet.controller.enroll("cam-1").await?;
    let url: EnrollUrl = text.parse::<Join>()?.enroll.parse()?;
    let connect = || TcpStream::connect((url.host(), url.port()));

    // Not TLS: plain HTTP, noise of every length, a TLS record that announces a lot.
    let mut noise = vec![
        b"POST /enroll HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n123456789".to_vec(),
        vec![0x16, 3, 1, 0xff, 0xff],
    ];
    noise.extend((0..40).map(|n| (0..n * 97).map(|_| fastrand::u8(..)).collect::<Vec<u8>>()));
    for bytes in noise {
        let mut stream = connect().await?;
        // It may hang up before all is sent.
        let _ = stream.write_all(&bytes).await;
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let ended = timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
        ensure!(ended.is_ok(), "{} bytes of noise keep a connection", bytes.len());
        ensure!(!answer.starts_with(b"HTTP"), "it speaks without TLS");
    }
    // Slow ones, that send nothing: some are held, more from one address are not let in, and
    // whoever belongs here gets in as soon as they are gone.
    let mut slow = Vec::new();
    for _ in 0..100 {
        slow.push(connect().await?);
    }
    let begin = Instant::now();
    for mut stream in slow {
        let mut byte = [0; 1];
        let ended = timeout(PATIENCE, stream.read(&mut byte)).await;
        ensure!(ended.is_ok(), "a silent connection was kept for {:?}", begin.elapsed());
    }
    fleet.controller.check_running()?;
    let dir = fleet.device_dir("cam-1");
    join(&text, &dir).await?.expect_code(0).context("after all of it")?;
    Ok(())
}
