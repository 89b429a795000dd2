//! One image under another name of the same registry: no blob moves, where the registry can give one repository what
//! another has.

use bytes::Bytes;
use reqwest::header::{CONTENT_LENGTH, HeaderMap, HeaderValue};
use reqwest::{Method, StatusCode};
use skiff_api::Digest;

use super::error::Error;
use super::fetch::push_scope;
use super::remote::{Call, Client};
use super::select::INDEX_DEPTH_MAX;
use crate::manifest::{Descriptor, Manifest};

impl Client {
    /// Gives what `from` has under `digest` to `to` as well, under a tag.
    pub async fn link(&self, from: &str, digest: &Digest, to: &str, tag: &str) -> Result<(), Error> {
        let pulled = self.pull_manifest(from, &digest.to_string()).await?;
        if from != to {
            self.link_parts(from, digest, to, &pulled.bytes).await?;
        }
        self.put_manifest(to, tag, &pulled.media_type, &pulled.bytes).await.map(drop)
    }

    /// What a manifest names, the lowest first.
    async fn link_parts(&self, from: &str, digest: &Digest, to: &str, bytes: &Bytes) -> Result<(), Error> {
        let image = format!("{from}@{digest}");
        let parse =
            |bytes: &Bytes| Manifest::parse(bytes).map_err(|source| Error::Manifest { image: image.clone(), source });
        let mut manifests = vec![(0, parse(bytes)?)];
        let mut children = Vec::new();
        while let Some((depth, manifest)) = manifests.pop() {
            for blob in manifest.blobs() {
                self.mount(&image, from, to, blob).await?;
            }
            for child in manifest.children() {
                if depth == INDEX_DEPTH_MAX {
                    return Err(self
                        .0
                        .protocol(&image, format!("more than {INDEX_DEPTH_MAX} indexes, one in another")));
                }
                let child = self.pull_manifest(from, &child.digest.to_string()).await?;
                manifests.push((depth + 1, parse(&child.bytes)?));
                children.push(child);
            }
        }
        for child in children.into_iter().rev() {
            self.put_manifest(to, &child.digest.to_string(), &child.media_type, &child.bytes).await?;
        }
        Ok(())
    }

    async fn mount(&self, image: &str, from: &str, to: &str, blob: &Descriptor) -> Result<(), Error> {
        let inner = &*self.0;
        let mount = || async {
            let mut url = inner.url(&format!("/v2/{to}/blobs/uploads/")).await;
            url.query_pairs_mut().append_pair("mount", &blob.digest.to_string()).append_pair("from", from);
            let answer = inner.send(Call {
                image,
                method: Method::POST,
                url,
                headers: HeaderMap::from_iter([(CONTENT_LENGTH, HeaderValue::from(0))]),
                body: Some(Bytes::new()),
                scope: format!("{} repository:{from}:pull", push_scope(to)),
            });
            let answer = answer.await?;
            match answer.status() {
                StatusCode::CREATED => Ok(()),
                StatusCode::ACCEPTED => Err(inner.protocol(
                    image,
                    "it does not give to one repository what another has (hint: pull it and push it)",
                )),
                _ => Err(inner.refused(image, answer).await),
            }
        };
        inner.retried(mount).await
    }
}
