//! Manifests: each set is pushed, listed, looked up, pulled, and deleted.

use reqwest::Method;
use serde_json::Value;
use skiff_registry::hash::sha256;
use skiff_registry::manifest::media;

use super::data::{Pushed, Set, sets};
use super::{Answer, Outcome, REPOSITORY, Suite, check};

const ACCEPT: [(&str, &str); 2] = [("accept", media::OCI_INDEX), ("accept", media::OCI_MANIFEST)];

fn path(reference: impl std::fmt::Display) -> String {
    format!("/v2/{REPOSITORY}/manifests/{reference}")
}

impl Suite {
    pub(super) async fn all_manifests(&mut self) {
        for set in sets() {
            let name = set.name;
            let pushed = self.push(&set).await;
            self.case(format!("{name}/push"), pushed);
            let listed = self.tag_list(&set).await;
            self.case(format!("{name}/tag-list"), listed);
            for method in [Method::HEAD, Method::GET] {
                let phase = if method == Method::HEAD { "head" } else { "pull" };
                let (mut by_digest, mut by_tag) = (Ok(()), Ok(()));
                for manifest in &set.manifests {
                    by_digest = by_digest.and(self.read(&method, &manifest.digest.to_string(), manifest).await);
                    for tag in &manifest.tags {
                        by_tag = by_tag.and(self.read(&method, tag, manifest).await);
                    }
                }
                self.case(format!("{name}/{phase}/manifest-by-digest"), by_digest);
                if set.manifests.iter().any(|manifest| !manifest.tags.is_empty()) {
                    self.case(format!("{name}/{phase}/manifest-by-tag"), by_tag);
                }
            }
            if set.manifests.iter().any(|manifest| manifest.subject.is_some()) {
                let referrers = self.referrers(&set).await;
                self.case(format!("{name}/referrers"), referrers);
            }
            let tags = self.delete_tags(&set).await;
            self.case(format!("{name}/delete/tag-delete"), tags);
            let deleted = self.delete(&set).await;
            self.case(format!("{name}/delete/manifest-delete"), deleted);
        }
    }

    async fn push(&self, set: &Set) -> Outcome {
        for (digest, bytes) in &set.blobs {
            let path = format!("/v2/{REPOSITORY}/blobs/uploads/");
            let start = self.call(Method::POST, &path, &[], b"").await;
            start.is(&[202])?;
            let path = super::with_query(&start.location()?, &format!("digest={digest}"));
            self.call(Method::PUT, &path, &[], bytes).await.is(&[201])?;
        }
        for manifest in &set.manifests {
            let headers = [("content-type", manifest.media_type)];
            let mut by_digest = path(&manifest.digest);
            if set.tag_params {
                let tags: Vec<String> = manifest.tags.iter().map(|tag| format!("tag={tag}")).collect();
                by_digest = format!("{by_digest}?{}", tags.join("&"));
            }
            let answer = self.call(Method::PUT, &by_digest, &headers, &manifest.bytes).await;
            self.is_pushed(&answer, manifest).await?;
            if set.tag_params {
                let accepted: Vec<&str> =
                    answer.headers.get_all("oci-tag").iter().filter_map(|v| v.to_str().ok()).collect();
                check(accepted == manifest.tags, || format!("tags {accepted:?} were accepted"))?;
                continue;
            }
            for tag in &manifest.tags {
                let answer = self.call(Method::PUT, &path(tag), &headers, &manifest.bytes).await;
                self.is_pushed(&answer, manifest).await?;
            }
        }
        Ok(())
    }

    async fn is_pushed(&self, answer: &Answer, manifest: &Pushed) -> Outcome {
        answer.is(&[201])?;
        answer.has("docker-content-digest", &manifest.digest.to_string())?;
        if let Some(subject) = &manifest.subject {
            answer.has("oci-subject", &subject.to_string())?;
        }
        let got = self.call(Method::GET, &answer.location()?, &ACCEPT, b"").await;
        got.is(&[200]).and_then(|()| got.is_body(&manifest.bytes))
    }

    async fn read(&self, method: &Method, reference: &str, manifest: &Pushed) -> Outcome {
        let answer = self.call(method.clone(), &path(reference), &ACCEPT, b"").await;
        answer.is(&[200])?;
        answer.has("content-type", manifest.media_type)?;
        answer.has("content-length", &manifest.bytes.len().to_string())?;
        answer.has("docker-content-digest", &manifest.digest.to_string())?;
        match *method {
            Method::HEAD => answer.is_body(b""),
            _ => answer.is_body(&manifest.bytes),
        }
    }

