//! Images: from what a person wrote to a digest that is there and can run.
//!
//! A tag is resolved when an object is written, and the digest is stored with it: whatever happens to the tag, a service
//! runs what was applied. A reference that is pinned already is only looked up.

use async_trait::async_trait;
use skiff_api::resource::{Service, ServiceSpec};
use skiff_api::{Code, Digest, ImageRef, Problem, capability};
use utoipa::ToSchema;

use super::failure::{Result, invalid};

/// What the cluster's registry knows of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// The manifest's digest.
    pub digest: Digest,
    /// The interfaces that the component imports, with their versions.
    pub imports: Vec<String>,
    /// The interfaces that it exports.
    pub exports: Vec<String>,
}

/// The cluster's registry, as far as writing objects needs it.
#[async_trait]
pub trait Images: Send + Sync + 'static {
    /// What `repository` has under a tag or a digest; `None` if it has nothing there.
    async fn find(&self, repository: &str, reference: &str) -> std::result::Result<Option<Artifact>, Problem>;

    /// Whether `HOST[:PORT]` is an address of the cluster's own registry.
    fn is_own(&self, registry: &str) -> bool;
}

/// A tag that leads elsewhere than when it was last applied.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, ToSchema)]
pub(super) struct Moved {
    /// The image as it was written.
    pub image: String,
    #[schema(value_type = String)]
    pub from: Digest,
    #[schema(value_type = String)]
    pub to: Digest,
}

/// Pins the image of a service that is to be written, and says whether its tag moved since `live` was.
pub(super) async fn pin(
    images: &dyn Images,
    service: &mut Service,
    live: Option<&ServiceSpec>,
) -> Result<Option<Moved>> {
    let namespace = service.metadata.namespace.as_ref().map_or("", |namespace| namespace.as_str());
    let written = own(images, &service.spec.image)?;
    if live.is_some_and(|live| live.image == written && written.digest().is_some()) {
        service.spec.image = written;
        return Ok(None);
    }
    let repository = written.repository_in(namespace);
    let reference = written.digest().map_or_else(|| written.tag_or_latest().to_owned(), Digest::to_string);
    let Some(artifact) = images.find(&repository, &reference).await? else {
        let detail = format!("image {written} is not in the registry: {repository} has no {reference}");
        let name = written.without_digest();
        let hint = match written.digest() {
            Some(_) => format!("write a tag, or push what has this digest: skiff push {name} FILE.wasm"),
            None => format!("skiff push {name} FILE.wasm"),
        };
        let object = format!("service/{namespace}/{}", service.metadata.name);
        return Err(Problem::new(Code::ImageNotFound, detail).object(object).hint(hint).into());
    };
    fits(&written, &artifact)?;
    let moved = live.and_then(|live| moved(&live.image, &written, &artifact.digest));
    service.spec.image = written.with_digest(artifact.digest);
    Ok(moved)
}

/// Whether a node could run it: what it would refuse is refused here, before anything is placed.
fn fits(written: &ImageRef, artifact: &Artifact) -> Result<()> {
    let Artifact { imports, exports, .. } = artifact;
    if !capability::answers_requests(exports.iter().map(String::as_str)) {
        let exports = if exports.is_empty() { "nothing".to_owned() } else { exports.join(", ") };
        let handler = capability::HTTP_HANDLER;
        let problem = invalid(format!("image {written} cannot answer requests: it exports {exports}, not {handler}"));
        return Err(problem.hint("build it as a component for wasi:http, such as with the SDK's template").into());
    }
    if let Some((import, why)) = capability::refused(imports.iter().map(String::as_str)) {
        let problem = invalid(format!("image {written} imports {import}, {why}"));
        let name = written.without_digest();
        let hint = format!("build it without; `skiff inspect {name}` shows every import, and what may be imported");
        return Err(problem.hint(hint).into());
    }
    Ok(())
}

/// The reference in the cluster's own registry.
fn own(images: &dyn Images, image: &ImageRef) -> Result<ImageRef> {
    match image.registry() {
        None => Ok(image.clone()),
        Some(registry) if images.is_own(registry) => Ok(image.without_registry()),
        Some(registry) => {
            let own = image.without_registry().without_digest();
            let hint = format!("pull the component from {registry} and push it here: skiff push {own} FILE.wasm");
            Err(invalid(format!("image {image} is in another registry, {registry}")).hint(hint).into())
        }
    }
}

fn moved(live: &ImageRef, written: &ImageRef, digest: &Digest) -> Option<Moved> {
    let from = live.digest().filter(|from| *from != digest && written.digest().is_none())?;
    let is_same_name = live.without_digest() == *written;
    is_same_name.then(|| Moved { image: written.to_string(), from: from.clone(), to: digest.clone() })
}
