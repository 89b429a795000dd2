//! A document as a tree of nodes that know where they stand.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::Spanned;

use crate::manifest::fault::Fault;

/// Deeper than any manifest, shallow enough for every stack.
const DEPTH_MAX: usize = 64;

/// One value of a document.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) line: u64,
    pub(crate) column: u64,
    pub(crate) path: String,
    pub(crate) content: Content,
}

#[derive(Debug, Clone)]
pub(crate) enum Content {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Field>),
}

/// One entry of a map. The name has a place of its own: an unknown field is reported there.
#[derive(Debug, Clone)]
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) line: u64,
    pub(crate) column: u64,
    pub(crate) value: Node,
}

impl Node {
    /// Every document of a text. Documents that hold nothing are left out.
    pub(crate) fn parse(text: &str) -> Result<Vec<Self>, Fault> {
        let documents: Vec<Spanned<Raw>> = serde_saphyr::from_multiple(text).map_err(|error| syntax_fault(&error))?;
        documents
            .into_iter()
            .filter(|document| !matches!(document.value, Raw::Null))
            .map(|document| build(document, String::new(), 0))
            .collect()
    }

    pub(crate) fn fields(&self) -> &[Field] {
        match &self.content {
            Content::Map(fields) => fields,
            _ => &[],
        }
    }

    pub(crate) fn field(&self, name: &str) -> Option<&Field> {
        self.fields().iter().find(|field| field.name == name)
    }

    /// The node at a path such as `http.routes[0].path`, or the nearest one above it that was written.
    pub(crate) fn nearest(&self, path: &str) -> &Self {
        let children: Vec<&Self> = match &self.content {
            Content::Map(fields) => fields.iter().map(|field| &field.value).collect(),
            Content::List(items) => items.iter().collect(),
            _ => Vec::new(),
        };
        let leads_there = |child: &&&Self| {
            path.strip_prefix(child.path.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        match children.iter().find(leads_there) {
            Some(child) => child.nearest(path),
            None => self,
        }
    }

    /// The same node as the root of a document of its own: paths start here.
    pub(crate) fn rooted(&self) -> Self {
        self.without_prefix(self.path.len())
    }

    fn without_prefix(&self, bytes: usize) -> Self {
        let path = self.path.get(bytes..).unwrap_or_default().trim_start_matches('.').to_owned();
        let content = match &self.content {
            Content::List(items) => Content::List(items.iter().map(|item| item.without_prefix(bytes)).collect()),
            Content::Map(fields) => Content::Map(
                fields
                    .iter()
                    .map(|field| Field { value: field.value.without_prefix(bytes), ..field.clone() })
                    .collect(),
            ),
            scalar => scalar.clone(),
        };
        Self { path, content, ..*self }
    }

    /// The same without places.
    pub(crate) fn to_json(&self) -> Value {
        match &self.content {
            Content::Null => Value::Null,
            Content::Bool(value) => Value::Bool(*value),
            Content::Number(value) => Value::Number(value.clone()),
            Content::Text(value) => Value::String(value.clone()),
            Content::List(items) => Value::Array(items.iter().map(Self::to_json).collect()),
            Content::Map(fields) => {
                fields.iter().map(|field| (field.name.clone(), field.value.to_json())).collect::<Map<_, _>>().into()
            }
        }
    }

    pub(crate) fn fault(&self, message: impl Into<String>, hint: Option<String>) -> Fault {
        Fault { line: self.line, column: self.column, field: self.path.clone(), message: message.into(), hint }
    }
}

fn syntax_fault(error: &serde_saphyr::Error) -> Fault {
    let place = error.location();
    let (message, hint) = match error.without_snippet() {
        serde_saphyr::Error::DuplicateMappingKey { key, .. } => {
            let name = key.as_deref().map_or_else(String::new, |key| format!(" {key:?}"));
            (format!("the field{name} is there twice"), Some("remove one of the two"))
        }
        error if is_too_much(error) => {
            ("it unfolds to more than any manifest needs".to_owned(), Some("use fewer aliases, and nest less"))
        }
        error => (format!("not YAML or JSON: {}", said(error)), None),
    };
    Fault {
        line: place.map_or(0, |place| place.line()),
        column: place.map_or(0, |place| place.column()),
        field: String::new(),
        message,
        hint: hint.map(str::to_owned),
    }
}

/// Whether a small text stands for something huge, or for something deeper than a stack.
fn is_too_much(error: &serde_saphyr::Error) -> bool {
    use serde_saphyr::Error as E;
    match error {
        E::AliasError { error, .. } => is_too_much(error.without_snippet()),
        E::Budget { .. }
        | E::AliasReplayCounterOverflow { .. }
        | E::AliasReplayLimitExceeded { .. }
        | E::AliasExpansionLimitExceeded { .. }
        | E::AliasReplayStackDepthExceeded { .. } => true,
        // The scanner has no variant of its own for it.
        error => said(error).starts_with("recursion limit"),
    }
}

/// What the library says is wrong. Its text quotes the source, and has the place before or behind what it says: only the
/// first line's middle is kept.
fn said(error: &serde_saphyr::Error) -> String {
    let text = error.render();
    let message = text.lines().next().unwrap_or("not YAML").trim();
    let message = message.strip_prefix("error: ").unwrap_or(message);
    let message = match message.find(": ") {
        Some(at) if message.starts_with("line ") => &message[at + 2..],
        _ => message,
    };
    let message = message.rsplit_once(" at line ").map_or(message, |(before, _)| before);
    message.to_owned()
}

fn build(raw: Spanned<Raw>, path: String, depth: usize) -> Result<Node, Fault> {
    let (line, column) = (raw.referenced.line(), raw.referenced.column());
    if depth > DEPTH_MAX {
        let message = format!("nested more than {DEPTH_MAX} levels deep");
        return Err(Fault { line, column, field: path, message, hint: None });
    }
    let content = match raw.value {
        Raw::Null => Content::Null,
        Raw::Bool(value) => Content::Bool(value),
        Raw::Number(value) => Content::Number(value),
        Raw::Text(value) => Content::Text(value),
        Raw::List(items) => items
            .into_iter()
            .enumerate()
            .map(|(i, item)| build(item, format!("{path}[{i}]"), depth + 1))
            .collect::<Result<_, _>>()
            .map(Content::List)?,
        Raw::Map(entries) => entries
            .into_iter()
            .map(|(name, value)| {
                let path = if path.is_empty() { name.value.clone() } else { format!("{path}.{}", name.value) };
                let value = build(value, path, depth + 1)?;
                let (line, column) = (name.referenced.line(), name.referenced.column());
                Ok(Field { name: name.value, line, column, value })
            })
            .collect::<Result<_, Fault>>()
            .map(Content::Map)?,
    };
    Ok(Node { line, column, path, content })
}

/// What the YAML library makes of a value of unknown type.
#[derive(Debug)]
enum Raw {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<String>, Spanned<Raw>)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_none<E: de::Error>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Bool(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Number(value.into()))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Number(value.into()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Raw, E> {
        // .inf and .nan have no number in JSON and no place in a manifest.
        Number::from_f64(value).map(Raw::Number).ok_or_else(|| E::custom(format!("{value} is not a finite number")))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Raw, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Raw::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Raw, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(Raw::Map(map))
    }
}
