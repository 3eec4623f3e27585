//! A person writes this file and mends it by what the error says. So each mistake is made once,
//! by one change to a good file, and must be named with line, column and mend. The defaults of
//! the shortest file are pinned, because nobody reads them on the device.

use super::*;
use crate::gateway::Place;
use crate::serving::listen::UnixEndpoint;
use fleetway_protocol::hold::Condition;
use fleetway_protocol::ids::ModelName;

/// A root of some fleet, for a file that names one.
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/config/root.json");

fn sample() -> String {
    format!(
        r#"device = "cam-01"
data_dir = "data"

[broker]
url = "mqtts://broker.example"
ca = "ca.pem"
cert = "device.pem"
key = "/etc/fleetway/device.key"

[trust]
root = "{ROOT}"
"#
    )
}

fn parse(text: &str) -> Result<Config, Fault> {
    Config::parse(text, Path::new("/etc/fleetway"))
}

#[test]
fn the_shortest_file_has_the_defaults() {
    let config = parse(&sample()).unwrap();
    assert_eq!(config.device.as_str(), "cam-01");
    assert_eq!(config.data_dir, Path::new("/etc/fleetway/data"));
    assert_eq!(config.broker.url.to_string(), "mqtts://broker.example:8883");
    let tls = config.broker.tls.unwrap();
    assert_eq!(tls.ca, Path::new("/etc/fleetway/ca.pem"));
    assert_eq!(tls.key, Path::new("/etc/fleetway/device.key"));
    assert_eq!(config.broker.root, "fleetway/v1/");
    assert_eq!(config.serve.endpoints.tcp, "127.0.0.1:8800".parse().ok());
    let unix = config.serve.endpoints.unix.unwrap();
    assert_eq!(unix, UnixEndpoint::new("/etc/fleetway/data/serve.sock"));
    let grpc = (config.serve.endpoints.grpc_tcp, config.serve.endpoints.grpc_unix.unwrap());
    assert_eq!(grpc, (None, UnixEndpoint::new("/etc/fleetway/data/grpc.sock")));
    let model = config.serve.models.usual;
    assert_eq!((model.batch_max, model.batch_wait.as_micros()), (8, 500));
    assert!(config.serve.concurrent_max >= 1);
    assert_eq!(config.serve.threads.get(), 1);
    let Link { window_chunks, bytes_per_s, keep_alive, telemetry, metered } = config.link;
    assert_eq!((window_chunks, bytes_per_s, metered), (4, None, false));
    assert!(config.hold.download.is_empty() && config.hold.activation.is_empty());
    assert_eq!(config.sandbox, Require::Confined);
    assert_eq!((keep_alive.as_secs(), telemetry.as_secs()), (60, 10));
    assert_eq!(config.telemetry, crate::telemetry::Settings::default());
}

