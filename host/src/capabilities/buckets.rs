//! The buckets that a replica may use: on this node, of the whole cluster, or in a Redis.

use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use skiff_api::id::Name;
use skiff_api::resource::{BucketGrant, BucketScope, Template};
use skiff_keyvalue::{Answer, Engine, Error, Op, Print};

use super::Reach;
use super::redis::{Live, Redis};

/// What a bucket of the whole cluster is reached by.
pub trait ClusterBuckets: Send + Sync + 'static {
    /// Does something with a bucket of a namespace. An error says in words what a guest may read.
    fn run<'a>(&'a self, namespace: &'a Name, bucket: &'a Name, op: Op) -> BoxFuture<'a, Result<Answer, String>>;
}

/// Where buckets are. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Stores {
    pub(crate) node: Engine,
    pub(crate) cluster: Option<Arc<dyn ClusterBuckets>>,
}

/// A replica's way to its buckets. Without one ([`Buckets::default`]) there is no bucket. Cheap to clone.
#[derive(Clone, Default)]
pub struct Buckets(Option<Arc<Own>>);

struct Own {
    stores: Stores,
    namespace: Name,
    template: Arc<Template>,
    /// Of those that the template names, in its order.
    elsewhere: Vec<Option<Redis>>,
}

/// A bucket that was opened.
#[derive(Clone)]
pub struct Bucket {
    own: Arc<Own>,
    /// Which of those that the template names.
    index: usize,
}

/// A value that was looked at. It is not kept: a guest may hold thousands of these, and they are not in its own memory.
#[derive(Debug)]
pub struct Cas {
    pub(crate) bucket: Bucket,
    pub(crate) key: String,
    pub(crate) seen: Option<Print>,
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bucket({}/{})", self.own.namespace, self.grant().bucket)
    }
}

impl Buckets {
    pub(crate) fn new(
        stores: Stores,
        namespace: Name,
        template: Arc<Template>,
        (reach, settings): (&Arc<Reach>, &Live),
    ) -> Self {
        let elsewhere = template.keyvalue.iter().map(|grant| Redis::of(grant, &template, reach, settings)).collect();
        Self(Some(Arc::new(Own { stores, namespace, template, elsewhere })))
    }

    /// A bucket that the service names.
    pub(crate) fn open(&self, name: &str) -> Option<Bucket> {
        let own = self.0.as_ref()?;
        let index = own.template.keyvalue.iter().position(|granted| granted.bucket.as_str() == name)?;
        Some(Bucket { own: own.clone(), index })
    }
}

impl Bucket {
    fn grant(&self) -> &BucketGrant {
        &self.own.template.keyvalue[self.index]
    }

    fn redis(&self) -> Option<&Redis> {
        self.own.elsewhere[self.index].as_ref()
    }

    pub(crate) async fn run(&self, op: Op) -> Result<Answer, String> {
        if let Some(redis) = self.redis() {
            return redis.run(op).await;
        }
        let (Own { stores, namespace, .. }, grant) = (&*self.own, self.grant());
        match (grant.scope, &stores.cluster) {
            (BucketScope::Node, _) => {
                let answer = stores.node.run(&format!("{namespace}/{}", grant.bucket), op).await;
                answer.map_err(|error| told(&error))
            }
            (BucketScope::Cluster, Some(cluster)) => cluster.run(namespace, &grant.bucket, op).await,
            (BucketScope::Cluster, None) => {
                Err("this node has no control plane to keep the cluster's buckets".to_owned())
            }
        }
    }

    /// Some keys, and what to ask with for the next ones.
    pub(crate) async fn keys(&self, cursor: Option<String>) -> Result<(Vec<String>, Option<String>), String> {
        if let Some(redis) = self.redis() {
            return redis.keys(cursor).await;
        }
        match self.run(Op::Keys { after: cursor }).await? {
            Answer::Keys { keys, more } => {
                let next = keys.last().filter(|_| more).cloned();
                Ok((keys, next))
            }
            _ => Err("the answer is none to the question".to_owned()),
        }
    }
}

/// What a guest is told. What is wrong with the disk is for operators, and is in the node's log.
pub fn told(error: &Error) -> String {
    match error {
        Error::Refused(refusal) => refusal.to_string(),
        Error::Open { .. } | Error::Write(_) | Error::Lost | Error::Read(_) | Error::Closed => {
            tracing::error!(%error, "a bucket could not be used");
            "the values cannot be read or kept at the moment".to_owned()
        }
    }
}
