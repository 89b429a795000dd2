//! Lists: the tags of a repository, and the repositories.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::io;
use std::path::Path;

use super::error::{Error, found};
use super::layout::tag_of;
use super::open::{Inner, Registry};

impl Registry {
    /// All tags of a repository, ordered regardless of case. `None`: nothing was ever pushed to it.
    pub fn tags(&self, repository: &str) -> Result<Option<Vec<String>>, Error> {
        let inner = &*self.0;
        let repository = inner.layout.repository(repository)?;
        let known = inner.disk.exists(repository.all_manifests()) || inner.disk.exists(repository.all_blobs());
        match known {
            true => inner.tags(&repository).map(Some).map_err(|source| Error::List {
                what: "the tags",
                repository: repository.name.clone(),
                source,
            }),
            false => Ok(None),
        }
    }

    /// The first `max` tags behind `last`, and whether more follow. `None`: nothing was ever pushed to the repository.
    pub fn tags_after(
        &self,
        repository: &str,
        last: Option<&str>,
        max: usize,
    ) -> Result<Option<(Vec<String>, bool)>, Error> {
        let inner = &*self.0;
        let repository = inner.layout.repository(repository)?;
        if !inner.disk.exists(repository.all_manifests()) && !inner.disk.exists(repository.all_blobs()) {
            return Ok(None);
        }
        let list = |source| Error::List { what: "the tags", repository: repository.name.clone(), source };
        let entries = found(inner.disk.read_dir(repository.tags())).map_err(list)?.unwrap_or_default();
        let last = last.map(|last| CaseLast(last.to_owned()));
        // The largest on top: it goes when a smaller one comes.
        let mut first: BinaryHeap<CaseLast> = BinaryHeap::new();
        let mut more = false;
        for tag in entries.iter().filter_map(|entry| tag_of(&entry.name)) {
            if last.as_ref().is_some_and(|last| compare(tag, &last.0).is_le()) {
                continue;
            }
            if first.len() == max {
                more = true;
                match first.peek() {
                    Some(largest) if compare(tag, &largest.0).is_lt() => drop(first.pop()),
                    _ => continue,
                }
            }
            first.push(CaseLast(tag.to_owned()));
        }
        Ok(Some((first.into_sorted_vec().into_iter().map(|tag| tag.0).collect(), more)))
    }

    /// All repositories that a manifest was pushed to, sorted.
    pub fn repositories(&self) -> Result<Vec<String>, Error> {
        let mut names = Vec::new();
        self.0.repositories(&mut names, &["_manifests"]).map_err(|source| Error::ListRepositories { source })?;
        names.sort();
        Ok(names)
    }
}

/// Ordered as the distribution specification asks for: regardless of case, which only tells apart what is else the same.
#[derive(Debug, PartialEq, Eq)]
struct CaseLast(String);

fn compare(one: &str, other: &str) -> Ordering {
    let caseless =
        one.bytes().map(|byte| byte.to_ascii_lowercase()).cmp(other.bytes().map(|byte| byte.to_ascii_lowercase()));
    caseless.then_with(|| one.cmp(other))
}

impl Ord for CaseLast {
    fn cmp(&self, other: &Self) -> Ordering {
        compare(&self.0, &other.0)
    }
}

impl PartialOrd for CaseLast {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Inner {
    /// All repositories that something was pushed to.
    pub(super) fn known_repositories(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        self.repositories(&mut names, &["_manifests", "_blobs", "_tags", "_referrers"])?;
        Ok(names)
    }

    /// The names of those that have one of these folders.
    fn repositories(&self, names: &mut Vec<String>, folders: &[&str]) -> io::Result<()> {
        let root = self.layout.repositories();
        self.walk(&mut |path, entries| {
            if entries.iter().any(|name| folders.contains(&name.as_str()))
                && let Some(name) = path.strip_prefix(&root).ok().and_then(Path::to_str)
            {
                names.push(name.to_owned());
            }
            Ok(())
        })
    }

    /// Calls `visit` with every repository's folder (and those on the way to one) and the names in it.
    fn walk(&self, visit: &mut dyn FnMut(&Path, &[String]) -> io::Result<()>) -> io::Result<()> {
        let mut left = vec![self.layout.repositories()];
        while let Some(dir) = left.pop() {
            let entries = found(self.disk.read_dir(&dir))?.unwrap_or_default();
            let names: Vec<String> = entries.into_iter().filter(|entry| entry.is_dir).map(|entry| entry.name).collect();
            visit(&dir, &names)?;
            // A repository's own folders start with an underscore, which no repository does.
            left.extend(names.iter().filter(|name| !name.starts_with('_')).map(|name| dir.join(name)));
        }
        Ok(())
    }
}
