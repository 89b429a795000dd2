//! One function per endpoint.

use bytes::Bytes;
use futures_util::stream::{Stream, StreamExt};
use reqwest::Method;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::client::{Client, Error};
use crate::digest::Digest;
use crate::id::Name;
use crate::problem::{Code, Problem};
use crate::resource::{Kind, Node, NodeChange, Object, Service, Spec, Token, TokenCreated, TokenRequest};
use crate::rollback::{RollBack, RolledBack};
use crate::why::{Rebalance, Why};
use crate::wire::join::{JoinAnswer, JoinRequest, RenewAnswer, RenewRequest};

/// Which objects of a kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Of every namespace, or of a kind that has none.
    All,
    Namespace(Name),
}

impl Scope {
    pub(crate) fn path(&self, kind: Kind) -> String {
        match self {
            Self::Namespace(namespace) if kind.is_namespaced() => {
                format!("/v1/namespaces/{namespace}/{}", kind.plural())
            }
            _ => format!("/v1/{}", kind.plural()),
        }
    }
}

/// What narrows a list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListQuery {
    /// A label selector; empty for all.
    pub labels: String,
    /// For events: only those about this object, `service/cart`.
    pub regarding: Option<String>,
}

impl ListQuery {
    pub(crate) fn pairs(&self) -> Vec<(&'static str, String)> {
        let mut pairs = Vec::new();
        if !self.labels.is_empty() {
            pairs.push(("labelSelector", self.labels.clone()));
        }
        if let Some(regarding) = &self.regarding {
            pairs.push(("regarding", regarding.clone()));
        }
        pairs
    }
}

