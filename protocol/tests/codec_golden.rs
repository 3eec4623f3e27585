//! The wire and the disk, byte by byte. Each sample is bytes that an older build wrote, so a
//! sample that does not decode means: fleets in the field and this build do not understand
//! each other, or a device forgets what it knew at its next update. Do not correct a sample;
//! raise `WIRE_VERSION` (or the record's magic), read both, and add the new sample beside it.

#[path = "common/samples.rs"]
mod samples;

use fleetway_protocol::codec::{self, WIRE_VERSION};
use fleetway_protocol::envelope::{Context, Envelope};
use fleetway_protocol::hold::{Condition, Conditions, Point};
use fleetway_protocol::ids::Digest;
use fleetway_protocol::limits::*;
use fleetway_protocol::machine::Phase;
use fleetway_protocol::manifest::{Manifest, VariantKind};
use fleetway_protocol::order::{Action, Order};
use fleetway_protocol::reason::Reason;
use fleetway_protocol::record;
use fleetway_protocol::report::Block;
use fleetway_protocol::sandbox::Fence;
use fleetway_protocol::shadow::Otherwise;
use fleetway_protocol::signed::{Algorithm, SignedReport, message};
use fleetway_protocol::slot::{Ending, SlotState};
use fleetway_protocol::topics::{Piece, Topic};
use fleetway_protocol::trust::Verified;
use samples::encoded;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: String = text.split_whitespace().collect();
    let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).expect("hex");
    (0..digits.len()).step_by(2).map(byte).collect()
}

/// The golden bytes decode to `value`, and `value` encodes to the golden bytes.
fn check<T>(value: &T, max: usize, golden: &str)
where
    T: serde::Serialize + for<'a> codec::Decode<'a> + PartialEq + core::fmt::Debug,
{
    assert_eq!(hex(&encoded(value)), hex(&unhex(golden)), "encodes to other bytes");
    assert_eq!(codec::decode::<T>(&unhex(golden), max).as_ref(), Ok(value));
}

/// Breaks: every signature of the release authority; signed releases could not be read, and
/// their digests, which orders and slot tables name, would be those of other bytes.
#[test]
fn manifest() {
    check(
        &samples::manifest(),
        MANIFEST_BYTES_MAX,
        "0106646967697473027632ac02020200101010101010101010101010101010101010101010101010 \
         1010101010101010a08d068080021111111111111111111111111111111111111111111111111111 \
         11111111111112121212121212121212121212121212121212121212121212121212121212128020 \
         80800213131313131313131313131313131313131313131313131313131313131313130120202020 \
         20202020202020202020202020202020202020202020202020202020a08d06808002212121212121 \
         21212121212121212121212121212121212121212121212121212222222222222222222222222222 \
         22222222222222222222222222222222222280208080022323232323232323232323232323232323 \
         2323232323232323232323232323230000803e010001013030303030303030303030303030303030 \
         3030303030303030303030303030300014901c000280a30514a09c0100b607649601008002020101 \
         0200000000003f0000c03f0000204000006040000090400000b0400000d0400000f0400000084196 \
         0196019601960196019601960196019601960103000080c0000040c0000000c0000080bf00000000 \
         0000803f000000400000404000008040960196019601960196019601960196019601960102bc05a0 \
         0601e0d403",
    );
}

/// Breaks: devices refuse every order of a newer controller, the way back included.
#[test]
fn order() {
    check(
        &samples::order(),
        ORDER_BYTES_MAX,
        "010663616d2d3031ac0280f09dc706c0bfc2c7060155555555555555555555555555555555020664 \
         6967697473f47bac667ee2bb031722f827697c52bb61b3ef297cb1ec984cea7a92816d09dd0007d8 \
         046414904eb607b0ea0180080164ac02d4070a9601901c01000811ac021f78ac0280c60a05666163 \
         657344444444444444444444444444444444444444444444444444444444444444440108d80464e8 \
         0700e807b0ea0180080000000000000000",
    );
}

/// Breaks: as above, and the signed message itself (context and SHA-256 of the payload), the
/// key ids, or Ed25519 by RFC 8032, which makes the same signature every time.
#[test]
fn envelope() {
    let golden = unhex(
        "011365786163746c79207468657365206279746573016a3803d5f059902a1c6dafbc9ba472924852 \
         3c96f88dff43be07ae31cc599450ddb6139dfbddc53b7a800ef17125deb4e0277e6d1beea9991843 \
         9d4297a39cf8461ebb233f56dff30dc629f9be7c0701",
    );
    let payload = b"exactly these bytes";
    let made = samples::sealed(&samples::director_key(), Context::Order, payload);
    assert_eq!(hex(&made), hex(&golden));
    let envelope = Envelope::decode(&golden).expect("decodes");
    let opened = envelope.open(&samples::keyring().director, Context::Order);
    assert_eq!(opened, Ok(&payload[..]));
}

