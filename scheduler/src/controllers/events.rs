//! Noting events: what happened, and why, for people. An event that cannot be noted stops nothing.

use jiff::Timestamp;
use skiff_api::Name;
use skiff_api::resource::{EventType, ObjectRef};

use crate::objects::{Events, Note, ObjectKey};
use crate::plan::PlannedEvent;

/// Bounds what one event of a node can take of the log.
const MESSAGE_CHARS_MAX: usize = 1000;
const REASON_CHARS_MAX: usize = 60;

/// Writes to the log of events.
pub(crate) struct Recorder {
    events: Events,
}

impl Recorder {
    pub(crate) fn new(events: Events) -> Self {
        Self { events }
    }

    pub(super) fn planned(&self, namespace: &Name, event: PlannedEvent, now: Timestamp) {
        let PlannedEvent { regarding, event_type, reason, message } = event;
        self.note(namespace, &regarding, (event_type, reason, &message), now);
    }

    /// Notes that something happened to an object: the reason is for programs, the message for people.
    pub(super) fn note(
        &self,
        namespace: &Name,
        regarding: &ObjectRef,
        (event_type, reason, message): (EventType, &str, &str),
        time: Timestamp,
    ) {
        let key = ObjectKey::new(regarding.kind, Some(namespace), regarding.name.clone());
        let (reason, message) = (shortened(reason, REASON_CHARS_MAX), shortened(message, MESSAGE_CHARS_MAX));
        let note = Note { event_type, reason: &reason, message: &message, time };
        if let Err(error) = self.events.note(&key, &note) {
            tracing::error!(object = %key, %error, "failed to note an event");
        }
    }
}

/// At most so many characters of a text that came from outside.
pub(super) fn shortened(text: &str, chars_max: usize) -> String {
    text.chars().take(chars_max).collect()
}
