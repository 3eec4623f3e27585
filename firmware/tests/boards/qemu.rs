//! An emulated board: built, started, killed, started again with the flash as it was.

use std::fs;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Bytes of the PSRAM that stands for flash.
const PSRAM_BYTES: usize = 16 << 20;
/// Where the board expects its page.
const PAGE_AT: u32 = 0x0030_0000;

pub(crate) struct Board {
    dir: PathBuf,
    program: PathBuf,
    qemu: Option<(Child, UnixStream)>,
    starts: u32,
}

impl Board {
    /// The MPS2 board with this page, its flash blank.
    pub(crate) fn mps2(page: &[u8]) -> Self {
        let program = built("mps2-an386", "thumbv7em-none-eabihf", "fleetway-mps2-an386");
        let unique = format!("fleetway-board-{}-{:p}", std::process::id(), page.as_ptr());
        let dir = std::env::temp_dir().join(unique);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("page.bin"), page).unwrap();
        fs::write(dir.join("flash.bin"), vec![0xff; PSRAM_BYTES]).unwrap();
        let mut board = Self { dir, program, qemu: None, starts: 0 };
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
        let mut qemu = Command::new("qemu-system-arm");
        qemu.args(["-M", "mps2-an386,memory-backend=psram", "-m", "16M"]);
        qemu.args(["-display", "none", "-monitor", "none", "-action", "watchdog=reset"]);
        qemu.arg("-object");
        qemu.arg(format!(
            "memory-backend-file,id=psram,size=16M,mem-path={},share=on",
            path("flash.bin")
        ));
        qemu.arg("-chardev").arg(format!("socket,id=line,path={}", line.display()));
        qemu.arg("-chardev").arg(format!("file,id=text,append=on,path={}", path("text")));
        qemu.args(["-serial", "chardev:line", "-serial", "chardev:text"]);
        qemu.arg("-device").arg(format!(
            "loader,file={},addr={PAGE_AT:#x},force-raw=on",
            path("page.bin")
        ));
        qemu.arg("-kernel").arg(&self.program).stdin(Stdio::null()).stderr(Stdio::inherit());
        let mut child = qemu.spawn().expect("qemu-system-arm starts");
        listener.set_nonblocking(true).unwrap();
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
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// The line to the board.
    pub(crate) fn line(&mut self) -> &mut UnixStream {
        &mut self.qemu.as_mut().expect("the board is on").1
    }

    /// Whether the board wrote this for a person, sooner or later.
    pub(crate) fn says(&self, wanted: &str) {
        let text = self.text();
        assert!(text.contains(wanted), "the board does not say {wanted:?}:\n{text}");
    }

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
fn built(board: &str, target: &str, name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("boards").join(board);
    let cargo = std::env::var("CARGO").unwrap_or("cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--release"]).current_dir(&dir).env_remove("CARGO_TARGET_DIR");
    let built = command.output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    dir.join("target").join(target).join("release").join(name)
}