#[test]
fn every_key_can_be_set() {
    let text = sample().replace("[trust]", "root = \"acme/\"\n[trust]")
        + "[serve]\ntcp = \"off\"\nunix = \"/run/f.sock\"\n\
           allow_remote = true\nconcurrent_max = 3\nthreads = 2\nunix_mode = \"0600\"\nunix_group = \"7\"\n\
           [serve.grpc]\ntcp = \"127.0.0.1:9\"\nunix = \"off\"\n\
           [serve.models.digits]\nconcurrent_max = 1\nbatch_max = 4\nbatch_wait_us = 0\n[link]\nwindow_chunks = 8\n\
           bytes_per_s = 4000\nkeep_alive_s = 30\ntelemetry_s = 1\nmetered = true\n\
           [check.digits]\ncommand = [\"/bin/gate\", \"-q\"]\ntimeout_s = 9\ndecides = \"confirm\"\n\
           [telemetry]\nspool_bytes = 65536\nbytes_per_day = 0\nbackfill_per_s = 9\n[sandbox]\nrequire = \"full\"\n\
           [hold]\ndownload = [\"unmetered\"]\nactivation = [\"unlocked\", \"window\"]\n\
           idle_s = 9\nwindow = \"sat,sun 00:00-24:00\"\ns_max = 3600\n";
    let config = parse(&("factory_dir = \"/usr/share/models\"\n".to_owned() + &text)).unwrap();
    assert_eq!(config.factory_dir.unwrap(), Path::new("/usr/share/models"));
    assert_eq!(config.broker.root, "acme/");
    assert_eq!(config.sandbox, Require::Full);
    assert!(config.link.metered);
    let hold = config.hold;
    assert!(hold.download.has(Condition::Unmetered) && hold.activation.has(Condition::Window));
    assert_eq!((hold.idle_s, hold.window.days, hold.s_max), (9, 0x60, 3600));
    assert_eq!(config.serve.endpoints.tcp, None);
    let unix = UnixEndpoint { path: "/run/f.sock".into(), mode: 0o600, group: Some(7) };
    assert_eq!(config.serve.endpoints.unix, Some(unix));
    assert_eq!(config.serve.endpoints.grpc_tcp, "127.0.0.1:9".parse().ok());
    assert_eq!(config.serve.endpoints.grpc_unix, None);
    let digits = config.serve.models.of(&ModelName::new("digits").unwrap());
    assert_eq!((digits.concurrent_max, digits.batch_max), (1, 4));
    assert!(digits.batch_wait.is_zero());
    assert_eq!(config.serve.models.of(&ModelName::new("other").unwrap()).concurrent_max, 3);
    assert_eq!((config.serve.concurrent_max, config.serve.threads.get()), (3, 2));
    assert_eq!(config.link.bytes_per_s.unwrap().get(), 4000);
    let check = &config.checks[&ModelName::new("digits").unwrap()];
    assert_eq!(
        (check.program.as_path(), check.args.as_slice()),
        (Path::new("/bin/gate"), &["-q".to_owned()][..])
    );
    assert_eq!((check.timeout.as_secs(), check.rule.may_confirm), (9, true));
    let crate::telemetry::Settings { spool_bytes, bytes_per_day, backfill_per_s } =
        config.telemetry;
    assert_eq!((spool_bytes, bytes_per_day, backfill_per_s), (65_536, 0, 9));
}

