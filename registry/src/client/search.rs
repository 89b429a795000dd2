//! The component in an image's layers: one that is the layer itself, or a file in a file system of layers.
//!
//! A file system's layers are looked through from the top down, each as it streams by; nothing is unpacked to a disk. The
//! file is the one that the image's config runs, else the only `*.wasm` that there is. A file in an upper layer hides
//! the one below it, and an upper layer may have deleted it ("whiteouts"), as everywhere with container images.

use std::io::{self, Read};

use serde::Deserialize;

use super::select::{Unfit, listed, quoted};
use super::unpack::{self, Budget, Content, Exhausted};

/// The largest config of an image that is read: a list of words.
pub const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// The longest path of a file in a tar, which is Linux's own limit. It bounds what a tar's extensions may take.
const PATH_BYTES_MAX: u64 = 4096;

/// A tar's extensions of one file may also hold attributes and such.
const EXTENSIONS_BYTES_MAX: u64 = 64 << 10;

/// How many deletions of an upper layer are remembered.
const HIDDEN_MAX: usize = 1024;

/// How many names of files are remembered for a message.
const NAMES_MAX: usize = 16;

const COPY_BYTES: usize = 128 << 10;

const BUILD: &str = "Skiff runs WebAssembly: build the service for wasm32-wasip2";
const AGAIN: &str = "push it again";
const NAME_IT: &str = "name the file with ENTRYPOINT, or push it with `skiff push`";

/// Where the component goes.
pub trait Sink {
    /// Forgets what was written: another file is the one.
    fn restart(&mut self) -> io::Result<()>;
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;
}

impl Sink for Vec<u8> {
    fn restart(&mut self) -> io::Result<()> {
        self.clear();
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.extend_from_slice(bytes);
        Ok(())
    }
}

/// How to go on after a layer.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// What is below does not matter.
    Enough,
    /// With the layer below, if there is one.
    Below,
}

#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// The layer is not what it should be.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// The layer cannot be read, or the component not be written.
    #[error(transparent)]
    Io(io::Error),
}

/// A search through one image.
#[derive(Debug)]
pub struct Search {
    /// Paths that are the component, any of them; none: the only one that ends in `.wasm`.
    wanted: Vec<String>,
    /// What the image says that it runs on, for messages.
    platform: String,
    component_bytes_max: u64,
    budget: Budget,
    /// The path of what the sink has. A layer that is the component has none.
    found: Option<String>,
    /// Other files that could have been meant.
    names: Vec<String>,
    /// What upper layers have deleted.
    hidden: Vec<String>,
}

/// As docker writes an image's config, as far as it matters.
#[derive(Debug, Default, Deserialize)]
struct Config {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
    config: Option<Run>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Run {
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    working_dir: Option<String>,
}

impl Search {
    /// In layers of which it is not known what they are. All that comes out of them is at most four times the largest
    /// component: an image has little else.
    pub fn new(component_bytes_max: u64) -> Self {
        Self {
            wanted: Vec::new(),
            platform: String::new(),
            component_bytes_max,
            budget: Budget(component_bytes_max.saturating_mul(4)),
            found: None,
            names: Vec::new(),
            hidden: Vec::new(),
        }
    }

    /// Whether an image with this config runs a native program of Linux: then there is no component to look for.
    pub fn is_native(config: &[u8]) -> bool {
        let Ok(Config { os, .. }) = serde_json::from_slice::<Config>(config) else { return false };
        os == "linux" && Self::with_config(0, config).is_err()
    }

    /// In the file system of an image with this config. An image that runs a native program is refused.
    pub fn with_config(component_bytes_max: u64, config: &[u8]) -> Result<Self, Unfit> {
        let config: Config = serde_json::from_slice(config)
            .map_err(|error| Unfit::new(format!("its config cannot be read: {error}"), AGAIN))?;
        let run = config.config.unwrap_or_default();
        let words = [run.entrypoint, run.cmd].into_iter().flatten().flatten();
        let words: Vec<String> = words.collect();
        // Also behind a shell, or as an argument of a program that runs it.
        let wasm = words.iter().flat_map(|word| word.split_whitespace()).find(|word| word.ends_with(".wasm"));
        let is_wasm = config.architecture.starts_with("wasm") || config.os.starts_with("wasi");
        let platform = format!("{}/{}", quoted(&config.os), quoted(&config.architecture));
        let wanted = match (wasm, words.first()) {
            (Some(wasm), _) => vec![wasm],
            (None, Some(first)) if is_wasm => vec![first.as_str()],
            (None, Some(first)) => {
                let found = format!("it is a container image for {platform}, which runs {}", quoted(first));
                return Err(Unfit::new(found, BUILD));
            }
            (None, None) => vec![],
        };
        let folder = run.working_dir.unwrap_or_default();
        let wanted = wanted.into_iter().flat_map(|path| {
            let below = (!path.starts_with('/')).then(|| format!("{folder}/{path}"));
            [below, Some(path.to_owned())].into_iter().flatten()
        });
        let wanted = wanted.filter_map(|path| normal(&path)).collect();
        Ok(Self { wanted, platform, ..Self::new(component_bytes_max) })
    }

