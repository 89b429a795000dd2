//! What the control plane sends: the tar file, made while it is read.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::stream;
use hyper::StatusCode;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use skiff_api::{Code, Problem};
use skiff_disk::{Disk, File, Mode};
use skiff_keyvalue::Engine;
use skiff_scheduler::api::Token;
use skiff_scheduler::backup::Export;
use skiff_scheduler::store::Store;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::verbs::serving::data::SECRETS_KEY;

/// The version of the format.
pub(super) const VERSION: u32 = 1;
/// Pieces of the answer that wait to be sent.
const PIECES_MAX: usize = 8;
const PIECE_BYTES: usize = 64 << 10;
/// Tokens and keys are short.
const SMALL_BYTES_MAX: u64 = 64 << 10;

/// The first entry.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Head {
    pub(super) version: u32,
    pub(super) skiff: String,
    pub(super) created: Timestamp,
}

/// The last one.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct End {
    pub(super) entries: u64,
}

/// What a backup is made from. Cheap to clone.
#[derive(Clone)]
struct Source {
    token: Token,
    data: PathBuf,
    disk: Disk,
    store: Arc<dyn Store>,
    buckets: Engine,
    /// One at a time: each reads all that there is.
    place: Arc<Semaphore>,
}

/// `GET /v1/backup`, for whoever has the admin token.
pub(in crate::verbs) fn router(
    token: Token,
    data: PathBuf,
    disk: Disk,
    store: Arc<dyn Store>,
    buckets: Engine,
) -> Router {
    let source = Source { token, data, disk, store, buckets, place: Arc::new(Semaphore::new(1)) };
    Router::new().route("/v1/backup", get(answer)).with_state(source)
}

async fn answer(State(source): State<Source>, request: Request) -> Response {
    let header = request.headers().get(AUTHORIZATION).map(|value| value.to_str().unwrap_or_default());
    if !source.token.admits(header) {
        return refusal(&Problem::new(Code::Unauthorized, "the token is not valid for this cluster"));
    }
    let Ok(place) = Arc::clone(&source.place).try_acquire_owned() else {
        return refusal(&Problem::new(Code::Unavailable, "another backup is under way").hint("try again later"));
    };
    let (pieces, sent) = mpsc::channel(PIECES_MAX);
    let runtime = Handle::current();
    tokio::task::spawn_blocking(move || write(&source, &runtime, pieces, place));
    let body = stream::unfold(sent, |mut sent| async move { Some((sent.recv().await?, sent)) });
    ([(CONTENT_TYPE, "application/x-tar")], Body::from_stream(body)).into_response()
}

fn refusal(problem: &Problem) -> Response {
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = serde_json::to_vec(problem).unwrap_or_default();
    (status, [(CONTENT_TYPE, Problem::MEDIA_TYPE)], body).into_response()
}

/// An error as an item ends the answer early, which its reader sees.
type Piece = io::Result<Vec<u8>>;

fn write(source: &Source, runtime: &Handle, pieces: mpsc::Sender<Piece>, place: OwnedSemaphorePermit) {
    let mut archive =
        Archive { tar: tar::Builder::new(Pipe { pieces: pieces.clone(), piece: Vec::new() }), entries: 0 };
    let written = archive.all(source, runtime).and_then(|()| archive.tar.into_inner()?.flush());
    if let Err(error) = written {
        // A reader that has left is no news.
        if !pieces.is_closed() {
            tracing::error!(%error, "a backup failed");
            let _ = pieces.blocking_send(Err(error));
        }
    }
    drop(place);
}

struct Archive {
    tar: tar::Builder<Pipe>,
    entries: u64,
}

impl Archive {
    fn all(&mut self, source: &Source, runtime: &Handle) -> io::Result<()> {
        let (data, disk) = (&source.data, &source.disk);
        let head = Head { version: VERSION, skiff: env!("CARGO_PKG_VERSION").to_owned(), created: Timestamp::now() };
        self.small("backup.json", &serde_json::to_vec(&head)?)?;
        for name in ["token", "authority.pem", SECRETS_KEY] {
            match disk.read(data.join(name), SMALL_BYTES_MAX) {
                Ok(bytes) => self.small(name, &bytes)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        let mut export = Export::new(Arc::clone(&source.store));
        let mut page = 0;
        while let Some(items) = runtime.block_on(export.next()).map_err(io::Error::other)? {
            let mut lines = Vec::new();
            for item in &items {
                serde_json::to_writer(&mut lines, item)?;
                lines.push(b'\n');
            }
            self.small(&format!("store/{page:06}"), &lines)?;
            page += 1;
        }
        let (mut after, mut page) = (None, 0);
        loop {
            let values = runtime.block_on(source.buckets.page(after.take())).map_err(io::Error::other)?;
            let Some((bucket, key, _)) = values.last() else { break };
            after = Some((bucket.clone(), key.clone()));
            let mut lines = Vec::new();
            for value in &values {
                serde_json::to_writer(&mut lines, value)?;
                lines.push(b'\n');
            }
            self.small(&format!("keyvalue/{page:06}"), &lines)?;
            page += 1;
        }
        // What names content comes before it: what is pushed meanwhile may have no name here, but never no content.
        for name in ["version", "repositories", "blobs"] {
            self.tree(disk, &data.join("registry").join(name), &format!("registry/{name}"))?;
        }
        let entries = self.entries;
        self.small("end", &serde_json::to_vec(&End { entries })?)
    }

    fn small(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.append(name, bytes.len() as u64, bytes)
    }

    fn append(&mut self, name: &str, bytes: u64, content: impl Read) -> io::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes);
        header.set_mode(0o600);
        self.entries += 1;
        self.tar.append_data(&mut header, name, content)
    }

    /// What is removed meanwhile is left out.
    fn tree(&mut self, disk: &Disk, path: &Path, name: &str) -> io::Result<()> {
        let is_gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
        let stat = match disk.stat(path) {
            Err(error) if is_gone(&error) => return Ok(()),
            stat => stat?,
        };
        if stat.is_dir {
            let mut entries = match disk.read_dir(path) {
                Err(error) if is_gone(&error) => return Ok(()),
                entries => entries?,
            };
            entries.sort();
            // Of a file that is being replaced, the old or the new is there as well.
            let whole = entries.iter().filter(|entry| !entry.name.ends_with(".tmp"));
            return whole
                .map(|entry| &entry.name)
                .try_for_each(|entry| self.tree(disk, &path.join(entry), &format!("{name}/{entry}")));
        }
        match disk.open(path, Mode::Read) {
            Err(error) if is_gone(&error) => Ok(()),
            Err(error) => Err(error),
            Ok(file) => {
                let bytes = file.bytes()?;
                self.append(name, bytes, Reader { file, at: 0, end: bytes })
            }
        }
    }
}

/// A file's content up to an end.
struct Reader {
    file: File,
    at: u64,
    end: u64,
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX).min(buffer.len());
        if left == 0 {
            return Ok(0);
        }
        match self.file.read_at(&mut buffer[..left], self.at)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                self.at += read as u64;
                Ok(read)
            }
        }
    }
}

/// Sends what is written, piece by piece, as fast as it is taken.
struct Pipe {
    pieces: mpsc::Sender<Piece>,
    piece: Vec<u8>,
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let piece = std::mem::take(&mut self.piece);
        match piece.is_empty() {
            true => Ok(()),
            false => self.pieces.blocking_send(Ok(piece)).map_err(|_| io::ErrorKind::BrokenPipe.into()),
        }
    }
}
