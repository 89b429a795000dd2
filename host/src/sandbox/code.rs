#![expect(unsafe_code, reason = "compiled code is mapped from a file and trusted as native code")]
//! Compiled code, mapped from the file that [`crate::compile`] wrote.
//!
//! Mapping native code trusts the file with everything. It is trusted because this node's own compiling process made it
//! from a validated component, because it lies in a folder that only this node writes, and because a file is never
//! changed in place: a new one replaces it by a rename. What that leaves is damage (a torn write after a power cut, a
//! worn card), which the checksum at the file's end finds.
//!
//! Checking it means reading the whole file, which for a large one costs more than mapping it does. So the checksum is
//! verified the first time that this process sees a file, and not again as long as it is the same file by device, inode,
//! size and times. The same file is mapped once, however many replicas run it.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use wasmtime::Engine;
use wasmtime::component::Component;

use crate::compile::{CheckError, check};
use crate::sandbox::LoadError;

/// A component's compiled code, mapped. Cheap to clone; the mapping ends with the last clone.
#[derive(Clone)]
pub struct Code(Arc<Component>);

impl Code {
    pub(super) fn component(&self) -> &Component {
        &self.0
    }
}

/// The files that were loaded.
#[derive(Default)]
pub(super) struct Codes(Mutex<HashMap<PathBuf, Loaded>>);

struct Loaded {
    identity: Identity,
    component: Weak<Component>,
}

/// Tells one file from another, also under the same path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Identity {
    fn of(file: &File) -> std::io::Result<Self> {
        let meta = file.metadata()?;
        Ok(Self {
            device: meta.dev(),
            inode: meta.ino(),
            bytes: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        })
    }
}

impl Codes {
    /// Maps a file, or returns the mapping that exists. Blocks while it reads a file that is new to it.
    pub(super) fn load(&self, engine: &Engine, path: &Path) -> Result<Code, LoadError> {
        let unreadable = |source| LoadError::Read { path: path.to_owned(), source };
        let file = File::open(path).map_err(unreadable)?;
        let identity = Identity::of(&file).map_err(unreadable)?;
        let known = self.known(path, identity);
        if let Some(component) = known.as_ref().and_then(Weak::upgrade) {
            return Ok(Code(component));
        }
        if known.is_none() {
            check(&file).map_err(|e| match e {
                CheckError::Read(source) => unreadable(source),
                CheckError::Damaged(why) => LoadError::Damaged { path: path.to_owned(), why },
            })?;
        }
        // SAFETY: the file was written by this node's compiling process: its checksum was verified, now or when this very
        // file was first loaded. It lies in a folder that nobody else writes, and files there are replaced by renames,
        // never written in place or truncated, so the mapping stays as it was checked.
        let component = unsafe { Component::deserialize_file(engine, path) }
            .map_err(|source| LoadError::Incompatible { path: path.to_owned(), source })?;
        let component = Arc::new(component);
        let loaded = Loaded { identity, component: Arc::downgrade(&component) };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned(), loaded);
        Ok(Code(component))
    }

    fn known(&self, path: &Path, identity: Identity) -> Option<Weak<Component>> {
        let codes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        codes.get(path).filter(|loaded| loaded.identity == identity).map(|loaded| loaded.component.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;
    use crate::compile::Seal;
    use crate::sandbox::base_config;

    #[test]
    fn a_sound_file_that_is_no_code_of_this_engine_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.cwasm");
        let engine = Engine::new(&base_config().unwrap()).unwrap();
        // What another version of wasmtime, or the same with another configuration, makes.
        let mut other = base_config().unwrap();
        other.module_version(wasmtime::ModuleVersionStrategy::Custom("47".to_owned())).unwrap();
        let foreign = Engine::new(&other).unwrap().precompile_component(b"(component)").unwrap();
        for data in [b"no code at all".to_vec(), foreign] {
            let mut seal = Seal::default();
            seal.update(&data);
            std::fs::write(&path, [&data[..], &seal.finish()].concat()).unwrap();
            let error = Codes::default().load(&engine, &path).err().unwrap();
            assert!(matches!(error, LoadError::Incompatible { .. }), "{error}: {:?}", error.source());
        }
    }
}
