//! Buckets in a Redis: for where one machine ends, and for what others write and read as well.
//!
//! A bucket's keys are those of the database, behind its prefix; values are strings. What one call does is one command or
//! one script there, so it is done or not. Each replica has a connection of its own for each such bucket, made when it is
//! first used, past the same check of addresses as requests to servers ([`super::connect`]). A server that says more than
//! any answer may have loses its connection: nothing of a stranger's is kept beyond that.

use std::fmt::Display;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwap;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, ErrorKind, FromRedisValue, RedisConnectionInfo, RedisError, cmd};
use skiff_api::grant::{Origin, Scheme, TcpPattern};
use skiff_api::resource::{BucketGrant, RedisUrl, SecretText, Template};
use skiff_api::settings::Settings;
use skiff_keyvalue::{Answer, OP_BYTES_MAX, Op, PAGE_KEYS, Print, Refusal, Value};
use tokio::io::{AsyncRead, ReadBuf, join, split};
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::Reach;
use super::connect::ConnectError;

const CONNECTS_WITHIN: Duration = Duration::from_secs(5);
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);
/// What comes until an answer is whole: the largest, and what is read of the next.
const CAME_BYTES_MAX: usize = 2 * OP_BYTES_MAX;

/// Sets a value if it is what it was; answers 1, or what is there.
const SWAP: &str = "local now = redis.call('GET', KEYS[1])
if now == ARGV[1] then redis.call('SET', KEYS[1], ARGV[2]) return 1 end
return now";

/// A replica's way to one such bucket.
pub(super) struct Redis {
    url: RedisUrl,
    prefix: String,
    password_key: Option<String>,
    template: Arc<Template>,
    reach: Arc<Reach>,
    settings: Live,
    open: Mutex<Option<Open>>,
}

#[derive(Clone)]
struct Open {
    connection: MultiplexedConnection,
    /// What has come since an answer was whole.
    came: Arc<AtomicUsize>,
}

/// What a service is told now.
pub(super) type Live = Arc<ArcSwap<Settings>>;

/// Keys, and where the next ones begin.
pub(super) type Page = (Vec<String>, Option<String>);

impl Redis {
    /// `None` where the bucket is in no Redis.
    pub(super) fn of(
        grant: &BucketGrant,
        template: &Arc<Template>,
        reach: &Arc<Reach>,
        settings: &Live,
    ) -> Option<Self> {
        Some(Self {
            url: grant.redis.clone()?,
            prefix: grant.prefix.clone(),
            password_key: grant.password_key.clone(),
            template: template.clone(),
            reach: reach.clone(),
            settings: settings.clone(),
            open: Mutex::default(),
        })
    }

    pub(super) async fn run(&self, op: Op) -> Result<Answer, String> {
        op.check().map_err(|refusal| refusal.to_string())?;
        if let Op::Keys { after } = op {
            let (keys, next) = self.keys(after).await?;
            return Ok(Answer::Keys { keys, more: next.is_some() });
        }
        let open = self.open().await?;
        let asked = timeout(ANSWERS_WITHIN, self.ask(&mut open.connection.clone(), op)).await;
        self.answered(&open, asked).await
    }

    /// Keys in no order. One that is there all the while is in one of the pages, and may be in more.
    pub(super) async fn keys(&self, cursor: Option<String>) -> Result<Page, String> {
        let mut cursor: u64 = match cursor {
            None => 0,
            Some(text) => text.parse().map_err(|_| format!("{text:?} is no cursor of this bucket"))?,
        };
        let open = self.open().await?;
        let mut connection = open.connection.clone();
        let scanned = timeout(ANSWERS_WITHIN, async {
            loop {
                let mut scan = cmd("SCAN");
                scan.arg(cursor).arg("COUNT").arg(PAGE_KEYS);
                if !self.prefix.is_empty() {
                    scan.arg("MATCH").arg(format!("{}*", literal(&self.prefix)));
                }
                let (next, found): (u64, Vec<Vec<u8>>) = scan.query_async(&mut connection).await?;
                open.came.store(0, Ordering::Relaxed);
                cursor = next;
                // What is no text cannot be asked for.
                let texts = found.into_iter().filter_map(|key| String::from_utf8(key).ok());
                let keys: Vec<String> =
                    texts.filter_map(|key| key.strip_prefix(&self.prefix).map(str::to_owned)).collect();
                if !keys.is_empty() || cursor == 0 {
                    return Ok((keys, (cursor != 0).then(|| cursor.to_string())));
                }
            }
        });
        let scanned = scanned.await;
        self.answered(&open, scanned).await
    }

