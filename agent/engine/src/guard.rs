//! A panic of an engine is an error of a model, never the end of the agent.

use crate::limits::bounded;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs `work` and turns a panic into its message. Engines hold no state of ours across the call: a
/// model that panicked while loading is dropped, and every run starts from fresh state.
pub(crate) fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|payload| panic_text(payload.as_ref()))
}

fn panic_text(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
    bounded(text.unwrap_or_else(|| "a panic without a message".to_owned()))
}
