//! The file system of one boot: names, files, and the faults that were asked for.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::io;
use std::path::{Component, Path};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::image::{Image, Luck};
use super::rng::Rng;
use crate::disk::{Backend, BackendFile, Entry, Mode, Site, Stat};

type Id = u64;

const ROOT: Id = 0;

pub(super) struct Machine {
    rng: Rng,
    dead: bool,
    nodes: HashMap<Id, Node>,
    next_id: Id,
    /// Changes of names that are not durable yet, in order.
    pending: Vec<Renaming>,
    pub(super) operations: u64,
    pub(super) cut_at: Option<u64>,
    pub(super) room: Option<u64>,
    pub(super) sync_fails: bool,
    pub(super) sites: BTreeSet<Site>,
    pub(super) skipped: BTreeSet<Site>,
}

enum Node {
    File(Image),
    Dir { names: BTreeMap<String, Id>, durable: BTreeMap<String, Id> },
}

/// A change of names: creation (`link`), removal (`unlink`), or both at once.
#[derive(Clone)]
struct Renaming {
    link: Option<Name>,
    unlink: Option<Name>,
}

#[derive(Clone)]
struct Name {
    dir: Id,
    name: String,
    id: Id,
}

/// Whether the power fails during the operation that has begun.
#[derive(Clone, Copy, PartialEq, Eq)]
#[must_use]
enum Power {
    Stays,
    Fails,
}

impl Power {
    fn answer(self) -> io::Result<()> {
        if self == Self::Stays { Ok(()) } else { Err(no_power()) }
    }
}

