//! Why a call failed.

use crate::problem::{Code, Problem};

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server answered with a problem.
    #[error("{0}")]
    Problem(Problem),
    /// No connection: nothing was answered.
    #[error(
        "failed to reach the control plane at {server}: {why} (hint: is it running? start one with `skiff up`, or name another with --server)"
    )]
    Unreachable { server: String, why: String },
    /// Whoever answered is not whom the CA vouches for.
    #[error(
        "failed to trust the control plane at {server}: {why} (hint: is it the right one? its CA is in the context that `skiff server` wrote, or name one with --ca FILE)"
    )]
    Untrusted { server: String, why: String },
    /// The connection broke, or the answer took too long.
    #[error("failed to read the answer of {server}: {why}")]
    Broken { server: String, why: String },
    /// Something answered that is no Skiff control plane.
    #[error("failed to understand the answer of {server}: {why} (hint: is that a Skiff control plane?)")]
    NotSkiff { server: String, why: String },
    /// The address or token cannot be used.
    #[error("{0}")]
    Options(String),
}

impl Error {
    /// The problem's code, if the server named one.
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Problem(problem) => Some(problem.code),
            _ => None,
        }
    }

    pub fn is_not_found(&self) -> bool {
        self.code() == Some(Code::NotFound)
    }
}
