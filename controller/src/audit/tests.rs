//! Every way to falsify a log, each found; and every way in which a power cut leaves one, each
//! mended and told apart.

use std::path::PathBuf;

use super::chain::{Broken, Entry, Head, follow, read_line};
use super::file::{AuditFiles, Tail, dir};
use super::verify::{Bounds, Verdict, verify};
use super::{chain, offline};

fn entry(seq: u64) -> Entry {
    Entry {
        seq,
        time_s: 1_700_000_000 + seq,
        who: "ann".into(),
        what: "rollout.start".into(),
        rollout: Some(seq),
        device: None,
        key: seq.is_multiple_of(2).then(|| "ab12".into()),
        text: format!("it said \",\"prev\":\"x\" and \\ \",\"hash\":\" {seq}\nß"),
    }
}

/// Lines 1 to `count`, each with the head after it.
fn lines(count: u64) -> Vec<(String, Head)> {
    let mut head = Head::START;
    (1..=count)
        .map(|seq| {
            let (line, next) = entry(seq).line(&head).unwrap();
            head = next;
            (line, next)
        })
        .collect()
}

struct Log {
    dir: tempfile::TempDir,
    lines: Vec<(String, Head)>,
}

impl Log {
    fn new(count: u64) -> Self {
        let log = Self { dir: tempfile::tempdir().unwrap(), lines: lines(count) };
        let (mut files, tail) = log.open();
        assert_eq!(tail, Tail::Whole);
        files.append(&log.lines).unwrap();
        log
    }

    fn open(&self) -> (AuditFiles, Tail) {
        let stored = |seq: u64| Some(self.lines.get(seq as usize - 1)?.0.clone());
        AuditFiles::open(self.dir.path(), stored).unwrap()
    }

    fn path(&self) -> PathBuf {
        dir(self.dir.path()).join("00000000000000000001.log")
    }

    fn change(&self, change: impl FnOnce(&mut Vec<String>)) {
        let text = std::fs::read_to_string(self.path()).unwrap();
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        change(&mut lines);
        std::fs::write(self.path(), lines.join("\n") + "\n").unwrap();
    }

    fn verdict(&self) -> Verdict {
        let head = self.lines.last().map_or(Head::START, |(_, head)| *head);
        verify(self.dir.path(), &Bounds { floor: Head::START, head }, None, |_| ()).unwrap()
    }
}

#[test]
fn a_line_reads_back_whatever_its_text_holds() {
    let mut head = Head::START;
    for (line, next) in lines(5) {
        assert!(!line.contains('\n'));
        let (entry, after) = follow(&head, line.as_bytes()).unwrap();
        assert_eq!((after, entry), (next, self::entry(next.seq)));
        head = next;
    }
    assert_eq!(head.to_string().parse(), Ok(head));
    assert!("12".parse::<Head>().is_err() && "x:00".parse::<Head>().is_err());
    let long = chain::bounded("ß".repeat(9_000));
    assert!(long.len() <= chain::TEXT_BYTES_MAX + 4 && long.ends_with('…'));
}

#[test]
fn no_flipped_bit_goes_unseen() {
    let (line, _) = lines(1).remove(0);
    for bit in 0..line.len() * 8 {
        let mut bytes = line.clone().into_bytes();
        bytes[bit / 8] ^= 1 << (bit % 8);
        // Unchanged would mean that the hash does not cover it; a flip of the letter case in the
        // hash itself is refused by the parser.
        assert!(follow(&Head::START, &bytes).is_err(), "bit {bit}");
    }
}

#[test]
fn every_forgery_is_found() {
    let check = |what: &str, forge: &dyn Fn(&mut Vec<String>), said: &str| {
        let log = Log::new(8);
        assert!(log.verdict().ok, "{:?}", log.verdict());
        log.change(forge);
        let verdict = log.verdict();
        let faults: Vec<_> =
            verdict.faults.iter().map(|f| format!("{}: {}", f.place, f.what)).collect();
        assert!(!verdict.ok, "{what}");
        assert!(faults.iter().any(|fault| fault.contains(said)), "{what}: {faults:?}");
    };
    check("changed", &|lines| lines[3] = lines[3].replace("ann", "bob"), ":4: was changed");
    check("removed", &|lines| drop(lines.remove(3)), ":4: is number 5, and number 4");
    check("moved", &|lines| lines.swap(2, 5), "is number 6, and number 3");
    check("doubled", &|lines| lines.insert(3, lines[3].clone()), "is number 4, and number 5");
    check("rubbish", &|lines| lines.insert(3, "{}".into()), ":4: is no line");
    check("cut at the end", &|lines| lines.truncate(6), "lines 7 to 8 are missing");
    check("all gone", &|lines| lines.clear(), "lines 1 to 8 are missing");
    // With a hash of its own that fits: the next line follows another.
    let forged = |lines: &mut Vec<String>| {
        let (_, head) = follow_all(&lines[..3]);
        let entry = Entry { who: "bob".into(), ..entry(4) };
        lines[3] = entry.line(&head).unwrap().0;
    };
    check("replaced", &forged, ":5: follows another line");
    // All of the rest anew: only the store knows better.
    let rewritten = |lines: &mut Vec<String>| {
        let (_, mut head) = follow_all(&lines[..3]);
        for seq in 4..=8 {
            let entry = Entry { who: "bob".into(), ..entry(seq) };
            let (line, next) = entry.line(&head).unwrap();
            (lines[seq as usize - 1], head) = (line, next);
        }
    };
    check("rewritten", &rewritten, "line 8 is not the one that the store has seen");
}

fn follow_all(lines: &[String]) -> (u64, Head) {
    let step = |head: Head, line: &String| follow(&head, line.as_bytes()).unwrap().1;
    (lines.len() as u64, lines.iter().fold(Head::START, step))
}