    /// Looks through one layer, the next below the last. What is found goes into the sink, and replaces what is there.
    pub fn look(&mut self, layer: impl Read, sink: &mut impl Sink) -> Result<Look, SearchError> {
        let mut budget = Budget(self.budget.0);
        let outcome = match unpack::open(layer, &mut budget) {
            Ok(Content::Wasm(reader)) => self.take(reader, None, sink).map(|()| Look::Enough),
            Ok(Content::Tar(reader)) => self.scan(reader, sink),
            Ok(Content::Other(head)) if head.is_empty() => Err(Unfit::new("its layer is empty", AGAIN).into()),
            Ok(Content::Other(head)) => {
                let found = format!("its layer is neither WebAssembly nor a tar: it starts with {}", start(&head));
                Err(Unfit::new(found, "push the .wasm file that the build wrote").into())
            }
            Err(error) => Err(damaged(error)),
        };
        self.budget = budget;
        outcome
    }

    /// After the last layer: the path of what the sink has, if it has one.
    pub fn end(self) -> Result<Option<String>, Unfit> {
        let Self { wanted, platform, found, mut names, .. } = self;
        match (found, names.is_empty()) {
            (Some(path), true) => Ok(Some(path).filter(|path| !path.is_empty())),
            (Some(path), false) if wanted.is_empty() => {
                names.insert(0, path);
                Err(Unfit::new(format!("it has several files that it could be: {}", listed(names)), NAME_IT))
            }
            (Some(path), false) => Ok(Some(path)),
            (None, _) => {
                let others = if names.is_empty() { String::new() } else { format!(", but {}", listed(names)) };
                let found = match wanted.last() {
                    Some(wanted) => format!("it runs {}, which is not in its layers{others}", quoted(wanted)),
                    None if platform.is_empty() => "there is no .wasm file in it".to_owned(),
                    None => format!("it is a container image for {platform} without a .wasm file"),
                };
                Err(Unfit::new(found, if others.is_empty() { BUILD } else { NAME_IT }))
            }
        }
    }

    fn scan(&mut self, tar: impl Read, sink: &mut impl Sink) -> Result<Look, SearchError> {
        let mut archive = tar::Archive::new(tar);
        let mut hides = Vec::new();
        let mut extensions = Extensions::default();
        let found_above = self.found.is_some();
        // Raw: the library would hold a name of any length in memory.
        for entry in archive.entries().map_err(damaged)?.raw(true) {
            let mut entry = entry.map_err(damaged)?;
            if extensions.take(&mut entry)? {
                continue;
            }
            let kind = entry.header().entry_type();
            let Extensions { path, bytes } = std::mem::take(&mut extensions);
            if bytes.is_some_and(|bytes| bytes != entry.size()) {
                return Err(Unfit::new("its layer gives a file two sizes", AGAIN).into());
            }
            let path = path.unwrap_or_else(|| entry.path_bytes().into_owned());
            let Some(path) = normal(&String::from_utf8_lossy(&path)) else { continue };
            if let Some(gone) = whiteout(&path) {
                if hides.len() + self.hidden.len() >= HIDDEN_MAX {
                    let found = format!("its layers delete more than {HIDDEN_MAX} files");
                    return Err(Unfit::new(found, "build it from scratch, with the .wasm file alone").into());
                }
                hides.push(gone);
                continue;
            }
            let is_wanted = match self.wanted.is_empty() {
                true => kind.is_file() && path.ends_with(".wasm"),
                false => self.wanted.contains(&path),
            };
            if !is_wanted || self.is_hidden(&path) {
                if kind.is_file() && path.ends_with(".wasm") && !self.is_hidden(&path) {
                    self.remember(path);
                }
                continue;
            }
            match (kind.is_file(), &self.found) {
                (false, _) if kind.is_dir() => {}
                (false, _) => {
                    let found = format!("{} in it is a link, not a file", quoted(&path));
                    return Err(Unfit::new(found, "name the file itself with ENTRYPOINT").into());
                }
                // The last of a name in one tar is the one; that of an upper layer is above it.
                (true, Some(found)) if *found == path && found_above => {}
                (true, Some(found)) if *found != path && self.wanted.is_empty() => self.remember(path),
                (true, _) => {
                    let bytes = entry.size();
                    self.take(&mut entry, Some((path, bytes)), sink)?;
                }
            }
        }
        let is_gone = |wanted: &String| hides.iter().any(|gone| is_below(wanted, gone));
        let all_gone = !self.wanted.is_empty() && self.wanted.iter().all(is_gone);
        self.hidden.extend(hides);
        let enough = all_gone || !self.wanted.is_empty() && self.found.is_some();
        Ok(if enough { Look::Enough } else { Look::Below })
    }

