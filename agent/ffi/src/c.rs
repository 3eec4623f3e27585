//! The functions of the C ABI.
//!
//! **Contract, for all of them.** Every function may be called from any thread, also at the same time.
//! A failed one says why in `fleetway_message`, and has written nothing. Text is UTF-8. What a function
//! gives away is freed by the function that its comment names, once. Handles are numbers; one that was
//! closed is refused, not followed.
#![allow(unsafe_code, reason = "exported functions whose pointers come from C; each use is argued")]

use std::ffi::{CString, c_char, c_void};
use std::path::Path;
use std::ptr;

use fleetway_agent::embed::{Agent, Child, ModelChange, Options};

use crate::code::{self, Failure, FleetwayCode, c_text, chain, guard};
use crate::handle::{AGENTS, SUBSCRIPTIONS};
use crate::value::{self, FleetwayAnswer, FleetwayTensor};

/// For `fleetway_open`: the sockets of the configuration are opened too, for other applications.
pub const FLEETWAY_SOCKETS: u32 = 1;
/// For `fleetway_open`: there is no program to try models in. Nothing new is installed then.
pub const FLEETWAY_NO_CHILD: u32 = 2;

/// Another release answers for a model, or none. Lives as long as the call that brings it.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct FleetwayChange {
    /// Which model.
    pub model: *const c_char,
    /// What people call the release that answers now; null if nothing answers.
    pub version: *const c_char,
    /// Digest of its manifest, hexadecimal; null if nothing answers.
    pub release: *const c_char,
    /// Where its bytes are: `a`, `b` or `factory`; null if nothing answers.
    pub slot: *const c_char,
}

/// Is called on a thread of the library's, one call of a subscription at a time. Must not throw or
/// jump out; may call every function of this library.
pub type FleetwayCallback =
    Option<unsafe extern "C" fn(user: *mut c_void, change: *const FleetwayChange)>;

/// A place of the caller's for what a function gives.
///
/// # Safety
/// `place` is null, or points to memory where a `T` may be written.
unsafe fn write<T>(place: *mut T, value: T) -> Result<(), Failure> {
    if place.is_null() || !place.is_aligned() {
        return Err(Failure::argument("the place for the result is NULL or not aligned"));
    }
    // SAFETY: not null and aligned by the check, writable by this function's own contract.
    unsafe { place.write(value) };
    Ok(())
}

/// Whether there is a place, asked before work that would have to be undone.
fn is_place<T>(place: *mut T) -> Result<(), Failure> {
    match place.is_null() || !place.is_aligned() {
        true => Err(Failure::argument("the place for the result is NULL or not aligned")),
        false => Ok(()),
    }
}

/// The version of this library. It must be the version of the program that tries models.
#[unsafe(no_mangle)]
pub extern "C" fn fleetway_version() -> *const c_char {
    const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");
    VERSION.as_ptr().cast()
}

/// Why the last call on this thread failed, in one sentence; empty if it did not. Good until the next
/// call on this thread; never freed by the caller.
#[unsafe(no_mangle)]
pub extern "C" fn fleetway_message() -> *const c_char {
    code::message()
}

/// Opens the device whose configuration is the file `at`, or `agent.toml` in the directory `at`.
///
/// `child` is the program in which new models are tried, such as `fleetway-agent` of the same version;
/// null looks for that beside this program and where packages put it. `flags` are `FLEETWAY_SOCKETS`
/// and `FLEETWAY_NO_CHILD`, or 0. `*agent` is closed by `fleetway_close`.
///
/// # Safety
/// `at` is a C string; `child` is null or one; `agent` points to a `uint64_t`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fleetway_open(
    at: *const c_char,
    child: *const c_char,
    flags: u32,
    agent: *mut u64,
) -> FleetwayCode {
    guard(|| {
        is_place(agent)?;
        if flags & !(FLEETWAY_SOCKETS | FLEETWAY_NO_CHILD) != 0 {
            return Err(Failure::argument(format!("flags {flags:#x} are unknown")));
        }
        // SAFETY: a C string or null, by this function's contract; it is used within the call.
        let at = unsafe { value::text(at, "at") }?;
        let child = match (child.is_null(), flags & FLEETWAY_NO_CHILD != 0) {
            (true, true) => Child::Absent,
            (true, false) => Child::Find,
            // SAFETY: not null, so a C string by this function's contract.
            (false, false) => Child::Program(unsafe { value::text(child, "child") }?.into()),
            (false, true) => return Err(Failure::argument("a child and FLEETWAY_NO_CHILD")),
        };
        let options = Options { child, sockets: flags & FLEETWAY_SOCKETS != 0 };
        let opened = AGENTS.put(Agent::open_with(Path::new(at), options)?);
        // SAFETY: checked above, and writable by this function's contract.
        unsafe { write(agent, opened) }
    })
}

