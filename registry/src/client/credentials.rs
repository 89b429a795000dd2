//! Who a user is at a registry, as docker and podman remember it.
//!
//! The files are asked in podman's order, and the first that knows the registry is believed: `REGISTRY_AUTH_FILE`,
//! `containers/auth.json` in the runtime folder and in the configuration folder, docker's `config.json`. Their format is
//! one: `auths` by registry (podman also by a repository's first segments), helpers for single registries, and a helper
//! for the rest. A helper is a program that may ask a key chain; one that hangs is not waited for.

use std::collections::BTreeMap;
use std::env;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use serde::Deserialize;
use skiff_disk::Disk;
use tokio::io::AsyncWriteExt as _;

/// A user has a few logins, each of some hundred bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A key chain may ask its user for a password; nobody waits longer.
const HELPER_TIMEOUT: Duration = Duration::from_secs(30);

/// What a token's user is called. The cluster's registry does not look at it.
const TOKEN_USER: &str = "token";

/// How docker's own registry is called in these files, and elsewhere.
const DOCKER_KEY: &str = "https://index.docker.io/v1/";
const DOCKER_NAMES: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];

/// What somebody shows to a registry.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    Password {
        user: String,
        password: String,
    },
    /// Buys tokens.
    Identity(String),
    /// Is the token.
    Bearer(String),
}

/// Why a login that is there cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    #[error("failed to read the logins in {} (hint: docker and podman write this file; log in again)", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the login for {registry} in {} is not valid: {why} (hint: log in again)", path.display())]
    Entry { path: PathBuf, registry: String, why: String },
    #[error("failed to get the login for {registry} from {helper}: {why} (hint: run `{helper} list`)")]
    Helper { registry: String, helper: String, why: String },
}

/// Where logins are kept.
#[derive(Debug, Clone)]
pub struct Logins {
    files: Vec<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
    #[serde(default)]
    cred_helpers: BTreeMap<String, String>,
    creds_store: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

/// What a helper says.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Helped {
    username: String,
    secret: String,
}

impl Credential {
    /// The cluster's token.
    pub fn token(token: String) -> Self {
        Self::Password { user: TOKEN_USER.to_owned(), password: token }
    }
}

/// Says that there is one, never which.
impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Password { .. } => "Password",
            Self::Identity(_) => "Identity",
            Self::Bearer(_) => "Bearer",
        })
    }
}

impl Logins {
    /// Those of this process's user.
    pub fn of_user() -> Self {
        let absolute = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let home = absolute("HOME");
        let config = absolute("XDG_CONFIG_HOME").or(home.as_ref().map(|home| home.join(".config")));
        let files = [
            absolute("REGISTRY_AUTH_FILE"),
            absolute("XDG_RUNTIME_DIR").map(|folder| folder.join("containers/auth.json")),
            config.map(|folder| folder.join("containers/auth.json")),
            Self::docker_file(),
        ];
        Self { files: files.into_iter().flatten().collect() }
    }

    /// Docker's file, if its place is known.
    pub fn docker_file() -> Option<PathBuf> {
        let folder = env::var_os("DOCKER_CONFIG").map(PathBuf::from);
        let home = || env::var_os("HOME").map(|home| Path::new(&home).join(".docker"));
        folder.or_else(home).map(|folder| folder.join("config.json"))
    }

    /// These files alone, the first that knows a registry being believed.
    pub fn in_files(files: Vec<PathBuf>) -> Self {
        Self { files }
    }

