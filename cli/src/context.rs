//! The admin context: which control plane the verbs talk to, and the token for it.
//!
//! `skiff up` and `skiff server` write it; it is one JSON file that only its owner can read. Flags and variables win over
//! it. A control plane with TLS vouches for itself with a CA of its own: the context holds that CA, and nothing else is
//! believed. Which name or address leads there does not matter then: only the control plane has such a certificate.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

use jiff::Timestamp;
use rustls::ClientConfig;
use serde::{Deserialize, Serialize};
use skiff_api::client::{Client, ClientOptions};
use skiff_disk::{Disk, write_atomic};
use skiff_link::Clock;
use skiff_link::tls::{self, Expect, Trust};

use crate::args::ServerArgs;
use crate::exit::{Exit, Failure};

/// A few certificates.
const CA_BYTES_MAX: u64 = 1 << 20;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Context {
    /// `https://HOST:PORT`, or `http://HOST:PORT` within a machine.
    pub server: String,
    pub token: String,
    /// The cluster's CA, PEM. None where there is no TLS, or where the machine's own authorities vouch for the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
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
        Self::read_at(&Self::path()?)
    }

    fn read_at(path: &Path) -> Result<Option<Self>, Failure> {
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Failure::io("read the context", path, error)),
        };
        serde_json::from_slice(&text).map(Some).map_err(|error| {
            let path = path.display();
            let text =
                format!("failed to read the context {path}: {error} (hint: delete it, and start `skiff up` again)");
            Failure::message(Exit::Invalid, text)
        })
    }

    /// The context that another process has written to a file of its own.
    pub(crate) fn of_file(path: &Path) -> Result<Self, Failure> {
        Self::read_at(path)?.ok_or_else(|| {
            Failure::message(Exit::NotFound, format!("failed to read the context {}: there is none", path.display()))
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
        // Another server with the stored token can only be another way to the same cluster: its CA is believed there too.
        let ca = match &args.ca {
            Some(file) => Some(read_ca(file)?),
            None => stored.as_ref().and_then(|context| context.ca.clone()),
        };
        let token = args.token.clone().or_else(|| stored.map(|context| context.token)).unwrap_or_default();
        Ok(Self { server, token, ca })
    }

    pub(crate) fn client(&self) -> Result<Client, Failure> {
        Ok(Client::new(ClientOptions::new(&self.server, &self.token).tls(self.tls()?))?)
    }

    /// Whom to believe that it is the control plane.
    fn tls(&self) -> Result<Option<ClientConfig>, Failure> {
        let Some(ca) = self.ca.as_ref().filter(|_| self.server.starts_with("https://")) else { return Ok(None) };
        let (trust, clock) = (Trust::Ca(ca.clone()), Clock::new(Timestamp::UNIX_EPOCH));
        let config = tls::client(&trust, Expect::ControlPlane, None, &[tls::ALPN_H2, tls::ALPN_H1], &clock);
        config.map(Some).map_err(|error| {
            let hint = "(hint: name the cluster's own with --ca FILE, or let `skiff server` write the context)";
            Failure::message(Exit::Invalid, format!("failed to use the cluster's CA: {error} {hint}"))
        })
    }

    /// Whether `HOST[:PORT]` is this cluster's registry.
    pub(crate) fn is_own(&self, registry: &str) -> bool {
        self.server.ends_with(&format!("://{registry}"))
    }

    /// The cluster's registry: it is on the API's port.
    pub(crate) fn registry(&self) -> Result<skiff_registry::Client, Failure> {
        let options = skiff_registry::ClientOptions::new(self.server.trim_end_matches('/'));
        let options = options.token(Some(self.token.clone())).tls(self.tls()?);
        Ok(skiff_registry::Client::new(options)?)
    }

    /// Puts the CA beside the context, where other programs can read it, and answers where that is.
    pub(crate) fn write_ca(&self) -> Result<Option<PathBuf>, Failure> {
        let Some(ca) = &self.ca else { return Ok(None) };
        let path = Self::path()?.with_extension("ca.pem");
        let written = write_atomic(&Disk::real(), &path, ca.as_bytes());
        written.map_err(|error| Failure::io("write the CA", &path, error))?;
        Ok(Some(path))
    }
}

/// A CA that a flag names.
fn read_ca(path: &Path) -> Result<String, Failure> {
    let bytes = Disk::real().read(path, CA_BYTES_MAX).map_err(|error| Failure::io("read the CA", path, error))?;
    String::from_utf8(bytes).map_err(|_| {
        let text = format!("failed to read the CA {}: it is not PEM (hint: it begins with -----BEGIN)", path.display());
        Failure::message(Exit::Invalid, text)
    })
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
