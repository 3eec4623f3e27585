//! An emulated board: built, started, killed, started again with the flash as it was.

use std::io::{self, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

/// A kind of board.
#[derive(Debug)]
pub struct Kind {
    /// Its crate's directory, and what hardware it is to the fleet.
    pub name: &'static str,
    /// What it is built for.
    pub target: &'static str,
    qemu: &'static str,
    /// Its machine, and how the program gets there.
    args: &'static [&'static str],
    program: &'static str,
    /// Its flash: QEMU's words for a file at `{}`, and how long that is.
    flash: &'static [&'static str],
    flash_bytes: usize,
    /// Where the board expects its page.
    page_at: u32,
    /// The end of its memory, where its stack begins.
    stack_at: u32,
    /// How QEMU is ended so that the flash is as after a power cut: SIGKILL, unless QEMU itself
    /// still has writes in hand, which no flash has.
    signal: &'static str,
    /// Whether it says something for a person.
    pub has_text: bool,
}

/// Cortex-M4F. PSRAM for flash, mapped from the file: a kill is exactly a power cut.
pub const MPS2: Kind = Kind {
    name: "mps2-an386",
    target: "thumbv7em-none-eabihf",
    qemu: "qemu-system-arm",
    args: &["-M", "mps2-an386,memory-backend=psram", "-m", "16M", "-action", "watchdog=reset"],
    program: "-kernel",
    flash: &["-object", "memory-backend-file,id=psram,size=16M,mem-path={},share=on"],
    flash_bytes: 16 << 20,
    page_at: 0x0030_0000,
    stack_at: 0x2040_0000,
    signal: "-KILL",
    has_text: true,
};
/// Cortex-M4F with a serial flash that takes commands. QEMU has writes to it in hand: SIGTERM
/// stops the processor anywhere, and lets them come to their end.
pub const AST1030: Kind = Kind {
    name: "ast1030-evb",
    target: "thumbv7em-none-eabihf",
    qemu: "qemu-system-arm",
    args: &["-M", "ast1030-evb", "-m", "1M", "-action", "watchdog=reset"],
    program: "-kernel",
    flash: &["-drive", "file={},format=raw,if=mtd"],
    flash_bytes: 4 << 20,
    page_at: 0x000a_0000,
    stack_at: 0x000a_0000,
    signal: "-TERM",
    has_text: false,
};
/// RISC-V of 32 bits. Parallel NOR, each word written at once.
pub const RISCV32: Kind = Kind {
    name: "riscv32-virt",
    target: "riscv32imac-unknown-none-elf",
    qemu: "qemu-system-riscv32",
    args: &["-M", "virt", "-m", "16M"],
    program: "-bios",
    flash: &["-drive", "file={},format=raw,if=pflash,unit=1"],
    flash_bytes: 32 << 20,
    page_at: 0x8060_0000,
    stack_at: 0x8060_0000,
    signal: "-KILL",
    has_text: false,
};

/// Bytes of stack that are painted when power comes, and with what: more than any board has room for.
const PAINTED: usize = 128 << 10;
const PAINT: u8 = 0xa5;
/// Time between two looks at whether something is there, and looks until it is given up.
const LOOK: Duration = Duration::from_millis(5);
const LOOKS_MAX: u32 = 6_000;

