//! The node's side of compiling: starts the process, feeds it, and stores what it makes.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use skiff_disk::{Disk, File, Mode};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use crate::compile::child::{ChildLimits, EXIT_INVALID};
use crate::compile::{CompileError, Seal};

/// The verb that makes `skiff` a compiling process.
pub const VERB: &str = "compile-component";

/// Passed between disk and pipe at once.
const CHUNK_BYTES: usize = 1 << 20;

/// What is kept of the compiler's words: its errors are a few lines.
const MESSAGE_BYTES_MAX: u64 = 16 << 10;

/// What compiling one component may take.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Address space. The 12.8 MB JavaScript runtime takes about a third of the default.
    pub memory_bytes: u64,
    /// Processor time on all cores together. The same runtime takes some seconds on a desktop, and ten times that on a
    /// small board.
    pub cpu: Duration,
    /// From start to end, for a machine that is busy with other things.
    pub time: Duration,
    /// Of compiled code, which has about three times the component's size.
    pub output_bytes: u64,
    /// One that takes longer than this is set aside, so that the quick ones need not wait for it: most components take
    /// less than a second, the JavaScript runtime some seconds.
    pub slow_after: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: 2 << 30,
            cpu: Duration::from_secs(120),
            time: Duration::from_secs(300),
            output_bytes: 1 << 30,
            slow_after: Duration::from_secs(5),
        }
    }
}

/// Compiles components, a bounded number at once: the others wait, in the order in which they came. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Compiler {
    program: PathBuf,
    args: Vec<OsString>,
    disk: Disk,
    limits: Limits,
    slots: Arc<Slots>,
}

/// Places for compilations. All begin among the quick; one that turns out to be slow goes over to the slow as soon as there
/// is room, and leaves its place to the next. So a few components that take minutes hold up nobody, and more of them
/// hold up only one another and what comes after them, for no longer than a compilation may take.
#[derive(Debug)]
struct Slots {
    quick: Semaphore,
    slow: Semaphore,
}

impl Slots {
    /// At least two of each. They stand back behind everything else (the child is niced), and each may take all cores for a
    /// part of its work; what bounds their number is memory.
    fn on(cores: usize) -> Self {
        let count = (cores / 2).max(2);
        Self { quick: Semaphore::new(count), slow: Semaphore::new(count) }
    }
}

