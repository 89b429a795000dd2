//! Blobs.

use reqwest::Method;
use skiff_api::Digest;
use skiff_api::digest::Algorithm;
use skiff_registry::hash::digest;

use super::{Answer, OTHER, Outcome, REPOSITORY, Suite, check, with_query};

/// How long the chunks of a blob are that comes in three, the last one shorter.
const CHUNK: usize = 1024;

/// How a chunked push goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    InOrder,
    /// The second chunk is sent first, and refused.
    Wrong,
}

/// Where the last chunk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Last {
    InPatch,
    InPut,
}

#[derive(Debug, Clone, Copy)]
struct Chunked {
    chunks: usize,
    order: Order,
    last: Last,
}

/// A blob to push: its bytes, and the digest that is said.
struct Blob {
    bytes: Vec<u8>,
    digest: Digest,
}

impl Blob {
    fn new(algorithm: Algorithm, name: &str, length: usize) -> Self {
        let seed = format!("{} {name} ", algorithm.name());
        let bytes: Vec<u8> = seed.bytes().cycle().take(length).collect();
        Self { digest: digest(algorithm, &bytes), bytes }
    }

    fn path(&self, repository: &str) -> String {
        format!("/v2/{repository}/blobs/{}", self.digest)
    }
}

impl Suite {
    pub(super) async fn all_blobs(&mut self) {
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let group = format!("{} blobs", algorithm.name());
            let missing = self.get(&Blob::new(algorithm, "missing", 512).path(REPOSITORY)).await;
            self.case(format!("{group}/get-missing"), missing.is(&[404]));
            self.pushes(algorithm, &group).await;
            self.ranges(algorithm, &group).await;
            for (name, bytes) in [("empty", &b""[..]), ("emptyJSON", b"{}")] {
                let blob = Blob { digest: digest(algorithm, bytes), bytes: bytes.to_vec() };
                let pushed = self.post_put(&blob, 201).await;
                self.kept(&format!("{group}/{name}"), &blob, pushed).await;
            }
            self.bad_digests(algorithm, &group).await;
        }
    }

    async fn pushes(&mut self, algorithm: Algorithm, group: &str) {
        let blob = |name: &str| Blob::new(algorithm, name, 512);
        let long = |name: &str| Blob::new(algorithm, name, 3 * CHUNK - 5);
        let only = blob("post only");
        let pushed = self.post_only(&only, 201).await;
        self.kept(&format!("{group}/post only"), &only, pushed).await;
        let put = blob("post+put");
        let pushed = self.post_put(&put, 201).await;
        self.kept(&format!("{group}/post+put"), &put, pushed).await;
        let stream = blob("stream");
        let pushed = self.streamed(&stream, 201).await;
        self.kept(&format!("{group}/stream"), &stream, pushed).await;
        for (name, chunks, order, last) in [
            ("chunked single", 1, Order::InOrder, Last::InPatch),
            ("chunked multi", 3, Order::InOrder, Last::InPatch),
            ("chunked multi and put chunk", 3, Order::InOrder, Last::InPut),
            ("chunked out-of-order", 3, Order::Wrong, Last::InPatch),
            ("chunked out-of-order and put chunk", 3, Order::Wrong, Last::InPut),
        ] {
            let blob = if chunks == 1 { blob(name) } else { long(name) };
            let pushed = self.chunked(&blob, Chunked { chunks, order, last }, 201).await;
            self.kept(&format!("{group}/{name}"), &blob, pushed).await;
        }
        let mounted = blob("mount");
        let pushed = self.mount(&mounted, Some(OTHER), true, &[201]).await;
        self.kept(&format!("{group}/mount"), &mounted, pushed).await;
        let anonymous = blob("mount anonymous");
        let pushed = self.mount(&anonymous, None, true, &[201, 202]).await;
        self.kept(&format!("{group}/mount anonymous"), &anonymous, pushed).await;
        let missing = blob("mount missing");
        let pushed = self.mount(&missing, Some(OTHER), false, &[202]).await;
        self.kept(&format!("{group}/mount missing"), &missing, pushed).await;
        let cancelled = self.cancelled().await;
        self.case(format!("{group}/post cancel"), cancelled);
    }

    /// A pushed blob is found, served and deleted: four cases.
    async fn kept(&mut self, name: &str, blob: &Blob, pushed: Outcome) {
        self.case(format!("{name}/push"), pushed);
        let head = self.call(Method::HEAD, &blob.path(REPOSITORY), &[], b"").await;
        let length = blob.bytes.len().to_string();
        let found = head.is(&[200]).and_then(|()| head.has("content-length", &length));
        self.case(format!("{name}/blob-head"), found);
        let got = self.get(&blob.path(REPOSITORY)).await;
        let digest = blob.digest.to_string();
        let got = got.is(&[200]).and_then(|()| got.is_body(&blob.bytes)).and_then(|()| {
            match got.header("docker-content-digest") {
                "" => Ok(()),
                _ => got.has("docker-content-digest", &digest),
            }
        });
        self.case(format!("{name}/blob-get"), got);
        let deleted = self.call(Method::DELETE, &blob.path(REPOSITORY), &[], b"").await;
        let gone = self.get(&blob.path(REPOSITORY)).await;
        self.case(format!("{name}/blob-delete"), deleted.is(&[202]).and_then(|()| gone.is(&[404])));
    }

    async fn start(&self, query: &str) -> Answer {
        self.call(Method::POST, &format!("/v2/{REPOSITORY}/blobs/uploads/{query}"), &[("content-length", "0")], b"")
            .await
    }

    async fn post_only(&self, blob: &Blob, status: u16) -> Outcome {
        let path = format!("/v2/{REPOSITORY}/blobs/uploads/?digest={}", blob.digest);
        let octets = [("content-type", "application/octet-stream")];
        let answer = self.call(Method::POST, &path, &octets, &blob.bytes).await;
        match answer.status {
            // The specification lets a registry go on as if nothing but a start had been asked for.
            202 => self.put(&answer.location()?, blob, status).await,
            _ => self.ended(&answer, blob, status).await,
        }
    }

    async fn post_put(&self, blob: &Blob, status: u16) -> Outcome {
        let start = self.start("").await;
        start.is(&[202])?;
        self.put(&start.location()?, blob, status).await
    }

    async fn put(&self, location: &str, blob: &Blob, status: u16) -> Outcome {
        let path = with_query(location, &format!("digest={}", blob.digest));
        let octets = [("content-type", "application/octet-stream")];
        let answer = self.call(Method::PUT, &path, &octets, &blob.bytes).await;
        self.ended(&answer, blob, status).await
    }

    /// The answer to a push's last request; where it says that the blob is, it is.
    async fn ended(&self, answer: &Answer, blob: &Blob, status: u16) -> Outcome {
        answer.is(&[status])?;
        if status != 201 {
            return Ok(());
        }
        let got = self.get(&answer.location()?).await;
        got.is(&[200]).and_then(|()| got.is_body(&blob.bytes))
    }

    async fn streamed(&self, blob: &Blob, status: u16) -> Outcome {
        let start = self.start("").await;
        start.is(&[202])?;
        let octets = [("content-type", "application/octet-stream")];
        let patched = self.stream(Method::PATCH, &start.location()?, &octets, &blob.bytes).await;
        patched.is(&[202])?;
        let path = with_query(&patched.location()?, &format!("digest={}", blob.digest));
        let answer = self.call(Method::PUT, &path, &[], b"").await;
        self.ended(&answer, blob, status).await
    }

    async fn chunked(&self, blob: &Blob, how: Chunked, status: u16) -> Outcome {
        let start = self.start("").await;
        start.is(&[202])?;
        let mut location = start.location()?;
        let size = blob.bytes.len().div_ceil(how.chunks);
        let chunks: Vec<&[u8]> = blob.bytes.chunks(size).collect();
        let range = |n: usize| format!("{}-{}", n * size, n * size + chunks[n].len() - 1);
        if how.order == Order::Wrong {
            // A chunk too early, then it is asked where the upload stands.
            let first = [("content-range", range(0))];
            let headers: Vec<_> = first.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let patched = self.call(Method::PATCH, &location, &headers, chunks[0]).await;
            patched.is(&[202])?;
            location = patched.location()?;
            let early = self.call(Method::PATCH, &location, &[("content-range", &range(2))], chunks[2]).await;
            early.is(&[416])?;
            let asked = self.get(&location).await;
            asked.is(&[204])?;
            asked.has("range", &format!("0-{}", chunks[0].len() - 1))?;
            location = asked.location()?;
        }
        let first = usize::from(how.order == Order::Wrong);
        for (n, chunk) in chunks.iter().enumerate().skip(first) {
            let range = range(n);
            let headers = [("content-type", "application/octet-stream"), ("content-range", range.as_str())];
            if how.last == Last::InPut && n + 1 == chunks.len() {
                let path = with_query(&location, &format!("digest={}", blob.digest));
                let answer = self.call(Method::PUT, &path, &headers, chunk).await;
                return self.ended(&answer, blob, status).await;
            }
            let patched = self.call(Method::PATCH, &location, &headers, chunk).await;
            patched.is(&[202])?;
            patched.has("range", &format!("0-{}", n * size + chunk.len() - 1))?;
            location = patched.location()?;
        }
        let path = with_query(&location, &format!("digest={}", blob.digest));
        let answer = self.call(Method::PUT, &path, &[], b"").await;
        self.ended(&answer, blob, status).await
    }

    async fn mount(&self, blob: &Blob, from: Option<&str>, is_there: bool, statuses: &[u16]) -> Outcome {
        if is_there {
            let path = format!("/v2/{OTHER}/blobs/uploads/");
            let start = self.call(Method::POST, &path, &[], b"").await;
            self.put(&start.location()?, blob, 201).await?;
        }
        let from = from.map(|from| format!("&from={from}")).unwrap_or_default();
        let answer = self.start(&format!("?mount={}{from}", blob.digest)).await;
        answer.is(statuses)?;
        match answer.status {
            201 => self.ended(&answer, blob, 201).await,
            _ => self.put(&answer.location()?, blob, 201).await,
        }
    }

    async fn cancelled(&self) -> Outcome {
        let start = self.start("").await;
        start.is(&[202])?;
        let location = start.location()?;
        self.call(Method::DELETE, &location, &[], b"").await.is(&[204])?;
        self.get(&location).await.is(&[404])
    }

    async fn ranges(&mut self, algorithm: Algorithm, group: &str) {
        let blob = Blob::new(algorithm, "ranges", 2048);
        let pushed = self.post_put(&blob, 201).await;
        for (range, part) in [
            ("500-1499", Some(500..1500)),
            ("500-", Some(500..2048)),
            ("-500", Some(1548..2048)),
            ("2000-5000", Some(2000..2048)),
            ("500-0", None),
            ("5000-10000", None),
        ] {
            let answer =
                self.call(Method::GET, &blob.path(REPOSITORY), &[("range", &format!("bytes={range}"))], b"").await;
            let outcome = match part {
                Some(part) => {
                    let length = part.len().to_string();
                    let content = format!("bytes {}-{}/2048", part.start, part.end - 1);
                    answer
                        .is(&[206])
                        .and_then(|()| answer.is_body(&blob.bytes[part]))
                        .and_then(|()| answer.has("content-length", &length))
                        .and_then(|()| answer.has("content-range", &content))
                }
                None => answer.is(&[416]),
            };
            self.case(format!("{group}/range requests/range {range}"), pushed.clone().and(outcome));
        }
        let deleted = self.call(Method::DELETE, &blob.path(REPOSITORY), &[], b"").await;
        self.case(format!("{group}/range requests/blob-delete"), deleted.is(&[202]));
    }

    async fn bad_digests(&mut self, algorithm: Algorithm, group: &str) {
        let corrupt = |name: &str| {
            let mut blob = Blob::new(algorithm, name, 3 * CHUNK - 5);
            blob.bytes.extend_from_slice(b"oh no");
            blob
        };
        let chunks = |last| Chunked { chunks: 3, order: Order::InOrder, last };
        let only = corrupt("bad digest post only");
        let put = corrupt("bad digest post+put");
        let patched = corrupt("bad digest chunked");
        let last = corrupt("bad digest chunked and put chunk");
        let stream = corrupt("bad digest stream");
        for (name, blob, outcome) in [
            ("post only", &only, self.post_only(&only, 400).await),
            ("post+put", &put, self.post_put(&put, 400).await),
            ("chunked", &patched, self.chunked(&patched, chunks(Last::InPatch), 400).await),
            ("chunked and put chunk", &last, self.chunked(&last, chunks(Last::InPut), 400).await),
            ("stream", &stream, self.streamed(&stream, 400).await),
        ] {
            let absent = self.get(&blob.path(REPOSITORY)).await;
            let outcome = outcome.and_then(|()| check(absent.status == 404, || "it is there".to_owned()));
            self.case(format!("{group}/bad digest {name}"), outcome);
        }
    }
}
