//! What the daemon begins with towards the fleet: the link with its will, the signature under
//! everything that is said on it, the certificate's renewal, and the question which orders are
//! old.

use std::sync::Arc;
use std::time::Duration;

use fleetway_link::{
    LinkConfig, LinkEvent, LinkHandle, Qos, Session, Subscription, TlsFiles, Will,
};
use fleetway_protocol::enroll::Floor;
use fleetway_protocol::topics::Topic;
use tokio::sync::mpsc;

use super::RunError;
use super::signing::ReportSigner;
use crate::clock::Clock;
use crate::config::Config;
use crate::device::Device;
use crate::fs::RealFs;
use crate::identity::floor::FloorQuestion;
use crate::identity::renew::Renewal;
use crate::identity::shown::Shown;
use crate::status::Board;

/// How long a broker remembers what it owes us.
pub(crate) const SESSION: Duration = Duration::from_secs(24 * 3600);
/// How long a broker waits for us before it says that we are gone: a flap is no news.
const WILL_DELAY: Duration = Duration::from_secs(10);

/// The link, and who speaks on it.
pub(super) struct Started {
    pub(super) handle: LinkHandle,
    pub(super) events: mpsc::Receiver<LinkEvent>,
    pub(super) shown: Option<Shown>,
    pub(super) signer: ReportSigner,
    /// Why reports go unsigned although there are certificates.
    pub(super) problem: Option<String>,
}

pub(super) fn start(
    config: &Config,
    device: &mut Device<RealFs>,
    clock: &Clock,
) -> Result<Started, RunError> {
    let topic = |topic: Topic| topic.text(&config.broker.root).as_str().to_owned();
    let mut link = LinkConfig::new(config.broker.url.clone(), config.device.as_str());
    let mut shown = None;
    let identity = config.broker.tls.as_ref().map(TlsFiles::read).transpose()?;
    let (signer, problem) = ReportSigner::new(&config.broker.root, identity.as_ref());
    if let Some(identity) = identity {
        let first = Shown::new(identity.certified_key()?);
        let tls = identity.client_config(Some(Arc::new(clock.clone())))?;
        link.tls = Some(first.in_config(tls));
        shown = Some(first);
    }
    link.session = Session::Persistent(SESSION);
    link.keep_alive = config.link.keep_alive;
    link.standing = vec![
        Subscription::new(topic(Topic::Order(config.device.clone())), Qos::AtLeastOnce),
        Subscription::new(topic(Topic::Block(config.device.clone())), Qos::AtMostOnce),
        Subscription::new(topic(Topic::Heard(config.device.clone())), Qos::AtMostOnce),
    ];
    let presence = topic(Topic::Presence(config.device.clone()));
    link.will = Some(Will {
        // Signed ahead: it says of this boot that it is over, whenever the broker says so.
        payload: signer.seal(&presence, &device.presence(false)).into(),
        topic: presence,
        qos: Qos::AtLeastOnce,
        retain: true,
        delay: WILL_DELAY,
    });
    let (handle, events) = fleetway_link::start(link)?;
    let problem = problem.map(|problem| problem.to_string());
    Ok(Started { handle, events, shown, signer, problem })
}

/// Renews the certificate from now on, if the configuration says where.
pub(super) fn start_renewal(
    config: &Config,
    shown: Option<Shown>,
    link: &LinkHandle,
    clock: &Clock,
    board: &Arc<Board>,
) {
    let (Some(shown), Some(url), Some(files)) = (shown, &config.enroll, &config.broker.tls) else {
        return;
    };
    let renewal = Renewal {
        device: config.device.clone(),
        url: url.clone(),
        files: files.clone(),
        shown,
        link: link.clone(),
        clock: clock.clone(),
        board: Arc::clone(board),
    };
    tokio::spawn(renewal.run());
}

/// Whom a device asks that has forgotten which orders are old.
pub(super) fn floor_question(config: &Config, clock: &Clock, epoch: u64) -> Option<FloorQuestion> {
    let (Some(url), Some(files)) = (&config.enroll, &config.broker.tls) else { return None };
    Some(FloorQuestion { url: url.clone(), files: files.clone(), clock: clock.clone(), epoch })
}

/// Asks, if the device has to.
pub(super) fn ask_floor(
    question: Option<&FloorQuestion>,
    device: &Device<RealFs>,
    answers: &mpsc::Sender<Floor>,
) {
    if let Some(question) = question.filter(|_| device.needs_floor()) {
        tokio::spawn(question.clone().ask(answers.clone()));
    }
}