    /// The login for a repository of a registry, if there is one.
    pub async fn find(&self, registry: &str, repository: &str) -> Result<Option<Credential>, CredentialError> {
        for path in &self.files {
            let Some(file) = read(path).await? else { continue };
            if let Some(found) = file.find(path, registry, repository).await? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

async fn read(path: &Path) -> Result<Option<File>, CredentialError> {
    let failed = |source| CredentialError::Read { path: path.to_owned(), source };
    let owned = path.to_owned();
    let read = tokio::task::spawn_blocking(move || Disk::real().read(owned, FILE_BYTES_MAX)).await;
    match read.unwrap_or_else(|error| Err(io::Error::other(error))) {
        Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|error| failed(error.into())),
        Err(error) if [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory].contains(&error.kind()) => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

impl File {
    async fn find(&self, path: &Path, registry: &str, repository: &str) -> Result<Option<Credential>, CredentialError> {
        // What a helper knows a registry by.
        let server = docker_key(registry);
        if let Some(helper) = self.cred_helpers.get(registry).or(self.cred_helpers.get(server)) {
            return ask(helper, server).await;
        }
        let invalid =
            |why: String| CredentialError::Entry { path: path.to_owned(), registry: registry.to_owned(), why };
        if let Some(entry) = self.entry(registry, repository)
            && let Some(found) = entry.credential().map_err(invalid)?
        {
            return Ok(Some(found));
        }
        match &self.creds_store {
            Some(helper) => ask(helper, server).await,
            None => Ok(None),
        }
    }

    /// The closest entry: of the repository, of what is above it, of the registry.
    fn entry(&self, registry: &str, repository: &str) -> Option<&Entry> {
        let mut name = format!("{registry}/{repository}");
        loop {
            if let Some(entry) = self.auths.get(&name) {
                return Some(entry);
            }
            match name.rfind('/') {
                Some(at) => name.truncate(at),
                None => break,
            }
        }
        // Docker wrote addresses where it now writes names.
        let is_docker = DOCKER_NAMES.contains(&registry);
        let host = |key: &str| {
            let bare = key.strip_prefix("https://").or(key.strip_prefix("http://"))?;
            Some(bare.split('/').next().unwrap_or(bare).to_owned())
        };
        let fits = |key: &str| {
            host(key).is_some_and(|host| host == registry || is_docker && DOCKER_NAMES.contains(&host.as_str()))
                || is_docker && DOCKER_NAMES.contains(&key)
        };
        self.auths.iter().find(|(key, _)| fits(key)).map(|(_, entry)| entry)
    }
}

impl Entry {
    /// Nothing, where a helper has it.
    fn credential(&self) -> Result<Option<Credential>, String> {
        let some = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        if let Some(token) = some(&self.identitytoken) {
            return Ok(Some(Credential::Identity(token)));
        }
        if let Some(token) = some(&self.registrytoken) {
            return Ok(Some(Credential::Bearer(token)));
        }
        if let Some(auth) = some(&self.auth) {
            let lenient = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
            let engine = GeneralPurpose::new(&base64::alphabet::STANDARD, lenient);
            let bytes = engine.decode(auth.trim()).map_err(|_| "it is not base64".to_owned())?;
            let text = String::from_utf8(bytes).map_err(|_| "it is not text".to_owned())?;
            let (user, password) = text.split_once(':').ok_or("it has no colon between user and password")?;
            let password = password.trim_end_matches('\0').to_owned();
            return Ok(Some(Credential::Password { user: user.to_owned(), password }));
        }
        match (some(&self.username), some(&self.password)) {
            (Some(user), Some(password)) => Ok(Some(Credential::Password { user, password })),
            _ => Ok(None),
        }
    }
}

/// What docker's file calls a registry.
pub fn docker_key(registry: &str) -> &str {
    if DOCKER_NAMES.contains(&registry) { DOCKER_KEY } else { registry }
}

/// A login as docker's file has it.
pub fn encoded(user: &str, password: &str) -> String {
    STANDARD.encode(format!("{user}:{password}"))
}

/// The program of a helper that docker's file names for a registry.
pub fn helper_program(helper: &str, registry: &str) -> Result<String, CredentialError> {
    let program = format!("docker-credential-{helper}");
    match helper.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)) {
        true => Ok(program),
        false => {
            let why = "this is not the name of a program".to_owned();
            Err(CredentialError::Helper { registry: registry.to_owned(), helper: program, why })
        }
    }
}

/// Asks a helper. One that does not know the registry is no error.
async fn ask(helper: &str, server: &str) -> Result<Option<Credential>, CredentialError> {
    ask_program(Path::new(&helper_program(helper, server)?), server).await
}

async fn ask_program(program: &Path, server: &str) -> Result<Option<Credential>, CredentialError> {
    let helper = || program.display().to_string();
    let failed = |why: String| CredentialError::Helper { registry: server.to_owned(), helper: helper(), why };
    let asked = async {
        let mut child = tokio::process::Command::new(program)
            .arg("get")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // It may answer without having read.
            drop(stdin.write_all(server.as_bytes()).await);
        }
        child.wait_with_output().await
    };
    let output = match tokio::time::timeout(HELPER_TIMEOUT, asked).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => return Err(failed(error.to_string())),
        Err(_) => return Err(failed(format!("it said nothing for {HELPER_TIMEOUT:?}"))),
    };
    if !output.status.success() {
        // Helpers say why on either.
        let said = [output.stdout, output.stderr].concat();
        let said: String = String::from_utf8_lossy(&said).trim().chars().take(200).collect();
        return if said.contains("not found") { Ok(None) } else { Err(failed(said)) };
    }
    let helped: Helped = serde_json::from_slice(&output.stdout).map_err(|error| failed(error.to_string()))?;
    Ok(Some(match helped.username.as_str() {
        "<token>" => Credential::Identity(helped.secret),
        _ => Credential::Password { user: helped.username, password: helped.secret },
    }))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn password(user: &str, password: &str) -> Option<Credential> {
        Some(Credential::Password { user: user.into(), password: password.into() })
    }

