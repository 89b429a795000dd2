//! Content that no repository links to, and the order of a whole run.

use std::collections::{HashMap, HashSet};
use std::io;
use std::ops::ControlFlow;

use skiff_api::Digest;

use super::{Collected, Pause};
use crate::store::error::found;
use crate::store::fresh::Key;
use crate::store::open::Inner;

impl Inner {
    pub(super) fn collect(
        &self,
        retained: &[(String, Digest)],
        pause: Pause<'_>,
        done: &mut Collected,
    ) -> io::Result<ControlFlow<()>> {
        let mut of: HashMap<&str, Vec<&Digest>> = HashMap::new();
        for (repository, digest) in retained {
            of.entry(repository).or_default().push(digest);
        }
        for name in self.known_repositories()? {
            let repository = self.layout.repository(&name).map_err(io::Error::other)?;
            let retained = of.get(name.as_str()).map_or(&[][..], Vec::as_slice);
            if self.collect_repository(&repository, retained, pause, done)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        let Some(linked) = self.linked(pause)? else { return Ok(ControlFlow::Break(())) };
        for algorithm in self.disk.read_dir(self.layout.blobs())? {
            let dir = self.layout.blobs().join(&algorithm.name);
            for shard in self.disk.read_dir(&dir)? {
                for entry in self.disk.read_dir(dir.join(shard.name))? {
                    if let Ok(digest) = format!("{}:{}", algorithm.name, entry.name).parse::<Digest>()
                        && !linked.contains(&self.keys.content(&digest))
                    {
                        self.remove_content(&digest, done)?;
                    }
                }
                if pause().is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn remove_content(&self, digest: &Digest, done: &mut Collected) -> io::Result<()> {
        let _alone = self.close_gate();
        if self.fresh.is_fresh(self.keys.content(digest)) {
            done.waits = true;
            return Ok(());
        }
        let path = self.layout.blob(digest);
        let bytes = found(self.disk.stat(&path))?.map_or(0, |stat| stat.bytes);
        if found(self.disk.remove_file(&path))?.is_some() {
            done.contents += 1;
            done.bytes += bytes;
        }
        Ok(())
    }

    /// Everything that some repository links to. What is linked while this reads is fresh.
    fn linked(&self, pause: Pause<'_>) -> io::Result<Option<HashSet<Key>>> {
        let mut linked = HashSet::new();
        for name in self.known_repositories()? {
            let repository = self.layout.repository(&name).map_err(io::Error::other)?;
            for dir in [repository.all_manifests(), repository.all_blobs()] {
                linked.extend(self.links(&dir)?.iter().map(|digest| self.keys.content(digest)));
            }
            if pause().is_break() {
                return Ok(None);
            }
        }
        Ok(Some(linked))
    }
}
