//! Lists: the tags of a repository, and the repositories.

use std::io;
use std::path::Path;

use super::error::{Error, found};
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

    /// All repositories that a manifest was pushed to, sorted.
    pub fn repositories(&self) -> Result<Vec<String>, Error> {
        let mut names = Vec::new();
        self.0.repositories(&mut names, &["_manifests"]).map_err(|source| Error::ListRepositories { source })?;
        names.sort();
        Ok(names)
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
