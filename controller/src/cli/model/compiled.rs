//! `fleetway model compile|inspect`: what becomes of an int8 model, before anybody imports it.

use std::path::Path;

use fleetway_controller::catalog::Catalog;
use fleetway_controller::catalog::fit::{self, Figure, Fit, Load};
use fleetway_engine::limits::MODEL_BYTES_MAX;
use fleetway_protocol::ids::HardwareClass;
use fleetway_protocol::manifest::VariantKind;
use fleetway_qnn::Model;
use fleetway_qnnc::CompileError;
use fleetway_qnnc::inspect::layers;
use serde::Serialize;

use crate::api::failure::{Failure, Kind};
use crate::api::view::failed;
use crate::cli::Context;
use crate::cli::output::{bytes, count, table};
use crate::cli::values::ReleaseName;
use crate::config::Config;

/// What both verbs print.
#[derive(Serialize)]
struct Compiled {
    /// What was compiled.
    model: String,
    /// `qnn`, or `mixed` where only parts are int8.
    form: &'static str,
    /// Each compiled network: one, or the regions of a mixed graph.
    networks: Vec<Network>,
    /// Nodes of a mixed graph that tract runs, and why.
    left: Vec<Left>,
    /// How it fits the class that was asked about.
    #[serde(skip_serializing_if = "Option::is_none")]
    fit: Option<Fit>,
}

#[derive(Serialize)]
struct Network {
    name: String,
    inputs: Vec<String>,
    outputs: Vec<String>,
    layers: Vec<Layer>,
    /// Multiply-accumulates, or bytes moved, padding included.
    work: u64,
    /// Bytes of the file.
    flash_bytes: usize,
    /// Bytes of the arena.
    ram_bytes: usize,
}

#[derive(Serialize)]
struct Layer {
    operator: &'static str,
    work: u64,
    shape: String,
}

#[derive(Serialize)]
struct Left {
    node: String,
    operator: String,
    reason: String,
}

pub(super) fn compile(
    model: &Path,
    to: Option<&Path>,
    class: Option<&HardwareClass>,
    context: &Context,
) -> Result<(), Failure> {
    if let Some(to) = to.filter(|to| to.exists()) {
        return Err(Failure::usage(format!("{} is there already", to.display()))
            .mend("name a new file with --to"));
    }
    let (mut compiled, file) = of_onnx(&read(model)?, model.display().to_string())?;
    compiled.fit = class.map(|class| fit(&compiled, &file, class, context)).transpose()?;
    if let Some(to) = to {
        std::fs::write(to, &file).map_err(|error| Failure::file("write", to, &error))?;
    }
    context.output.data(&compiled, || {
        let next = "next: fleetway model import compiles by itself, and checks the golden vectors";
        let written = to.map(|to| format!("{} as {}: ", bytes(file.len() as u64), to.display()));
        format!("{}\n{}{next}", text(&compiled), written.unwrap_or_default())
    })
}

/// How it fits a class.
///
/// # Errors
/// That it does not, or that nothing is known of the class.
fn fit(
    compiled: &Compiled,
    file: &[u8],
    class: &HardwareClass,
    context: &Context,
) -> Result<Fit, Failure> {
    let classes = Config::classes(&context.data)?;
    let Some(room) = classes.get(class) else {
        return Err(Failure::not_found(format!("nothing is known of the class {class}")).mend(
            format!("write what it has room for as [hardware.{class}] into fleetway.toml; a board's figures are in firmware/boards/*/hardware.toml"),
        ));
    };
    let load = match compiled.form {
        "qnn" => Ok(Load { file, artifacts: None }),
        _ => Err("only parts of it are int8"),
    };
    let fit = fit::judge(class, room, load);
    if fit.fits {
        return Ok(fit);
    }
    Err(Failure::usage(format!("{} {fit}", compiled.model)).mend(
        "make the model smaller, or correct the class in fleetway.toml if the board has more",
    ))
}

pub(super) fn inspect(what: &str, context: &Context) -> Result<(), Failure> {
    let path = Path::new(what);
    let compiled = match what.parse::<ReleaseName>() {
        Ok(name) if !path.exists() => of_release(&name, context)?,
        _ => {
            let file = read(path)?;
            match Model::load(&file) {
                Ok(model) => whole(what.to_owned(), &file, &model),
                Err(fleetway_qnn::LoadError::NotQnn) => of_onnx(&file, what.to_owned())?.0,
                Err(error) => return Err(Failure::usage(format!("{what}: {error}"))),
            }
        }
    };
    context.output.data(&compiled, || text(&compiled))
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let wrong = |error| Failure::file("read", path, &error);
    let about = std::fs::metadata(path).map_err(wrong)?;
    if about.is_dir() {
        let what = format!("{} is a directory, and no ONNX file", path.display());
        return Err(Failure::usage(what).mend("name the .onnx file in it"));
    }
    let length = about.len();
    if length == 0 {
        return Err(Failure::usage(format!("{} is empty", path.display())).mend(WHOLE_FILE));
    }
    if length > MODEL_BYTES_MAX as u64 {
        let max = bytes(MODEL_BYTES_MAX as u64);
        return Err(Failure::usage(format!("{} is larger than {max}", path.display())));
    }
    std::fs::read(path).map_err(wrong)
}

