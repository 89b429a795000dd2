#![expect(unsafe_code, reason = "compiled code is mapped from a file and trusted as native code")]
//! Compiled code, mapped from the file that [`crate::compile`] wrote, when it is needed and as long as there is room.
//!
//! ```text
//!  Code (one for each file) ── first request ──> Loaded: mapped and linked ── the shelf needs room ──> not loaded
//!                                  ^  one load at a time, others wait for it              |
//!                                  '------------------ next request ----------------------'
//! ```
//! A hit costs a request two loads and one count on what the component's replicas share anyway. What is loaded, and what
//! has to go, is [`super::shelf`]'s affair; what a request holds stays until that request has ended.
//!
//! **Trust.** Mapping native code trusts the file with everything. It is trusted because this node's own compiling process
//! made it from a validated component, because it lies in a folder that only this node writes, and because a file is
//! never changed in place: a new one replaces it by a rename. What that leaves is damage, which the checksum at the
//! file's end finds: a worn card, or a disk that lied about a sync. The file was synced before it got its name, so a power
//! cut alone leaves no torn one; but a mark on the same disk that says "verified" would be as old as the damage. So the
//! whole file is read once by each process, when it is first needed, and not again as long as it is the same file by
//! device, inode, size and times.
//!
//! **Blocking.** A small file, or one that was checked before, is mapped by the request itself: that takes some hundred
//! microseconds, less than handing it to another thread and back. A large one is read on a blocking thread.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::mpsc;
use wasmtime::component::{Component, Linker};
use wasmtime::{Engine, EngineWeak};

use crate::compile::{CheckError, check};
use crate::sandbox::engine::{self, Recipe};
use crate::sandbox::linker::Linked;
use crate::sandbox::shelf::{Charge, Room, Shelf};
use crate::sandbox::state::State;
use crate::sandbox::{Error, LoadError, PrepareError, base_config, linker};

/// A file up to this size is checked by the request that needs it: hashing it takes a fraction of a millisecond.
const INLINE_BYTES_MAX: u64 = 512 << 10;

/// A component's compiled code, loaded or not. Cheap to clone; what is loaded goes with the last clone.
#[derive(Clone)]
pub struct Code(Arc<Entry>);

/// Code that is mapped and linked. Whoever holds it keeps it mapped.
pub(super) struct Loaded {
    pub(super) linked: Linked,
    _charge: Charge,
}

/// Where code is mapped.
struct Home {
    engine: Engine,
    linker: Linker<State>,
}

/// What idle slots must keep for it to be worth giving back: an engine takes some milliseconds to make, and the next
/// request of each service maps its code anew.
const WORTH_BYTES: usize = 4 << 20;

/// The components that this process knows.
pub(super) struct Codes(Arc<Shared>);

struct Shared {
    home: ArcSwap<Home>,
    recipe: Recipe,
    /// The engine before, while anything of it is left.
    former: Mutex<Option<EngineWeak>>,
    known: Mutex<HashMap<PathBuf, Weak<Entry>>>,
    shelf: Shelf<Entry>,
    lost: OnceLock<mpsc::UnboundedSender<PathBuf>>,
}

pub(super) struct Entry {
    shared: Arc<Shared>,
    path: Box<Path>,
    loaded: ArcSwapOption<Loaded>,
    /// Since the shelf looked last.
    used: AtomicBool,
    /// It could not be loaded, and whoever can mend that was told.
    lost: AtomicBool,
    /// The file as it was checked. Held while it is mapped.
    checked: Mutex<Option<Identity>>,
    /// Who waits for the mapping, without a thread.
    turn: tokio::sync::Mutex<()>,
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
    pub(super) fn new(engine: Engine, recipe: Recipe, room: Room) -> Result<Self, Error> {
        let home = ArcSwap::from_pointee(Home::new(engine)?);
        let (former, known, lost) = (Mutex::default(), Mutex::default(), OnceLock::new());
        Ok(Self(Arc::new(Shared { home, recipe, former, known, shelf: Shelf::new(room), lost })))
    }