/// An answer with several objects.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct List<T> {
    pub api_version: String,
    pub kind: String,
    pub metadata: ListMeta,
    pub items: Vec<T>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ListMeta {
    /// Where a watch goes on.
    pub resource_version: String,
    /// Asks for the next page.
    #[serde(default, rename = "continue", skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// What an apply did.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Applied {
    pub action: ApplyAction,
    /// The object as it is now (or would be).
    pub object: Value,
    /// The image's tag leads to another digest than before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved: Option<Moved>,
    /// What whoever applied it should know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum ApplyAction {
    Created,
    Configured,
    Unchanged,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Moved {
    pub image: String,
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub from: Digest,
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub to: Digest,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct VersionInfo {
    /// Skiff's version.
    pub version: String,
}

/// The path of one object. A name may come from a command line, and a URL gives some characters a meaning: with them,
/// the path would lead to another object than the one that is named.
pub(crate) fn object_path(kind: Kind, namespace: &Name, name: &str) -> Result<String, Error> {
    let is_literal = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if matches!(name, "" | "." | "..") || !name.bytes().all(is_literal) {
        let detail = format!("{name:?} is not the name of a {}", kind.singular());
        let problem = Problem::new(Code::Invalid, detail).hint("names are of letters, digits, '-', '.' and '_'");
        return Err(Error::Problem(problem));
    }
    Ok(format!("{}/{name}", Scope::Namespace(namespace.clone()).path(kind)))
}

/// The same for a kind of the whole cluster.
fn cluster_path(kind: Kind, name: &str) -> Result<String, Error> {
    let namespace = crate::resource::DEFAULT_NAMESPACE.parse::<Name>();
    let namespace = namespace.map_err(|error| Error::Problem(Problem::new(Code::Invalid, error.to_string())))?;
    object_path(kind, &namespace, name)
}

impl Client {
    pub async fn version(&self) -> Result<VersionInfo, Error> {
        self.json(self.request(Method::GET, "/v1/version", &[])).await
    }

    /// One object. The namespace is ignored for kinds that have none.
    pub async fn get<S: Spec>(&self, namespace: &Name, name: &str) -> Result<Object<S>, Error> {
        self.get_as(S::KIND, namespace, name).await
    }

    /// One object of any kind.
    pub async fn get_value(&self, kind: Kind, namespace: &Name, name: &str) -> Result<Value, Error> {
        self.get_as(kind, namespace, name).await
    }

    async fn get_as<T: DeserializeOwned>(&self, kind: Kind, namespace: &Name, name: &str) -> Result<T, Error> {
        self.json(self.request(Method::GET, &object_path(kind, namespace, name)?, &[])).await
    }

    pub async fn list<S: Spec>(&self, scope: &Scope, query: &ListQuery) -> Result<List<Object<S>>, Error> {
        self.list_as(S::KIND, scope, query).await
    }

    /// Objects of any kind.
    pub async fn list_values(&self, kind: Kind, scope: &Scope, query: &ListQuery) -> Result<List<Value>, Error> {
        self.list_as(kind, scope, query).await
    }

    async fn list_as<T: DeserializeOwned>(
        &self,
        kind: Kind,
        scope: &Scope,
        query: &ListQuery,
    ) -> Result<List<T>, Error> {
        let path = scope.path(kind);
        let mut pairs = query.pairs();
        let mut all: List<T> = self.json(self.request(Method::GET, &path, &pairs)).await?;
        while let Some(next) = all.metadata.next.take() {
            pairs.retain(|(name, _)| *name != "continue");
            pairs.push(("continue", next));
            let page: List<T> = self.json(self.request(Method::GET, &path, &pairs)).await?;
            all.items.extend(page.items);
            all.metadata.next = page.metadata.next;
        }
        Ok(all)
    }

    /// Applies one sparse object ([`crate::manifest::Document::sparse`]).
    pub async fn apply(&self, sparse: &Value, run: Run) -> Result<Applied, Error> {
        let query = match run {
            Run::Dry => vec![("dryRun", "true".to_owned())],
            Run::Real => Vec::new(),
        };
        self.json(self.request(Method::POST, "/v1/apply", &query).json(sparse)).await
    }

    /// Makes an object that is not there yet.
    pub async fn create<S: Spec>(&self, object: &Object<S>) -> Result<Object<S>, Error> {
        let scope = object.metadata.namespace.clone().map_or(Scope::All, Scope::Namespace);
        self.json(self.request(Method::POST, &scope.path(S::KIND), &[]).json(object)).await
    }

    /// Replaces an object; its resource version, if there is one, must be the current one.
    pub async fn replace<S: Spec>(&self, object: &Object<S>) -> Result<Object<S>, Error> {
        let scope = object.metadata.namespace.clone().map_or(Scope::All, Scope::Namespace);
        let path = format!("{}/{}", scope.path(S::KIND), object.metadata.name);
        self.json(self.request(Method::PUT, &path, &[]).json(object)).await
    }

    /// Deletes an object and answers with its last state.
    pub async fn delete(&self, kind: Kind, namespace: &Name, name: &str) -> Result<Value, Error> {
        self.json(self.request(Method::DELETE, &object_path(kind, namespace, name)?, &[])).await
    }

    /// Changes what people set on a node.
    pub async fn change_node(&self, node: &str, change: &NodeChange) -> Result<Node, Error> {
        let path = format!("{}/change", cluster_path(Kind::Node, node)?);
        self.json(self.request(Method::POST, &path, &[]).json(change)).await
    }

    /// Makes a node of whoever has a token for it. Not to be repeated once it may have been heard: the token may be good
    /// for one node.
    pub async fn join(&self, request: &JoinRequest) -> Result<JoinAnswer, Error> {
        self.json(self.request(Method::POST, "/v1/join", &[]).json(request)).await
    }

    /// The next certificate of the node whose certificate the connection shows.
    pub async fn renew(&self, request: &RenewRequest) -> Result<RenewAnswer, Error> {
        self.json(self.request(Method::POST, "/v1/renew", &[]).json(request)).await
    }

    /// Does something with a bucket of the cluster, for the node whose certificate the connection shows.
    pub async fn keyvalue<A: DeserializeOwned>(&self, request: &Value) -> Result<A, Error> {
        self.json(self.request(Method::POST, "/v1/keyvalue", &[]).json(request)).await
    }

    /// All of the cluster, as a file. What ends without an error is whole.
    pub async fn backup(&self) -> Result<impl Stream<Item = Result<Bytes, Error>> + use<>, Error> {
        let response = self.send(self.request(Method::GET, "/v1/backup", &[])).await?;
        let client = self.clone();
        Ok(response.bytes_stream().map(move |piece| piece.map_err(|error| client.failure(&error))))
    }

    /// Makes a token that machines join with.
    pub async fn create_token(&self, request: &TokenRequest) -> Result<TokenCreated, Error> {
        self.json(self.request(Method::POST, "/v1/tokens", &[]).json(request)).await
    }

    /// Ends a token.
    pub async fn revoke_token(&self, id: &str) -> Result<Token, Error> {
        let path = format!("{}/revoke", cluster_path(Kind::Token, id)?);
        self.json(self.request(Method::POST, &path, &[])).await
    }

    /// Why a service's replicas are where they are.
    pub async fn why(&self, namespace: &Name, service: &str) -> Result<Why, Error> {
        let path = format!("{}/why", object_path(Kind::Service, namespace, service)?);
        self.json(self.request(Method::GET, &path, &[])).await
    }

    /// Moves replicas until nodes are evenly full, and answers the moves.
    pub async fn rebalance(&self, run: Run) -> Result<Rebalance, Error> {
        let query = match run {
            Run::Dry => vec![("dryRun", "true".to_owned())],
            Run::Real => Vec::new(),
        };
        self.json(self.request(Method::POST, "/v1/rebalance", &query)).await
    }

    pub async fn scale(&self, namespace: &Name, service: &str, replicas: u32) -> Result<Value, Error> {
        let path = format!("{}/scale", object_path(Kind::Service, namespace, service)?);
        self.json(self.request(Method::PUT, &path, &[]).json(&json!({ "replicas": replicas }))).await
    }

    /// Makes a service's replicas from an earlier revision's template again.
    pub async fn roll_back(&self, namespace: &Name, service: &str, to: RollBack) -> Result<RolledBack, Error> {
        let path = format!("{}/rollback", object_path(Kind::Service, namespace, service)?);
        self.json(self.request(Method::POST, &path, &[]).json(&to)).await
    }

    /// Replaces all replicas of a service with new ones.
    pub async fn restart(&self, namespace: &Name, service: &str) -> Result<Service, Error> {
        let path = format!("{}/restart", object_path(Kind::Service, namespace, service)?);
        self.json(self.request(Method::POST, &path, &[])).await
    }
}

/// Whether a write happens or is only tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Run {
    Real,
    Dry,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leads_to_the_object_that_it_names_or_nowhere() {
        let namespace: Name = "shop".parse().unwrap();
        let path = |kind, name| object_path(kind, &namespace, name);
        assert_eq!(path(Kind::Service, "cart").unwrap(), "/v1/namespaces/shop/services/cart");
        assert_eq!(path(Kind::Node, "Edge_1.example").unwrap(), "/v1/nodes/Edge_1.example");
        for name in ["", ".", "..", "../../shop", "a/b", "a\\b", "a?x", "a#x", "%2e%2e", "a b", "ä"] {
            let error = path(Kind::Service, name).unwrap_err();
            assert!(matches!(&error, Error::Problem(problem) if problem.code == Code::Invalid), "{name}: {error}");
        }
    }
}
