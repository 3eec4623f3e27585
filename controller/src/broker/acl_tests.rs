//! Who may write, ask for and get which topic, as lists of what passes and what does not: each
//! wildcard, look-alike and shared subscription by which one device would reach another. The
//! last test goes through all topics of the protocol, so that a rule never stops what is meant.

use super::*;

use fleetway_protocol::ids::{DeviceId, ModelName, ShortDigest};
use fleetway_protocol::topics::{Piece, ROOT_DEFAULT as ROOT, Topic};

const DIGEST: &str = "0123456789abcdef0123456789abcdef";

fn cam() -> Identity {
    Identity::Device(DeviceId::new("cam").unwrap())
}

/// Nobody hangs on anybody.
fn nobody(_: &DeviceId, _: &str) -> bool {
    false
}

#[test]
fn a_gateway_carries_for_what_hangs_on_it_and_for_nobody_else() {
    let behind = |gateway: &DeviceId, device: &str| gateway.as_str() == "cam" && device == "mcu";
    let may = |identity: &Identity, action, topic: &str| {
        allowed(identity, &behind, ROOT, action, &format!("{ROOT}{topic}"))
    };
    let dog = Identity::Device(DeviceId::new("dog").unwrap());
    for (action, topic, yes) in [
        (Action::Publish, "d/mcu/up/on", true),
        (Action::Publish, "d/mcu/up/st/digits", true),
        (Action::Subscribe, "d/mcu/dn/ds", true),
        (Action::Subscribe, "d/mcu/dn/#", true),
        (Action::Publish, "d/mcu/dn/ds", false),
        (Action::Subscribe, "d/mcu/up/on", false),
        (Action::Subscribe, "d/+/dn/ds", false),
        (Action::Subscribe, "d/mcu/+/ds", false),
        (Action::Publish, "d/mcu/up", false),
        (Action::Publish, "d/mcu2/up/on", false),
    ] {
        assert_eq!(may(&cam(), action, topic), yes, "{action:?} {topic}");
        assert!(!may(&dog, action, topic), "{action:?} {topic}");
    }
    assert!(may(&cam(), Action::Publish, "d/cam/up/on"), "and for itself");
}

fn check(identity: &Identity, action: Action, yes: &[&str], no: &[&str]) {
    for topic in yes {
        assert!(allowed(identity, &nobody, ROOT, action, topic), "{identity} {action:?} {topic}");
    }
    for topic in no {
        assert!(!allowed(identity, &nobody, ROOT, action, topic), "{identity} {action:?} {topic}");
    }
}

#[test]
fn a_device_publishes_only_up() {
    check(
        &cam(),
        Action::Publish,
        &["fleetway/v1/d/cam/up/on", "fleetway/v1/d/cam/up/st/detector"],
        &[
            "",
            "#",
            "+",
            "/",
            "fleetway/v1/",
            "fleetway/v1/d/cam",
            "fleetway/v1/d/cam/up",
            "fleetway/v1/d/cam/up/",
            "fleetway/v1/d/cam/up//x",
            "fleetway/v1/d/cam/up/+",
            "fleetway/v1/d/cam/up/#",
            "fleetway/v1/d/cam/up/x#",
            "fleetway/v1/d/cam/up/x\0",
            "fleetway/v1/d/cam/dn/ds",
            "fleetway/v1/d/cam/upx/on",
            "fleetway/v1/d/cam2/up/on",
            "fleetway/v1/d/ca/up/on",
            "fleetway/v1/d/+/up/on",
            "fleetway/v1/d//up/on",
            "fleetway/v1//d/cam/up/on",
            "/fleetway/v1/d/cam/up/on",
            "fleetway/v2/d/cam/up/on",
            "fleetway/v1/j/cam/on",
            "fleetway/v1/b/0123456789abcdef0123456789abcdef/0",
            "$SYS/broker/uptime",
            "$share/g/fleetway/v1/d/cam/up/on",
        ],
    );
}

