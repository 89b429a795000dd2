//! A control plane on a store in memory, and what tests do with it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use skiff_api::resource::{Liveness, Metadata, NodeSpec, Phase, Replica, ReplicaSpec, Service, ServiceSpec};
use skiff_api::{Digest, ImageRef, Name, Problem, ServiceKey};
use skiff_disk::SealKey;
use skiff_disk::sim::SimDisk;
use skiff_keyvalue::{Engine, Limits};
use skiff_scheduler::api::{Artifact, Images, Token};
use skiff_scheduler::objects::{Change, Events, Objects};
use skiff_scheduler::plan::liveness::LivenessOptions;
use skiff_scheduler::store::{MemoryStore, Store};
use skiff_scheduler::{ControlPlane, ControlPlaneOptions, FleetOptions, Vault};

/// Far beyond what anything here takes: a test that waits so long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Cluster {
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) control: ControlPlane,
    pub(crate) objects: Objects,
}

/// No test here resolves an image.
struct NoImages;

#[async_trait]
impl Images for NoImages {
    async fn find(&self, _repository: &str, _reference: &str) -> Result<Option<Artifact>, Problem> {
        Ok(None)
    }

    async fn copy(&self, image: &ImageRef, _repository: &str) -> Result<Digest, Problem> {
        Err(Problem::new(skiff_api::Code::ImageNotFound, format!("{image} is not there")))
    }

    async fn signatures(&self, _: &str, _: &Digest) -> Result<skiff_registry::sign::Attached, Problem> {
        Ok(skiff_registry::sign::Attached::default())
    }

    async fn copy_signatures(&self, _: &ImageRef, _: &str, _: &Digest) -> Result<(), Problem> {
        Ok(())
    }

