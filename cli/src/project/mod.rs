//! A service's folder: in which language it is written, and how it becomes a component.
//!
//! The language's own tools do the work, and what they say goes to the terminal as it is: they know file and line. What is
//! missing of them is said before they are asked.

mod js;
mod rust;
mod template;

use std::path::{Path, PathBuf};

pub(crate) use js::Readable;
pub(crate) use template::{Lang, Template, write};

use crate::exit::{Exit, Failure};

/// The manifest beside the code.
pub(crate) const MANIFEST: &str = "skiff.yaml";

/// Folders in which tools and people's programs write: nothing in them is a source.
const NO_SOURCES: [&str; 5] = ["target", "node_modules", ".git", ".skiff", "dist"];

#[derive(Debug, Clone)]
pub(crate) struct Project {
    folder: PathBuf,
    language: Language,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Language {
    Rust,
    JavaScript,
}

impl Project {
    /// The project in a folder.
    pub(crate) fn find(folder: &Path) -> Result<Self, Failure> {
        let has = |name: &str| folder.join(name).is_file();
        let language = match (has("Cargo.toml"), has("package.json")) {
            (true, _) => Language::Rust,
            (false, true) => Language::JavaScript,
            (false, false) => {
                let text = format!(
                    "failed to find a service in {}: there is neither a Cargo.toml nor a package.json (hint: `skiff new NAME` makes one)",
                    folder.display()
                );
                return Err(Failure::message(Exit::NotFound, text));
            }
        };
        Ok(Self { folder: folder.to_path_buf(), language })
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn manifest(&self) -> PathBuf {
        self.folder.join(MANIFEST)
    }

    /// Makes the component, and returns its file.
    pub(crate) fn build(&self) -> Result<PathBuf, Failure> {
        match self.language {
            Language::Rust => rust::build(&self.folder),
            Language::JavaScript => js::build(&self.folder),
        }
    }

    /// Makes what an engine can read, where the language and the project's SDK have one that does: a moment's work, where a
    /// component takes seconds.
    pub(crate) fn readable(&self) -> Result<Option<Readable>, Failure> {
        match self.language {
            Language::Rust => Ok(None),
            Language::JavaScript => js::readable(&self.folder),
        }
    }

    /// The type check that [`Project::readable`] leaves out.
    pub(crate) fn types(&self) -> Result<std::process::Command, Failure> {
        js::types(&self.folder)
    }

    /// Whether a change of that file may change the service.
    pub(crate) fn is_source(&self, path: &Path) -> bool {
        let below = path.strip_prefix(&self.folder).unwrap_or(path);
        let mut parts = below.components().map(|part| part.as_os_str());
        let is_of_tools = parts.clone().any(|part| NO_SOURCES.iter().any(|name| part == *name));
        // Editors write beside a file what they are about to rename onto it.
        let is_hidden = parts
            .next_back()
            .and_then(|name| name.to_str())
            .is_none_or(|name| name.starts_with('.') || name.ends_with('~'));
        !is_of_tools && !is_hidden
    }
}

/// Runs a tool whose words go to the terminal. `missing` says how to get it.
fn run(tool: &mut std::process::Command, missing: &str) -> Result<(), Failure> {
    let name = tool.get_program().to_string_lossy().into_owned();
    let status = tool.status().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Failure::message(Exit::NotFound, format!("failed to find {name} {missing}")),
        _ => Failure::message(Exit::Internal, format!("failed to run {name}: {error}")),
    })?;
    match status.success() {
        true => Ok(()),
        false => {
            Err(Failure::message(Exit::Invalid, format!("failed to build the service: {name} ended with {status}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tools_write_is_no_source() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Project::find(folder.path()).is_err());
        std::fs::write(folder.path().join("package.json"), "{}").unwrap();
        let project = Project::find(folder.path()).unwrap();
        assert_eq!(project.language, Language::JavaScript);
        let is_source = |name: &str| project.is_source(&folder.path().join(name));
        for name in ["index.js", "src/deep/help.ts", "skiff.yaml", "package.json", "vendor/skiff-sdk/index.js"] {
            assert!(is_source(name), "{name}");
        }
        for name in [
            "node_modules/a/index.js",
            "dist/service.wasm",
            ".skiff/data/lock",
            "target/a",
            "src/.index.js.swp",
            "index.js~",
        ] {
            assert!(!is_source(name), "{name}");
        }
    }
}
