//! What Skiff is compared with, on the same machine, in the same run, giving the same answer.
//!
//! [`WasmtimeServe`] is wasmtime's own server as it comes, which makes a fresh instance for each request, too.
//! [`Native`] is axum with its defaults, a multi-threaded runtime and Skiff's allocator, in a process of its own: what a service
//! costs with no sandbox, no gateway and no limits around it. No orchestrator can reach it; the ratio says what those cost.

use std::io::{self, BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use axum::routing::get;
use axum::serve::ListenerExt;
use tokio::signal::unix::{SignalKind, signal};

/// A running native server; dropping it stops it.
pub(crate) struct Native {
    process: Child,
    /// `HOST:PORT`.
    pub(crate) address: String,
}

impl Native {
    pub(crate) fn start() -> Result<Self> {
        let program = std::env::current_exe().context("failed to find this program's file")?;
        let mut command = Command::new(program);
        // It ends with its standard input, so it does not outlive this process, however that ends.
        command.arg("native").stdin(Stdio::piped()).stdout(Stdio::piped());
        let process = command.spawn().context("failed to start the native server")?;
        let mut native = Self { process, address: String::new() };
        let output = native.process.stdout.take().context("failed to read the native server's address")?;
        BufReader::new(output).read_line(&mut native.address).context("failed to read the native server's address")?;
        native.address.truncate(native.address.trim_end().len());
        Ok(native)
    }
}

impl Drop for Native {
    fn drop(&mut self) {
        // Wait closes its standard input.
        let _ = self.process.wait();
    }
}

/// A running `wasmtime serve`; dropping it stops it.
pub(crate) struct WasmtimeServe {
    process: Child,
    /// `HOST:PORT`.
    pub(crate) address: String,
}

impl WasmtimeServe {
    /// Serves a guest with wasmtime's defaults; `cli` is what every Rust and JavaScript component needs.
    pub(crate) fn start(program: &Path, guest: &Path) -> Result<Self> {
        let failed = || format!("failed to start {}", program.display());
        let mut command = Command::new(program);
        command.args(["serve", "--addr", "127.0.0.1:0", "-S", "cli"]).arg(guest);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = command.spawn().with_context(failed)?;
        let mut output = BufReader::new(process.stderr.take().with_context(failed)?);
        let mut serve = Self { process, address: String::new() };
        let mut line = String::new();
        // It compiles first, which takes seconds for a JavaScript component.
        while output.read_line(&mut line).with_context(failed)? > 0 {
            if let Some((_, address)) = line.trim_end().trim_end_matches('/').split_once("http://") {
                serve.address = address.to_owned();
                // What it says later must not fill the pipe.
                std::thread::spawn(move || io::copy(&mut output, &mut io::sink()));
                return Ok(serve);
            }
        }
        bail!("{} ended: {line}", program.display())
    }
}

impl Drop for WasmtimeServe {
    fn drop(&mut self) {
        if self.process.kill().is_ok() {
            let _ = self.process.wait();
        }
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct NativeOptions {
    /// Where to listen, for good; otherwise on a free port until standard input ends
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
}

/// The native server's whole life: prints its address, answers until standard input ends.
pub(crate) fn serve(options: &NativeOptions) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.context("failed to start the native server")?;
    let at = options.listen.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0)));
    let listener = runtime.block_on(tokio::net::TcpListener::bind(at)).context("failed to listen")?;
    let address = listener.local_addr().context("failed to listen")?;
    let served = runtime.spawn(async move {
        // The type and the bytes of the hello example.
        let app = axum::Router::new().route("/", get(async || "Hello from Skiff!\n"));
        let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
        axum::serve(listener, app).await
    });
    writeln!(io::stdout(), "{address}").context("failed to print the address")?;
    if options.listen.is_some() {
        // Nobody else ends the first process of a container.
        return runtime.block_on(async {
            let mut stop = signal(SignalKind::terminate()).context("failed to wait for the end")?;
            tokio::select! {
                _ = stop.recv() => Ok(()),
                served = served => Ok(served.context("the native server failed")??),
            }
        });
    }
    io::copy(&mut io::stdin(), &mut io::sink()).context("failed to wait for the end")?;
    runtime.shutdown_background();
    Ok(())
}
