//! Fuzz targets: each reads bytes as a stranger could send them, and checks what must hold whatever they are.
//!
//! A target is a plain function, so that it runs in two ways: under libFuzzer (`fuzz_targets/`, one binary each, feature
//! `libfuzzer`), which looks for new inputs, and in the whole-system tests under the stable toolchain, which repeat the
//! seeds in `corpus/` and a fixed series of changes to them.

pub mod digest;
pub mod frame;
pub mod image;
pub mod key;
pub mod manifest;
pub mod registry_path;
pub mod signature;

/// Checks one input. It panics on a finding, and has nothing else to say.
pub type Target = fn(&[u8]);

/// Every target, by the name of its binary and of its folder of seeds.
pub const TARGETS: [(&str, Target); 7] = [
    ("digest", digest::check),
    ("frame", frame::check),
    ("image", image::check),
    ("key", key::check),
    ("manifest", manifest::check),
    ("registry_path", registry_path::check),
    ("signature", signature::check),
];
