//! An answer, and what can be turned into one.

use std::io::Write as _;

use wasip2::http::types::{Fields, OutgoingBody, OutgoingResponse, ResponseOutparam};

use crate::Error;

/// An answer with its whole body in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    status: u16,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

impl Response {
    /// An empty answer.
    pub fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new() }
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
        self.body = body.into();
        self
    }

    pub(crate) fn send(self, out: ResponseOutparam) {
        let (head, body) = match self.head() {
            Ok(head) => (head, self.body),
            Err(why) => {
                crate::error!("failed to answer: {why}");
                (OutgoingResponse::new(Fields::new()), Vec::new())
            }
        };
        // Only fails when asked for a second time.
        let outgoing = head.body();
        ResponseOutparam::set(out, Ok(head));
        if let Ok(outgoing) = outgoing {
            write(outgoing, &body);
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
        let length = (!self.headers.iter().any(is_length) && !matches!(self.status, 100..200 | 204 | 304))
            .then(|| ("content-length".to_owned(), self.body.len().to_string().into_bytes()));
        let headers: Vec<_> = self.headers.iter().cloned().chain(length).collect();
        Fields::from_list(&headers).map_err(|error| {
            let fields = Fields::new();
            let refused = headers.iter().find_map(|(name, value)| Some((name, fields.append(name, value).err()?)));
            refused.map_or_else(|| error.to_string(), |(name, error)| format!("header {name}: {error}"))
        })
    }
}

/// Writes the body and closes it. A caller that has gone is no error: there is nobody to tell.
fn write(outgoing: OutgoingBody, body: &[u8]) {
    if !body.is_empty()
        && let Ok(mut stream) = outgoing.write()
        && stream.write_all(body).is_err()
    {
        // Dropped unfinished, so that the host does not pass a cut body off as a whole one.
        return;
    }
    // Fails when the body is not as long as a content-length that the handler set.
    if let Err(error) = OutgoingBody::finish(outgoing, None) {
        crate::error!("failed to finish the answer: {error}");
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
