//! The control plane from outside.

// For the lints, which do not know that all of this is a test.
#[cfg(test)]
mod store;