/// Why there is no board.
#[derive(Debug, thiserror::Error)]
pub enum EmulatorError {
    /// Its program does not build.
    #[error("the board's program does not build; `rustup target add` may help:\n{0}")]
    Build(String),
    /// QEMU is not here, or does not start.
    #[error("{qemu} does not start: install qemu-system-arm and qemu-system-misc")]
    Start {
        /// The program.
        qemu: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// QEMU ended, or does not open the line.
    #[error("the emulated board does not come up; see what {0} said above")]
    Dead(&'static str),
    /// The files beside it.
    #[error("the board's files")]
    Files(#[from] io::Error),
}

/// A board of this machine.
#[derive(Debug)]
pub struct Board {
    kind: &'static Kind,
    dir: TempDir,
    program: PathBuf,
    qemu: Option<Child>,
}

impl Board {
    /// A board with this page, its program built, its flash blank, off.
    ///
    /// # Errors
    /// [`EmulatorError`].
    pub fn new(kind: &'static Kind, page: &[u8]) -> Result<Self, EmulatorError> {
        Self::with(kind, page, &format!("fleetway-{}", kind.name))
    }

    /// The same with another program of that board's.
    ///
    /// # Errors
    /// [`EmulatorError`].
    pub fn with(kind: &'static Kind, page: &[u8], program: &str) -> Result<Self, EmulatorError> {
        let program = built(kind, program)?;
        let dir = tempfile::Builder::new().prefix("fleetway-board-").tempdir()?;
        std::fs::write(dir.path().join("page"), page)?;
        std::fs::write(dir.path().join("flash"), vec![0xff; kind.flash_bytes])?;
        std::fs::write(dir.path().join("paint"), vec![PAINT; PAINTED])?;
        Ok(Self { kind, dir, program, qemu: None })
    }

    /// Power comes.
    ///
    /// # Errors
    /// [`EmulatorError`].
    pub fn power(&mut self) -> Result<(), EmulatorError> {
        self.kill();
        let path = |name: &str| self.dir.path().join(name).display().to_string();
        // Of the life before; QEMU makes it anew.
        let _ = std::fs::remove_file(self.line());
        let mut qemu = Command::new(self.kind.qemu);
        qemu.args(self.kind.args).args(["-display", "none"]);
        qemu.arg("-monitor").arg(format!("unix:{},server=on,wait=off", path("monitor")));
        qemu.args(self.kind.flash.iter().map(|word| word.replace("{}", &path("flash"))));
        qemu.arg("-chardev");
        qemu.arg(format!("socket,id=line,path={},server=on,wait=off", path("line")));
        qemu.args(["-serial", "chardev:line"]);
        if self.kind.has_text {
            qemu.arg("-chardev").arg(format!("file,id=text,append=on,path={}", path("text")));
            qemu.args(["-serial", "chardev:text"]);
        }
        let paint_at = self.kind.stack_at - PAINTED as u32;
        for (name, at) in [("page", self.kind.page_at), ("paint", paint_at)] {
            let file = path(name);
            qemu.arg("-device").arg(format!("loader,file={file},addr={at:#x},force-raw=on"));
        }
        qemu.arg(self.kind.program).arg(&self.program).stdin(Stdio::null());
        let start = |source| EmulatorError::Start { qemu: self.kind.qemu, source };
        self.qemu = Some(qemu.spawn().map_err(start)?);
        self.connect().map(drop)
    }

    /// The power goes, wherever the program is.
    pub fn kill(&mut self) {
        let Some(mut child) = self.qemu.take() else { return };
        // `Child::kill` knows one signal only.
        let _ = Command::new("kill").args([self.kind.signal, &child.id().to_string()]).status();
        let _ = child.wait();
    }

    /// The unix socket at which the line to the board is: for a gateway's
    /// `socket = "unix:..."`. One end at a time; it may come and go.
    pub fn line(&self) -> PathBuf {
        self.dir.path().join("line")
    }

    /// The line itself, for a test that is the gateway.
    ///
    /// # Errors
    /// [`EmulatorError::Dead`].
    pub fn connect(&mut self) -> Result<UnixStream, EmulatorError> {
        let dead = EmulatorError::Dead(self.kind.qemu);
        for _ in 0..LOOKS_MAX {
            if let Ok(stream) = UnixStream::connect(self.line()) {
                return Ok(stream);
            }
            if !self.is_on() {
                return Err(dead);
            }
            std::thread::sleep(LOOK);
        }
        Err(dead)
    }

    /// Whether it is on, and QEMU lives.
    pub fn is_on(&mut self) -> bool {
        self.qemu.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Bytes of stack that the program has touched since power came, or since it started anew.
    ///
    /// # Errors
    /// [`EmulatorError::Files`] if QEMU does not say it.
    pub fn stack_bytes(&mut self) -> Result<usize, EmulatorError> {
        let file = self.dir.path().join("stack");
        let at = self.kind.stack_at - PAINTED as u32;
        let mut monitor = UnixStream::connect(self.dir.path().join("monitor"))?;
        writeln!(monitor, "pmemsave {at:#x} {PAINTED} \"{}\"", file.display())?;
        for _ in 0..LOOKS_MAX {
            let stack = std::fs::read(&file).unwrap_or_default();
            if stack.len() == PAINTED {
                std::fs::remove_file(&file)?;
                return Ok(PAINTED - stack.iter().take_while(|byte| **byte == PAINT).count());
            }
            std::thread::sleep(LOOK);
        }
        Err(EmulatorError::Dead(self.kind.qemu))
    }

    /// What it is.
    pub fn kind(&self) -> &'static Kind {
        self.kind
    }

    /// What the board wrote for a person, in all its lives.
    pub fn text(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("text")).unwrap_or_default()
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Builds a board's program, as small as it is shipped.
fn built(kind: &Kind, name: &str) -> Result<PathBuf, EmulatorError> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../boards");
    let mut cargo = Command::new(std::env::var("CARGO").unwrap_or("cargo".into()));
    cargo.args(["build", "--release", "--bin", name]).current_dir(dir.join(kind.name));
    // Where and how is the board's own to say.
    for name in ["CARGO_TARGET_DIR", "CARGO_BUILD_TARGET", "RUSTFLAGS"] {
        cargo.env_remove(name);
    }
    let output = cargo.output()?;
    if !output.status.success() {
        return Err(EmulatorError::Build(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    Ok(dir.join("target").join(kind.target).join("release").join(name))
}
