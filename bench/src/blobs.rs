//! A large blob into the registry and out of it again, beside Debian's `docker-registry` on the same disk.
//!
//! Both get the same bytes in turns: a POST, then a PUT with all of the content, as most clients send it, then a GET. Skiff
//! answers a push once it is on the disk; docker-registry does not sync. So there are two times of its push: until it
//! answers, and until the folder it wrote to is synced, which is when it promises what Skiff's answer does. The ratio that
//! has a bar is the second. Every byte that comes back is compared.
//!
//! Skiff's resident memory is the kernel's own peak over a push and a pull.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::Subject;
use crate::cluster::Cluster;
use crate::report::{Bar, Report, megabytes, spread};
use crate::stats::Summary;

/// How the content is made, written and compared.
const PIECE: usize = 1 << 20;
/// What the resident memory may grow by.
const GROWTH: Bar = Bar { below: 16e6, shown: "16 MB" };

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    subject: Subject,
    /// The program of docker-registry; without it Skiff is measured alone
    #[arg(long, value_name = "FILE")]
    docker_registry: Option<PathBuf>,
    /// How large the blob is, in MiB
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u64).range(1..))]
    mebibytes: u64,
    /// How many turns each registry has
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
}

/// A blob that is never in memory as a whole. Its pieces differ by their number, and the blobs by their seed.
struct Blob {
    pieces: u64,
    seed: u64,
    base: Vec<u8>,
}

impl Blob {
    fn new(pieces: u64, seed: u64) -> Self {
        let mut state = seed | 1;
        let base = (0..PIECE).map(|_| {
            // xorshift64: nothing that a file system could compress away.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        });
        Self { pieces, seed, base: base.collect() }
    }

    fn bytes(&self) -> u64 {
        self.pieces * PIECE as u64
    }

    /// The first bytes of a piece, after which all are the same.
    fn mark(&self, piece: u64) -> [u8; 16] {
        let mut mark = [0; 16];
        mark[..8].copy_from_slice(&piece.to_le_bytes());
        mark[8..].copy_from_slice(&self.seed.to_le_bytes());
        mark
    }

    fn digest(&self) -> String {
        let mut hasher = Sha256::new();
        for piece in 0..self.pieces {
            hasher.update(self.mark(piece));
            hasher.update(&self.base[16..]);
        }
        let hex: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        format!("sha256:{hex}")
    }

    fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let mut piece = self.base.clone();
        for at in 0..self.pieces {
            piece[..16].copy_from_slice(&self.mark(at));
            to.write_all(&piece)?;
        }
        Ok(())
    }

    fn compare(&self, from: &mut impl Read) -> Result<()> {
        let mut piece = vec![0; PIECE];
        for at in 0..self.pieces {
            from.read_exact(&mut piece).context("the blob broke off")?;
            ensure!(
                piece[..16] == self.mark(at) && piece[16..] == self.base[16..],
                "piece {at} of the blob is another"
            );
        }
        Ok(())
    }
}

/// A registry under test.
struct Registry<'a> {
    name: &'static str,
    address: String,
    token: Option<String>,
    /// What it writes to.
    folder: &'a Path,
}

/// How long the parts of one turn took.
struct Turn {
    push: Duration,
    durable: Duration,
    pull: Duration,
}

type Part = fn(&Turn) -> Duration;

