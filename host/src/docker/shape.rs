//! What an engine is asked to make of a replica. Pure: the same replica on the same machine is the same container.

use std::collections::HashMap;
use std::path::Path;

use bollard::models::{
    ContainerCreateBody, HostConfig, HostConfigLogConfig, Mount, MountType, RestartPolicy, RestartPolicyNameEnum,
};
use skiff_api::Digest;
use skiff_api::grant::Privilege;
use skiff_api::id::{ReplicaKey, Uid};
use skiff_api::quantity::{Bytes, MilliCpu};
use skiff_api::wire::Assignment;
use skiff_registry::hash::sha256;

use super::volume;

/// Threads and processes of one container: far more than a service needs, far less than what stalls a machine.
const PIDS_MAX: i64 = 512;
/// What `/tmp` holds. It counts against the memory limit as well.
const TMP: &str = "rw,nosuid,nodev,noexec,size=64m";
/// What an engine keeps of a log: the node reads along, and keeps its own.
const LOG_BYTES: &str = "4m";
/// Whom the engine asks for a container: nobody (RFC 5737). Engines before 25 ask from outside of the container's network
/// otherwise. What the container itself asks is its doorway.
const NO_DNS: &str = "192.0.2.1";
/// Less than this engines refuse.
const MEMORY_MIN: Bytes = Bytes::mebi(6);
/// Of one whole core, as the kernel weighs them.
const SHARES: u64 = 1024;

pub(super) const NODE: &str = "skiff.node";
pub(super) const REPLICA: &str = "skiff.replica";

/// What a container and its network are called: readable, and of this node's replica alone.
pub(super) fn name(node: &Uid, replica: &ReplicaKey, uid: &Uid) -> String {
    let own = sha256(format!("{}\0{}", node.as_str(), uid.as_str()).as_bytes());
    let readable = format!("{}-{}", replica.namespace, replica.name.as_str());
    let readable: String = readable.chars().take(100).collect();
    format!("skiff-{readable}-{}", own.hex().get(..12).unwrap_or_default())
}

/// What an image is called on this node: by its digest, so that no tag can be moved under it.
pub(super) fn image(digest: &Digest) -> String {
    format!("skiff/image:{}-{}", digest.algorithm().name(), digest.hex().chars().take(96).collect::<String>())
}

pub(super) fn labels(node: &Uid, assignment: &Assignment) -> HashMap<String, String> {
    let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    HashMap::from([
        label(NODE, node.as_str()),
        label(REPLICA, assignment.uid.as_str()),
        label("skiff.namespace", &assignment.replica.namespace.to_string()),
        label("skiff.service", &assignment.service.to_string()),
        label("skiff.revision", &assignment.revision.to_string()),
    ])
}

/// What the replica's processes may have in memory together.
pub(super) fn memory(assignment: &Assignment) -> Bytes {
    let template = &assignment.template;
    template.limits.memory_or_default(&template.instance)
}

pub(super) fn is_little(memory: Bytes) -> bool {
    memory < MEMORY_MIN
}

/// On a machine with so many cores; `names` is the file that it looks names up by, `files` what it reads else.
pub(super) fn body(
    node: &Uid,
    assignment: &Assignment,
    (image, names): (String, Option<&Path>),
    files: Vec<Mount>,
    cores: usize,
) -> ContainerCreateBody {
    let template = &assignment.template;
    let names = names.map(|names| read_only(names, "/etc/resolv.conf"));
    let capability = |privilege: &Privilege| match privilege {
        Privilege::Capability(name) => Some((*name).to_owned()),
        Privilege::WritableRoot => None,
    };
    let capabilities: Vec<String> = template.privileges.iter().filter_map(capability).collect();
    let memory = i64::try_from(memory(assignment).0).unwrap_or(i64::MAX);
    let host = HostConfig {
        memory: Some(memory),
        // Memory and swap together: no swap.
        memory_swap: Some(memory),
        nano_cpus: template.limits.cpu.map(|cpu| nano_cpus(cpu, cores)),
        cpu_shares: shares(template.resources.cpu),
        pids_limit: Some(PIDS_MAX),
        privileged: Some(false),
        cap_drop: Some(vec!["ALL".to_owned()]),
        cap_add: (!capabilities.is_empty()).then_some(capabilities),
        security_opt: Some(vec!["no-new-privileges".to_owned()]),
        readonly_rootfs: Some(!template.privileges.contains(&Privilege::WritableRoot)),
        tmpfs: Some(HashMap::from([("/tmp".to_owned(), TMP.to_owned())])),
        ipc_mode: Some("private".to_owned()),
        network_mode: Some(name(node, &assignment.replica, &assignment.uid)),
        dns: Some(vec![NO_DNS.to_owned()]),
        mounts: Some(volume::mounts(node, assignment).into_iter().chain(files).chain(names).collect()),
        restart_policy: Some(RestartPolicy { name: Some(RestartPolicyNameEnum::NO), maximum_retry_count: None }),
        log_config: Some(HostConfigLogConfig {
            typ: Some("json-file".to_owned()),
            config: Some(HashMap::from([("max-size".to_owned(), LOG_BYTES.to_owned())])),
        }),
        ..HostConfig::default()
    };
    ContainerCreateBody {
        image: Some(image),
        user: template.user.clone(),
        cmd: (!template.args.is_empty()).then(|| template.args.clone()),
        env: Some(variables(assignment)),
        labels: Some(labels(node, assignment)),
        host_config: Some(host),
        ..ContainerCreateBody::default()
    }
}

