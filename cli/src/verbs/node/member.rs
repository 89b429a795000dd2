//! Which cluster a node belongs to: what its data folder says, or what a token buys.

use std::collections::BTreeMap;
use std::sync::Arc;

use skiff_api::NodeName;
use skiff_api::client;
use skiff_host::uplink::{Address, JoinError, JoinOptions, Member, Membership, join};
use skiff_link::Clock;
use skiff_link::token::JoinToken;

use crate::exit::{Exit, Failure};

/// What the command line says.
#[derive(Debug, Clone, Default)]
pub(super) struct Wanted {
    pub server: Option<Address>,
    pub token: Option<String>,
    pub name: Option<NodeName>,
    pub labels: BTreeMap<String, String>,
}

/// The node's membership, which is on the disk when this returns.
pub(super) async fn find(
    membership: &Membership,
    wanted: Wanted,
    otherwise: NodeName,
    clock: &Arc<Clock>,
) -> Result<Member, Failure> {
    let found = membership.read().map_err(|error| Failure::new(Exit::Invalid, error))?;
    let member = match found {
        Some(found) => {
            let member = check(found.clone(), &wanted)?;
            if member.server == found.server {
                return Ok(member);
            }
            member
        }
        None => {
            let (server, token) = ask(&wanted)?;
            let key = membership.key().map_err(|error| Failure::new(Exit::Invalid, error))?;
            let (name, labels, clock) = (wanted.name.unwrap_or(otherwise), wanted.labels, Arc::clone(clock));
            join(JoinOptions { server, token, name, labels, key, clock }).await.map_err(failure)?
        }
    };
    membership.write(&member).map_err(|error| Failure::new(Exit::Invalid, error))?;
    membership.forget_key();
    Ok(member)
}

/// A node that has joined needs nothing; what it is told must not say otherwise.
fn check(found: Member, wanted: &Wanted) -> Result<Member, Failure> {
    let name = &found.name;
    if found.removed {
        let text = format!(
            "failed to start node {name}: its cluster has removed it (hint: to join again, start on an empty folder, with a new token)"
        );
        return Err(Failure::message(Exit::Unauthorized, text));
    }
    // Any other text may be a token for something else, in a variable that is set for all.
    let token = wanted.token.as_ref().and_then(|token| token.parse::<JoinToken>().ok());
    if token.is_some_and(|token| token.ca_hash != found.identity.ca_hash()) {
        let text = format!(
            "failed to start node {name}: its data folder belongs to another cluster than the token, to that at {} (hint: choose another folder with --data, or leave --token out)",
            found.server
        );
        return Err(Failure::message(Exit::Conflict, text));
    }
    if let Some(other) = wanted.name.as_ref().filter(|other| *other != name) {
        let text = format!(
            "failed to start node {other}: its data folder is that of node {name}, and a node keeps its name (hint: leave --name out, or choose another folder with --data)"
        );
        return Err(Failure::message(Exit::Conflict, text));
    }
    let server = wanted.server.clone().unwrap_or_else(|| found.server.clone());
    Ok(Member { server, ..found })
}

/// What a first start needs.
fn ask(wanted: &Wanted) -> Result<(Address, JoinToken), Failure> {
    let invalid = |text: &str| Failure::message(Exit::Invalid, text);
    let Some(server) = wanted.server.clone() else {
        let text = "failed to join a cluster: which? (hint: --join https://HOST:PORT; `skiff server` says its address)";
        return Err(invalid(text));
    };
    let Some(token) = &wanted.token else {
        let text = "failed to join a cluster: there is no token (hint: `skiff token create --node` prints one; give it with --token or SKIFF_TOKEN)";
        return Err(Failure::message(Exit::Unauthorized, text));
    };
    let token = token.parse::<JoinToken>().map_err(|error| invalid(&format!("failed to join {server}: {error}")))?;
    Ok((server, token))
}

fn failure(error: JoinError) -> Failure {
    match error {
        JoinError::Call { server, source } => {
            let what = format!("failed to join {server}");
            match source {
                // Its hint is for people at a command line.
                client::Error::Unreachable { why, .. } => Failure::message(
                    Exit::Unreachable,
                    format!(
                        "{what}: {why} (hint: is `skiff server` running there, and does a firewall let this machine in?)"
                    ),
                ),
                source => Failure::from(source).during(what),
            }
        }
        error @ JoinError::OtherCluster { .. } => Failure::new(Exit::Unauthorized, error),
        error @ JoinError::Identity(_) => Failure::new(Exit::Internal, error),
    }
}
