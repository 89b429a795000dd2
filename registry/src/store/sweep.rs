//! What a start removes: unfinished uploads, small files that were not renamed to their names, and content that no
//! repository names.
//!
//! It runs before anybody else does, so there is no upload whose content is stored and not yet linked. That is why it
//! is part of opening, and not a task in the background. Nothing here is synced: what a power cut brings back, the next
//! start removes again.

use std::collections::HashSet;
use std::io;
use std::path::Path;

use super::error::found;
use super::open::{Inner, Registry};

impl Registry {
    pub(super) fn sweep(&self) -> io::Result<()> {
        let inner = &*self.0;
        let uploads = inner.layout.uploads();
        for entry in inner.disk.read_dir(&uploads)? {
            inner.disk.remove_file(uploads.join(entry.name))?;
        }
        let named = inner.named()?;
        let mut removed = 0_usize;
        for algorithm in inner.disk.read_dir(inner.layout.blobs())? {
            let dir = inner.layout.blobs().join(&algorithm.name);
            for shard in inner.disk.read_dir(&dir)? {
                let dir = dir.join(shard.name);
                for blob in inner.disk.read_dir(&dir)? {
                    if !named.contains(&(algorithm.name.clone(), blob.name.clone())) {
                        inner.disk.remove_file(dir.join(blob.name))?;
                        removed += 1;
                    }
                }
            }
        }
        if removed > 0 {
            tracing::info!(removed, dir = %inner.layout.dir().display(), "removed content that no repository names");
        }
        Ok(())
    }
}

impl Inner {
    /// The algorithm and hexadecimal digits of everything that some repository links to. Removes what is half written on
    /// the way: a manifest that nobody pushes again would leave its file for good.
    fn named(&self) -> io::Result<HashSet<(String, String)>> {
        let mut named = HashSet::new();
        self.walk(&mut |path, names| {
            for links in names.iter().filter(|name| matches!(name.as_str(), "_blobs" | "_manifests")) {
                let links = path.join(links);
                for algorithm in found(self.disk.read_dir(&links))?.unwrap_or_default() {
                    let links = self.whole_files(&links.join(&algorithm.name))?;
                    named.extend(links.into_iter().map(|link| (algorithm.name.clone(), link)));
                }
            }
            if names.iter().any(|name| name == "_tags") {
                self.whole_files(&path.join("_tags"))?;
            }
            Ok(())
        })?;
        Ok(named)
    }

    /// The names in a directory of files that `write_atomic` replaces, without its left-overs, which are removed.
    fn whole_files(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut whole = Vec::new();
        for entry in self.disk.read_dir(dir)? {
            match entry.name.ends_with(".tmp") {
                true => self.disk.remove_file(dir.join(entry.name))?,
                false => whole.push(entry.name),
            }
        }
        Ok(whole)
    }
}
