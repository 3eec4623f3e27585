//! Models that take and give bytes: a Linux device hands tensors of bytes about, a microcontroller numbers.
//! Golden vectors that the one encodes are read by the other, and the answers are the same numbers.

use fleetway_engine::golden::{GoldenSet, GoldenVector};
use fleetway_engine::tensor::{DType, Tensor, TensorData, TensorSpec};
use fleetway_firmware::engine::Memory;
use fleetway_firmware::golden;
use fleetway_qnn::format::HEADER_WORDS;
use fleetway_qnn::{Input, Kernels, Model, Output};

/// Every byte once, moved by a step: past the end is the other end.
const WIDTH: usize = 256;

/// A table's network whose input and output are of another type.
fn network(element: DType) -> Vec<u8> {
    let mut file = fleetway_emulator::network::network(WIDTH as u32, 1, 2_048, 0);
    let io_bytes = fleetway_qnn::format::IO_WORDS * 4;
    for port in 0..2 {
        file[HEADER_WORDS * 4 + port * io_bytes] = if element == DType::U8 { 1 } else { 2 };
    }
    file
}

/// One vector: all bytes, and what the model makes of them as Linux runs it.
fn vectors(element: DType, file: &[u8]) -> GoldenSet {
    let model = Model::load(file).unwrap();
    let mut arena = vec![0; model.arena_bytes()];
    let mut ran = |input: Input<'_>, output: Output<'_>| {
        model.run(Kernels::best(), &mut arena, &[input], &mut [output]).unwrap();
    };
    let (input, output) = if element == DType::U8 {
        let (input, mut output) = ((0..=255).collect::<Vec<u8>>(), vec![0; WIDTH]);
        ran(Input::U8(&input), Output::U8(&mut output));
        (TensorData::U8(input), TensorData::U8(output))
    } else {
        let (input, mut output) = ((-128..=127).collect::<Vec<i8>>(), vec![0; WIDTH]);
        ran(Input::S8(&input), Output::S8(&mut output));
        (TensorData::I8(input), TensorData::I8(output))
    };
    let spec =
        |name: &str| TensorSpec { name: name.to_owned(), dtype: element, shape: vec![WIDTH] };
    let tensor = |data| vec![Tensor::new(vec![WIDTH], data).unwrap()];
    let vector = GoldenVector { inputs: tensor(input), outputs: tensor(output) };
    GoldenSet::new(vec![spec("in")], vec![spec("out")], vec![vector]).unwrap()
}

#[test]
fn bytes_are_the_same_numbers_on_both() {
    for element in [DType::U8, DType::I8] {
        let file = network(element);
        let set = vectors(element, &file);
        let bytes = set.encode().unwrap();
        let mut arena = vec![0; 2 * WIDTH];
        let (mut input, mut output) = ([0.0; WIDTH], [0.0; WIDTH]);
        let mut memory = Memory {
            arena: &mut arena,
            input: &mut input,
            output: &mut output,
            work_max: u64::MAX,
        };
        let (given, want, next) = golden::vector(&bytes, golden::first(&bytes).unwrap()).unwrap();
        assert!(next.is_none());
        given.copy_to(memory.input).unwrap();
        memory.run(&file).unwrap();
        let seen = set.vectors()[0].outputs[0].data();
        let seen: Vec<f32> = (0..WIDTH).map(|at| seen.get_f64(at).unwrap() as f32).collect();
        assert_eq!(memory.output, seen, "{element:?}");
        assert!(golden::agrees(want, memory.output), "{element:?}");
        memory.output[WIDTH - 1] += 1.0;
        assert!(!golden::agrees(want, memory.output), "{element:?}");
        // A sensor may measure more than a byte holds: the nearest, half to even.
        for (at, number) in [-1e9, 1e9, f32::NAN, 2.5, 3.5].into_iter().enumerate() {
            memory.input[at] = number;
        }
        memory.run(&file).unwrap();
        let moved = |byte: i16| match element {
            DType::U8 => f32::from((byte + 1).rem_euclid(256)),
            _ => f32::from((byte + 1 + 128).rem_euclid(256) - 128),
        };
        let (least, most) = if element == DType::U8 { (0, 255) } else { (-128, 127) };
        let expected = [least, most, least, 2, 4].map(moved);
        assert_eq!(memory.output[..5], expected, "{element:?}");
    }
}