/// One change to the sample, the place of the error, and what it says.
#[test]
fn a_mistake_is_named_with_its_place_and_mend() {
    let check = |from: &str, to: &str, place: (usize, usize), said: &str| {
        let text = sample().replace(from, to);
        let fault = parse(&text).expect_err(to);
        let at = position(&text, fault.at.start);
        assert!(fault.text.contains(said), "{to}: {:?} without {said:?}", fault.text);
        assert_eq!(at, place, "{to}: {}", fault.text);
    };
    check("data_dir", "datadir", (2, 1), "unknown field `datadir`, expected one of");
    let hold = |line: &str| format!("[hold]\n{line}\n[trust]");
    check("[trust]", &hold("activation = [\"noon\"]"), (11, 15), "\"noon\" is no condition; use");
    check("[trust]", &hold("download = [\"window\"]"), (11, 13), "window needs hold.window");
    check("[trust]", &hold("window = \"noon\""), (11, 10), "\"noon\" is no window; write days");
    check("[trust]", &hold("idle_s = 0"), (11, 10), "idle_s is 0; use 1 to 86400");
    check("[trust]", "urll = 1\n[trust]", (10, 1), "unknown field `urll`");
    check("cam-01", "cam/01", (1, 10), "device id contains '/'; allowed are a-z, 0-9 and -");
    check("cam-01", "a+", (1, 10), "device id contains '+'");
    check("cam-01", "#", (1, 10), "device id contains '#'");
    check("cam-01", "", (1, 10), "device id is empty");
    check("cam-01", &"x".repeat(65), (1, 10), "at most 64");
    check("cam-01", "controller", (1, 10), "reserved");
    check("\"cam-01\"", "7", (1, 10), "expected a string");
    check("\"cam-01\"", "\"cam-01", (1, 17), "");
    check("\"data\"", "\"\"", (2, 12), "data_dir is empty");
    check("mqtts://broker.example", "broker:1", (5, 7), "write mqtts://host:port");
    check("ca = \"ca.pem\"\n", "", (5, 7), "ca, cert and key belong together");
    check("[trust]", "root = \"a+/\"\n[trust]", (10, 8), "a topic root ends in '/'");
    check("\nroot = ", "\nx = ", (11, 1), "unknown field `x`");
    let serve = |line: &str| format!("[serve]\n{line}\n[trust]");
    check("[trust]", &serve("tcp = \"0.0.0.0:1\""), (11, 7), "reachable from outside");
    check("[trust]", &serve("tcp = \"localhost\""), (11, 7), "such as 127.0.0.1:8800");
    check("[trust]", &serve("concurrent_max = 0"), (11, 18), "use 1 to 64");
    check("[trust]", &serve("threads = 17"), (11, 11), "use 1 to 16");
    check("[trust]", &serve("unix_mode = \"0777\""), (11, 13), "octal permissions");
    check("[trust]", &serve("unix_group = \"no such\""), (11, 14), "groupadd no such");
    check("[trust]", &serve("grpc.tcp = \"0.0.0.0:1\""), (11, 12), "reachable from outside");
    check("[trust]", &serve("models.digits.batch_max = 9"), (11, 27), "use 1 to 8");
    check("[trust]", &serve("models.A.batch_max = 1"), (11, 8), "model name");
    let link = |line: &str| format!("[link]\n{line}\n[trust]");
    check("[trust]", &link("window_chunks = 9"), (11, 17), "window_chunks is 9; use 1 to 8");
    check("[trust]", &link("keep_alive_s = 4"), (11, 16), "use 5 to 65535");
    check("[trust]", &link("telemetry_s = 0"), (11, 15), "use 1 to 3600");
    let telemetry = |line: &str| format!("[telemetry]\n{line}\n[trust]");
    check("[trust]", &telemetry("spool_bytes = 9"), (11, 15), "use 65536 to 268435456");
    check("[trust]", &telemetry("bytes_per_day = 9"), (11, 17), "or 0 for no bound");
    check("[trust]", &telemetry("backfill_per_s = 0"), (11, 18), "use 1 to 100");
    let sandbox = "[sandbox]\nrequire = \"rlimits\"\n[trust]";
    check("[trust]", sandbox, (11, 11), "must be \"full\", \"confined\" or \"limits\"");
    check("[trust]", &link("bytes_per_s = -1"), (11, 15), "");
    let own = |model: &str, lines: &str| format!("[check.{model}]\n{lines}\n[trust]");
    check("[trust]", &own("A", "command = [\"/x\"]"), (10, 8), "model name");
    for command in ["[]", "[\"check.sh\"]", "[\"-c\", \"/bin/sh\"]"] {
        let lines = format!("command = {command}");
        check("[trust]", &own("digits", &lines), (11, 11), "begins with an absolute path");
    }
    let lines = "timeout_s = 0\ncommand = [\"/x\"]";
    check("[trust]", &own("digits", lines), (11, 13), "use 1 to 3600");
    let lines = "decides = \"both\"\ncommand = [\"/x\"]";
    check("[trust]", &own("digits", lines), (11, 11), "decides is \"veto\"");
}

#[test]
fn columns_count_characters() {
    assert_eq!(position("a\nüx = 1", 5), (2, 3));
    assert_eq!(position("", 9), (1, 1));
}

