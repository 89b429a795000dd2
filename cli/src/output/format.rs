//! Objects as JSON, YAML or names, and lists of them.

use serde_json::{Value, json};
use skiff_api::Kind;
use skiff_api::resource::API_VERSION;

use crate::exit::{Exit, Failure};

pub(crate) fn json(value: &Value) -> Result<String, Failure> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Failure::new(Exit::Internal, error))?;
    Ok(text + "\n")
}

pub(crate) fn yaml(value: &Value) -> Result<String, Failure> {
    // An image with its digest is longer than a line, and stays on one: people search for it.
    let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
    serde_saphyr::to_string_with_options(value, options)
        .map_err(|error| Failure::new(Exit::Internal, anyhow::Error::msg(error.to_string())))
}

/// `service/cart`.
pub(crate) fn name(kind: Kind, object: &Value) -> String {
    let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    format!("{}/{name}", kind.singular())
}

/// Several objects as one, which `apply` reads again.
pub(crate) fn list(kind: Kind, items: Vec<Value>) -> Value {
    json!({"apiVersion": API_VERSION, "kind": format!("{kind}List"), "items": items})
}
