//! Exit codes, and the one place where an error is printed.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | done |
//! | 1 | `diff` found differences |
//! | 2 | the command line is wrong |
//! | 3 | there is no such object, image or file |
//! | 4 | the input is not valid: a manifest, a name, a component |
//! | 5 | it conflicts with what is there: an object changed, a route is taken |
//! | 6 | the token is missing, wrong or not enough; or whoever answers is not whom the CA vouches for |
//! | 7 | the control plane cannot be reached, or the connection broke |
//! | 8 | it did not become ready in time |
//! | 9 | an address or a data folder is in use |
//! | 10 | the disk is full |
//! | 70 | a bug of Skiff, or a broken machine |

use std::io;
use std::process::ExitCode;

use skiff_api::client;
use skiff_api::manifest::ManifestError;
use skiff_api::{Code, Problem};
use skiff_registry::client::Error as RegistryError;

/// What a script can tell failures apart by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    Differs = 1,
    NotFound = 3,
    Invalid = 4,
    Conflict = 5,
    Unauthorized = 6,
    Unreachable = 7,
    NotReady = 8,
    InUse = 9,
    StorageFull = 10,
    Internal = 70,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a verb failed: the text for people, the code for scripts.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    error: anyhow::Error,
}

impl Failure {
    pub(crate) fn new(exit: Exit, error: impl Into<anyhow::Error>) -> Self {
        Self { exit, error: error.into() }
    }

    pub(crate) fn message(exit: Exit, text: impl Into<String>) -> Self {
        Self { exit, error: anyhow::Error::msg(text.into()) }
    }

    /// Says what was being done when it failed.
    #[must_use]
    pub(crate) fn during(self, what: impl Into<String>) -> Self {
        Self { exit: self.exit, error: self.error.context(what.into()) }
    }

    /// Prints the chain of causes once, on standard error.
    pub(crate) fn report(&self) -> ExitCode {
        eprintln!("error: {self}");
        if self.exit == Exit::Internal {
            eprintln!("This is a bug of Skiff or a broken machine; please report it with the lines above.");
        }
        self.exit.into()
    }

    /// An I/O error while something was done to a path.
    pub(crate) fn io(what: &str, path: &std::path::Path, error: io::Error) -> Self {
        let exit = match error.kind() {
            io::ErrorKind::NotFound => Exit::NotFound,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Exit::StorageFull,
            _ => Exit::Invalid,
        };
        let text = format!("failed to {what} {}: {error}", path.display());
        Self::message(exit, text)
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&one_line(&self.error))
    }
}

/// The chain of causes, without the causes that the text above them already quotes.
fn one_line(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if text.contains(&cause) {
            continue;
        }
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&cause);
    }
    text
}

impl From<client::Error> for Failure {
    fn from(error: client::Error) -> Self {
        let exit = match &error {
            client::Error::Problem(problem) => problem_exit(problem),
            client::Error::Unreachable { .. } | client::Error::Broken { .. } | client::Error::NotSkiff { .. } => {
                Exit::Unreachable
            }
            client::Error::Untrusted { .. } => Exit::Unauthorized,
            client::Error::Options(_) => Exit::Invalid,
        };
        Self::new(exit, error)
    }
}

fn problem_exit(problem: &Problem) -> Exit {
    match problem.code {
        Code::Invalid | Code::MethodNotAllowed | Code::TooLarge => Exit::Invalid,
        Code::Unauthorized
        | Code::TokenUnknown
        | Code::TokenExpired
        | Code::TokenUsedUp
        | Code::TokenRevoked
        | Code::NodeRevoked
        | Code::Forbidden
        | Code::NotGranted
        | Code::NotSigned => Exit::Unauthorized,
        Code::NotFound | Code::ImageNotFound => Exit::NotFound,
        Code::AlreadyExists | Code::Conflict | Code::RouteTaken | Code::NamespaceNotEmpty => Exit::Conflict,
        Code::Compacted | Code::Unavailable => Exit::Unreachable,
        Code::StorageFull => Exit::StorageFull,
        Code::Internal => Exit::Internal,
    }
}

impl From<ManifestError> for Failure {
    fn from(error: ManifestError) -> Self {
        Self::new(Exit::Invalid, error)
    }
}

impl From<RegistryError> for Failure {
    fn from(error: RegistryError) -> Self {
        let exit = match &error {
            RegistryError::NotFound { .. } | RegistryError::NotFoundForeign { .. } => Exit::NotFound,
            RegistryError::Unauthorized { .. } | RegistryError::Denied { .. } => Exit::Unauthorized,
            RegistryError::Connect { .. }
            | RegistryError::ConnectForeign { .. }
            | RegistryError::Timeout { .. }
            | RegistryError::Transfer { .. }
            | RegistryError::Unavailable { .. } => Exit::Unreachable,
            RegistryError::Setup { .. } => Exit::Internal,
            RegistryError::Refused { status: 507, .. } => Exit::StorageFull,
            _ => Exit::Invalid,
        };
        Self::new(exit, error)
    }
}
