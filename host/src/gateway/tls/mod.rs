//! TLS on the gateway: which certificate a client gets, and how its handshake is bounded.
//!
//! **Certificates** are pairs of PEM files: the certificate with its chain, and its key. A client that names a host (SNI)
//! gets the pair whose certificate has that name, exactly or by a wildcard, else the first pair. Files are read at the
//! start, where any fault is an error that names the file.
//!
//! **Renewal** needs no restart and no signal. At a handshake, at most every two seconds, the files are looked at; those
//! that changed are read before that handshake goes on. So an idle node is not woken, and the first client after a renewal
//! gets the new certificate. Files that do not fit together, as halfway through a renewal, are logged once, and what was
//! served is served on. Connections that are open stay as they are.
//!
//! **Handshakes** run in their connection's task, not in the loop that accepts; a bounded number at once, each for a
//! bounded time.

mod acceptor;
mod chooser;
mod pair;

pub(super) use acceptor::{HANDSHAKES_MAX, NoHandshake, Tls};
pub use pair::{PairError, PairFiles};
