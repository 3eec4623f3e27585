//! What the int8 runtime takes of a microcontroller's flash, against its budget.

use anyhow::{Context as _, Result, bail};

use crate::cargo::{self, BARE_TARGET, cargo};

/// Bytes for loader, all operators and kernels: what is left beside an application in 256 KiB is for weights.
const FLASH_BYTES_MAX: u64 = 40 << 10;
/// The profile in which firmware is built.
const PROFILE: &str = "flash";

/// Links the runtime for a microcontroller and measures it.
pub(crate) fn check() -> Result<()> {
    cargo::run(&mut cargo(&[
        "build",
        "--package",
        "fleetway-qnn",
        "--bin",
        "flash",
        "--features",
        "flash",
        "--profile",
        PROFILE,
        "--target",
        BARE_TARGET,
    ]))?;
    let dir = cargo::program_dir(BARE_TARGET)?.join(PROFILE);
    let program = std::fs::read(dir.join("flash")).context("the linked runtime is not there")?;
    let bytes = flash_bytes(&program).context("the linked runtime is no ELF file of 32 bits")?;
    println!("qnn on {BARE_TARGET}: {bytes} bytes of flash, at most {FLASH_BYTES_MAX}");
    if bytes > FLASH_BYTES_MAX {
        bail!("the int8 runtime no longer fits its budget of flash");
    }
    Ok(())
}

/// Bytes of all sections that are loaded and have contents, from the section headers of the file.
pub(crate) fn flash_bytes(elf: &[u8]) -> Option<u64> {
    const ALLOCATED: u32 = 2;
    const WITHOUT_CONTENTS: u32 = 8;
    let half = |at: usize| Some(u16::from_le_bytes(elf.get(at..at + 2)?.try_into().ok()?));
    let word = |at: usize| Some(u32::from_le_bytes(elf.get(at..at + 4)?.try_into().ok()?));
    // "\x7fELF", 32 bits, little-endian.
    if elf.get(..6)? != [0x7f, b'E', b'L', b'F', 1, 1] {
        return None;
    }
    let (table, size, count) = (word(0x20)? as usize, half(0x2e)?, half(0x30)?);
    let section = |index: u16| {
        let at = table + usize::from(index) * usize::from(size);
        let (kind, flags, bytes) = (word(at + 4)?, word(at + 8)?, word(at + 20)?);
        let flash = flags & ALLOCATED != 0 && kind != WITHOUT_CONTENTS;
        Some(if flash { u64::from(bytes) } else { 0 })
    };
    (0..count).map(section).sum()
}
