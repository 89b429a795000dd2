//! What is pushed: sets of blobs and manifests, in the order in which they must come.

use serde_json::{Value, json};
use skiff_api::Digest;
use skiff_api::digest::Algorithm;
use skiff_registry::hash::{digest, sha256};
use skiff_registry::manifest::media;

const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const LAYER_PLAIN: &str = "application/vnd.oci.image.layer.v1.tar";
const LAYER_FOREIGN: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip";
const EMPTY: &str = "application/vnd.oci.empty.v1+json";
const EXAMPLE: [&str; 2] = ["application/vnd.example.oci.conformance.v1", "application/vnd.example.oci.conformance.v2"];

/// A manifest to push.
pub(super) struct Pushed {
    pub(super) bytes: Vec<u8>,
    pub(super) media_type: &'static str,
    pub(super) digest: Digest,
    pub(super) tags: Vec<String>,
    pub(super) subject: Option<Digest>,
    /// How it is listed among the referrers of its subject.
    pub(super) descriptor: Value,
}

pub(super) struct Set {
    pub(super) name: &'static str,
    pub(super) algorithm: Algorithm,
    /// Tags are parameters of a push by digest.
    pub(super) tag_params: bool,
    pub(super) blobs: Vec<(Digest, Vec<u8>)>,
    pub(super) manifests: Vec<Pushed>,
}

/// What a manifest says beside what it names.
#[derive(Default)]
struct More<'a> {
    tag: Option<&'a str>,
    artifact_type: Option<&'a str>,
    subject: Option<&'a Pushed>,
    annotations: Option<Value>,
    extra: Option<(&'a str, Value)>,
}

fn tagged(tag: &str) -> More<'_> {
    More { tag: Some(tag), ..More::default() }
}

impl Set {
    fn new(name: &'static str) -> Self {
        Self { name, algorithm: Algorithm::Sha256, tag_params: false, blobs: Vec::new(), manifests: Vec::new() }
    }

    fn blob(&mut self, media_type: &str, bytes: &[u8]) -> Value {
        let digest = digest(self.algorithm, bytes);
        if self.blobs.iter().all(|(known, _)| *known != digest) {
            self.blobs.push((digest.clone(), bytes.to_vec()));
        }
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    }

