//! Events: noted by controllers, read by people.
//!
//! The log keeps single notes. Repetitions in a row are counted when they are read, so that noting one costs a controller
//! nothing but the note.

use jiff::Timestamp;
use skiff_api::Name;
use skiff_api::resource::{Event, EventSpec, EventType, Metadata, ObjectRef};

use super::{Error, ObjectKey};
use crate::store::{self, EventLog};

/// Typed access to the log of events. Cheap to clone.
#[derive(Clone)]
pub struct Events(EventLog);

/// Something to note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note<'a> {
    pub event_type: EventType,
    /// One word for programs: `Placed`.
    pub reason: &'a str,
    /// One sentence for people.
    pub message: &'a str,
    pub time: Timestamp,
}

impl Events {
    pub fn new(log: EventLog) -> Self {
        Self(log)
    }

    /// Notes something about an object. Never waits.
    pub fn note(&self, regarding: &ObjectKey, note: &Note<'_>) -> Result<(), Error> {
        let spec = EventSpec {
            regarding: ObjectRef { kind: regarding.kind, name: regarding.name.clone() },
            event_type: note.event_type,
            reason: note.reason.to_owned(),
            message: note.message.to_owned(),
            count: 1,
            first: note.time,
            last: note.time,
        };
        let bytes = serde_json::to_vec(&spec).map_err(|source| Error::Encode { object: regarding.clone(), source })?;
        self.0.append(regarding.object(), bytes);
        Ok(())
    }

    /// The events of one namespace or of all, of the objects that are `wanted`, oldest first.
    pub fn list(&self, namespace: Option<&Name>, wanted: impl Fn(&ObjectKey) -> bool) -> Result<Vec<Event>, Error> {
        let mut events: Vec<Event> = Vec::new();
        for noted in self.0.list() {
            let Some(key) = ObjectKey::parse(&noted.object) else { continue };
            if namespace.is_some_and(|namespace| key.namespace.as_ref() != Some(namespace)) || !wanted(&key) {
                continue;
            }
            let event = event(&key, &noted)?;
            match events.iter_mut().rev().find(|seen| is_same_object(seen, &event)) {
                Some(seen) if is_same(&seen.spec, &event.spec) => {
                    seen.spec.count += 1;
                    seen.spec.last = event.spec.last;
                }
                _ => events.push(event),
            }
        }
        Ok(events)
    }
}

fn event(key: &ObjectKey, noted: &store::Event) -> Result<Event, Error> {
    let spec: EventSpec = serde_json::from_slice(&noted.value)
        .map_err(|source| Error::Damaged { key: format!("event {}", noted.sequence), source })?;
    let mut metadata = Metadata::new(key.namespace.clone(), format!("{}.{}", key.name, noted.sequence));
    metadata.resource_version = noted.sequence.to_string();
    metadata.created = spec.first;
    metadata.generation = 1;
    Ok(Event::new(metadata, spec))
}

fn is_same_object(a: &Event, b: &Event) -> bool {
    a.spec.regarding == b.spec.regarding && a.metadata.namespace == b.metadata.namespace
}

fn is_same(a: &EventSpec, b: &EventSpec) -> bool {
    (&a.event_type, &a.reason, &a.message) == (&b.event_type, &b.reason, &b.message)
}

#[cfg(test)]
mod tests {
    use skiff_api::Kind;

    use super::*;
    use crate::store::MemoryStore;

    #[test]
    fn counts_repetitions_in_a_row() {
        let events = Events::new(MemoryStore::new().events());
        let shop: Name = "shop".parse().unwrap();
        let cart = ObjectKey::new(Kind::Service, Some(&shop), "cart");
        let card = ObjectKey::new(Kind::Service, Some(&shop), "card");
        let at = |second| Timestamp::from_second(second).unwrap();
        for (second, key, reason) in [
            (1, &cart, "Placed"),
            (2, &card, "Placed"),
            (3, &cart, "Placed"),
            (4, &cart, "Removed"),
            (5, &cart, "Placed"),
        ] {
            let note = Note { event_type: EventType::Normal, reason, message: "why", time: at(second) };
            events.note(key, &note).unwrap();
        }
        let found = events.list(Some(&shop), |key| *key == cart).unwrap();
        let seen: Vec<_> =
            found.iter().map(|e| (e.spec.reason.as_str(), e.spec.count, e.spec.first, e.spec.last)).collect();
        assert_eq!(seen, [("Placed", 2, at(1), at(3)), ("Removed", 1, at(4), at(4)), ("Placed", 1, at(5), at(5))]);
        assert_eq!(found[0].metadata.name, "cart.1");
        assert_eq!(events.list(None, |_| true).unwrap().len(), 4);
        assert_eq!(events.list(Some(&"ops".parse().unwrap()), |_| true).unwrap().len(), 0);
    }
}
