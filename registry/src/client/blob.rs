//! A blob, into a file: checked as it arrives, and gone on with where it broke off.
//!
//! What arrived before a break is kept, and only the rest is asked for; the digest is made of all of it, so it does not
//! matter whether a registry understands ranges, or tells the truth about them.

use std::io;
use std::path::Path;
use std::sync::Arc;

use reqwest::header::{CONTENT_RANGE, HeaderMap, HeaderValue, RANGE};
use reqwest::{Method, Response, StatusCode};
use skiff_disk::{Disk, File, Mode};

use super::error::Error;
use super::fetch::pull_scope;
use super::remote::{Call, Client, Inner};
use crate::hash::Hasher;
use crate::manifest::Descriptor;

/// How much is gathered before it is written: each write is a trip to a blocking thread.
const WRITE_BYTES: usize = 512 << 10;

/// What a connection must have brought for its end not to count as a failed attempt.
const PROGRESS_BYTES_MIN: u64 = 1 << 20;

/// A blob to be pulled, and where to.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) image: &'a str,
    pub(super) repository: &'a str,
    pub(super) blob: &'a Descriptor,
    pub(super) disk: &'a Disk,
    pub(super) path: &'a Path,
}

impl Client {
    /// Writes a blob to the new file `path`, checked and synced. `image` names what it belongs to in errors.
    pub async fn pull_blob(
        &self,
        image: &str,
        repository: &str,
        blob: &Descriptor,
        (disk, path): (&Disk, &Path),
    ) -> Result<(), Error> {
        self.0.pull_blob(Wanted { image, repository, blob, disk, path }, |_, _| {}).await
    }
}

impl Inner {
    /// Writes a blob and syncs its data. Its size is what its descriptor says: not a byte more is read.
    pub(super) async fn pull_blob(&self, wanted: Wanted<'_>, mut progress: impl FnMut(u64, u64)) -> Result<(), Error> {
        let mut arrived = Arrived::none(&wanted).await?;
        let mut attempts = self.attempts();
        progress(0, wanted.blob.size);
        loop {
            let before = arrived.bytes();
            let Err(error) = self.transfer(&wanted, &mut arrived, &mut progress).await else { break };
            if arrived.bytes() >= before + PROGRESS_BYTES_MIN {
                attempts = self.attempts();
            }
            attempts.after(error).await?;
        }
        arrived.finish(&wanted).await
    }

    /// Asks for what is missing, and reads until it is there or breaks off.
    async fn transfer(
        &self,
        wanted: &Wanted<'_>,
        arrived: &mut Arrived,
        progress: &mut impl FnMut(u64, u64),
    ) -> Result<(), Error> {
        let Wanted { image, blob, .. } = *wanted;
        let has = arrived.bytes();
        if has == blob.size && has > 0 {
            return Ok(());
        }
        let mut headers = HeaderMap::new();
        if has > 0
            && let Ok(range) = HeaderValue::from_str(&format!("bytes={has}-"))
        {
            headers.insert(RANGE, range);
        }
        let answer = self.send(Call {
            image,
            method: Method::GET,
            url: self.url(&format!("/v2/{}/blobs/{}", wanted.repository, blob.digest)).await,
            headers,
            body: None,
            scope: pull_scope(wanted.repository),
        });
        let mut answer = answer.await?;
        match answer.status() {
            StatusCode::PARTIAL_CONTENT if has > 0 && begins_at(&answer) == Some(has) => {}
            // All of it again.
            StatusCode::OK => arrived.restart(wanted).await?,
            StatusCode::PARTIAL_CONTENT => return Err(self.protocol(image, "another part than was asked for")),
            _ => return Err(self.refused(image, answer).await),
        }
        let mismatch = |actual| Error::SizeMismatch { image: image.to_owned(), expected: blob.size, actual };
        if let Some(rest) = answer.content_length().filter(|rest| arrived.bytes() + rest != blob.size) {
            return Err(mismatch(arrived.bytes() + rest));
        }
        while let Some(chunk) = answer.chunk().await.map_err(|e| self.broke_off(image, e.without_url()))? {
            if arrived.bytes() + chunk.len() as u64 > blob.size {
                return Err(mismatch(arrived.bytes() + chunk.len() as u64));
            }
            arrived.add(wanted, &chunk).await?;
            progress(arrived.bytes(), blob.size);
        }
        match arrived.bytes() == blob.size {
            true => Ok(()),
            false => Err(mismatch(arrived.bytes())),
        }
    }
}

/// Where a part of a whole begins: `bytes 100-199/200`.
fn begins_at(answer: &Response) -> Option<u64> {
    let range = answer.headers().get(CONTENT_RANGE)?.to_str().ok()?;
    range.trim().strip_prefix("bytes")?.trim_start().split('-').next()?.parse().ok()
}

/// What of a blob is here.
struct Arrived {
    file: Arc<File>,
    written: u64,
    gathered: Vec<u8>,
    hasher: Hasher,
}

impl Arrived {
    async fn none(wanted: &Wanted<'_>) -> Result<Self, Error> {
        let (disk, path) = (wanted.disk.clone(), wanted.path.to_path_buf());
        let create = move || {
            let file = disk.open(path, Mode::Create)?;
            // It may be what an earlier pull left behind.
            file.set_bytes(0)?;
            Ok(file)
        };
        let file = Arc::new(wanted.blocking(create).await?);
        let hasher = Hasher::new(wanted.blob.digest.algorithm());
        Ok(Self { file, written: 0, gathered: Vec::new(), hasher })
    }

    fn bytes(&self) -> u64 {
        self.written + self.gathered.len() as u64
    }

    async fn restart(&mut self, wanted: &Wanted<'_>) -> Result<(), Error> {
        if self.bytes() > 0 {
            *self = Self::none(wanted).await?;
        }
        Ok(())
    }

    async fn add(&mut self, wanted: &Wanted<'_>, bytes: &[u8]) -> Result<(), Error> {
        self.hasher.update(bytes);
        self.gathered.extend_from_slice(bytes);
        match self.gathered.len() >= WRITE_BYTES {
            true => self.write(wanted).await,
            false => Ok(()),
        }
    }

    async fn write(&mut self, wanted: &Wanted<'_>) -> Result<(), Error> {
        let (file, data, at) = (Arc::clone(&self.file), std::mem::take(&mut self.gathered), self.written);
        self.written += data.len() as u64;
        wanted.blocking(move || file.write_at(&data, at)).await
    }

    async fn finish(mut self, wanted: &Wanted<'_>) -> Result<(), Error> {
        self.write(wanted).await?;
        let actual = self.hasher.finish();
        if actual != wanted.blob.digest {
            let (image, expected) = (wanted.image.to_owned(), wanted.blob.digest.clone());
            return Err(Error::DigestMismatch { image, expected, actual });
        }
        let file = self.file;
        wanted.blocking(move || file.sync()).await
    }
}

impl Wanted<'_> {
    /// What blocks runs elsewhere.
    async fn blocking<T: Send + 'static>(
        &self,
        act: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let done = tokio::task::spawn_blocking(act).await.map_err(io::Error::other);
        done.flatten().map_err(|source| Error::Write {
            image: self.image.to_owned(),
            path: self.path.to_path_buf(),
            source,
        })
    }
}
