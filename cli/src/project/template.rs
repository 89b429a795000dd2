//! What `skiff new` writes: the repository's examples, which are tested, and the SDK beside them.
//!
//! The SDK is vendored: a project builds with the SDK that it was made with, without a registry that has it.

use std::fs;
use std::path::Path;

use clap::ValueEnum;
use skiff_api::Name;

use crate::exit::{Exit, Failure};

/// In which language a service is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Lang {
    Rust,
    /// JavaScript
    Js,
    /// TypeScript
    Ts,
}

/// What kind of service it starts as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Template {
    /// Answers a request
    Http,
    /// Several paths, with values that it keeps or bodies that it checks
    Api,
    /// Runs on its own, and answers nothing
    Worker,
}

/// A file of a template: where it goes, and what it says.
type File = (&'static str, &'static str);

macro_rules! files {
    ($base:literal: $($path:literal),+ $(,)?) => {
        &[$(($path, include_str!(concat!("../../../", $base, "/", $path)))),+]
    };
}

const RUST: &[File] =
    files!("examples/hello": ".cargo/config.toml", "Cargo.toml", "Cargo.lock", "skiff.yaml", "src/lib.rs");
const RUST_API: &[File] =
    files!("examples/shortener": ".cargo/config.toml", "Cargo.toml", "Cargo.lock", "skiff.yaml", "src/lib.rs");
const RUST_WORKER: &[File] =
    files!("examples/worker": ".cargo/config.toml", "Cargo.toml", "Cargo.lock", "skiff.yaml", "src/main.rs");
const JS_API: &[File] = files!("examples/api-hono": "package.json", "package-lock.json", "skiff.yaml", "index.js");
const JS: &[File] = files!("examples/hello-js": "package.json", "package-lock.json", "skiff.yaml", "index.js");
const TS: &[File] =
    files!("examples/hello-ts": "package.json", "package-lock.json", "skiff.yaml", "index.ts", "tsconfig.json");

const TS_API: &[File] =
    files!("examples/api-ts": "package.json", "package-lock.json", "skiff.yaml", "index.ts", "tsconfig.json");

const JS_WORKER: &[File] = files!("examples/worker-js": "package.json", "package-lock.json", "skiff.yaml", "index.js");
const TS_WORKER: &[File] =
    files!("examples/worker-ts": "package.json", "package-lock.json", "skiff.yaml", "index.ts", "tsconfig.json");

const RUST_SDK: &[File] = files!(
    "sdk/rust": "Cargo.toml", "macros/Cargo.toml", "macros/src/lib.rs", "src/body.rs", "src/client.rs", "src/config.rs",
    "src/error.rs",
    "src/export.rs", "src/json.rs", "src/keyvalue.rs", "src/lib.rs", "src/log.rs", "src/request.rs", "src/response.rs", "src/router.rs", "src/worker.rs",
    "../wit/skiff.wit", "../wit/deps/wasi-config-0.2.0-rc.1/package.wit", "../wit/deps/wasi-keyvalue-0.2.0-draft2/package.wit",
);
const JS_SDK: &[File] = files!(
    "sdk/js": "package.json", "index.js", "index.d.ts", "config.js", "config.d.ts", "keyvalue.js", "keyvalue.d.ts", "runtime/reader.js", "runtime/run.js", "runtime/serve.js", "build/bundle.mjs", "build/componentize.mjs", "build/dev.mjs",
    "build/entry.mjs", "build/error.mjs", "build/lines.mjs", "build/main.mjs", "build/types.mjs",
    "../wit/deps/wasi-config-0.2.0-rc.1/package.wit", "../wit/deps/wasi-keyvalue-0.2.0-draft2/package.wit",
);

const SDK_FOLDER: &str = "vendor/skiff-sdk";
/// In the repository the SDK is a workspace of its own; below a project it would be a second one, which cargo refuses.
const OWN_WORKSPACE: &str =
    "# Not a member of the repository's workspace: it is compiled for wasm32-wasip2 only.\n[workspace]\n\n";