/// The compiled form of a release, or what its ONNX file would become.
fn of_release(name: &ReleaseName, context: &Context) -> Result<Compiled, Failure> {
    let catalog = Catalog::open(&context.data);
    let wrong = |error| failed(fleetway_controller::catalog::CatalogError::kind(&error), &error);
    let release = catalog.load(&name.model, &name.version).map_err(wrong)?;
    let files = catalog.artifacts(&release).map_err(wrong)?;
    let forms = [VariantKind::Qnn, VariantKind::Onnx];
    let form = release.manifest.best(&forms).and_then(|kind| release.manifest.variant(kind));
    let of = |model: &fleetway_protocol::manifest::Variant| {
        files.iter().find(|file| file.artifact == model.model)
    };
    let Some(file) = form.and_then(of) else {
        return Err(Failure::new(Kind::NotFound, format!("{name} has no form to show")));
    };
    let bytes = read(&file.path)?;
    match Model::load(&bytes) {
        Ok(model) => Ok(whole(name.to_string(), &bytes, &model)),
        Err(_) => Ok(of_onnx(&bytes, name.to_string())?.0),
    }
}

/// Compiles all of it, or else its int8 parts; gives the file as well.
fn of_onnx(onnx: &[u8], name: String) -> Result<(Compiled, Vec<u8>), Failure> {
    let why = match fleetway_qnnc::compile(onnx) {
        Ok(file) => {
            let model = Model::load(&file).map_err(|e| Failure::usage(e.to_string()))?;
            let compiled = whole(name, &file, &model);
            return Ok((compiled, file));
        }
        Err(why) => why,
    };
    let mixed = fleetway_qnnc::compile_mixed(onnx).map_err(|_| not_compiled(&name, &why))?;
    let network = |region: &fleetway_qnnc::Region| {
        let model = Model::load(&region.file).map_err(|e| Failure::usage(e.to_string()))?;
        Ok(network(region.name.clone(), &region.file, &model))
    };
    let networks = mixed.regions.iter().map(network).collect::<Result<_, Failure>>()?;
    let left = mixed.left.into_iter().map(|left| Left {
        node: left.node,
        operator: left.op,
        reason: left.reason,
    });
    Ok((
        Compiled { model: name, form: "mixed", networks, left: left.collect(), fit: None },
        mixed.onnx,
    ))
}

/// What is expected of whoever names no ONNX file.
const WHOLE_FILE: &str = "an ONNX file is expected, as torch.onnx.export or onnxruntime writes it; check that it was exported and downloaded completely (where Git LFS left a text of three lines, `git lfs pull` brings the file)";

fn not_compiled(name: &str, why: &CompileError) -> Failure {
    if let CompileError::NotOnnx(detail) = why {
        return Failure::usage(format!("{name} is no ONNX file: {detail}")).mend(WHOLE_FILE);
    }
    Failure::usage(format!("{name} is not compiled: {why}")).mend(
        "quantize it with onnxruntime's static quantization (QDQ, int8), or mend the node; as it is, devices run it in tract",
    )
}

fn whole(name: String, file: &[u8], model: &Model<'_>) -> Compiled {
    let networks = vec![network(String::new(), file, model)];
    Compiled { model: name, form: "qnn", networks, left: Vec::new(), fit: None }
}

fn network(name: String, file: &[u8], model: &Model<'_>) -> Network {
    let shown = |(name, io): (&str, fleetway_qnn::format::Io)| {
        format!("{name}: {} {:?}", format!("{:?}", io.element).to_lowercase(), io.shape())
    };
    let layer = |layer: fleetway_qnnc::inspect::Layer| Layer {
        operator: layer.operator,
        work: layer.work,
        shape: layer.shape,
    };
    Network {
        name,
        inputs: model.inputs().map(shown).collect(),
        outputs: model.outputs().map(shown).collect(),
        layers: layers(model).into_iter().map(layer).collect(),
        work: model.work(),
        flash_bytes: file.len(),
        ram_bytes: model.arena_bytes(),
    }
}

fn text(compiled: &Compiled) -> String {
    let mut parts = Vec::new();
    for network in &compiled.networks {
        if compiled.form == "mixed" {
            parts.push(format!("region {}", network.name));
        }
        let io = |what: &str, all: &[String]| {
            all.iter().map(|one| format!("{what:<8}{one}")).collect::<Vec<_>>().join("\n")
        };
        parts.push(io("input", &network.inputs));
        parts.push(io("output", &network.outputs));
        let rows = network.layers.iter().enumerate();
        parts.push(table(
            ["layer", "operator", "work", "shape"],
            rows.map(|(at, layer)| {
                [
                    at.to_string(),
                    layer.operator.to_owned(),
                    layer.work.to_string(),
                    layer.shape.clone(),
                ]
            }),
        ));
        parts.push(format!(
            "work    {} multiply-accumulates or moves, padding included\nflash   {}\nRAM     {}",
            network.work,
            bytes(network.flash_bytes as u64),
            bytes(network.ram_bytes as u64)
        ));
    }
    if !compiled.left.is_empty() {
        parts.push(format!("{} left to tract:", count(compiled.left.len() as u64, "node")));
        parts.extend(
            compiled
                .left
                .iter()
                .map(|left| format!("  {} `{}`: {}", left.operator, left.node, left.reason)),
        );
    }
    if let Some(fit) = &compiled.fit {
        let row = |figure: &Figure| {
            let Figure { what, unit, needs, has, .. } = figure;
            [(*what).to_owned(), needs.to_string(), has.to_string(), (*unit).to_owned()]
        };
        parts.push(format!("fits {}:", fit.class));
        parts.push(table(["of", "needs", "has", ""], fit.figures.iter().map(row)));
    }
    parts.join("\n")
}