    /// What to do when the node has come to rest: gives back what idle slots keep, if that is much. Returns the engine that
    /// is used from then on, if it is another one.
    pub(super) fn rest(&self) -> impl Fn() -> Option<Engine> + Send + Sync + 'static {
        let shared = Arc::downgrade(&self.0);
        move || shared.upgrade()?.renew()
    }

    /// The code in a file, without looking at the file.
    pub(super) fn known(&self, path: &Path) -> Code {
        let mut known = self.0.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = known.get(path).and_then(Weak::upgrade) {
            return Code(entry);
        }
        let entry = Arc::new(Entry {
            shared: self.0.clone(),
            path: path.into(),
            loaded: ArcSwapOption::empty(),
            used: AtomicBool::new(false),
            lost: AtomicBool::new(false),
            checked: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
        });
        known.insert(path.to_owned(), Arc::downgrade(&entry));
        Code(entry)
    }

    /// The code in a file that is sound. Blocks while it reads a file that is new.
    pub(super) fn load(&self, path: &Path) -> Result<Code, LoadError> {
        let code = self.known(path);
        let mut checked = code.0.checked();
        let before = *checked;
        if Some(code.0.check(&mut checked)?) != before {
            // What is mapped, if anything is, was another file.
            code.0.loaded.store(None);
        }
        drop(checked);
        Ok(code)
    }

    /// Tells of files that a request needed and that could not be loaded, each once until it can be again. Only the first
    /// caller is told.
    pub(super) fn lost(&self) -> mpsc::UnboundedReceiver<PathBuf> {
        let (sender, receiver) = mpsc::unbounded_channel();
        // Where somebody is told already, this receiver finds its channel closed.
        let _ = self.0.lost.set(sender);
        receiver
    }

    pub(super) fn shelf(&self) -> &Shelf<Entry> {
        &self.0.shelf
    }
}

impl Home {
    fn new(engine: Engine) -> Result<Self, Error> {
        let linker = linker::ambient(&engine)?;
        Ok(Self { engine, linker })
    }
}

impl Shared {
    /// Makes another engine, and forgets all code that the old one has mapped. Instances that are still alive keep the old
    /// one; with the last of them it goes, and its memory.
    fn renew(&self) -> Option<Engine> {
        let old = self.home.load_full();
        if engine::kept_bytes(&old.engine) < WORTH_BYTES {
            return None;
        }
        let mut former = self.former.lock().unwrap_or_else(PoisonError::into_inner);
        // Two at a time: each has address space and mappings of its own.
        if former.as_ref().is_some_and(|former| former.upgrade().is_some()) {
            return None;
        }
        let made = self.recipe.engine().map_err(Error::Engine).and_then(Home::new);
        let home = match made {
            Ok(home) => home,
            Err(error) => {
                tracing::warn!(%error, "idle instances keep their memory: another engine could not be made");
                return None;
            }
        };
        let engine = home.engine.clone();
        *former = Some(old.engine.weak());
        drop(former);
        self.home.store(Arc::new(home));
        drop(old);
        let known: Vec<Arc<Entry>> = {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.values().filter_map(Weak::upgrade).collect()
        };
        // Not under the lock: what goes here may be the last of an entry, or of the engine.
        known.iter().for_each(|entry| entry.loaded.store(None));
        Some(engine)
    }
}

impl Code {
    /// The code, if it is loaded: the way of almost every request.
    pub(super) fn resident(&self) -> Option<Arc<Loaded>> {
        let loaded = self.0.loaded.load_full()?;
        // Written only where it changes: all cores read it.
        if !self.0.used.load(Ordering::Relaxed) {
            self.0.used.store(true, Ordering::Relaxed);
        }
        Some(loaded)
    }

