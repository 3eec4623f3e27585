//! `cargo xtask demo [--mcu] [--stay]`: a fleet on one laptop.

fn main() -> std::process::ExitCode {
    fleetway_tests::demo::main()
}