/// Breaks: microcontrollers and their keysets; a fleet could never change a key again.
#[test]
fn keyset() {
    check(
        &samples::keyset(1),
        KEYSET_BYTES_MAX,
        "01010366be7e332c7a453332bd9d0a7f7db055f5c5ef1a06ada66d98b39fb6810c473a0b513ad9b4 \
         924015ca0902ed079044d3ac5dbec2306f06948c10da8eb6e39f2d91a28a0b74381593a4d9469579 \
         208926afc8ad82c8839b7644359b9eba9a4b3a02038a88e3dd7409f195fd52db2d3cba5d72ca6709 \
         bf1d94121bf3748801b40f6f5c012ad54207da194977dcf46adbfec2bc2e75b52d5a8a42184fedfd \
         c00024f0e3e8da046469672a511c34a1a2cb521df16bb246b8de8e7997ce235c7e76b22a3d7503a2 \
         4819dd8a05666163657301018139770ea87d175f56a35466c34c7ecccb8d8a91b4ee37a25df60f5b \
         8fc9b39401",
    );
}

/// Breaks: the controller takes devices for gone, or a leftover last will for new.
#[test]
fn presence() {
    check(&samples::presence(), REPORT_BYTES_MAX, "0103ac020105302e312e30ac0201020203010103706934");
}

/// Breaks: rollouts wait for devices whose state nobody can read, and halt.
#[test]
fn state() {
    check(
        &samples::state(),
        REPORT_BYTES_MAX,
        "0103ac02ac0201777777777777777777777777777777777777777777777777777777777777777702 \
         01888888888888888888888888888888888888888888888888888888888888888805c801010f0166 \
         666666666666666666666666666666666666666666666666666666666666660702070100d507b607 \
         ac02020100010104acf29dc7060188888888888888888888888888888888888888888888888888 \
         88888888888888ac02ab02010290a10f8407dc0bf80a010129",
    );
}

/// Breaks: gates get no numbers; and the meaning of the histogram's buckets.
#[test]
fn telemetry() {
    check(
        &samples::telemetry(),
        REPORT_BYTES_MAX,
        "0103ac0201ac02ab0280f09dc70677777777777777777777777777777777777777777777777777777777777777770204013700 \
         00000000000000000000000000000000000000000000000000020000000000000000000000000000 \
         000000000000000000000000000103010002020003000000000000000000000000000000000003f0 \
         9309030180dac40901",
    );
}

/// Breaks: devices send all their telemetry for ever, because they hear no answer.
#[test]
fn heard() {
    check(&samples::heard(), HEARD_BYTES_MAX, "010663616d2d303101ac020202ae02b602b802b802");
}

/// Breaks: the controller sends an order for ever, because it hears no answer.
#[test]
fn ack() {
    check(
        &samples::ack(),
        REPORT_BYTES_MAX,
        "0103ac02ac028931ea419c2177882403846d9ce393cd9a289c39dbde31d98919306f047edf670117",
    );
}

/// Breaks: devices whose broker keeps no blobs get none from the controller either.
#[test]
fn want() {
    check(
        &samples::want(),
        REPORT_BYTES_MAX,
        "0103ac029999999999999999999999999999999903000102ac02",
    );
}

/// Breaks: devices without a clock get no order any more that they believe.
#[test]
fn nonce() {
    let golden = "0103ac0255555555555555555555555555555555";
    check(&samples::nonce(), REPORT_BYTES_MAX, golden);
}

/// Breaks: controllers believe no device any more; and what a signature covers, on both sides.
#[test]
fn signed_report() {
    let golden = unhex(
        "01280103ac02ac028931ea419c2177882403846d9ce393cd9a289c39dbde31d98919306f047edf67 \
         01170140a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5 \
         a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5",
    );
    assert_eq!(hex(&samples::signed_report()), hex(&golden));
    let read = SignedReport::decode(&golden).expect("decodes");
    assert_eq!(read.report_unchecked(), samples::encoded(&samples::ack()));
    let topic = Topic::Ack(samples::device());
    let message = message(&Digest([1; 32]), Algorithm::EcdsaP256, &topic, b"report");
    assert_eq!(
        hex(&message),
        concat!(
            "666c6565747761792f76312f7265706f72740000000000000000000000000000",
            "ed57b75b576d824a245c065b6320f58366b5e4048ee30f3dd5d8c7a565587eb7"
        )
    );
}