    fn is_own(&self, _registry: &str) -> bool {
        true
    }
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        Self::start_on(Arc::new(MemoryStore::new())).await
    }

    pub(crate) async fn start_on(store: Arc<MemoryStore>) -> Self {
        Self::start_with(store, LivenessOptions::default()).await
    }

    /// With other times after which nodes are given up.
    pub(crate) async fn start_with(store: Arc<MemoryStore>, liveness: LivenessOptions) -> Self {
        Self::start_as(store, liveness, None).await
    }

    /// One that other machines may join.
    pub(crate) async fn start_fleet(fleet: FleetOptions) -> Self {
        Self::start_as(Arc::new(MemoryStore::new()), LivenessOptions::default(), Some(fleet)).await
    }

    async fn start_as(store: Arc<MemoryStore>, liveness: LivenessOptions, fleet: Option<FleetOptions>) -> Self {
        let control = ControlPlane::start(ControlPlaneOptions {
            store: store.clone(),
            events: store.events(),
            images: Arc::new(NoImages),
            token: Token::new("secret"),
            vault: Vault::new(SealKey::generate().unwrap()),
            buckets: Engine::new(
                SimDisk::new(0).disk(),
                "/keyvalue",
                Limits { bucket_bytes_max: 1 << 20, bytes_max: 1 << 20 },
            ),
            seed: 1,
            fleet,
            liveness,
        })
        .await
        .unwrap();
        let objects = Objects::new(store.clone());
        Self { store, control, objects }
    }

    /// Writes the spec of a service, new or not.
    pub(crate) async fn apply(&self, name: &str, change: impl Fn(&mut ServiceSpec)) {
        loop {
            let before = self.objects.get::<ServiceSpec>(Some(&default()), name).await.unwrap();
            let result = match before {
                None => {
                    let mut spec = ServiceSpec::new(image(1));
                    change(&mut spec);
                    let service = Service::new(Metadata::new(Some(default()), name), spec);
                    self.objects.create(service).await
                }
                Some(seen) => {
                    let mut wanted = seen.clone();
                    change(&mut wanted.spec);
                    self.objects.write_spec(&seen, &wanted, Change::new()).await
                }
            };
            match result {
                Ok(_) => return,
                Err(error) if error.is_conflict() => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    pub(crate) async fn delete<S: skiff_scheduler::objects::Indexed>(&self, name: &str) {
        loop {
            let seen = self.objects.find::<S>(Some(&default()), name).await.unwrap();
            match self.objects.commit(Change::new().delete(&seen)).await {
                Ok(_) => return,
                Err(error) if error.is_conflict() => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Waits until what `look` looks at is there.
    pub(crate) async fn eventually<T>(&self, what: &str, look: impl AsyncFn(&Objects) -> Option<T>) -> T {
        let waited = tokio::time::timeout(PATIENCE, async {
            loop {
                let revision = self.store.revision().await.unwrap();
                if let Some(found) = look(&self.objects).await {
                    return found;
                }
                self.objects.watch(revision).next().await.unwrap();
            }
        });
        match waited.await {
            Ok(found) => found,
            Err(_) => panic!("waited in vain for {what}; there is {:#?}", self.replicas().await),
        }
    }

    /// Waits until a service's status satisfies `is`, and answers the service.
    pub(crate) async fn service(&self, name: &str, what: &str, is: impl Fn(&Service) -> bool) -> Service {
        self.eventually(what, async |objects: &Objects| {
            let service = objects.get::<ServiceSpec>(Some(&default()), name).await.unwrap()?;
            is(&service).then_some(service)
        })
        .await
    }

    /// Waits until a service is ready in its newest generation and nothing old is left of it.
    pub(crate) async fn ready(&self, name: &str) -> Service {
        self.service(name, "the service to be ready", |service| {
            let (status, wanted) = (&service.status, service.spec.replicas.count().unwrap());
            status.observed_generation == service.metadata.generation
                && is_ready(service)
                && (status.replicas, status.updated, status.ready) == (wanted, wanted, wanted)
        })
        .await
    }

    /// Waits until a node's liveness is as wanted.
    pub(crate) async fn node_is(&self, node: &str, wanted: Liveness) {
        let look = async |objects: &Objects| {
            let node = objects.get::<NodeSpec>(None, node).await.unwrap()?;
            (node.status.liveness == wanted).then_some(())
        };
        self.eventually(wanted.name(), look).await;
    }

    pub(crate) async fn replicas(&self) -> Vec<Replica> {
        self.objects.list::<ReplicaSpec>(None, &Default::default()).await.unwrap().items
    }

    pub(crate) async fn count<S: skiff_scheduler::objects::Indexed>(&self) -> usize {
        self.objects.list::<S>(None, &Default::default()).await.unwrap().items.len()
    }

    /// `KIND/NAME REASON` of every event, oldest first.
    pub(crate) fn events(&self) -> Vec<String> {
        let events = Events::new(self.store.events()).list(None, |_| true).unwrap();
        let line = |spec: &skiff_api::resource::EventSpec| {
            format!("{}/{} {}", spec.regarding.kind.singular(), spec.regarding.name, spec.reason)
        };
        events.iter().map(|event| line(&event.spec)).collect()
    }
}

pub(crate) fn is_ready(service: &Service) -> bool {
    service.status.condition("Ready").is_some_and(|condition| condition.status)
}

pub(crate) fn reason(service: &Service) -> &str {
    service.status.condition("Ready").map_or("", |condition| condition.reason.as_str())
}

pub(crate) fn default() -> Name {
    "default".parse().unwrap()
}

pub(crate) fn key(name: &str) -> ServiceKey {
    ServiceKey { namespace: default(), name: name.parse().unwrap() }
}

/// An image whose digest tells it from others.
pub(crate) fn image(n: u32) -> ImageRef {
    let digest: Digest = format!("sha256:{n:064x}").parse().unwrap();
    format!("hello:1@{digest}").parse().unwrap()
}

pub(crate) fn phases(replicas: &[Replica]) -> Vec<(String, Phase)> {
    replicas.iter().map(|replica| (replica.spec.revision.to_string(), replica.status.phase)).collect()
}
