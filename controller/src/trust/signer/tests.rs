//! The signers against the real things: a running ssh-agent, a SoftHSM2 token, an age file.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ed25519_dalek::SigningKey;

use super::*;

fn run(program: &str, args: &[&str], env: &[(&str, &Path)]) -> String {
    let mut command = Command::new(program);
    command.args(args).envs(env.iter().copied()).stdin(Stdio::null());
    let out = command
        .output()
        .unwrap_or_else(|error| panic!("{program} is needed (see `cargo xtask test`): {error}"));
    assert!(out.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

fn passphrase(dir: &Path, text: &str) -> Passphrase {
    let path = dir.join(format!("passphrase-{}", text.len()));
    std::fs::write(&path, format!("{text}\n")).unwrap();
    Passphrase::new(Some(path))
}

#[test]
fn references_read_or_say_how_they_look() {
    let check =
        |text: &str, expected: KeyRef| assert_eq!(text.parse::<KeyRef>().unwrap(), expected);
    check("file:a/b.key", KeyRef::File("a/b.key".into()));
    check("a/b.key", KeyRef::File("a/b.key".into()));
    check("ssh-agent:SHA256:abc", KeyRef::SshAgent("SHA256:abc".into()));
    let module = PathBuf::from("/l.so");
    let token = KeyRef::Pkcs11 { token: "t".into(), object: "o".into(), module };
    check("pkcs11:token=t;object=o?module-path=/l.so", token);
    for (text, hint) in
        [("ssh-agent:", "ssh-add -l"), ("pkcs11:token=t", "module-path="), ("", "name a file")]
    {
        let error = text.parse::<KeyRef>().unwrap_err();
        assert!(error.to_string().contains(hint), "{error}");
        assert_eq!(error.kind(), ErrorKind::Usage);
    }
}

#[test]
fn an_age_file_opens_with_its_passphrase_alone() {
    let dir = tempfile::tempdir().unwrap();
    let key = SigningKey::from_bytes(&[7; 32]);
    let path = dir.path().join("ada.key");
    let right = passphrase(dir.path(), "correct horse");
    std::fs::write(&path, age_encrypt(&key, right.of("x").unwrap()).unwrap()).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("-----BEGIN AGE") && !text.contains("fleetway"));

    let signer = KeyRef::File(path.clone()).open(&right).unwrap();
    assert_eq!(signer.public(), PublicKey::of(&key));
    assert!(sign(&*signer, b"metadata").is_ok() && !signer.is_development());
    let wrong = KeyRef::File(path.clone()).open(&passphrase(dir.path(), "wrong")).err().unwrap();
    assert!(matches!(wrong, SignerError::Passphrase(_)), "{wrong}");
    assert_eq!(wrong.kind(), ErrorKind::Trust);
    let none = KeyRef::File(path.clone()).open(&Passphrase::new(Some(dir.path().join("no"))));
    assert!(matches!(none, Err(SignerError::PassphraseFile { .. })));
    std::fs::write(&path, text.replace('A', "B")).unwrap();
    assert!(KeyRef::File(path).open(&right).is_err());
}

/// An agent of our own, ended with the test.
struct RunningAgent(Child, PathBuf);

impl RunningAgent {
    fn start(dir: &Path) -> Self {
        let socket = dir.join("agent.sock");
        let mut command = Command::new("ssh-agent");
        command.arg("-D").arg("-a").arg(&socket).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("ssh-agent (Debian package openssh-client)");
        let agent = Self(child, socket);
        for _ in 0..1000 {
            if agent.1.exists() {
                return agent;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("ssh-agent does not start");
    }
}

impl Drop for RunningAgent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_running_ssh_agent_signs_raw_ed25519() {
    let dir = tempfile::tempdir().unwrap();
    let agent = RunningAgent::start(dir.path());
    let env = [("SSH_AUTH_SOCK", agent.1.as_path())];
    for (name, kind) in [("ada", "ed25519"), ("old", "rsa")] {
        let path = dir.path().join(name);
        let path = path.to_str().unwrap();
        run("ssh-keygen", &["-q", "-t", kind, "-N", "", "-C", name, "-f", path], &[]);
        run("ssh-add", &["-q", path], &env);
    }
    let by_comment = ssh_agent::connect(&agent.1, "ada").unwrap();
    let message = [b'x'; 5000];
    assert!(sign(&*by_comment, &message).is_ok());
    let listed = run("ssh-add", &["-l"], &env);
    let line = listed.lines().find(|line| line.contains("ED25519")).unwrap();
    let fingerprint = line.split_whitespace().nth(1).unwrap();
    let by_fingerprint = ssh_agent::connect(&agent.1, fingerprint).unwrap();
    assert_eq!(by_fingerprint.public(), by_comment.public());

    let refused = |name: &str| ssh_agent::connect(&agent.1, name).err().unwrap().to_string();
    assert!(refused("bob").contains("ssh-add -l"));
    assert!(refused("old").contains("only ssh-ed25519"));
    let nobody = ssh_agent::connect(&dir.path().join("none"), "ada").err().unwrap();
    assert!(nobody.to_string().contains("no agent answers"), "{nobody}");
}

const SOFTHSM: [&str; 3] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib64/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
];

/// The library reads its configuration from the environment, so the test runs itself again
/// in a process that has it.
#[test]
fn a_softhsm_token_signs_raw_ed25519() {
    const CONF: &str = "SOFTHSM2_CONF";
    if std::env::var_os("FLEETWAY_SOFTHSM_CHILD").is_some() {
        return sign_by_token(Path::new(&std::env::var_os(CONF).unwrap()).parent().unwrap());
    }
    let dir = tempfile::tempdir().unwrap();
    let conf = dir.path().join("softhsm2.conf");
    std::fs::create_dir(dir.path().join("tokens")).unwrap();
    let text = format!("directories.tokendir = {}\n", dir.path().join("tokens").display());
    std::fs::write(&conf, text).unwrap();
    let init = ["--init-token", "--free", "--label", "fleet", "--pin", "1234", "--so-pin", "5678"];
    run("softhsm2-util", &init, &[(CONF, &conf)]);
    // A key of a known seed, as PKCS#8 that the tool imports.
    let pem = dir.path().join("key.pem");
    run("openssl", &["genpkey", "-algorithm", "ed25519", "-out", pem.to_str().unwrap()], &[]);
    let import = [
        "--import",
        pem.to_str().unwrap(),
        "--token",
        "fleet",
        "--label",
        "release",
        "--id",
        "01",
        "--pin",
        "1234",
    ];
    run("softhsm2-util", &import, &[(CONF, &conf)]);
    let me = std::env::current_exe().unwrap();
    let name = "trust::signer::tests::a_softhsm_token_signs_raw_ed25519";
    let mut child = Command::new(me);
    child.args([name, "--exact"]).env(CONF, &conf).env("FLEETWAY_SOFTHSM_CHILD", "1");
    let out = child.output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stdout));
}