#[test]
fn a_device_asks_only_for_its_own() {
    let chunk = format!("fleetway/v1/b/{DIGEST}/17");
    check(
        &cam(),
        Action::Subscribe,
        &["fleetway/v1/d/cam/dn/ds", "fleetway/v1/d/cam/dn/+", "fleetway/v1/d/cam/dn/#", &chunk],
        &[
            "#",
            "+/#",
            "+/+/+/+/+/+",
            "fleetway/v1/#",
            "fleetway/v1/d/#",
            "fleetway/v1/d/+/dn/ds",
            "fleetway/v1/d/+/dn/#",
            "fleetway/+/d/cam/dn/ds",
            "fleetway/v1/d/cam/#",
            "fleetway/v1/d/cam/+/ds",
            "fleetway/v1/d/cam/up/#",
            "fleetway/v1/d/cam/dn",
            "fleetway/v1/d/cam/dn/",
            "fleetway/v1/d/cam/dn/#/x",
            "fleetway/v1/d/cam/dn/x#",
            "fleetway/v1/d/cam-2/dn/ds",
            "fleetway/v1/d/ca/dn/ds",
            "fleetway/v1/j/cam/on",
            "$SYS/#",
            "$share/g/fleetway/v1/d/cam/dn/ds",
            "$share/g/fleetway/v1/d/dog/dn/ds",
            "$share/g/#",
            "$share/g",
            "$queue/fleetway/v1/d/cam/dn/ds",
        ],
    );
}

#[test]
fn chunks_are_named_one_by_one() {
    let upper = format!("fleetway/v1/b/{}/0", DIGEST.to_uppercase());
    let long = format!("fleetway/v1/b/{DIGEST}/12345678901");
    let deep = format!("fleetway/v1/b/{DIGEST}/1/2");
    let many = [
        format!("fleetway/v1/b/{DIGEST}/+"),
        format!("fleetway/v1/b/{DIGEST}/#"),
        format!("fleetway/v1/b/{DIGEST}/"),
        format!("fleetway/v1/b/{DIGEST}"),
        format!("fleetway/v1/b/{DIGEST}/-1"),
        format!("fleetway/v1/b/{DIGEST}0/1"),
        format!("fleetway/v1/b/{DIGEST}/+5"),
        format!("fleetway/v1/b/{DIGEST}/all"),
        format!("fleetway/v1/b/{DIGEST}/r/l"),
    ];
    let mut no = vec![upper.as_str(), &long, &deep, "fleetway/v1/b/+/0", "fleetway/v1/b/#"];
    no.extend(many.iter().map(String::as_str));
    check(&cam(), Action::Subscribe, &[], &no);
    check(&cam(), Action::Receive, &[&format!("fleetway/v1/b/{DIGEST}/0")], &no);
    check(&cam(), Action::Publish, &[], &[&format!("fleetway/v1/b/{DIGEST}/0")]);
}

#[test]
fn trust_files_are_for_reading_and_named_one_by_one() {
    let root = "fleetway/v1/t/2.root.json";
    let team = "fleetway/v1/t/7.team-vision.json";
    let no = [
        "fleetway/v1/t/#",
        "fleetway/v1/t/+",
        "fleetway/v1/t/root.json",
        "fleetway/v1/t/02.root.json",
        "fleetway/v1/t/2.root.json/x",
    ];
    check(&cam(), Action::Subscribe, &["fleetway/v1/t/timestamp.json", root, team], &no);
    check(&cam(), Action::Receive, &[root, team], &no);
    let all = ["fleetway/v1/t/timestamp.json", root, team];
    check(&cam(), Action::Publish, &[], &all);
    check(&Identity::Controller, Action::Publish, &all, &[]);
}

#[test]
fn what_is_received_is_a_topic_and_never_a_filter() {
    check(
        &cam(),
        Action::Receive,
        &["fleetway/v1/d/cam/dn/ds"],
        &["fleetway/v1/d/cam/dn/#", "fleetway/v1/d/dog/dn/ds", "fleetway/v1/d/cam/up/on"],
    );
}