#[test]
fn a_file_that_is_none_is_told_from_one_that_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.toml");
    assert!(matches!(Config::load(&path), Err(ConfigError::Read { .. })));
    std::fs::write(&path, [0xff, 0xfe]).unwrap();
    assert!(matches!(Config::load(&path), Err(ConfigError::NoText { .. })));
    std::fs::write(&path, sample().replace("cam-01", "Cam")).unwrap();
    let said = Config::load(&path).expect_err("Cam").to_string();
    let expected = "agent.toml:1:10: device id contains 'C'; allowed are a-z, 0-9 and -";
    assert!(said.ends_with(expected), "{said}");
    std::fs::write(&path, sample()).unwrap();
    assert_eq!(Config::load(&path).unwrap().data_dir, dir.path().join("data"));
}

#[test]
fn trust_begins_with_a_root() {
    let dir = tempfile::tempdir().unwrap();
    let parse = |trust: &str| {
        let text = sample().replace(&format!("root = \"{ROOT}\"\n"), trust);
        Config::parse(&text, dir.path()).expect_err(trust).text
    };
    let said = parse("root = \"root.json\"\n");
    assert!(said.contains("root.json: ") && said.contains("trust directory"), "{said}");
    std::fs::write(dir.path().join("root.json"), "{}").unwrap();
    let said = parse("root = \"root.json\"\n");
    assert!(said.contains("missing `signed`"), "{said}");
    assert!(parse("").contains("missing field `root`"));
}

#[test]
fn devices_behind_it_hang_on_one_port_each() {
    let parse = |lines: &str| parse(&format!("{}{lines}", sample()));
    let good = "[[gateway.device]]\nid = \"mcu-1\"\nserial = \"/dev/ttyUSB0\"\n\
                [[gateway.device]]\nid = \"mcu-2\"\nserial = \"/dev/ttyUSB1\"\nbaud = 9600\n\
                [[gateway.device]]\nid = \"mcu-3\"\nsocket = \"tcp:127.0.0.1:5555\"\n\
                [[gateway.device]]\nid = \"mcu-4\"\nsocket = \"unix:/run/board\"\n";
    let places: Vec<_> = parse(good).unwrap().gateway.into_iter().map(|d| d.place).collect();
    assert_eq!(
        places,
        [
            Place::Serial { path: "/dev/ttyUSB0".into(), baud: 115_200 },
            Place::Serial { path: "/dev/ttyUSB1".into(), baud: 9_600 },
            Place::Tcp("127.0.0.1:5555".parse().unwrap()),
            Place::Unix("/run/board".into()),
        ]
    );
    assert!(parse("").unwrap().gateway.is_empty());
    let refuses = |lines: &str, part: &str| {
        let said = parse(&format!("[[gateway.device]]\n{lines}")).expect_err(lines).text;
        assert!(said.contains(part), "{lines}: {said}");
    };
    refuses("id = \"mcu\"\n", "one of them");
    refuses("id = \"mcu\"\nserial = \"/dev/a\"\nsocket = \"unix:/b\"\n", "one of them");
    refuses("id = \"mcu\"\nsocket = \"localhost:1\"\n", "is no socket");
    refuses("id = \"mcu\"\nsocket = \"tcp:localhost:1\"\n", "an IP address");
    refuses("id = \"mcu\"\nsocket = \"unix:/b\"\nbaud = 9600\n", "a socket has none");
    refuses("id = \"mcu\"\nserial = \"/dev/a\"\nbaud = 300\n", "use 1200 to 4000000");
    refuses("id = \"Mcu\"\nserial = \"/dev/a\"\n", "device id");
    refuses("id = \"cam-01\"\nserial = \"/dev/a\"\n", "id of another device");
    refuses(&format!("id = \"mcu-9\"\nserial = \"/dev/ttyUSB1\"\n{good}"), "hangs there already");
    let many: String = (0..9)
        .map(|n| format!("[[gateway.device]]\nid = \"m-{n}\"\nserial = \"/dev/{n}\"\n"))
        .collect();
    assert!(parse(&many).expect_err("nine").text.contains("more than 8"));
}
