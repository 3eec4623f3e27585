//! Graphs of which only parts are int8: rewritten, they answer as onnxruntime does with them as they were.

mod common;

use common::{python, root};
use std::process::Command;

/// Graphs, half of them of kinds that once were, or would be, cut wrongly, half of them at random.
const GRAPHS: usize = 180;
const SEED: usize = 4;

#[test]
fn rewritten_graphs_answer_as_they_did() {
    let script = root().join("tests/python/qnn_mixed.py");
    let mut command = Command::new(python());
    command.arg(script).arg(env!("CARGO_BIN_EXE_fleetway-qnnc"));
    let output = command.args([GRAPHS, SEED].map(|number| number.to_string())).output();
    let output = output.expect("python runs");
    let (text, errors) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}\n{errors}");
    let (mut graphs, mut regions, mut left, mut all, mut different) = (0, 0, 0, 0, 0);
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let &[_, _, own_regions, own_left, numbers, off, most] = &words[..] else {
            panic!("{line}");
        };
        let number = |word: &str| word.parse::<usize>().expect("a number");
        graphs += 1;
        regions += number(own_regions);
        left += number(own_left);
        all += number(numbers);
        different += number(off);
        // A step in the middle may become two behind the next convolution.
        assert!(most.parse::<f32>().expect("steps") < 4.0, "{line}: {most} steps");
    }
    println!("{graphs} graphs, {regions} regions, {left} nodes left");
    println!("{different} of {all} numbers differ by a step or more");
    assert_eq!(graphs, GRAPHS);
    assert!(regions > GRAPHS && left > GRAPHS, "{regions} regions, {left} nodes left");
    assert!(different * 200 < all, "{different} of {all} differ");
}
