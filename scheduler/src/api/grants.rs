//! Grants: a service allows itself nothing that its namespace does not grant.
//!
//! That holds at all times, so that nobody needs to look at two objects to know what a service may reach. A service is
//! compared with its namespace when it is written, and a namespace that grants less than before with what is in it. Both
//! take part in one key of the store, the namespace's guard, so that neither can slip in while the other is being written.

use std::collections::BTreeSet;

use skiff_api::grant::{Allow, Grants, Lack, Privilege};
use skiff_api::resource::{
    BucketGrant, JobSpec, Namespace, NamespaceSpec, ReplicaSpec, RevisionSpec, Selector, Service, ServiceSpec, Volume,
};
use skiff_api::{Code, Kind, Name, Problem};

use super::failure::Result;
use crate::objects::{Change, Error, ObjectKey, Objects};

/// How many services a refusal names.
const USERS_SHOWN_MAX: usize = 5;

/// What must hold beside a service or job for it to be written.
pub(super) async fn admit_service(objects: &Objects, kind: Kind, service: &Service, change: Change) -> Result<Change> {
    let asks = Asks::of_service(&service.spec);
    let Some(own) = service.metadata.namespace.as_ref().filter(|_| asks.any()) else { return Ok(change) };
    let Some(namespace) = objects.get::<NamespaceSpec>(None, own.as_str()).await? else {
        return Err(Error::NoNamespace { namespace: own.clone() }.into());
    };
    let lacks = asks.beyond(&namespace.spec.allow, own);
    if lacks.is_empty() {
        return Ok(change.within(&namespace, own));
    }
    let named: Vec<String> = lacks
        .iter()
        .map(|Lack { from, index, entry, .. }| match *from {
            "keyvalue" => format!("keyvalue[{index}].redis: {entry:?}"),
            "volumes" => format!("volumes[{index}].hostPath: {entry:?}"),
            "privileges" => format!("privileges[{index}]: {entry:?}"),
            list => format!("allow.{list}[{index}]: {entry:?}"),
        })
        .collect();
    let object = ObjectKey::new(kind, Some(own), service.metadata.name.as_str()).to_string();
    let detail = format!("{object} allows itself what namespace {own} does not grant: {}", named.join(", "));
    let hint = format!("grant it: kind: Namespace, name: {own}, allow: {{{}}}", widened(&namespace.spec.allow, &lacks));
    Err(Problem::new(Code::NotGranted, detail).object(object).hint(hint).into())
}

/// What a service or its replicas ask of their namespace.
#[derive(Clone, Copy)]
struct Asks<'a> {
    allow: &'a Allow,
    keyvalue: &'a [BucketGrant],
    volumes: &'a [Volume],
    privileges: &'a [Privilege],
}

impl<'a> Asks<'a> {
    fn of_service(spec: &'a ServiceSpec) -> Self {
        Self { allow: &spec.allow, keyvalue: &spec.keyvalue, volumes: &spec.volumes, privileges: &spec.privileges }
    }

    fn any(&self) -> bool {
        !self.allow.is_empty()
            || self.keyvalue.iter().any(|grant| grant.redis.is_some())
            || self.volumes.iter().any(|volume| volume.host_path.is_some())
            || !self.privileges.is_empty()
    }

    /// What the namespace does not grant.
    fn beyond(self, grants: &Grants, own: &Name) -> Vec<Lack> {
        let beside = grants.lacking(self.keyvalue).into_iter().chain(grants.without(self.volumes));
        let denied = grants.denied(self.privileges);
        self.allow.beyond(grants, own).into_iter().chain(beside).chain(denied).collect()
    }
}

