//! Values in buckets.

use wasip2::http::types::ResponseOutparam;

use crate::bindings::wasi::keyvalue::atomics::{self, Cas, CasError};
use crate::bindings::wasi::keyvalue::batch;
use crate::bindings::wasi::keyvalue::store::{self, Bucket, Error};
use crate::{Query, answer};

pub fn keyvalue(query: &Query<'_>, out: ResponseOutparam) {
    let text = |name: &str| query.text(name).unwrap_or_default();
    let bucket = match store::open(text("bucket")) {
        Ok(bucket) => bucket,
        Err(error) => return answer::refused(out, said(&error)),
    };
    let times: u64 = query.text("n").and_then(|n| n.parse().ok()).unwrap_or(1);
    let mut last = Ok(String::new());
    for _ in 0..times {
        last = once(&bucket, text("do"), text("key"), text("value"));
        if last.is_err() {
            break;
        }
    }
    match last {
        Ok(line) => answer::text(out, 200, &format!("{line}\n")),
        Err(error) => answer::refused(out, said(&error)),
    }
}

fn said(error: &Error) -> String {
    match error {
        Error::NoSuchStore => "no such store".to_owned(),
        Error::AccessDenied => "access denied".to_owned(),
        Error::Other(why) => why.clone(),
    }
}

fn once(bucket: &Bucket, what: &str, key: &str, value: &str) -> Result<String, Error> {
    let shown =
        |value: Option<Vec<u8>>| value.map_or("none".to_owned(), |value| String::from_utf8_lossy(&value).into());
    Ok(match what {
        "get" => shown(bucket.get(key)?),
        "set" => {
            bucket.set(key, value.as_bytes())?;
            "set".to_owned()
        }
        // A value of so many bytes.
        "fill" => {
            bucket.set(key, &vec![b'x'; value.parse().unwrap_or(0)])?;
            "filled".to_owned()
        }
        "delete" => {
            bucket.delete(key)?;
            "deleted".to_owned()
        }
        "exists" => bucket.exists(key)?.to_string(),
        "keys" => {
            let page = bucket.list_keys(Some(value).filter(|after| !after.is_empty()))?;
            format!("{} {:?}", page.keys.join(","), page.cursor)
        }
        "add" => atomics::increment(bucket, key, value.parse().unwrap_or(1))?.to_string(),
        "swap" => {
            // The first look is at what somebody else then changes.
            let cas = Cas::new(bucket, key)?;
            let before = shown(cas.current()?);
            bucket.set(key, b"meanwhile")?;
            let newer = match atomics::swap(cas, value.as_bytes()) {
                Ok(()) => return Ok("swapped what was changed meanwhile".to_owned()),
                Err(CasError::StoreError(error)) => return Err(error),
                Err(CasError::CasFailed(newer)) => newer,
            };
            let now = shown(newer.current()?);
            match atomics::swap(newer, value.as_bytes()) {
                Ok(()) => format!("{before}, {now}, {value}"),
                Err(CasError::StoreError(error)) => return Err(error),
                Err(CasError::CasFailed(_)) => "not swapped".to_owned(),
            }
        }
        "many" => {
            batch::set_many(bucket, &[("a".to_owned(), b"1".to_vec()), ("b".to_owned(), b"2".to_vec())])?;
            batch::delete_many(bucket, &["b".to_owned(), "c".to_owned()])?;
            let all = batch::get_many(bucket, &["a".to_owned(), "b".to_owned()])?;
            all.into_iter().map(|(key, value)| format!("{key}={}", shown(value))).collect::<Vec<_>>().join(" ")
        }
        other => return Err(Error::Other(format!("no such thing to do: {other}"))),
    })
}
