//! What travels over the operator's API.

#[path = "../../../../controller/src/api/failure.rs"]
pub(crate) mod failure;
#[path = "../../../../controller/src/api/types/mod.rs"]
pub(crate) mod types;
