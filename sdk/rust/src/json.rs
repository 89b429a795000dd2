//! JSON, with the feature `json`.

use serde::Serialize;

use crate::{Error, IntoResponse, Response};

/// An answer of JSON.
///
/// ```no_run
/// use skiff_sdk::{Json, Request};
///
/// #[derive(serde::Serialize)]
/// struct Item {
///     id: u32,
/// }
///
/// fn item(_: Request) -> Json<Item> {
///     Json(Item { id: 7 })
/// }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Json<T>(pub T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match serde_json::to_string(&self.0) {
            Ok(text) => Response::json(text),
            // Such as a map whose keys are no text.
            Err(error) => Error::from(error).into_response(),
        }
    }
}
