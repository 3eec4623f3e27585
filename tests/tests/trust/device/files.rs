//! Files of the release authority that are lost, are bad, or say nothing new, and what they cost on the wire.

use super::*;

#[test]
fn a_lost_file_is_asked_for_again() {
    let mut bench = Box::new();
    bench.authority.publish();
    let all = std::mem::take(&mut bench.authority.files);
    bench.authority.files.insert("timestamp.json".into(), all["timestamp.json"].clone());
    bench.publish();
    bench.up();
    bench.pass(3);
    let problem = bench.device.trust_status().problem.unwrap();
    assert!(problem.contains("1.snapshot.json"), "{problem}");
    // The broker has it now, and its message was lost: nothing arrives by itself.
    for (name, bytes) in all {
        let topic = Topic::Trust(TrustFile::parse(&name).unwrap()).text(ROOT_DEFAULT);
        bench.kept.insert(topic.as_str().to_owned(), bytes);
    }
    bench.pass(8);
    assert_eq!(bench.device.trust_status().problem, None);
}

#[test]
fn a_bad_file_and_a_bad_topic_are_counted_and_change_nothing() {
    let (mut bench, one) = Box::running_one();
    let timestamp = bench.authority.files["timestamp.json"].clone();
    let topic = Topic::Trust(TrustFile::Timestamp).text(ROOT_DEFAULT);
    let mut bad = timestamp.clone();
    let at = bad.len() / 3;
    bad[at] = b'\0';
    bench.arrive(topic.as_str(), &bad);
    bench.arrive(topic.as_str(), &vec![b' '; 5_000]);
    bench.arrive("fleetway/v1/t/01.root.json", b"{}");
    bench.arrive("fleetway/v1/t/9.targets.json", b"nobody asked");
    let counts = ["trust content", "trust size", "topic"].map(|check| bench.refused(check));
    assert_eq!(counts, [1, 1, 1]);
    assert_eq!(
        (bench.running(), bench.device.status(bench.now)[0].phase),
        (Some(one.digest), Phase::Idle)
    );
    let other = DeviceId::new("cam-02").unwrap();
    bench.arrive(Topic::Order(other).text(ROOT_DEFAULT).as_str(), b"x");
    assert_eq!(bench.refused("topic"), 2);
}

#[test]
fn a_refresh_with_nothing_new_is_one_small_message() {
    let (mut bench, _) = Box::running_one();
    bench.wire_bytes = 0;
    bench.authority.versions[1] += 1;
    bench.authority.publish_timestamp(bench.authority.snapshot_pin());
    bench.publish();
    bench.pass(10);
    let quiet = bench.wire_bytes;
    assert_eq!(bench.device.trust_status().roles[1].version, 2);
    assert!((1..QUIET_REFRESH_BYTES_MAX).contains(&quiet), "{quiet} bytes");

    let two = bench.release(2, Nature::Good);
    bench.list(&two, 2);
    bench.wire_bytes = 0;
    bench.authority.publish_next();
    bench.publish();
    bench.pass(10);
    assert_eq!(bench.device.trust_status().roles[3].version, 2);
    println!("nothing new: {quiet} bytes; one new release: {} bytes", bench.wire_bytes);
    assert!(bench.wire_bytes < 2 * QUIET_REFRESH_BYTES_MAX, "{} bytes", bench.wire_bytes);
}
