//! Errors name their line and a mend; what `init` writes reads back.

use super::*;

fn check(text: &str, expected: &str) {
    let failure = Config::parse(text, Path::new("f.toml")).expect_err(text);
    assert!(failure.message.starts_with(expected), "{:?} for {text:?}", failure.message);
    assert!(failure.mend.is_some(), "{text:?}");
}

#[test]
fn errors_name_the_line() {
    check("listen = \"127.0.0.1:1\"\nlisen = 1\n", "f.toml:2:1: unknown field `lisen`");
    check("\n\n[trust]\nkeys = []\n", "f.toml:4:1: unknown field `keys`");
    check("listen = \"here\"\n", "f.toml:1:10: invalid socket address");
    check("\nbroker = \"broker:1\"\n", "f.toml:2:10: \"broker:1\" is no broker URL");
    check("\n\nroot = \"/x\"\n", "f.toml:3:8: a topic root ends in '/'");
    check("clients_max = \"many\"\n", "f.toml:1:15: invalid type");
    check("names = [\n", "f.toml:");
    check("names = []\n", "f.toml: `names` is empty");
    check("[trust]\nrelease_threshold = 0\n", "f.toml: `[trust]`");
    check("[enroll]\ncertificate_life_s = 9\n", "f.toml: `enroll.certificate_life_s`");
    check("[enroll]\nadvertise = \"http://x\"\n", "f.toml:2:13: \"http://x\" is no enrolment");
    check("dynamic_security = true\n", "f.toml: `dynamic_security`");
    check("[api]\nlisten = \"0.0.0.0:1\"\n", "f.toml: `api.listen` is not a loopback");
    check("[api]\nlisten = \"[::]:1\"\n", "f.toml: `api.listen` is not a loopback");
    check("[api]\ntls = true\n", "f.toml: `[api]` has TLS and nowhere");
    check("mirror = false\n[bridge.home_assistant]\n", "f.toml: `[bridge.home_assistant]`");
    check("[bridge.home_assistant]\npage = \"x\"\n", "f.toml: `bridge.home_assistant.page`");
    check("[bridge.homeassistant]\n", "f.toml:1:9: unknown field `homeassistant`");
    check("[api]\nkey = \"k\"\n", "f.toml: `[api]` has a certificate without");
}

#[test]
fn a_class_is_written_whole_and_its_errors_name_the_line() {
    let written = |more: &str| {
        format!(
            "[hardware.m4]\nmodel_bytes = 1\ngolden_bytes = 1\narena_bytes = 1\ninput_values = 1\noutput_values = 1\nwork = 1\n{more}"
        )
    };
    check(&written("stack = 1\n"), "f.toml:8:1: unknown field `stack`");
    let wrong = written("operators = [\"Conv\", \"Convolution\"]\n");
    check(&wrong, "f.toml:8:13: no operator \"Convolution\"; there are Conv, Depthwise,");
    check(&written("").replace("work = 1\n", ""), "f.toml:1:1: missing field `work`");
    check(&written("").replace("m4", "\"m 4\""), "f.toml:1:11: ");
    let boards = Path::new(env!("CARGO_MANIFEST_DIR")).join("../firmware/boards");
    for board in ["ast1030-evb", "mps2-an386", "riscv32-virt"] {
        let path = boards.join(board).join("hardware.toml");
        let config = Config::parse(&std::fs::read_to_string(&path).unwrap(), &path).unwrap();
        assert!(config.hardware.contains_key(&board.parse().unwrap()), "{board}");
    }
}

#[test]
fn what_init_writes_reads_back() {
    let listen: SocketAddr = "0.0.0.0:0".parse().unwrap();
    let names = ["a.example".to_owned(), "10.0.0.1".to_owned()];
    let enroll: SocketAddr = "0.0.0.0:7".parse().unwrap();
    let text =
        Config::template(&listen, Some(&enroll), Some(&enroll), &names, Some("mqtts://b:8883"));
    let config = Config::parse(&text, Path::new("f.toml")).unwrap();
    assert_eq!((config.enroll_listen(), config.api.listen), (enroll, Some(enroll)));
    assert!(config.api.tls, "the network gets no API without TLS");
    assert_eq!((config.listen, config.names), (listen, names.to_vec()));
    assert_eq!(config.broker.unwrap().to_string(), "mqtts://b:8883");
    let listen = "10.0.0.1:8883".parse().unwrap();
    let text = Config::template(&listen, None, None, &["x".into()], None);
    let config = Config::parse(&text, Path::new("f")).unwrap();
    assert_eq!((config.broker, config.enroll.listen), (None, None));
    let config = Config::parse(&text, Path::new("f")).unwrap();
    assert_eq!(config.enroll_listen().to_string(), "10.0.0.1:8884");
}