    /// Copies the component, once its first bytes say that it is one.
    fn take(
        &mut self,
        mut from: impl Read,
        file: Option<(String, u64)>,
        sink: &mut impl Sink,
    ) -> Result<(), SearchError> {
        let max = self.component_bytes_max;
        let size = file.as_ref().map(|(_, bytes)| *bytes);
        let name = file.map(|(path, _)| path).unwrap_or_default();
        sink.restart().map_err(SearchError::Io)?;
        let mut buffer = vec![0; COPY_BYTES];
        let mut copied = 0;
        loop {
            let count = fill(&mut from, &mut buffer).map_err(damaged)?;
            let bytes = &buffer[..count];
            if count < buffer.len() && size.is_some_and(|size| size != copied + count as u64) {
                let found = format!("its layer is damaged: it ends amid {}", quoted(&name));
                return Err(Unfit::new(found, AGAIN).into());
            }
            if copied == 0 && !bytes.starts_with(b"\0asm") {
                let found = format!("{} in it is no WebAssembly: it starts with {}", quoted(&name), start(bytes));
                return Err(Unfit::new(found, BUILD).into());
            }
            copied += count as u64;
            if copied > max {
                let what =
                    if name.is_empty() { "its component".to_owned() } else { format!("{} in it", quoted(&name)) };
                let found = format!("{what} has more than the {max} bytes that are allowed");
                return Err(Unfit::new(found, "build it with --release").into());
            }
            sink.write(bytes).map_err(SearchError::Io)?;
            if count < buffer.len() {
                break;
            }
        }
        self.found = Some(name);
        Ok(())
    }

    fn is_hidden(&self, path: &str) -> bool {
        self.hidden.iter().any(|gone| is_below(path, gone))
    }

    fn remember(&mut self, name: String) {
        if self.names.len() < NAMES_MAX && !self.names.contains(&name) {
            self.names.push(name);
        }
    }
}

/// What a tar says of the next file beside its header.
#[derive(Debug, Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    bytes: Option<u64>,
}

impl Extensions {
    /// Reads an entry that is about the next one. `false`: it is a file of its own.
    fn take(&mut self, entry: &mut tar::Entry<'_, impl Read>) -> Result<bool, SearchError> {
        let kind = entry.header().entry_type();
        if kind.is_gnu_longname() {
            let mut path = short(entry, PATH_BYTES_MAX)?;
            while path.last() == Some(&0) {
                path.pop();
            }
            self.path = Some(path);
        } else if kind.is_pax_local_extensions() {
            let bytes = short(entry, EXTENSIONS_BYTES_MAX)?;
            for extension in tar::PaxExtensions::new(&bytes) {
                let extension = extension.map_err(damaged)?;
                match extension.key_bytes() {
                    b"path" => self.path = Some(extension.value_bytes().to_vec()),
                    b"size" => self.bytes = extension.value().ok().and_then(|size| size.parse().ok()),
                    _ => {}
                }
            }
        } else {
            return Ok(kind.is_gnu_longlink() || kind.is_pax_global_extensions());
        }
        Ok(true)
    }
}

fn short(entry: &mut tar::Entry<'_, impl Read>, bytes_max: u64) -> Result<Vec<u8>, SearchError> {
    if entry.size() > bytes_max {
        return Err(Unfit::new(format!("a name in its layers has more than {bytes_max} bytes"), AGAIN).into());
    }
    let mut bytes = Vec::new();
    entry.read_to_end(&mut bytes).map_err(damaged)?;
    Ok(bytes)
}

/// Reads until the buffer is full or there is no more.
fn fill(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut count = 0;
    while count < buffer.len() {
        match from.read(&mut buffer[count..]) {
            Ok(0) => break,
            Ok(more) => count += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(count)
}

/// Failures of the machine are its own; anything else is in the bytes.
fn damaged(error: io::Error) -> SearchError {
    if error.raw_os_error().is_some() {
        return SearchError::Io(error);
    }
    if error.get_ref().is_some_and(|inner| inner.is::<Exhausted>()) {
        return Unfit::new(Exhausted.to_string(), "an image for Skiff holds one .wasm file").into();
    }
    Unfit::new(format!("its layer is damaged: {}", quoted(&error.to_string())), AGAIN).into()
}

/// A path from the root, without what leads nowhere. One that leads upwards has no place in an image.
fn normal(path: &str) -> Option<String> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    (!parts.is_empty() && !parts.contains(&"..")).then(|| parts.join("/"))
}

/// What an entry deletes from the layers below: a path, or all that is in a folder.
fn whiteout(path: &str) -> Option<String> {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    match name.strip_prefix(".wh.")? {
        ".wh..opq" => Some(folder.to_owned()),
        name => normal(&format!("{folder}/{name}")),
    }
}

/// Whether a path is this one or below it. Everything is below nothing.
fn is_below(path: &str, above: &str) -> bool {
    above.is_empty() || path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Four bytes tell an ELF file, a script or a page apart.
fn start(bytes: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(&bytes[..bytes.len().min(4)]))
}

#[cfg(test)]
mod tests;
