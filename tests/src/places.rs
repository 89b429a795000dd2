//! Where the binary and the guests are.
//!
//! Both are made before the tests run, by `cargo build -p skiff` and `cargo xtask guests`: a test that built them would
//! wait for cargo's lock, which its own runner may hold.

use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};

/// The `skiff` binary: `SKIFF_BIN`, or the one built with the same profile into the same target folder as this test.
///
/// # Panics
/// When there is none, with the command that builds it.
pub fn skiff_binary() -> PathBuf {
    let path = match env::var_os("SKIFF_BIN") {
        Some(path) => PathBuf::from(path),
        None => profile_folder().join("skiff"),
    };
    assert!(
        path.is_file(),
        "there is no {} (hint: run `cargo build -p skiff` first, or set SKIFF_BIN)",
        path.display()
    );
    path
}

/// A compiled guest, such as `hello`, in `SKIFF_GUESTS` or the target folder's `guests`.
///
/// # Panics
/// When there is none, with the command that builds it.
pub fn guest(name: &str) -> PathBuf {
    let file = format!("{name}.wasm");
    let folders = match env::var_os("SKIFF_GUESTS") {
        Some(folder) => vec![PathBuf::from(folder)],
        None => vec![
            profile_folder().with_file_name("guests"),
            Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("target").join("guests"),
        ],
    };
    match folders.iter().map(|folder| folder.join(&file)).find(|path| path.is_file()) {
        Some(path) => path,
        None => panic!("there is no {file} in {folders:?} (hint: run `cargo xtask guests` first, or set SKIFF_GUESTS)"),
    }
}

/// The variables with which cargo compiles guests here, from `SKIFF_GUEST_ENV`: `cargo xtask test` sets it. None where the
/// installed toolchain needs none.
///
/// # Panics
/// When it is not a JSON object of texts.
pub fn guest_env() -> BTreeMap<String, String> {
    let text = env::var("SKIFF_GUEST_ENV").unwrap_or_else(|_| "{}".to_owned());
    serde_json::from_str(&text).expect("SKIFF_GUEST_ENV is a JSON object of texts")
}

/// `TARGET/PROFILE`: cargo puts test programs into its `deps`.
/// Where cargo builds.
pub fn target_folder() -> PathBuf {
    let profile = profile_folder();
    profile.parent().map_or(profile.clone(), Path::to_path_buf)
}

fn profile_folder() -> PathBuf {
    let program = env::current_exe().expect("the system tells which program this is");
    let folder = program.parent().expect("a program is in a folder");
    if folder.ends_with("deps") { folder.parent().unwrap_or(folder).to_path_buf() } else { folder.to_path_buf() }
}
