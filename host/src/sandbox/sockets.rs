//! `wasi:sockets`: connections to what `allow.tcp` names.
//!
//! Two of its interfaces are the node's own: names are resolved past the check of their addresses, and a socket has a place
//! among those of the instance and of the node. All else is as it comes, with a check of each address; UDP and listening
//! are denied.

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::vec;

use futures_util::FutureExt;
use tokio::sync::OwnedSemaphorePermit;
use wasmtime::component::{HasSelf, Linker, Resource};
use wasmtime_wasi::p2::bindings::sockets::ip_name_lookup::{self, ResolveAddressStream};
use wasmtime_wasi::p2::bindings::sockets::network::{self, ErrorCode, IpAddress, IpAddressFamily};
use wasmtime_wasi::p2::bindings::sockets::tcp_create_socket;
use wasmtime_wasi::p2::{DynPollable, Network, Pollable, SocketError, SocketResult, TcpSocket, subscribe};
use wasmtime_wasi::runtime::{AbortOnDropJoinHandle, spawn};
use wasmtime_wasi::sockets::{SocketAddrUse, WasiSocketsView};
use wasmtime_wasi::{WasiCtxBuilder, async_trait};
use wasmtime_wasi_io::bindings::wasi::io::error::Error as IoError;

use crate::capabilities::{Found, Outbound};
use crate::sandbox::state::State;

/// Sockets of one instance at once: as many as pools of databases have.
const SOCKETS_MAX: usize = 32;

/// What an instance has of them.
#[derive(Default)]
pub(super) struct Sockets {
    found: Arc<Found>,
    /// As many as there were sockets when it last made one.
    places: Vec<OwnedSemaphorePermit>,
}

/// A name that is being looked up.
enum Lookup {
    Begun(AbortOnDropJoinHandle<Vec<IpAddr>>),
    Done(vec::IntoIter<IpAddr>),
    /// There is nothing.
    Nothing,
}

impl Lookup {
    fn end(&mut self, found: Vec<IpAddr>) {
        *self = if found.is_empty() { Self::Nothing } else { Self::Done(found.into_iter()) };
    }
}

pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    tcp_create_socket::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
    ip_name_lookup::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
    linker.allow_shadowing(false);
    Ok(())
}

impl Sockets {
    /// Lets a guest connect to what its service allows itself.
    pub(super) fn open(wasi: &mut WasiCtxBuilder, outbound: Outbound) -> Self {
        let sockets = Self::default();
        let found = sockets.found.clone();
        wasi.allow_tcp(true).socket_addr_check(move |to, what| {
            let is_so = may(&outbound, to, what, &found);
            Box::pin(std::future::ready(is_so)) as Pin<Box<dyn Future<Output = bool> + Send + Sync>>
        });
        sockets
    }
}

fn may(outbound: &Outbound, to: SocketAddr, what: SocketAddrUse, found: &Found) -> bool {
    match what {
        SocketAddrUse::TcpConnect => outbound.may_connect(to, found),
        // What connecting does by itself.
        SocketAddrUse::TcpBind => to.ip().is_unspecified() && to.port() == 0,
        _ => false,
    }
}

impl network::Host for State {
    fn convert_error_code(&mut self, error: SocketError) -> wasmtime::Result<ErrorCode> {
        error.downcast()
    }

    fn network_error_code(&mut self, error: Resource<IoError>) -> wasmtime::Result<Option<ErrorCode>> {
        network::Host::network_error_code(&mut self.sockets(), error)
    }
}

impl network::HostNetwork for State {
    fn drop(&mut self, network: Resource<Network>) -> wasmtime::Result<()> {
        network::HostNetwork::drop(&mut self.sockets(), network)
    }
}

impl tcp_create_socket::Host for State {
    fn create_tcp_socket(&mut self, family: IpAddressFamily) -> SocketResult<Resource<TcpSocket>> {
        let open = self.table().iter_mut().filter(|object| object.is::<TcpSocket>()).count();
        let outbound = self.outbound().clone();
        if let Some(sockets) = self.sockets_of() {
            sockets.places.truncate(open);
            let place = outbound.socket().filter(|_| open < SOCKETS_MAX);
            sockets.places.push(place.ok_or(ErrorCode::NewSocketLimit)?);
        }
        // Denied, where there are none.
        tcp_create_socket::Host::create_tcp_socket(&mut self.sockets(), family)
    }
}

impl ip_name_lookup::Host for State {
    fn resolve_addresses(
        &mut self,
        network: Resource<Network>,
        name: String,
    ) -> SocketResult<Resource<ResolveAddressStream>> {
        self.table().get(&network)?;
        let outbound = self.outbound().clone();
        let Some(sockets) = self.sockets_of() else { return Err(ErrorCode::PermanentResolverFailure.into()) };
        let found = sockets.found.clone();
        let lookup = Lookup::Begun(spawn(async move { outbound.find(&name, &found).await }));
        let lookup = self.table().push(lookup)?;
        // The guest's handle is of the interface's type, what it stands for is ours.
        Ok(Resource::new_own(lookup.rep()))
    }
}

fn ours(stream: &Resource<ResolveAddressStream>) -> Resource<Lookup> {
    Resource::new_borrow(stream.rep())
}

impl ip_name_lookup::HostResolveAddressStream for State {
    fn resolve_next_address(&mut self, stream: Resource<ResolveAddressStream>) -> SocketResult<Option<IpAddress>> {
        let lookup = self.table().get_mut(&ours(&stream))?;
        if let Lookup::Begun(begun) = lookup {
            let Some(found) = begun.now_or_never() else { return Err(ErrorCode::WouldBlock.into()) };
            lookup.end(found);
        }
        match lookup {
            Lookup::Done(found) => Ok(found.next().map(IpAddress::from)),
            Lookup::Begun(_) | Lookup::Nothing => Err(ErrorCode::NameUnresolvable.into()),
        }
    }

    fn subscribe(&mut self, stream: Resource<ResolveAddressStream>) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(self.table(), ours(&stream))
    }

    fn drop(&mut self, stream: Resource<ResolveAddressStream>) -> wasmtime::Result<()> {
        self.table().delete(Resource::<Lookup>::new_own(stream.rep()))?;
        Ok(())
    }
}

#[async_trait]
impl Pollable for Lookup {
    async fn ready(&mut self) {
        if let Self::Begun(begun) = self {
            let found = begun.await;
            self.end(found);
        }
    }
}
