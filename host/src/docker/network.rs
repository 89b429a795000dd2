//! A network for one container: the node is on it and nobody else, and nothing leads out of it but the container's doorway
//! ([`crate::doorway`]), by whose bridge it is known.
//!
//! Engines by themselves have room for some thirty networks. These are as small as networks can be, and lie where no other
//! network should: 198.18.0.0/15 is set apart for measurements (RFC 2544).

use std::collections::HashMap;
use std::net::Ipv4Addr;

use bollard::models::{Ipam, IpamConfig, NetworkCreateRequest};
use bollard::query_parameters::ListNetworksOptionsBuilder;
use skiff_registry::hash::sha256;

use super::engine::Engine;
use super::error::Error;

const FIRST: u32 = 0xC612_0000; // 198.18.0.0
/// Addresses of a network: its own, the node's, the container's, two to spare, and that of all.
const SIZE: u32 = 8;
/// Networks in 198.18.0.0/15.
const SUBNETS: u32 = (1 << 17) / SIZE;
/// Places that are tried: an engine that has thousands of ours is rare, a taken place is not.
const TRIES: u32 = 64;

/// Makes the network of that name, with a free place for it. Returns the node's address in it.
pub(super) async fn create(
    engine: &Engine,
    (name, bridge): (&str, String),
    labels: &HashMap<String, String>,
) -> Result<Ipv4Addr, Error> {
    // Engines allow several of one name.
    remove(engine, name).await?;
    let start = sha256(name.as_bytes());
    let start = u32::from_str_radix(start.hex().get(..8).unwrap_or("0"), 16).unwrap_or(0) % SUBNETS;
    for n in 0..TRIES {
        let base = FIRST + ((start + n) % SUBNETS) * SIZE;
        let (subnet, gateway) = (format!("{}/29", Ipv4Addr::from(base)), Ipv4Addr::from(base + 1));
        let config = IpamConfig { subnet: Some(subnet), gateway: Some(gateway.to_string()), ..IpamConfig::default() };
        let option = |name: &str, value: &str| (format!("com.docker.network.bridge.{name}"), value.to_owned());
        let request = NetworkCreateRequest {
            name: name.to_owned(),
            driver: Some("bridge".to_owned()),
            internal: Some(true),
            enable_ipv6: Some(false),
            ipam: Some(Ipam { config: Some(vec![config]), ..Ipam::default() }),
            options: Some(HashMap::from([option("enable_icc", "false"), option("name", &bridge)])),
            labels: Some(labels.clone()),
            ..NetworkCreateRequest::default()
        };
        let made = engine.ask("create a network", async |docker| docker.create_network(request).await).await;
        match made {
            Err(Error::Refused { message, .. }) if message.contains("overlaps") => {}
            made => return made.map(|_| gateway),
        }
    }
    Err(Error::NoNetwork { subnets: SUBNETS })
}

/// Removes all networks of that name. There may be none.
pub(super) async fn remove(engine: &Engine, name: &str) -> Result<(), Error> {
    for Found { id, .. } in list(engine, "name", name).await?.into_iter().filter(|found| found.name == name) {
        let removed = engine.ask("remove a network", async |docker| docker.remove_network(&id).await).await;
        removed.or_else(|error| if error.is_not_found() { Ok(()) } else { Err(error) })?;
    }
    Ok(())
}

/// A network of the engine.
pub(super) struct Found {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) labels: HashMap<String, String>,
}

/// The networks that a filter lets through.
pub(super) async fn list(engine: &Engine, filter: &str, value: &str) -> Result<Vec<Found>, Error> {
    let filters = HashMap::from([(filter, vec![value])]);
    let options = ListNetworksOptionsBuilder::default().filters(&filters).build();
    let found = engine.ask("list networks", async |docker| docker.list_networks(Some(options)).await).await?;
    let found = found.into_iter().filter_map(|network| {
        Some(Found { id: network.id?, name: network.name?, labels: network.labels.unwrap_or_default() })
    });
    Ok(found.collect())
}