/// The lines of a namespace that would grant what is lacking beside what it grants now.
fn widened(grants: &Grants, lacks: &[Lack]) -> String {
    let entries = |field: &str| -> Vec<String> {
        match field {
            "services" => grants.services.iter().map(ToString::to_string).collect(),
            "http" => grants.http.iter().map(ToString::to_string).collect(),
            "tcp" => grants.tcp.iter().map(ToString::to_string).collect(),
            "hostPaths" => grants.host_paths.iter().map(ToString::to_string).collect(),
            "privileges" => grants.privileges.iter().map(ToString::to_string).collect(),
            _ => grants.private.iter().map(ToString::to_string).collect(),
        }
    };
    let lines = ["services", "http", "private", "tcp", "hostPaths", "privileges"].into_iter().filter_map(|field| {
        let lacking: Vec<String> =
            lacks.iter().filter(|lack| lack.field == field).map(|lack| lack.entry.clone()).collect();
        let all: Vec<String> = entries(field).into_iter().chain(lacking.iter().cloned()).collect();
        let quoted: Vec<String> = all.iter().map(|entry| format!("{entry:?}")).collect();
        (!lacking.is_empty()).then(|| format!("{field}: [{}]", quoted.join(", ")))
    });
    lines.collect::<Vec<_>>().join(", ")
}

/// What must hold beside a namespace for it to be written over `live`.
pub(super) async fn admit_namespace(
    objects: &Objects,
    wanted: &Namespace,
    live: Option<&Namespace>,
    change: Change,
) -> Result<Change> {
    if live.is_none_or(|live| live.spec.allow == wanted.spec.allow) {
        return Ok(change);
    }
    let key = ObjectKey::of(wanted);
    let Ok(own) = key.name.parse::<Name>() else { return Ok(change) };
    // Read before what is in the namespace: whatever is written there since moves it, and the commit is refused.
    let guard = objects.guard(&own).await?;
    let users = users_beyond(objects, &wanted.spec.allow, &own).await?;
    if users.is_empty() {
        return Ok(change.hold(&own, guard.as_ref()));
    }
    let more = if users.len() > USERS_SHOWN_MAX { ", and more" } else { "" };
    let shown: Vec<String> = users.into_iter().take(USERS_SHOWN_MAX).collect();
    let detail = format!("{key} would no longer grant what is in use: {}{more}", shown.join(", "));
    let hint = "take it out of these services first, and wait until their replicas are replaced";
    Err(Problem::new(Code::NotGranted, detail).object(key.to_string()).hint(hint).into())
}

/// What in the namespace allows itself more than these grants: services, jobs, and revisions that replicas still have.
async fn users_beyond(objects: &Objects, grants: &Grants, own: &Name) -> Result<BTreeSet<String>> {
    let first = |asks: Asks<'_>| asks.beyond(grants, own).into_iter().next();
    let all = Selector::default();
    let mut users = BTreeSet::new();
    for service in objects.list::<ServiceSpec>(Some(own), &all).await?.items {
        if let Some(lack) = first(Asks::of_service(&service.spec)) {
            users.insert(format!("service {} allows {:?}", service.metadata.name, lack.entry));
        }
    }
    for job in objects.list::<JobSpec>(Some(own), &all).await?.items {
        if let Some(lack) =
            first(Asks { allow: &job.spec.allow, keyvalue: &job.spec.keyvalue, volumes: &[], privileges: &[] })
        {
            users.insert(format!("job {} allows {:?}", job.metadata.name, lack.entry));
        }
    }
    let replicas = objects.list::<ReplicaSpec>(Some(own), &all).await?.items;
    let used: BTreeSet<_> = replicas.into_iter().map(|replica| replica.spec.revision).collect();
    for revision in objects.list::<RevisionSpec>(Some(own), &all).await?.items {
        let is_used = used.iter().any(|name| name.as_str() == revision.metadata.name);
        let template = &revision.spec.template;
        let asks = Asks {
            allow: &template.allow,
            keyvalue: &template.keyvalue,
            volumes: &template.volumes,
            privileges: &template.privileges,
        };
        if let Some(lack) = first(asks).filter(|_| is_used) {
            users.insert(format!("replicas of revision {} have {:?}", revision.metadata.name, lack.entry));
        }
    }
    Ok(users)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hint_is_the_line_to_write() {
        let lack = |field, entry: &str| Lack { field, from: field, index: 0, entry: entry.to_owned() };
        let lacks = [lack("http", "http://10.0.0.5"), lack("private", "10.0.0.0/8")];
        assert_eq!(
            widened(&Grants::default(), &lacks),
            "http: [\"*\", \"http://10.0.0.5\"], private: [\"10.0.0.0/8\"]"
        );
    }
}
