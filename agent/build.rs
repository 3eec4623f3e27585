//! Linking the agent of small devices (profile `dist-small`): without the tables of an unwinder that it
//! does not use. They are 0.7 of its 5.7 MB, and the compiler has no other way to leave them out: the
//! standard library asks for them, and link-time optimization hands that on to everything. Static programs
//! have their relocations packed, 0.2 MB; with glibc that takes 2.36, so only with musl.

use std::path::Path;

/// The profile whose programs end at a panic. Cargo tells a build script neither the profile's name nor its
/// `panic`; only the directory says it.
const PROFILE: &str = "dist-small";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=no-unwind.ld");
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let is_small = Path::new(&variable("OUT_DIR")).iter().any(|part| part == PROFILE);
    if is_small && variable("CARGO_CFG_TARGET_OS") == "linux" {
        println!("cargo::rustc-link-arg-bins=-T");
        println!("cargo::rustc-link-arg-bins={}/no-unwind.ld", variable("CARGO_MANIFEST_DIR"));
        if variable("CARGO_CFG_TARGET_ENV") == "musl" {
            println!("cargo::rustc-link-arg-bins=-z");
            println!("cargo::rustc-link-arg-bins=pack-relative-relocs");
        }
    }
}
