//! An emulated board: built, started, killed, started again with the flash as it was.

use std::fs;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A kind of board.
pub(crate) struct Kind {
    /// Its crate, and the target that it is built for.
    pub(crate) name: &'static str,
    target: &'static str,
    qemu: &'static str,
    /// Its machine, and how the program gets there.
    args: &'static [&'static str],
    program: &'static str,
    /// Its flash: QEMU's words for a file at `{}`, and how long that is.
    flash: &'static [&'static str],
    flash_bytes: usize,
    /// Where the board expects its page.
    page_at: u32,
    /// How QEMU is ended so that the flash is as after a power cut: SIGKILL, unless QEMU itself
    /// still has writes in hand, which no flash has.
    signal: &'static str,
    /// Whether it says something for a person.
    pub(crate) has_text: bool,
}

/// PSRAM for flash, mapped from the file: a kill is exactly a power cut.
pub(crate) const MPS2: Kind = Kind {
    name: "mps2-an386",
    target: "thumbv7em-none-eabihf",
    qemu: "qemu-system-arm",
    args: &["-M", "mps2-an386,memory-backend=psram", "-m", "16M", "-action", "watchdog=reset"],
    program: "-kernel",
    flash: &["-object", "memory-backend-file,id=psram,size=16M,mem-path={},share=on"],
    flash_bytes: 16 << 20,
    page_at: 0x0030_0000,
    signal: "-KILL",
    has_text: true,
};
/// Parallel NOR, each word written at once.
pub(crate) const RISCV32: Kind = Kind {
    name: "riscv32-virt",
    target: "riscv32imac-unknown-none-elf",
    qemu: "qemu-system-riscv32",
    args: &["-M", "virt", "-m", "16M"],
    program: "-bios",
    flash: &["-drive", "file={},format=raw,if=pflash,unit=1"],
    flash_bytes: 32 << 20,
    page_at: 0x8060_0000,
    signal: "-KILL",
    has_text: false,
};

pub(crate) struct Board {
    kind: &'static Kind,
    dir: PathBuf,
    program: PathBuf,
    qemu: Option<(Child, UnixStream)>,
    starts: u32,
}

impl Board {
    /// A board with this page, its flash blank.
    pub(crate) fn new(kind: &'static Kind, page: &[u8]) -> Self {
        let program = built(kind);
        let unique = format!("fleetway-{}-{}-{:p}", kind.name, std::process::id(), page.as_ptr());
        let dir = std::env::temp_dir().join(unique);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("page"), page).unwrap();
        fs::write(dir.join("flash"), vec![0xff; kind.flash_bytes]).unwrap();
        let mut board = Self { kind, dir, program, qemu: None, starts: 0 };
        board.power();
        board
    }

    /// Power comes.
    pub(crate) fn power(&mut self) {
        assert!(self.qemu.is_none());
        self.starts += 1;
        let path = |name: &str| self.dir.join(name).display().to_string();
        let line = self.dir.join(format!("line-{}", self.starts));
        let listener = UnixListener::bind(&line).unwrap();
        listener.set_nonblocking(true).unwrap();
        let mut qemu = Command::new(self.kind.qemu);
        qemu.args(self.kind.args).args(["-display", "none", "-monitor", "none"]);
        qemu.args(self.kind.flash.iter().map(|word| word.replace("{}", &path("flash"))));
        qemu.arg("-chardev").arg(format!("socket,id=line,path={}", line.display()));
        qemu.args(["-serial", "chardev:line"]);
        if self.kind.has_text {
            qemu.arg("-chardev").arg(format!("file,id=text,append=on,path={}", path("text")));
            qemu.args(["-serial", "chardev:text"]);
        }
        let (page, at) = (path("page"), self.kind.page_at);
        qemu.arg("-device").arg(format!("loader,file={page},addr={at:#x},force-raw=on"));
        qemu.arg(self.kind.program).arg(&self.program).stdin(Stdio::null());
        let mut child = qemu.spawn().unwrap_or_else(|e| panic!("{}: {e}", self.kind.qemu));
        let stream = loop {
            match listener.accept() {
                Ok((stream, _)) => break stream,
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
            assert!(child.try_wait().unwrap().is_none(), "QEMU ended at once");
        };
        stream.set_nonblocking(true).unwrap();
        self.qemu = Some((child, stream));
    }

    /// The power goes.
    pub(crate) fn kill(&mut self) {
        let Some((mut child, _)) = self.qemu.take() else { return };
        let id = child.id().to_string();
        let killed = Command::new("kill").args([self.kind.signal, &id]).status();
        assert!(killed.is_ok_and(|status| status.success()), "kill {id}");
        child.wait().unwrap();
    }

    /// The line to the board.
    pub(crate) fn line(&mut self) -> &mut UnixStream {
        &mut self.qemu.as_mut().expect("the board is on").1
    }

    /// What the board wrote for a person.
    pub(crate) fn text(&self) -> String {
        fs::read_to_string(self.dir.join("text")).unwrap_or_default()
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        self.kill();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Builds a board's program, as small as it is shipped.
fn built(kind: &Kind) -> PathBuf {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("boards").join(kind.name);
    let name = format!("fleetway-{}", kind.name);
    let cargo = std::env::var("CARGO").unwrap_or("cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--release", "--bin", &name]);
    let built = command.current_dir(&dir).env_remove("CARGO_TARGET_DIR").output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    dir.join("target").join(kind.target).join("release").join(name)
}