fn read_only(source: &Path, target: &str) -> Mount {
    Mount {
        typ: Some(MountType::BIND),
        source: Some(source.to_string_lossy().into_owned()),
        target: Some(target.to_owned()),
        read_only: Some(true),
        ..Mount::default()
    }
}

/// It keeps those that it was made with: newer values are those of the next one.
fn variables(assignment: &Assignment) -> Vec<String> {
    let own = assignment.template.env.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    let told = assignment.settings.iter().flat_map(|settings| settings.variables());
    own.chain(told).map(|(key, value)| format!("{key}={value}")).collect()
}

/// An engine refuses more cores than there are.
fn nano_cpus(cpu: MilliCpu, cores: usize) -> i64 {
    let most = (cores as u64).saturating_mul(1000);
    i64::try_from(cpu.0.clamp(10, most.max(10)).saturating_mul(1_000_000)).unwrap_or(i64::MAX)
}

/// What a container gets of the processor when there is not enough: in proportion to what it has reserved.
fn shares(reserved: MilliCpu) -> Option<i64> {
    let shares = reserved.0.saturating_mul(SHARES) / 1000;
    (reserved.0 > 0).then(|| i64::try_from(shares.clamp(2, 262_144)).unwrap_or(2))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bollard::models::MountType;
    use skiff_api::id::{ReplicaName, RevisionName};
    use skiff_api::resource::ServiceSpec;

    use super::*;

    fn assignment(change: impl FnOnce(&mut ServiceSpec)) -> Assignment {
        let mut spec = ServiceSpec::new("cart:1".parse().unwrap());
        change(&mut spec);
        Assignment {
            replica: ReplicaKey { namespace: "shop".parse().unwrap(), name: ReplicaName::new("cart-1-abc") },
            uid: Uid::new("u"),
            service: "cart".parse().unwrap(),
            revision: RevisionName::new("cart-1"),
            template: Arc::new(spec.template()),
            trust: None,
            settings: None,
            task: None,
            stop: false,
            owner: Some(Uid::new("s")),
        }
    }

    fn host(change: impl FnOnce(&mut ServiceSpec)) -> HostConfig {
        body(&Uid::new("n"), &assignment(change), (String::new(), None), Vec::new(), 2).host_config.unwrap()
    }

    #[test]
    fn nothing_is_allowed_that_was_not_asked_for() {
        let host = host(|_| {});
        assert_eq!((host.privileged, host.readonly_rootfs), (Some(false), Some(true)));
        assert_eq!(host.cap_drop, Some(vec!["ALL".to_owned()]));
        assert_eq!(host.security_opt, Some(vec!["no-new-privileges".to_owned()]));
        assert_eq!((host.binds, host.mounts, host.port_bindings, host.pid_mode), (None, Some(Vec::new()), None, None));
        assert!(host.network_mode.unwrap().starts_with("skiff-shop-cart-1-abc-"));
        assert_eq!(host.pids_limit, Some(PIDS_MAX));
    }

    #[test]
    fn limits_are_the_kernels_and_there_is_no_swap() {
        let host = host(|spec| {
            spec.limits.memory = Some(Bytes::mebi(32));
            spec.limits.cpu = Some(MilliCpu(500));
            spec.resources.cpu = MilliCpu(250);
        });
        assert_eq!((host.memory, host.memory_swap), (Some(32 << 20), Some(32 << 20)));
        assert_eq!((host.nano_cpus, host.cpu_shares), (Some(500_000_000), Some(256)));
        let large = self::host(|spec| spec.limits.cpu = Some(MilliCpu(64_000)));
        assert_eq!(large.nano_cpus, Some(2_000_000_000), "an engine refuses more cores than there are");
    }

    #[test]
    fn what_it_keeps_is_mounted_as_it_was_asked_for() {
        let host = host(|spec| {
            let volumes =
                r#"[{"name": "data", "path": "/data"}, {"hostPath": "/srv", "path": "/srv", "readOnly": true}]"#;
            spec.volumes = serde_json::from_str(volumes).unwrap();
        });
        let [data, srv] = &host.mounts.unwrap()[..] else { panic!("two") };
        assert!(data.source.as_ref().unwrap().starts_with("skiff-shop-cart-data-"));
        assert_eq!((data.typ, data.read_only), (Some(MountType::VOLUME), Some(false)));
        assert_eq!((srv.typ, srv.read_only, srv.source.as_deref()), (Some(MountType::BIND), Some(true), Some("/srv")));
        assert_eq!(srv.bind_options.as_ref().unwrap().create_mountpoint, Some(false));
    }

    #[test]
    fn a_name_is_of_one_replica_of_one_node() {
        let of = |node: &str, uid: &str| name(&Uid::new(node), &assignment(|_| {}).replica, &Uid::new(uid));
        assert_eq!(of("n", "u"), of("n", "u"));
        assert!(of("n", "u") != of("m", "u") && of("n", "u") != of("n", "v"));
    }
}