impl Registry<'_> {
    fn turn(&self, blob: &Blob, digest: &str) -> Result<Turn> {
        let failed = |what: &str| format!("failed to {what} {}", self.name);
        sync(self.folder)?;
        let begun = Instant::now();
        let location = self.start().with_context(|| failed("push to"))?;
        let separator = if location.contains('?') { '&' } else { '?' };
        let path = format!("{location}{separator}digest={digest}");
        let mut answer = self.send("PUT", &path, blob.bytes(), |to| blob.write(to))?;
        expect(&mut answer, 201).with_context(|| failed("push to"))?;
        let push = begun.elapsed();
        sync(self.folder)?;
        let durable = begun.elapsed();
        let begun = Instant::now();
        let mut answer = self.send("GET", &format!("/v2/bench/blob/blobs/{digest}"), 0, |_| Ok(()))?;
        expect(&mut answer, 200).with_context(|| failed("pull from"))?;
        blob.compare(&mut answer).with_context(|| failed("pull from"))?;
        let pull = begun.elapsed();
        let mut answer = self.send("DELETE", &format!("/v2/bench/blob/blobs/{digest}"), 0, |_| Ok(()))?;
        expect(&mut answer, 202).with_context(|| failed("delete from"))?;
        Ok(Turn { push, durable, pull })
    }

    fn start(&self) -> Result<String> {
        let mut answer = self.send("POST", "/v2/bench/blob/blobs/uploads/", 0, |_| Ok(()))?;
        let head = expect(&mut answer, 202)?;
        let location = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("location").then(|| value.trim().to_owned())
        });
        let location = location.context("there is no Location")?;
        // A path, or a whole address.
        Ok(location
            .split_once("://")
            .and_then(|(_, rest)| rest.find('/').map(|at| rest[at..].to_owned()))
            .unwrap_or(location))
    }

    /// One request on a connection of its own.
    fn send(
        &self,
        method: &str,
        path: &str,
        bytes: u64,
        body: impl FnOnce(&mut TcpStream) -> io::Result<()>,
    ) -> Result<BufReader<TcpStream>> {
        let mut stream = TcpStream::connect(&self.address).with_context(|| format!("failed to reach {}", self.name))?;
        stream.set_nodelay(true).context("failed to set TCP_NODELAY")?;
        let token = self.token.as_ref().map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-length: {bytes}\r\n{token}\r\n",
            self.address
        );
        let sent = stream.write_all(head.as_bytes()).and_then(|()| body(&mut stream));
        sent.with_context(|| format!("failed to send {method} {path} to {}", self.name))?;
        Ok(BufReader::with_capacity(PIECE, stream))
    }
}

/// Reads an answer's head, which must have that status.
fn expect(answer: &mut impl BufRead, status: u16) -> Result<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if answer.read_line(&mut head).context("failed to read an answer")? == 0 {
            bail!("the connection ended: {head:?}");
        }
    }
    ensure!(
        head.starts_with(&format!("HTTP/1.1 {status} ")),
        "it answered {}",
        head.lines().next().unwrap_or_default()
    );
    Ok(head)
}

/// Writes all that waits for the disk of a folder.
fn sync(folder: &Path) -> Result<()> {
    let file = File::open(folder).with_context(|| format!("failed to open {}", folder.display()))?;
    rustix::fs::syncfs(&file).with_context(|| format!("failed to sync {}", folder.display()))
}

/// A running docker-registry on a folder of its own; dropping it stops it.
struct DockerRegistry {
    process: Child,
    address: String,
    folder: TempDir,
}

