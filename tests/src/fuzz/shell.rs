//! Parsers of the controller's program. Its shell is no library, so its own source is taken in.
#![allow(dead_code)] // what is not a parser comes along

pub(super) mod api;
#[path = "../../../controller/src/config.rs"]
pub(super) mod config;
#[path = "../../../controller/src/cli/values.rs"]
pub(super) mod values;