    /// The code, loaded and linked.
    pub(super) async fn linked(&self) -> Result<Arc<Loaded>, PrepareError> {
        if let Some(loaded) = self.resident() {
            return Ok(loaded);
        }
        let _turn = self.0.turn.lock().await;
        if let Some(loaded) = self.resident() {
            return Ok(loaded);
        }
        self.0.used.store(true, Ordering::Relaxed);
        let loaded = match self.0.is_quick() {
            true => self.0.map(),
            false => {
                let entry = self.0.clone();
                let mapped = tokio::task::spawn_blocking(move || entry.map()).await;
                mapped.unwrap_or_else(|e| Err(LoadError::thread(&self.0.path, e).into()))
            }
        };
        match &loaded {
            // Nothing else is mended by compiling again.
            Err(PrepareError::Load(_)) => self.0.tell_lost(),
            Err(_) => {}
            Ok(_) => self.0.lost.store(false, Ordering::Relaxed),
        }
        loaded
    }
}

impl Entry {
    /// Whether mapping takes less than a change of threads.
    fn is_quick(&self) -> bool {
        let checked = self.checked.try_lock().is_ok_and(|checked| checked.is_some());
        checked || std::fs::metadata(&self.path).map_or(true, |meta| meta.len() <= INLINE_BYTES_MAX)
    }

    fn map(&self) -> Result<Arc<Loaded>, PrepareError> {
        let mut checked = self.checked();
        if let Some(loaded) = self.loaded.load_full() {
            return Ok(loaded);
        }
        let identity = self.check(&mut checked)?;
        let charge = self.shared.shelf.make_room(identity.bytes);
        let home = self.shared.home.load_full();
        // SAFETY: the file was written by this node's compiling process: its checksum was verified, now or when this very
        // file was first loaded. It lies in a folder that nobody else writes, and files there are replaced by renames,
        // never written in place or truncated, so the mapping stays as it was checked.
        let component = unsafe { Component::deserialize_file(&home.engine, &self.path) };
        let component = component.map_err(|error| self.why_not(error))?;
        let linked = linker::link(&home.linker, &component)?;
        let loaded = Arc::new(Loaded { linked, _charge: charge });
        self.loaded.store(Some(loaded.clone()));
        // The engine was left meanwhile: this request has it, and the next maps the code again.
        if !Arc::ptr_eq(&home, &self.shared.home.load()) {
            self.loaded.store(None);
        }
        drop(checked);
        if let Some(entry) = self.this() {
            self.shared.shelf.push(&entry);
        }
        Ok(loaded)
    }

    /// Tells code that no engine of this build takes, which is to be made again, from that of a component with more in it
    /// than the pool has for one, which would be the same again.
    fn why_not(&self, error: wasmtime::Error) -> PrepareError {
        let plain = || {
            let engine = Engine::new(&base_config()?)?;
            // SAFETY: as above; nothing of it is run.
            unsafe { Component::deserialize_file(&engine, &self.path) }
        };
        match plain() {
            Ok(_) => PrepareError::TooLarge(error),
            Err(_) => LoadError::Incompatible { path: self.path.to_path_buf(), source: error }.into(),
        }
    }

    /// Reads the file if it is not the one that was checked before, and notes that it is sound.
    fn check(&self, checked: &mut Option<Identity>) -> Result<Identity, LoadError> {
        let path = &*self.path;
        let unreadable = |source| LoadError::Read { path: path.to_owned(), source };
        let file = File::open(path).map_err(unreadable)?;
        let identity = Identity::of(&file).map_err(unreadable)?;
        if *checked != Some(identity) {
            check(&file).map_err(|e| match e {
                CheckError::Read(source) => unreadable(source),
                CheckError::Damaged(why) => LoadError::Damaged { path: path.to_owned(), why },
            })?;
            *checked = Some(identity);
        }
        Ok(identity)
    }