impl DockerRegistry {
    fn start(program: &Path) -> Result<Self> {
        let failed = || format!("failed to start {}", program.display());
        let folder = tempfile::tempdir().context("failed to make a folder for docker-registry")?;
        let config = folder.path().join("config.yml");
        let data = folder.path().join("data");
        let text = format!(
            "version: 0.1\nlog: {{level: info}}\nstorage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\nhttp: {{addr: \"127.0.0.1:0\"}}\n",
            data.display()
        );
        fs::write(&config, text).with_context(failed)?;
        let mut command = Command::new(program);
        command.arg("serve").arg(&config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = command.spawn().with_context(failed)?;
        let mut log = BufReader::new(process.stderr.take().with_context(failed)?);
        let mut registry = Self { process, address: String::new(), folder };
        let mut line = String::new();
        while log.read_line(&mut line).with_context(failed)? > 0 {
            if let Some((_, rest)) = line.split_once("listening on ") {
                registry.address = rest.split(['"', ' ', ',', '\n']).next().unwrap_or_default().to_owned();
                // What it says later must not fill the pipe.
                std::thread::spawn(move || io::copy(&mut log, &mut io::sink()));
                return Ok(registry);
            }
            line.clear();
        }
        bail!("{} ended: {line}", program.display())
    }
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The resident memory of a process, now and at most since it was last set back.
struct Resident {
    status: PathBuf,
    before: u64,
}

impl Resident {
    fn watch(pid: u32) -> Result<Self> {
        // 5 sets the peak back.
        let reset = format!("/proc/{pid}/clear_refs");
        fs::write(&reset, "5").with_context(|| format!("failed to write {reset}"))?;
        let mut watch = Self { status: PathBuf::from(format!("/proc/{pid}/status")), before: 0 };
        watch.before = watch.read("VmRSS:")?;
        Ok(watch)
    }

    fn grown(&self) -> Result<u64> {
        Ok(self.read("VmHWM:")?.saturating_sub(self.before))
    }

    fn read(&self, name: &str) -> Result<u64> {
        let failed = || format!("failed to read {name} in {}", self.status.display());
        let text = fs::read_to_string(&self.status).with_context(failed)?;
        let line = text.lines().find_map(|line| line.strip_prefix(name)).with_context(failed)?;
        let kib: u64 = line.split_whitespace().next().and_then(|kib| kib.parse().ok()).with_context(failed)?;
        Ok(kib * 1024)
    }
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let cluster = Cluster::start(&options.subject)?;
    let data = cluster.data();
    let skiff =
        Registry { name: "skiff", address: cluster.api().to_owned(), token: Some(cluster.token()?), folder: &data };
    let docker = options.docker_registry.as_deref().map(DockerRegistry::start).transpose()?;
    let docker = docker.as_ref().map(|docker| Registry {
        name: "docker-registry",
        address: docker.address.clone(),
        token: None,
        folder: docker.folder.path(),
    });
    // What a first request allocates is there before anything is measured.
    for registry in [Some(&skiff), docker.as_ref()].into_iter().flatten() {
        let small = Blob::new(4, 1);
        registry.turn(&small, &small.digest())?;
    }
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let mut grown = 0;
    for round in 0..options.rounds {
        let blob = Blob::new(options.mebibytes, u64::from(round) + 2);
        let digest = blob.digest();
        let watch = Resident::watch(cluster.pid())?;
        ours.push(skiff.turn(&blob, &digest)?);
        grown = grown.max(watch.grown()?);
        if let Some(docker) = &docker {
            theirs.push(docker.turn(&blob, &digest)?);
        }
        eprintln!("bench: round {} of {}", round + 1, options.rounds);
    }
    let bytes = options.mebibytes * PIECE as u64;
    let mut report = Report::default();
    let what = format!("a push and a pull of {}", megabytes(bytes));
    report.figure(
        "grown_bytes",
        &format!("resident memory grows by, {what}"),
        megabytes(grown),
        grown as f64,
        Some(GROWTH),
    );
    let rate = |turns: &[Turn], of: Part| {
        Summary::of(&turns.iter().map(|turn| bytes as f64 / 1e6 / of(turn).as_secs_f64()).collect::<Vec<_>>())
    };
    let parts: [(&str, &str, Part); 3] = [
        ("push", "push", |turn| turn.push),
        ("durable", "push, synced", |turn| turn.durable),
        ("pull", "pull", |turn| turn.pull),
    ];
    for (name, turns) in [("skiff", &ours), ("docker-registry", &theirs)] {
        for (key, part, of) in parts.iter().filter(|_| !turns.is_empty()) {
            let rate = rate(turns, *of);
            let key = format!("{}_{key}_mb_s", name.replace('-', "_"));
            report.figure(&key, &format!("{name}: {part}"), spread(rate, 0, "MB/s"), rate.median, None);
        }
    }
    for (key, part, of) in parts.iter().filter(|_| !theirs.is_empty()) {
        let ratios: Vec<f64> =
            ours.iter().zip(&theirs).map(|(our, their)| of(their).as_secs_f64() / of(our).as_secs_f64()).collect();
        let must = (*key != "push").then_some(1.0);
        report.ratio(
            &format!("{key}_to_docker_registry"),
            &format!("{part}, over docker-registry"),
            Summary::of(&ratios),
            must,
        );
    }
    report.print("blobs")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_is_what_its_digest_says_and_differs_from_others() {
        let (one, two) = (Blob::new(2, 1), Blob::new(2, 3));
        let mut bytes = Vec::new();
        one.write(&mut bytes).unwrap();
        assert_eq!(bytes.len() as u64, one.bytes());
        let hex: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(one.digest(), format!("sha256:{hex}"));
        one.compare(&mut bytes.as_slice()).unwrap();
        assert!(two.compare(&mut bytes.as_slice()).is_err());
        bytes[PIECE + 100] ^= 1;
        assert!(one.compare(&mut bytes.as_slice()).is_err());
        assert!(one.compare(&mut &bytes[..PIECE]).is_err());
    }
}
