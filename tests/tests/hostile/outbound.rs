//! Guests that reach for what nobody granted them.

use crate::case::{Case, case};
use crate::client::text;

pub(crate) fn cases() -> Vec<Case> {
    let urls = [
        ("the cloud's metadata", "/outbound?url=http://169.254.169.254/latest/meta-data/"),
        ("the cloud's metadata by IPv6", "/outbound?url=http://[fd00:ec2::254]/latest/meta-data/"),
        ("the metadata by its name", "/outbound?url=http://metadata.google.internal/computeMetadata/v1/"),
        ("this machine", "/outbound?url=http://127.0.0.1:80/"),
        ("this machine by IPv6", "/outbound?url=http://[::1]:80/"),
        ("this machine by a mapped address", "/outbound?url=http://[::ffff:127.0.0.1]:80/"),
        ("this machine by no address", "/outbound?url=http://0.0.0.0/"),
        ("this machine by its name", "/outbound?url=http://localhost:80/"),
        ("a private network", "/outbound?url=http://10.0.0.1/"),
        ("the world", "/outbound?url=https://example.com/"),
    ];
    let urls = urls.map(|(name, path)| {
        case(format!("a request to {name}"), text("plain", path), "502: refused: ErrorCode::HttpRequestDenied")
            .counts(
                "skiff_outbound_refused_total",
                if path.contains(".internal") { "why=\"service\"" } else { "why=\"server\"" },
                1,
            )
            .twin(text("caller", "/fetch?url=http://plain.default.internal/"), "200: 200 of 8 bytes, whole")
    });
    let number = text("plain", "/outbound?url=http://2130706433/");
    let others = [
        case("a request to this machine by a number", number, "502: refused: ErrorCode::HttpRequestUriInvalid"),
        case("a TCP connection", text("plain", "/connect?to=127.0.0.1:80"), "502: refused: …"),
        case("a name to resolve", text("plain", "/resolve?name=localhost"), "502: refused: …"),
        case("a file of the host", text("plain", "/open?path=/etc/passwd"), "502: refused: …"),
        case("a file of the host, by climbing", text("plain", "/open?path=../../../../etc/passwd"), "502: refused: …"),
    ];
    let others = others.into_iter().map(|case| case.twin(text("plain", "/"), "200: hostile"));
    urls.into_iter().chain(others).collect()
}
