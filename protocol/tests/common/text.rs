//! Tables and commands in one line each: what scripts say, and what a failing run prints.

use fleetway_protocol::machine::Command;
use fleetway_protocol::slot::{Place, SlotId, SlotState, SlotTable};

/// A table in one line: `a=1:confirmed* b=- floor=0 poison=4:Golden last=4:Failed(Golden)@7`.
pub(crate) fn summary(table: &SlotTable) -> String {
    let mut text = format!(
        "a={} b={} floor={}",
        slot_text(table, SlotId::A),
        slot_text(table, SlotId::B),
        table.version_floor
    );
    for (flag, name) in [(table.removed, " removed"), (table.graceful, " graceful")] {
        text += if flag { name } else { "" };
    }
    if !table.poison.is_empty() {
        let list: Vec<_> =
            table.poison.iter().map(|p| format!("{}:{:?}", p.release.0[0], p.reason)).collect();
        text += &format!(" poison={}", list.join(","));
    }
    if let Some(last) = table.last {
        text += &format!(" last={}:{:?}@{}", last.release.0[0], last.result, last.rollout);
    }
    text
}

/// What a command is called in scripts.
pub(crate) fn command_text(command: Command) -> String {
    let place = |place| match place {
        Place::Slot(slot) => slot_name(slot),
        Place::Factory => "factory",
    };
    match command {
        Command::Persist(_) => "persist".into(),
        Command::Admit(_) => "admit".into(),
        Command::Erase(_, slot) => format!("erase {}", slot_name(slot)),
        Command::Fetch(_, slot) => format!("fetch {}", slot_name(slot)),
        Command::CancelFetch => "cancel".into(),
        Command::Verify(_, slot) => format!("verify {}", slot_name(slot)),
        Command::SelfTest(_, slot) => format!("test {}", slot_name(slot)),
        Command::Shadow(_, slot) => format!("shadow {}", slot_name(slot)),
        Command::Activate(_, at) => format!("activate {}", place(at)),
        Command::Unload(_) => "unload".into(),
        Command::Halt => "halt".into(),
    }
}

fn slot_text(table: &SlotTable, id: SlotId) -> String {
    let slot = table.slot(id);
    let state = match slot.state {
        SlotState::Empty => return "-".to_owned(),
        SlotState::Trial { tries_left } => format!("trial/{tries_left}"),
        SlotState::Bad(reason) => format!("bad/{reason:?}"),
        state => format!("{state:?}").to_lowercase(),
    };
    let serving = if table.serving == Some(id) { "*" } else { "" };
    format!("{}:{state}{serving}", slot.release.map_or(0, |r| r.digest.0[0]))
}

fn slot_name(slot: SlotId) -> &'static str {
    slot.letter()
}
