//! Where an image keeps its component: decided from the manifest alone, whoever wrote it.
//!
//! | what pushed it | what is in the manifest |
//! |---|---|
//! | `skiff push`, wkg, `wash` 0.30 and later | config `application/vnd.wasm.config.v0+json`, one layer `application/wasm` |
//! | spin, wasm-to-oci | layers `application/vnd.wasm.content.layer.v1+wasm`, a spin application's files beside them |
//! | runwasi's `oci-tar-builder` | `application/vnd.bytecodealliance.wasm.component.layer.v0+wasm` |
//! | wasmCloud before, Istio | `application/vnd.module.wasm.content.layer.v1+wasm` |
//! | oras, without a type | layers that are called tar and are files, with their names in annotations |
//! | docker, podman, buildah | layers of a file system; the image's config says which file is run |
//!
//! A type only chooses the layer: what the layer is, its first bytes say ([`super::search`]). Tools name types
//! wrongly; oras calls every file a tar. What is chosen is either certain or refused: there is no first of several.

use crate::manifest::{Descriptor, Manifest, media};

/// Where tools put a file's name.
const TITLE: &str = "org.opencontainers.image.title";

/// How buildkit marks a manifest that describes another one.
const ATTESTATION: &str = "vnd.docker.reference.type";

/// The systems that an index may have a component for, the best first.
const SYSTEMS: [&str; 3] = ["wasip2", "wasip1", "wasi"];

/// How many indexes may lead to one another. Docker and podman write one.
pub const INDEX_DEPTH_MAX: usize = 3;

/// More layers than docker lets an image have.
const LAYERS_MAX: usize = 128;

/// How many things a message lists, and how much of each: they are quoted from a stranger's manifest.
const LISTED_MAX: usize = 5;
const QUOTE_CHARS_MAX: usize = 80;

/// Where to look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// It is an index: in the manifest that this entry names.
    Child(Descriptor),
    /// It is an index of native images, one for each platform: in none of them is a component.
    Platforms(Vec<Descriptor>),
    /// In these layers, the lowest first. Where there is a config, it is that of a file system.
    Layers { config: Option<Descriptor>, layers: Vec<Descriptor> },
}

/// Why an image is of no use here: what it is instead, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{found} (hint: {hint})")]
pub struct Unfit {
    pub found: String,
    pub hint: &'static str,
}

impl Unfit {
    /// Where there is no end of indexes.
    pub fn endless() -> Self {
        Self::new(format!("it is more than {INDEX_DEPTH_MAX} indexes, one in another"), PUSH)
    }

    /// Where an index of native images has another index in it.
    pub fn nested() -> Self {
        Self::new("it is an index of indexes of native images", "push an index of images")
    }

    /// Where a component is looked for, and there are native images for these platforms.
    pub fn native(images: &[Descriptor]) -> Self {
        let found = format!("it is an index for {}", listed(images.iter().map(platform)));
        Self::new(found, "build it for the platform wasi/wasm, or push the .wasm file with `skiff push`")
    }

    /// Where none of these images is for this machine.
    pub fn other_platforms(images: &[Descriptor], architecture: &str) -> Self {
        let found =
            format!("it is an index for {}, and not for linux/{architecture}", listed(images.iter().map(platform)));
        Self::new(found, "build it for that platform as well, or place it by the label arch")
    }

    pub(super) fn new(found: impl Into<String>, hint: &'static str) -> Self {
        Self { found: found.into(), hint }
    }
}

const PUSH: &str = "an image for Skiff holds one .wasm file; `skiff push NAME FILE.wasm` makes one";
const ONE_EACH: &str = "push each component as an image of its own";

/// Chooses. `media_type` is what the registry calls the manifest, or nothing where it is not known.
pub fn select(manifest: &Manifest, media_type: &str) -> Result<Selection, Unfit> {
    if manifest.schema_version == 1 {
        return Err(Unfit::new(
            "its manifest is of Docker's schema 1, which ended in 2017",
            "push it again with a current tool",
        ));
    }
    // One text that is two things to two readers is how signatures are got around (CVE-2021-41190).
    let is_index = manifest.manifests.is_some();
    let says_index = [media::OCI_INDEX, media::DOCKER_LIST].contains(&media_type);
    let says_image = [media::OCI_MANIFEST, media::DOCKER_MANIFEST].contains(&media_type);
    if is_index && (manifest.layers.is_some() || says_image) || !is_index && says_index {
        return Err(Unfit::new(
            "its manifest is an index and an image at once",
            "whoever pushed it wanted it to be mistaken",
        ));
    }
    match is_index {
        true => child(manifest),
        false => layers(manifest),
    }
}

