//! The agent inside a Rust program: opens a device, says which release answers, and asks it once a second.
//!
//!     cargo run --example embed -- DIR MODEL INPUT DIMS...
//!
//! `DIR` is what `fleetway-agent join … --config DIR/agent.toml` made. This program is its own child in
//! self-tests, so it needs no other.

use std::process::ExitCode;
use std::time::Duration;

use fleetway_agent::embed::{self, Agent, Child, InferError, NamedTensor, Options, Tensor};

fn main() -> ExitCode {
    // First of all: this program is started again by the agent, to try a model.
    if embed::child_requested() {
        return embed::child_main();
    }
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [dir, model, input, dims @ ..] = words.as_slice() else {
        return Err("usage: embed DIR MODEL INPUT DIMS...".into());
    };
    let shape: Vec<usize> = dims.iter().map(|dim| dim.parse()).collect::<Result<_, _>>()?;
    let zeros = Tensor::from_f32(&shape, vec![0.0; shape.iter().product()])?;

    let options = Options { child: Child::ThisProgram, ..Options::default() };
    let agent = Agent::open_with(dir, options)?;
    let _told = agent.on_model_changed(|change| match &change.running {
        Some(now) => println!("{}: {} in slot {} answers", change.model, now.version, now.slot),
        None => println!("{}: nothing answers", change.model),
    })?;
    loop {
        let inputs = vec![NamedTensor { name: input.clone(), tensor: zeros.clone() }];
        match agent.infer(model, inputs) {
            Ok(answer) => {
                for output in &answer.outputs {
                    println!("{} {} = {:?}", answer.version, output.name, output.tensor.data());
                }
            }
            // It comes when somebody rolls it out.
            Err(InferError::UnknownModel { .. } | InferError::NotReady(_)) => {
                agent.status().problems.iter().for_each(|problem| eprintln!("{problem}"));
            }
            Err(error) => return Err(error.into()),
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}
