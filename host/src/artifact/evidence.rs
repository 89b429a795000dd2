//! That an image on disk is what somebody signed, shown again before each start, with nobody to ask.
//!
//! ```text
//! policies ── keys ──> signature ── names ──> manifest ── names ──> layer == component, or what it was made from
//! ```
//! Beside a component lie the manifests that lead to it and the signatures, raw. The control plane has looked at the same
//! when the service was applied; a node believes neither that, nor its own disk, nor what it has found out before: a key may
//! have been taken back since, a file may have been changed. What it keeps in memory, until it ends, is only that it has
//! read a component through.
//!
//! An image may hold its component packed, or as a core module. Then its layers are kept as well, and the component is made
//! from them again, in memory, to compare. Where the evidence is missing, or does not suffice any more, it is fetched; what
//! was there stays beside it, since two namespaces may have the same image signed by different people.
//!
//! **What this does not protect**: compiled code is this node's own work, and the keys come from the control plane. Whoever
//! can write as the user that the node runs as can replace either, and the program itself.

use std::io;
use std::path::PathBuf;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use skiff_api::{Digest, Trust};
use skiff_disk::{Mode, write_atomic};
use skiff_registry::Client;
use skiff_registry::client::{
    self, COMPONENT_BYTES_MAX, CONFIG_BYTES_MAX, Component, FileReader, INDEX_DEPTH_MAX, Look, Search, Selection,
    Unfit, select,
};
use skiff_registry::hash::{self, Hasher};
use skiff_registry::manifest::{Descriptor, Manifest};
use skiff_registry::sign::{Attached, Refusal, SIGNATURES_MAX, Signature, judge};
use std::sync::PoisonError;

use super::cache::Artifacts;

pub(super) const SIGNED: &str = "signed";
const LAYER: &str = "layer";

/// Some manifests, a config and the signatures, in base64.
const SIGNED_BYTES_MAX: u64 = 64 << 20;

/// Signatures kept of one image, those of other namespaces included.
const SIGNATURES_KEPT_MAX: usize = 2 * SIGNATURES_MAX;

const READ_BYTES: usize = 1 << 20;

/// Whether a file of an image, by the end of its name, is a layer.
pub(super) fn is_layer(kind: &str) -> bool {
    kind.strip_prefix(LAYER).is_some_and(|n| n.len() <= 3 && n.parse::<u8>().is_ok())
}

