//! Where a registry may lead its client.
//!
//! A registry answers with addresses: where tokens are given out, where a blob is, where an upload goes on. Whoever runs
//! it could so have a control plane fetch from its own network, or have a password sent in the clear. So what begins
//! with TLS stays with TLS, and a public registry leads to public addresses only. An address is looked at before it is
//! asked; a name that changes in between is caught by nobody but TLS.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use reqwest::Url;

/// Why an address is not followed.
pub(super) type Refusal = String;

/// Whether a registry at `from` may lead to `to`.
pub(super) async fn check(from: &Url, to: &Url) -> Result<(), Refusal> {
    let refusal = |why: &str| Err(format!("it leads to {}, {why}", shown(to)));
    match to.scheme() {
        "https" => {}
        "http" if from.scheme() == "http" => {}
        "http" => return refusal("which is not encrypted"),
        _ => return refusal("which is not http"),
    }
    if is_same_origin(from, to) || !is_inside(to).await || is_inside(from).await {
        return Ok(());
    }
    refusal("which is not a public address as its own is")
}

/// Whether what is for one address is for the other: only then it gets the login.
pub(super) fn is_same_origin(one: &Url, other: &Url) -> bool {
    (one.scheme(), one.host_str(), one.port_or_known_default())
        == (other.scheme(), other.host_str(), other.port_or_known_default())
}

/// Whether a host is this machine by its very name or address.
pub(super) fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.ends_with(".localhost") || bare.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

/// Whether a host has an address that is not public. One whose name is not known here is reached by a proxy, if at all.
async fn is_inside(url: &Url) -> bool {
    let Some(host) = url.host_str() else { return true };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(ip) = bare.parse() {
        return !is_public(ip);
    }
    if is_loopback(host) {
        return true;
    }
    match tokio::net::lookup_host((host, url.port_or_known_default().unwrap_or(443))).await {
        Ok(mut addresses) => addresses.any(|address| !is_public(address.ip())),
        Err(_) => false,
    }
}

fn is_public(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, ..] = ip.octets();
    let shared = a == 100 && (64..128).contains(&b);
    let special = ip.is_private() || ip.is_loopback() || ip.is_link_local() || ip.is_documentation();
    !(special || shared || a == 0 || a >= 224 || (a == 198 && (b == 18 || b == 19)) || ip.octets()[..3] == [192, 0, 0])
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let [a, b, ..] = ip.segments();
    // Global unicast, without documentation; addresses that hold one of the old kind lead there.
    match (a, b) {
        (0x2002, _) => is_public_v4(Ipv4Addr::from(((u32::from(b)) << 16) | u32::from(ip.segments()[2]))),
        (0x0064, 0xff9b) => {
            let [.., c, d] = ip.segments();
            is_public_v4(Ipv4Addr::from((u32::from(c) << 16) | u32::from(d)))
        }
        (0x2001, 0x0db8) => false,
        _ => a & 0xe000 == 0x2000,
    }
}

/// An address for a message: without what may be a secret in it.
pub(super) fn shown(url: &Url) -> String {
    format!("{}://{}", url.scheme(), url.host_str().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn may(from: &str, to: &str) -> bool {
        check(&from.parse().unwrap(), &to.parse().unwrap()).await.is_ok()
    }

    #[tokio::test]
    async fn tls_stays_and_public_stays_public() {
        assert!(may("https://8.8.8.8", "https://9.9.9.9/token").await);
        assert!(!may("https://8.8.8.8", "http://8.8.8.8/token").await, "the login would be in the clear");
        assert!(!may("https://8.8.8.8", "file:///etc/passwd").await);
        for inside in [
            "169.254.169.254",
            "127.0.0.1",
            "10.1.2.3",
            "192.168.0.1",
            "172.16.0.1",
            "100.64.0.1",
            "0.0.0.0",
            "[::1]",
            "[fe80::1]",
            "[fd00::1]",
            "[::ffff:10.0.0.1]",
            "[64:ff9b::a00:1]",
            "[2002:a00:1::]",
            "localhost",
            "224.0.0.1",
        ] {
            assert!(!may("https://8.8.8.8", &format!("https://{inside}/")).await, "{inside}");
            assert!(may(&format!("https://{inside}/"), &format!("https://{inside}:5001/")).await, "{inside}");
        }
        assert!(may("https://[2606:4700::1111]", "https://[2606:4700::1112]/").await);
        assert!(
            may("https://10.0.0.1", "https://10.0.0.2/token").await,
            "a registry inside may have its tokens inside"
        );
        assert!(may("http://127.0.0.1:5000", "http://127.0.0.1:5001/token").await);
    }

    #[test]
    fn the_login_is_for_one_origin() {
        let same = |one: &str, other: &str| is_same_origin(&one.parse().unwrap(), &other.parse().unwrap());
        assert!(same("https://a/v2/", "https://a:443/x"));
        assert!(
            !same("https://a/", "http://a/")
                && !same("https://a/", "https://a:444/")
                && !same("https://a/", "https://b/")
        );
        assert!(
            is_loopback("localhost") && is_loopback("127.8.0.1") && is_loopback("[::1]") && !is_loopback("10.0.0.1")
        );
    }
}
