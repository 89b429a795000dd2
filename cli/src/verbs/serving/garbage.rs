//! What the registry keeps for the control plane, and when that changes.

use std::time::Duration;

use skiff_api::Kind;
use skiff_api::resource::{JobSpec, RevisionSpec, Selector, ServiceSpec};
use skiff_registry::Registry;
use skiff_registry::collector::{self, Retained, Times};
use skiff_scheduler::objects::{ObjectKey, Objects};

/// How long a watch that failed rests.
const WATCH_AGAIN_AFTER: Duration = Duration::from_secs(10);

/// Collects the registry's garbage until it is dropped.
pub(super) async fn collect(objects: Objects, registry: Registry) {
    let run = collector::run(registry.clone(), Times::default(), || retained(objects.clone()));
    tokio::select! {
        () = run => {}
        () = tell(objects.clone(), registry) => {}
    }
}

/// The images of all services and jobs, and of all their revisions: what runs, what may run next, and what can be gone back to.
async fn retained(objects: Objects) -> Result<Retained, String> {
    let all = Selector::default();
    let services = objects.list::<ServiceSpec>(None, &all).await.map_err(|error| error.to_string())?;
    let jobs = objects.list::<JobSpec>(None, &all).await.map_err(|error| error.to_string())?;
    let revisions = objects.list::<RevisionSpec>(None, &all).await.map_err(|error| error.to_string())?;
    let services = services.items.iter().map(|service| (&service.metadata, &service.spec.image));
    let revisions = revisions.items.iter().map(|revision| (&revision.metadata, &revision.spec.template.image));
    let jobs = jobs.items.iter().map(|job| (&job.metadata, &job.spec.image));
    let images = services.chain(jobs).chain(revisions).filter_map(|(metadata, image)| {
        let namespace = metadata.namespace.as_ref()?;
        Some((image.repository_in(namespace.as_str()), image.digest()?.clone()))
    });
    Ok(images.collect())
}

/// Tells the registry when a service or a revision went.
async fn tell(objects: Objects, registry: Registry) {
    loop {
        let Ok(listed) = objects.list::<RevisionSpec>(None, &Selector::default()).await else {
            tokio::time::sleep(WATCH_AGAIN_AFTER).await;
            continue;
        };
        let mut watch = objects.watch(listed.revision);
        registry.retention_changed();
        // One that came too late to hear of everything begins again.
        while let Ok(batch) = watch.next().await {
            let is_about_images = |key: &str| {
                ObjectKey::parse(key).is_some_and(|key| matches!(key.kind, Kind::Service | Kind::Job | Kind::Revision))
            };
            // A service that goes to another image gets another revision, and in time loses an old one.
            if batch.changes.iter().any(|change| change.after.is_none() && is_about_images(&change.key)) {
                registry.retention_changed();
            }
        }
        tokio::time::sleep(WATCH_AGAIN_AFTER).await;
    }
}
