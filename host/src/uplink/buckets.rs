//! The cluster's buckets, which the control plane keeps, over the network.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde_json::json;
use skiff_api::Name;
use skiff_api::client::{Client, Error};
use skiff_keyvalue::{Answer, Op};

use super::address::Address;
use super::credentials::Credentials;
use super::{CallsError, client};
use crate::capabilities::ClusterBuckets;

/// Asks the control plane that a node belongs to.
#[derive(Debug)]
pub struct RemoteBuckets(Client);

impl RemoteBuckets {
    pub fn new(server: &Address, credentials: &Credentials) -> Result<Self, CallsError> {
        client(server, credentials).map(Self)
    }
}

impl ClusterBuckets for RemoteBuckets {
    fn run<'a>(&'a self, namespace: &'a Name, bucket: &'a Name, op: Op) -> BoxFuture<'a, Result<Answer, String>> {
        async move {
            let request = json!({"namespace": namespace, "bucket": bucket, "op": op});
            // Never asked twice: what was not answered may have been done.
            self.0.keyvalue(&request).await.map_err(|error| match error {
                Error::Problem(problem) => problem.detail,
                error => {
                    tracing::warn!(%error, %namespace, %bucket, "a bucket of the cluster could not be used");
                    "the control plane cannot be reached, which keeps the buckets of the cluster".to_owned()
                }
            })
        }
        .boxed()
    }
}
