//! Asks which orders are old, where this device has forgotten it.
//!
//! What an agent keeps may be gone (a factory reset, a new disk) while its identity is not. Any
//! order that was ever signed for it and has not expired would then be newer than nothing. So it
//! asks the controller itself, by its certificate and past the broker, and looks at no order
//! before it has the answer and has made it durable.

use std::sync::Arc;
use std::time::Duration;

use fleetway_link::{EnrollUrl, TlsFiles};
use fleetway_protocol::enroll::{Floor, FloorRequest};
use tokio::sync::mpsc;

use super::client::{AskError, Client};
use crate::clock::Clock;

/// First wait between two attempts.
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// Longest wait: a device that may not take orders is worth a question a minute.
const RETRY_MAX: Duration = Duration::from_secs(60);

/// Everything that the question needs.
#[derive(Clone)]
pub struct FloorQuestion {
    /// Where it is asked.
    pub url: EnrollUrl,
    /// Our certificate; read again each time, because it may be renewed in between.
    pub files: TlsFiles,
    /// Signed time.
    pub clock: Clock,
    /// Number of this boot, as far as the device knows.
    pub epoch: u64,
}

/// Why there is no answer yet.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error(transparent)]
    Tls(#[from] fleetway_link::TlsError),
}

impl FloorQuestion {
    /// Asks until there is an answer, and hands it over.
    pub async fn ask(self, answers: mpsc::Sender<Floor>) {
        let mut wait = RETRY_FIRST;
        loop {
            match self.once().await {
                Ok(floor) => {
                    tracing::info!(floor.generation, "the controller says which orders are old");
                    // Without a receiver the agent has ended.
                    let _ = answers.send(floor).await;
                    return;
                }
                Err(failed) => {
                    tracing::warn!("which orders are old is not known yet: {failed}");
                }
            }
            tokio::time::sleep(wait.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
            wait = (wait * 2).min(RETRY_MAX);
        }
    }

    async fn once(&self) -> Result<Floor, Failed> {
        let time = Some(Arc::new(self.clock.clone()) as _);
        let tls = self.files.read()?.client_config(time)?;
        let client = Client { url: self.url.clone(), tls };
        Ok(client.post("/floor", &FloorRequest { epoch: self.epoch }).await?)
    }
}
