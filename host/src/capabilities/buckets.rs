//! The buckets that a replica may use: on this node, or of the whole cluster.

use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use skiff_api::id::Name;
use skiff_api::resource::{BucketScope, Template};
use skiff_keyvalue::{Answer, Engine, Error, Op, Print};

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
}

/// A bucket that was opened.
#[derive(Clone)]
pub struct Bucket {
    own: Arc<Own>,
    name: Name,
    scope: BucketScope,
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
        write!(f, "Bucket({}/{})", self.own.namespace, self.name)
    }
}

impl Buckets {
    pub(crate) fn new(stores: Stores, namespace: Name, template: Arc<Template>) -> Self {
        Self(Some(Arc::new(Own { stores, namespace, template })))
    }

    /// A bucket that the service names.
    pub(crate) fn open(&self, name: &str) -> Option<Bucket> {
        let own = self.0.as_ref()?;
        let granted = own.template.keyvalue.iter().find(|granted| granted.bucket.as_str() == name)?;
        Some(Bucket { own: own.clone(), name: granted.bucket.clone(), scope: granted.scope })
    }
}

impl Bucket {
    pub(crate) async fn run(&self, op: Op) -> Result<Answer, String> {
        let Own { stores, namespace, .. } = &*self.own;
        match (self.scope, &stores.cluster) {
            (BucketScope::Node, _) => {
                let answer = stores.node.run(&format!("{namespace}/{}", self.name), op).await;
                answer.map_err(|error| told(&error))
            }
            (BucketScope::Cluster, Some(cluster)) => cluster.run(namespace, &self.name, op).await,
            (BucketScope::Cluster, None) => {
                Err("this node has no control plane to keep the cluster's buckets".to_owned())
            }
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