#[test]
fn the_controller_owns_the_root_and_nothing_else() {
    let controller = Identity::Controller;
    check(
        &controller,
        Action::Subscribe,
        &["fleetway/v1/#", "fleetway/v1/d/+/up/#", "$share/workers/fleetway/v1/d/+/up/tm"],
        &[
            "#",
            "+/v1/#",
            "fleetway/#",
            "fleetway/v1/",
            "$SYS/#",
            "$share/g/#",
            "$share//fleetway/v1/#",
            "$share/+/fleetway/v1/#",
            "$share/fleetway/v1/#",
            "$share/g/$share/h/fleetway/v1/#",
        ],
    );
    check(
        &controller,
        Action::Publish,
        &["fleetway/v1/d/cam/dn/ds", "fleetway/v1/j/cam/on"],
        &["fleetway/v1/d/+/dn/ds", "other", "$share/g/fleetway/v1/x"],
    );
}

#[test]
fn a_viewer_reads_the_mirror() {
    let viewer = Identity::Viewer(DeviceId::new("wall").unwrap());
    check(
        &viewer,
        Action::Subscribe,
        &["fleetway/v1/j/#", "fleetway/v1/j/cam/on", "fleetway/v1/j/+/st/+"],
        &["fleetway/v1/#", "fleetway/v1/+/cam/on", "fleetway/v1/d/cam/up/on", "fleetway/v1/j/"],
    );
    check(&viewer, Action::Publish, &[], &["fleetway/v1/j/cam/on"]);
    check(&viewer, Action::Receive, &["fleetway/v1/j/cam/on"], &["fleetway/v1/d/cam/up/on"]);
}

#[test]
fn an_empty_root_still_hides_system_topics() {
    assert!(allowed(&Identity::Controller, &nobody, "", Action::Subscribe, "d/#"));
    assert!(!allowed(&Identity::Controller, &nobody, "", Action::Subscribe, "$SYS/#"));
    assert!(!allowed(&Identity::Controller, &nobody, "", Action::Subscribe, "$share/g/$SYS/#"));
}

#[test]
fn long_topics_are_refused() {
    let long = format!("fleetway/v1/d/cam/up/{}", "x".repeat(256));
    check(&cam(), Action::Publish, &[], &[&long]);
}

#[test]
fn every_topic_of_the_protocol_goes_its_way() {
    let id = || DeviceId::new("cam").unwrap();
    let model = || ModelName::new("detector").unwrap();
    let blob = |piece| Topic::Blob(ShortDigest([0xab; 16]), piece);
    let up = [
        Topic::Presence(id()),
        Topic::State(id(), model()),
        Topic::Telemetry(id(), model()),
        Topic::Host(id()),
        Topic::Ack(id()),
        Topic::Want(id()),
        Topic::Nonce(id()),
    ];
    let down = [
        Topic::Order(id()),
        Topic::Block(id()),
        Topic::Heard(id()),
        blob(Piece::Release),
        blob(Piece::ChunkList),
        blob(Piece::Chunk(0)),
        blob(Piece::Chunk(u32::MAX)),
    ];
    let dog = Identity::Device(DeviceId::new("dog").unwrap());
    for (topics, is_up) in [(&up[..], true), (&down[..], false)] {
        for topic in topics {
            let text = topic.text(ROOT);
            assert_eq!(allowed(&cam(), &nobody, ROOT, Action::Publish, &text), is_up, "{text}");
            assert_eq!(allowed(&cam(), &nobody, ROOT, Action::Subscribe, &text), !is_up, "{text}");
            assert_eq!(allowed(&cam(), &nobody, ROOT, Action::Receive, &text), !is_up, "{text}");
            for action in [Action::Publish, Action::Subscribe, Action::Receive] {
                assert!(allowed(&Identity::Controller, &nobody, ROOT, action, &text), "{text}");
                let shared = matches!(topic, Topic::Blob(..)) && action != Action::Publish;
                assert_eq!(allowed(&dog, &nobody, ROOT, action, &text), shared, "{text}");
            }
        }
    }
}