/// The entry that is for WebAssembly: the newest system interface first. Else the only image that there is: built
/// without naming a platform, it says that it is for the builder's own. Else those of all platforms.
fn child(index: &Manifest) -> Result<Selection, Unfit> {
    let rank = |entry: &Descriptor| {
        let platform = entry.platform.as_ref()?;
        let is_wasm = ["wasm", "wasm32"].contains(&platform.architecture.as_str());
        let system = SYSTEMS.iter().position(|os| *os == platform.os).unwrap_or(SYSTEMS.len());
        is_wasm.then_some(system)
    };
    let wasm = index.children().filter_map(|entry| Some((rank(entry)?, entry))).min_by_key(|(rank, _)| *rank);
    if let Some((_, entry)) = wasm {
        return Ok(Selection::Child(entry.clone()));
    }
    let images: Vec<&Descriptor> = index.children().filter(|entry| !is_attestation(entry)).collect();
    match images.as_slice() {
        [only] => Ok(Selection::Child((*only).clone())),
        [] => Err(Unfit::new("it is an index of nothing", PUSH)),
        several => Ok(Selection::Platforms(several.iter().map(|entry| (*entry).clone()).collect())),
    }
}

/// The image that is for Linux on this kind of machine, as Rust calls it.
pub fn for_machine<'a>(images: &'a [Descriptor], machine: &str) -> Result<&'a Descriptor, Unfit> {
    let architecture = match machine {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let is_it = |entry: &&Descriptor| {
        entry.platform.as_ref().is_some_and(|platform| platform.os == "linux" && platform.architecture == architecture)
    };
    images.iter().find(is_it).ok_or_else(|| Unfit::other_platforms(images, architecture))
}

fn platform(entry: &Descriptor) -> String {
    match &entry.platform {
        Some(platform) => format!("{}/{}", platform.os, platform.architecture),
        None => "an entry without a platform".to_owned(),
    }
}

fn is_attestation(entry: &Descriptor) -> bool {
    entry.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(ATTESTATION))
        || entry.platform.as_ref().is_some_and(|platform| platform.architecture == "unknown")
}

fn layers(manifest: &Manifest) -> Result<Selection, Unfit> {
    let layers = manifest.layers.as_deref().unwrap_or_default();
    let only = |layer: &Descriptor| Ok(Selection::Layers { config: None, layers: vec![layer.clone()] });
    let of_type: Vec<&Descriptor> =
        layers.iter().filter(|layer| media::WASM_LAYERS.contains(&layer.media_type.as_str())).collect();
    let of_name: Vec<&Descriptor> =
        layers.iter().filter(|layer| title(layer).is_some_and(|title| title.ends_with(".wasm"))).collect();
    for wasm in [of_type, of_name] {
        match wasm.as_slice() {
            [] => {}
            [first, rest @ ..] if rest.iter().all(|layer| layer.digest == first.digest) => return only(first),
            several => {
                let names = several.iter().map(|layer| title(layer).unwrap_or(&layer.media_type).to_owned());
                let found = format!("it has {} components, not one: {}", several.len(), listed(names));
                return Err(Unfit::new(found, ONE_EACH));
            }
        }
    }
    if layers.len() > LAYERS_MAX {
        return Err(Unfit::new(format!("it has {} layers, more than {LAYERS_MAX}", layers.len()), PUSH));
    }
    if !layers.is_empty() && layers.iter().all(is_file_system) {
        return Ok(Selection::Layers { config: manifest.config.clone(), layers: layers.to_vec() });
    }
    match layers {
        [] => Err(Unfit::new("it has no layers", PUSH)),
        [one] if one.media_type.contains("wasmcloud.provider") => {
            let found = format!("it is a provider of wasmCloud, which is native code ({})", quoted(&one.media_type));
            Err(Unfit::new(found, PUSH))
        }
        [one] if one.media_type.ends_with("+json") => {
            Err(Unfit::new(format!("its only layer is {}", quoted(&one.media_type)), PUSH))
        }
        // What it is, it says itself.
        [one] => only(one),
        _ => {
            let types = listed(layers.iter().map(|layer| layer.media_type.clone()));
            Err(Unfit::new(format!("its layers are {types}"), PUSH))
        }
    }
}

