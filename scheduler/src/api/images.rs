//! Images: from what a person wrote to a digest that is there and can run.
//!
//! A tag is resolved when an object is written, and the digest is stored with it: whatever happens to the tag, a service
//! runs what was applied. A reference that is pinned already is only looked up. What is in another registry is copied into
//! the cluster's, so that nodes need neither that one's logins nor its uptime; the object keeps the name that was written.

use async_trait::async_trait;
use skiff_api::resource::{InstanceLimits, Runtime, Service, ServiceSpec, http_port};
use skiff_api::{Code, Digest, ImageRef, Kind, Problem, capability};
use skiff_registry::sign::Attached;
use utoipa::ToSchema;

use super::failure::{Result, invalid};
use super::role;

/// What the cluster's registry knows of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// The manifest's digest.
    pub digest: Digest,
    /// The interfaces that the component imports, with their versions.
    pub imports: Vec<String>,
    /// The interfaces that it exports.
    pub exports: Vec<String>,
    /// It holds no component, but a native program for a Docker engine.
    pub is_container: bool,
}

/// The cluster's registry, as far as writing objects needs it.
#[async_trait]
pub trait Images: Send + Sync + 'static {
    /// What `repository` has under a tag or a digest; `None` if it has nothing there.
    async fn find(&self, repository: &str, reference: &str) -> std::result::Result<Option<Artifact>, Problem>;

    /// Copies an image of another registry to `repository` and returns the digest of what is there then. What is there
    /// already is not pulled again. A problem says what is wrong with the other registry, or the image.
    async fn copy(&self, image: &ImageRef, repository: &str) -> std::result::Result<Digest, Problem>;

    /// The signatures that `repository` has of an image, not checked in any way.
    async fn signatures(&self, repository: &str, digest: &Digest) -> std::result::Result<Attached, Problem>;

    /// Copies the signatures that another registry has of an image to `repository`, beside those that it has.
    async fn copy_signatures(
        &self,
        image: &ImageRef,
        repository: &str,
        digest: &Digest,
    ) -> std::result::Result<(), Problem>;

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

/// Pins the image of a service or job that is to be written, and says whether its tag moved since `live` was.
pub(super) async fn pin(
    images: &dyn Images,
    kind: Kind,
    service: &mut Service,
    live: Option<&ServiceSpec>,
) -> Result<Option<Moved>> {
    let namespace = service.metadata.namespace.as_ref().map_or("", |namespace| namespace.as_str());
    let written = own(images, &service.spec.image)?;
    let is_same = live.is_some_and(|live| live.image == written && written.digest().is_some());
    if is_same {
        service.spec.image = written.clone();
        // What it holds is known: nothing else in the spec may have changed to what does not go with it.
        let fits_still = |live: &ServiceSpec| {
            live.runtime == service.spec.runtime
                && role::is_same(live, &service.spec)
                && live.keyvalue.is_empty() == service.spec.keyvalue.is_empty()
        };
        if live.is_some_and(fits_still) {
            match service.spec.runtime {
                Some(Runtime::Docker) => contained(&service.spec)?,
                _ => bare(&service.spec)?,
            }
            return Ok(None);
        }
    }
    let repository = written.repository_in(namespace);
    let object = || format!("{}/{namespace}/{}", kind.singular(), service.metadata.name);
    let found = match (written.registry(), written.digest()) {
        (_, Some(digest)) => images.find(&repository, &digest.to_string()).await?,
        (None, None) => images.find(&repository, written.tag_or_latest()).await?,
        // What its tag stands for, only its own registry knows.
        (Some(_), None) => None,
    };
    let found = match (found, written.registry()) {
        (None, Some(_)) => {
            let digest = images.copy(&written, &repository).await.map_err(|problem| problem.object(object()))?;
            images.find(&repository, &digest.to_string()).await?
        }
        (found, _) => found,
    };
    let Some(artifact) = found else {
        // Nobody can look at it any more; nodes may have it.
        if is_same {
            service.spec.worker = live.and_then(|live| live.worker);
            service.spec.runtime = live.and_then(|live| live.runtime);
            return Ok(None);
        }
        let reference = written.digest().map_or_else(|| written.tag_or_latest().to_owned(), Digest::to_string);
        let detail = format!("image {written} is not in the registry: {repository} has no {reference}");
        let name = written.without_digest();
        let hint = match (written.registry(), written.digest()) {
            (Some(_), _) => "apply it again: its copy was taken away meanwhile".to_owned(),
            (None, Some(_)) => format!("write a tag, or push what has this digest: skiff push {name} FILE.wasm"),
            (None, None) => format!("skiff push {name} FILE.wasm"),
        };
        return Err(Problem::new(Code::ImageNotFound, detail).object(object()).hint(hint).into());
    };
    if kind == Kind::Job {
        is_task(&written, &artifact)?;
    }
    service.spec.runtime = runtime(&service.spec, live, &artifact)?;
    match artifact.is_container {
        true => contained(&service.spec)?,
        false => fits(&service.spec, &written, &artifact)?,
    }
    role::settle(&written, &artifact.exports, &mut service.spec, live)?;
    let moved = live.and_then(|live| moved(&live.image, &written, &artifact.digest));
    service.spec.image = written.with_digest(artifact.digest);
    Ok(moved)
}

