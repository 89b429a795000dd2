//! Reading the bodies of requests: bounded in size and in time, and strictly.

use std::time::Duration;

use axum::body::Body;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use skiff_api::manifest::{self, Document, MANIFEST_BYTES_MAX, ManifestError};
use skiff_api::{Code, Problem};

use super::failure::{Result, invalid};

/// A megabyte arrives in that time over a line of 300 kbit/s; who is slower holds a connection for nothing.
const TIMEOUT: Duration = Duration::from_secs(30);

/// What messages call the text.
const NAME: &str = "body";

/// The whole body as text.
pub(crate) async fn text(body: Body) -> Result<String> {
    let collected = Limited::new(body, MANIFEST_BYTES_MAX).collect();
    let bytes = match tokio::time::timeout(TIMEOUT, collected).await {
        Ok(Ok(collected)) => collected.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let detail = format!("the body has more than the {MANIFEST_BYTES_MAX} bytes that are allowed");
            return Err(Problem::new(Code::TooLarge, detail).into());
        }
        Ok(Err(error)) => return Err(invalid(format!("the body ended early: {error}")).into()),
        Err(_) => return Err(invalid(format!("the body did not arrive within {} s", TIMEOUT.as_secs())).into()),
    };
    String::from_utf8(bytes.into()).map_err(|_| invalid("the body is not UTF-8").into())
}

/// The one object in the body, read as strictly as a manifest: `curl` gets the messages of `skiff apply`.
pub(super) async fn document(body: Body) -> Result<Document> {
    let text = text(body).await?;
    let mut documents = manifest::read(NAME, &text).map_err(|error| problem(&error))?;
    match (documents.pop(), documents.len()) {
        (Some(document), 0) => Ok(document),
        (None, _) => Err(invalid("the body has no object").hint("send one object, as JSON or YAML").into()),
        (Some(_), more) => {
            let detail = format!("the body has {} objects where one is expected", more + 1);
            Err(invalid(detail).hint("send one request for each object").into())
        }
    }
}

/// A small body of fixed shape.
pub(crate) async fn json<T: DeserializeOwned>(body: Body) -> Result<T> {
    let text = text(body).await?;
    serde_json::from_str(&text).map_err(|error| invalid(format!("the body cannot be read: {error}")).into())
}

fn problem(error: &ManifestError) -> Problem {
    let field = if error.field.is_empty() { String::new() } else { format!("{}: ", error.field) };
    let place = if error.line > 0 { format!(" (line {}, column {})", error.line, error.column) } else { String::new() };
    let problem = invalid(format!("{field}{}{place}", error.message));
    match &error.hint {
        Some(hint) => problem.hint(hint),
        None => problem,
    }
}