impl Machine {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            rng: Rng::new(seed),
            dead: false,
            nodes: HashMap::from([(ROOT, Node::Dir { names: BTreeMap::new(), durable: BTreeMap::new() })]),
            next_id: ROOT + 1,
            pending: Vec::new(),
            operations: 0,
            cut_at: None,
            room: None,
            sync_fails: false,
            sites: BTreeSet::new(),
            skipped: BTreeSet::new(),
        }
    }

    pub(super) fn power_cut(&mut self) -> Self {
        self.dead = true;
        let luck = Luck::draw(&mut self.rng);
        for change in std::mem::take(&mut self.pending) {
            if luck.keeps(&mut self.rng) {
                self.make_durable(change);
            }
        }
        let mut next = Self::new(self.rng.next());
        next.next_id = self.next_id;
        next.sites.clone_from(&self.sites);
        next.skipped.clone_from(&self.skipped);
        let mut found = vec![ROOT];
        while let Some(id) = found.pop() {
            let node = match &self.nodes[&id] {
                Node::File(image) => Node::File(image.power_cut(luck, &mut self.rng)),
                Node::Dir { durable, .. } => {
                    found.extend(durable.values());
                    Node::Dir { names: durable.clone(), durable: durable.clone() }
                }
            };
            next.nodes.insert(id, node);
        }
        next
    }

    pub(super) fn kill(&mut self) -> Self {
        let mut next = std::mem::replace(self, Self::new(0));
        self.dead = true;
        next.dead = false;
        next.cut_at = None;
        next
    }

    fn check_power(&self) -> io::Result<()> {
        if self.dead { Err(no_power()) } else { Ok(()) }
    }

    /// Counts an operation. When the power fails during it, it is recorded like any other, to be kept or not.
    fn begin(&mut self) -> io::Result<Power> {
        self.check_power()?;
        self.operations += 1;
        if self.cut_at.is_some_and(|last| self.operations > last) {
            self.dead = true;
            return Ok(Power::Fails);
        }
        Ok(Power::Stays)
    }

    fn names(&self, dir: Id) -> io::Result<&BTreeMap<String, Id>> {
        match self.nodes.get(&dir) {
            Some(Node::Dir { names, .. }) => Ok(names),
            _ => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    fn find(&self, path: &Path) -> io::Result<Id> {
        parts(path)?.into_iter().try_fold(ROOT, |dir, name| {
            self.names(dir)?.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
        })
    }

    /// The directory of a path, which must exist, and the last name of it, which need not.
    fn find_parent(&self, path: &Path) -> io::Result<(Id, String)> {
        let parts = parts(path)?;
        let Some((name, dirs)) = parts.split_last() else { return Err(io::ErrorKind::InvalidInput.into()) };
        let dir = self.find(&dirs.iter().collect::<std::path::PathBuf>())?;
        self.names(dir)?;
        Ok((dir, (*name).to_owned()))
    }

    fn image(&mut self, id: Id) -> io::Result<&mut Image> {
        match self.nodes.get_mut(&id) {
            Some(Node::File(image)) => Ok(image),
            _ => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    fn create(&mut self, dir: Id, name: String, node: Node) -> Id {
        let id = self.next_id;
        self.next_id += 1;
        self.nodes.insert(id, node);
        self.change(Renaming { link: Some(Name { dir, name, id }), unlink: None });
        id
    }

    /// Applies a change to what programs see, and remembers it until it is durable.
    fn change(&mut self, change: Renaming) {
        if let Some(Name { dir, name, .. }) = &change.unlink
            && let Some(Node::Dir { names, .. }) = self.nodes.get_mut(dir)
            && let Some(id) = names.remove(name)
            && change.link.is_none()
        {
            self.free(id);
        }
        if let Some(Name { dir, name, id }) = &change.link
            && let Some(Node::Dir { names, .. }) = self.nodes.get_mut(dir)
            && let Some(replaced) = names.insert(name.clone(), *id)
        {
            self.free(replaced);
        }
        self.pending.push(change);
    }

    fn free(&mut self, id: Id) {
        if let (Some(room), Some(Node::File(image))) = (&mut self.room, self.nodes.get(&id)) {
            *room = room.saturating_add(image.allocated());
        }
    }

    fn make_durable(&mut self, change: Renaming) {
        if let Some(Name { dir, name, id }) = change.link
            && let Some(Node::Dir { durable, .. }) = self.nodes.get_mut(&dir)
        {
            durable.insert(name, id);
        }
        // The name may have been given to another file since.
        if let Some(Name { dir, name, id }) = change.unlink
            && let Some(Node::Dir { durable, .. }) = self.nodes.get_mut(&dir)
            && durable.get(&name) == Some(&id)
        {
            durable.remove(&name);
        }
    }

    /// A rename between directories is made durable by the one it leads to; the old name goes with the old directory.
    fn sync_names(&mut self, dir: Id) {
        for change in std::mem::take(&mut self.pending) {
            let links_here = change.link.as_ref().is_some_and(|name| name.dir == dir);
            let unlinks_here = change.unlink.as_ref().is_some_and(|name| name.dir == dir);
            let Renaming { link, unlink } = change;
            match (links_here, unlinks_here) {
                (true, true) => self.make_durable(Renaming { link, unlink }),
                (true, false) => {
                    self.make_durable(Renaming { link, unlink: None });
                    if unlink.is_some() {
                        self.pending.push(Renaming { link: None, unlink });
                    }
                }
                (false, true) if link.is_none() => self.make_durable(Renaming { link, unlink }),
                _ => self.pending.push(Renaming { link, unlink }),
            }
        }
    }

    /// Whether a sync from this place is to be carried out.
    fn syncs(&mut self, site: Site) -> bool {
        self.sites.insert(site);
        !self.skipped.contains(site)
    }

    fn remove(&mut self, path: &Path, dirs: bool) -> io::Result<()> {
        let power = self.begin()?;
        let id = self.find(path)?;
        match &self.nodes[&id] {
            Node::Dir { .. } if !dirs => return Err(io::ErrorKind::IsADirectory.into()),
            Node::Dir { names, .. } if !names.is_empty() => return Err(io::ErrorKind::DirectoryNotEmpty.into()),
            Node::File(_) if dirs => return Err(io::ErrorKind::NotADirectory.into()),
            _ => {}
        }
        let (dir, name) = self.find_parent(path)?;
        self.change(Renaming { link: None, unlink: Some(Name { dir, name, id }) });
        power.answer()
    }
}

fn parts(path: &Path) -> io::Result<Vec<&str>> {
    let mut parts = Vec::new();
    for component in path.components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => parts.push(name.to_str().ok_or(io::ErrorKind::InvalidInput)?),
            Component::ParentDir | Component::Prefix(_) => return Err(io::ErrorKind::InvalidInput.into()),
        }
    }
    Ok(parts)
}

fn no_power() -> io::Error {
    io::Error::other("input/output error: the power is off")
}

fn index(offset: u64) -> io::Result<usize> {
    usize::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput.into())
}

pub(super) struct SimBackend(pub(super) Arc<Mutex<Machine>>);

