//! Starting, serving and stopping.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use skiff_disk::Disk;
use skiff_host::NodeOptions;
use skiff_host::gateway::PeerOptions;
use skiff_host::uplink::{Credentials, Membership, RemoteBuckets, RemoteTunnels, Uplink};
use skiff_link::Clock;
use skiff_link::tls;
use skiff_registry::ClientOptions;

use super::member::{self, Wanted};
use super::monitor::Monitor;
use crate::args::{NodeRunArgs, ServerArgs};
use crate::context::user_folder;
use crate::exit::{Exit, Failure};
use crate::verbs::serving::api;
use crate::verbs::serving::data::Data;
use crate::verbs::serving::listen::{listen, local_addr};
use crate::verbs::serving::node::{self, GatewayArgs, machine_name};
use crate::verbs::serving::process::{Stop, keep_memory_private};

pub(super) async fn serve(server: ServerArgs, args: NodeRunArgs) -> Result<(), Failure> {
    let mut stop = Stop::listen()?;
    let disk = Disk::real();
    let folder = match args.data {
        Some(folder) => folder,
        None => user_folder("XDG_DATA_HOME", ".local/share")?.join("skiff-node"),
    };
    let data = Data::open(&folder, &disk)?;
    if data.join("store.redb").exists() {
        let folder = folder.display();
        let text = format!(
            "failed to use the data folder {folder}: it holds a control plane (hint: choose another with --data; one machine may run both)"
        );
        return Err(Failure::message(Exit::Conflict, text));
    }
    // A token is not spent by a machine whose gateway cannot listen.
    let gateway = GatewayArgs { plain: args.gateway, tls: args.tls, access_log: args.access_log }.open()?;
    let gateway_addr = local_addr(&gateway.plain)?;
    let peer = listen("other nodes", "--peer", args.peer)?;
    let peer_addr = local_addr(&peer)?;
    let monitor = args.metrics.map(Monitor::open).transpose()?;
    let membership = Membership::open(disk.clone(), data.join("node"));
    let membership = membership.map_err(|error| Failure::new(Exit::Invalid, error))?;
    let clock = Clock::new(membership.time());
    let own: BTreeMap<String, String> = args.label.into_iter().collect();
    let wanted = Wanted { server: args.join, token: server.token, name: args.name, labels: own.clone() };
    let member = member::find(&membership, wanted, machine_name(), &clock).await?;
    let name = member.name.clone();

    let unusable = |error| Failure::new(Exit::Invalid, error).during("failed to use the node's certificate");
    let credentials = Credentials::new(member.identity.clone(), clock).map_err(unusable)?;
    let registry_tls = credentials.client(&[tls::ALPN_H2, tls::ALPN_H1]).map_err(unusable)?;
    let registry = ClientOptions::new(member.server.to_string()).tls(Some(registry_tls));
    let callable = |error| Failure::new(Exit::Invalid, error);
    let buckets = RemoteBuckets::new(&member.server, &credentials).map_err(callable)?;
    let tunnels = RemoteTunnels::new(&member.server, &credentials).map_err(callable)?;
    // The token's win: whoever gave it out decides what its nodes are.
    let labels = own.into_iter().chain(member.labels.clone()).collect();
    let advertise = args.advertise.as_deref().map(|host| at_port(host, peer_addr.port()));
    let options = NodeOptions {
        name: name.clone(),
        peer: Some(PeerOptions { listener: peer, advertise, credentials: credentials.clone() }),
        advertise: args.advertise.map(|host| advertised(&host, gateway_addr)),
        uid: member.identity.uid().cloned(),
        site: args.site.unwrap_or_default(),
        labels,
        docker: args.docker.socket(),
        buckets: Some(Arc::new(buckets)),
        tunnels: Some(Arc::new(tunnels)),
        ..node::options(data.join("node"), disk, gateway, registry)?
    };
    let node = Arc::new(node::start(options).await?);
    let tls = node.gateway_tls_addr().map(|addr| format!(" gateway-tls=https://{addr}")).unwrap_or_default();
    let metrics = monitor.as_ref().map(|monitor| format!(" metrics=http://{}", monitor.addr)).unwrap_or_default();
    let monitor = monitor.map(|monitor| monitor.serve(&node));
    keep_memory_private();
    writeln!(io::stdout(), "ready node={name} gateway=http://{}{tls} peer={peer_addr}{metrics}", node.gateway_addr())
        .and_then(|()| io::stdout().flush())
        .map_err(|error| Failure::new(Exit::Internal, error).during("failed to say that the node is ready"))?;

    let uplink = Uplink::new(member, membership, credentials).map_err(|error| Failure::new(Exit::Invalid, error))?;
    let mut link = tokio::spawn(uplink.run(Arc::clone(&node)));
    let outcome = tokio::select! {
        signal = stop.wait() => {
            tracing::info!(signal, "stopping: requests in flight are finished first");
            link.abort();
            // Its share of the node is gone when this returns.
            drop(link.await);
            Ok(())
        }
        ended = &mut link => Err(match ended {
            Ok(removed) => {
                let hint = "(hint: to join again, start on an empty folder, with a new token)";
                Failure::message(Exit::Unauthorized, format!("node {name} stops: {removed} {hint}"))
            }
            Err(error) => Failure::new(Exit::Internal, error).during("failed to keep in touch with the control plane"),
        }),
    };
    if let Some((stop, task)) = monitor {
        drop(stop);
        api::drain(task).await;
    }
    if let Some(node) = Arc::into_inner(node) {
        tokio::select! {
            () = node.shutdown() => {}
            // A second signal means now.
            _ = stop.wait() => tracing::warn!("stopping at once"),
        }
    }
    outcome
}

/// `HOST`, with the gateway's port, or `HOST:PORT` as it is.
fn advertised(host: &str, gateway: SocketAddr) -> String {
    match port_of(host) {
        Some(_) => host.to_owned(),
        None => at_port(host, gateway.port()),
    }
}

/// `HOST`, also of `HOST:PORT`, with another port.
fn at_port(host: &str, port: u16) -> String {
    let host = port_of(host).map_or(host, |(host, _)| host);
    match host.contains(':') && !host.starts_with('[') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    }
}

/// An IPv6 address has a port behind its bracket only.
fn port_of(host: &str) -> Option<(&str, u16)> {
    let (before, port) = host.rsplit_once(':')?;
    let port = port.parse().ok()?;
    (before.ends_with(']') || !before.contains(':')).then_some((before, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_gets_the_gateways_port_unless_it_has_one() {
        let gateway: SocketAddr = "0.0.0.0:8080".parse().unwrap();
        for (given, shown) in [
            ("edge.example", "edge.example:8080"),
            ("edge.example:80", "edge.example:80"),
            ("10.0.0.1", "10.0.0.1:8080"),
            ("fd00::1", "[fd00::1]:8080"),
            ("[fd00::1]", "[fd00::1]:8080"),
            ("[fd00::1]:80", "[fd00::1]:80"),
        ] {
            assert_eq!(advertised(given, gateway), shown);
            let host = shown.rsplit_once(':').unwrap().0;
            assert_eq!(at_port(given, 7071), format!("{host}:7071"));
        }
    }
}
