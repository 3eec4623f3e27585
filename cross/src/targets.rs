//! The one table of what is built for which device: targets, how they are linked, who can run them here,
//! and how large a program may become.
//!
//! A budget is what was measured and one part in twenty: a change that makes a program larger than that is
//! decided, not noticed. `cargo xtask cross` prints how far each is from its own.
//! (The library's is a guess: it was checked for its target, and never built.)

use crate::cargo::{BARE_TARGET, RISCV_TARGET};
use crate::needs::QEMU_AARCH64;

/// A target and what is built for it.
pub(crate) struct Target {
    /// As Rust names it.
    pub(crate) triple: &'static str,
    /// The C compiler: some assembler and C of `ring` is built with it, and programs that use the
    /// system's library are linked with it.
    pub(crate) cc: Tool,
    /// Headers and library of the system beside the compiler, if they are a package of their own.
    pub(crate) libc: &'static str,
    /// Whether the program is static and linked by what comes with Rust.
    pub(crate) is_static: bool,
    /// Runs its programs on this machine; nothing if this machine does by itself.
    pub(crate) runner: Option<Runner>,
    pub(crate) builds: &'static [Build],
}

/// A board with a microcontroller, in `firmware/boards/`.
pub(crate) struct Board {
    pub(crate) name: &'static str,
    pub(crate) triple: &'static str,
    /// Bytes of flash for the firmware, the runtime of models included, no model.
    pub(crate) flash_bytes_max: u64,
}

/// A program, and the Debian package that brings it.
pub(crate) struct Tool {
    pub(crate) program: &'static str,
    pub(crate) package: &'static str,
}

/// An emulator of one processor's user programs.
pub(crate) struct Runner {
    pub(crate) program: &'static str,
    /// Where the system's library lies.
    pub(crate) root: &'static str,
}

/// Something that is built.
pub(crate) struct Build {
    pub(crate) what: What,
    /// Bytes, stripped.
    pub(crate) bytes_max: u64,
    /// Whether `cargo xtask test` builds it too. The others are minutes of a compiler each.
    pub(crate) is_tested: bool,
}

/// What it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// The agent for int8 models alone, as small as it gets.
    Small,
    /// The agent with tract, for any ONNX model.
    Full,
    /// The static library for applications, for int8 models alone.
    Library,
}

const AARCH64_CC: Tool =
    Tool { program: "aarch64-linux-gnu-gcc", package: "gcc-aarch64-linux-gnu" };
const AARCH64_LIBC: &str = "libc6-dev-arm64-cross";
const SMALL: What = What::Small;

/// All of them.
pub(crate) const TARGETS: &[Target] = &[
    Target {
        triple: "aarch64-unknown-linux-musl",
        cc: AARCH64_CC,
        libc: AARCH64_LIBC,
        is_static: true,
        runner: Some(Runner { program: QEMU_AARCH64, root: "/" }),
        builds: &[
            Build { what: SMALL, bytes_max: 4_050_000, is_tested: true },
            Build { what: What::Full, bytes_max: 24_150_000, is_tested: false },
        ],
    },
    Target {
        triple: "aarch64-unknown-linux-gnu",
        cc: AARCH64_CC,
        libc: AARCH64_LIBC,
        is_static: false,
        runner: Some(Runner { program: QEMU_AARCH64, root: "/usr/aarch64-linux-gnu" }),
        builds: &[Build { what: SMALL, bytes_max: 4_250_000, is_tested: true }],
    },
    Target {
        triple: "armv7-unknown-linux-gnueabihf",
        cc: Tool { program: "arm-linux-gnueabihf-gcc", package: "gcc-arm-linux-gnueabihf" },
        libc: "libc6-dev-armhf-cross",
        is_static: false,
        runner: Some(Runner { program: "qemu-arm-static", root: "/usr/arm-linux-gnueabihf" }),
        builds: &[Build { what: SMALL, bytes_max: 4_650_000, is_tested: true }],
    },
    Target {
        triple: "riscv64gc-unknown-linux-gnu",
        cc: Tool { program: "riscv64-linux-gnu-gcc", package: "gcc-riscv64-linux-gnu" },
        libc: "libc6-dev-riscv64-cross",
        is_static: false,
        runner: Some(Runner { program: "qemu-riscv64-static", root: "/usr/riscv64-linux-gnu" }),
        builds: &[Build { what: SMALL, bytes_max: 4_050_000, is_tested: true }],
    },
    Target {
        triple: "x86_64-unknown-linux-musl",
        cc: Tool { program: "gcc", package: "gcc" },
        libc: "",
        is_static: true,
        runner: None,
        builds: &[Build { what: SMALL, bytes_max: 5_000_000, is_tested: true }],
    },
    Target {
        triple: "aarch64-linux-android",
        cc: AARCH64_CC,
        libc: AARCH64_LIBC,
        is_static: true,
        runner: None,
        builds: &[Build { what: What::Library, bytes_max: 27_700_000, is_tested: false }],
    },
];

/// All boards.
pub(crate) const BOARDS: &[Board] = &[
    Board { name: "mps2-an386", triple: BARE_TARGET, flash_bytes_max: 154_000 },
    Board { name: "ast1030-evb", triple: BARE_TARGET, flash_bytes_max: 154_000 },
    Board { name: "riscv32-virt", triple: RISCV_TARGET, flash_bytes_max: 203_000 },
];