fn title(layer: &Descriptor) -> Option<&str> {
    layer.annotations.as_ref()?.get(TITLE).map(String::as_str)
}

/// Whether a layer is part of a container's file system, in any compression.
fn is_file_system(layer: &Descriptor) -> bool {
    let kind = layer.media_type.as_str();
    ["application/vnd.oci.image.layer.", "application/vnd.docker.image.rootfs.diff.tar"]
        .iter()
        .any(|prefix| kind.starts_with(prefix))
        && !layer.is_foreign()
}

/// A few items for a message.
pub(super) fn listed(items: impl IntoIterator<Item = String>) -> String {
    let items: Vec<String> = items.into_iter().collect();
    let few: Vec<String> = items.iter().take(LISTED_MAX).map(|item| quoted(item)).collect();
    match (items.len(), items.len().saturating_sub(LISTED_MAX)) {
        (0, _) => "none".to_owned(),
        (_, 0) => few.join(", "),
        (_, more) => format!("{} and {more} more", few.join(", ")),
    }
}

/// A stranger's words, short and without what a terminal would obey.
pub(super) fn quoted(text: &str) -> String {
    text.chars().take(QUOTE_CHARS_MAX).map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::hash::sha256;
    use crate::manifest::Platform;

    const TAR: &str = "application/vnd.oci.image.layer.v1.tar";

    fn layer(kind: &str, title: Option<&str>) -> Descriptor {
        let annotations = title.map(|title| BTreeMap::from([(TITLE.to_owned(), title.to_owned())]));
        Descriptor { annotations, ..Descriptor::new(kind, sha256(format!("{kind}{title:?}").as_bytes()), 1) }
    }

    fn image(layers: Vec<Descriptor>) -> Manifest {
        Manifest { schema_version: 2, layers: Some(layers), ..Manifest::default() }
    }

    /// The layers that are chosen from those of these types, by their places.
    fn chosen(layers: Vec<Descriptor>) -> Result<Vec<usize>, String> {
        let manifest = image(layers.clone());
        match select(&manifest, media::OCI_MANIFEST).map_err(|unfit| unfit.to_string())? {
            Selection::Child(_) | Selection::Platforms(_) => Err("a child".to_owned()),
            Selection::Layers { layers: of, .. } => {
                Ok(of.iter().map(|layer| layers.iter().position(|other| other == layer).unwrap()).collect())
            }
        }
    }

    fn types(types: &[&str]) -> Vec<Descriptor> {
        types.iter().map(|kind| layer(kind, None)).collect()
    }

    #[test]
    fn a_raw_component_is_found_whoever_pushed_it() {
        for kind in media::WASM_LAYERS {
            assert_eq!(
                chosen(types(&["text/plain", kind, "application/vnd.oci.image.layer.v1.tar+gzip"])),
                Ok(vec![1])
            );
        }
        let twice = layer(media::WASM_LAYER, None);
        assert_eq!(chosen(vec![twice.clone(), twice]), Ok(vec![0]), "the same twice is one");
        assert_eq!(chosen(types(&["application/octet-stream"])), Ok(vec![0]), "its bytes say what it is");
    }

    #[test]
    fn a_file_of_oras_is_found_by_its_name() {
        let files = vec![layer(TAR, Some("README.md")), layer(TAR, Some("cart.wasm"))];
        assert_eq!(chosen(files), Ok(vec![1]));
    }

    #[test]
    fn a_file_system_is_taken_whole_with_its_config() {
        let of_docker = ["", ".gzip"].map(|end| format!("application/vnd.docker.image.rootfs.diff.tar{end}"));
        let of_oci = ["", "+gzip", "+zstd"].map(|end| format!("{TAR}{end}"));
        let kinds: Vec<&str> = of_docker.iter().chain(&of_oci).map(String::as_str).collect();
        assert_eq!(chosen(types(&kinds)), Ok(vec![0, 1, 2, 3, 4]));
        let config = Descriptor::new("application/vnd.oci.image.config.v1+json", sha256(b"c"), 1);
        let manifest = Manifest { config: Some(config.clone()), ..image(types(&[TAR])) };
        let selection = select(&manifest, "").unwrap();
        assert_eq!(selection, Selection::Layers { config: Some(config), layers: types(&[TAR]) });
    }

    #[test]
    fn what_does_not_fit_is_listed() {
        let several = vec![
            layer(media::WASM_LAYERS[1], Some("front.wasm")),
            layer(media::WASM_LAYERS[1], None),
            layer("application/vnd.wasm.content.layer.v1+data", None),
        ];
        let cases = [
            (several, "it has 2 components, not one: front.wasm, application/vnd.wasm.content.layer.v1+wasm"),
            (types(&["a/b", "c/d"]), "its layers are a/b, c/d"),
            (vec![], "it has no layers"),
            (types(&["application/vnd.wasmcloud.provider.archive.layer.v1+par"]), "it is a provider of wasmCloud"),
            (types(&["application/vnd.in-toto+json"]), "its only layer is application/vnd.in-toto+json"),
            (types(&["a/\x1b[31m", "c/d"]), "its layers are a/?[31m, c/d"),
            (vec![layer(TAR, None); 200], "it has 200 layers"),
        ];
        for (layers, expected) in cases {
            let text = chosen(layers).unwrap_err();
            assert!(text.starts_with(expected), "{text}");
            assert!(text.contains("(hint: "), "{text}");
        }
        let old = Manifest { schema_version: 1, ..Manifest::default() };
        assert!(select(&old, "").unwrap_err().found.contains("schema 1"));
    }

    fn entry(os: &str, architecture: &str) -> Descriptor {
        Descriptor {
            platform: Some(Platform { architecture: architecture.into(), os: os.into() }),
            ..Descriptor::new(media::OCI_MANIFEST, sha256(os.as_bytes()), 1)
        }
    }

    fn picked(entries: &[(&str, &str)]) -> Result<String, String> {
        let entries: Vec<Descriptor> = entries.iter().map(|(os, architecture)| entry(os, architecture)).collect();
        let index = Manifest { schema_version: 2, manifests: Some(entries), ..Manifest::default() };
        match select(&index, media::OCI_INDEX).map_err(|unfit| unfit.found)? {
            Selection::Child(entry) => Ok(entry.platform.unwrap().os),
            Selection::Platforms(images) => Err(Unfit::native(&images).found),
            Selection::Layers { .. } => Err("layers".to_owned()),
        }
    }

    #[test]
    fn an_index_gives_the_newest_system_interface() {
        let all = [("linux", "amd64"), ("wasip1", "wasm"), ("wasi", "wasm"), ("wasip2", "wasm")];
        assert_eq!(picked(&all), Ok("wasip2".into()));
        assert_eq!(picked(&all[..3]), Ok("wasip1".into()));
        assert_eq!(picked(&[("linux", "amd64"), ("wasi", "wasm32")]), Ok("wasi".into()));
        // Built without a platform, with an attestation beside it.
        assert_eq!(picked(&[("linux", "amd64"), ("unknown", "unknown")]), Ok("linux".into()));
        assert_eq!(
            picked(&[("linux", "amd64"), ("linux", "arm64")]),
            Err("it is an index for linux/amd64, linux/arm64".into())
        );
        assert_eq!(picked(&[]), Err("it is an index of nothing".into()));
    }

    #[test]
    fn each_machine_has_its_image_of_an_index() {
        let images = [("linux", "amd64"), ("windows", "amd64"), ("linux", "arm64")].map(|(os, of)| entry(os, of));
        assert_eq!(for_machine(&images, "x86_64"), Ok(&images[0]));
        assert_eq!(for_machine(&images, "aarch64"), Ok(&images[2]));
        let unfit = for_machine(&images, "riscv64").unwrap_err();
        assert_eq!(
            unfit.found,
            "it is an index for linux/amd64, windows/amd64, linux/arm64, and not for linux/riscv64"
        );
    }

    #[test]
    fn what_could_be_read_as_two_things_is_refused() {
        let both = Manifest { manifests: Some(vec![entry("wasi", "wasm")]), ..image(types(&[media::WASM_LAYER])) };
        let index = Manifest { layers: None, ..both.clone() };
        let cases = [(&both, ""), (&index, media::DOCKER_MANIFEST), (&image(vec![]), media::DOCKER_LIST)];
        for (manifest, media_type) in cases {
            assert!(select(manifest, media_type).unwrap_err().found.contains("at once"), "{media_type}");
        }
    }
}
