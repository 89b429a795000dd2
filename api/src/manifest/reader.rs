//! From a text to documents.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::id::Name;
use crate::manifest::MANIFEST_BYTES_MAX;
use crate::manifest::decode::{decode, decode_flat};
use crate::manifest::fault::{Fault, ManifestError};
use crate::manifest::overlay::Source;
use crate::manifest::tree::{Content, Node};
use crate::resource::{
    API_VERSION, Config, ConfigSpec, DEFAULT_NAMESPACE, ImagePolicy, ImagePolicySpec, Job, JobSpec, Kind, Metadata,
    Namespace, NamespaceSpec, Object, Secret, SecretSpec, Service, ServiceSpec, Spec,
};
use crate::validate;

/// One object of a manifest.
#[derive(Debug, Clone)]
pub struct Document {
    pub file: String,
    /// Where the document starts, from 1.
    pub line: u64,
    pub kind: Kind,
    pub namespace: Option<Name>,
    pub name: Name,
    /// The resource version that an envelope carries, for conditional writes.
    pub resource_version: Option<String>,
    /// The envelope with only what the file names, for a three-way merge.
    pub sparse: Value,
    /// The object with defaults filled in.
    pub typed: Typed,
}

/// A writable object of any kind.
#[derive(Debug, Clone, PartialEq)]
pub enum Typed {
    Service(Box<Service>),
    Job(Box<Job>),
    Namespace(Box<Namespace>),
    ImagePolicy(Box<ImagePolicy>),
    Config(Box<Config>),
    Secret(Box<Secret>),
}

/// Every object of a text. `file` is what messages call it.
///
/// Errors: the first thing that is wrong, with its place; nothing is returned then.
pub fn read(file: &str, text: &str) -> Result<Vec<Document>, ManifestError> {
    let source = Source { file: file.to_owned(), text: text.to_owned() };
    let nodes = nodes(&source)?;
    nodes.iter().map(|node| document(file, node).map_err(|fault| fault.in_file(file))).collect()
}

/// Every object of a text as a tree.
pub(super) fn nodes(Source { file, text }: &Source) -> Result<Vec<Node>, ManifestError> {
    if text.len() > MANIFEST_BYTES_MAX {
        let message = format!("{} bytes are more than the {MANIFEST_BYTES_MAX} that a manifest may have", text.len());
        return Err(Fault { message, ..Fault::default() }.in_file(file));
    }
    let nodes = Node::parse(text).map_err(|fault| fault.in_file(file))?;
    Ok(nodes.into_iter().flat_map(objects).collect())
}

fn objects(node: Node) -> Vec<Node> {
    match list_items(&node) {
        Some(items) => items.iter().flat_map(|item| objects(item.rooted())).collect(),
        None => vec![node],
    }
}

/// The items of a `List`, as `skiff get -o yaml` prints several objects.
fn list_items(node: &Node) -> Option<&[Node]> {
    let Content::Text(kind) = &node.field("kind")?.value.content else { return None };
    match &node.field("items")?.value.content {
        Content::List(items) if kind.ends_with("List") => Some(items),
        _ => None,
    }
}

