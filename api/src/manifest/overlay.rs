//! Overlays: what is different elsewhere, laid over manifests before they are read.
//!
//! A document of an overlay names an object by kind and name, and of the rest only what differs. Maps are merged field by field;
//! a list or a value takes the place of the other; `null` takes a field away, so that its default holds. The result is
//! read as though it had been written so, and a mistake in it is told where it was written.

use crate::manifest::fault::{Fault, ManifestError};
use crate::manifest::reader::{self, Document};
use crate::manifest::tree::{Content, Field, Node};

/// A text, and what messages call it.
#[derive(Debug, Clone)]
pub struct Source {
    pub file: String,
    pub text: String,
}

/// One object as it was written.
struct Written<'a> {
    file: &'a str,
    node: Node,
    /// What was laid over it, in turn.
    overlays: Vec<(&'a str, Node)>,
}

/// Every object of these texts, with what overlays change of them.
///
/// Errors: the first thing that is wrong, with its place; nothing is returned then.
pub fn read_overlaid(sources: &[Source], overlays: &[Source]) -> Result<Vec<Document>, ManifestError> {
    let mut objects = Vec::new();
    for source in sources {
        let nodes = reader::nodes(source)?;
        objects.extend(nodes.into_iter().map(|node| Written { file: &source.file, node, overlays: Vec::new() }));
    }
    for overlay in overlays {
        for node in reader::nodes(overlay)? {
            lay_over(&mut objects, &overlay.file, node)?;
        }
    }
    objects.iter().map(Written::read).collect()
}

fn lay_over<'a>(objects: &mut [Written<'a>], file: &'a str, node: Node) -> Result<(), ManifestError> {
    let refuse = |at: &Node, message: String, hint: &str| Err(at.fault(message, Some(hint.to_owned())).in_file(file));
    let (Some(kind), Some(name)) = (text(&node, &["kind"]), name_of(&node)) else {
        return refuse(
            &node,
            "it names no object".to_owned(),
            "write kind and name, as the manifest does, and what differs",
        );
    };
    let is_same = |other: &Written<'_>| {
        let kinds = text(&other.node, &["kind"]).map(str::to_lowercase);
        let namespaces = [namespace_of(&other.node), namespace_of(&node)];
        let same_namespace = namespaces.iter().any(Option::is_none) || namespaces[0] == namespaces[1];
        kinds.as_deref() == Some(&kind.to_lowercase()) && name_of(&other.node) == Some(name) && same_namespace
    };
    let Some(object) = objects.iter_mut().find(|object| is_same(object)) else {
        let hint = "write kind and name as the manifest does; what is new belongs into a manifest";
        return refuse(&node, format!("no manifest has {}/{name}", kind.to_lowercase()), hint);
    };
    if is_envelope(&object.node) != is_envelope(&node) {
        let hint = "write both with metadata and spec, or both without";
        return refuse(&node, format!("{}/{name} is in another form than here", kind.to_lowercase()), hint);
    }
    object.node = merged(&object.node, &node);
    object.overlays.push((file, node));
    Ok(())
}

impl Written<'_> {
    fn read(&self) -> Result<Document, ManifestError> {
        reader::document(self.file, &self.node).map_err(|fault| {
            let file =
                self.overlays.iter().rfind(|(_, node)| has_place(node, &fault)).map_or(self.file, |(file, _)| *file);
            fault.in_file(file)
        })
    }
}

/// Whether a fault is about what stands in this tree.
fn has_place(node: &Node, fault: &Fault) -> bool {
    let is_on_the_way = |path: &str| fault.field.starts_with(path);
    let is_here = |line: u64, column: u64| (line, column) == (fault.line, fault.column);
    let below = |node: &Node| has_place(node, fault);
    match &node.content {
        Content::Map(fields) => fields.iter().any(|field| {
            let value = &field.value;
            is_on_the_way(&value.path)
                && (is_here(field.line, field.column) || is_here(value.line, value.column) || below(value))
        }),
        Content::List(items) => {
            items.iter().any(|item| is_on_the_way(&item.path) && (is_here(item.line, item.column) || below(item)))
        }
        _ => false,
    }
}