const GITIGNORE: &str = "/target\n/node_modules\n/dist\n/.skiff\n";

impl Lang {
    /// The example it starts from.
    fn example(self, template: Template) -> (&'static str, &'static [File]) {
        match (self, template) {
            (Self::Rust, Template::Http) => ("hello", RUST),
            (Self::Rust, Template::Api) => ("shortener", RUST_API),
            (Self::Rust, Template::Worker) => ("worker", RUST_WORKER),
            (Self::Js, Template::Http) => ("hello-js", JS),
            (Self::Js, Template::Api) => ("api-hono", JS_API),
            (Self::Ts, Template::Http) => ("hello-ts", TS),
            (Self::Ts, Template::Api) => ("api-ts", TS_API),
            (Self::Js, Template::Worker) => ("worker-js", JS_WORKER),
            (Self::Ts, Template::Worker) => ("worker-ts", TS_WORKER),
        }
    }
}

/// Writes a new service into a folder that must not exist yet, or be empty.
pub(crate) fn write(folder: &Path, name: &Name, lang: Lang, template: Template) -> Result<(), Failure> {
    let (example, files) = lang.example(template);
    let is_taken = fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()) || folder.is_file();
    if is_taken {
        let text = format!(
            "failed to make {}: it is there already, and not empty (hint: choose another name)",
            folder.display()
        );
        return Err(Failure::message(Exit::Conflict, text));
    }
    if lang == Lang::Rust && name.as_str().starts_with(|first: char| first.is_ascii_digit()) {
        let text =
            format!("failed to make {name}: cargo takes no name that begins with a digit (hint: choose another name)");
        return Err(Failure::message(Exit::Invalid, text));
    }
    for (path, text) in files {
        write_file(folder, path, &renamed(path, text, example, name))?;
    }
    write_file(folder, ".gitignore", GITIGNORE)?;
    match lang {
        Lang::Rust => complete_rust(folder),
        Lang::Js | Lang::Ts => complete_js(folder),
    }
}

/// The example under its new name. In Rust's lock file packages are sorted by name, which cargo puts right by itself.
fn renamed(path: &str, text: &str, example: &str, name: &Name) -> String {
    let quoted = |text: &str| text.replace(&format!("\"{example}\""), &format!("\"{name}\""));
    match path {
        "Cargo.toml" => quoted(text).replace("../../sdk/rust", SDK_FOLDER).replace(
            "# On its own, so that this folder can be copied out of the repository (then with a version or a git address for the SDK).\n",
            "",
        ),
        "Cargo.lock" | "package.json" | "package-lock.json" => quoted(text),
        "skiff.yaml" => text
            .replace(&format!("name: {example}\n"), &format!("name: {name}\n"))
            .replace(&format!("image: {example}\n"), &format!("image: {name}\n"))
            .replace(&format!("config: [{example}]\n"), &format!("config: [{name}]\n"))
            .replace("[{path: /js}]", "[{path: /}]")
            .replace("[{path: /ts}]", "[{path: /}]"),
        _ => text.to_owned(),
    }
}

/// Puts the SDK where the project expects it, if it is not there.
pub(super) fn complete_rust(folder: &Path) -> Result<(), Failure> {
    complete(folder, "Cargo.toml", RUST_SDK)
}

pub(super) fn complete_js(folder: &Path) -> Result<(), Failure> {
    complete(folder, "package.json", JS_SDK)
}

fn complete(folder: &Path, project: &str, sdk: &[File]) -> Result<(), Failure> {
    let path = folder.join(project);
    let text = fs::read_to_string(&path).map_err(|error| Failure::io("read", &path, error))?;
    let vendored = folder.join(SDK_FOLDER);
    if !text.contains(SDK_FOLDER) || vendored.exists() {
        return Ok(());
    }
    sdk.iter().try_for_each(|(path, text)| write_file(&vendored, path, &text.replace(OWN_WORKSPACE, "")))
}

