//! Made-up networks: as small or as slow as a test wants, and no two alike.

use fleetway_protocol::ids::Digest;
use fleetway_qnn::format::{
    AvgPool, Element, HEADER_WORDS, Header, IO_WORDS, Io, OP_WORDS, Op, Table,
};

/// Work of a slow one, in pools: half a billion sums, some seconds of an emulated processor.
pub const SLOW_POOLS: u32 = 40;
/// The side of what a pool works on, pixels of four channels.
const SIDE: u32 = 64;
/// Bytes of such an image.
const IMAGE_BYTES: u32 = SIDE * SIDE * 4;
/// What the input and the output are called, and some filling to the next word.
const NAME: [u8; 4] = *b"x   ";

/// A network of one table: its answer is its input, `width` numbers, moved by `shift` steps. Behind
/// the table comes filling up to `bytes` that differs with `shift`, so that no chunk of two of
/// them is the same. Before it answers it works for `pools` times sixteen million steps.
pub fn network(width: u32, shift: u8, bytes: usize, pools: u32) -> Vec<u8> {
    let ops_bytes = (pools as usize + 1) * OP_WORDS * 4;
    let names = ((HEADER_WORDS + 2 * IO_WORDS) * 4 + ops_bytes) as u32;
    let scratch = 2 * width;
    let header = Header {
        file_bytes: bytes as u32,
        arena_bytes: scratch + if pools > 0 { 2 * IMAGE_BYTES } else { 0 },
        inputs: 1,
        outputs: 1,
        ops: pools + 1,
        open: 0,
    };
    let table = Table { input: 0, output: width, bytes: width, table: names + NAME.len() as u32 };
    let mut words: Vec<u32> = header.to_words().to_vec();
    words.extend(port(width, 0, names).to_words());
    words.extend(port(width, width, names).to_words());
    words.extend((0..pools).flat_map(|_| pool(scratch).to_words()));
    words.extend(Op::Table(table).to_words());
    let mut file: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    file.extend(NAME);
    file.extend((0..=255u8).map(|byte| byte.wrapping_add(shift)));
    let filling = (0..).flat_map(|n: u32| Digest::of(&[&[shift], &n.to_le_bytes()[..]].concat()).0);
    let missing = bytes.saturating_sub(file.len());
    file.extend(filling.take(missing));
    file
}

/// An input or an output of `width` real numbers.
fn port(width: u32, arena: u32, name: u32) -> Io {
    Io {
        element: Element::F32,
        rank: 1,
        dims: [width, 1, 1, 1, 1, 1],
        arena,
        elements: width,
        scale: 1.0,
        zero: 0,
        name,
        name_bytes: 1,
    }
}

/// A mean over a wide window of every pixel of what lies at `at`.
fn pool(at: u32) -> Op {
    Op::AvgPool(AvgPool {
        input: at,
        output: at + IMAGE_BYTES,
        batch: 1,
        ih: SIDE,
        iw: SIDE,
        ic: 4,
        oh: SIDE,
        ow: SIDE,
        kh: 31,
        kw: 31,
        sh: 1,
        sw: 1,
        dh: 1,
        dw: 1,
        pt: 15,
        pl: 15,
        count_pad: 0,
        zx: 0,
        zy: 0,
        lo: 0,
        hi: 255,
        scale_x: 1.0f32.to_bits(),
        scale_y: 1.0f32.to_bits(),
    })
}