/// One node with another laid over it.
fn merged(under: &Node, over: &Node) -> Node {
    let (Content::Map(below), Content::Map(above)) = (&under.content, &over.content) else { return over.clone() };
    let mut fields = below.clone();
    for field in above {
        let at = fields.iter().position(|other| other.name == field.name);
        match (at, &field.value.content) {
            (Some(at), Content::Null) => drop(fields.remove(at)),
            (Some(at), _) => {
                let value = merged(&fields[at].value, &field.value);
                // A map stands where it stood; all else stands where it was written last.
                fields[at] = match &value.content {
                    Content::Map(_) => Field { value, ..fields[at].clone() },
                    _ => Field { value, ..field.clone() },
                };
            }
            (None, Content::Null) => {}
            (None, _) => fields.push(field.clone()),
        }
    }
    Node { content: Content::Map(fields), ..under.clone() }
}

fn is_envelope(node: &Node) -> bool {
    node.field("metadata").is_some() || node.field("spec").is_some()
}

fn name_of(node: &Node) -> Option<&str> {
    text(node, &["name"]).or_else(|| text(node, &["metadata", "name"]))
}

fn namespace_of(node: &Node) -> Option<&str> {
    text(node, &["namespace"]).or_else(|| text(node, &["metadata", "namespace"]))
}

fn text<'a>(node: &'a Node, path: &[&str]) -> Option<&'a str> {
    let node = path.iter().try_fold(node, |node, name| node.field(name).map(|field| &field.value))?;
    match &node.content {
        Content::Text(text) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Typed;

    const BASE: &str = "kind: Service\nname: cart\nimage: cart\nreplicas: 1\nenv: {LOG: info, MODE: a}\nhttp:\n  routes: [{path: /a}, {path: /b}]\n  inFlight: 8\n";

    fn read(overlay: &str) -> Result<Vec<Document>, String> {
        let source = |file: &str, text: &str| Source { file: file.to_owned(), text: text.to_owned() };
        read_overlaid(&[source("base.yaml", BASE)], &[source("prod.yaml", overlay)]).map_err(|error| error.to_string())
    }

    #[test]
    fn maps_are_merged_and_all_else_is_replaced() {
        let overlay =
            "kind: Service\nname: cart\nreplicas: 5\nenv: {LOG: null, REGION: eu}\nhttp:\n  routes: [{path: /c}]\n";
        let documents = read(overlay).unwrap();
        let Typed::Service(cart) = &documents[0].typed else { panic!("{documents:?}") };
        assert_eq!(cart.spec.replicas, 5.into());
        assert_eq!(cart.spec.env.keys().collect::<Vec<_>>(), ["MODE", "REGION"]);
        assert_eq!((cart.spec.http.routes.len(), cart.spec.http.in_flight), (1, 8));
        assert!(documents[0].sparse.pointer("/spec/env/LOG").is_none());
    }

    #[test]
    fn mistakes_are_told_where_they_were_written() {
        for (overlay, said) in [
            ("kind: Service\nname: cart\nreplicas: many\n", "prod.yaml:3:11: replicas"),
            ("kind: Service\nname: cart\nhttp:\n  inFlite: 3\n", "prod.yaml:4:3: http.inFlite"),
            ("kind: Service\nname: card\nreplicas: 2\n", "prod.yaml:1:1: no manifest has service/card"),
            ("replicas: 2\n", "prod.yaml:1:1: it names no object"),
            (
                "kind: Service\nmetadata: {name: cart}\nspec: {replicas: 2}\n",
                "prod.yaml:1:1: service/cart is in another form",
            ),
            ("kind: Service\nname: cart\nimage: null\n", "base.yaml:1:1"),
        ] {
            let error = read(overlay).unwrap_err();
            assert!(error.starts_with(said), "{error}");
        }
    }
}
