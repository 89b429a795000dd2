//! What the API server needs of the links to the nodes.

use futures_util::stream::BoxStream;
use skiff_api::wire::{LogLine, LogQuery};
use skiff_api::{NodeName, Problem};

/// Logs are on the nodes: whoever holds the links fetches them.
pub trait LogSource: Send + Sync + 'static {
    /// The lines of one replica, oldest first. Dropping the stream tells the node that nobody reads any more. An error
    /// (the node is not connected, it does not know the replica) is the stream's last item.
    fn logs(&self, node: &NodeName, query: LogQuery) -> BoxStream<'static, Result<LogLine, Problem>>;
}
