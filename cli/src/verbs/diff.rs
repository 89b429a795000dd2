//! `skiff diff`

use std::process::ExitCode;

use serde_json::Value;
use similar::TextDiff;
use skiff_api::client::{ApplyAction, Run};

use crate::args::DiffArgs;
use crate::context::Context;
use crate::exit::Exit;
use crate::output::format;
use crate::verbs::apply;
use crate::{Outcome, manifests};

pub(super) async fn run(context: &Context, args: DiffArgs) -> Outcome {
    let client = context.client()?;
    let mut differs = false;
    for document in manifests::load(&args.files)? {
        let applied = apply::one(&client, &document, Run::Dry).await?;
        if applied.action == ApplyAction::Unchanged {
            continue;
        }
        differs = true;
        // A kind without a namespace ignores the one that is asked for.
        let namespace = document.namespace.as_ref().unwrap_or(&document.name);
        let live = match client.get_value(document.kind, namespace, document.name.as_str()).await {
            Ok(live) => format::yaml(&comparable(live))?,
            Err(error) if error.is_not_found() => String::new(),
            Err(error) => return Err(error.into()),
        };
        let new = format::yaml(&comparable(applied.object))?;
        let name = format!("{}/{}", document.kind.singular(), document.name);
        let diff = TextDiff::from_lines(&live, &new);
        let (old_name, new_name) = (format!("{name} (live)"), format!("{name} (new)"));
        print!("{}", diff.unified_diff().header(&old_name, &new_name));
    }
    Ok(if differs { Exit::Differs.into() } else { ExitCode::SUCCESS })
}

/// An object without what only the server writes.
fn comparable(mut object: Value) -> Value {
    if let Some(object) = object.as_object_mut() {
        object.shift_remove("status");
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.retain(|field, _| ["name", "namespace", "labels", "annotations"].contains(&field.as_str()));
        }
    }
    object
}
