//! Why a request got no answer from its guest.
//!
//! The gateway turns a failure into an HTTP answer without looking inside: [`Failure::status`] and [`Failure::code`] are
//! all it needs. The codes are stable: they stand in error answers, logs and metrics.

use std::time::Duration;

use http::StatusCode;
use skiff_api::quantity::Bytes;
use wasmtime::{PoolConcurrencyLimitError, Trap};
use wasmtime_wasi::I32Exit;

use crate::sandbox::budget::Short;

/// Why a request got no answer, or only a part of one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The guest did what WebAssembly forbids, or gave up.
    #[error("the guest trapped ({kind}): {message}")]
    Trap {
        /// One word for programs, such as `unreachable` or `stack-overflow`.
        kind: &'static str,
        message: String,
    },
    #[error("the guest needs more memory than its limit of {max} (hint: raise {field})")]
    MemoryLimit {
        max: Bytes,
        /// What sets the limit: `instance.memory`, or `limits.memory`.
        field: &'static str,
    },
    /// Guests have all the memory that this node gives them.
    #[error("this node has no more memory for guests (hint: try again, or add a node)")]
    NodeMemory,
    #[error("the guest computed for more than {} ms", max.as_millis())]
    CpuLimit { max: Duration },
    /// Every instance that fits on this node is in use.
    #[error("every instance of this node is in use (hint: try again, or add a node)")]
    PoolFull,
    /// The compiled code is gone or damaged. It is made again.
    #[error("the service's compiled code could not be loaded (hint: try again; it is made again)")]
    CodeUnavailable,
    #[error("the guest returned without a response (hint: it must set its response-outparam)")]
    NoResponse,
    /// The guest answered with one of wasi:http's error codes.
    #[error("the guest answered with the error {code}")]
    GuestError { code: String },
    /// The guest gave a response that HTTP does not allow.
    #[error("the guest's response is not valid: {why}")]
    InvalidResponse { why: String },
    /// The guest stopped before the end of its response body.
    #[error("the guest's response body is incomplete: {why}")]
    IncompleteBody { why: String },
    /// The container does not answer.
    #[error("the container does not answer: {why}")]
    Unreachable { why: String },
    /// The request cannot be put to a guest.
    #[error("the request is not valid: {why}")]
    BadRequest { why: String },
    /// The sandbox itself failed. This is a bug in Skiff.
    #[error("the sandbox failed: {message} (hint: this is a bug in Skiff, please report it)")]
    Internal { message: String },
}

/// How long a client should wait before it asks a node again that was full: requests take milliseconds, so a slot is
/// free long before this; HTTP has no smaller unit.
const RETRY_AFTER: Duration = Duration::from_secs(1);

impl Failure {
    /// A stable word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Trap { .. } => "guest-trap",
            Self::MemoryLimit { .. } => "guest-memory-limit",
            Self::CpuLimit { .. } => "guest-cpu-limit",
            Self::NodeMemory => "node-memory",
            Self::PoolFull => "instances-exhausted",
            Self::CodeUnavailable => "code-unavailable",
            Self::NoResponse => "guest-no-response",
            Self::GuestError { .. } => "guest-error",
            Self::InvalidResponse { .. } => "guest-invalid-response",
            Self::IncompleteBody { .. } => "guest-incomplete-body",
            Self::Unreachable { .. } => "container-unreachable",
            Self::BadRequest { .. } => "bad-request",
            Self::Internal { .. } => "sandbox-failure",
        }
    }

    /// The status of an answer that tells a client of it.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Trap { .. } | Self::MemoryLimit { .. } | Self::Internal { .. } => StatusCode::INTERNAL_SERVER_ERROR,
            Self::CpuLimit { .. } => StatusCode::GATEWAY_TIMEOUT,
            Self::PoolFull | Self::NodeMemory | Self::CodeUnavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::NoResponse
            | Self::GuestError { .. }
            | Self::InvalidResponse { .. }
            | Self::IncompleteBody { .. }
            | Self::Unreachable { .. } => StatusCode::BAD_GATEWAY,
            Self::BadRequest { .. } => StatusCode::BAD_REQUEST,
        }
    }

    /// Whether the guest is to blame, rather than the client or the node.
    pub fn is_guests_fault(&self) -> bool {
        !matches!(
            self,
            Self::PoolFull | Self::NodeMemory | Self::CodeUnavailable | Self::BadRequest { .. } | Self::Internal { .. }
        )
    }

    /// The reason of the event that tells a service's people of it; none where it is not theirs to mend.
    pub fn trouble(&self) -> Option<&'static str> {
        match self {
            Self::Trap { .. } => Some("GuestTrapped"),
            Self::MemoryLimit { .. } => Some("MemoryLimit"),
            Self::CpuLimit { .. } => Some("CpuLimit"),
            Self::NoResponse | Self::GuestError { .. } | Self::InvalidResponse { .. } | Self::IncompleteBody { .. } => {
                Some("GuestFailed")
            }
            Self::Unreachable { .. } => Some("ContainerUnreachable"),
            Self::NodeMemory | Self::PoolFull => Some("NodeFull"),
            Self::CodeUnavailable | Self::BadRequest { .. } | Self::Internal { .. } => None,
        }
    }

    /// Whether finding out again would cost as much processor time as a request may have.
    pub fn is_costly(&self) -> bool {
        matches!(self, Self::CpuLimit { .. })
    }

    /// When asking again makes sense: what a `Retry-After` header should say.
    pub fn retry_after(&self) -> Option<Duration> {
        matches!(self, Self::PoolFull | Self::NodeMemory | Self::CodeUnavailable).then_some(RETRY_AFTER)
    }
}

