//! What services use of other registries, copied into the cluster's.
//!
//! The control plane pulls with the logins of the user that it runs as: docker's and podman's files. Nodes pull from the
//! cluster's registry alone, so they need neither these logins nor that the other registry is up.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use skiff_api::{Code, Digest, ImageRef, Problem};
use skiff_disk::Disk;
use skiff_registry::attached::CopySignatures;
use skiff_registry::client::{Error, Logins};
use skiff_registry::copy::{CopyError, CopyIn};
use skiff_registry::store::Error as StoreError;
use skiff_registry::{Client, ClientOptions, Registry};
use tokio::sync::Semaphore;

use crate::args::MirrorOf;
use crate::exit::Failure;
use crate::place::remote_repository;

/// Copies at once. Each takes a connection and a scratch file; those who apply more wait.
const COPIES_AT_ONCE: usize = 4;

/// What belongs to an image together: a component with a file system around it is far smaller, a native image may be as
/// large as what the registry takes as one blob.
const IMAGE_BYTES_MAX: u64 = 16 << 30;

/// How long an apply waits for a copy. The client of the API waits a little longer; the copy itself goes on.
const COPY_TIMEOUT: Duration = Duration::from_secs(55);

/// How long an apply waits for a registry that is asked who signed an image.
const SIGNATURES_TIMEOUT: Duration = Duration::from_secs(20);

/// Copies images of other registries.
pub(super) struct Mirror {
    registry: Registry,
    scratch: PathBuf,
    logins: Logins,
    options: MirrorOptions,
    places: Semaphore,
}

/// How other registries are reached.
#[derive(Debug, Clone, Default)]
pub(super) struct MirrorOptions {
    /// Those that are spoken to without TLS if they have none, `HOST[:PORT]`.
    pub(super) plain_http: Vec<String>,
    pub(super) mirrors: Vec<MirrorOf>,
}

impl Mirror {
    /// `scratch` is a folder of its own; what an earlier process left there is removed.
    pub(super) fn open(registry: Registry, scratch: PathBuf, options: MirrorOptions) -> Result<Self, Failure> {
        let disk = Disk::real();
        let cleaned = disk.create_dir_all(&scratch).and_then(|()| {
            let left = disk.read_dir(&scratch)?;
            left.iter().try_for_each(|entry| disk.remove_file(scratch.join(&entry.name)))
        });
        cleaned.map_err(|error| Failure::io("clean", &scratch, error))?;
        let places = Semaphore::new(COPIES_AT_ONCE);
        Ok(Self { registry, scratch, logins: Logins::of_user(), options, places })
    }

    /// Copies an image of another registry to `repository`; see `Images::copy`.
    pub(super) async fn copy(self: &Arc<Self>, image: &ImageRef, repository: &str) -> Result<Digest, Problem> {
        let (mirror, of, to) = (self.clone(), image.clone(), repository.to_owned());
        // In a task of its own: a blob that takes longer than anybody waits would never be here otherwise.
        let copy = tokio::spawn(async move { mirror.copy_from_anywhere(&of, &to).await });
        match tokio::time::timeout(COPY_TIMEOUT, copy).await {
            Ok(Ok(copied)) => copied,
            Ok(Err(error)) => Err(Problem::new(Code::Internal, format!("failed to copy image {image}: {error}"))),
            Err(_) => {
                let detail = format!("failed to copy image {image}: it was not here within {COPY_TIMEOUT:?}");
                Err(Problem::new(Code::Unavailable, detail).hint("the copy goes on: apply it again in a while"))
            }
        }
    }

    /// From the registry's mirrors, the first that has it, else from itself.
    async fn copy_from_anywhere(&self, image: &ImageRef, repository: &str) -> Result<Digest, Problem> {
        let _place = self.places.acquire().await;
        let own = image.registry().unwrap_or_default();
        let mirrors = self.options.mirrors.iter().filter(|mirror| mirror.of == own).map(|mirror| mirror.at.as_str());
        for host in mirrors {
            match self.copy_from(host, image, repository).await {
                Ok(digest) => return Ok(digest),
                Err(error) => {
                    tracing::warn!(%image, mirror = host, error = %chain(&error), "the mirror did not give it")
                }
            }
        }
        self.copy_from(own, image, repository).await.map_err(|error| problem(image, &error))
    }

    async fn copy_from(&self, host: &str, image: &ImageRef, repository: &str) -> Result<Digest, CopyError> {
        let from = remote_repository(image);
        let client = self.client(host, &from).await?;
        let tag = image.digest().is_none().then(|| image.tag_or_latest());
        let reference = image.digest().map_or_else(|| image.tag_or_latest().to_owned(), Digest::to_string);
        let copy = CopyIn {
            client: &client,
            from: &from,
            reference: &reference,
            registry: &self.registry,
            to: repository,
            tag,
            scratch: &self.scratch,
            bytes_max: IMAGE_BYTES_MAX,
        };
        let digest = copy.run().await?;
        let signatures = CopySignatures { client: &client, from: &from, registry: &self.registry, to: repository };
        if let Err(error) = signatures.run(&digest).await {
            // Whoever needs them asks for them again.
            tracing::warn!(%image, error = %chain(&error), "failed to copy an image's signatures");
        }
        Ok(digest)
    }

    /// Copies the signatures of an image that is here; see `Images::copy_signatures`.
    pub(super) async fn copy_signatures(
        &self,
        image: &ImageRef,
        repository: &str,
        digest: &Digest,
    ) -> Result<(), Problem> {
        let copy = async {
            let _place = self.places.acquire().await;
            let host = image.registry().unwrap_or_default();
            let from = remote_repository(image);
            let client = self.client(host, &from).await?;
            CopySignatures { client: &client, from: &from, registry: &self.registry, to: repository }.run(digest).await
        };
        match tokio::time::timeout(SIGNATURES_TIMEOUT, copy).await {
            // A registry that is down, or is gone: what was copied with the image counts.
            Ok(copied) => {
                if let Err(error) = copied {
                    tracing::warn!(%image, error = %chain(&error), "failed to look for signatures of an image");
                }
            }
            Err(_) => tracing::warn!(%image, "its registry did not say who signed it in time"),
        }
        Ok(())
    }

    async fn client(&self, host: &str, repository: &str) -> Result<Client, CopyError> {
        let login = self.logins.find(host, repository).await.map_err(Error::from)?;
        let plain_http = self.options.plain_http.iter().any(|plain| plain == host);
        Ok(Client::new(ClientOptions::foreign(host, plain_http, login))?)
    }
}

fn problem(image: &ImageRef, error: &CopyError) -> Problem {
    let code = match error {
        CopyError::Client(error) if error.is_not_found() => Code::ImageNotFound,
        CopyError::Client(
            Error::Connect { .. }
            | Error::ConnectForeign { .. }
            | Error::Timeout { .. }
            | Error::Transfer { .. }
            | Error::Unavailable { .. },
        ) => Code::Unavailable,
        CopyError::Store(error) if error.is_disk_full() => Code::StorageFull,
        CopyError::Store(
            StoreError::Repository { .. } | StoreError::Tag { .. } | StoreError::ManifestInvalid { .. },
        )
        | CopyError::Client(_) => Code::Invalid,
        CopyError::Store(_) | CopyError::Scratch { .. } => Code::Internal,
    };
    let problem = Problem::new(code, format!("failed to copy image {image}: {}", chain(error)));
    match error {
        CopyError::Client(Error::Unauthorized { .. }) => {
            problem.hint("the control plane uses the logins of the user that it runs as: log in as that one")
        }
        _ => problem,
    }
}

/// An error and its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}
