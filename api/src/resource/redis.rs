//! Where a Redis is: `redis://[USER@]HOST[:PORT][/DATABASE]`, or `rediss://` with TLS.

use std::fmt;
use std::str::FromStr;

use crate::grant::{Host, as_text};

const PORT: u16 = 6379;
const DATABASES_MAX: u32 = 1 << 16;
const USER_CHARS_MAX: usize = 128;

/// A database of a Redis server, or of whatever speaks as one does.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RedisUrl {
    pub tls: bool,
    pub user: Option<String>,
    pub host: Host,
    pub port: u16,
    pub database: u32,
}

/// Why a text is no such URL. It does not repeat one that has a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRedisUrl {
    #[error("{text:?} is not a Redis: {why} (hint: write redis://HOST:6379/0, or rediss:// with TLS)")]
    Malformed { text: String, why: &'static str },
    #[error(
        "the URL has a password, which everybody could read (hint: keep it in one of the service's secrets, and write passwordKey: KEY)"
    )]
    Password,
}

impl FromStr for RedisUrl {
    type Err = InvalidRedisUrl;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fail = |why| InvalidRedisUrl::Malformed { text: crate::grant::shortened(text), why };
        let (tls, rest) = match text.split_once("://") {
            Some(("redis", rest)) => (false, rest),
            Some(("rediss", rest)) => (true, rest),
            _ => return Err(fail("it starts with neither redis:// nor rediss://")),
        };
        let (user, rest) = match rest.rsplit_once('@') {
            Some((user, _)) if user.contains(':') => return Err(InvalidRedisUrl::Password),
            Some((user, rest)) => (Some(user), rest),
            None => (None, rest),
        };
        let is_plain = |user: &str| {
            !user.is_empty()
                && user.len() <= USER_CHARS_MAX
                && user.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        };
        if user.is_some_and(|user| !is_plain(user)) {
            return Err(fail("its user is none of letters, digits, '-', '_' and '.'"));
        }
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let database = match database {
            "" => 0,
            number => number
                .parse()
                .ok()
                .filter(|number| *number < DATABASES_MAX)
                .ok_or_else(|| fail("its database is no number"))?,
        };
        let (host, port) = Host::with_port(authority).ok_or_else(|| fail("its host or port is none"))?;
        Ok(Self { tls, user: user.map(str::to_owned), host, port: port.unwrap_or(PORT), database })
    }
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.tls { "rediss://" } else { "redis://" })?;
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        write!(f, "{}:{}/{}", self.host, self.port, self.database)
    }
}

as_text!(RedisUrl);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_and_passwords_are_not() {
        let shown = |text: &str| text.parse::<RedisUrl>().map(|url| url.to_string());
        assert_eq!(shown("redis://cache").unwrap(), "redis://cache:6379/0");
        assert_eq!(shown("rediss://app@[fd00::1]:6380/3").unwrap(), "rediss://app@[fd00::1]:6380/3");
        assert_eq!(shown("redis://app:s3cret@cache"), Err(InvalidRedisUrl::Password));
        for bad in [
            "cache:6379",
            "http://cache",
            "redis://",
            "redis://cache/x",
            "redis://a b",
            "redis://cache:0",
            "redis://@a",
        ] {
            assert!(matches!(shown(bad), Err(InvalidRedisUrl::Malformed { .. })), "{bad}");
        }
    }
}
