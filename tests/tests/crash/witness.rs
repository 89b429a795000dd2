//! What was acknowledged, and what may be: the one operation of a writer that the kill cut short.

use std::collections::BTreeMap;

use serde_json::Value;
use skiff_tests::Response;

use crate::door::Door;
use crate::image::digest;
use crate::rng::Rng;

/// How many of the things that were checked after earlier kills are checked again after each.
const SAMPLE: usize = 40;

/// A blob or a manifest: its digest says all about its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Content {
    /// `blobs` or `manifests`.
    pub(crate) kind: &'static str,
    pub(crate) repository: String,
    pub(crate) digest: String,
}

/// What a service was told to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Spec {
    pub(crate) sequence: u64,
    /// The digest of the image it names.
    pub(crate) image: String,
}

/// A value that was acknowledged, and one that was asked for without an answer.
#[derive(Debug, Clone)]
pub(crate) struct Possible<T> {
    known: Option<T>,
    doubtful: Option<T>,
}

impl<T: Clone + PartialEq + std::fmt::Debug> Possible<T> {
    fn settle(&mut self, what: &str, found: Option<T>) {
        let expected = found == self.known || (found.is_some() && found == self.doubtful);
        assert!(expected, "{what} is {found:?}, but only {self:?} is possible");
        *self = Self { known: found, doubtful: None };
    }
}

impl<T> Default for Possible<T> {
    fn default() -> Self {
        Self { known: None, doubtful: None }
    }
}

/// All that one writer knows. Names of its own, so that nobody else changes what it wrote.
#[derive(Debug, Default)]
pub(crate) struct Witness {
    content: Vec<Content>,
    /// How much of the content was found intact after some kill.
    checked: usize,
    doubtful: Vec<Content>,
    /// By repository and tag.
    tags: BTreeMap<(String, String), Possible<String>>,
    services: BTreeMap<String, Possible<Spec>>,
}

impl Witness {
    pub(crate) fn will_store(&mut self, content: &Content) {
        self.doubtful.push(content.clone());
    }

    pub(crate) fn stored(&mut self, content: Content) {
        self.doubtful.retain(|doubtful| *doubtful != content);
        self.content.push(content);
    }

    pub(crate) fn will_tag(&mut self, repository: &str, tag: &str, digest: &str) {
        self.tags.entry((repository.to_owned(), tag.to_owned())).or_default().doubtful = Some(digest.to_owned());
    }

    pub(crate) fn tagged(&mut self, repository: &str, tag: &str) {
        acknowledge(self.tags.get_mut(&(repository.to_owned(), tag.to_owned())));
    }

    pub(crate) fn tag(&self, repository: &str, tag: &str) -> Option<&String> {
        self.tags.get(&(repository.to_owned(), tag.to_owned())).and_then(|tag| tag.known.as_ref())
    }

    pub(crate) fn will_apply(&mut self, service: &str, spec: Spec) {
        self.services.entry(service.to_owned()).or_default().doubtful = Some(spec);
    }

    pub(crate) fn applied(&mut self, service: &str) {
        acknowledge(self.services.get_mut(service));
    }

    pub(crate) fn has_service(&self, service: &str) -> bool {
        self.services.get(service).is_some_and(|service| service.known.is_some())
    }

    /// How many things were acknowledged: content, tags, services.
    pub(crate) fn count(&self) -> [usize; 3] {
        let services = self.services.values().filter(|service| service.known.is_some()).count();
        [self.content.len(), self.tags.values().filter(|tag| tag.known.is_some()).count(), services]
    }

    /// Compares what the process answers with what it has acknowledged, and settles what was in doubt. Of the content that
    /// was found intact before, a sample is read again, or all.
    ///
    /// # Panics
    /// When something is lost or damaged.
    pub(crate) fn check(&mut self, door: &mut Door, rng: &mut Rng, everything: bool) {
        let new = self.checked..self.content.len();
        let old: Vec<usize> = match everything {
            true => (0..self.checked).collect(),
            false if self.checked == 0 => Vec::new(),
            false => (0..SAMPLE).map(|_| usize::try_from(rng.below(self.checked as u64)).unwrap()).collect(),
        };
        for at in new.chain(old) {
            let content = &self.content[at];
            assert!(is_there(door, content), "acknowledged {content:?} is gone");
        }
        for content in std::mem::take(&mut self.doubtful) {
            // Seen once, it has to stay.
            if is_there(door, &content) {
                self.content.push(content);
            }
        }
        self.checked = self.content.len();
        for ((repository, tag), possible) in &mut self.tags {
            let answer = door.get(&format!("/v2/{repository}/manifests/{tag}"));
            let found = (answer.status != 404).then(|| intact(&answer, &format!("{repository}:{tag}")));
            possible.settle(&format!("tag {repository}:{tag}"), found);
        }
        let mut found = services(door);
        for (name, possible) in &mut self.services {
            possible.settle(&format!("service {name}"), found.remove(name));
        }
    }
}

fn acknowledge<T>(possible: Option<&mut Possible<T>>) {
    let possible = possible.expect("it was announced");
    possible.known = possible.doubtful.take();
}

/// # Panics
/// When there is something else.
fn is_there(door: &mut Door, content: &Content) -> bool {
    let Content { kind, repository, digest } = content;
    let answer = door.get(&format!("/v2/{repository}/{kind}/{digest}"));
    if answer.status == 404 {
        return false;
    }
    assert_eq!(intact(&answer, digest), *digest, "{content:?} is damaged");
    true
}

/// The digest of what came.
fn intact(answer: &Response, what: &str) -> String {
    assert_eq!(answer.status, 200, "{what}: {}", answer.text());
    let digest = digest(&answer.body);
    assert_eq!(answer.header("docker-content-digest"), Some(digest.as_str()), "{what}");
    digest
}

/// All services of the default namespace, as far as writers write them.
fn services(door: &mut Door) -> BTreeMap<String, Spec> {
    let answer = door.get("/v1/namespaces/default/services");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let list = answer.json();
    let items = list["items"].as_array().expect("a list has items");
    items.iter().filter_map(|item| Some((item["metadata"]["name"].as_str()?.to_owned(), spec(item)?))).collect()
}

fn spec(item: &Value) -> Option<Spec> {
    let sequence = item["spec"]["env"]["SEQUENCE"].as_str()?.parse().expect("as it was applied");
    let (_, image) = item["spec"]["image"].as_str()?.split_once('@').expect("images are pinned");
    Some(Spec { sequence, image: image.to_owned() })
}
