//! The real Node-RED with the flow that we ship, as a process without an editor.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::harness::http::Web;
use crate::harness::process::Process;
use crate::harness::{ports, programs, wait};
use crate::npm;

/// What is installed, to the last digit.
const PACKAGES: [&str; 1] = ["node-red@4.1.15"];
/// Longer than a start on a loaded machine.
const START: Duration = Duration::from_secs(60);
/// No editor, nothing installed while it runs, nobody called at home.
const SETTINGS: &str = "module.exports = {
    uiHost: '127.0.0.1', httpAdminRoot: false, credentialSecret: false, flowFile: 'flow.json',
    telemetry: { enabled: false, updateNotification: false }, diagnostics: { enabled: false },
    externalModules: { autoInstall: false, palette: { allowInstall: false }, modules: { allowInstall: false } },
    logging: { console: { level: 'info', metrics: false, audit: false } },
};\n";

/// A running Node-RED. It ends when it is dropped.
pub struct NodeRed {
    /// What its flow answers over HTTP.
    pub web: Web,
    process: Process,
}

impl NodeRed {
    /// Starts it with a flow below `dir`, and waits until `path` of the flow answers.
    ///
    /// # Errors
    /// If it cannot be had, ends, or does not answer in time, with its log.
    pub async fn start(dir: &Path, flow: &str, env: &[(&str, String)], path: &str) -> Result<Self> {
        let modules = npm::modules("node-red-4.1.15", &PACKAGES)?;
        std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
        std::fs::write(dir.join("flow.json"), flow).context("flow.json")?;
        std::fs::write(dir.join("settings.js"), SETTINGS).context("settings.js")?;
        let port = ports::lasting()?;
        let mut command = Command::new(npm::node()?);
        command.arg(modules.join("node_modules/node-red/red.js")).arg("--userDir").arg(dir);
        command.arg("--settings").arg(dir.join("settings.js"));
        command.args(["--port", &port.to_string()]).current_dir(programs::workspace());
        command.envs(env.iter().map(|(name, value)| (name, value)));
        let mut process = Process::start("Node-RED", &mut command, &dir.join("node-red.log"))?;
        let web = Web::new(&format!("http://127.0.0.1:{port}"), None)?;
        let ready = wait::until("Node-RED to run its flow", START, async || {
            process.check_running()?;
            web.get(path).await?.expect(200).map(drop)
        });
        ready.await.with_context(|| process.tail())?;
        Ok(Self { web, process })
    }

    /// The end of its log.
    pub fn tail(&self) -> String {
        self.process.tail()
    }
}
