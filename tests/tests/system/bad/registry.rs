//! The registry over its socket: what a client sends that is wrong, cut, too much, or not allowed.

use sha2::{Digest as _, Sha256};
use skiff_tests::{Cluster, Request};

use super::super::golden::Golden;
use super::{serving, still_serves};

const ZEROS: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";
const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";

/// One request and what to call it.
struct Case<'a> {
    name: &'a str,
    method: &'a str,
    path: &'a str,
    headers: &'a [(&'a str, &'a str)],
    body: &'a [u8],
}

#[test]
fn bad_requests_to_the_registry() {
    let cluster = serving();
    let mut golden = Golden::new("registry", &cluster);
    let content = b"the content of a blob";
    let digest = format!("sha256:{}", hex(&Sha256::digest(content)));
    let started = cluster.api("POST", "/v2/default/x/blobs/uploads/").body("").send().unwrap();
    let upload = started.header("location").unwrap().to_owned();
    golden.varies(upload.clone(), "<upload>");
    let wrong_digest = format!("{upload}?digest={ZEROS}");
    let good_blob = format!("/v2/default/x/blobs/uploads/?digest={digest}");
    let blob = format!("/v2/default/x/blobs/{digest}");
    let missing_layer = format!(
        r#"{{"schemaVersion":2,"mediaType":"{IMAGE}","config":{{"mediaType":"a/b","digest":"{ZEROS}","size":2}},"layers":[]}}"#
    );
    let unknown_blob = format!("/v2/default/x/blobs/{ZEROS}");
    let large = vec![b' '; 5 << 20];
    let case = |name, method, path, headers, body| Case { name, method, path, headers, body };
    let cases = [
        case("chunk out of order", "PATCH", &upload, &[("content-range", "7-9")], b"abc"),
        case("chunk with a bad range", "PATCH", &upload, &[("content-range", "9-7")], b"abc"),
        case("chunk shorter than its range", "PATCH", &upload, &[("content-range", "0-9")], b"abc"),
        case("content that is not its digest's", "PUT", &wrong_digest, &[], content),
        case("upload that nobody started", "PATCH", "/v2/default/x/blobs/uploads/nope", &[], b"abc"),
        case("upload without a digest", "PUT", "/v2/default/x/blobs/uploads/nope", &[], b"abc"),
        case("blob that is not there", "GET", "/v2/default/x/blobs/sha256:00", &[], b""),
        case("blob by a digest nobody has", "GET", &unknown_blob, &[], b""),
        case("blob, for the next", "POST", &good_blob, &[], content),
        case("range behind the end", "GET", &blob, &[("range", "bytes=900-999")], b""),
        case("manifest that is no JSON", "PUT", "/v2/default/x/manifests/1", &[("content-type", IMAGE)], b"{"),
        case("manifest that is empty", "PUT", "/v2/default/x/manifests/1", &[("content-type", IMAGE)], b"{}"),
        case(
            "manifest whose parts are not there",
            "PUT",
            "/v2/default/x/manifests/1",
            &[("content-type", IMAGE)],
            missing_layer.as_bytes(),
        ),
        case("manifest that is too large", "PUT", "/v2/default/x/manifests/1", &[("content-type", IMAGE)], &large),
        case(
            "manifest with a bad tag",
            "PUT",
            "/v2/default/x/manifests/-x",
            &[("content-type", IMAGE)],
            missing_layer.as_bytes(),
        ),
        case("manifest that is not there", "GET", "/v2/default/x/manifests/nope", &[], b""),
        case("climbs", "GET", "/v2/../../etc/passwd", &[], b""),
        case("climbs, encoded", "GET", "/v2/..%2f..%2fetc/manifests/x", &[], b""),
        case("climbs in an upload", "PATCH", "/v2/default/x/blobs/uploads/..%2f..%2fx", &[], b"abc"),
        case("bad name", "GET", "/v2/UPPER/manifests/x", &[], b""),
        case("unknown path", "GET", "/v2/nothing", &[], b""),
        case("unknown method", "PATCH", "/v2/default/x/manifests/1", &[], b""),
        case("unknown method at the root", "POST", "/v2/", &[], b""),
    ];
    let count = cases.len();
    for Case { name, method, path, headers, body } in cases {
        let mut request = cluster.api(method, path);
        let mut shown = format!("{method} {path}\n");
        for (header, value) in headers {
            request = request.header(header, value);
            shown.push_str(&format!("{header}: {value}\n"));
        }
        shown.push_str(&super::shown(body));
        let request = if body.is_empty() && method == "GET" { request } else { request.body(body) };
        golden.response(name, &shown, &request.send().unwrap());
        still_serves(name, &cluster);
    }
    for (name, authorization) in
        [("no token", None), ("wrong token", Some("Bearer wrong")), ("garbage for a token", Some("Basic ###"))]
    {
        let path = "/v2/default/hello/manifests/latest";
        golden.response(name, &format!("GET {path}"), &unauthorized(&cluster, path, authorization));
        still_serves(name, &cluster);
    }
    golden.check(count + 3);
}

fn unauthorized(cluster: &Cluster, path: &str, authorization: Option<&str>) -> skiff_tests::Response {
    let request = Request::new(cluster.api_addr(), "GET", path);
    match authorization {
        Some(value) => request.header("authorization", value).send().unwrap(),
        None => request.send().unwrap(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