/// What runs the image. What was found out for the last image is in the spec too, and holds no longer; what a person
/// wrote does.
fn runtime(spec: &ServiceSpec, live: Option<&ServiceSpec>, artifact: &Artifact) -> Result<Option<Runtime>> {
    let is_left_over = live.is_some_and(|live| live.runtime == spec.runtime && live.image != spec.image);
    match (spec.runtime, artifact.is_container) {
        (None | Some(Runtime::Docker), true) => Ok(Some(Runtime::Docker)),
        (None | Some(Runtime::Wasm), false) => Ok(spec.runtime),
        (Some(Runtime::Docker), false) if is_left_over => Ok(None),
        (Some(written), is_container) => {
            let holds = if is_container { "a container" } else { "a component" };
            let detail =
                format!("image {} holds {holds}, and the service says runtime: {}", spec.image, written.name());
            Err(invalid(detail).hint("leave runtime out: the image decides").into())
        }
    }
}

/// Whether an engine could run it as it is asked for: what does not hold for containers is refused, not ignored.
fn contained(spec: &ServiceSpec) -> Result<()> {
    let refuse = |detail: &str, hint: &str| {
        Err(invalid(format!("image {} holds a container: {detail}", spec.image)).hint(hint).into())
    };
    if let Err(unfit) = spec.allow.fits_containers() {
        return refuse(&unfit.detail, unfit.hint);
    }
    if spec.instance != InstanceLimits::default() {
        return refuse("`instance` is about sandboxes of components", "remove instance, and use limits");
    }
    if spec.ports.len() > 1 && http_port(&spec.ports).is_none() {
        return refuse("none of its ports is called http", "name the port that answers requests http");
    }
    let asks = spec.health.as_ref().is_some_and(|health| health.path.is_some() && health.port.is_none());
    if asks && http_port(&spec.ports).is_none() {
        return refuse("it has no port that health.path could be asked on", "write ports, or health.port");
    }
    Ok(())
}

/// Whether it can be run to its end.
fn is_task(written: &ImageRef, artifact: &Artifact) -> Result<()> {
    if artifact.is_container {
        let detail = format!("image {written} holds a container, and a job runs components");
        return Err(invalid(detail).hint("build the program as a component that exports wasi:cli/run").into());
    }
    if capability::runs_alone(artifact.exports.iter().map(String::as_str)) {
        return Ok(());
    }
    let detail = format!("image {written} does not export {}, so it cannot be run to its end", capability::RUN);
    Err(invalid(detail).hint("a component that answers requests is for a Service: write kind: Service").into())
}

