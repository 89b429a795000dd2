//! A service that keeps values: `/keyvalue?bucket=B&do=WHAT&key=K&value=V&n=N` does it N times, and says what came of the last.
//!
//! What a bucket refuses is a 502 with the reason.

use skiff_sdk::keyvalue::{self, Bucket};
use skiff_sdk::{Error, Request};

#[skiff_sdk::handler]
fn keep(request: Request) -> Result<String, Error> {
    let asked = |name: &str| request.query_value(name).unwrap_or_default();
    let bucket = keyvalue::open(&asked("bucket")).map_err(refused)?;
    let times: u64 = asked("n").parse().unwrap_or(1);
    let mut last = String::new();
    for _ in 0..times {
        last = once(&bucket, &asked("do"), &asked("key"), &asked("value")).map_err(refused)?;
    }
    Ok(format!("{last}\n"))
}

fn refused(error: keyvalue::Error) -> Error {
    Error::new(502, error.to_string())
}

fn shown(value: Option<Vec<u8>>) -> String {
    value.map_or("none".to_owned(), |value| String::from_utf8_lossy(&value).into())
}

fn once(bucket: &Bucket, what: &str, key: &str, value: &str) -> Result<String, keyvalue::Error> {
    let size = || value.parse().unwrap_or(0);
    Ok(match what {
        "get" => shown(bucket.get(key)?),
        "set" => bucket.set(key, value).map(|()| "set".to_owned())?,
        // A value of so many bytes.
        "fill" => bucket.set(key, vec![b'x'; size()]).map(|()| "filled".to_owned())?,
        // So many values of a megabyte in one call.
        "pile" => {
            let entries: Vec<_> = (0..size()).map(|n| (format!("{key}{n}"), vec![b'x'; 1 << 20])).collect();
            bucket.set_many(&entries).map(|()| "piled".to_owned())?
        }
        "delete" => bucket.delete(key).map(|()| "deleted".to_owned())?,
        "exists" => bucket.exists(key)?.to_string(),
        "keys" => bucket.keys()?.join(","),
        "add" => bucket.increment(key, value.parse().unwrap_or(1))?.to_string(),
        "update" => {
            let mut seen = Vec::new();
            bucket.update(key, |now| {
                // Somebody else is faster, once.
                if seen.is_empty() {
                    let _ = bucket.set(key, "meanwhile");
                }
                seen.push(shown(now));
                value.as_bytes().to_vec()
            })?;
            seen.join(", ")
        }
        "many" => {
            bucket.set_many(&[("a".to_owned(), b"1".to_vec()), ("b".to_owned(), b"2".to_vec())])?;
            bucket.delete_many(&["b".to_owned(), "c".to_owned()])?;
            let all = bucket.get_many(&["a".to_owned(), "b".to_owned()])?;
            all.into_iter().map(|(key, value)| format!("{key}={}", shown(value))).collect::<Vec<_>>().join(" ")
        }
        other => format!("no such thing to do: {other}"),
    })
}
