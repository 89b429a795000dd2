//! Images that nobody has pushed before: a component with a custom section of its own, which changes its digest and
//! nothing else.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::rng::Rng;

pub(crate) const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG_TYPE: &str = "application/vnd.wasm.config.v0+json";
const LAYER_TYPE: &str = "application/wasm";

/// The preamble of a component without any content.
const EMPTY: [u8; 8] = [0, b'a', b's', b'm', 0x0d, 0, 1, 0];

/// `sha256:…` of some bytes.
pub(crate) fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// A component's bytes and the config that goes with it.
#[derive(Debug, Clone)]
pub(crate) struct Component {
    wasm: Vec<u8>,
    config: Value,
}

/// What a push consists of.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    pub(crate) blobs: [Vec<u8>; 2],
    pub(crate) manifest: Vec<u8>,
}

impl Component {
    /// `config` is what the registry has for it, so that it need not be looked into here.
    pub(crate) fn new(wasm: Vec<u8>, config: Value) -> Self {
        Self { wasm, config }
    }

    /// Nothing to run, and small.
    pub(crate) fn empty() -> Self {
        Self::new(EMPTY.to_vec(), json!({"architecture": "wasm", "component": {"exports": [], "imports": []}}))
    }

    /// The same component under another digest.
    pub(crate) fn varied(&self, rng: &mut Rng) -> Image {
        let bytes = 16 + rng.below(20_000);
        let layer = with_salt(&self.wasm, &rng.bytes(usize::try_from(bytes).unwrap()));
        let mut config = self.config.clone();
        config["layerDigests"] = json!([digest(&layer)]);
        let config = serde_json::to_vec(&config).unwrap();
        let descriptor = |kind, bytes: &[u8]| json!({"mediaType": kind, "digest": digest(bytes), "size": bytes.len()});
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": descriptor(CONFIG_TYPE, &config),
            "layers": [descriptor(LAYER_TYPE, &layer)],
        });
        Image { blobs: [config, layer], manifest: serde_json::to_vec(&manifest).unwrap() }
    }
}

/// A component with a custom section at its end, which means nothing.
pub(crate) fn with_salt(wasm: &[u8], salt: &[u8]) -> Vec<u8> {
    const NAME: &[u8; 4] = b"salt";
    let mut wasm = wasm.to_vec();
    wasm.push(0);
    wasm.extend(leb128(1 + NAME.len() + salt.len()));
    wasm.extend(leb128(NAME.len()));
    wasm.extend(NAME);
    wasm.extend(salt);
    wasm
}

/// An unsigned number as WebAssembly writes it.
fn leb128(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(number & 0x7f).unwrap();
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}
