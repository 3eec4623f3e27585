//! One end against whatever a line may bring: nothing panics, nothing is taken that was not sent.

use std::vec::Vec;

use super::*;

const CONFIG: Config = Config { window: 4, retry_ms: 200 };
type Small = Link<300, 300>;

fn xorshift(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// Everything that `from` has to say now, into `to`.
fn carry(now_ms: u64, from: &mut Small, to: &mut Small) -> usize {
    let mut wire = [0; FRAME_WIRE_BYTES_MAX];
    let mut frames = 0;
    while let Some(bytes) = from.poll_transmit(now_ms, &mut wire) {
        let bytes = bytes.to_vec();
        to.receive(now_ms, &bytes);
        frames += 1;
        assert!(frames < 100, "an end that never stops talking");
    }
    frames
}

fn talk(now_ms: u64, a: &mut Small, b: &mut Small) {
    for _ in 0..20 {
        if carry(now_ms, a, b) + carry(now_ms, b, a) == 0 {
            return;
        }
    }
    panic!("two ends that never stop talking");
}

fn pair() -> (Small, Small) {
    let (mut a, mut b) = (Small::new(1, CONFIG), Small::new(2, CONFIG));
    talk(0, &mut a, &mut b);
    assert!(a.poll_begun() && b.poll_begun() && a.is_up(0) && b.is_up(0));
    (a, b)
}

#[test]
fn a_quiet_line_carries_both_ways_and_then_is_quiet() {
    let (mut a, mut b) = pair();
    a.send(1, &[b"up ", &[7; 290]]).expect("fits");
    b.send(1, &[b"down"]).expect("fits");
    assert_eq!(a.send(1, &[b"x"]), Err(SendError::Busy));
    talk(1, &mut a, &mut b);
    assert_eq!(a.message(), Some(&b"down"[..]));
    assert_eq!(b.message().map(<[u8]>::len), Some(293));
    assert!(a.is_free() && b.is_free());
    assert_eq!(a.send(1, &[&[0; 301]]), Err(SendError::Length { bytes: 301, max: 300 }));
    assert_eq!(a.send(1, &[]), Err(SendError::Length { bytes: 0, max: 300 }));
    let quiet_until = a.poll_timeout().min(b.poll_timeout());
    assert_eq!(quiet_until, 1 + KEEP_ALIVE_MS, "nothing to do until then");
    assert!(a.is_up(SILENCE_MS - 1) && !a.is_up(SILENCE_MS + 2));
}

#[test]
fn a_message_that_nobody_takes_stops_the_line_and_no_longer() {
    let (mut a, mut b) = pair();
    for text in [b"one", b"two"] {
        a.send(1, &[text]).expect("free");
        talk(1, &mut a, &mut b);
    }
    assert_eq!(b.message(), Some(&b"one"[..]));
    assert!(!a.is_free(), "there is no room for it");
    // The word that there is room is lost: it is asked for.
    b.release();
    let mut wire = [0; FRAME_WIRE_BYTES_MAX];
    assert!(b.poll_transmit(2, &mut wire).is_some() && b.poll_transmit(2, &mut wire).is_none());
    talk(2, &mut a, &mut b);
    assert_eq!(b.message(), None);
    talk(a.poll_timeout(), &mut a, &mut b);
    assert_eq!(b.message(), Some(&b"two"[..]));
}

#[test]
fn ends_of_different_size_agree() {
    let (mut a, mut b) = (Link::<50, 300>::new(1, CONFIG), Link::<300, 100>::new(2, CONFIG));
    // Before they know each other: too long for the other end, and dropped when that is known.
    b.send(0, &[&[1; 60]]).expect("its own bound");
    let mut wire = [0; FRAME_WIRE_BYTES_MAX];
    for _ in 0..10 {
        while let Some(bytes) = a.poll_transmit(0, &mut wire) {
            b.receive(0, bytes);
        }
        while let Some(bytes) = b.poll_transmit(0, &mut wire) {
            a.receive(0, bytes);
        }
    }
    assert_eq!((b.message_bytes_max(), b.counts().too_long, b.is_free()), (50, 1, true));
    assert_eq!(b.send(1, &[&[1; 60]]), Err(SendError::Length { bytes: 60, max: 50 }));
    assert_eq!(a.message_bytes_max(), 300);
}

#[test]
fn the_other_end_starts_anew() {
    let (mut a, mut b) = pair();
    a.send(1, &[&[9; 280]]).expect("free");
    let mut wire = [0; FRAME_WIRE_BYTES_MAX];
    let first = a.poll_transmit(1, &mut wire).expect("half of it").to_vec();
    b.receive(1, &first);
    let mut b = Small::new(3, CONFIG);
    talk(2, &mut a, &mut b);
    assert!(a.poll_begun() && b.poll_begun());
    assert_eq!(b.message(), Some(&[9; 280][..]), "from its beginning");
    // What is left in a buffer from the life before is nobody's.
    let before = b.counts();
    b.receive(3, &first);
    assert_eq!(b.counts(), Counts { stray: before.stray + 1, ..before });
}

/// A frame of the right form with anything in it, likely things more often.
fn hostile(state: &mut u64, sessions: [u32; 2]) -> Vec<u8> {
    let kinds = [Kind::Hello, Kind::Part, Kind::Last, Kind::Ack, Kind::Again];
    let mut session = |true_one: u32| match xorshift(state) % 3 {
        0 => true_one,
        1 => xorshift(state) as u32 % 4,
        _ => xorshift(state) as u32,
    };
    let (from, to) = (session(sessions[0]), session(sessions[1]));
    let mut number = || (xorshift(state) % [6, 65_536][(xorshift(state) % 2) as usize]) as u16;
    let (seq, ack, limit) = (number(), number(), number());
    let body: Vec<u8> = (0..xorshift(state) % 235).map(|n| n as u8 % 3).collect();
    let kind = kinds[(xorshift(state) % 5) as usize];
    let mut wire = [0; FRAME_WIRE_BYTES_MAX];
    Frame { kind, from, to, seq, ack, limit, body: &body }.encode(&mut wire).to_vec()
}

/// Who has the line in his hands may alter, lose and invent messages. He makes nobody panic, and
/// once he has gone everything passes again.
#[test]
fn a_hostile_line_does_no_lasting_harm() {
    for seed in 1..500u64 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let (mut a, mut b) = pair();
        for now_ms in 1..40 {
            let forged = hostile(&mut state, [a.end.session, b.end.session]);
            b.receive(now_ms, &forged);
            let _ = (b.send(now_ms, &[&forged]), a.send(now_ms, &[&forged]));
            talk(now_ms, &mut a, &mut b);
            a.release();
            b.release();
        }
        let mut came = [false; 2];
        let mut now_ms = 40;
        while came != [true; 2] {
            now_ms += 10;
            assert!(now_ms < 60_000, "seed {seed}: {came:?}");
            let _ = (a.send(now_ms, &[b"well"]), b.send(now_ms, &[b"well"]));
            talk(now_ms, &mut a, &mut b);
            for (at, end) in [&mut a, &mut b].into_iter().enumerate() {
                came[at] |= end.message() == Some(b"well");
                end.release();
            }
        }
    }
}

#[test]
fn noise_alone_is_nothing() {
    let mut state = 42;
    let mut end = Small::new(1, CONFIG);
    for _ in 0..200_000 {
        end.receive(0, &[xorshift(&mut state) as u8]);
    }
    assert!(end.message().is_none() && !end.is_up(0) && !end.poll_begun());
    assert!(end.counts().broken > 100, "{:?}", end.counts());
}