    /// Logins in one file with this text.
    fn logins(folder: &Path, text: &str) -> Logins {
        let path = folder.join("config.json");
        std::fs::write(&path, text).unwrap();
        Logins::in_files(vec![folder.join("missing.json"), path])
    }

    #[tokio::test]
    async fn finds_the_closest_entry() {
        let folder = tempfile::tempdir().unwrap();
        let auth = |user: &str| format!(r#"{{"auth":"{}"}}"#, encoded(user, "p:w"));
        let text = format!(
            r#"{{"auths":{{"ghcr.io":{},"ghcr.io/shop":{},"ghcr.io/shop/cart":{},"https://index.docker.io/v1/":{},
                "quay.io":{{"identitytoken":"it"}},"https://old.example/v2/":{{"username":"u","password":"p"}},"empty.example":{{}}}}}}"#,
            auth("registry"),
            auth("shop"),
            auth("cart"),
            auth("hub")
        );
        let logins = logins(folder.path(), &text);
        let find = async |registry, repository| logins.find(registry, repository).await.unwrap();
        assert_eq!(find("ghcr.io", "shop/cart").await, password("cart", "p:w"));
        assert_eq!(find("ghcr.io", "shop/web").await, password("shop", "p:w"));
        assert_eq!(find("ghcr.io", "shopping/web").await, password("registry", "p:w"));
        for name in DOCKER_NAMES {
            assert_eq!(find(name, "library/cart").await, password("hub", "p:w"), "{name}");
        }
        assert_eq!(find("quay.io", "a").await, Some(Credential::Identity("it".into())));
        assert_eq!(find("old.example", "a").await, password("u", "p"));
        assert_eq!(find("empty.example", "a").await, None);
        assert_eq!(find("other.example", "a").await, None);
    }

    #[tokio::test]
    async fn a_damaged_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = logins(folder.path(), "{").find("a.b", "c").await.unwrap_err().to_string();
        assert!(error.contains("config.json"), "{error}");
        for auth in ["%%%", "dXNlcg==", "/w=="] {
            let text = format!(r#"{{"auths":{{"a.b":{{"auth":"{auth}"}}}}}}"#);
            let error = logins(folder.path(), &text).find("a.b", "c").await.unwrap_err().to_string();
            assert!(error.starts_with("the login for a.b in ") && error.contains("log in again"), "{error}");
        }
        let error = logins(folder.path(), r#"{"credsStore":"../evil"}"#).find("a.b", "c").await.unwrap_err();
        assert!(error.to_string().contains("not the name of a program"), "{error}");
    }

    #[tokio::test]
    async fn asks_helpers() {
        let folder = tempfile::tempdir().unwrap();
        // Found by its full name: the path of a process is shared by all of its tests.
        let script = "#!/bin/sh\nread server\ncase \"$server\" in known.example) echo '{\"Username\":\"u\",\"Secret\":\"s\"}';;\n\
            token.example) echo '{\"Username\":\"<token>\",\"Secret\":\"s\"}';;\n\
            *) echo 'credentials not found in native keychain'; exit 1;; esac\n";
        let program = folder.path().join("docker-credential-test");
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let name = "skiff-test-that-nobody-has";
        let error = ask(name, "known.example").await.unwrap_err().to_string();
        assert!(error.contains("docker-credential-skiff-test-that-nobody-has"), "{error}");
        let asked = async |server: &str| ask_program(&program, server).await.unwrap();
        assert_eq!(asked("known.example").await, password("u", "s"));
        assert_eq!(asked("token.example").await, Some(Credential::Identity("s".into())));
        assert_eq!(asked("unknown.example").await, None);
    }
}
