//! `cargo xtask bench [--json FILE]`: the figures in the README.

fn main() -> std::process::ExitCode {
    fleetway_tests::bench::main()
}
