//! Revocation on mosquitto: its dynamic-security plugin, used as a list of who is *not*
//! allowed.
//!
//! mosquitto asks its plugin first and its ACL file after it (seen with 2.0.11). So the ACL
//! file of `mosquitto.rs` goes on to say what a device may do, for all devices at once and
//! without a word from us when one is added; the plugin knows the controller, the revoked
//! devices, and the gateways, each with a role for every device that hangs on it. A revoked one has a role that denies everything, and `disableClient` ends
//! its session. With `use_identity_as_username` mosquitto does not ask the plugin at CONNECT:
//! a revoked device may connect again until its certificate ends, reads and writes nothing,
//! and is thrown out again whenever we repeat ourselves.
//!
//! Pure: this writes texts. The controller sends them; the broker is a cache of them.

use fleetway_protocol::ids::DeviceId;
use serde_json::json;

use super::identity::CONTROLLER;

/// Where commands go.
pub const TOPIC: &str = "$CONTROL/dynamic-security/v1";
/// Devices named in one message: far below mosquitto's bound on a message.
pub const DEVICES_PER_MESSAGE_MAX: usize = 100;

const ADMIN: &str = "fleetway-controller";
const REVOKED: &str = "fleetway-revoked";

/// The plugin's file on its first day: only the controller may command it.
pub fn initial_state() -> String {
    let acl = |kind: &str, topic: &str, allow: bool| json!({ "acltype": kind, "topic": topic, "allow": allow });
    let denied = ["publishClientSend", "publishClientReceive", "subscribePattern"];
    let state = json!({
        // Whoever is not named here is judged by the ACL file.
        "defaultACLAccess": {
            "publishClientSend": false,
            "publishClientReceive": false,
            "subscribe": false,
            "unsubscribe": false,
        },
        "clients": [{ "username": CONTROLLER, "roles": [{ "rolename": ADMIN }] }],
        "groups": [],
        "roles": [
            { "rolename": ADMIN, "acls": [acl("publishClientSend", TOPIC, true)] },
            { "rolename": REVOKED, "acls": denied.map(|kind| acl(kind, "#", false)) },
        ],
    });
    format!("{state:#}\n")
}

/// Cuts devices off: their sessions end, and nothing passes any more. Again: the same.
pub fn cut<'a>(devices: impl IntoIterator<Item = &'a DeviceId>) -> String {
    let commands = devices.into_iter().flat_map(|device| {
        let username = device.as_str();
        let roles = [json!({ "rolename": REVOKED })];
        [
            // Refused where it is there already, with the role: that is as good.
            json!({ "command": "createClient", "username": username, "roles": roles }),
            // A gateway is there already, with other roles: this one comes before them.
            json!({
                "command": "addClientRole",
                "username": username,
                "rolename": REVOKED,
                "priority": 1,
            }),
            json!({ "command": "disableClient", "username": username }),
        ]
    });
    json!({ "commands": commands.collect::<Vec<_>>() }).to_string()
}

/// The role of whoever speaks for `device`.
fn behind(device: &DeviceId) -> String {
    format!("fleetway-behind.{device}")
}

/// Lets `gateway`, and nobody else from now on, speak for `device`, which hangs on it. mosquitto
/// ends the gateway's session for it, so this is said when it has changed. `root` is that of all
/// topics.
pub fn route(root: &str, gateway: &DeviceId, device: &DeviceId) -> String {
    let (username, rolename) = (gateway.as_str(), behind(device));
    let acl =
        |acltype: &str, topic: String| json!({ "acltype": acltype, "topic": topic, "allow": true });
    let (up, dn) = (format!("{root}d/{device}/up/#"), format!("{root}d/{device}/dn/#"));
    let acls = [
        acl("publishClientSend", up),
        acl("publishClientReceive", dn.clone()),
        acl("subscribePattern", dn),
    ];
    let commands = json!([
        { "command": "deleteRole", "rolename": rolename },
        { "command": "createRole", "rolename": rolename, "acls": acls },
        // Refused where it is there already: that is as good.
        { "command": "createClient", "username": username },
        { "command": "addClientRole", "username": username, "rolename": rolename },
    ]);
    json!({ "commands": commands }).to_string()
}

/// Nobody speaks for `device` any more.
pub fn unroute(device: &DeviceId) -> String {
    json!({ "commands": [{ "command": "deleteRole", "rolename": behind(device) }] }).to_string()
}

/// Lets a device in again.
pub fn admit(device: &DeviceId) -> String {
    json!({ "commands": [{ "command": "deleteClient", "username": device.as_str() }] }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn only_the_controller_is_let_near_the_plugin() {
        let state: Value = serde_json::from_str(&initial_state()).unwrap();
        assert_eq!(state["clients"].as_array().unwrap().len(), 1);
        assert_eq!(state["clients"][0]["username"], "controller");
        assert!(state["defaultACLAccess"].as_object().unwrap().values().all(|v| v == false));
        let allowed = state["roles"].as_array().unwrap().iter();
        let allowed =
            allowed.flat_map(|r| r["acls"].as_array().unwrap()).filter(|a| a["allow"] == true);
        assert_eq!(allowed.map(|a| a["topic"].as_str().unwrap()).collect::<Vec<_>>(), [TOPIC]);
    }

    #[test]
    fn the_role_comes_before_the_kick() {
        let devices = [DeviceId::new("a").unwrap(), DeviceId::new("b").unwrap()];
        let cut: Value = serde_json::from_str(&cut(&devices)).unwrap();
        let said: Vec<_> = cut["commands"]
            .as_array()
            .unwrap()
            .iter()
            .map(|c| {
                format!("{} {}", c["command"].as_str().unwrap(), c["username"].as_str().unwrap())
            })
            .collect();
        assert_eq!(
            said,
            [
                "createClient a",
                "addClientRole a",
                "disableClient a",
                "createClient b",
                "addClientRole b",
                "disableClient b"
            ]
        );
        let many = vec![DeviceId::new(&"d".repeat(64)).unwrap(); DEVICES_PER_MESSAGE_MAX];
        assert!(super::cut(&many).len() < 64 * 1024);
    }
}
