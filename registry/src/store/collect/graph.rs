//! Which manifests of a repository keep which, as numbers: pure.

use std::collections::{HashMap, HashSet, VecDeque};

use skiff_api::Digest;

use crate::store::fresh::{Key, Keys};

/// What one manifest names. Blobs are keys: a repository may name millions of them.
#[derive(Debug, Clone, Default)]
pub(super) struct Node {
    pub(super) children: Vec<Digest>,
    pub(super) blobs: Vec<Key>,
    pub(super) subject: Option<Digest>,
}

impl Node {
    pub(super) fn of(manifest: &crate::manifest::Manifest, keys: &Keys, repository: &str) -> Self {
        Self {
            children: manifest.children().map(|child| child.digest.clone()).collect(),
            blobs: manifest.blobs().map(|blob| keys.linked(repository, &blob.digest)).collect(),
            subject: manifest.subject.as_ref().map(|subject| subject.digest.clone()),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Graph {
    nodes: HashMap<Digest, Node>,
    referrers: HashMap<Digest, Vec<Digest>>,
    kept: HashSet<Digest>,
}

impl Graph {
    pub(super) fn new(nodes: HashMap<Digest, Node>) -> Self {
        let mut referrers: HashMap<Digest, Vec<Digest>> = HashMap::new();
        for (digest, node) in &nodes {
            if let Some(subject) = &node.subject {
                referrers.entry(subject.clone()).or_default().push(digest.clone());
            }
        }
        Self { nodes, referrers, kept: HashSet::new() }
    }

    /// Says that a manifest is about another one, which keeps it. Before anything is kept.
    pub(super) fn refer(&mut self, subject: Digest, referrer: Digest) {
        self.referrers.entry(subject).or_default().push(referrer);
    }

    /// Keeps a manifest and all that it keeps. `false`: it was kept already, or is not there.
    pub(super) fn keep(&mut self, root: &Digest) -> bool {
        if self.kept.contains(root) || !self.nodes.contains_key(root) {
            return false;
        }
        let mut left = vec![root.clone()];
        while let Some(digest) = left.pop() {
            if self.nodes.contains_key(&digest) && self.kept.insert(digest.clone()) {
                left.extend(self.kept_by(&digest).cloned());
            }
        }
        true
    }

    fn kept_by(&self, digest: &Digest) -> impl Iterator<Item = &Digest> {
        let children = self.nodes.get(digest).into_iter().flat_map(|node| &node.children);
        children.chain(self.referrers.get(digest).into_iter().flatten())
    }

    pub(super) fn is_kept(&self, digest: &Digest) -> bool {
        self.kept.contains(digest)
    }

    pub(super) fn manifests(&self) -> impl Iterator<Item = &Digest> {
        self.nodes.keys()
    }

    pub(super) fn subject(&self, digest: &Digest) -> Option<&Digest> {
        self.nodes.get(digest)?.subject.as_ref()
    }

    /// What is not kept, each after all that would keep it: what is spared at its turn can still spare what it keeps.
    pub(super) fn unkept(&self) -> Vec<Digest> {
        let unkept: Vec<&Digest> = self.nodes.keys().filter(|digest| !self.is_kept(digest)).collect();
        let mut keepers: HashMap<&Digest, usize> = unkept.iter().map(|digest| (*digest, 0)).collect();
        for digest in &unkept {
            for kept in self.kept_by(digest) {
                if let Some(count) = keepers.get_mut(kept) {
                    *count += 1;
                }
            }
        }
        let mut next: VecDeque<&Digest> = unkept.iter().copied().filter(|digest| keepers[*digest] == 0).collect();
        let mut order = Vec::with_capacity(unkept.len());
        while let Some(digest) = next.pop_front() {
            order.push(digest.clone());
            for kept in self.kept_by(digest) {
                let Some(count) = keepers.get_mut(kept) else { continue };
                *count -= 1;
                if *count == 0 {
                    next.push_back(kept);
                }
            }
        }
        // A circle needs a broken hash function; what is in one stays.
        order
    }

    /// The blobs of all that is kept.
    pub(super) fn blobs(&self) -> HashSet<Key> {
        self.kept
            .iter()
            .filter_map(|digest| self.nodes.get(digest))
            .flat_map(|node| node.blobs.iter().copied())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::sha256;

    fn graph(edges: &[(&str, &[&str], Option<&str>)]) -> Graph {
        let digest = |name: &&str| sha256(name.as_bytes());
        let node = |children: &[&str], subject: &Option<&str>| Node {
            children: children.iter().map(digest).collect(),
            blobs: Vec::new(),
            subject: subject.as_ref().map(digest),
        };
        Graph::new(edges.iter().map(|(name, children, subject)| (digest(name), node(children, subject))).collect())
    }

    fn d(name: &str) -> Digest {
        sha256(name.as_bytes())
    }

    #[test]
    fn a_root_keeps_its_children_and_who_refers_to_them() {
        let mut graph = graph(&[
            ("index", &["one", "two", "missing"], None),
            ("one", &[], None),
            ("two", &[], None),
            ("signature", &[], Some("one")),
            ("of-signature", &[], Some("signature")),
            ("other", &[], Some("gone")),
        ]);
        assert!(graph.keep(&d("index")) && !graph.keep(&d("two")) && !graph.keep(&d("missing")));
        assert_eq!(graph.unkept(), [d("other")]);
    }

    #[test]
    fn keepers_come_before_what_they_keep() {
        let graph = graph(&[
            ("leaf", &[], None),
            ("left", &["leaf"], None),
            ("right", &["leaf"], None),
            ("top", &["left", "right"], None),
            ("note", &[], Some("leaf")),
        ]);
        let order = graph.unkept();
        let at = |name: &str| order.iter().position(|digest| *digest == d(name)).unwrap();
        assert_eq!(order.len(), 5);
        assert!(at("top") < at("left").min(at("right")) && at("left").max(at("right")) < at("leaf"));
        assert!(at("leaf") < at("note"));
    }
}
