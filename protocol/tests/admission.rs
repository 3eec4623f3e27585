//! An order is new and good, or it is refused with the reason: at the very second, generation and nonce.
#![allow(clippy::unwrap_used, reason = "a test may")]

#[path = "common/samples.rs"]
mod samples;

use fleetway_protocol::envelope::Context;
use fleetway_protocol::ids::DeviceId;
use fleetway_protocol::order::{Order, OrderView};
use fleetway_protocol::trust::{OrderError, Verified};

/// What the sample says of itself.
const GENERATION: u64 = 300;
const ISSUED_S: u64 = 1_760_000_000;
const EXPIRES_S: u64 = 1_760_600_000;
const NONCE: [u8; 16] = [0x55; 16];

fn admit(device: &DeviceId, seen: u64, now_s: u64) -> Result<(), OrderError> {
    let (bytes, keyring) = (samples::sealed_order(), samples::keyring());
    let owned = Verified::<Order>::admit(&bytes, &keyring, device, seen, now_s).map(drop);
    // A clock and a nonce lead to the same answer where they mean the same second.
    if let Some(said_s) = now_s.checked_sub(ISSUED_S) {
        let admit = Verified::<OrderView<'_>>::admit_by_nonce;
        let by_nonce = admit(&bytes, keyring.view(), device, seen, &NONCE, said_s).map(drop);
        assert_eq!(by_nonce, owned);
    }
    owned
}

#[test]
fn new_and_good_or_why_not() {
    let (own, other) = (samples::device(), DeviceId::new("cam-02").unwrap());
    let last = GENERATION - 1;
    assert_eq!(admit(&own, last, EXPIRES_S - 1), Ok(()));
    assert_eq!(admit(&own, 0, 0), Ok(()));
    let late = |late_s| Err(OrderError::Expired { late_s });
    assert_eq!(admit(&own, last, EXPIRES_S), late(0));
    assert_eq!(admit(&own, last, EXPIRES_S + 7), late(7));
    let stale = |seen| Err(OrderError::Stale { got: GENERATION, seen });
    assert_eq!(admit(&own, GENERATION, ISSUED_S), stale(GENERATION));
    assert_eq!(admit(&own, GENERATION + 1, ISSUED_S), stale(GENERATION + 1));
    assert_eq!(admit(&other, last, ISSUED_S), Err(OrderError::Device(own)));
}

#[test]
fn another_nonce_or_none_says_nothing_of_time() {
    let (keyring, device) = (samples::keyring(), samples::device());
    let by = |bytes: &[u8], nonce: &[u8; 16]| {
        let admit = Verified::<OrderView<'_>>::admit_by_nonce;
        admit(bytes, keyring.view(), &device, 0, nonce, 0).map(drop)
    };
    assert_eq!(by(&samples::sealed_order(), &NONCE), Ok(()));
    assert_eq!(by(&samples::sealed_order(), &[0x56; 16]), Err(OrderError::Nonce));
    let without = samples::encoded(&Order { nonce: None, ..samples::order() });
    let without = samples::sealed(&samples::director_key(), Context::Order, &without);
    assert_eq!(by(&without, &NONCE), Err(OrderError::Nonce));
}

#[test]
fn a_model_is_named_once() {
    let mut order = samples::order();
    let again = order.models[0].clone();
    order.models.push(again).unwrap();
    let bytes =
        samples::sealed(&samples::director_key(), Context::Order, &samples::encoded(&order));
    let admitted =
        Verified::<Order>::admit(&bytes, &samples::keyring(), &samples::device(), 0, ISSUED_S);
    assert_eq!(admitted.map(drop), Err(OrderError::Ambiguous));
}