/// Why an image is not what somebody signed, or is not known to be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Distrust {
    #[error("its signatures are not on this node")]
    Missing,
    #[error(transparent)]
    Refused(Box<Refusal>),
    #[error("{what} on disk is not what was signed")]
    Tampered { what: &'static str },
    #[error("what leads from its signature to its component cannot be followed: {why}")]
    Broken { why: String },
    #[error("failed to read what was kept of its signatures")]
    Io(#[from] io::Error),
}

impl Distrust {
    /// Whether a registry may have what is missing.
    pub(crate) fn may_be_fetched(&self) -> bool {
        !matches!(self, Self::Tampered { .. })
    }
}

/// What is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Evidence {
    /// From the image's own on, each leading to the next.
    manifests: Vec<Kept>,
    config: Option<Text>,
    /// Whether the component was made from layers, which are kept.
    made: bool,
    signatures: Vec<KeptSignature>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    media_type: String,
    bytes: Text,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum KeptSignature {
    Simple { payload: Text, signature: String },
    Bundle(Text),
}

/// Bytes that are nearly always text: JSON in JSON. Others are no manifest, and cannot be kept.
type Text = String;

impl Artifacts {
    fn evidence(&self, image: &Digest) -> PathBuf {
        self.wasm(image).with_extension(SIGNED)
    }

    fn layer(&self, image: &Digest, n: usize) -> PathBuf {
        self.wasm(image).with_extension(format!("{LAYER}{n}"))
    }

    /// Whether an image is signed as it must be, and its component is what was signed. Blocks.
    pub(crate) fn verify(&self, image: &Digest, trust: &Trust) -> Result<(), Distrust> {
        let evidence = self.read_evidence(image)?.ok_or(Distrust::Missing)?;
        judge(trust, image, &evidence.attached()).map_err(|refusal| Distrust::Refused(Box::new(refusal)))?;
        let (config, layers) = evidence.layers(image)?;
        let checked = || self.0.checked.lock().unwrap_or_else(PoisonError::into_inner);
        if checked().contains(image) {
            return Ok(());
        }
        let component = self.component_digest(image, &layers)?;
        let expected = match (&*layers, evidence.made) {
            ([layer], false) => layer.digest.clone(),
            (_, false) => return Err(Distrust::Broken { why: "it has several layers, and none was kept".to_owned() }),
            (layers, true) => self.made_from(image, config.as_ref().map(|_| evidence.config()), layers)?,
        };
        if component != expected {
            return Err(Distrust::Tampered { what: "its component" });
        }
        checked().insert(image.clone());
        Ok(())
    }

    /// What was found out about a component holds no longer: it is another file.
    pub(super) fn forget(&self, image: &Digest) {
        self.0.checked.lock().unwrap_or_else(PoisonError::into_inner).remove(image);
    }

    fn read_evidence(&self, image: &Digest) -> Result<Option<Evidence>, Distrust> {
        match self.disk().read(self.evidence(image), SIGNED_BYTES_MAX) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            // Torn or changed: it is fetched again.
            text => Ok(serde_json::from_slice(&text?).ok()),
        }
    }

    /// The digest of the component on disk, with the algorithm of its layer.
    fn component_digest(&self, image: &Digest, layers: &[Descriptor]) -> Result<Digest, Distrust> {
        let algorithm = match layers {
            [layer] => layer.digest.algorithm(),
            _ => skiff_api::digest::Algorithm::Sha256,
        };
        let file = match self.disk().open(self.wasm(image), Mode::Read) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Distrust::Tampered { what: "its component" });
            }
            file => file?,
        };
        let (mut hasher, mut buffer, mut at) = (Hasher::new(algorithm), vec![0; READ_BYTES], 0);
        loop {
            let count = file.read_at(&mut buffer, at)?;
            if count == 0 {
                return Ok(hasher.finish());
            }
            hasher.update(&buffer[..count]);
            at += count as u64;
        }
    }

    /// The digest of the component that comes out of the layers on disk.
    fn made_from(&self, image: &Digest, config: Option<&[u8]>, layers: &[Descriptor]) -> Result<Digest, Distrust> {
        let broken = |why: String| Distrust::Broken { why };
        let mut search = match config {
            Some(config) => Search::with_config(COMPONENT_BYTES_MAX, config).map_err(|e| broken(e.to_string()))?,
            None => Search::new(COMPONENT_BYTES_MAX),
        };
        let mut found = Vec::new();
        for (n, layer) in layers.iter().enumerate().rev() {
            let file = match self.disk().open(self.layer(image, n), Mode::Read) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Distrust::Missing),
                file => file?,
            };
            let bytes = file.read_all(layer.size).map_err(|_| Distrust::Tampered { what: "a layer" })?;
            if hash::digest(layer.digest.algorithm(), &bytes) != layer.digest {
                return Err(Distrust::Tampered { what: "a layer" });
            }
            drop(bytes);
            match search.look(FileReader::new(file), &mut found).map_err(|e| broken(e.to_string()))? {
                Look::Enough => break,
                Look::Below => {}
            }
        }
        search.end().map_err(|e| broken(e.to_string()))?;
        let component = Component::read(&image.to_string(), found).map_err(|e| broken(e.to_string()))?;
        let algorithm = match layers {
            [layer] => layer.digest.algorithm(),
            _ => skiff_api::digest::Algorithm::Sha256,
        };
        Ok(hash::digest(algorithm, &component.bytes))
    }

    /// Fetches what shows who signed an image. When this returns, it is durable.
    pub(crate) async fn fetch_evidence(
        &self,
        client: &Client,
        repository: &str,
        image: &Digest,
    ) -> Result<(), FetchError> {
        let flight = self.flight(image);
        let _turn = flight.lock().await;
        let (mut manifests, mut next) = (Vec::new(), image.clone());
        let (config, layers) = loop {
            let pulled = client.pull_manifest(repository, &next.to_string()).await?;
            let manifest = Manifest::parse(&pulled.bytes).map_err(|error| FetchError::Unfit(error.to_string()))?;
            let text = text(&pulled.bytes)?;
            let selection = select(&manifest, &pulled.media_type).map_err(|e| FetchError::Unfit(e.to_string()))?;
            manifests.push(Kept { media_type: pulled.media_type, bytes: text });
            match selection {
                Selection::Layers { config, layers } => break (config, layers),
                Selection::Child(_) if manifests.len() > INDEX_DEPTH_MAX => {
                    return Err(FetchError::Unfit("it is an index without an end".to_owned()));
                }
                Selection::Platforms(images) => return Err(FetchError::Unfit(Unfit::native(&images).to_string())),
                Selection::Child(child) => next = child.digest,
            }
        };
        let name = format!("{repository}@{image}");
        let config = match config {
            Some(config) if config.size > CONFIG_BYTES_MAX => {
                return Err(FetchError::Unfit("its config is too large".to_owned()));
            }
            Some(config) => Some(text(&client.small_blob(&name, repository, &config).await?)?),
            None => None,
        };
        let attached = client.signatures(repository, image).await?;
        let (artifacts, of, all) = (self.clone(), image.clone(), layers.clone());
        let is_layer = blocking(move || match &*all {
            [layer] => Ok(artifacts.component_digest(&of, &all).is_ok_and(|digest| digest == layer.digest)),
            _ => Ok(false),
        });
        let made = !is_layer.await?;
        if made {
            self.fetch_layers(client, (repository, &name), image, &layers).await?;
        }
        let signatures = attached.signatures.iter().filter_map(KeptSignature::of).collect();
        let evidence = Evidence { manifests, config, made, signatures };
        let (artifacts, of) = (self.clone(), image.clone());
        blocking(move || artifacts.write_evidence(&of, evidence)).await?;
        Ok(())
    }

    async fn fetch_layers(
        &self,
        client: &Client,
        (repository, name): (&str, &str),
        image: &Digest,
        layers: &[Descriptor],
    ) -> Result<(), FetchError> {
        for (n, layer) in layers.iter().enumerate() {
            if layer.size > COMPONENT_BYTES_MAX {
                return Err(FetchError::Unfit("a layer is too large".to_owned()));
            }
            let path = self.layer(image, n);
            let temporary = path.with_extension(format!("{LAYER}{n}.tmp"));
            client.pull_blob(name, repository, layer, (self.disk(), &temporary)).await?;
            let disk = self.disk().clone();
            blocking(move || disk.rename(&temporary, &path)).await?;
        }
        Ok(())
    }

    fn write_evidence(&self, image: &Digest, mut evidence: Evidence) -> io::Result<()> {
        // What counts here and now may not be what a namespace with other keys needs.
        let before = self.read_evidence(image).ok().flatten().map(|before| before.signatures).unwrap_or_default();
        for signature in before {
            if evidence.signatures.len() < SIGNATURES_KEPT_MAX && !evidence.signatures.contains(&signature) {
                evidence.signatures.push(signature);
            }
        }
        let text = serde_json::to_vec(&evidence)?;
        // This syncs the folder, and with it the names of the layers.
        write_atomic(self.disk(), &self.evidence(image), &text)
    }
}

