//! Events: what happened to an object, and why. Kept in a bounded ring, newest last.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::resource::{Kind, Object, Spec};

pub type Event = Object<EventSpec>;

/// The object that an event is about. It has the event's namespace.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ObjectRef {
    pub kind: Kind,
    pub name: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum EventType {
    Normal,
    Warning,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct EventSpec {
    pub regarding: ObjectRef,
    #[serde(rename = "type")]
    pub event_type: EventType,
    /// One word for programs: `Placed`, `PullFailed`.
    pub reason: String,
    /// One sentence for people.
    pub message: String,
    /// How often the same happened in a row.
    pub count: u32,
    #[cfg_attr(feature = "schema", schema(value_type = String, format = DateTime))]
    pub first: Timestamp,
    #[cfg_attr(feature = "schema", schema(value_type = String, format = DateTime))]
    pub last: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct EventStatus {}

impl Spec for EventSpec {
    const KIND: Kind = Kind::Event;
    type Status = EventStatus;
}
