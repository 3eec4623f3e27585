//! Opening the fleet of a data directory, and telling what the disk did to it.
//!
//! A store that had to be mended is said loudly and put into the journal: whoever looks at
//! the fleet tomorrow must see that something is missing.

use std::path::Path;
use std::sync::Arc;

use fleetway_controller::fleet::{By, Fleet, FleetError};
use fleetway_controller::store::{Opened as How, SledStore, Store};
use fleetway_controller::trust::files::TrustDir;
use fleetway_controller::{clock, keys};
use fleetway_protocol::envelope::Authority;
use fleetway_protocol::keyset::ReleaseKeys;
use tracing::{error, warn};

use super::audit::AuditLog;
use super::connect;
use crate::api::failure::Failure;
use crate::api::view::failed;
use crate::cli::files::Layout;
use crate::config::Config;

/// The fleet of a data directory, whose lock we hold.
pub(crate) struct Opened {
    /// The fleet.
    pub(crate) fleet: Fleet,
    /// Who may sign releases.
    pub(crate) release_keys: ReleaseKeys,
    /// What was done, in files.
    pub(super) audit: AuditLog,
    /// Holds the lock as long as it lives.
    pub(super) store: Arc<dyn Store>,
}

/// Opens the fleet of a data directory; refuses if a controller runs on it.
pub(crate) fn open_fleet(data: &Path, config: &Config) -> Result<Opened, Failure> {
    let release_keys = release_keys(data, config)?;
    let (store, how) = SledStore::open(data).map_err(|e| failed(e.kind(), &e))?;
    let store: Arc<dyn Store> = Arc::new(store);
    let mut audit = AuditLog::open(data, store.as_ref())?;
    let now_s = clock::now_s();
    let mut fleet = Fleet::open(store.clone(), release_keys.clone(), now_s)
        .map_err(|e| failed(e.kind(), &e))?;
    tell(&mut fleet, how, now_s).map_err(|e| failed(e.kind(), &e))?;
    fleet.set_issuer(connect::load_ca(&Layout::new(data))?.id());
    audit.tell(&mut fleet).map_err(|e| failed(e.kind(), &e))?;
    audit.catch_up(&mut fleet);
    Ok(Opened { fleet, release_keys, audit, store })
}

/// From the keyset in force; before there is one, from the configuration.
fn release_keys(data: &Path, config: &Config) -> Result<ReleaseKeys, Failure> {
    let trust = TrustDir::new(data);
    if trust.exists() {
        let repo = trust.load().map_err(|e| failed(e.kind(), &e))?;
        if let Some(file) = repo.published.keyset {
            return Ok(file.keyset.release);
        }
    }
    let mut release_keys = Vec::new();
    for path in &config.trust.release_keys {
        let key = keys::load_public(&data.join(path)).map_err(|e| failed(e.kind(), &e))?;
        release_keys.push(key);
    }
    let authority = Authority::new(&release_keys, config.trust.release_threshold);
    authority.map(ReleaseKeys::from).map_err(|error| {
        Failure::trust(format!("release_keys in fleetway.toml: {error}"))
            .mend("correct the section [trust]")
    })
}

fn tell(fleet: &mut Fleet, how: How, now_s: u64) -> Result<(), FleetError> {
    let by = By { who: "store", now_s };
    match how {
        How::New | How::Clean => Ok(()),
        How::Rewound { lost_commits } => {
            error!(
                lost_commits,
                "the store lost its last changes: its disk is failing; running rollouts are paused until you resume or abort them"
            );
            fleet.recover_rewound(by, lost_commits)
        }
        How::WithoutSnapshots { snapshots, why } => {
            let kept = snapshots.display();
            warn!(%why, %kept, "the store opened without its snapshots; nothing is lost");
            let text = format!("opened without its snapshots ({why}); they are kept in {kept}");
            fleet.note(by, "store.mended", None, &text)
        }
        How::Rebuilt { kept, why } => {
            let kept = kept.display();
            error!(%why, %kept, "the store did not open and was begun anew; restore a backup, or add devices and publish again");
            let text = format!("begun anew ({why}); the broken one is kept in {kept}");
            fleet.note(by, "store.rebuilt", None, &text)
        }
    }
}
