//! An answer, and what can be turned into one.

use std::fmt;
use std::io::{self, Write as _};

use wasip2::http::types::{Fields, OutgoingResponse, ResponseOutparam};

use crate::Error;
use crate::body::{self, BodyWriter};

type Write = Box<dyn FnOnce(&mut BodyWriter) -> io::Result<()>>;

/// An answer: its body in memory, or a function that writes it piece by piece.
#[derive(Debug)]
pub struct Response {
    status: u16,
    headers: Vec<(String, Vec<u8>)>,
    body: Content,
}

enum Content {
    Whole(Vec<u8>),
    Streamed(Write),
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(bytes) => write!(f, "{} bytes", bytes.len()),
            Self::Streamed(_) => f.write_str("streamed"),
        }
    }
}

impl Response {
    /// An empty answer.
    pub fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Content::Whole(Vec::new()) }
    }

    /// `200` with `text/plain`.
    pub fn text(body: impl Into<String>) -> Self {
        Self::new(200).with_header("content-type", "text/plain; charset=utf-8").with_body(body.into())
    }

    /// `200` with `application/json`, from text that is JSON already.
    pub fn json(body: impl Into<String>) -> Self {
        Self::new(200).with_header("content-type", "application/json").with_body(body.into())
    }

    #[must_use]
    pub fn with_status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// Adds a header, beside any other of that name. One that HTTP forbids makes the answer a 500.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    #[must_use]
    pub fn with_body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Content::Whole(body.into());
        self
    }

    /// A body that is written while the caller reads it, after the head was sent. An error ends the connection, so that
    /// nobody takes what there is of it for all; one that says that the caller is gone can only be passed on.
    ///
    /// ```no_run
    /// use std::io::Write;
    ///
    /// use skiff_sdk::Response;
    ///
    /// fn count() -> Response {
    ///     Response::text("").with_stream(|body| (1..=1000).try_for_each(|number| writeln!(body, "{number}")))
    /// }
    /// ```
    #[must_use]
    pub fn with_stream(mut self, write: impl FnOnce(&mut BodyWriter) -> io::Result<()> + 'static) -> Self {
        self.body = Content::Streamed(Box::new(write));
        self
    }

    /// `200` with `text/event-stream`: events that the caller gets as they are sent with [`BodyWriter::event`].
    pub fn events(write: impl FnOnce(&mut BodyWriter) -> io::Result<()> + 'static) -> Self {
        let head =
            Self::new(200).with_header("content-type", "text/event-stream").with_header("cache-control", "no-cache");
        head.with_stream(write)
    }

    pub(crate) fn send(self, out: ResponseOutparam) {
        let (head, body) = match self.head() {
            Ok(head) => (head, self.body),
            Err(why) => {
                crate::error!("failed to answer: {why}");
                (OutgoingResponse::new(Fields::new()), Content::Whole(Vec::new()))
            }
        };
        // Only fails when asked for a second time.
        let outgoing = head.body();
        ResponseOutparam::set(out, Ok(head));
        let Ok(outgoing) = outgoing else { return };
        match body {
            Content::Whole(bytes) => body::send(outgoing, |writer| writer.write_all(&bytes)),
            Content::Streamed(write) => body::send(outgoing, write),
        }
    }

    fn head(&self) -> Result<OutgoingResponse, String> {
        let head = OutgoingResponse::new(self.fields()?);
        // What a new one has.
        if self.status != 200 {
            head.set_status_code(self.status).map_err(|()| format!("{} is no status", self.status))?;
        }
        Ok(head)
    }

    /// All in one call to the host, because each costs as much as the guest's own work. It does not say what it refused:
    /// that is found out one by one.
    fn fields(&self) -> Result<Fields, String> {
        let is_length = |(name, _): &(String, Vec<u8>)| name.eq_ignore_ascii_case("content-length");
        // A length lets the connection be kept without chunked encoding.
        let length = match &self.body {
            Content::Whole(bytes)
                if !self.headers.iter().any(is_length) && !matches!(self.status, 100..200 | 204 | 304) =>
            {
                Some(("content-length".to_owned(), bytes.len().to_string().into_bytes()))
            }
            _ => None,
        };
        let headers: Vec<_> = self.headers.iter().cloned().chain(length).collect();
        Fields::from_list(&headers).map_err(|error| {
            let fields = Fields::new();
            let refused = headers.iter().find_map(|(name, value)| Some((name, fields.append(name, value).err()?)));
            refused.map_or_else(|| error.to_string(), |(name, error)| format!("header {name}: {error}"))
        })
    }
}

/// What a handler may return.
pub trait IntoResponse {
    fn into_response(self) -> Response;
}

impl IntoResponse for Response {
    fn into_response(self) -> Response {
        self
    }
}

impl IntoResponse for &str {
    fn into_response(self) -> Response {
        Response::text(self)
    }
}

impl IntoResponse for String {
    fn into_response(self) -> Response {
        Response::text(self)
    }
}

/// Bytes of no particular type.
impl IntoResponse for Vec<u8> {
    fn into_response(self) -> Response {
        Response::new(200).with_header("content-type", "application/octet-stream").with_body(self)
    }
}

/// Nothing to say: a 204.
impl IntoResponse for () {
    fn into_response(self) -> Response {
        Response::new(204)
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        Response::text(format!("{self}\n")).with_status(self.status())
    }
}

impl<T: IntoResponse, E: Into<Error>> IntoResponse for Result<T, E> {
    fn into_response(self) -> Response {
        match self {
            Ok(value) => value.into_response(),
            Err(error) => error.into().into_response(),
        }
    }
}