fn write_file(folder: &Path, path: &str, text: &str) -> Result<(), Failure> {
    let path = folder.join(path);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(|error| Failure::io("make", parent, error))?;
    }
    fs::write(&path, text).map_err(|error| Failure::io("write", &path, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(lang: Lang) -> tempfile::TempDir {
        made_from(lang, Template::Http)
    }

    fn made_from(lang: Lang, template: Template) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        write(&folder.path().join("shop"), &"shop".parse().unwrap(), lang, template).unwrap();
        folder
    }

    #[test]
    fn a_new_service_has_its_own_name_everywhere_and_its_sdk() {
        for (lang, project) in [(Lang::Rust, "Cargo.toml"), (Lang::Js, "package.json"), (Lang::Ts, "package.json")] {
            let folder = made(lang);
            let read = |name: &str| fs::read_to_string(folder.path().join("shop").join(name)).unwrap();
            let manifest = read("skiff.yaml");
            assert_eq!(manifest, "kind: Service\nname: shop\nimage: shop\nhttp:\n  routes: [{path: /}]\n", "{lang:?}");
            let text = read(project);
            assert!(text.contains("\"shop\"") && text.contains(SDK_FOLDER) && !text.contains("hello"), "{text}");
            let sdk = read(&format!("{SDK_FOLDER}/{project}"));
            assert!(sdk.contains("skiff-sdk") && !sdk.contains("[workspace]"), "{sdk}");
        }
    }

    #[test]
    fn every_file_of_the_sdks_is_vendored() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let folders = [
            ("sdk/rust", "src", RUST_SDK),
            ("sdk/rust", "macros/src", RUST_SDK),
            ("sdk/js", "build", JS_SDK),
            ("sdk/js", "runtime", JS_SDK),
            ("sdk/js", "../wit/deps/wasi-config-0.2.0-rc.1", JS_SDK),
            ("sdk/js", "../wit/deps/wasi-keyvalue-0.2.0-draft2", JS_SDK),
        ];
        for (sdk, folder, files) in folders {
            for entry in fs::read_dir(root.join(sdk).join(folder)).unwrap() {
                let path = format!("{folder}/{}", entry.unwrap().file_name().into_string().unwrap());
                assert!(files.iter().any(|(known, _)| *known == path), "{sdk}/{path} is not in the list");
            }
        }
    }

    #[test]
    fn a_folder_with_something_in_it_is_left_alone() {
        let folder = made(Lang::Js);
        let again =
            write(&folder.path().join("shop"), &"shop".parse().unwrap(), Lang::Rust, Template::Http).unwrap_err();
        assert!(again.to_string().contains("not empty"), "{again}");
        assert!(!folder.path().join("shop/Cargo.toml").exists());
    }

    #[test]
    fn a_name_that_cargo_refuses_makes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (path, name) = (folder.path().join("2nd"), "2nd".parse().unwrap());
        let refused = write(&path, &name, Lang::Rust, Template::Http).unwrap_err().to_string();
        assert!(refused.contains("begins with a digit") && !path.exists(), "{refused}");
        write(&path, &name, Lang::Js, Template::Http).unwrap();
    }

    #[test]
    fn other_templates_have_the_new_name_too() {
        for (lang, template, old) in [
            (Lang::Rust, Template::Api, "shortener"),
            (Lang::Rust, Template::Worker, "worker"),
            (Lang::Js, Template::Api, "api-hono"),
            (Lang::Ts, Template::Api, "api-ts"),
            (Lang::Js, Template::Worker, "worker-js"),
            (Lang::Ts, Template::Worker, "worker-ts"),
        ] {
            let folder = made_from(lang, template);
            let manifest = fs::read_to_string(folder.path().join("shop/skiff.yaml")).unwrap();
            let documents = skiff_api::manifest::read("skiff.yaml", &manifest).unwrap();
            assert!(documents.iter().all(|document| document.name.as_str() == "shop"), "{manifest}");
            assert!(manifest.contains("image: shop\n") && !manifest.contains(old), "{manifest}");
        }
    }
}
