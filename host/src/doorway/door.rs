//! One container's doorway: its sockets, and what comes in by them.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

use super::dns;
use super::place::is_from;
use super::splice::{SILENCE_MAX, splice};
use super::{http, tls};
use crate::capabilities::{Dialled, Outbound};

/// Connections of one container at once; the next ones wait in the kernel's queue.
const CONNECTIONS_EACH_MAX: usize = 512;
/// Connections in that queue.
const BACKLOG: i32 = 128;
/// The port of names.
pub(super) const NAMES: u16 = 53;
/// Whoever connects says something, unless the server speaks first.
const FIRST_BYTE_WITHIN: Duration = Duration::from_secs(30);
/// Such as where there are no descriptors.
const AFTER_ERROR: Duration = Duration::from_millis(100);

/// A doorway that is open. It closes, with everything that goes through it, when it is dropped.
#[derive(Debug)]
pub(super) struct Door {
    tasks: [JoinHandle<()>; 2],
    /// Where the kernel is to redirect to.
    pub(super) udp: u16,
    pub(super) tcp: u16,
}

impl Drop for Door {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// What its connections share.
struct Inner {
    gateway: Ipv4Addr,
    outbound: Outbound,
    each: Arc<Semaphore>,
    /// Those of all doorways of the node.
    all: Arc<Semaphore>,
}

impl Door {
    /// Opens it at the node's address in the container's network, at ports of the kernel's choice.
    pub(super) fn open(gateway: Ipv4Addr, outbound: Outbound, all: Arc<Semaphore>) -> io::Result<Self> {
        let udp = UdpSocket::from_std(bound(gateway, Type::DGRAM, Protocol::UDP)?.into())?;
        let listener = bound(gateway, Type::STREAM, Protocol::TCP)?;
        listener.listen(BACKLOG)?;
        let listener = TcpListener::from_std(listener.into())?;
        let (udp_port, tcp_port) = (udp.local_addr()?.port(), listener.local_addr()?.port());
        let names = outbound.clone();
        let each = Arc::new(Semaphore::new(CONNECTIONS_EACH_MAX));
        let inner = Arc::new(Inner { gateway, outbound, each, all });
        let tasks = [
            tokio::spawn(async move { dns::serve_udp(&udp, gateway, &names).await }),
            tokio::spawn(accept(listener, inner)),
        ];
        Ok(Self { tasks, udp: udp_port, tcp: tcp_port })
    }
}

/// A socket of that address, whether it is there now or not.
fn bound(gateway: Ipv4Addr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, kind, Some(protocol))?;
    socket.set_freebind_v4(true)?;
    socket.bind(&SocketAddr::V4(SocketAddrV4::new(gateway, 0)).into())?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

async fn accept(listener: TcpListener, inner: Arc<Inner>) {
    // Dropped with this task.
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        // Nobody closes the semaphores.
        let Ok(place) = inner.each.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, from)) if is_from(inner.gateway, from.ip()) => match inner.all.clone().try_acquire_owned() {
                Ok(of_all) => drop(connections.spawn(meet(inner.clone(), stream, (place, of_all)))),
                Err(_) => inner.outbound.is_full(),
            },
            Ok(_) => {}
            Err(_) => sleep(AFTER_ERROR).await,
        }
    }
}

/// Serves a connection to its end.
async fn meet(inner: Arc<Inner>, mut stream: TcpStream, _places: (OwnedSemaphorePermit, OwnedSemaphorePermit)) {
    let (gateway, outbound) = (inner.gateway, &inner.outbound);
    // What it connected to, before the kernel redirected it.
    let wanted = SockRef::from(&stream).original_dst_v4().ok().and_then(|wanted| wanted.as_socket());
    let Some(port) = wanted.map(|wanted| wanted.port()) else { return };
    // Failing costs some latency, and no more.
    let _ = stream.set_nodelay(true);
    if port == NAMES {
        return dns::serve_tcp(&mut stream, gateway, outbound).await;
    }
    if outbound.has_server_at(port) {
        if let Some(Dialled { stream: server, .. }) = &mut outbound.dial_port(port).await {
            splice(stream, server, SILENCE_MAX).await;
        }
        return;
    }
    let mut first = [0];
    let Ok(Ok(1)) = timeout(FIRST_BYTE_WITHIN, stream.peek(&mut first)).await else { return };
    if first != [tls::FIRST_BYTE] {
        return http::serve(stream, port, outbound).await;
    }
    let Some((name, hello)) = tls::hello(&mut stream).await else { return };
    let Some(Dialled { stream: server, .. }) = &mut outbound.dial_tls(&name, port).await else { return };
    if tokio::io::AsyncWriteExt::write_all(server, &hello).await.is_ok() {
        splice(stream, server, SILENCE_MAX).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_open_before_its_address_is_there_and_closed_with_it() {
        let nobodys = Ipv4Addr::new(198, 18, 255, 249);
        let all = Arc::new(Semaphore::new(1));
        let door = Door::open(nobodys, Outbound::default(), all.clone()).unwrap();
        assert!(door.udp > 0 && door.tcp > 0);
        assert!(Arc::strong_count(&all) > 1);
        drop(door);
        // Its tasks held what they share.
        for _ in 0..100 {
            if Arc::strong_count(&all) == 1 {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("a task goes on");
    }
}
