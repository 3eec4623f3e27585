//! Cases from `tests/python/qnn_cases.py`, and how they are run.
#![allow(dead_code, reason = "each test program uses a part of it")]

use fleetway_qnn::format::Element;
use fleetway_qnn::team::{Alone, Team};
use fleetway_qnn::{Input, Kernels, Model, Output};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the script wants; the versions that the figures in docs/qnn.md were taken with.
const PACKAGES: [&str; 3] = ["numpy==2.4.6", "onnx==1.23.2", "onnxruntime==1.32.0"];
const HOW: &str = "Python packages are needed: install Python 3.10 or newer with venv and pip (Debian: \
                   `apt-get install python3 python3-venv`) and let pip reach a package index";

/// A tensor, as bytes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Array {
    pub(crate) element: Element,
    pub(crate) bytes: Vec<u8>,
}

/// A model, and what onnxruntime answers.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) model: Vec<u8>,
    /// Inputs and outputs of each run.
    pub(crate) runs: Vec<(Vec<Array>, Vec<Array>)>,
}

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("a workspace").to_path_buf()
}

fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}\n{HOW}"));
    assert!(
        output.status.success(),
        "{command:?} failed\n{}\n{HOW}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The interpreter that has onnxruntime; prepared once, under the target directory. The tests of
/// one program run at once, and so may two programs: the lock lets one of them prepare it.
pub(crate) fn python() -> PathBuf {
    const NAME: &str = "python-onnxruntime-1.32.0";
    let dir = target().join(NAME);
    let (python, ready) = (dir.join("bin/python"), dir.join("ready"));
    let lock = File::create(target().join(format!("{NAME}.lock"))).expect("a target directory");
    lock.lock().expect("a file system with locks");
    if !ready.exists() {
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&dir));
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
        run(Command::new(&python).args(pip).args(PACKAGES));
        std::fs::write(&ready, b"").expect("a file in the target directory");
    }
    python
}

/// Networks that `qnn_models.py` makes into `dir`: their paths.
pub(crate) fn generated(dir: &Path) -> Vec<String> {
    let script = root().join("tests/python/qnn_models.py");
    run(Command::new(python()).arg(script).arg(dir).arg("--all"));
    let paths =
        std::fs::read_dir(dir).expect("the models").map(|entry| entry.expect("a file").path());
    paths.map(|path| path.to_string_lossy().into_owned()).collect()
}

/// Has the script write cases, and reads them.
pub(crate) fn cases(what: &str, args: &[String]) -> Vec<Case> {
    let out = tempfile::NamedTempFile::new().expect("a temporary file");
    let script = root().join("tests/python/qnn_cases.py");
    run(Command::new(python()).arg(script).arg(what).arg(out.path()).args(args));
    let bytes = std::fs::read(out.path()).expect("what the script wrote");
    let mut reader = Reader(&bytes);
    (0..reader.word()).map(|_| reader.case()).collect()
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take(&mut self, len: usize) -> Vec<u8> {
        let (found, rest) = self.0.split_at(len);
        self.0 = rest;
        found.to_vec()
    }

    fn word(&mut self) -> usize {
        let (word, rest) = self.0.split_first_chunk::<4>().expect("four bytes more");
        self.0 = rest;
        u32::from_le_bytes(*word) as usize
    }

    fn arrays(&mut self) -> Vec<Array> {
        let read = |reader: &mut Self| {
            let element = [Element::F32, Element::U8, Element::S8][reader.word()];
            let len = reader.word();
            Array { element, bytes: reader.take(len) }
        };
        (0..self.word()).map(|_| read(self)).collect()
    }

    fn case(&mut self) -> Case {
        let len = self.word();
        let name = String::from_utf8(self.take(len)).expect("a name");
        let len = self.word();
        let model = self.take(len);
        let runs = (0..self.word()).map(|_| (self.arrays(), self.arrays())).collect();
        Case { name, model, runs }
    }
}

fn reals(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

fn signed(bytes: &[u8]) -> Vec<i8> {
    bytes.iter().map(|&byte| byte as i8).collect()
}

/// Cuts every operator into three parts, and does the last one first.
struct Backwards;

impl Team for Backwards {
    fn parts(&self, _: u64) -> usize {
        3
    }

    fn both(&self, a: &mut (dyn FnMut() + Send), b: &mut (dyn FnMut() + Send)) {
        b();
        a();
    }
}

/// Runs a compiled model as a whole and in parts, which must be the same.
pub(crate) fn answer(model: &Model<'_>, kernels: Kernels, inputs: &[Array]) -> Vec<Array> {
    let whole = answer_of(model, kernels, &Alone, inputs);
    assert!(whole == answer_of(model, kernels, &Backwards, inputs), "in parts: {}", kernels.name());
    whole
}

fn answer_of(model: &Model<'_>, kernels: Kernels, team: &dyn Team, inputs: &[Array]) -> Vec<Array> {
    let mut arena = vec![0xA5; model.arena_bytes()];
    let floats: Vec<Vec<f32>> = inputs.iter().map(|input| reals(&input.bytes)).collect();
    let signed: Vec<Vec<i8>> = inputs.iter().map(|input| signed(&input.bytes)).collect();
    let given: Vec<Input<'_>> = inputs
        .iter()
        .enumerate()
        .map(|(at, input)| match input.element {
            Element::F32 => Input::F32(&floats[at]),
            Element::U8 => Input::U8(&input.bytes),
            Element::S8 => Input::S8(&signed[at]),
        })
        .collect();
    enum Room {
        F32(Vec<f32>),
        U8(Vec<u8>),
        S8(Vec<i8>),
    }
    let mut rooms: Vec<Room> = model
        .outputs()
        .map(|(_, io)| match io.element {
            Element::F32 => Room::F32(vec![0.0; io.elements as usize]),
            Element::U8 => Room::U8(vec![0; io.elements as usize]),
            Element::S8 => Room::S8(vec![0; io.elements as usize]),
        })
        .collect();
    let mut taken: Vec<Output<'_>> = rooms
        .iter_mut()
        .map(|room| match room {
            Room::F32(room) => Output::F32(room),
            Room::U8(room) => Output::U8(room),
            Room::S8(room) => Output::S8(room),
        })
        .collect();
    model.run_with(kernels, team, &mut arena, &given, &mut taken).expect("it runs");
    rooms
        .into_iter()
        .map(|room| match room {
            Room::F32(room) => Array {
                element: Element::F32,
                bytes: room.iter().flat_map(|real| real.to_le_bytes()).collect(),
            },
            Room::U8(room) => Array { element: Element::U8, bytes: room },
            Room::S8(room) => Array {
                element: Element::S8,
                bytes: room.into_iter().map(|byte| byte as u8).collect(),
            },
        })
        .collect()
}

/// The numbers of a tensor.
pub(crate) fn reals_of(of: &Array) -> impl Iterator<Item = f32> {
    let numbers: Vec<f32> = match of.element {
        Element::F32 => reals(&of.bytes),
        Element::U8 => of.bytes.iter().map(|&byte| f32::from(byte)).collect(),
        Element::S8 => of.bytes.iter().map(|&byte| f32::from(byte as i8)).collect(),
    };
    numbers.into_iter()
}

/// The index of the largest number.
pub(crate) fn best(of: &Array) -> usize {
    let numbers: Vec<f32> = reals_of(of).collect();
    let mut best = 0;
    for (index, number) in numbers.iter().enumerate() {
        if *number > numbers[best] {
            best = index;
        }
    }
    best
}