fn sign_by_token(dir: &Path) {
    let module = SOFTHSM.iter().find(|path| Path::new(path).exists());
    let module = module.expect("SoftHSM2 (Debian package softhsm2)");
    let open = |token: &str, object: &str, pin: &str| {
        let text = format!("pkcs11:token={token};object={object}?module-path={module}");
        text.parse::<KeyRef>().unwrap().open(&passphrase(dir, pin))
    };
    // A wrong PIN first: the library keeps a login for the whole process.
    let wrong = open("fleet", "release", "99999").err().unwrap();
    assert!(matches!(wrong, SignerError::Passphrase(_)), "{wrong}");
    assert!(open("nobody", "release", "1234").err().unwrap().to_string().contains("no token"));
    let signer = open("fleet", "release", "1234").unwrap();
    assert!(sign(&*signer, &[7; 20_000]).is_ok());
    drop(signer);
    assert!(open("fleet", "other", "1234").err().unwrap().to_string().contains("\"other\""));
}

#[test]
fn a_signature_that_does_not_hold_is_not_handed_out() {
    struct Broken;
    impl Signer for Broken {
        fn public(&self) -> PublicKey {
            PublicKey::of(&SigningKey::from_bytes(&[1; 32]))
        }
        fn sign_raw(&self, _: &[u8]) -> Result<[u8; 64], SignerError> {
            Ok([7; 64])
        }
    }
    assert!(matches!(sign(&Broken, b"x"), Err(SignerError::Wrong(_))));
}