impl Compiler {
    /// A compiler that runs `program`, which is `skiff` itself, as often at once as the machine has room for.
    pub fn new(program: PathBuf, disk: Disk, limits: Limits) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { program, args: vec![VERB.into()], disk, limits, slots: Arc::new(Slots::on(cores)) }
    }

    /// The same with another way to call the program: all arguments before the limits. For programs that are not `skiff`
    /// and yet end in [`crate::compile::child_main`], such as tests.
    #[must_use]
    pub fn with_args(mut self, args: Vec<OsString>) -> Self {
        self.args = args;
        self
    }

    /// Compiles the component in `wasm` and leaves the code in `out`, which appears whole and durable, or not at all.
    /// Dropping the future kills the compiling process; what it had written stays beside `out` with `.tmp` appended, until
    /// the next attempt overwrites it.
    pub async fn compile(&self, wasm: &Path, out: &Path) -> Result<(), CompileError> {
        // Nobody closes the semaphores.
        let mut slot = self.slots.quick.acquire().await.ok();
        let mut work = pin!(tokio::time::timeout(self.limits.time, self.run(wasm, out)));
        let slow = async {
            tokio::time::sleep(self.limits.slow_after).await;
            self.slots.slow.acquire().await.ok()
        };
        let compiled = tokio::select! {
            compiled = &mut work => compiled,
            // The place among the quick is free for another.
            place = slow => {
                slot = place;
                work.await
            }
        };
        drop(slot);
        compiled.unwrap_or(Err(CompileError::TimeLimit { max: self.limits.time }))
    }

    async fn run(&self, wasm: &Path, out: &Path) -> Result<(), CompileError> {
        let mut child = self.spawn()?;
        let (Some(stdin), Some(stdout), Some(stderr)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(CompileError::Pipe(std::io::ErrorKind::BrokenPipe.into()));
        };
        let temporary = with_suffix(out, ".tmp");
        let (fed, written, message) =
            tokio::join!(self.feed(wasm, stdin), self.store(&temporary, stdout), words(stderr));
        let written = match written {
            Err(e @ CompileError::OutputLimit { .. }) => {
                // It is still writing; killing it is all that can fail, and it may be gone already.
                let _ = child.start_kill();
                Err(e)
            }
            written => written,
        };
        let status = child.wait().await.map_err(CompileError::Pipe)?;
        let file = match (written, self.verdict(status, message)) {
            // Whatever the compiler says of itself, it was we who stopped it.
            (Err(e @ CompileError::OutputLimit { .. }), _) => return Err(e),
            (_, Err(e)) => return Err(e),
            (written, Ok(())) => written?,
        };
        fed?;
        self.publish(file, temporary, out.to_owned()).await
    }

    fn spawn(&self) -> Result<Child, CompileError> {
        let limits = ChildLimits { memory_bytes: self.limits.memory_bytes, cpu_secs: self.limits.cpu.as_secs().max(1) };
        Command::new(&self.program)
            .args(&self.args)
            .args(limits.args())
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| CompileError::Spawn { program: self.program.clone(), source })
    }

    async fn feed(&self, wasm: &Path, mut stdin: ChildStdin) -> Result<(), CompileError> {
        let failed = |source| CompileError::Read { path: wasm.to_owned(), source };
        let file = blocking({
            let (disk, path) = (self.disk.clone(), wasm.to_owned());
            move || disk.open(path, Mode::Read)
        });
        let file = Arc::new(file.await.map_err(failed)?);
        let mut offset = 0;
        loop {
            let file = file.clone();
            let read = blocking(move || {
                let mut chunk = vec![0; CHUNK_BYTES];
                let bytes = file.read_at(&mut chunk, offset)?;
                chunk.truncate(bytes);
                Ok(chunk)
            });
            let chunk = read.await.map_err(failed)?;
            if chunk.is_empty() {
                return Ok(());
            }
            // A compiler that stops reading has ended: its status says why.
            if stdin.write_all(&chunk).await.is_err() {
                return Ok(());
            }
            offset += chunk.len() as u64;
        }
    }

    /// Writes what the compiler makes, and its seal, to a file that nobody reads yet.
    async fn store(&self, path: &Path, mut stdout: ChildStdout) -> Result<Arc<File>, CompileError> {
        let failed = |source| CompileError::Write { path: path.to_owned(), source };
        let file = blocking({
            let (disk, path) = (self.disk.clone(), path.to_owned());
            move || {
                let file = disk.open(path, Mode::Create)?;
                file.set_bytes(0)?;
                Ok(file)
            }
        });
        let file = Arc::new(file.await.map_err(failed)?);
        let mut seal = Seal::default();
        loop {
            let chunk = read_chunk(&mut stdout).await.map_err(CompileError::Pipe)?;
            let offset = seal.bytes();
            if chunk.is_empty() {
                let trailer = seal.finish();
                write(&file, trailer.to_vec(), offset).await.map_err(failed)?;
                return Ok(file);
            }
            seal.update(&chunk);
            if seal.bytes() > self.limits.output_bytes {
                return Err(CompileError::OutputLimit { max_bytes: self.limits.output_bytes });
            }
            write(&file, chunk, offset).await.map_err(failed)?;
        }
    }

    fn verdict(&self, status: ExitStatus, message: String) -> Result<(), CompileError> {
        if status.success() {
            return Ok(());
        }
        if status.code() == Some(i32::from(EXIT_INVALID)) {
            return Err(CompileError::Invalid { message });
        }
        match status.signal() {
            Some(signal) if signal == Signal::XCPU.as_raw() => Err(CompileError::CpuLimit { max: self.limits.cpu }),
            Some(signal) if signal == Signal::KILL.as_raw() => Err(CompileError::Killed),
            // How Rust ends when an allocation fails.
            Some(signal) if signal == Signal::ABORT.as_raw() && message.contains("memory allocation of") => {
                Err(CompileError::MemoryLimit { max_bytes: self.limits.memory_bytes })
            }
            _ => Err(CompileError::Crashed { status: status.to_string(), message }),
        }
    }

    async fn publish(&self, file: Arc<File>, temporary: PathBuf, out: PathBuf) -> Result<(), CompileError> {
        let disk = self.disk.clone();
        let path = out.clone();
        let published = blocking(move || {
            file.sync()?;
            disk.rename(&temporary, &out)?;
            match out.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => disk.sync_dir(parent),
                _ => disk.sync_dir("."),
            }
        });
        published.await.map_err(|source| CompileError::Write { path, source })
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> std::io::Result<T> + Send + 'static) -> std::io::Result<T> {
    spawn_blocking(work).await.unwrap_or_else(|e| Err(std::io::Error::other(e)))
}

async fn write(file: &Arc<File>, data: Vec<u8>, offset: u64) -> std::io::Result<()> {
    let file = file.clone();
    blocking(move || file.write_at(&data, offset)).await
}

/// Up to a chunk, as much as there is; empty at the end.
async fn read_chunk(from: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Vec<u8>> {
    let mut chunk = Vec::new();
    from.take(CHUNK_BYTES as u64).read_to_end(&mut chunk).await?;
    Ok(chunk)
}

/// The compiler's words, shortened; the rest is read and dropped, so that it never waits for us.
async fn words(mut stderr: ChildStderr) -> String {
    let mut words = Vec::new();
    // What cannot be read is missing from a message, no more.
    let _ = (&mut stderr).take(MESSAGE_BYTES_MAX).read_to_end(&mut words).await;
    let _ = tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await;
    String::from_utf8_lossy(&words).trim_end().to_owned()
}