/// What no log can find by itself, and what finds it: a head that was noted elsewhere.
#[test]
fn a_noted_head_finds_what_was_rewritten_everywhere() {
    let log = Log::new(8);
    let noted = log.lines[5].1;
    let bounds = |head| Bounds { floor: Head::START, head };
    let found = |head, known| verify(log.dir.path(), &bounds(head), known, |_| ()).unwrap();
    assert!(found(log.lines[7].1, Some(&noted)).ok);
    let mut head = Head::START;
    log.change(|lines| {
        for (at, line) in lines.iter_mut().enumerate() {
            let entry = Entry { who: "bob".into(), ..entry(at as u64 + 1) };
            (*line, head) = entry.line(&head).unwrap();
        }
    });
    assert!(found(head, None).ok, "the store was rewritten, too");
    let verdict = found(head, Some(&noted));
    assert!(!verdict.ok && verdict.faults[0].what.contains("rewritten"), "{verdict:?}");
}

#[test]
fn a_power_cut_at_any_byte_is_mended_and_no_forgery() {
    let log = Log::new(3);
    let whole = std::fs::read(log.path()).unwrap();
    let starts = [0, log.lines[0].0.len() + 1, log.lines[0].0.len() + log.lines[1].0.len() + 2];
    for cut in 0..whole.len() {
        std::fs::write(log.path(), &whole[..cut]).unwrap();
        let lines = starts.iter().filter(|start| **start <= cut).count() - 1;
        let torn = cut - starts[lines];
        // Seen before the controller starts: a note, no fault but what is missing.
        let verdict = log.verdict();
        assert!(verdict.faults.iter().all(|fault| fault.place == "the end"), "{cut}: {verdict:?}");
        assert_eq!(verdict.notes.len(), usize::from(torn > 0), "{cut}: {verdict:?}");
        let (mut files, tail) = log.open();
        // A cut just before the line break takes the break alone; the line is written again.
        match tail {
            Tail::Whole => assert_eq!(torn, 0, "{cut}"),
            Tail::Mended { bytes } => assert_eq!(bytes, torn, "{cut}"),
            Tail::Foreign { why, .. } => panic!("{cut}: {why}"),
        }
        assert_eq!(files.head().seq, lines as u64, "{cut}");
        files.append(&log.lines[lines..]).unwrap();
        assert_eq!(std::fs::read(log.path()).unwrap(), whole, "{cut}");
        assert!(log.verdict().ok);
    }
}

#[test]
fn an_end_that_nobody_wrote_is_left_as_it_is() {
    let log = Log::new(3);
    let mut bytes = std::fs::read(log.path()).unwrap();
    bytes.extend(b"{\"seq\":4,\"time_s\":1,\"who\":\"bob\"");
    std::fs::write(log.path(), &bytes).unwrap();
    let (mut files, tail) = log.open();
    assert!(matches!(tail, Tail::Foreign { .. }), "{tail:?}");
    let more = lines(5);
    files.restart_at(more[2].1);
    files.append(&more[3..]).unwrap();
    assert_eq!(std::fs::read(log.path()).unwrap(), bytes, "it is evidence");
    let bounds = Bounds { floor: Head::START, head: more[4].1 };
    let verdict = verify(log.dir.path(), &bounds, None, |_| ()).unwrap();
    assert!(!verdict.ok && verdict.lines == 5, "{verdict:?}");
    assert!(verdict.faults[0].what.contains("half a line that nobody wrote"), "{verdict:?}");
}

#[test]
fn the_chain_goes_on_over_files() {
    let log = Log::new(0);
    let all = lines(6);
    for pair in all.chunks(2) {
        let (mut files, _) = log.open();
        files.restart_at(if pair[0].1.seq == 1 {
            Head::START
        } else {
            all[pair[0].1.seq as usize - 2].1
        });
        assert!(files.append(pair).unwrap(), "a new file");
    }
    let bounds = |floor: Head| Bounds { floor, head: all[5].1 };
    let found = |floor| verify(log.dir.path(), &bounds(floor), None, |_| ()).unwrap();
    assert_eq!(found(Head::START).lines, 6);
    // The oldest file goes: right if the store says so, a fault if not.
    std::fs::remove_file(log.path()).unwrap();
    assert!(!found(Head::START).ok);
    let verdict = found(all[1].1);
    assert!(verdict.ok && verdict.first == 3 && verdict.lines == 4, "{verdict:?}");
    assert_eq!(super::file::start_of_files(log.dir.path()).unwrap(), Some(all[1].1));
}

#[test]
fn offline_notes_wait_in_order_and_rubbish_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    offline::note(dir.path(), "ann", "key.generate", Some("ab12".into()), "made a release key");
    offline::note(dir.path(), "ann", "model.sign", Some("ab12".into()), "signed digits@v1");
    let spool = super::file::dir(dir.path()).join("offline");
    std::fs::write(spool.join("0.json"), b"rubbish").unwrap();
    let notes = offline::waiting(dir.path());
    let whats: Vec<_> = notes.iter().map(|(_, note)| note.what.as_str()).collect();
    assert_eq!(whats, ["key.generate", "model.sign"]);
    assert!(spool.join("0.unreadable").exists());
}

#[test]
fn rubbish_is_refused_and_never_panics() {
    for bytes in [&b""[..], b"{", b"\xff\xfe", b",\"hash\":\"", b"{\"seq\":1,\"hash\":\"00\"}"] {
        assert!(matches!(read_line(bytes), Err(Broken::Malformed(_))), "{bytes:?}");
    }
    assert!(read_line(&vec![b'a'; chain::LINE_BYTES_MAX + 1]).is_err());
}
