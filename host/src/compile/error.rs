//! Why a component was not compiled.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Why a component was not compiled. [`CompileError::is_final`] tells which errors trying again cannot mend.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    #[error("failed to set up the compiler")]
    Engine(#[source] wasmtime::Error),
    #[error("failed to read component {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("failed to start the compiler {}", program.display())]
    Spawn {
        program: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("failed to talk to the compiler")]
    Pipe(#[source] io::Error),
    /// The compiler's own words: what is wrong, and where.
    #[error("failed to compile the component: {message}")]
    Invalid { message: String },
    #[error("compiling the component took more than {} s of processor time", max.as_secs())]
    CpuLimit { max: Duration },
    #[error("compiling the component took longer than {} s", max.as_secs())]
    TimeLimit { max: Duration },
    #[error("compiling the component took more than {} MiB of memory", max_bytes >> 20)]
    MemoryLimit { max_bytes: u64 },
    #[error("the compiled component has more than {} MiB", max_bytes >> 20)]
    OutputLimit { max_bytes: u64 },
    #[error("the compiler was killed, as a system does that runs out of memory (hint: it is tried again in a while)")]
    Killed,
    #[error("the compiler ended with {status}: {message} (hint: this is a bug in Skiff, please report it)")]
    Crashed { status: String, message: String },
    #[error("failed to write compiled code {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl CompileError {
    /// Whether the component is to blame: the same one will fail again.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Invalid { .. } | Self::OutputLimit { .. })
    }

    /// Whether another attempt would probably take as much, and come to the same: it is worth one now and then, as on a
    /// machine that was busy with something else.
    pub fn is_costly(&self) -> bool {
        matches!(
            self,
            Self::CpuLimit { .. }
                | Self::TimeLimit { .. }
                | Self::MemoryLimit { .. }
                | Self::Killed
                | Self::Crashed { .. }
        )
    }
}