    async fn tag_list(&self, set: &Set) -> Outcome {
        let list = async |query: &str| -> Result<Vec<String>, String> {
            let answer = self.get(&format!("/v2/{REPOSITORY}/tags/list{query}")).await;
            answer.is(&[200])?;
            let tags = answer.json()["tags"].as_array().cloned().unwrap_or_default();
            Ok(tags.iter().filter_map(Value::as_str).map(str::to_owned).collect())
        };
        let all = list("").await?;
        for tag in set.manifests.iter().flat_map(|manifest| &manifest.tags) {
            check(all.contains(tag), || format!("tag {tag} is missing"))?;
        }
        let mut sorted = all.clone();
        sorted.sort();
        check(all == sorted, || format!("{all:?} is not sorted"))?;
        if let Some(last) = all.get(all.len().saturating_sub(1) / 2) {
            let rest = list(&format!("?last={last}")).await?;
            let expected: Vec<_> = all.iter().filter(|tag| *tag > last).cloned().collect();
            check(rest == expected, || format!("after {last}: {rest:?} instead of {expected:?}"))?;
        }
        let first = list("?n=1").await?;
        check(first == all[..all.len().min(1)], || format!("the first is {first:?}"))
    }

    async fn referrers(&self, set: &Set) -> Outcome {
        for subject in set.manifests.iter().filter_map(|manifest| manifest.subject.as_ref()) {
            let path = format!("/v2/{REPOSITORY}/referrers/{subject}");
            let of_subject = set.manifests.iter().filter(|manifest| manifest.subject.as_ref() == Some(subject));
            let expected: Vec<&Value> = of_subject.map(|manifest| &manifest.descriptor).collect();
            let answer = self.get(&path).await;
            answer.is(&[200])?;
            answer.has("content-type", media::OCI_INDEX)?;
            let all = answer.json()["manifests"].as_array().cloned().unwrap_or_default();
            for descriptor in &expected {
                check(all.contains(descriptor), || format!("{descriptor} is missing in {all:?}"))?;
            }
            for kind in expected.iter().map(|descriptor| &descriptor["artifactType"]) {
                let kind = kind.as_str().unwrap_or_default();
                let answer = self.get(&format!("{path}?artifactType={}", kind.replace('+', "%2B"))).await;
                answer.is(&[200])?;
                answer.has("oci-filters-applied", "artifactType")?;
                let all = answer.json()["manifests"].as_array().cloned().unwrap_or_default();
                let wanted = expected.iter().filter(|descriptor| descriptor["artifactType"] == kind).count();
                let fits = all.len() == wanted && all.iter().all(|descriptor| descriptor["artifactType"] == kind);
                check(fits, || format!("of {kind}: {all:?}"))?;
            }
        }
        Ok(())
    }

    async fn delete_tags(&self, set: &Set) -> Outcome {
        for manifest in &set.manifests {
            for tag in &manifest.tags {
                self.call(Method::DELETE, &path(tag), &[], b"").await.is(&[202])?;
                self.call(Method::GET, &path(tag), &ACCEPT, b"").await.is(&[404])?;
            }
            self.call(Method::GET, &path(&manifest.digest), &ACCEPT, b"").await.is(&[200])?;
        }
        Ok(())
    }

    async fn delete(&self, set: &Set) -> Outcome {
        for manifest in set.manifests.iter().rev() {
            self.call(Method::DELETE, &path(&manifest.digest), &[], b"").await.is(&[202, 404])?;
            self.call(Method::GET, &path(&manifest.digest), &ACCEPT, b"").await.is(&[404])?;
        }
        for (digest, _) in &set.blobs {
            let path = format!("/v2/{REPOSITORY}/blobs/{digest}");
            self.call(Method::DELETE, &path, &[], b"").await.is(&[202, 404])?;
            self.get(&path).await.is(&[404])?;
        }
        Ok(())
    }

    pub(super) async fn manifest_errors(&mut self) {
        let missing = self.get(&path(sha256(b"nothing"))).await;
        self.case("missing-manifest/by-digest", missing.is(&[404]));
        let missing = self.get(&path("missing-tag")).await;
        self.case("missing-manifest/by-tag", missing.is(&[404]));
        let manifest = br#"{"schemaVersion":2,"manifests":[]}"#;
        let headers = [("content-type", media::OCI_INDEX)];
        let put = self.call(Method::PUT, &path("sha256:baddigeststring"), &headers, manifest).await;
        self.case("invalid-digest-format/manifest-put", put.is(&[400]));
        let got = self.get(&path("sha256:baddigeststring")).await;
        self.case("invalid-digest-format/manifest-get", got.is(&[400, 404]));
        // Two blanks more than what was hashed.
        let bad = self.call(Method::PUT, &path(sha256(manifest)), &headers, &[&manifest[..], b"  "].concat()).await;
        let absent = self.get(&path(sha256(manifest))).await;
        self.case("bad-digest-image/push", bad.is(&[400]).and_then(|()| absent.is(&[404])));
    }
}
