//! One repository's turn.

use std::collections::HashMap;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use skiff_api::Digest;
use skiff_api::digest::Algorithm;

use super::about::subject_of;
use super::graph::{Graph, Node};
use super::{Collected, Pause};
use crate::hash;
use crate::manifest::{MANIFEST_BYTES_MAX, Manifest};
use crate::store::error::found;
use crate::store::layout::Repository;
use crate::store::open::Inner;

/// How many small files are read or removed between two pauses.
const STEP: usize = 64;

impl Inner {
    pub(super) fn collect_repository(
        &self,
        repository: &Repository,
        retained: &[&Digest],
        pause: Pause<'_>,
        done: &mut Collected,
    ) -> io::Result<ControlFlow<()>> {
        let manifests = self.links(&repository.all_manifests())?;
        let mut nodes = HashMap::with_capacity(manifests.len());
        for (n, digest) in manifests.into_iter().enumerate() {
            let Some(node) = self.node(repository, &digest)? else {
                // What it names is unknown, so anything may be needed.
                tracing::warn!(repository = repository.name, %digest, "a manifest is damaged: its repository is not collected (hint: push it again or delete it)");
                return Ok(ControlFlow::Continue(()));
            };
            nodes.insert(digest, node);
            if n % STEP == STEP - 1 && pause().is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        let mut graph = Graph::new(nodes);
        // Tags come after manifests: one that is set in between is on a manifest that was touched for it.
        let (mut roots, mut about) = (Vec::new(), Vec::new());
        for (n, tag) in self.tags(repository)?.into_iter().enumerate() {
            match (self.resolve(repository, &tag).map_err(io::Error::other)?, subject_of(&tag)) {
                (Some(digest), Some(subject)) => {
                    graph.refer(subject, digest.clone());
                    about.push((tag, digest));
                }
                (Some(digest), None) => roots.push(digest),
                (None, _) => {}
            }
            if n % STEP == STEP - 1 && pause().is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        for digest in roots.iter().chain(retained.iter().copied()) {
            graph.keep(digest);
        }
        let fresh: Vec<Digest> =
            graph.manifests().filter(|digest| self.is_manifest_fresh(repository, digest)).cloned().collect();
        for digest in fresh {
            done.waits |= graph.keep(&digest);
        }
        self.untag(repository, &mut graph, about, done)?;
        if self.remove_manifests(repository, &mut graph, pause, done)?.is_break()
            || self.remove_links(repository, &graph, pause, done)?.is_break()
        {
            return Ok(ControlFlow::Break(()));
        }
        self.tidy(repository)?;
        Ok(pause())
    }

    /// Removes tags of what is about something that goes, or is gone.
    fn untag(
        &self,
        repository: &Repository,
        graph: &mut Graph,
        about: Vec<(String, Digest)>,
        done: &mut Collected,
    ) -> io::Result<()> {
        for (tag, digest) in about {
            if graph.is_kept(&digest) {
                continue;
            }
            let _alone = self.close_gate();
            if self.is_manifest_fresh(repository, &digest) {
                graph.keep(&digest);
                done.waits = true;
            } else if self.resolve(repository, &tag).map_err(io::Error::other)?.as_ref() == Some(&digest) {
                found(self.disk.remove_file(repository.tag(&tag).map_err(io::Error::other)?))?;
            }
        }
        Ok(())
    }

    fn is_manifest_fresh(&self, repository: &Repository, digest: &Digest) -> bool {
        self.fresh_manifests.is_fresh(self.keys.linked(&repository.name, digest))
    }

    /// What a manifest names; nothing if its content is gone. `None`: it is damaged.
    fn node(&self, repository: &Repository, digest: &Digest) -> io::Result<Option<Node>> {
        let Some(bytes) = found(self.disk.read(self.layout.blob(digest), MANIFEST_BYTES_MAX as u64))? else {
            return Ok(Some(Node::default()));
        };
        if hash::digest(digest.algorithm(), &bytes) != *digest {
            return Ok(None);
        }
        Ok(Manifest::parse(&bytes).ok().map(|manifest| Node::of(&manifest, &self.keys, &repository.name)))
    }

    fn remove_manifests(
        &self,
        repository: &Repository,
        graph: &mut Graph,
        pause: Pause<'_>,
        done: &mut Collected,
    ) -> io::Result<ControlFlow<()>> {
        for (n, digest) in graph.unkept().into_iter().enumerate() {
            // Something that keeps it was touched meanwhile.
            if graph.is_kept(&digest) {
                continue;
            }
            let alone = self.close_gate();
            if self.is_manifest_fresh(repository, &digest) {
                graph.keep(&digest);
                done.waits = true;
                continue;
            }
            if let Some(subject) = graph.subject(&digest) {
                found(self.disk.remove_file(repository.referrer(subject, &digest)))?;
            }
            let removed = found(self.disk.remove_file(repository.manifest(&digest)))?;
            drop(alone);
            done.manifests += u64::from(removed.is_some());
            if n % STEP == STEP - 1 && pause().is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn remove_links(
        &self,
        repository: &Repository,
        graph: &Graph,
        pause: Pause<'_>,
        done: &mut Collected,
    ) -> io::Result<ControlFlow<()>> {
        let named = graph.blobs();
        let mut steps = 0_usize;
        for digest in self.links(&repository.all_blobs())? {
            let key = self.keys.linked(&repository.name, &digest);
            if named.contains(&key) {
                continue;
            }
            let alone = self.close_gate();
            if self.fresh.is_fresh(key) || self.is_uploaded_to(&repository.name) {
                done.waits = true;
            } else {
                let removed = found(self.disk.remove_file(repository.blob(&digest)))?;
                done.links += u64::from(removed.is_some());
            }
            drop(alone);
            steps += 1;
            if steps.is_multiple_of(STEP) && pause().is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Removes what is half written or refers to nothing, and folders that are empty: those of a repository that has
    /// nothing any more, too.
    fn tidy(&self, repository: &Repository) -> io::Result<()> {
        for dir in [&repository.all_manifests(), &repository.tags()] {
            for path in self.files(dir)?.into_iter().filter(|path| path.extension().is_some_and(|end| end == "tmp")) {
                // Whoever writes one holds the gate.
                let _alone = self.close_gate();
                found(self.disk.remove_file(path))?;
            }
        }
        for path in self.files(&repository.all_referrers())? {
            let referrer = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse::<Digest>().ok());
            let is_there = |digest: &Digest| self.disk.exists(repository.manifest(digest));
            let _alone = self.close_gate();
            if !referrer.as_ref().is_some_and(is_there) {
                found(self.disk.remove_file(path))?;
            }
        }
        let _alone = self.close_gate();
        if !self.is_uploaded_to(&repository.name) {
            for dir in
                [repository.all_referrers(), repository.all_manifests(), repository.all_blobs(), repository.tags()]
            {
                self.prune(&dir);
            }
            let all = self.layout.repositories();
            for dir in repository.dir().ancestors().take_while(|dir| *dir != all) {
                // Whose last folder this was not stays.
                if self.disk.remove_dir(dir).is_err() {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Removes empty folders, the deepest first.
    fn prune(&self, dir: &Path) {
        let entries = found(self.disk.read_dir(dir)).ok().flatten().unwrap_or_default();
        if entries.iter().all(|entry| entry.is_dir) {
            entries.iter().for_each(|entry| self.prune(&dir.join(&entry.name)));
            // Not empty: something is in it.
            drop(self.disk.remove_dir(dir));
        }
    }

    /// The digests that a folder `ALG/HEX` holds.
    pub(super) fn links(&self, dir: &Path) -> io::Result<Vec<Digest>> {
        let mut links = Vec::new();
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let entries = found(self.disk.read_dir(dir.join(algorithm.name())))?.unwrap_or_default();
            links.extend(
                entries
                    .iter()
                    .filter_map(|entry| format!("{}:{}", algorithm.name(), entry.name).parse::<Digest>().ok()),
            );
        }
        Ok(links)
    }

    /// Every file below a folder.
    fn files(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        let mut left = vec![dir.to_path_buf()];
        while let Some(dir) = left.pop() {
            for entry in found(self.disk.read_dir(&dir))?.unwrap_or_default() {
                let path = dir.join(&entry.name);
                if entry.is_dir { &mut left } else { &mut files }.push(path);
            }
        }
        Ok(files)
    }
}
