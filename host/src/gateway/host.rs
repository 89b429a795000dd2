//! What a request asks for: which host, and of it a path. One that says it twice, or in two ways, is two requests to two
//! readers.

use http::header::HOST;
use http::request::Parts;
use http::{HeaderValue, Method, Version};

use super::answer::Refusal;

/// The host that a request is for: as h2 and absolute requests say it, else as the header does.
pub(super) fn host(parts: &Parts) -> Option<&str> {
    match parts.uri.authority() {
        Some(authority) => Some(without_user(authority.as_str())),
        None => parts.headers.get(HOST).and_then(|value| value.to_str().ok()),
    }
}

/// Whether a request says once, and plainly, which host it is for (RFC 9112, 3.2; RFC 9113, 8.3.1). In HTTP/1.1 the
/// target's host wins over the header's; in h2 the two must agree; HTTP/1.0 need not say it.
pub(super) fn check(parts: &Parts) -> Result<(), Refusal> {
    let mut values = parts.headers.get_all(HOST).iter();
    let (first, second) = (values.next(), values.next());
    if second.is_some() {
        return Err(Refusal::BadHost("the request has two Host headers"));
    }
    let Some(header) = first else {
        return match (parts.version, parts.uri.authority()) {
            (Version::HTTP_11, _) => Err(Refusal::BadHost("the request has no Host header")),
            (Version::HTTP_2, None) => Err(Refusal::BadHost("the request has no :authority")),
            _ => Ok(()),
        };
    };
    if !is_host(header) {
        return Err(Refusal::BadHost("the Host header is not a host"));
    }
    match parts.uri.authority() {
        Some(authority)
            if parts.version == Version::HTTP_2
                && !authority.as_str().as_bytes().eq_ignore_ascii_case(header.as_bytes()) =>
        {
            Err(Refusal::BadHost("the request's :authority and Host header differ"))
        }
        _ => Ok(()),
    }
}

/// Whether a request asks for something that a guest could have (RFC 9112, 3.2): a path, of a server on the web. Alone, a
/// host and port are what `CONNECT` asks for, and a star is what `OPTIONS` may.
pub(super) fn has_target(parts: &Parts) -> bool {
    let uri = &parts.uri;
    let is_path = uri.path().starts_with('/') || (parts.method == Method::OPTIONS && uri.path() == "*");
    let is_web = uri.scheme_str().is_none_or(|scheme| scheme == "http" || scheme == "https");
    let is_alone = parts.version < Version::HTTP_2 && uri.scheme().is_none() && uri.authority().is_some();
    is_path && is_web && !is_alone
}

/// Only what a name, an address and a port are made of (RFC 3986, 3.2.2).
fn is_host(value: &HeaderValue) -> bool {
    value.as_bytes().iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(byte))
}

/// `shop.example.com:8080` and `shop.example.com.` are `shop.example.com`.
pub(super) fn without_port(host: &str) -> &str {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    name.strip_suffix('.').unwrap_or(name)
}

fn without_user(authority: &str) -> &str {
    authority.rsplit_once('@').map_or(authority, |(_, host)| host)
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn parts(version: Version, uri: &str, hosts: &[&str]) -> Parts {
        let mut request = Request::builder().uri(uri).version(version);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn the_target_says_it_before_the_header() {
        let seen = |uri, hosts| host(&parts(Version::HTTP_11, uri, hosts)).map(str::to_owned);
        assert_eq!(seen("/", &["a:80"]).as_deref(), Some("a:80"));
        assert_eq!(seen("http://user@b/", &["a"]).as_deref(), Some("b"));
        assert_eq!(seen("/", &[]), None);
    }

    #[test]
    fn a_target_is_a_path_of_the_web() {
        let is_good = |method: Method, uri: &str| {
            let mut parts = parts(Version::HTTP_11, uri, &["a"]);
            parts.method = method;
            has_target(&parts)
        };
        for uri in ["/", "/a?b", "http://a/", "http://a", "https://a:8443/b", "//a/b"] {
            assert!(is_good(Method::GET, uri), "{uri}");
        }
        for uri in ["a:80", "a", "127.0.0.1:80", "[::1]:80", "*", "ftp://a/", "ws://a/"] {
            assert!(!is_good(Method::GET, uri), "{uri}");
        }
        assert!(is_good(Method::OPTIONS, "*") && !is_good(Method::OPTIONS, "a:80"));
    }

    #[test]
    fn what_says_it_twice_or_not_at_all_is_refused() {
        let (h10, h11, h2) = (Version::HTTP_10, Version::HTTP_11, Version::HTTP_2);
        for (version, uri, hosts, is_good) in [
            (h11, "/", &["a"][..], true),
            (h11, "/", &["[::1]:8080"], true),
            (h11, "/", &[""], true),
            (h11, "http://b/", &["a"], true),
            (h11, "/", &[], false),
            (h11, "http://b/", &[], false),
            (h11, "/", &["a", "a"], false),
            (h11, "/", &["a, b"], false),
            (h11, "/", &["a/b"], false),
            (h11, "/", &["user@a"], false),
            (h10, "/", &[], true),
            (h10, "/", &["a", "b"], false),
            (h2, "http://a/", &[], true),
            (h2, "http://a/", &["A"], true),
            (h2, "http://a/", &["b"], false),
            (h2, "/", &["a"], true),
            (h2, "/", &[], false),
        ] {
            let parts = parts(version, uri, hosts);
            assert_eq!(check(&parts).is_ok(), is_good, "{version:?} {uri} {hosts:?}");
        }
    }
}
