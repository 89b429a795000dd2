//! The server's port as strangers and bad nodes find it: the real `skiff server`, and at the other end whatever this test
//! sends. Each of them ends alone: a good node's link and the API go on.

#[cfg(test)]
mod backup;
#[cfg(test)]
mod certificates;
#[cfg(test)]
mod frames;
#[cfg(test)]
mod node;
#[cfg(test)]
mod server;
#[cfg(test)]
mod strangers;
#[cfg(test)]
mod tokens;
