//! Every figure is a limit of its own: one below what the model needs, and it says so, by how much.

use fleetway_protocol::ids::Digest;

use super::*;

/// A class that has room for the digits.
pub(in crate::catalog) const PLENTY: Room = Room {
    model_bytes: 1 << 20,
    golden_bytes: 1 << 20,
    arena_bytes: 1 << 20,
    input_values: 1 << 20,
    output_values: 1 << 20,
    work: 1 << 40,
    operators: None,
};

fn artifact(bytes: u32, chunk_bytes: u32) -> Artifact {
    let digest = Digest([0; 32]);
    Artifact { digest, bytes, chunk_bytes, chunk_list: digest }
}

#[test]
fn each_limit_is_held() {
    let onnx = include_bytes!("../../../tests/models/digits/digits-v2.onnx");
    let file = fleetway_qnnc::compile(onnx).unwrap();
    let model = Model::load(&file).unwrap();
    let (bytes, arena, work) = (file.len() as u32, model.arena_bytes() as u32, model.work());
    let artifacts = Some((artifact(bytes, 4096), artifact(9000, 4096)));
    let class = HardwareClass::new("m4").unwrap();
    let exact = Room {
        model_bytes: bytes,
        golden_bytes: 9000,
        arena_bytes: arena,
        input_values: 64,
        output_values: 10,
        work,
        operators: Some(Op::NAMES.iter().map(|name| (*name).to_owned()).collect()),
    };
    let told = |room: &Room, artifacts| {
        judge(&class, room, Ok(Load { file: &file, artifacts })).to_string()
    };
    let fits = told(&exact, artifacts);
    assert!(
        fits.starts_with(&format!("fits m4: model {bytes} of {bytes} bytes, arena ")),
        "{fits}"
    );
    let check = |room: Room, expected: &str| {
        assert_eq!(told(&room, artifacts), format!("does not fit m4: {expected}"));
    };
    let least = |what: &str, needs: u64, unit: &str| {
        format!("{what} {needs} of {} {unit} (1 too many)", needs - 1)
    };
    let model = least("model", bytes.into(), "bytes");
    check(Room { model_bytes: bytes - 1, ..exact.clone() }, &model);
    let golden = least("golden vectors", 9000, "bytes");
    check(Room { golden_bytes: 8999, ..exact.clone() }, &golden);
    let memory = least("arena", arena.into(), "bytes");
    check(Room { arena_bytes: arena - 1, ..exact.clone() }, &memory);
    check(Room { input_values: 63, ..exact.clone() }, &least("input", 64, "numbers"));
    check(Room { output_values: 9, ..exact.clone() }, &least("output", 10, "numbers"));
    let slow = least("work", work, "multiply-accumulates");
    check(Room { work: work - 1, ..exact.clone() }, &slow);
    let both = format!("{model}, {slow}");
    check(Room { model_bytes: bytes - 1, work: work - 1, ..exact.clone() }, &both);
    // A runtime from before the model's operators.
    let old = Room { operators: Some(vec!["Softmax".into()]), ..exact.clone() };
    let told_old = told(&old, artifacts);
    assert!(told_old.starts_with("does not fit m4: its runtime has no "), "{told_old}");
    assert!(told_old.contains("Conv"), "{told_old}");
    // As it is cut.
    let cut = |chunk| told(&exact, Some((artifact(bytes, 4096), artifact(9000, chunk))));
    assert!(cut(8192).ends_with("chunk 8192 of 4096 bytes (4096 too many)"), "{}", cut(8192));
    assert!(
        cut(3000).ends_with("chunks of 3000 bytes do not fill a block of 4096"),
        "{}",
        cut(3000)
    );
    let long = told(&PLENTY, Some((artifact(600_000, 4096), artifact(9000, 4096))));
    assert!(long.ends_with("list of the model 147 of 128 chunks (19 too many)"), "{long}");
}

#[test]
fn what_is_no_network_of_one_float_input_and_output_fits_nowhere() {
    let class = HardwareClass::new("m4").unwrap();
    let none = judge(&class, &PLENTY, Err("node `x` is float"));
    assert!(!none.fits && none.to_string().ends_with("run no other: node `x` is float"), "{none}");
    let rubbish = judge(&class, &PLENTY, Ok(Load { file: b"rubbish", artifacts: None }));
    assert!(!rubbish.fits && rubbish.to_string().contains("damaged"), "{rubbish}");
}