const HEADER: [&str; 6] = ["apiVersion", "kind", "name", "namespace", "labels", "annotations"];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FlatHeader {
    name: Name,
    namespace: Option<Name>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

pub(super) fn document(file: &str, node: &Node) -> Result<Document, Fault> {
    if !matches!(node.content, Content::Map(_)) {
        let hint = "a document starts with `kind: Service` and `name: …`";
        return Err(node.fault("expected an object", Some(hint.to_owned())));
    }
    check_api_version(node)?;
    let kind = kind(node)?;
    let is_envelope = node.field("metadata").is_some() || node.field("spec").is_some();
    let (metadata, spec, prefix) = match is_envelope {
        true => envelope(node)?,
        false => flat(node)?,
    };
    let name: Name = metadata.name.parse().map_err(|error: crate::id::InvalidName| {
        let at = node.nearest(if is_envelope { "metadata.name" } else { "name" });
        split_hint(at, &error.to_string())
    })?;
    if !kind.is_namespaced()
        && let Some(namespace) = &metadata.namespace
    {
        let at = node.nearest(if is_envelope { "metadata.namespace" } else { "namespace" });
        let message = format!("a {kind} belongs to the whole cluster and has no namespace, found {namespace:?}");
        return Err(at.fault(message, Some("remove the line".to_owned())));
    }
    let typed = match kind {
        Kind::Service => Typed::Service(Box::new(typed::<ServiceSpec>(&metadata, &spec)?)),
        Kind::Job => Typed::Job(Box::new(typed::<JobSpec>(&metadata, &spec)?)),
        Kind::Namespace => Typed::Namespace(Box::new(typed::<NamespaceSpec>(&metadata, &spec)?)),
        Kind::ImagePolicy => Typed::ImagePolicy(Box::new(typed::<ImagePolicySpec>(&metadata, &spec)?)),
        Kind::Config => Typed::Config(Box::new(typed::<ConfigSpec>(&metadata, &spec)?)),
        Kind::Secret => Typed::Secret(Box::new(typed::<SecretSpec>(&metadata, &spec).map_err(without_value)?)),
        _ => {
            let at = node.nearest("kind");
            let message = format!("a {kind} is written by Skiff itself");
            return Err(at.fault(message, Some(format!("write one of {}", Kind::WRITABLE.map(Kind::name).join(", ")))));
        }
    };
    let faults = match &typed {
        Typed::Service(service) => validate::service(service),
        Typed::Job(job) => validate::job(job),
        Typed::Namespace(namespace) => validate::namespace(namespace),
        Typed::ImagePolicy(policy) => validate::image_policy(policy),
        Typed::Config(config) => validate::config(config),
        Typed::Secret(secret) => validate::secret(secret),
    };
    if let Some(fault) = faults.into_iter().next() {
        return Err(place(node, prefix, is_envelope, fault));
    }
    Ok(Document {
        file: file.to_owned(),
        line: node.line,
        kind,
        namespace: metadata.namespace.clone(),
        name,
        resource_version: Some(metadata.resource_version.clone()).filter(|version| !version.is_empty()),
        sparse: sparse(kind, &metadata, spec.to_json()),
        typed,
    })
}

/// Puts a semantic fault where its field was written. Its path is relative to the spec, or starts with `metadata.`.
fn place(node: &Node, prefix: &str, is_envelope: bool, fault: validate::Fault) -> Fault {
    let path = match fault.field.strip_prefix("metadata.") {
        Some(rest) if !is_envelope => rest.to_owned(),
        Some(_) => fault.field.clone(),
        None => format!("{prefix}{}", fault.field),
    };
    let at = node.nearest(&path);
    Fault { line: at.line, column: at.column, field: path, message: fault.message, hint: fault.hint }
}

fn typed<S: Spec>(metadata: &Metadata, spec: &Node) -> Result<Object<S>, Fault> {
    // A flat document's spec shares its path with the document.
    let spec: S = match spec.path.as_str() {
        "" => decode_flat(spec, &HEADER)?,
        _ => decode(spec)?,
    };
    let mut metadata = metadata.clone();
    if S::KIND.is_namespaced() && metadata.namespace.is_none() {
        metadata.namespace = DEFAULT_NAMESPACE.parse().ok();
    }
    Ok(Object::new(metadata, spec))
}

fn check_api_version(node: &Node) -> Result<(), Fault> {
    match node.field("apiVersion") {
        None => Ok(()),
        Some(field) if matches!(&field.value.content, Content::Text(text) if text == API_VERSION) => Ok(()),
        Some(field) => {
            let found = field.value.to_json();
            let hint = "this Skiff reads skiff/v1; leave the field out or write that".to_owned();
            Err(field.value.fault(format!("the version {found} is not known"), Some(hint)))
        }
    }
}

fn kind(node: &Node) -> Result<Kind, Fault> {
    let Some(field) = node.field("kind") else {
        return Err(node.fault("the field \"kind\" is missing", Some("write `kind: Service`".to_owned())));
    };
    let Content::Text(text) = &field.value.content else {
        return Err(field.value.fault("expected the name of a kind", Some("write `kind: Service`".to_owned())));
    };
    // In a manifest a kind has one spelling, so that files can be searched.
    match Kind::ALL.into_iter().find(|kind| kind.name() == text) {
        Some(kind) => Ok(kind),
        None => {
            let near = crate::nearest::nearest(text, Kind::WRITABLE.map(Kind::name));
            let hint = match near {
                Some(near) => format!("did you mean {near}?"),
                None => format!("the kinds are {}", Kind::WRITABLE.map(Kind::name).join(", ")),
            };
            let shown: String = text.chars().take(60).collect();
            Err(field.value.fault(format!("there is no kind {shown:?}"), Some(hint)))
        }
    }
}

/// The metadata, the spec's node and the prefix of the spec's paths.
type Parts = (Metadata, Node, &'static str);

fn envelope(node: &Node) -> Result<Parts, Fault> {
    const FIELDS: [&str; 5] = ["apiVersion", "kind", "metadata", "spec", "status"];
    if let Some(field) = node.fields().iter().find(|field| !FIELDS.contains(&field.name.as_str())) {
        let hint = match crate::nearest::nearest(&field.name, FIELDS) {
            Some(near) => format!("did you mean {near}?"),
            None => "beside `metadata` and `spec`, a spec's fields stand under `spec`".to_owned(),
        };
        return Err(Fault {
            line: field.line,
            column: field.column,
            field: field.name.clone(),
            message: "unknown field".to_owned(),
            hint: Some(hint),
        });
    }
    let Some(metadata) = node.field("metadata") else {
        return Err(node.fault("the field \"metadata\" is missing", Some("write `metadata: {name: …}`".to_owned())));
    };
    let metadata = decode(&metadata.value)?;
    let spec = match node.field("spec") {
        Some(field) => field.value.clone(),
        None => Node { content: Content::Map(Vec::new()), path: "spec".to_owned(), ..node.clone() },
    };
    Ok((metadata, spec, "spec."))
}

fn flat(node: &Node) -> Result<Parts, Fault> {
    let (header, rest): (Vec<_>, Vec<_>) =
        node.fields().iter().cloned().partition(|field| HEADER.contains(&field.name.as_str()));
    let header = header.into_iter().filter(|field| !["kind", "apiVersion"].contains(&field.name.as_str())).collect();
    let header = Node { content: Content::Map(header), ..node.clone() };
    let header: FlatHeader = decode(&header)?;
    let metadata = Metadata {
        labels: header.labels,
        annotations: header.annotations,
        ..Metadata::new(header.namespace, header.name.as_str())
    };
    Ok((metadata, Node { content: Content::Map(rest), ..node.clone() }, ""))
}

fn sparse(kind: Kind, metadata: &Metadata, spec: Value) -> Value {
    let mut kept = Map::new();
    kept.insert("name".to_owned(), json!(metadata.name));
    if let Some(namespace) = &metadata.namespace {
        kept.insert("namespace".to_owned(), json!(namespace));
    }
    if !metadata.labels.is_empty() {
        kept.insert("labels".to_owned(), json!(metadata.labels));
    }
    if !metadata.annotations.is_empty() {
        kept.insert("annotations".to_owned(), json!(metadata.annotations));
    }
    let spec = if spec.is_null() { json!({}) } else { spec };
    json!({"apiVersion": API_VERSION, "kind": kind, "metadata": kept, "spec": spec})
}

/// What is wrong with a secret is said without what was found in its place.
fn without_value(fault: Fault) -> Fault {
    let message = fault.message.split(", found").next().unwrap_or_default().to_owned();
    Fault { message, ..fault }
}

fn split_hint(at: &Node, text: &str) -> Fault {
    match text.strip_suffix(')').and_then(|text| text.split_once(" (hint: ")) {
        Some((message, hint)) => at.fault(message, Some(hint.to_owned())),
        None => at.fault(text, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        read("a.yaml", text).unwrap_err().to_string()
    }

    #[test]
    fn reads_the_flat_form_and_the_envelope_alike() {
        let flat =
            read("a.yaml", "kind: Service\nname: cart\nimage: cart:1\nreplicas: 3\nlabels: {tier: backend}\n").unwrap();
        let envelope = read(
            "a.yaml",
            "apiVersion: skiff/v1\nkind: Service\nmetadata:\n  name: cart\n  labels: {tier: backend}\nspec:\n  image: cart:1\n  replicas: 3\nstatus: {ready: 1}\n",
        )
        .unwrap();
        assert_eq!(flat[0].typed, envelope[0].typed);
        assert_eq!(flat[0].sparse, envelope[0].sparse);
    }

    #[test]
    fn reads_json_several_documents_and_lists() {
        assert_eq!(read("a.json", r#"{"kind": "Service", "name": "a", "image": "a"}"#).unwrap().len(), 1);
        assert_eq!(
            read("a.yaml", "---\n---\nkind: Namespace\nname: a\n---\nkind: Service\nname: b\nimage: b\n")
                .unwrap()
                .len(),
            2
        );
        let list = "kind: ServiceList\nitems:\n- kind: Service\n  name: a\n  image: a\n- kind: Service\n  name: b\n  image: b\n";
        assert_eq!(read("a.yaml", list).unwrap().len(), 2);
        assert!(read("a.yaml", "# nothing\n").unwrap().is_empty());
    }

    #[test]
    fn names_the_place_the_field_and_the_nearest_name() {
        assert_eq!(
            error("kind: Service\nname: cart\nimage: cart\nreplica: 3\n"),
            "a.yaml:4:1: replica: unknown field (hint: did you mean replicas?)"
        );
        assert_eq!(
            error("kind: Service\nname: cart\nimage: cart\nhttp:\n  routes:\n    - pth: /a\n"),
            "a.yaml:6:7: http.routes[0].pth: unknown field (hint: did you mean path?)"
        );
        assert_eq!(
            error("kind: Service\nname: cart\nimage: cart\nnamespce: shop\n"),
            "a.yaml:4:1: namespce: unknown field (hint: did you mean namespace?)"
        );
    }

    #[test]
    fn names_wrong_types_and_units() {
        assert_eq!(
            error("kind: Service\nname: cart\nimage: cart\nreplicas: many\n"),
            "a.yaml:4:11: replicas: expected a whole number, 0 or more, or every-node, found the text \"many\""
        );
        assert_eq!(
            error("kind: Service\nname: cart\nimage: cart\ninstance: {memory: 64MB}\n"),
            "a.yaml:4:20: instance.memory: \"64MB\" is not a number of bytes (hint: write 64Mi, 1.5Gi, 500k or 1048576)"
        );
        assert_eq!(
            error("kind: Service\nname: cart\nimage: cart\nenv: {DEBUG: 1}\n"),
            "a.yaml:4:14: env.DEBUG: expected text, found the number 1 (hint: put the value in quotes)"
        );
        assert_eq!(error("kind: Service\nname: cart\n"), "a.yaml:1:1: the field \"image\" is missing");
        assert_eq!(
            error("kind: Service\nname: cart\nimage: cart\nreplicas: -1\n"),
            "a.yaml:4:11: replicas: -1 is out of range: expected a whole number, 0 or more, or every-node"
        );
    }

    #[test]
    fn names_what_is_no_manifest() {
        assert!(error("a: [1\n").starts_with("a.yaml:"), "{}", error("a: [1\n"));
        assert!(error("just text").contains("expected an object"));
        assert!(error("kind: Srvice\nname: a\n").contains("did you mean Service?"));
        assert!(error("kind: Node\nname: a\n").contains("written by Skiff itself"));
        assert!(error("name: a\n").contains("\"kind\" is missing"));
        let name = error("kind: Service\nname: A\nimage: a\n");
        assert!(name.starts_with("a.yaml:2:7: name: \"A\" is not a name"), "{name}");
        let image = error("kind: Service\nname: a\nimage: A\n");
        assert!(image.starts_with("a.yaml:3:8: image: image \"A\": "), "{image}");
        let twice = error("kind: Service\nname: a\nname: b\nimage: a\n");
        assert!(twice.contains("is there twice"), "{twice}");
    }

    #[test]
    fn names_what_is_wrong_with_a_policy() {
        const KEY: &str = "-----BEGIN PUBLIC KEY-----\n    MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n    -----END PUBLIC KEY-----";
        let head = "kind: ImagePolicy\nname: signed\n";
        let with_key = format!("{head}keys:\n- |\n    {KEY}\n");
        let Typed::ImagePolicy(policy) = &read("a.yaml", &with_key).unwrap()[0].typed else { panic!("a policy") };
        assert_eq!((policy.spec.keys.len(), policy.spec.repositories.len()), (1, 1));
        assert_eq!(error(head), "a.yaml:1:1: the field \"keys\" is missing");
        let empty = error(&format!("{head}keys: []\n"));
        assert!(empty.starts_with("a.yaml:3:7: keys: there is no key"), "{empty}");
        let none = error(&format!("{with_key}repositories: []\n"));
        assert!(none.starts_with("a.yaml:8:15: repositories: it covers nothing"), "{none}");
        let twice = error(&format!("{with_key}- |\n    {KEY}\n"));
        assert!(twice.starts_with("a.yaml:9:5: keys[1]: the key is there twice"), "{twice}");
        let private = error(&with_key.replace("PUBLIC", "PRIVATE"));
        assert!(private.starts_with("a.yaml:5:5: keys[0]: it is a private key"), "{private}");
        let tag = error(&format!("{with_key}repositories: [\"shop/cart:1\"]\n"));
        assert!(tag.starts_with("a.yaml:8:16: repositories[0]: \"shop/cart:1\" names no repositories"), "{tag}");
        let unknown = error(&format!("{with_key}repository: [a]\n"));
        assert!(unknown.contains("did you mean repositories?"), "{unknown}");
    }

    #[test]
    fn a_fault_of_a_secret_does_not_show_its_value() {
        let said = error("kind: Secret\nname: stripe\ndata: {PIN: 123456}\n");
        assert_eq!(said, "a.yaml:3:13: data.PIN: expected text (hint: put the value in quotes)");
        let said = error("kind: Secret\nname: stripe\ndata: hunter2\n");
        assert!(said.starts_with("a.yaml:3:7: data: ") && !said.contains("hunter2"), "{said}");
    }

    #[test]
    fn refuses_bombs() {
        let deep = format!("kind: Service\nname: a\nimage: a\nenv: {}{}", "[".repeat(5000), "]".repeat(5000));
        assert!(read("a.yaml", &deep).is_err());
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for i in 1..12 {
            let last = i - 1;
            bomb += &format!("a{i}: &a{i} [*a{last}, *a{last}, *a{last}, *a{last}, *a{last}, *a{last}, *a{last}]\n");
        }
        assert!(read("a.yaml", &bomb).is_err());
    }
}
