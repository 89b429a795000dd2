//! Logins in docker's file, where docker, podman, skopeo and Skiff find them.
//!
//! What is not ours in the file stays as it is. Where docker keeps its logins with a helper, so do we.

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Map, Value, json};
use skiff_disk::{Disk, write_atomic};
use skiff_registry::client::{Error, Logins, docker_key, encoded, helper_program};

use crate::exit::{Exit, Failure};

/// A user has a few logins, each of some hundred bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Docker's file of logins.
pub(crate) struct DockerLogins {
    path: PathBuf,
    content: Map<String, Value>,
}

impl DockerLogins {
    pub(crate) fn open() -> Result<Self, Failure> {
        let Some(path) = Logins::docker_file() else {
            let text = "failed to find docker's logins: HOME is not set (hint: set HOME or DOCKER_CONFIG)";
            return Err(Failure::message(Exit::NotFound, text));
        };
        let content = match Disk::real().read(&path, FILE_BYTES_MAX) {
            Ok(text) => serde_json::from_slice(&text).map_err(|error| {
                let text = format!("failed to read docker's logins in {}: {error} (hint: mend it)", path.display());
                Failure::message(Exit::Invalid, text)
            })?,
            Err(error) if error.kind() == ErrorKind::NotFound => Map::new(),
            Err(error) => return Err(Failure::io("read docker's logins in", &path, error)),
        };
        Ok(Self { path, content })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Remembers a login.
    pub(crate) fn store(mut self, registry: &str, user: &str, password: &str) -> Result<(), Failure> {
        let key = docker_key(registry);
        if let Some(helper) = self.helper(registry)? {
            let login = json!({"ServerURL": key, "Username": user, "Secret": password});
            return ask(&helper, "store", &login.to_string());
        }
        let auths = self.content.entry("auths").or_insert_with(|| json!({}));
        let Some(auths) = auths.as_object_mut() else {
            let text = format!("failed to read docker's logins in {}: auths is no object", self.path.display());
            return Err(Failure::message(Exit::Invalid, text));
        };
        auths.insert(key.to_owned(), json!({"auth": encoded(user, password)}));
        self.write()
    }

    /// Forgets a login. `false`: there was none.
    pub(crate) fn remove(mut self, registry: &str) -> Result<bool, Failure> {
        let key = docker_key(registry);
        if let Some(helper) = self.helper(registry)? {
            ask(&helper, "erase", key)?;
        }
        let auths = self.content.get_mut("auths").and_then(Value::as_object_mut);
        // By position it would be another's.
        let removed = auths.and_then(|auths| auths.shift_remove(key)).is_some();
        if removed {
            self.write()?;
        }
        Ok(removed)
    }

    /// What is kept by a helper must not end in the file because the helper's name is wrong.
    fn helper(&self, registry: &str) -> Result<Option<String>, Failure> {
        let named = self.content.get("credHelpers").and_then(|helpers| helpers.get(registry));
        let helper = named.or(self.content.get("credsStore")).and_then(Value::as_str).filter(|name| !name.is_empty());
        Ok(helper.map(|helper| helper_program(helper, registry)).transpose().map_err(Error::from)?)
    }

    fn write(&self) -> Result<(), Failure> {
        let disk = Disk::real();
        let text = serde_json::to_vec_pretty(&self.content).map_err(|error| Failure::new(Exit::Internal, error))?;
        let folder = self.path.parent().map_or(Ok(()), |folder| disk.create_dir_all(folder));
        folder
            .and_then(|()| write_atomic(&disk, &self.path, &text))
            .map_err(|error| Failure::io("write docker's logins to", &self.path, error))
    }
}

fn ask(helper: &str, verb: &str, input: &str) -> Result<(), Failure> {
    let failed = |why: String| {
        Failure::message(
            Exit::Invalid,
            format!(
                "failed to {verb} the login with {helper}: {why} (hint: docker's config.json names this helper; is it installed?)"
            ),
        )
    };
    let mut child = Command::new(helper)
        .arg(verb)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).map_err(|error| failed(error.to_string()))?;
    }
    let output = child.wait_with_output().map_err(|error| failed(error.to_string()))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(failed(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).trim().to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_helper_whose_name_is_wrong_keeps_a_login_out_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        for name in ["../evil", "a b"] {
            let content = serde_json::from_value(json!({"credsStore": name})).unwrap();
            let logins = DockerLogins { path: path.clone(), content };
            assert!(logins.store("a.example", "user", "password").is_err(), "{name}");
            assert!(!path.exists());
        }
    }
}