/// Breaks: as for `want`, the answer to it.
#[test]
fn block() {
    let golden = unhex("019999999999999999999999999999999902ac02056368756e6b");
    assert_eq!(hex(&encoded(&samples::block())), hex(&golden));
    assert_eq!(Block::decode(&golden), Ok(samples::block()));
}

/// Breaks: an updated agent finds no table, takes the device for new, and serves nothing but
/// the factory model; floor and poison list are forgotten.
#[test]
fn slot_table_record() {
    let golden = unhex(
        "465752312a00000000000000f7000000010201000401bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb \
         bbbbbbbbbbbbbbbbbbbbbbbbbbbb0302010206d8046414904eb607b0ea0180080000000000000000 \
         00030101ccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccac02ab02 \
         010207d8046414904eb607b0ea01800800000000000000000001aaaaaaaaaaaaaaaaaaaaaaaaaaaa \
         aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa01000102000101666666666666666666666666666666 \
         66666666666666666666666666666666660001016666666666666666666666666666666666666666 \
         6666666666666666666666660702070100d507b607ac02db959842",
    );
    let mut buf = [0; TABLE_BYTES_MAX];
    let written = record::write(42, &samples::table(), &mut buf).expect("fits");
    assert_eq!(hex(written), hex(&golden));
    assert_eq!(record::read(&golden), Some((42, samples::table())));
    // Followed by the rest of a flash sector.
    let sector = [golden, vec![0xff; 100]].concat();
    assert_eq!(record::read(&sector), Some((42, samples::table())));
}

/// Breaks: numbers that travel inside the samples above would mean something else.
#[test]
fn positions_in_enums() {
    fn number<T: serde::Serialize>(value: T) -> u8 {
        encoded(&value)[1]
    }
    assert_eq!(WIRE_VERSION, 1);
    assert_eq!([VariantKind::Onnx, VariantKind::Qnn, VariantKind::Mixed].map(number), [0, 1, 2]);
    assert_eq!([Action::Run, Action::Rollback, Action::Remove].map(number), [0, 1, 2]);
    let phases = [
        Phase::Idle,
        Phase::Eligibility,
        Phase::Download,
        Phase::Verification,
        Phase::SelfTest,
        Phase::Activation,
        Phase::Probation,
        Phase::Rollback,
        Phase::Removal,
        Phase::Shadow,
        Phase::Held,
    ];
    assert_eq!(phases.map(number), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    let conditions = Condition::ALL.map(|condition| Conditions::NONE.with(condition));
    assert_eq!(conditions.map(number), [1, 2, 4, 8, 16]);
    assert_eq!([Point::Download, Point::Activation].map(number), [0, 1]);
    let otherwise = [Otherwise::Proceed, Otherwise::Wait, Otherwise::Fail];
    assert_eq!(otherwise.map(number), [0, 1, 2]);
    let states = [
        SlotState::Empty,
        SlotState::Receiving,
        SlotState::Verified,
        SlotState::Trial { tries_left: 0 },
        SlotState::Confirmed,
        SlotState::Bad(Reason::Golden),
    ];
    assert_eq!(states.map(number), [0, 1, 2, 3, 4, 5]);
    let endings = [
        Ending::Confirmed,
        Ending::Failed(Reason::Golden),
        Ending::RolledBack(Reason::Golden),
        Ending::Removed,
    ];
    assert_eq!(endings.map(number), [0, 1, 2, 3]);
    let pieces = [Piece::Release, Piece::ChunkList, Piece::Chunk(0)];
    assert_eq!(pieces.map(number), [0, 1, 2]);
    assert_eq!(Fence::ALL.map(number), [0, 1, 2, 3]);
}

#[test]
fn the_samples_are_what_the_trust_rules_take() {
    let keyring = samples::keyring();
    let order = Verified::<Order>::admit(
        &samples::sealed_order(),
        &keyring,
        &samples::device(),
        299,
        1_760_000_000,
    );
    assert_eq!(order.as_ref().map(Verified::get), Ok(&samples::order()));
    let wish = samples::model_order();
    let release = Verified::<Manifest>::admit(
        &samples::sealed_manifest(),
        &keyring,
        &wish,
        2,
        samples::TARGET,
    );
    let release = release.as_ref().map(|(release, form)| (release.get(), *form));
    assert_eq!(release, Ok((&samples::manifest(), VariantKind::Qnn)));
}