/// Ends an agent gracefully: within ten seconds, and when callbacks that run have returned. Its
/// subscriptions end with it. Called by a callback it does not wait for that one.
#[unsafe(no_mangle)]
pub extern "C" fn fleetway_close(agent: u64) -> FleetwayCode {
    guard(|| {
        let taken = AGENTS.take(agent)?;
        let closed = taken.close();
        drop(SUBSCRIPTIONS.take_all(|(of, _)| *of == agent));
        Ok(closed?)
    })
}

/// What runs on the device, why, and what is wrong: the JSON of `fleetway-agent status -o json`.
/// `*json` is freed by `fleetway_text_free`.
///
/// # Safety
/// `json` points to a `char *`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fleetway_status(agent: u64, json: *mut *mut c_char) -> FleetwayCode {
    guard(|| {
        is_place(json)?;
        let status = AGENTS.get(agent)?.status();
        let text = serde_json::to_string(&status)
            .map_err(|error| Failure::new(FleetwayCode::Bug, chain(&error)))?;
        // SAFETY: checked above, and writable by this function's contract.
        unsafe { write(json, c_text(&text).into_raw()) }
    })
}

/// Frees a text that this library gave. Null is allowed.
///
/// # Safety
/// `text` came from `fleetway_status` and was not freed before.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fleetway_text_free(text: *mut c_char) {
    if !text.is_null() {
        // SAFETY: it came from `CString::into_raw`, once, by this function's contract.
        drop(unsafe { CString::from_raw(text) });
    }
}

/// Asks a model and waits for the answer: at most one second for a turn and ten for the run.
/// `inputs` are copied. `*answer` is freed by `fleetway_answer_free`.
///
/// # Safety
/// `model` is a C string; `inputs` points to `input_count` tensors whose pointers are as their fields
/// say, and nobody writes there during the call; `answer` points to a `FleetwayAnswer *`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fleetway_infer(
    agent: u64,
    model: *const c_char,
    inputs: *const FleetwayTensor,
    input_count: u32,
    answer: *mut *mut FleetwayAnswer,
) -> FleetwayCode {
    guard(|| {
        is_place(answer)?;
        let agent = AGENTS.get(agent)?;
        // SAFETY: a C string or null, by this function's contract; it is used within the call.
        let model = unsafe { value::text(model, "model") }?;
        // SAFETY: by this function's contract; they are copied within the call.
        let inputs = unsafe { value::tensors(inputs, input_count) }?;
        let given = value::give(agent.infer(model, inputs)?);
        // SAFETY: checked above, and writable by this function's contract.
        unsafe { write(answer, given) }
    })
}

/// Frees an answer and everything in it. Null is allowed.
///
/// # Safety
/// `answer` came from `fleetway_infer` and was not freed before.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fleetway_answer_free(answer: *mut FleetwayAnswer) {
    // SAFETY: by this function's own contract, which is the same.
    unsafe { value::free(answer) };
}

/// The caller's own pointer, on its way to another thread.
struct User(*mut c_void);

// SAFETY: the library never looks behind it. That the callback may use it on another thread is part of
// `fleetway_on_model_changed`'s contract.
unsafe impl Send for User {}

impl User {
    /// By a method, so that a closure takes all of `User` and not the pointer in it.
    fn pointer(&self) -> *mut c_void {
        self.0
    }
}

/// Calls `callback` with `user` for every model that answers now, and from then on whenever another
/// release, or none, answers for a model. A slow callback sees the newest state, not what came and
/// went meanwhile. `*subscription` is ended by `fleetway_unsubscribe`, or with its agent.
///
/// # Safety
/// `callback` may be called with `user` on another thread until the subscription has ended;
/// `subscription` points to a `uint64_t`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fleetway_on_model_changed(
    agent: u64,
    callback: FleetwayCallback,
    user: *mut c_void,
    subscription: *mut u64,
) -> FleetwayCode {
    guard(|| {
        is_place(subscription)?;
        let callback = callback.ok_or_else(|| Failure::argument("callback is NULL"))?;
        let user = User(user);
        let told = AGENTS.get(agent)?.on_model_changed(move |change| {
            with_change(change, |change| {
                // SAFETY: `change` lives through the call; that `callback` may be called with
                // `user` here and now is this function's contract.
                unsafe { callback(user.pointer(), change) }
            });
        })?;
        let handle = SUBSCRIPTIONS.put((agent, told));
        // SAFETY: checked above, and writable by this function's contract.
        unsafe { write(subscription, handle) }
    })
}

