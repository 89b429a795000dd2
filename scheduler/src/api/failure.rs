//! Every answer that is not a success: a problem with its status and media type.

use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use skiff_api::{Code, Problem};

use crate::objects;
use crate::store;

/// A problem on its way to the client.
#[derive(Debug)]
pub(crate) struct Failure(pub(super) Problem);

pub(crate) type Result<T> = std::result::Result<T, Failure>;

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl From<objects::Error> for Failure {
    fn from(error: objects::Error) -> Self {
        let cause = chain(&error);
        let problem = Problem::from(error);
        // The client's own mistakes are its business; what is wrong with this machine is the operator's.
        if problem.status >= 500 {
            tracing::error!(code = problem.code.title(), cause, "failed to answer a request");
        }
        Self(problem)
    }
}

impl From<store::Error> for Failure {
    fn from(error: store::Error) -> Self {
        objects::Error::from(error).into()
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let Self(problem) = self;
        let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        // A problem is text and numbers: it always has a JSON form.
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(Problem::MEDIA_TYPE));
        match problem.code {
            Code::Unauthorized => headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"skiff\"")),
            Code::Unavailable => headers.insert(RETRY_AFTER, HeaderValue::from_static("1")),
            _ => None,
        };
        response
    }
}

/// An error and all that is below it, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

pub(super) fn invalid(detail: impl Into<String>) -> Problem {
    Problem::new(Code::Invalid, detail)
}