impl SimBackend {
    fn lock(&self) -> MutexGuard<'_, Machine> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Backend for SimBackend {
    fn open(&self, path: &Path, mode: Mode) -> io::Result<Box<dyn BackendFile>> {
        let mut machine = self.lock();
        machine.check_power()?;
        let id = match (machine.find(path), mode) {
            (Ok(_), Mode::CreateNew) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Ok(id), _) => {
                machine.image(id)?;
                id
            }
            (Err(e), Mode::Create | Mode::CreateNew) if e.kind() == io::ErrorKind::NotFound => {
                let power = machine.begin()?;
                let (dir, name) = machine.find_parent(path)?;
                let id = machine.create(dir, name, Node::File(Image::default()));
                power.answer()?;
                id
            }
            (Err(e), _) => return Err(e),
        };
        drop(machine);
        Ok(Box::new(SimFile { machine: self.0.clone(), id, writable: mode != Mode::Read }))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut machine = self.lock();
        let power = machine.begin()?;
        if let Ok(id) = machine.find(path) {
            return machine.names(id).map(|_| ()).map_err(|_| io::ErrorKind::AlreadyExists.into());
        }
        let (dir, name) = machine.find_parent(path)?;
        machine.create(dir, name, Node::Dir { names: BTreeMap::new(), durable: BTreeMap::new() });
        power.answer()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut machine = self.lock();
        let power = machine.begin()?;
        let id = machine.find(from)?;
        let is_dir = matches!(machine.nodes[&id], Node::Dir { .. });
        if is_dir && parts(to)?.starts_with(&parts(from)?) {
            return if parts(to)? == parts(from)? { power.answer() } else { Err(io::ErrorKind::InvalidInput.into()) };
        }
        match machine.find(to) {
            Ok(same) if same == id => return power.answer(),
            Ok(replaced) => match (&machine.nodes[&replaced], is_dir) {
                (Node::Dir { .. }, false) => return Err(io::ErrorKind::IsADirectory.into()),
                (Node::File(_), true) => return Err(io::ErrorKind::NotADirectory.into()),
                (Node::Dir { names, .. }, true) if !names.is_empty() => {
                    return Err(io::ErrorKind::DirectoryNotEmpty.into());
                }
                _ => {}
            },
            Err(_) => {}
        }
        let (old_dir, old_name) = machine.find_parent(from)?;
        let (dir, name) = machine.find_parent(to)?;
        let unlink = Some(Name { dir: old_dir, name: old_name, id });
        machine.change(Renaming { link: Some(Name { dir, name, id }), unlink });
        power.answer()
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.lock().remove(path, false)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.lock().remove(path, true)
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<Entry>> {
        let machine = self.lock();
        machine.check_power()?;
        let names = machine.names(machine.find(path)?)?;
        let entry = |(name, id): (&String, &Id)| Entry {
            name: name.clone(),
            is_dir: matches!(machine.nodes[id], Node::Dir { .. }),
        };
        Ok(names.iter().map(entry).collect())
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        let machine = self.lock();
        machine.check_power()?;
        Ok(match &machine.nodes[&machine.find(path)?] {
            Node::File(image) => Stat { bytes: image.data.len() as u64, is_dir: false },
            Node::Dir { .. } => Stat { bytes: 0, is_dir: true },
        })
    }

    fn sync_dir(&self, path: &Path, site: Site) -> io::Result<()> {
        let mut machine = self.lock();
        let power = machine.begin()?;
        let dir = machine.find(path)?;
        machine.names(dir)?;
        if machine.syncs(site) && power == Power::Stays {
            machine.sync_names(dir);
        }
        power.answer()
    }
}

struct SimFile {
    machine: Arc<Mutex<Machine>>,
    id: Id,
    writable: bool,
}

impl SimFile {
    fn lock(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check_writable(&self) -> io::Result<()> {
        if self.writable { Ok(()) } else { Err(io::ErrorKind::PermissionDenied.into()) }
    }
}

impl fmt::Debug for SimFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimFile({})", self.id)
    }
}

impl BackendFile for SimFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut machine = self.lock();
        machine.check_power()?;
        let data = machine.image(self.id)?.data.get(index(offset)?..).unwrap_or_default();
        let read = data.len().min(buf.len());
        buf[..read].copy_from_slice(&data[..read]);
        Ok(read)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.check_writable()?;
        let mut machine = self.lock();
        let power = machine.begin()?;
        let offset = index(offset)?;
        let growth = machine.image(self.id)?.growth(buf.len(), offset);
        match &mut machine.room {
            Some(room) if *room < growth => return Err(io::ErrorKind::StorageFull.into()),
            Some(room) => *room -= growth,
            None => {}
        }
        machine.image(self.id)?.write(buf, offset);
        power.answer()
    }

    fn bytes(&self) -> io::Result<u64> {
        let mut machine = self.lock();
        machine.check_power()?;
        Ok(machine.image(self.id)?.data.len() as u64)
    }

    fn set_bytes(&self, bytes: u64) -> io::Result<()> {
        self.check_writable()?;
        let mut machine = self.lock();
        let power = machine.begin()?;
        let image = machine.image(self.id)?;
        let before = image.allocated();
        image.set_length(index(bytes)?);
        let freed = before - image.allocated();
        if let Some(room) = &mut machine.room {
            *room = room.saturating_add(freed);
        }
        power.answer()
    }

    fn sync(&self, site: Site) -> io::Result<()> {
        let mut machine = self.lock();
        let power = machine.begin()?;
        if !machine.syncs(site) || power == Power::Fails {
            return power.answer();
        }
        if std::mem::take(&mut machine.sync_fails) {
            machine.image(self.id)?.forget();
            return Err(io::Error::other("input/output error: the disk refused a page"));
        }
        machine.image(self.id)?.sync();
        Ok(())
    }
}