/// A change as C sees it, for as long as `use_it` takes.
fn with_change(change: &ModelChange, use_it: impl FnOnce(*const FleetwayChange)) {
    let model = c_text(&change.model);
    let texts = change
        .running
        .as_ref()
        .map(|running| [&running.version, &running.release, &running.slot].map(|t| c_text(t)));
    let [version, release, slot] =
        texts.as_ref().map_or([ptr::null(); 3], |texts| texts.each_ref().map(|t| t.as_ptr()));
    use_it(&FleetwayChange { model: model.as_ptr(), version, release, slot });
}

/// Ends a subscription. When this returns no call of it is under way and none will come, unless a
/// call of its own does it: then that one is the last.
#[unsafe(no_mangle)]
pub extern "C" fn fleetway_unsubscribe(subscription: u64) -> FleetwayCode {
    guard(|| {
        SUBSCRIPTIONS.take(subscription)?.1.cancel();
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CStr;

    fn said() -> String {
        // SAFETY: the message is a C string until the next call on this thread.
        unsafe { CStr::from_ptr(fleetway_message()) }.to_str().expect("UTF-8").to_owned()
    }

    #[test]
    fn what_is_wrong_is_a_code_and_a_sentence() {
        let mut agent = 7;
        let open = |at: *const c_char, child: *const c_char, flags, agent: *mut u64| {
            // SAFETY: each is null or a C string; `agent` is null or a place for a number.
            unsafe { fleetway_open(at, child, flags, agent) }
        };
        let (null, nowhere) = (ptr::null(), c"/nowhere/at/all".as_ptr());
        assert_eq!(open(null, null, 0, &mut agent), FleetwayCode::Argument);
        assert_eq!(said(), "at is NULL");
        assert_eq!(open(c"\xff".as_ptr(), null, 0, &mut agent), FleetwayCode::Argument);
        assert_eq!(open(nowhere, null, 0, ptr::null_mut()), FleetwayCode::Argument);
        assert_eq!(open(nowhere, null, 4, &mut agent), FleetwayCode::Argument);
        assert_eq!(open(nowhere, nowhere, FLEETWAY_NO_CHILD, &mut agent), FleetwayCode::Argument);
        assert_eq!(open(nowhere, null, 0, &mut agent), FleetwayCode::Config);
        assert!(said().starts_with("/nowhere/at/all: cannot be read"), "{}", said());
        assert_eq!(agent, 7, "a failed call writes nothing");
    }

    #[test]
    fn a_number_that_is_no_handle_is_refused_by_all() {
        for handle in [0, 1 << 60, u64::MAX] {
            let (mut json, mut answer, mut told) = (ptr::null_mut(), ptr::null_mut(), 0);
            assert_eq!(fleetway_close(handle), FleetwayCode::Handle);
            assert_eq!(fleetway_unsubscribe(handle), FleetwayCode::Handle);
            // SAFETY: a place for a pointer.
            assert_eq!(unsafe { fleetway_status(handle, &mut json) }, FleetwayCode::Handle);
            let model = c"m".as_ptr();
            // SAFETY: a C string, no inputs, a place for a pointer.
            let asked = unsafe { fleetway_infer(handle, model, ptr::null(), 0, &mut answer) };
            assert_eq!(asked, FleetwayCode::Handle);
            unsafe extern "C" fn callback(_: *mut c_void, _: *const FleetwayChange) {}
            let (callback, user) = (Some(callback as _), ptr::null_mut());
            // SAFETY: the callback does nothing; a place for a number.
            let on = unsafe { fleetway_on_model_changed(handle, callback, user, &mut told) };
            assert_eq!(on, FleetwayCode::Handle);
            assert!(json.is_null() && answer.is_null() && told == 0);
        }
        assert!(said().contains("no such handle"), "{}", said());
    }

    #[test]
    fn a_panic_is_a_code() {
        assert_eq!(guard(|| panic!("a bug")), FleetwayCode::Bug);
        assert!(said().contains("bug of fleetway's"), "{}", said());
        assert_eq!(guard(|| Ok(())), FleetwayCode::Ok);
        assert_eq!(said(), "");
    }
}