/// Whether nothing is asked for that only containers have.
fn bare(spec: &ServiceSpec) -> Result<()> {
    if let Some(memory) = spec.limits.memory.filter(|memory| *memory < spec.instance.memory) {
        let least = spec.instance.memory;
        let problem = invalid(format!("limits.memory: {memory} is less than instance.memory ({least})"));
        return Err(problem.hint("all instances share it, so one must fit").into());
    }
    if !spec.volumes.is_empty() {
        let problem = invalid(format!("image {} holds a component, and volumes is for containers", spec.image));
        return Err(problem.hint("remove volumes: a component keeps its values in buckets (keyvalue)").into());
    }
    let health = spec.health.as_ref();
    let fields = [
        ("ports", !spec.ports.is_empty()),
        ("user", spec.user.is_some()),
        ("privileges", !spec.privileges.is_empty()),
        ("health.port", health.is_some_and(|health| health.port.is_some())),
        ("health.exec", health.is_some_and(|health| !health.exec.is_empty())),
    ];
    match fields.into_iter().find(|(_, is_set)| *is_set) {
        None => Ok(()),
        Some((field, _)) => {
            let problem = invalid(format!("image {} holds a component, and {field} is for containers", spec.image));
            let hint =
                if field.starts_with("health") { "write health.path".to_owned() } else { format!("remove {field}") };
            Err(problem.hint(hint).into())
        }
    }
}

/// Whether a node could run it: what it would refuse is refused here, before anything is placed.
fn fits(spec: &ServiceSpec, written: &ImageRef, artifact: &Artifact) -> Result<()> {
    bare(spec)?;
    let Artifact { imports, exports, .. } = artifact;
    let names = exports.iter().map(String::as_str);
    if !capability::answers_requests(names.clone()) && !capability::runs_alone(names) {
        let exports = if exports.is_empty() { "nothing".to_owned() } else { exports.join(", ") };
        let (handler, run) = (capability::HTTP_HANDLER, capability::RUN);
        let detail = format!(
            "image {written} neither answers requests nor runs on its own: it exports {exports}, not {handler} or {run}"
        );
        let hint = "build it as a component for wasi:http, such as with the SDK's template, or as a command";
        return Err(invalid(detail).hint(hint).into());
    }
    let imports = || imports.iter().map(String::as_str);
    if let Some((import, line)) = capability::needed(imports()).filter(|_| spec.keyvalue.is_empty()) {
        let problem = invalid(format!("image {written} imports {import}, and the service names no bucket"));
        return Err(problem.hint(format!("add `{line}` to the manifest")).into());
    }
    if let Some((import, why)) = capability::refused(imports()) {
        let problem = invalid(format!("image {written} imports {import}, {why}"));
        let name = written.without_digest();
        let hint = format!("build it without; `skiff inspect {name}` shows every import, and what may be imported");
        return Err(problem.hint(hint).into());
    }
    Ok(())
}

/// The reference without the address of the cluster's own registry.
fn own(images: &dyn Images, image: &ImageRef) -> Result<ImageRef> {
    let Some(registry) = image.registry().filter(|registry| images.is_own(registry)) else { return Ok(image.clone()) };
    let own = image.without_registry();
    match own.registry() {
        None => Ok(own),
        // Without the address its first part would be taken for one.
        Some(_) => {
            let detail = format!(
                "image {image} is in the cluster's own registry {registry} under a name that looks like another's"
            );
            let hint = "push it under a name whose first part has no dot".to_owned();
            Err(invalid(detail).hint(hint).into())
        }
    }
}

fn moved(live: &ImageRef, written: &ImageRef, digest: &Digest) -> Option<Moved> {
    let from = live.digest().filter(|from| *from != digest && written.digest().is_none())?;
    let is_same_name = live.without_digest() == *written;
    is_same_name.then(|| Moved { image: written.to_string(), from: from.clone(), to: digest.clone() })
}