    async fn ask(&self, connection: &mut MultiplexedConnection, op: Op) -> Result<Answer, RedisError> {
        let key = |key: &str| format!("{}{key}", self.prefix);
        Ok(match op {
            Op::Get { keys } if keys.is_empty() => Answer::Values(Vec::new()),
            Op::Delete { keys } if keys.is_empty() => Answer::Done,
            Op::Get { keys } => {
                let keys: Vec<String> = keys.iter().map(|name| key(name)).collect();
                let values: Vec<Option<Vec<u8>>> = cmd("MGET").arg(keys).query_async(connection).await?;
                let bytes: usize = values.iter().flatten().map(Vec::len).sum();
                if bytes > OP_BYTES_MAX {
                    return Err(io::Error::other(Refusal::LargeAnswer).into());
                }
                Answer::Values(values.into_iter().map(|value| value.map(Value)).collect())
            }
            Op::Exists { key: name } => Answer::Exists(cmd("EXISTS").arg(key(&name)).query_async(connection).await?),
            Op::Keys { .. } => return Err(io::Error::other("keys come by pages").into()),
            Op::Set { entries } if entries.is_empty() => Answer::Done,
            Op::Set { entries } => {
                let mut set = cmd("MSET");
                for (name, Value(value)) in entries {
                    set.arg(key(&name)).arg(value);
                }
                done(set, connection).await?
            }
            Op::Delete { keys } => {
                let mut delete = cmd("DEL");
                for name in &keys {
                    delete.arg(key(name));
                }
                let _: i64 = delete.query_async(connection).await?;
                Answer::Done
            }
            Op::Increment { key: name, delta } => {
                Answer::Number(cmd("INCRBY").arg(key(&name)).arg(delta).query_async(connection).await?)
            }
            Op::Swap { key: name, seen, value } => self.swap(connection, &key(&name), seen, value).await?,
        })
    }

    async fn swap(
        &self,
        connection: &mut MultiplexedConnection,
        key: &str,
        seen: Option<Print>,
        Value(value): Value,
    ) -> Result<Answer, RedisError> {
        if seen.is_none() {
            let set: Option<String> = cmd("SET").arg(key).arg(&value).arg("NX").query_async(connection).await?;
            if set.is_some() {
                return Ok(Answer::Swapped { done: true, now: None });
            }
        }
        let now: Option<Vec<u8>> = cmd("GET").arg(key).query_async(connection).await?;
        let now = now.map(Value);
        let was = now.as_ref().filter(|now| seen.is_some_and(|seen| seen == now.print()));
        let Some(Value(was)) = was else { return Ok(Answer::Swapped { done: false, now }) };
        let mut swap = cmd("EVAL");
        let swapped: redis::Value = swap.arg(SWAP).arg(1).arg(key).arg(was).arg(value).query_async(connection).await?;
        if swapped == redis::Value::Int(1) {
            return Ok(Answer::Swapped { done: true, now: None });
        }
        let now = Option::<Vec<u8>>::from_redis_value(swapped)?;
        Ok(Answer::Swapped { done: false, now: now.map(Value) })
    }

    /// The connection, made anew where there is none.
    async fn open(&self) -> Result<Open, String> {
        let mut open = self.open.lock().await;
        if let Some(open) = &*open {
            return Ok(open.clone());
        }
        let made = timeout(CONNECTS_WITHIN, self.connect()).await;
        let made = made.unwrap_or_else(|_| Err(self.said(&"it cannot be reached in time")))?;
        Ok(open.insert(made).clone())
    }