    fn this(&self) -> Option<Arc<Self>> {
        let known = self.shared.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&*self.path).and_then(Weak::upgrade)
    }

    fn tell_lost(&self) {
        if !self.lost.swap(true, Ordering::Relaxed)
            && let Some(lost) = self.shared.lost.get()
        {
            // Nobody mends anything when the node stops.
            let _ = lost.send(self.path.to_path_buf());
        }
    }

    fn checked(&self) -> MutexGuard<'_, Option<Identity>> {
        self.checked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl super::shelf::Book for Entry {
    fn give_up(&self) -> bool {
        if self.used.swap(false, Ordering::Relaxed) {
            return false;
        }
        let Some(loaded) = self.loaded.load_full() else { return true };
        // One is the entry's, one is ours: with more of them a request is at work, and would soon be followed by another.
        let idle = Arc::strong_count(&loaded) <= 2;
        if idle {
            self.loaded.store(None);
        }
        idle
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut known = self.shared.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.get(&*self.path).is_some_and(|entry| entry.strong_count() == 0) {
            known.remove(&*self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;
    use crate::compile::Seal;

    /// The smallest component that links.
    const HANDLER: &str = include_str!("code/handler.wat");

    fn engine() -> Engine {
        Engine::new(&base_config().unwrap()).unwrap()
    }

    fn codes(components_max: usize) -> Codes {
        Codes::new(engine(), Recipe::on_demand(), Room { components_max, bytes_max: u64::MAX }).unwrap()
    }

    fn write(path: &Path, data: &[u8]) {
        let mut seal = Seal::default();
        seal.update(data);
        std::fs::write(path, [data, &seal.finish()].concat()).unwrap();
    }

    #[test]
    fn a_sound_file_that_is_no_code_of_this_engine_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.cwasm");
        // What another version of wasmtime, or the same with another configuration, makes.
        let mut other = base_config().unwrap();
        other.module_version(wasmtime::ModuleVersionStrategy::Custom("47".to_owned())).unwrap();
        let foreign = Engine::new(&other).unwrap().precompile_component(b"(component)").unwrap();
        for data in [b"no code at all".to_vec(), foreign] {
            write(&path, &data);
            let error = codes(8).known(&path).0.map().err().unwrap();
            assert!(
                matches!(error, PrepareError::Load(LoadError::Incompatible { .. })),
                "{error}: {:?}",
                error.source()
            );
        }
    }

    #[test]
    fn what_was_not_used_goes_first_and_what_is_held_stays() {
        let dir = tempfile::tempdir().unwrap();
        let code = engine().precompile_component(HANDLER.as_bytes()).unwrap();
        let codes = codes(3);
        let known: Vec<Code> = (0..6)
            .map(|number| {
                let path = dir.path().join(format!("{number}.cwasm"));
                write(&path, &code);
                codes.known(&path)
            })
            .collect();
        let is_loaded = |number: usize| known[number].0.loaded.load().is_some();
        let map = |number: usize| known[number].0.map().unwrap();
        let held = map(0);
        map(1);
        map(2);
        known[1].0.used.store(true, Ordering::Relaxed);
        map(3);
        assert_eq!([0, 1, 2, 3].map(is_loaded), [true, true, false, true]);
        // Its second chance is used up.
        map(4);
        map(5);
        assert!(is_loaded(0) && is_loaded(5) && !is_loaded(1), "{:?}", [0, 1, 2, 3, 4, 5].map(is_loaded));
        drop(held);
        assert_eq!(codes.shelf().loaded(), 3);
        drop(known);
        assert_eq!(codes.shelf().loaded(), 0);
        assert!(codes.0.known.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn what_cannot_be_loaded_is_told_once() {
        let codes = codes(3);
        let mut lost = codes.lost();
        let code = codes.known(Path::new("/nowhere/at-all.cwasm"));
        for _ in 0..3 {
            assert!(matches!(code.linked().await, Err(PrepareError::Load(LoadError::Read { .. }))));
        }
        assert_eq!(lost.try_recv().unwrap(), Path::new("/nowhere/at-all.cwasm"));
        assert!(lost.try_recv().is_err());
    }
}
