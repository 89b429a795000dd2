//! Values that a container reads from files: `/run/secrets/KEY` and `/run/configs/KEY`, as docker's own services have them.
//!
//! They are in memory, in a folder of this node's that nobody else may look into, and mounted read-only. No disk ever has
//! them. A container keeps those that it was made with, and they go with it.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use bollard::models::{Mount, MountType};
use skiff_api::id::Uid;
use skiff_api::settings::Settings;

/// A file system in memory that every Linux has.
const MEMORY: &str = "/dev/shm";

const PLACES: [(Kind, &str); 2] = [(Kind::Secrets, "/run/secrets"), (Kind::Configs, "/run/configs")];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Secrets,
    Configs,
}

impl Kind {
    fn folder(self) -> &'static str {
        match self {
            Self::Secrets => "secrets",
            Self::Configs => "configs",
        }
    }

    /// What is not in the environment.
    fn values(self, settings: &Settings) -> Vec<(&str, &str)> {
        let is_file = |key: &str| !settings.env.contains(key);
        match self {
            Self::Secrets => {
                let secrets = settings.secrets.iter().filter(|(key, _)| is_file(key));
                secrets.map(|(key, value)| (key.as_str(), value.reveal())).collect()
            }
            Self::Configs => {
                let config = settings.config.iter().filter(|(key, _)| is_file(key));
                config.map(|(key, value)| (key.as_str(), value.as_str())).collect()
            }
        }
    }
}

/// Where the files of this node's containers are.
#[derive(Debug, Clone)]
pub(super) struct Files(PathBuf);

impl Files {
    pub(super) fn of(node: &Uid) -> Self {
        Self::within(Path::new(MEMORY), node)
    }

    fn within(memory: &Path, node: &Uid) -> Self {
        Self(memory.join(format!("skiff-{node}")))
    }

    /// What the engine is asked to mount for a container.
    pub(super) fn mounts(&self, container: &str, settings: Option<&Settings>) -> Vec<Mount> {
        let has_some = |kind: &Kind| settings.is_some_and(|settings| !kind.values(settings).is_empty());
        let mount = |(kind, inside): (Kind, &str)| Mount {
            typ: Some(MountType::BIND),
            source: Some(self.0.join(container).join(kind.folder()).to_string_lossy().into_owned()),
            target: Some(inside.to_owned()),
            read_only: Some(true),
            ..Mount::default()
        };
        PLACES.into_iter().filter(|(kind, _)| has_some(kind)).map(mount).collect()
    }

    /// Writes the files of a container that is yet to be made. Blocks for a moment.
    pub(super) fn write(&self, container: &str, settings: Option<&Settings>) -> io::Result<()> {
        let Some(settings) = settings else { return Ok(()) };
        for (kind, _) in PLACES {
            let values = kind.values(settings);
            if values.is_empty() {
                continue;
            }
            self.make()?;
            let folder = self.0.join(container).join(kind.folder());
            DirBuilder::new().recursive(true).mode(0o755).create(&folder)?;
            for (key, value) in values {
                if matches!(key, "." | "..") {
                    let why =
                        format!("{key:?} is the name of no file (hint: name it in envFrom, or call it otherwise)");
                    return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
                }
                let mut file = OpenOptions::new().write(true).create_new(true).mode(0o444).open(folder.join(key))?;
                file.write_all(value.as_bytes())?;
            }
        }
        Ok(())
    }

    /// The node's folder. One that somebody else has made is not used.
    fn make(&self) -> io::Result<()> {
        match DirBuilder::new().mode(0o700).create(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let found = fs::symlink_metadata(&self.0)?;
                let is_ours = found.is_dir() && found.uid() == rustix::process::geteuid().as_raw();
                match is_ours && found.permissions().mode() & 0o077 == 0 {
                    true => Ok(()),
                    false => Err(io::Error::other(format!("{} belongs to somebody else", self.0.display()))),
                }
            }
            made => made,
        }
    }

    /// Removes the files of a container. There may be none.
    pub(super) fn remove(&self, container: &str) {
        match fs::remove_dir_all(self.0.join(container)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(container, %error, "failed to remove a container's files");
            }
            _ => {}
        }
        // It stays as long as others have files.
        let _ = fs::remove_dir(&self.0);
    }

    /// Containers that have files.
    pub(super) fn all(&self) -> BTreeSet<String> {
        let entries = fs::read_dir(&self.0).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use skiff_api::resource::SecretText;

    use super::*;

    #[test]
    fn what_is_not_in_the_environment_is_in_files_that_go_again() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::within(folder.path(), &Uid::new("n"));
        let secret = |key: &str| (key.to_owned(), SecretText::new("s3cret"));
        let settings = Settings {
            config: BTreeMap::from([("region".to_owned(), "eu".to_owned())]),
            secrets: BTreeMap::from([secret("tls.key"), secret("IN_ENV")]),
            env: BTreeSet::from(["IN_ENV".to_owned()]),
            missing: Vec::new(),
        };
        assert!(files.mounts("c", None).is_empty() && files.write("c", None).is_ok());
        files.write("c", Some(&settings)).unwrap();
        let [secrets, configs] = &files.mounts("c", Some(&settings))[..] else { panic!("two") };
        let read =
            |mount: &Mount, key: &str| fs::read_to_string(Path::new(mount.source.as_ref().unwrap()).join(key)).ok();
        assert_eq!(read(secrets, "tls.key").as_deref(), Some("s3cret"));
        assert_eq!((read(secrets, "IN_ENV"), read(configs, "region").as_deref()), (None, Some("eu")));
        assert_eq!(secrets.target.as_deref(), Some("/run/secrets"));
        let root = folder.path().join("skiff-n");
        assert_eq!(fs::metadata(&root).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(files.all(), BTreeSet::from(["c".to_owned()]));
        assert!(files.write("c", Some(&settings)).is_err(), "they are made once");
        files.remove("c");
        assert!(!root.exists());
        // Somebody was here before.
        fs::create_dir(&root).unwrap();
        fs::set_permissions(&root, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(files.write("c", Some(&settings)).is_err());
    }
}