    async fn connect(&self) -> Result<Open, String> {
        let RedisUrl { tls, user, host, port, database } = &self.url;
        let scheme = if *tls { Scheme::Https } else { Scheme::Http };
        let origin = Origin { scheme, host: host.clone(), port: *port };
        let allow = &self.template.allow;
        let opened = self.reach.connector.connect(&origin, |ip| allow.address_of(host, ip), CONNECTS_WITHIN).await;
        let opened = opened.map_err(|error| match error {
            ConnectError::Prohibited(ip) => {
                self.said(&format!("its address {ip} is not public (hint: allow: {{private: [\"{ip}\"]}})"))
            }
            ConnectError::Tls(failure) => self.said(&failure.why),
            ConnectError::Failed(error) => self.said(&format!("it cannot be reached: {error}")),
        })?;
        let mut info = RedisConnectionInfo::default().set_db(i64::from(*database)).set_skip_set_lib_name();
        if let Some(user) = user {
            info = info.set_username(user);
        }
        if let Some(key) = &self.password_key {
            let settings = self.settings.load();
            let password = settings
                .secrets
                .get(key)
                .map(SecretText::reveal)
                .ok_or_else(|| self.said(&format!("no secret of the service has the key {key}")))?;
            info = info.set_password(password);
        }
        let came = Arc::new(AtomicUsize::new(0));
        let (reads, writes) = split(opened.stream);
        let stream = join(Bounded { stream: reads, came: came.clone() }, writes);
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let made = MultiplexedConnection::new_with_config(&info, stream, config).await;
        let (connection, driver) = made.map_err(|error| self.said(&error))?;
        let held = opened.held;
        // It ends with the last clone of the connection.
        tokio::spawn(async move {
            driver.await;
            drop(held);
        });
        came.store(0, Ordering::Relaxed);
        Ok(Open { connection, came })
    }

    /// What came of a question. A connection that broke, or that nobody can say what comes next on, is not used again.
    async fn answered<T>(
        &self,
        open: &Open,
        asked: Result<Result<T, RedisError>, tokio::time::error::Elapsed>,
    ) -> Result<T, String> {
        let error = match asked {
            Ok(Ok(answer)) => {
                open.came.store(0, Ordering::Relaxed);
                return Ok(answer);
            }
            Ok(Err(error)) if error.kind() != ErrorKind::Io && !error.is_unrecoverable_error() => {
                open.came.store(0, Ordering::Relaxed);
                return Err(self.said(&error));
            }
            Ok(Err(error)) => self.said(&error),
            Err(_) => self.said(&format!("it did not answer within {} s", ANSWERS_WITHIN.as_secs())),
        };
        let mut kept = self.open.lock().await;
        if kept.as_ref().is_some_and(|kept| Arc::ptr_eq(&kept.came, &open.came)) {
            *kept = None;
        }
        Err(error)
    }

    fn said(&self, what: &dyn Display) -> String {
        format!("the Redis at {}: {what}", TcpPattern::of(&self.url.host, self.url.port))
    }
}

async fn done(command: Cmd, connection: &mut MultiplexedConnection) -> Result<Answer, RedisError> {
    let () = command.query_async(connection).await?;
    Ok(Answer::Done)
}

/// A text that a pattern of Redis takes as it is.
fn literal(text: &str) -> String {
    let escaped = text.chars().flat_map(|c| "*?[]^\\".contains(c).then_some('\\').into_iter().chain([c]));
    escaped.collect()
}

/// A connection to read from, on which only so much comes until an answer is whole.
struct Bounded<S> {
    stream: S,
    came: Arc<AtomicUsize>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Bounded<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.came.load(Ordering::Relaxed) > CAME_BYTES_MAX {
            return Poll::Ready(Err(io::Error::other(Refusal::LargeAnswer)));
        }
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.came.fetch_add(buf.filled().len() - before, Ordering::Relaxed);
        polled
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[test]
    fn a_prefix_is_no_pattern() {
        assert_eq!(literal("a*[b]?\\"), "a\\*\\[b\\]\\?\\\\");
    }

    #[tokio::test]
    async fn a_server_that_says_too_much_is_not_listened_to() {
        let (near, mut far) = tokio::io::duplex(64 << 10);
        let came = Arc::new(AtomicUsize::new(0));
        let mut bounded = Bounded { stream: near, came: came.clone() };
        tokio::spawn(async move { while far.write_all(&[b'x'; 4096]).await.is_ok() {} });
        let mut chunk = vec![0; 64 << 10];
        for _ in 0..200 {
            bounded.read_exact(&mut chunk).await.unwrap();
            came.store(0, Ordering::Relaxed);
        }
        let mut all = Vec::new();
        assert!(bounded.read_to_end(&mut all).await.is_err());
        assert!(all.len() <= CAME_BYTES_MAX + (64 << 10), "{}", all.len());
    }
}
