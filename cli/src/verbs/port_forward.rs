//! `skiff port-forward`: ports of this machine that lead to one replica, through the control plane.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use skiff_api::Name;
use skiff_api::client::Client;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::io::ReaderStream;

use super::replica;
use crate::Outcome;
use crate::args::PortForwardArgs;
use crate::context::Context;
use crate::exit::{Exit, Failure};

/// After a connection that could not be taken, as when there are no descriptors left.
const TAKE_AGAIN: Duration = Duration::from_millis(100);

/// Where connections lead.
struct Way {
    client: Client,
    namespace: Name,
    target: String,
}

pub(super) async fn run(context: &Context, args: PortForwardArgs) -> Outcome {
    let client = context.client()?;
    let way = Arc::new(Way { client, namespace: args.namespace.namespace, target: args.target });
    // What is misspelt is said now, and not at the first connection.
    replica::find(&way.client, &way.namespace, &way.target).await?;
    let mut listeners = JoinSet::new();
    for forward in args.ports {
        let wanted = SocketAddr::new(args.address, forward.local);
        let listener = TcpListener::bind(wanted).await.map_err(|error| {
            Failure::new(Exit::InUse, error)
                .during(format!("failed to listen on {wanted} (hint: write :{} for a free port)", forward.remote))
        })?;
        let address = listener.local_addr().unwrap_or(wanted);
        println!("Forwarding from {address} -> {}", forward.remote);
        listeners.spawn(listen(way.clone(), listener, forward.remote));
    }
    // Both only end with this process.
    tokio::select! {
        _ = listeners.join_next() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    Ok(ExitCode::SUCCESS)
}

async fn listen(way: Arc<Way>, listener: TcpListener, port: u16) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let way = way.clone();
                tokio::spawn(async move {
                    if let Err(failure) = connect(&way, stream, port).await {
                        failure.during(format!("failed to forward a connection to port {port}")).report();
                    }
                });
            }
            Err(_) => tokio::time::sleep(TAKE_AGAIN).await,
        }
    }
}

/// The replica is looked up for each: the one before may be gone.
async fn connect(way: &Way, stream: TcpStream, port: u16) -> Result<(), Failure> {
    let replica = replica::find(&way.client, &way.namespace, &way.target).await?;
    let (read, mut write) = stream.into_split();
    let mut comes = way.client.forward(&replica, port, ReaderStream::new(read).boxed()).await?.boxed();
    while let Some(piece) = comes.next().await {
        if write.write_all(&piece?).await.is_err() {
            // Whoever connected here has gone.
            break;
        }
    }
    Ok(())
}
