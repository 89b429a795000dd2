//! The API server over its HTTP interface, on the store in memory and on the embedded one.

// For the lints, which do not know that all of this is a test.
#[cfg(test)]
mod apply;
#[cfg(test)]
mod client;
#[cfg(test)]
mod doors;
#[cfg(test)]
mod exclusive;
#[cfg(test)]
mod logs;
#[cfg(test)]
mod objects;
#[cfg(test)]
mod policies;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod settings;
#[cfg(test)]
mod support;
#[cfg(test)]
mod watch;
