//! The control plane with nodes that only say that they run what they are told: from an applied service to a ready one,
//! updates, failures, losses and restarts. No component runs here.

// For the lints, which do not know that all of this is a test.
#[cfg(test)]
mod cluster;
#[cfg(test)]
mod fleet;
#[cfg(test)]
mod joining;
#[cfg(test)]
mod lifecycle;
#[cfg(test)]
mod links;
#[cfg(test)]
mod logs;
#[cfg(test)]
mod node;
#[cfg(test)]
mod restart;
#[cfg(test)]
mod scale;
