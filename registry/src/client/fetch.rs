//! Manifests, tags and repositories: what is small, read into memory and no longer than allowed.

use bytes::Bytes;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue, LINK};
use reqwest::{Method, Response, StatusCode};
use serde::Deserialize;
use skiff_api::Digest;
use skiff_api::digest::Algorithm;

use super::error::Error;
use super::remote::{Call, Client, Inner};
use crate::hash;
use crate::manifest::{MANIFEST_BYTES_MAX, media};

/// Every form of manifest that is understood.
const ACCEPTED: [&str; 5] =
    [media::OCI_MANIFEST, media::OCI_INDEX, media::DOCKER_MANIFEST, media::DOCKER_LIST, "application/json;q=0.1"];

/// How many names are asked for at once.
const PAGE_NAMES: usize = 1000;

/// A page of names, and of all the names of a list. More tags than that are of a build machine, and of no use in a list.
const PAGE_BYTES_MAX: usize = 4 << 20;
const NAMES_MAX: usize = 200_000;

/// A manifest as it came, byte for byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PulledManifest {
    pub digest: Digest,
    pub media_type: String,
    pub bytes: Bytes,
}

#[derive(Debug, Deserialize)]
struct Tags {
    tags: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
struct Repositories {
    repositories: Option<Vec<String>>,
}

impl Client {
    /// The digest that a tag stands for now.
    pub async fn resolve(&self, repository: &str, tag: &str) -> Result<Digest, Error> {
        let inner = &*self.0;
        let image = format!("{repository}:{tag}");
        let ask = || inner.manifest(Method::HEAD, &image, repository, tag);
        let told = inner.retried(ask).await.map(|answer| digest_of(&answer));
        match told {
            Ok(Some(digest)) => Ok(digest),
            // One that does not say it, or does not know HEAD: it follows from the bytes.
            Ok(None) | Err(Error::Refused { .. }) => Ok(self.pull_manifest(repository, tag).await?.digest),
            Err(error) => Err(error),
        }
    }

    /// A manifest by tag or digest. By digest it is checked.
    pub async fn pull_manifest(&self, repository: &str, reference: &str) -> Result<PulledManifest, Error> {
        let inner = &*self.0;
        let expected: Option<Digest> = reference.parse().ok();
        let image = match &expected {
            Some(digest) => format!("{repository}@{digest}"),
            None => format!("{repository}:{reference}"),
        };
        let read = || async {
            let mut answer = inner.manifest(Method::GET, &image, repository, reference).await?;
            let media_type = answer.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
            let media_type = media_type.unwrap_or_default().to_owned();
            let mut bytes = Vec::new();
            collect(&mut answer, MANIFEST_BYTES_MAX, &mut bytes).await.map_err(|e| inner.broke_off(&image, e))?;
            if bytes.len() > MANIFEST_BYTES_MAX {
                let (what, bytes_max) = ("the manifest", MANIFEST_BYTES_MAX as u64);
                return Err(Error::TooLarge { image: image.clone(), what, bytes: bytes.len() as u64, bytes_max });
            }
            Ok((media_type, Bytes::from(bytes)))
        };
        let (media_type, bytes) = inner.retried(read).await?;
        let algorithm = expected.as_ref().map_or(Algorithm::Sha256, Digest::algorithm);
        let digest = hash::digest(algorithm, &bytes);
        match expected.filter(|expected| *expected != digest) {
            Some(expected) => Err(Error::DigestMismatch { image, expected, actual: digest }),
            None => Ok(PulledManifest { digest, media_type, bytes }),
        }
    }

    /// Stores a manifest under a tag, or under its own digest. What it names must be there. Returns its digest.
    pub async fn put_manifest(
        &self,
        repository: &str,
        reference: &str,
        media_type: &str,
        bytes: &Bytes,
    ) -> Result<Digest, Error> {
        let inner = &*self.0;
        let image = format!("{repository}:{reference}");
        let expected = hash::sha256(bytes);
        let kind = HeaderValue::from_str(media_type).map_err(|_| inner.protocol(&image, "its type is no text"))?;
        let put = || async {
            let answer = inner.send(Call {
                image: &image,
                method: Method::PUT,
                url: inner.url(&format!("/v2/{repository}/manifests/{reference}")).await,
                headers: HeaderMap::from_iter([(CONTENT_TYPE, kind.clone())]),
                body: Some(bytes.clone()),
                scope: push_scope(repository),
            });
            let answer = answer.await?;
            match answer.status() {
                StatusCode::CREATED | StatusCode::OK | StatusCode::ACCEPTED => Ok(digest_of(&answer)),
                _ => Err(inner.refused(&image, answer).await),
            }
        };
        match inner
            .retried(put)
            .await?
            .filter(|digest| digest.algorithm() == expected.algorithm() && *digest != expected)
        {
            Some(actual) => Err(Error::DigestMismatch { image, expected, actual }),
            None => Ok(expected),
        }
    }

    /// Takes a tag away, or a manifest with all its tags. `false`: there is none.
    pub async fn delete_manifest(&self, repository: &str, reference: &str) -> Result<bool, Error> {
        let inner = &*self.0;
        let image = match reference.contains(':') {
            true => format!("{repository}@{reference}"),
            false => format!("{repository}:{reference}"),
        };
        let delete = || async {
            let answer = inner.send(Call {
                image: &image,
                method: Method::DELETE,
                url: inner.url(&format!("/v2/{repository}/manifests/{reference}")).await,
                headers: HeaderMap::new(),
                body: None,
                scope: format!("repository:{repository}:pull,push,delete"),
            });
            let answer = answer.await?;
            match answer.status() {
                status if status.is_success() => Ok(true),
                StatusCode::NOT_FOUND => Ok(false),
                _ => Err(inner.refused(&image, answer).await),
            }
        };
        inner.retried(delete).await
    }