/// Why evidence could not be fetched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("failed to ask the registry for its signatures")]
    Registry(#[from] client::Error),
    #[error("the image cannot be kept with its signatures: {0}")]
    Unfit(String),
    #[error("failed to keep its signatures")]
    Store(#[from] io::Error),
}

fn text(bytes: &[u8]) -> Result<Text, FetchError> {
    String::from_utf8(bytes.to_vec()).map_err(|_| FetchError::Unfit("it is not UTF-8".to_owned()))
}

async fn blocking<T: Send + 'static>(act: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(act).await.map_err(io::Error::other)?
}

impl Evidence {
    fn config(&self) -> &[u8] {
        self.config.as_deref().unwrap_or_default().as_bytes()
    }

    fn attached(&self) -> Attached {
        let signatures = self.signatures.iter().map(|signature| match signature {
            KeptSignature::Simple { payload, signature } => {
                Signature::Simple { payload: Bytes::copy_from_slice(payload.as_bytes()), signature: signature.clone() }
            }
            KeptSignature::Bundle(bundle) => Signature::Bundle(Bytes::copy_from_slice(bundle.as_bytes())),
        });
        Attached { signatures: signatures.collect(), skipped: Vec::new() }
    }

    /// The layers that the manifests lead to, each checked against what led to it.
    fn layers(&self, image: &Digest) -> Result<(Option<Descriptor>, Vec<Descriptor>), Distrust> {
        let broken = |why: String| Distrust::Broken { why };
        let mut next = image.clone();
        for Kept { media_type, bytes } in &self.manifests {
            if hash::digest(next.algorithm(), bytes.as_bytes()) != next {
                return Err(Distrust::Tampered { what: "its manifest" });
            }
            let manifest = Manifest::parse(bytes.as_bytes()).map_err(|e| broken(e.to_string()))?;
            match select(&manifest, media_type).map_err(|e| broken(e.to_string()))? {
                Selection::Child(child) => next = child.digest,
                Selection::Platforms(images) => return Err(broken(Unfit::native(&images).to_string())),
                Selection::Layers { config, layers } => {
                    if let Some(config) = &config
                        && hash::digest(config.digest.algorithm(), self.config()) != config.digest
                    {
                        return Err(Distrust::Tampered { what: "its config" });
                    }
                    return Ok((config, layers));
                }
            }
        }
        Err(Distrust::Missing)
    }
}

impl KeptSignature {
    /// One that is no text counts for nothing anyway.
    fn of(signature: &Signature) -> Option<Self> {
        let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).ok();
        Some(match signature {
            Signature::Simple { payload, signature } => {
                Self::Simple { payload: text(payload)?, signature: signature.clone() }
            }
            Signature::Bundle(bundle) => Self::Bundle(text(bundle)?),
        })
    }
}
