//! Models that attack. A real exploit would take over the parser inside the self-test's child; we
//! put the attack there by hand ([`child_main_with`](fleetway_engine::selftest::child_main_with)):
//! a sound ONNX file carries the attack's name in its `doc_string`, and the child of the program
//! `hostile-agent` does what the name says, behind the same fences and with the same bytes as a
//! parser that was broken into. Every other program loads the file as the sound model that it is.

use std::hint::black_box;
use std::net::{TcpStream, UdpSocket};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::Result;
use fleetway_protocol::reason::Reason;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

/// What stands before the attack's name in a model.
const MARK: &str = "fleetway-attack:";
/// Bytes taken at a time by the memory bomb.
const BOMB_BYTES: usize = 16 << 20;
/// Where the attack that writes a file writes it.
pub const LOOT: &str = "/tmp/fleetway-attack-was-here";

/// In the name of a program that is to have an old kernel.
pub const OLD_KERNEL: &str = "old-kernel";

/// What a broken parser does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attack {
    /// Never comes back.
    Hang,
    /// Aborts.
    Abort,
    /// Reads where no memory is.
    Segfault,
    /// Takes memory for ever.
    Memory,
    /// Writes a file.
    Write,
    /// Reads the system's list of users.
    Read,
    /// Calls home over TCP.
    Connect,
    /// Opens a UDP socket.
    Udp,
    /// Becomes another program.
    Exec,
    /// Starts other programs.
    Fork,
    /// Starts threads.
    Threads,
    /// Ends the agent.
    KillParent,
}

impl Attack {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Hang,
        Self::Abort,
        Self::Segfault,
        Self::Memory,
        Self::Write,
        Self::Read,
        Self::Connect,
        Self::Udp,
        Self::Exec,
        Self::Fork,
        Self::Threads,
        Self::KillParent,
    ];

    /// Its name in a model.
    pub fn name(self) -> String {
        format!("{self:?}").to_lowercase()
    }

    /// What the device must report of it.
    pub fn reason(self) -> Reason {
        match self {
            Self::Hang => Reason::SelfTestTimeout,
            Self::Abort | Self::Segfault => Reason::SelfTestCrashed,
            Self::Memory => Reason::SelfTestMemory,
            _ => Reason::SelfTestForbidden,
        }
    }

    /// `model` (an ONNX file) with the attack in it.
    pub fn put_into(self, model: &[u8]) -> Vec<u8> {
        put_mark(model, MARK, &self.name())
    }

    /// The attack in `model`, if there is one.
    fn find(model: &[u8]) -> Option<Self> {
        let name = find_mark(model, MARK)?;
        Self::ALL.into_iter().find(|attack| attack.name().as_bytes() == name)
    }

    fn run(self) {
        match self {
            Self::Hang => loop {
                black_box(());
            },
            Self::Abort => std::process::abort(),
            Self::Segfault => segfault(),
            Self::Memory => {
                let mut bomb = Vec::new();
                loop {
                    bomb.push(black_box(vec![1u8; BOMB_BYTES]));
                }
            }
            Self::Write => drop(std::fs::write(LOOT, b"!")),
            Self::Read => drop(std::fs::read("/etc/passwd")),
            Self::Connect => drop(TcpStream::connect("127.0.0.1:9")),
            Self::Udp => drop(UdpSocket::bind("127.0.0.1:0")),
            Self::Exec => drop(Command::new("/bin/true").exec()),
            Self::Fork => drop(Command::new("/bin/sleep").arg("60").spawn()),
            Self::Threads => drop(std::thread::Builder::new().spawn(|| ())),
            Self::KillParent => {
                let parent = rustix::process::getppid().expect("a parent");
                let _ = rustix::process::kill_process(parent, rustix::process::Signal::TERM);
            }
        }
    }
}

/// `model` (an ONNX file) with `mark` and a name in it that nothing else reads.
pub(crate) fn put_mark(model: &[u8], mark: &str, name: &str) -> Vec<u8> {
    // Field 6 of ModelProto, `doc_string`: the last one in a file counts.
    let text = format!("{mark}{name};");
    let length = u8::try_from(text.len()).ok().filter(|length| *length < 0x80);
    let length = length.expect("a name of less than 128 bytes");
    [model, &[6 << 3 | 2, length], text.as_bytes()].concat()
}

/// The name behind `mark` in `model`, if it is there.
pub(crate) fn find_mark<'a>(model: &'a [u8], mark: &str) -> Option<&'a [u8]> {
    let at = model.windows(mark.len()).position(|window| window == mark.as_bytes())?;
    model[at + mark.len()..].split(|byte| *byte == b';').next()
}

/// Does what the model says, and returns where the attack was merely refused: then the self-test
/// passes, and the test that expects a reason fails.
pub fn act(model: &[u8]) {
    if let Some(attack) = Attack::find(model) {
        attack.run();
    }
}

/// From here on this process and its children have a kernel from before landlock and seccomp.
///
/// # Errors
/// The system's.
pub fn live_on_an_old_kernel() -> Result<()> {
    let unknown = [
        libc::SYS_seccomp,
        libc::SYS_landlock_create_ruleset,
        libc::SYS_landlock_add_rule,
        libc::SYS_landlock_restrict_self,
    ];
    let rules = unknown.iter().map(|call| (*call, Vec::new())).collect();
    let enosys = SeccompAction::Errno(libc::ENOSYS as u32);
    let target = std::env::consts::ARCH.try_into()?;
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, enosys, target)?;
    let program: BpfProgram = filter.try_into()?;
    Ok(seccompiler::apply_filter(&program)?)
}

#[allow(unsafe_code, reason = "the crash is the purpose: nothing safe ends with SIGSEGV")]
fn segfault() {
    // SAFETY: none; the read faults, which ends the process.
    unsafe { black_box(std::ptr::without_provenance::<u8>(8).read_volatile()) };
}