    /// Whether the registry accepts the login.
    pub async fn check_login(&self) -> Result<(), Error> {
        let inner = &*self.0;
        let image = "a login";
        let ask = || async {
            let url = inner.url("/v2/").await;
            let call =
                Call { image, method: Method::GET, url, headers: HeaderMap::new(), body: None, scope: String::new() };
            let answer = inner.send(call).await?;
            match answer.status() {
                StatusCode::OK => Ok(()),
                _ => Err(inner.refused(image, answer).await),
            }
        };
        inner.retried(ask).await
    }

    /// The tags of a repository, in the registry's order. `None`: there is no such repository.
    pub async fn tags(&self, repository: &str) -> Result<Option<Vec<String>>, Error> {
        let path = format!("/v2/{repository}/tags/list");
        let scope = pull_scope(repository);
        self.0.names(repository, &path, &scope, |page| serde_json::from_slice::<Tags>(page).map(|page| page.tags)).await
    }

    /// The repositories of the registry, as far as it tells.
    pub async fn repositories(&self) -> Result<Vec<String>, Error> {
        let parse = |page: &[u8]| serde_json::from_slice::<Repositories>(page).map(|page| page.repositories);
        let names = self.0.names("the list of repositories", "/v2/_catalog", "registry:catalog:*", parse).await?;
        Ok(names.unwrap_or_default())
    }
}

pub(super) fn pull_scope(repository: &str) -> String {
    format!("repository:{repository}:pull")
}

pub(super) fn push_scope(repository: &str) -> String {
    format!("repository:{repository}:pull,push")
}

fn digest_of(answer: &Response) -> Option<Digest> {
    answer.headers().get("docker-content-digest")?.to_str().ok()?.parse().ok()
}

impl Inner {
    async fn manifest(
        &self,
        method: Method,
        image: &str,
        repository: &str,
        reference: &str,
    ) -> Result<Response, Error> {
        let accepted = HeaderValue::from_str(&ACCEPTED.join(", ")).unwrap_or(HeaderValue::from_static("*/*"));
        let answer = self.send(Call {
            image,
            method,
            url: self.url(&format!("/v2/{repository}/manifests/{reference}")).await,
            headers: HeaderMap::from_iter([(ACCEPT, accepted)]),
            body: None,
            scope: pull_scope(repository),
        });
        let answer = answer.await?;
        match answer.status() {
            StatusCode::OK => Ok(answer),
            _ => Err(self.refused(image, answer).await),
        }
    }

    /// All pages of a list. `None`: there is no such list.
    async fn names(
        &self,
        what: &str,
        path: &str,
        scope: &str,
        parse: impl Fn(&[u8]) -> serde_json::Result<Option<Vec<String>>>,
    ) -> Result<Option<Vec<String>>, Error> {
        let mut names: Vec<String> = Vec::new();
        let mut url = self.url(path).await;
        url.query_pairs_mut().append_pair("n", &PAGE_NAMES.to_string());
        loop {
            let read = || async {
                let call = Call {
                    image: what,
                    method: Method::GET,
                    url: url.clone(),
                    headers: HeaderMap::new(),
                    body: None,
                    scope: scope.to_owned(),
                };
                let mut answer = self.send(call).await?;
                if answer.status() == StatusCode::NOT_FOUND {
                    return Ok(None);
                }
                if answer.status() != StatusCode::OK {
                    return Err(self.refused(what, answer).await);
                }
                let mut page = Vec::new();
                collect(&mut answer, PAGE_BYTES_MAX, &mut page).await.map_err(|e| self.broke_off(what, e))?;
                Ok(Some((next(&answer), page)))
            };
            let Some((next, page)) = self.retried(read).await? else { return Ok(None) };
            let more =
                parse(&page).map_err(|error| self.protocol(what, format!("a list that cannot be read: {error}")))?;
            let more = more.unwrap_or_default();
            // A page that leads on to nothing new would never end.
            let is_end = more.is_empty() || more.last() == names.last();
            names.extend(more);
            let Some(next) = next.filter(|_| !is_end) else { return Ok(Some(names)) };
            if names.len() > NAMES_MAX {
                return Err(self.protocol(what, format!("it has more than {NAMES_MAX} names")));
            }
            url = self.led(what, &url, next.as_bytes()).await?;
        }
    }
}

/// Where the next page is: `<…>; rel="next"`.
fn next(answer: &Response) -> Option<String> {
    next_in(answer.headers().get(LINK)?.to_str().ok()?)
}

pub(super) fn next_in(link: &str) -> Option<String> {
    let (address, _) = link.split_once('>')?;
    link.contains("next").then(|| address.trim_start().trim_start_matches('<').to_owned())
}

/// Reads a body to its end, or a little beyond `bytes_max`.
pub(super) async fn collect(answer: &mut Response, bytes_max: usize, into: &mut Vec<u8>) -> Result<(), reqwest::Error> {
    while into.len() <= bytes_max
        && let Some(chunk) = answer.chunk().await?
    {
        into.extend_from_slice(&chunk);
    }
    Ok(())
}
