//! One replica, where a verb is about a single one.

use skiff_api::client::{Client, ListQuery, Scope};
use skiff_api::resource::{Phase, ReplicaSpec, ServiceSpec};
use skiff_api::{Kind, Name, ReplicaKey, ReplicaName};

use crate::exit::{Exit, Failure};

/// `replica/NAME`, or a service's first replica that runs.
pub(super) async fn find(client: &Client, namespace: &Name, target: &str) -> Result<ReplicaKey, Failure> {
    let key = |name: &str| ReplicaKey { namespace: namespace.clone(), name: ReplicaName::new(name) };
    let service = match target.split_once('/') {
        None => target,
        Some((kind, name)) => match kind.parse() {
            Ok(Kind::Replica) => return Ok(key(name)),
            Ok(Kind::Service) => name,
            _ => {
                let hint = "(hint: write SERVICE, service/NAME or replica/NAME)";
                return Err(Failure::message(
                    Exit::Invalid,
                    format!("failed to find {target}: {kind:?} has no replicas {hint}"),
                ));
            }
        },
    };
    // That there is no such service is another answer than that nothing of it runs.
    client.get::<ServiceSpec>(namespace, service).await?;
    let replicas = client.list::<ReplicaSpec>(&Scope::Namespace(namespace.clone()), &ListQuery::default()).await?.items;
    let running = replicas
        .iter()
        .filter(|replica| replica.spec.service.as_str() == service && replica.status.phase == Phase::Ready)
        .map(|replica| replica.metadata.name.as_str())
        .min();
    running.map(key).ok_or_else(|| {
        let hint = format!("(hint: `skiff ps -a -n {namespace}` and `skiff why {service} -n {namespace}`)");
        Failure::message(Exit::NotReady, format!("no replica of service {namespace}/{service} runs {hint}"))
    })
}
