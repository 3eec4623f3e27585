//! How a function of the C ABI fails: a code for the program, a sentence for the person.
//!
//! The sentence is kept for the thread that called, until its next call: no allocation that somebody
//! has to free, and no other thread that overwrites it.

use std::cell::RefCell;
use std::ffi::{CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

use fleetway_agent::embed::{CloseError, InferError, OpenError, SubscribeError};

/// What became of a call.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FleetwayCode {
    /// Done.
    Ok = 0,
    /// A null pointer, text that is not UTF-8, an unknown flag or type: a mistake in the calling program.
    Argument = 1,
    /// No such agent or subscription; it was closed, or never opened.
    Handle = 2,
    /// The configuration is missing or wrong.
    Config = 3,
    /// Somebody has this device open: this program, or another.
    InUse = 4,
    /// The agent cannot be opened, for another reason.
    Open = 5,
    /// The device knows no such model.
    UnknownModel = 6,
    /// Nothing of the model is loaded yet.
    NotReady = 7,
    /// The inputs do not fit the model.
    Input = 8,
    /// Too much at once; ask again later.
    Busy = 9,
    /// The run did not end within its deadline.
    Timeout = 10,
    /// The release failed on these inputs.
    Failed = 11,
    /// The agent has ended.
    Closed = 12,
    /// There are as many subscriptions as there can be.
    TooMany = 13,
    /// A bug of fleetway's, which was caught.
    Bug = 14,
}

/// A failed call.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: FleetwayCode,
    pub(crate) text: String,
}

impl Failure {
    pub(crate) fn new(code: FleetwayCode, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }

    pub(crate) fn argument(text: impl Into<String>) -> Self {
        Self::new(FleetwayCode::Argument, text)
    }

    pub(crate) fn handle() -> Self {
        Self::new(FleetwayCode::Handle, "no such handle; it was closed, or never opened")
    }

    fn of(code: FleetwayCode, error: &dyn std::error::Error) -> Self {
        Self::new(code, chain(error))
    }
}

/// An error with everything that it comes from.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        let code = match &error {
            OpenError::Config(_) | OpenError::Child(_) => FleetwayCode::Config,
            OpenError::OpenHere(_) | OpenError::OpenElsewhere(_) => FleetwayCode::InUse,
            OpenError::Panicked(_) => FleetwayCode::Bug,
            OpenError::Run(_) | OpenError::Threads(_) | OpenError::PanicEnds => FleetwayCode::Open,
        };
        Self::of(code, &error)
    }
}

impl From<InferError> for Failure {
    fn from(error: InferError) -> Self {
        let code = match &error {
            InferError::UnknownModel { .. } => FleetwayCode::UnknownModel,
            InferError::NotReady(_) => FleetwayCode::NotReady,
            InferError::Input(_) => FleetwayCode::Input,
            InferError::Busy(_) => FleetwayCode::Busy,
            InferError::Timeout(_) => FleetwayCode::Timeout,
            InferError::Failed(_) => FleetwayCode::Failed,
            InferError::Closed(_) => FleetwayCode::Closed,
        };
        Self::of(code, &error)
    }
}

impl From<SubscribeError> for Failure {
    fn from(error: SubscribeError) -> Self {
        let code = match &error {
            SubscribeError::TooMany => FleetwayCode::TooMany,
            SubscribeError::Closed => FleetwayCode::Closed,
            SubscribeError::Thread(_) => FleetwayCode::Open,
        };
        Self::of(code, &error)
    }
}

impl From<CloseError> for Failure {
    fn from(error: CloseError) -> Self {
        Self::of(FleetwayCode::Bug, &error)
    }
}

thread_local! {
    static MESSAGE: RefCell<CString> = RefCell::default();
}

/// Text without the one character that ends a C string early.
pub(crate) fn c_text(text: &str) -> CString {
    CString::new(text.replace('\0', " ")).unwrap_or_default()
}

/// The last failure on this thread.
pub(crate) fn message() -> *const c_char {
    let address = |message: &RefCell<CString>| {
        message.try_borrow().map_or(std::ptr::null(), |text| text.as_ptr())
    };
    // A thread that ends has none any more.
    MESSAGE.try_with(address).unwrap_or(std::ptr::null())
}

/// Does the work of one function, and turns everything that can happen into a code and a sentence.
pub(crate) fn guard(work: impl FnOnce() -> Result<(), Failure>) -> FleetwayCode {
    // What `work` shares with other calls is behind locks that are taken whatever happened before.
    let done = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        let text = "fleetway failed in this call; this is a bug of fleetway's";
        Err(Failure::new(FleetwayCode::Bug, text))
    });
    let (code, text) = match done {
        Ok(()) => (FleetwayCode::Ok, String::new()),
        Err(failure) => (failure.code, failure.text),
    };
    let _ = MESSAGE.try_with(|message| message.replace(c_text(&text)));
    code
}
