//! What a container may reach, and nothing else.
//!
//! ```text
//!                     its bridge, the kernel's rules                the container's doorway, in the node
//! container --> node's address on it --:53--> redirect --> UDP, TCP --> dns: what it may know is here
//!                                    --:80, its ports--> redirect --> door --> http --> Outbound (as a component's call)
//!                                    --anything else--> reset              '-> tls, tcp --> dial --> splice <--> server
//! container --> any other address: no way there
//! ```
//! A container's network leads nowhere ([`crate::docker`]), so all that it can speak to is the node's address in there. Names
//! that its service's `allow` covers lead to that address; what it then asks for is known by the port, by a request's host,
//! or by the name in a TLS handshake, and goes through the same checks as what a component asks for, with the same
//! denials: they are told in its log, as events and as figures.
//!
//! **Identity** is the bridge that something came in by. Each container has a doorway of its own, which knows its replica; the
//! kernel redirects to it only what came by that bridge.
//!
//! **Rules** ([`firewall`]) do the redirecting, and refuse everything else that comes from a container, on all addresses of
//! the machine and on the way through it. By redirecting, the doorway needs no port that somebody may have taken, such as
//! the gateway port 80.
//!
//! **Restarts**: doorways are opened again for containers that run on; the rules of before refuse meanwhile. Sockets are bound
//! whether the address is there or not, so an engine that takes the bridge away and brings it back does not matter.

mod dns;
mod door;
mod firewall;
mod http;
mod names;
mod place;
mod splice;
mod tls;

pub(crate) use place::{Doorways, Error, Place, bridge, gateway_of};
