//! From a node to a typed value, strictly: an unknown field of a struct is an error.

use std::{fmt, slice};

use serde::de::{
    self, Deserialize, DeserializeSeed, Deserializer, Expected, IntoDeserializer, MapAccess, SeqAccess, Unexpected,
    Visitor,
};
use serde::forward_to_deserialize_any;

use crate::manifest::fault::Fault;
use crate::manifest::tree::{Content, Field, Node};
use crate::nearest::nearest;

/// Decodes a node. The fault names the innermost value that is wrong.
pub(crate) fn decode<'de, T: Deserialize<'de>>(node: &'de Node) -> Result<T, Fault> {
    decode_flat(node, &[])
}

/// The same for the spec of a flat document, where the metadata's names stand beside the spec's.
pub(crate) fn decode_flat<'de, T: Deserialize<'de>>(node: &'de Node, also: &'de [&'de str]) -> Result<T, Fault> {
    T::deserialize(Strict { node, also }).map_err(|error| error.at(node).0)
}

/// An error on its way out. It gets its place from the first node it passes.
#[derive(Debug)]
pub(crate) struct DecodeError(Fault);

impl DecodeError {
    fn new(message: String, hint: Option<String>) -> Self {
        Self(Fault { message, hint, ..Fault::default() })
    }

    fn at(mut self, node: &Node) -> Self {
        if self.0.line == 0 {
            (self.0.line, self.0.column) = (node.line, node.column);
            self.0.field = node.path.clone();
        }
        self
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for DecodeError {}

impl de::Error for DecodeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        // Our own types end their messages in a hint.
        let text = message.to_string();
        match text.strip_suffix(')').and_then(|text| text.split_once(" (hint: ")) {
            Some((message, hint)) => Self::new(message.to_owned(), Some(hint.to_owned())),
            None => Self::new(text, None),
        }
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let found_text = match found {
            Unexpected::Bool(value) => format!("the boolean {value}"),
            Unexpected::Unsigned(value) => format!("the number {value}"),
            Unexpected::Signed(value) => format!("the number {value}"),
            Unexpected::Float(value) => format!("the number {value}"),
            Unexpected::Str(value) => format!("the text {:?}", value.chars().take(60).collect::<String>()),
            Unexpected::Unit | Unexpected::Option => "nothing".to_owned(),
            Unexpected::Seq => "a list".to_owned(),
            Unexpected::Map => "a map".to_owned(),
            other => other.to_string(),
        };
        let expected = expected.to_string();
        let is_scalar = matches!(
            found,
            Unexpected::Bool(_) | Unexpected::Unsigned(_) | Unexpected::Signed(_) | Unexpected::Float(_)
        );
        let hint = (is_scalar && expected == "a string").then(|| "put the value in quotes".to_owned());
        Self::new(format!("expected {}, found {found_text}", plain(&expected)), hint)
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        match found {
            Unexpected::Signed(value) => {
                Self::new(format!("{value} is out of range: expected {}", plain(&expected.to_string())), None)
            }
            Unexpected::Unsigned(value) => {
                Self::new(format!("{value} is out of range: expected {}", plain(&expected.to_string())), None)
            }
            found => Self::new(format!("expected {expected}, found {found}"), None),
        }
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let hint = match nearest(variant, expected.iter().copied()) {
            Some(near) => format!("did you mean {near}?"),
            None => format!("write one of {}", expected.join(", ")),
        };
        Self::new(format!("{variant:?} is not known here"), Some(hint))
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(format!("the field {field:?} is missing"), None)
    }
}

/// serde's names of types, for people.
fn plain(expected: &str) -> &str {
    match expected {
        "a string" => "text",
        "a sequence" => "a list",
        "u8" | "u16" | "u32" | "u64" => "a whole number, 0 or more",
        "i8" | "i16" | "i32" | "i64" => "a whole number",
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        other if other.starts_with("struct ") => "a map",
        other => other,
    }
}

/// The deserializer over a node.
#[derive(Clone, Copy)]
struct Strict<'de> {
    node: &'de Node,
    /// Names that are valid beside those of the struct, for suggestions only.
    also: &'de [&'de str],
}

impl<'de> Strict<'de> {
    fn visit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let result = match &self.node.content {
            Content::Null => visitor.visit_unit(),
            Content::Bool(value) => visitor.visit_bool(*value),
            Content::Number(value) => match (value.as_u64(), value.as_i64(), value.as_f64()) {
                (Some(value), _, _) => visitor.visit_u64(value),
                (_, Some(value), _) => visitor.visit_i64(value),
                (_, _, value) => visitor.visit_f64(value.unwrap_or(f64::MAX)),
            },
            Content::Text(value) => visitor.visit_str(value),
            Content::List(items) => visitor.visit_seq(Items(items.iter())),
            Content::Map(fields) => visitor.visit_map(Entries { fields: fields.iter(), value: None }),
        };
        result.map_err(|error| error.at(self.node))
    }

    fn check_fields(self, known: &'static [&'static str]) -> Result<(), DecodeError> {
        match self.node.fields().iter().find(|field| !known.contains(&field.name.as_str())) {
            None => Ok(()),
            Some(field) => {
                let hint = match nearest(&field.name, known.iter().chain(self.also).copied()) {
                    Some(near) => format!("did you mean {near}?"),
                    None => format!("the fields here are {}", known.join(", ")),
                };
                Err(DecodeError(Fault {
                    line: field.line,
                    column: field.column,
                    field: field.value.path.clone(),
                    message: "unknown field".to_owned(),
                    hint: Some(hint),
                }))
            }
        }
    }
}

/// The items of a list. A type may refuse an item after it was read (a name that is none), so the place is added here,
/// where the item is still known, and not only by the deserializer.
struct Items<'de>(slice::Iter<'de, Node>);

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = DecodeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, DecodeError> {
        let Some(node) = self.0.next() else { return Ok(None) };
        seed.deserialize(Strict { node, also: &[] }).map(Some).map_err(|error| error.at(node))
    }
}

/// The entries of a map, with places as for [`Items`].
struct Entries<'de> {
    fields: slice::Iter<'de, Field>,
    value: Option<&'de Node>,
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = DecodeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, DecodeError> {
        let Some(field) = self.fields.next() else { return Ok(None) };
        self.value = Some(&field.value);
        seed.deserialize(field.name.as_str().into_deserializer())
            .map(Some)
            .map_err(|error: DecodeError| error.at(&field.value))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, DecodeError> {
        let Some(node) = self.value.take() else {
            return Err(de::Error::custom("a value was asked for before its name"));
        };
        seed.deserialize(Strict { node, also: &[] }).map_err(|error| error.at(node))
    }
}

impl<'de> Deserializer<'de> for Strict<'de> {
    type Error = DecodeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.visit(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.node.content {
            Content::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
        .map_err(|error| error.at(self.node))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.check_fields(fields)?;
        // serde would read a list into a struct by position; people do not mean that.
        match &self.node.content {
            Content::List(_) => Err(de::Error::invalid_type(Unexpected::Seq, &"a map")),
            _ => self.visit(visitor),
        }
        .map_err(|error: DecodeError| error.at(self.node))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        visitor.visit_newtype_struct(self).map_err(|error| error.at(self.node))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        let result = match &self.node.content {
            Content::Text(text) => visitor.visit_enum(text.as_str().into_deserializer()),
            _ => self.visit(visitor),
        };
        result.map_err(|error: DecodeError| error.at(self.node))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq
        tuple tuple_struct map identifier ignored_any
    }
}
