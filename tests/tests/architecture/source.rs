//! The repository's sources, found as the compiler finds them: from a crate's root along its `mod` lines.
//!
//! Following `mod` lines instead of listing folders tells code that is only compiled for tests (`#[cfg(test)] mod x;`)
//! from the rest, gives each file its module path, and shows files that belong to no crate.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use syn::punctuated::Punctuated;
use syn::{Attribute, Item, Meta, Token};

/// The workspace's crates by folder.
pub(super) const CRATES: [&str; 11] =
    ["api", "bench", "cli", "disk", "host", "keyvalue", "link", "registry", "scheduler", "tests", "xtask"];

/// A source file of a crate.
pub(super) struct File {
    /// Relative to the repository, with `/`.
    pub(super) path: String,
    /// From the crate's root, which is `crate`.
    pub(super) module: Vec<String>,
    /// Whether only tests compile it.
    pub(super) test: bool,
    pub(super) syntax: syn::File,
}

impl File {
    /// A file that was never on a disk, for the rules' own tests.
    pub(super) fn example(path: &str, text: &str) -> Self {
        let stem = path.split_once("/src/").map_or(path, |(_, rest)| rest);
        let stem = stem.trim_end_matches(".rs").trim_end_matches("/mod");
        let module = ["crate"].into_iter().chain(stem.split('/')).map(str::to_owned).collect();
        Self { path: path.to_owned(), module, test: false, syntax: syn::parse_file(text).unwrap() }
    }
}

/// The folder of the workspace.
pub(super) fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests).to_path_buf()
}

/// The files of a crate below its `src`, in the order of the `mod` lines.
pub(super) fn read_crate(root: &Path, dir: &str) -> Result<Vec<File>> {
    let mut files = Vec::new();
    for name in ["lib.rs", "main.rs"] {
        let path = root.join(dir).join("src").join(name);
        if path.is_file() {
            read_module(root, &path, vec!["crate".to_owned()], false, &mut files)?;
        }
    }
    if files.is_empty() {
        bail!("failed to find src/lib.rs or src/main.rs in {dir}");
    }
    Ok(files)
}

fn read_module(root: &Path, path: &Path, module: Vec<String>, test: bool, files: &mut Vec<File>) -> Result<()> {
    let text = fs::read_to_string(path).with_context(|| format!("failed to read {}", path.display()))?;
    let syntax = syn::parse_file(&text).with_context(|| format!("failed to parse {}", path.display()))?;
    let parent = path.parent().unwrap_or(root);
    let below = match path.file_name().and_then(|name| name.to_str()) {
        Some("lib.rs" | "main.rs" | "mod.rs") => parent.to_path_buf(),
        _ => path.with_extension(""),
    };
    for item in &syntax.items {
        let Item::Mod(child) = item else { continue };
        if child.content.is_some() {
            continue;
        }
        let name = child.ident.to_string();
        let candidates = [below.join(format!("{name}.rs")), below.join(&name).join("mod.rs")];
        let Some(file) = candidates.iter().find(|file| file.is_file()) else {
            bail!("failed to find module {name} of {}", path.display());
        };
        let mut module = module.clone();
        module.push(name);
        read_module(root, file, module, test || is_test_only(&child.attrs), files)?;
    }
    let path = relative(root, path);
    files.push(File { path, module, test, syntax });
    Ok(())
}

fn relative(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).to_string_lossy().replace('\\', "/")
}

/// Every `.rs` file below a folder of the repository, on disk; build output and hidden folders are left out.
pub(super) fn on_disk(root: &Path, dir: &str) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    let mut folders = vec![root.join(dir)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("failed to list {}", folder.display()))? {
            let path = entry.with_context(|| format!("failed to list {}", folder.display()))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() && name != "target" && name != "node_modules" && !name.starts_with('.') {
                folders.push(path);
            } else if name.ends_with(".rs") {
                found.insert(relative(root, &path));
            }
        }
    }
    Ok(found)
}

/// Whether attributes keep an item out of everything but tests.
pub(super) fn is_test_only(attrs: &[Attribute]) -> bool {
    attrs.iter().any(|attr| match &attr.meta {
        Meta::Path(path) => path.is_ident("test"),
        Meta::List(list) if list.path.is_ident("cfg") => {
            list.parse_args::<Meta>().is_ok_and(|condition| implies_test(&condition))
        }
        _ => false,
    })
}

fn implies_test(condition: &Meta) -> bool {
    match condition {
        Meta::Path(path) => path.is_ident("test"),
        Meta::List(list) => {
            let Ok(parts) = list.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated) else { return false };
            match list.path.get_ident().map(ToString::to_string).as_deref() {
                Some("all") => parts.iter().any(implies_test),
                Some("any") => !parts.is_empty() && parts.iter().all(implies_test),
                _ => false,
            }
        }
        Meta::NameValue(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test_only(attribute: &str) -> bool {
        let syntax = syn::parse_file(&format!("{attribute}\nmod x {{}}")).unwrap();
        let [Item::Mod(module)] = syntax.items.as_slice() else { panic!("not a module") };
        is_test_only(&module.attrs)
    }

    #[test]
    fn only_what_needs_cfg_test_is_test_only() {
        assert!(test_only("#[cfg(test)]"));
        assert!(test_only("#[cfg(all(unix, test))]"));
        assert!(!test_only("#[cfg(any(test, feature = \"sim\"))]"));
        assert!(!test_only("#[cfg(not(test))]"));
        assert!(!test_only("#[cfg(feature = \"test\")]"));
    }

    #[test]
    fn modules_are_followed_with_their_paths_and_kind() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = dir.path().join("a/src").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("lib.rs", "mod plan;\nmod gone {}\n");
        write("plan/mod.rs", "mod step;\n#[cfg(test)]\nmod testing;\n");
        write("plan/step.rs", "mod inner;");
        write("plan/step/inner.rs", "");
        write("plan/testing.rs", "");
        write("left/over.rs", "");
        let files = read_crate(dir.path(), "a").unwrap();
        let seen: Vec<_> = files.iter().map(|f| (f.path.as_str(), f.module.join("::"), f.test)).collect();
        let expected = [
            ("a/src/plan/step/inner.rs", "crate::plan::step::inner", false),
            ("a/src/plan/step.rs", "crate::plan::step", false),
            ("a/src/plan/testing.rs", "crate::plan::testing", true),
            ("a/src/plan/mod.rs", "crate::plan", false),
            ("a/src/lib.rs", "crate", false),
        ];
        assert_eq!(seen, expected.map(|(path, module, test)| (path, module.to_owned(), test)));
        assert!(on_disk(dir.path(), "a").unwrap().contains("a/src/left/over.rs"));
        write("plan/mod.rs", "mod missing;");
        assert!(read_crate(dir.path(), "a").is_err());
    }

    #[test]
    fn the_list_of_crates_is_the_workspaces() {
        let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
        let members = CRATES.map(|name| format!("{name:?}")).join(", ");
        assert!(manifest.contains(&format!("members = [{members}]")), "CRATES lags behind Cargo.toml");
    }
}
