//! `POST /v1/join`: a machine with a token becomes a node.
//!
//! The use of the token, the node's object and the binding of its name to its key are one transaction: a token is never used
//! more often than it may be, and no name is given twice. Nothing is asked of whoever shows no token but to wait.

use skiff_api::resource::{Liveness, Metadata, Node, NodeSpec, NodeStatus, Token, TokenSpec, TokenState};
use skiff_api::validate;
use skiff_api::wire::join::{JoinAnswer, JoinRequest};
use skiff_api::{Code, Name, Problem, Uid};
use skiff_link::{Authority, token};
use subtle::ConstantTimeEq;

use super::Fleet;
use crate::api::ATTEMPTS;
use crate::objects::{Change, Objects};

impl Fleet {
    pub(super) async fn join(&self, objects: &Objects, request: JoinRequest) -> Result<JoinAnswer, Problem> {
        let mut attempt = 1;
        loop {
            match self.try_join(objects, &request).await {
                Err(Failed::Raced) if attempt < ATTEMPTS => attempt += 1,
                Err(Failed::Raced) => {
                    let problem = Problem::new(Code::Unavailable, "too many machines join at once");
                    return Err(problem.hint("try again"));
                }
                Err(Failed::Refused(problem)) => return Err(problem),
                Ok(answer) => return Ok(answer),
            }
        }
    }

    async fn try_join(&self, objects: &Objects, request: &JoinRequest) -> Result<JoinAnswer, Failed> {
        let now = self.clock.now();
        let token = find(objects, request).await?;
        let state = TokenState::of(&token, now);
        if matches!(state, TokenState::Revoked | TokenState::Expired) {
            return Err(ended(&token, state).into());
        }
        let uid = Authority::uid_of(&request.csr).map_err(|error| Problem::new(Code::Invalid, error.to_string()))?;
        if self.gate.is_revoked(&uid) {
            return Err(revoked().into());
        }
        let mut labels = request.labels.clone();
        labels.extend(token.spec.labels.clone());
        check(request, &labels)?;
        match objects.get::<NodeSpec>(None, request.name.as_str()).await.map_err(Problem::from)? {
            // The answer was lost, and this machine asks again.
            Some(node) if node.metadata.uid == uid => {}
            Some(node) => return Err(taken(&node).into()),
            None if state == TokenState::UsedUp => return Err(ended(&token, state).into()),
            None => {
                let mut metadata = Metadata::new(None, request.name.as_str());
                metadata.uid = uid.clone();
                metadata.labels = labels.clone();
                let mut node = Node::new(metadata, NodeSpec::default());
                // Nobody has heard it yet, and nobody waits for it.
                node.status = NodeStatus { liveness: Liveness::Dead, since: now, ..NodeStatus::default() };
                let mut status = token.status.clone();
                status.used += 1;
                let change = Change::new().write_status(&token, status).create(&node).bind(&uid, &node.metadata.name);
                match objects.commit(change).await {
                    Ok(_) => {}
                    Err(error) if error.is_conflict() => return Err(raced(objects, &uid, request, error).await),
                    Err(error) => return Err(Problem::from(error).into()),
                }
                tracing::info!(node = %request.name, %uid, token = token.metadata.name, "a machine joined");
            }
        }
        let chain = self.authority.issue_node(&request.csr, &uid, now);
        let chain = chain.map_err(|error| Problem::new(Code::Internal, error.to_string()))?;
        Ok(JoinAnswer { uid, chain, ca: self.authority.ca_pem(), labels, time: now })
    }
}

enum Failed {
    /// Somebody else wrote in between: look again.
    Raced,
    Refused(Problem),
}

impl From<Problem> for Failed {
    fn from(problem: Problem) -> Self {
        Self::Refused(problem)
    }
}

/// A key that joined under another name does not join again; all else is a race.
async fn raced(objects: &Objects, uid: &Uid, request: &JoinRequest, error: crate::objects::Error) -> Failed {
    match objects.bound(uid).await {
        Ok(Some(name)) if name != request.name.as_str() => {
            let detail = format!("this machine has joined already: it is node {name}");
            let hint = format!("use that name, or `skiff node remove {name}` and a new identity");
            Problem::new(Code::AlreadyExists, detail).object(format!("node/{name}")).hint(hint).into()
        }
        Ok(_) => Failed::Raced,
        Err(_) => Problem::from(error).into(),
    }
}

/// The token, if whoever asks has it. Both wrong halves get the same answer.
async fn find(objects: &Objects, request: &JoinRequest) -> Result<Token, Problem> {
    let unknown = || {
        let hint = "make one with `skiff token create --node`";
        Problem::new(Code::TokenUnknown, "there is no such token").hint(hint)
    };
    let id: Name = request.id.parse().map_err(|_| unknown())?;
    let token = objects.get::<TokenSpec>(None, id.as_str()).await?.ok_or_else(unknown)?;
    let hash = token::hash(&request.secret);
    match bool::from(hash.as_bytes().ct_eq(token.spec.sha256.as_bytes())) {
        true => Ok(token),
        false => Err(unknown()),
    }
}

fn ended(token: &Token, state: TokenState) -> Problem {
    let (code, what) = match state {
        TokenState::Revoked => (Code::TokenRevoked, "was revoked".to_owned()),
        TokenState::Expired => (Code::TokenExpired, format!("expired at {}", token.spec.expires)),
        TokenState::UsedUp | TokenState::Valid => (Code::TokenUsedUp, format!("was used {} times", token.status.used)),
    };
    let name = &token.metadata.name;
    Problem::new(code, format!("token {name} {what}"))
        .object(format!("token/{name}"))
        .hint("make another with `skiff token create --node`")
}

pub(super) fn revoked() -> Problem {
    Problem::new(Code::NodeRevoked, "this machine was removed from the cluster")
        .hint("delete its identity (DATA/node/identity) and join it with a new token")
}

fn taken(node: &Node) -> Problem {
    let name = &node.metadata.name;
    Problem::new(Code::AlreadyExists, format!("another machine is node {name}"))
        .object(format!("node/{name}"))
        .hint(format!("choose another --name, or `skiff node remove {name}` if that machine is gone"))
}

fn check(request: &JoinRequest, labels: &std::collections::BTreeMap<String, String>) -> Result<(), Problem> {
    if !validate::is_node_name(request.name.as_str()) {
        let problem = Problem::new(Code::Invalid, "the node's name is none");
        return Err(problem.hint("use up to 253 letters, digits, '-', '.' and '_'"));
    }
    match validate::node(labels, &NodeSpec::default()).into_iter().next() {
        Some(fault) => Err(Problem::new(Code::Invalid, format!("{}: {}", fault.field, fault.message))),
        None => Ok(()),
    }
}
