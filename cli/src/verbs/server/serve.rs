//! Starting, serving and stopping.

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use jiff::Timestamp;
use skiff_disk::Disk;
use skiff_link::Clock;
use skiff_scheduler::FleetOptions;
use tokio::sync::oneshot;

use crate::args::ControlArgs;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::verbs::serving::api::{self, Door};
use crate::verbs::serving::control::{Control, ControlOptions};
use crate::verbs::serving::data::Data;
use crate::verbs::serving::listen::{listen, local_addr};
use crate::verbs::serving::process::{Stop, keep_memory_private, raise_files};
use crate::verbs::serving::tls::{TlsDoor, TlsDoorOptions};
use crate::verbs::serving::{authority, data, node};

pub(super) async fn serve(args: ControlArgs) -> Result<(), Failure> {
    let mut stop = Stop::listen()?;
    raise_files();
    let disk = Disk::real();
    let data = Data::open_control(&data::folder(args.data)?, &disk)?;
    let token = data.token(&disk)?;
    let clock = Clock::new(Timestamp::UNIX_EPOCH);
    let authority = Arc::new(authority::open(data.path(), &disk, &clock)?);
    let listener = listen("the API", "--listen", args.listen)?;
    let addr = local_addr(&listener)?;

    let hosts = hosts(addr.ip(), args.name);
    let mut control = Control::start(ControlOptions {
        data: &data,
        disk: &disk,
        token: &token,
        registry: args.registry,
        addresses: hosts.iter().map(|host| with_port(host, addr.port())).collect(),
        liveness: args.liveness.into(),
        fleet: Some(FleetOptions { authority: Arc::clone(&authority), clock: Arc::clone(&clock) }),
    })
    .await?;
    let Some(fleet) = control.plane.fleet() else {
        return Err(Failure::message(Exit::Internal, "the control plane takes no nodes"));
    };
    let door = TlsDoor::new(TlsDoorOptions {
        authority: Arc::clone(&authority),
        clock,
        hosts,
        gate: fleet.gate().clone(),
        plane: Arc::downgrade(&control.plane),
        pulls: control.pulls.clone(),
    })?;
    let (stop_api, api_stops) = oneshot::channel::<()>();
    let router = control.router.clone();
    let server = tokio::spawn(async move {
        if let Err(error) = api::serve(listener, router, Door::Tls(Arc::new(door)), api_stops).await {
            tracing::error!(%error, "the API stopped");
        }
    });

    let server_url = format!("https://{}", reached_at(addr));
    let context = Context { server: server_url.clone(), token, ca: Some(authority.ca_pem()) };
    if let Err(failure) = context.write() {
        // A service of the machine has no home; its operators take the token from the data folder.
        let token = data.join("token");
        tracing::warn!(%failure, token = %token.display(), "there is no context: use --server, --token and --ca");
    }
    keep_memory_private();
    writeln!(io::stdout(), "ready api={server_url} ca=sha256:{}", authority.ca_hash())
        .and_then(|()| io::stdout().flush())
        .map_err(|error| Failure::new(Exit::Internal, error).during("failed to say that the server is ready"))?;

    let outcome = tokio::select! {
        signal = stop.wait() => {
            tracing::info!(signal, "stopping: nodes go on with what they have");
            Ok(())
        }
        error = &mut control.sync_failed => {
            tracing::error!("stopping: the disk did not keep what the store wrote");
            Err(Failure::new(Exit::Internal, error))
        }
    };
    // Fails where the API has stopped already.
    let _ = stop_api.send(());
    control.shutdown().await;
    api::drain(server).await;
    outcome
}

/// The names and addresses that the control plane is reached by, as far as this machine knows.
fn hosts(listens: IpAddr, names: Vec<String>) -> Vec<String> {
    let mut hosts = names;
    let own = [
        "localhost".to_owned(),
        Ipv4Addr::LOCALHOST.to_string(),
        Ipv6Addr::LOCALHOST.to_string(),
        node::machine_name().to_string(),
    ];
    hosts.extend(own);
    if !listens.is_unspecified() {
        hosts.push(listens.to_string());
    }
    let mut seen = Vec::new();
    hosts.retain(|host| {
        let is_new = !seen.contains(host);
        seen.push(host.clone());
        is_new
    });
    hosts
}

fn with_port(host: &str, port: u16) -> String {
    match host.parse::<IpAddr>() {
        Ok(ip) => SocketAddr::new(ip, port).to_string(),
        Err(_) => format!("{host}:{port}"),
    }
}

/// Where this machine itself reaches what listens there.
fn reached_at(addr: SocketAddr) -> SocketAddr {
    match addr.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), addr.port()),
        IpAddr::V6(ip) if ip.is_unspecified() => SocketAddr::new(Ipv6Addr::LOCALHOST.into(), addr.port()),
        _ => addr,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_knows_what_it_is_called() {
        let hosts = hosts("192.0.2.1".parse().unwrap(), vec!["skiff.example".to_owned(), "localhost".to_owned()]);
        assert_eq!(hosts[..4], ["skiff.example", "localhost", "127.0.0.1", "::1"]);
        assert_eq!(hosts.last().unwrap(), "192.0.2.1");
        assert_eq!(with_port("::1", 7070), "[::1]:7070");
        assert_eq!(with_port("skiff.example", 7070), "skiff.example:7070");
        assert_eq!(reached_at("0.0.0.0:1".parse().unwrap()).to_string(), "127.0.0.1:1");
        assert_eq!(reached_at("[::]:1".parse().unwrap()).to_string(), "[::1]:1");
        assert_eq!(reached_at("192.0.2.1:1".parse().unwrap()).to_string(), "192.0.2.1:1");
    }
}
