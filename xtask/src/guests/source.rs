//! The guests of the repository: every folder with a `Cargo.toml` or a `package.json` in `examples` and `tests/guests`, named
//! by folder. An example of several services has a folder for each: `examples/shop/web` is `shop-web`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

const PARENTS: [&str; 2] = ["examples", "tests/guests"];

#[derive(Debug, PartialEq)]
pub(super) struct Source {
    pub(super) name: String,
    pub(super) dir: PathBuf,
    pub(super) language: Language,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Language {
    Rust,
    JavaScript,
}

impl Language {
    fn of(dir: &Path) -> Option<Self> {
        let files = [("Cargo.toml", Self::Rust), ("package.json", Self::JavaScript)];
        files.into_iter().find(|(file, _)| dir.join(file).is_file()).map(|(_, language)| language)
    }
}

/// All guests of the repository at `root`, by name.
pub(super) fn all(root: &Path) -> Result<Vec<Source>> {
    let mut found: Vec<Source> = Vec::new();
    for parent in PARENTS.map(|parent| root.join(parent)) {
        if !parent.exists() {
            continue;
        }
        for (name, dir) in folders(&parent)? {
            match Language::of(&dir) {
                Some(language) => add(&mut found, Source { name, dir, language })?,
                None => {
                    for (part, dir) in folders(&dir)? {
                        if let Some(language) = Language::of(&dir) {
                            add(&mut found, Source { name: format!("{name}-{part}"), dir, language })?;
                        }
                    }
                }
            }
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

fn add(found: &mut Vec<Source>, new: Source) -> Result<()> {
    if let Some(other) = found.iter().find(|other| other.name == new.name) {
        bail!("{} and {} would both build guest {}", other.dir.display(), new.dir.display(), new.name);
    }
    found.push(new);
    Ok(())
}

/// The folders in one, with their names.
fn folders(parent: &Path) -> Result<Vec<(String, PathBuf)>> {
    let failed = || format!("failed to list {}", parent.display());
    let mut folders = Vec::new();
    for entry in fs::read_dir(parent).with_context(failed)? {
        let dir = entry.with_context(failed)?.path();
        match dir.file_name().and_then(|name| name.to_str()) {
            Some(name) if dir.is_dir() => folders.push((name.to_owned(), dir)),
            _ => {}
        }
    }
    Ok(folders)
}

/// The named ones of `all`, or all when `names` is empty.
pub(super) fn select(mut all: Vec<Source>, names: &[&str]) -> Result<Vec<Source>> {
    if let Some(unknown) = names.iter().find(|name| all.iter().all(|source| source.name != **name)) {
        let known: Vec<&str> = all.iter().map(|source| source.name.as_str()).collect();
        bail!("failed to find guest {unknown} (hint: there are {})", known.join(", "));
    }
    all.retain(|source| names.is_empty() || names.contains(&source.name.as_str()));
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(sources: &[Source]) -> Vec<&str> {
        sources.iter().map(|source| source.name.as_str()).collect()
    }

    fn repository(crates: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for dir in crates {
            fs::create_dir_all(root.path().join(dir)).unwrap();
            fs::write(root.path().join(dir).join("Cargo.toml"), "").unwrap();
        }
        root
    }

    #[test]
    fn crates_of_both_folders_are_found_by_name() {
        let root = repository(&["tests/guests/probe", "examples/hello", "tests/other"]);
        fs::create_dir_all(root.path().join("examples/no-crate")).unwrap();
        fs::create_dir_all(root.path().join("examples/page")).unwrap();
        fs::write(root.path().join("examples/page/package.json"), "").unwrap();
        fs::create_dir_all(root.path().join("examples/shop/web")).unwrap();
        fs::write(root.path().join("examples/shop/web/package.json"), "").unwrap();
        let found = all(root.path()).unwrap();
        assert_eq!(names(&found), ["hello", "page", "probe", "shop-web"]);
        assert_eq!([found[0].language, found[1].language], [Language::Rust, Language::JavaScript]);
    }

    #[test]
    fn a_name_used_twice_is_refused() {
        let root = repository(&["tests/guests/hello", "examples/hello"]);
        assert!(all(root.path()).unwrap_err().to_string().contains("both build guest hello"));
    }

    #[test]
    fn selecting_an_unknown_guest_lists_the_known() {
        let root = repository(&["tests/guests/probe", "examples/hello"]);
        let sources = || all(root.path()).unwrap();
        assert_eq!(names(&select(sources(), &["probe"]).unwrap()), ["probe"]);
        assert_eq!(names(&select(sources(), &[]).unwrap()), ["hello", "probe"]);
        let error = select(sources(), &["helo"]).unwrap_err().to_string();
        assert_eq!(error, "failed to find guest helo (hint: there are hello, probe)");
    }
}