    fn config(&mut self) -> Value {
        let text = format!(r#"{{"architecture":"amd64","os":"linux","author":"{} {}"}}"#, self.name, self.blobs.len());
        self.blob(CONFIG, text.as_bytes())
    }

    fn layer(&mut self, media_type: &str) -> Value {
        let text = format!("layer {} of {}", self.blobs.len(), self.name);
        self.blob(media_type, text.as_bytes())
    }

    fn image(&mut self, more: More<'_>) -> usize {
        let (config, layers) = (self.config(), vec![self.layer(LAYER), self.layer(LAYER)]);
        self.manifest(config, layers, more)
    }

    fn artifact(&mut self, layer: &str, more: More<'_>) -> usize {
        let (config, layers) = (self.blob(EMPTY, b"{}"), vec![self.layer(layer)]);
        self.manifest(config, layers, more)
    }

    fn manifest(&mut self, config: Value, layers: Vec<Value>, more: More<'_>) -> usize {
        let kind = config["mediaType"].as_str().map(str::to_owned);
        let body = json!({"schemaVersion": 2, "mediaType": media::OCI_MANIFEST, "config": config, "layers": layers});
        self.add(media::OCI_MANIFEST, body, kind, more)
    }

    fn index(&mut self, children: &[usize], more: More<'_>) -> usize {
        let platforms = ["amd64", "arm64"].iter().cycle();
        let children: Vec<Value> = children
            .iter()
            .zip(platforms)
            .map(|(at, architecture)| {
                let mut child = self.manifests[*at].descriptor.clone();
                child["platform"] = json!({"os": "linux", "architecture": architecture});
                child
            })
            .collect();
        let body = json!({"schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": children});
        self.add(media::OCI_INDEX, body, None, more)
    }

    fn add(&mut self, media_type: &'static str, mut body: Value, kind: Option<String>, more: More<'_>) -> usize {
        let kind = more.artifact_type.map(str::to_owned).or(kind);
        if let Some(artifact_type) = more.artifact_type {
            body["artifactType"] = json!(artifact_type);
        }
        if let Some(subject) = more.subject {
            body["subject"] =
                json!({"mediaType": subject.media_type, "digest": subject.digest, "size": subject.bytes.len()});
        }
        if let Some(annotations) = &more.annotations {
            body["annotations"] = annotations.clone();
        }
        if let Some((name, value)) = more.extra {
            body[name] = value;
        }
        let bytes = serde_json::to_vec(&body).unwrap();
        let digest = digest(self.algorithm, &bytes);
        let mut descriptor = json!({"mediaType": media_type, "digest": digest, "size": bytes.len()});
        if more.subject.is_some() {
            descriptor["artifactType"] = json!(kind);
            if let Some(annotations) = more.annotations {
                descriptor["annotations"] = annotations;
            }
        }
        let subject = more.subject.map(|subject| subject.digest.clone());
        let tags = more.tag.map(str::to_owned).into_iter().collect();
        self.manifests.push(Pushed { bytes, media_type, digest, tags, subject, descriptor });
        self.manifests.len() - 1
    }

    fn two_platforms(&mut self, more: More<'_>) -> usize {
        let children = [self.image(More::default()), self.image(More::default())];
        self.index(&children, more)
    }

    fn referrers(&mut self, subject: &Pushed) {
        for (n, kind) in EXAMPLE.iter().enumerate() {
            let annotations = json!({"org.opencontainers.conformance": "hello conformance test", "n": n.to_string()});
            let tag = format!("{}-artifact{n}", self.name);
            let more = More {
                tag: Some(&tag),
                artifact_type: Some(kind),
                subject: Some(subject),
                annotations: Some(annotations),
                extra: None,
            };
            self.artifact(kind, more);
        }
    }
}

fn set(name: &'static str, fill: impl FnOnce(&mut Set)) -> Set {
    let mut set = Set::new(name);
    fill(&mut set);
    set
}

fn copy(pushed: &Pushed) -> Pushed {
    let Pushed { bytes, media_type, digest, descriptor, .. } = pushed;
    Pushed {
        bytes: bytes.clone(),
        media_type,
        digest: digest.clone(),
        tags: Vec::new(),
        subject: None,
        descriptor: descriptor.clone(),
    }
}

/// Every set that is pushed, listed, pulled and deleted.
pub(super) fn sets() -> Vec<Set> {
    let large: serde_json::Map<String, Value> =
        (0..390).map(|n| (format!("large-annotation-{n}"), json!("A".repeat(10_000)))).collect();
    vec![
        set("image", |set| {
            set.image(tagged("image"));
        }),
        set("image-uncompressed", |set| {
            let (config, layer) = (set.config(), set.layer(LAYER_PLAIN));
            set.manifest(config, vec![layer], tagged("image-uncompressed"));
        }),
        set("large-manifest", |set| {
            set.image(More { annotations: Some(Value::Object(large)), ..tagged("large-manifest") });
        }),
        set("index", |set| {
            set.two_platforms(tagged("index"));
        }),
        set("nested-index", |set| {
            let children = [set.two_platforms(More::default()), set.two_platforms(More::default())];
            set.index(&children, tagged("index-of-index"));
        }),
        set("empty-index", |set| {
            set.index(&[], tagged("empty-index"));
        }),
        set("artifact", |set| {
            set.artifact(EXAMPLE[0], More { artifact_type: Some(EXAMPLE[0]), ..tagged("artifact") });
        }),
        set("artifact-index", |set| {
            let of = || More { artifact_type: Some(EXAMPLE[0]), ..More::default() };
            let children = [set.artifact(EXAMPLE[0], of()), set.artifact(EXAMPLE[0], of())];
            set.index(&children, More { artifact_type: Some(EXAMPLE[0]), ..tagged("artifact-index") });
        }),
        set("artifact-without-layers", |set| {
            let empty = set.blob(EMPTY, b"{}");
            let more = More { artifact_type: Some(EXAMPLE[0]), ..tagged("artifact-without-layers") };
            set.manifest(empty.clone(), vec![empty], more);
        }),
        set("artifacts-with-subject", |set| {
            let subject = set.image(tagged("with-subject"));
            let subject = copy(&set.manifests[subject]);
            set.image(More { subject: Some(&subject), ..More::default() });
            set.referrers(&subject);
        }),
        set("index-with-subject", |set| {
            let subject = set.two_platforms(tagged("index-with-subject"));
            let subject = copy(&set.manifests[subject]);
            let children = [set.artifact(EXAMPLE[0], More::default())];
            let more = More { artifact_type: Some(EXAMPLE[0]), subject: Some(&subject), ..tagged("index-referrer") };
            set.index(&children, more);
        }),
        set("missing-subject", |set| {
            let mut missing = Set::new("never pushed");
            let subject = missing.image(More::default());
            let subject = copy(&missing.manifests[subject]);
            set.referrers(&subject);
        }),
        set("data-field", |set| {
            let mut config = set.blob(EMPTY, b"{}");
            config["data"] = json!("e30=");
            let layer = set.layer(LAYER);
            set.manifest(config, vec![layer], tagged("data-field"));
        }),
        set("non-distributable-layers", |set| {
            let mut layers: Vec<Value> = (0..2)
                .map(|n| {
                    let digest = sha256(format!("elsewhere {n}").as_bytes());
                    let url = format!("https://store.example.com/blobs/sha256/{}", digest.hex());
                    json!({"mediaType": LAYER_FOREIGN, "digest": digest, "size": 123_456, "urls": [url]})
                })
                .collect();
            layers.push(set.layer(LAYER));
            let config = set.config();
            set.manifest(config, layers, tagged("non-distributable-layers"));
        }),
        set("custom-fields", |set| {
            let extra = || More { extra: Some(("org.example.custom", json!("field"))), ..More::default() };
            let children = [set.image(extra()), set.image(extra())];
            set.index(&children, More { tag: Some("custom-fields"), ..extra() });
        }),
        set("no-layers", |set| {
            let config = set.config();
            set.manifest(config, Vec::new(), tagged("no-layers"));
        }),
        set("sha512", |set| {
            set.algorithm = Algorithm::Sha512;
            set.two_platforms(More::default());
        }),
        set("tag-param-sha256", |set| tag_params(set, Algorithm::Sha256)),
        set("tag-param-sha512", |set| tag_params(set, Algorithm::Sha512)),
    ]
}

fn tag_params(set: &mut Set, algorithm: Algorithm) {
    set.algorithm = algorithm;
    set.tag_params = true;
    set.two_platforms(tagged(set.name));
    for (n, manifest) in set.manifests.iter_mut().enumerate() {
        manifest.tags.push(format!("{}-{n}", set.name));
    }
}
