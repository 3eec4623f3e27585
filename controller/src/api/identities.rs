//! Letting devices in, and throwing them out.

use axum::Json;
use axum::extract::State;
use fleetway_controller::fleet::{Adopted, By, Fleet};
use fleetway_controller::pki::DeviceKey;
use fleetway_protocol::enroll::{Floor, Token};
use fleetway_protocol::ids::{DeviceId, Digest, HardwareClass};
use fleetway_protocol::join::Join;

use super::caller::Caller;
use super::devices::{check, device_id};
use super::extract::{Answer, Body, DevicePath, IfMatch, Segments};
use super::failure::Failure;
use super::types::{DeviceAdopt, DeviceEnroll, DeviceKeyAdd, Done, JoinView};
use super::view::failed;
use crate::serve::Running;
use crate::serve::enroll::pinned_root;

/// `POST /v1/devices/{id}/enroll`.
pub(super) async fn enroll(
    State(running): State<Running>,
    Segments(path): Segments<DevicePath>,
    caller: Caller,
    Body(DeviceEnroll { labels }): Body<DeviceEnroll>,
) -> Answer<JoinView> {
    let id = device_id(&path.id)?;
    let mut token = Token([0; 16]);
    getrandom::fill(&mut token.0)
        .map_err(|error| Failure::error(format!("no randomness from the system: {error}")))?;
    let root = pinned_root(&running.layout).map(|root| Digest::of(&root));
    let join = Join {
        broker: url("broker", &running.broker_url)?,
        enroll: url("enrolment listener", &running.enroll_url.to_string())?,
        ca: running.ca,
        root,
        device: id.clone(),
        token,
    };
    let text = join.encode().map_err(|error| Failure::from_error("the join string", &error))?;
    let digest = join.token.digest(&id);
    let embedded = running.embedded;
    let device = id.clone();
    let expires_s = running
        .core
        .ask(move |fleet, now_s| {
            let by = By { who: &caller.name, now_s };
            fleet
                .invite_device(by, &device, &labels, digest, embedded)
                .map_err(|error| failed(error.kind(), &error))
        })
        .await??;
    Ok(Json(JoinView {
        id: id.to_string(),
        join: text.to_string(),
        expires_s,
        broker: join.broker.to_string(),
        enroll: join.enroll.to_string(),
        root: root.map(|root| root.to_string()),
    }))
}

fn url(what: &str, text: &str) -> Result<fleetway_protocol::join::Url, Failure> {
    text.try_into().map_err(|_| {
        Failure::conflict(format!("the URL of the {what} is too long for a join string: {text}"))
            .mend("use a shorter name in fleetway.toml")
    })
}

/// `POST /v1/devices/{id}/adopt`.
pub(super) async fn adopt(
    State(running): State<Running>,
    Segments(path): Segments<DevicePath>,
    caller: Caller,
    Body(DeviceAdopt { via, hardware, key, labels }): Body<DeviceAdopt>,
) -> Answer<Done> {
    let id = device_id(&path.id)?;
    let key = key.parse::<Digest>().ok().and_then(|bytes| DeviceKey::from_ed25519(bytes.0));
    let adopted = Adopted {
        via: device_id(&via)?,
        hardware: HardwareClass::new(&hardware)
            .map_err(|error| Failure::usage(format!("hardware {hardware:?} {error}")))?,
        key: key.ok_or_else(|| {
            Failure::usage("the key is no Ed25519 public key in 64 hexadecimal digits")
                .mend("it is the public half, as what provisioned the device printed it")
        })?,
    };
    running
        .core
        .ask(move |fleet, now_s| {
            let by = By { who: &caller.name, now_s };
            fleet
                .adopt_device(by, &id, &labels, &adopted)
                .map_err(|error| failed(error.kind(), &error))?;
            let done = format!("{id} hangs on {via}");
            Ok(Json(Done { done }))
        })
        .await?
}

/// `POST /v1/devices/{id}/revoke`.
pub(super) async fn revoke(
    State(running): State<Running>,
    Segments(path): Segments<DevicePath>,
    caller: Caller,
    as_seen: IfMatch,
) -> Answer<Done> {
    let id = device_id(&path.id)?;
    let what_of_its_session = match (running.embedded, running.cuts_sessions()) {
        (true, _) => "its session is ended",
        (false, true) => "mosquitto is told to end its session",
        (false, false) => {
            "this broker keeps its session until its certificate ends (see `fleetway broker config`)"
        }
    };
    running
        .core
        .ask(move |fleet, now_s| {
            check(fleet, &id, &as_seen)?;
            let by = By { who: &caller.name, now_s };
            fleet.revoke_device(by, &id).map_err(|error| failed(error.kind(), &error))?;
            let done = format!(
                "{id} is revoked: no orders, no reports, no renewal; {what_of_its_session}"
            );
            Ok(Json(Done { done }))
        })
        .await?
}

/// Notes the key that `device add` made; says where the device's orders begin.
pub(crate) fn register(
    fleet: &mut Fleet,
    by: By<'_>,
    id: &DeviceId,
    key: Option<&DeviceKeyAdd>,
) -> Result<Floor, Failure> {
    let Some(DeviceKeyAdd { point, certificate_ends_s }) = key else {
        return Ok(Floor::default());
    };
    let key = DeviceKey::from_point(point)
        .ok_or_else(|| Failure::usage("the device's key is no point of P-256"))?;
    fleet
        .register_key(by, id, &key, *certificate_ends_s)
        .map_err(|error| failed(error.kind(), &error))
}
