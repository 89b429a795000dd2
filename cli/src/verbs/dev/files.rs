//! Which files of a project change.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

use crate::exit::{Exit, Failure};
use crate::project::Project;

/// An editor writes a file in several steps, and a person saves several files: quiet for so long, it is one change.
const QUIET: Duration = Duration::from_millis(50);

/// The changes of a project's sources.
#[derive(Debug)]
pub(super) struct Changes {
    /// Where events say that it is.
    project: Project,
    changed: mpsc::UnboundedReceiver<PathBuf>,
    watcher: RecommendedWatcher,
}

impl Changes {
    pub(super) fn watch(project: &Project) -> Result<Self, Failure> {
        let failed = |error: &dyn std::fmt::Display| {
            let text = format!("failed to watch {}: {error}", project.folder().display());
            Failure::message(Exit::Invalid, text)
        };
        let folder = project.folder().canonicalize().map_err(|error| failed(&error))?;
        // Events name absolute paths.
        let absolute = Project::find(&folder)?;
        let project = absolute.clone();
        let (tell, changed) = mpsc::unbounded_channel();
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            let Ok(event) = event else { return };
            if is_change(&event.kind) {
                event.paths.into_iter().filter(|path| absolute.is_source(path)).for_each(|path| {
                    // Nobody listens any more when the verb ends.
                    let _ = tell.send(path);
                });
            }
        })
        .map_err(|error| failed(&error))?;
        let mut changes = Self { project, changed, watcher };
        changes.watch_folders()?;
        Ok(changes)
    }

    /// Each folder of sources by itself: what npm and cargo write has many more folders than may be watched.
    fn watch_folders(&mut self) -> Result<(), Failure> {
        let mut folders = vec![self.project.folder().to_path_buf()];
        while let Some(folder) = folders.pop() {
            self.watcher.watch(&folder, RecursiveMode::NonRecursive).map_err(|error| {
                let text = format!("failed to watch {}: {error}", folder.display());
                Failure::message(Exit::Invalid, text)
            })?;
            // One that went meanwhile has nothing to watch.
            let Ok(entries) = fs::read_dir(&folder) else { continue };
            let is_folder = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
            let below = entries.flatten().filter(is_folder).map(|entry| entry.path());
            folders.extend(below.filter(|path| self.project.is_source(path)));
        }
        Ok(())
    }

    /// Waits for a change, and until no more follow it.
    pub(super) async fn next(&mut self) -> Result<PathBuf, Failure> {
        let ended = || Failure::message(Exit::Internal, "the watch of the source ended");
        let mut last = self.changed.recv().await.ok_or_else(ended)?;
        while let Ok(more) = tokio::time::timeout(QUIET, self.changed.recv()).await {
            last = more.ok_or_else(ended)?;
        }
        // There may be new ones.
        self.watch_folders()?;
        Ok(std::env::current_dir()
            .ok()
            .and_then(|here| last.strip_prefix(here).ok().map(Path::to_path_buf))
            .unwrap_or(last))
    }
}

/// Reading a file is none; nor is opening it.
fn is_change(kind: &EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Create(_) | EventKind::Modify(_) | EventKind::Remove(_) => true,
        EventKind::Access(_) | EventKind::Any | EventKind::Other => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn sources_are_watched_in_folders_that_come_later_too_and_what_tools_write_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str| fs::write(folder.path().join(name), "x").unwrap();
        write("package.json");
        fs::create_dir(folder.path().join("dist")).unwrap();
        let mut changes = Changes::watch(&Project::find(folder.path()).unwrap()).unwrap();
        write("dist/service.wasm");
        fs::create_dir(folder.path().join("src")).unwrap();
        assert!(changes.next().await.unwrap().ends_with("src"));
        write("src/help.js");
        assert!(changes.next().await.unwrap().ends_with("src/help.js"));
    }
}