/// Raised by the epoch callback when a guest has used up its processor time.
#[derive(Debug, thiserror::Error)]
#[error("the processor time is used up")]
pub(super) struct CpuExhausted;

/// Raised by the epoch callback when nobody waits for a guest any more: nobody hears of it.
#[derive(Debug, thiserror::Error)]
#[error("nobody waits for the answer")]
pub(super) struct Stopped;

/// What a store knows about a guest that failed.
pub(super) struct Blame {
    pub(super) instance_memory_max: Bytes,
    pub(super) replica_memory_max: Bytes,
    /// Whether the guest was refused memory, and for whose part.
    pub(super) memory_refused: Option<Short>,
    pub(super) cpu_max: Duration,
}

/// Finds out why instantiating or calling a guest failed.
///
/// A guest that is refused memory seldom says so: its allocator aborts, which is a trap like any other. So whatever
/// trap follows a refusal is blamed on memory.
pub(super) fn classify(error: &wasmtime::Error, blame: &Blame) -> Failure {
    if error.is::<CpuExhausted>() {
        return Failure::CpuLimit { max: blame.cpu_max };
    }
    if error.is::<PoolConcurrencyLimitError>() {
        return Failure::PoolFull;
    }
    match blame.memory_refused {
        None => {}
        Some(Short::Instance) => {
            return Failure::MemoryLimit { max: blame.instance_memory_max, field: "instance.memory" };
        }
        Some(Short::Replica) => {
            return Failure::MemoryLimit { max: blame.replica_memory_max, field: "limits.memory" };
        }
        Some(Short::Node) => return Failure::NodeMemory,
    }
    if let Some(exit) = error.downcast_ref::<I32Exit>() {
        return Failure::Trap { kind: "exit", message: format!("it exited with status {}", exit.0) };
    }
    let kind = error.downcast_ref::<Trap>().map_or("host-call", |trap| trap_kind(*trap));
    Failure::Trap { kind, message: error.root_cause().to_string() }
}

fn trap_kind(trap: Trap) -> &'static str {
    match trap {
        Trap::StackOverflow => "stack-overflow",
        Trap::MemoryOutOfBounds => "memory-out-of-bounds",
        Trap::TableOutOfBounds => "table-out-of-bounds",
        Trap::IndirectCallToNull => "indirect-call-to-null",
        Trap::BadSignature => "bad-signature",
        Trap::IntegerOverflow => "integer-overflow",
        Trap::IntegerDivisionByZero => "division-by-zero",
        Trap::BadConversionToInteger => "bad-conversion",
        Trap::UnreachableCodeReached => "unreachable",
        Trap::CannotEnterComponent => "cannot-enter",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLAME: Blame = Blame {
        instance_memory_max: Bytes::mebi(64),
        replica_memory_max: Bytes::mebi(256),
        memory_refused: None,
        cpu_max: Duration::from_secs(10),
    };

    #[test]
    fn a_trap_keeps_its_kind_through_added_context() {
        let error = wasmtime::Error::from(Trap::StackOverflow).context("while it ran");
        assert_eq!(
            classify(&error, &BLAME),
            Failure::Trap { kind: "stack-overflow", message: "wasm trap: call stack exhausted".to_owned() }
        );
    }

    #[test]
    fn a_trap_after_refused_memory_is_a_memory_limit() {
        let error = wasmtime::Error::from(Trap::UnreachableCodeReached);
        let blamed = |short| classify(&error, &Blame { memory_refused: Some(short), ..BLAME });
        let text = blamed(Short::Instance).to_string();
        assert!(text.contains("64Mi") && text.contains("instance.memory"), "{text}");
        let text = blamed(Short::Replica).to_string();
        assert!(text.contains("256Mi") && text.contains("limits.memory"), "{text}");
        assert_eq!(blamed(Short::Node), Failure::NodeMemory);
    }

    #[test]
    fn used_up_processor_time_is_not_blamed_on_memory() {
        let error = wasmtime::Error::from(CpuExhausted).context("while it ran");
        let failure = classify(&error, &Blame { memory_refused: Some(Short::Instance), ..BLAME });
        assert_eq!(failure, Failure::CpuLimit { max: Duration::from_secs(10) });
    }

    #[test]
    fn only_a_full_node_asks_to_come_back() {
        assert_eq!(Failure::PoolFull.retry_after(), Some(Duration::from_secs(1)));
        assert_eq!(Failure::PoolFull.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(Failure::NoResponse.retry_after(), None);
        assert!(!Failure::PoolFull.is_guests_fault() && Failure::NoResponse.is_guests_fault());
    }
}
