//! Schemathesis against the real daemon: what the OpenAPI document says is what the API does.

use std::process::Command;

use anyhow::{Result, ensure};
use fleetway_tests::python;
use serde_json::json;

use super::{PLAIN, Served};

/// What is checked of every answer. Not asked: that all data which fits the schema is taken, since
/// the grammar of ids and selectors is not in it.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
                      response_headers_conformance,response_schema_conformance,ignored_auth,\
                      unsupported_method";
/// Its command `st`. The script of that name begins with the path at which it was installed, and ends with it
/// when somebody moves the checkout.
const COMMAND: &str = "from schemathesis.cli import schemathesis; schemathesis()";
/// Examples of an operation: the whole run takes some 20 s.
const EXAMPLES: &str = "12";
/// The same run every time.
const SEED: &str = "20261128";

#[tokio::test(flavor = "multi_thread")]
async fn the_document_tells_the_truth() {
    conforms().await.unwrap();
}

async fn conforms() -> Result<()> {
    let python = python::schemathesis()?;
    let served = Served::start(PLAIN).await?;
    let web = served.token("ann", "admin").await?;
    for id in ["cam-1", "cam-2"] {
        web.post("/v1/devices", &json!({ "id": id })).await?.expect(200)?;
    }
    served.controller.release("digits-v1", "v1", "").await?;
    web.post("/v1/rollouts", &json!({ "model": "digits", "version": "v1" })).await?.expect(200)?;
    let dir = tempfile::tempdir()?;
    let url = format!("http://{}", web.host());
    let mut command = Command::new(python);
    command
        .current_dir(dir.path())
        .args(["-c", COMMAND, "run"])
        .arg(format!("{url}/v1/openapi.json"));
    command.args(["--url", &url, "--header", &web.authorization()]);
    command.args(["--checks", CHECKS, "--phases", "examples,coverage,fuzzing", "--no-color"]);
    command.args(["--max-examples", EXAMPLES, "--seed", SEED, "--generation-database", "none"]);
    // It would take back its own token, and see nothing but 401 from then on.
    command.args(["--exclude-operation-id", "revoke_token"]);
    command.args(["--warnings", "off", "--request-timeout", "15"]);
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    let said = String::from_utf8_lossy(&output.stdout);
    let err = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "schemathesis found:\n{said}\n{err}");
    ensure!(said.contains("No issues found"), "{said}");
    // It tried them all, and the controller still answers.
    web.get("/v1/status").await?.expect(200)?;
    Ok(())
}
