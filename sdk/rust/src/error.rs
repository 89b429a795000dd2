//! A failed request: what its caller is told.

use std::fmt;

/// A handler's failure, as a status and a message for the caller.
///
/// Made with [`Error::new`] where the caller should know what went wrong. Any other error turns into one with `?`; that
/// is a 500 without details, because an error that nobody expected may contain what no stranger should read. Its text and
/// causes go to the service's log instead.
///
/// ```no_run
/// use skiff_sdk::{Error, Request, Response};
///
/// fn handle(request: Request) -> Result<Response, Error> {
///     let id = request.query_value("id").ok_or_else(|| Error::new(400, "the query needs an id"))?;
///     let id: u32 = id.parse()?; // not a number: a 500, and a line in the log
///     Ok(Response::text(format!("{id}\n")))
/// }
/// ```
#[derive(Debug)]
pub struct Error {
    status: u16,
    message: String,
}

impl Error {
    /// An error that the caller may read in full.
    pub fn new(status: u16, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    pub fn status(&self) -> u16 {
        self.status
    }

    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

// Error itself is no std::error::Error: this conversion would then also be one from itself.
impl<E: std::error::Error> From<E> for Error {
    fn from(error: E) -> Self {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        crate::error!("{text}");
        Self::new(500, "internal error")
    }
}
