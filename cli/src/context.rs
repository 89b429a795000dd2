//! The admin context: which control plane the verbs talk to, and the token for it.
//!
//! `skiff up` writes it; it is one JSON file that only its owner can read. Flags and variables win over it.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

use serde::{Deserialize, Serialize};
use skiff_api::client::{Client, ClientOptions};
use skiff_disk::{Disk, write_atomic};

use crate::args::ServerArgs;
use crate::exit::{Exit, Failure};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Context {
    /// `http://HOST:PORT`.
    pub server: String,
    pub token: String,
}

impl Context {
    /// `SKIFF_CONFIG`, or `skiff/context.json` in the user's configuration folder.
    fn path() -> Result<PathBuf, Failure> {
        if let Some(path) = env::var_os("SKIFF_CONFIG") {
            return Ok(path.into());
        }
        user_folder("XDG_CONFIG_HOME", ".config").map(|folder| folder.join("skiff/context.json"))
    }

    fn read() -> Result<Option<Self>, Failure> {
        let path = Self::path()?;
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Failure::io("read the context", &path, error)),
        };
        serde_json::from_slice(&text).map(Some).map_err(|error| {
            let path = path.display();
            let text =
                format!("failed to read the context {path}: {error} (hint: delete it, and start `skiff up` again)");
            Failure::message(Exit::Invalid, text)
        })
    }

    pub(crate) fn write(&self) -> Result<(), Failure> {
        let path = Self::path()?;
        let text = serde_json::to_vec_pretty(self).map_err(|error| Failure::new(Exit::Internal, error))?;
        let disk = Disk::real();
        let written = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => disk.create_dir_all(folder),
            _ => Ok(()),
        };
        written
            .and_then(|()| write_atomic(&disk, &path, &text))
            .map_err(|error| Failure::io("write the context", &path, error))
    }

    /// Removes the context, and returns what it was.
    pub(crate) fn forget() -> Result<Option<Self>, Failure> {
        let Some(context) = Self::read()? else { return Ok(None) };
        let path = Self::path()?;
        fs::remove_file(&path).map_err(|error| Failure::io("remove the context", &path, error))?;
        Ok(Some(context))
    }

    /// The control plane that flags, variables or the context name.
    pub(crate) fn find(args: &ServerArgs) -> Result<Self, Failure> {
        let stored = match (&args.server, &args.token) {
            (Some(_), Some(_)) => None,
            _ => Self::read()?,
        };
        let server = args.server.clone().or_else(|| stored.as_ref().map(|context| context.server.clone()));
        let Some(server) = server else {
            let text = "failed to find a control plane: there is no context (hint: start one with `skiff up`, or name one with --server and --token)";
            return Err(Failure::message(Exit::Unreachable, text));
        };
        let token = args.token.clone().or_else(|| stored.map(|context| context.token)).unwrap_or_default();
        Ok(Self { server, token })
    }

    pub(crate) fn client(&self) -> Result<Client, Failure> {
        Ok(Client::new(ClientOptions { server: self.server.clone(), token: self.token.clone() })?)
    }

    /// Whether `HOST[:PORT]` is this cluster's registry.
    pub(crate) fn is_own(&self, registry: &str) -> bool {
        self.server.ends_with(&format!("://{registry}"))
    }

    /// The cluster's registry: it is on the API's port.
    pub(crate) fn registry(&self) -> Result<skiff_registry::Client, Failure> {
        let options =
            skiff_registry::ClientOptions::new(self.server.trim_end_matches('/')).token(Some(self.token.clone()));
        Ok(skiff_registry::Client::new(options)?)
    }
}

/// A folder of the user by the XDG rules.
pub(crate) fn user_folder(variable: &str, below_home: &str) -> Result<PathBuf, Failure> {
    let absolute = |value: std::ffi::OsString| Some(PathBuf::from(value)).filter(|path| path.is_absolute());
    if let Some(folder) = env::var_os(variable).and_then(absolute) {
        return Ok(folder);
    }
    match env::var_os("HOME").and_then(absolute) {
        Some(home) => Ok(Path::new(&home).join(below_home)),
        None => {
            let text =
                format!("failed to find a folder for {below_home}: HOME is not set (hint: set HOME or {variable})");
            Err(Failure::message(Exit::NotFound, text))
        }
    }
}
