//! Buckets as tables, and what an operation does to them.

use std::collections::BTreeMap;

use redb::{ReadTransaction, ReadableTable, Table, TableDefinition, TableError, WriteTransaction};

use crate::engine::Limits;
use crate::op::{Answer, OP_BYTES_MAX, Op, PAGE_KEYS, Refusal, Value};

/// By bucket and key.
const VALUES: TableDefinition<(&str, &str), &[u8]> = TableDefinition::new("values");
/// What a bucket has, in bytes of keys and values.
const SIZES: TableDefinition<&str, u64> = TableDefinition::new("sizes");

pub(crate) fn make(write: &WriteTransaction) -> Result<(), redb::Error> {
    write.open_table(VALUES)?;
    write.open_table(SIZES)?;
    Ok(())
}

/// The answer to an operation that only reads.
pub(crate) fn read(read: &ReadTransaction, bucket: &str, op: &Op) -> Result<Result<Answer, Refusal>, redb::Error> {
    let values = read.open_table(VALUES)?;
    Ok(Ok(match op {
        Op::Get { keys } => {
            let (mut found, mut bytes) = (Vec::with_capacity(keys.len()), 0);
            for key in keys {
                let value = get(&values, bucket, key)?;
                bytes += value.as_ref().map_or(0, |value| value.0.len());
                if bytes > OP_BYTES_MAX {
                    return Ok(Err(Refusal::LargeAnswer));
                }
                found.push(value);
            }
            Answer::Values(found)
        }
        Op::Exists { key } => Answer::Exists(values.get((bucket, key.as_str()))?.is_some()),
        Op::Keys { after } => {
            let from = after.as_deref().unwrap_or_default();
            let mut keys = Vec::new();
            let mut more = false;
            for entry in values.range((bucket, from)..)? {
                let (key, _) = entry?;
                let (of, key) = key.value();
                if of != bucket {
                    break;
                }
                if Some(key) == after.as_deref() {
                    continue;
                }
                if keys.len() == PAGE_KEYS {
                    more = true;
                    break;
                }
                keys.push(key.to_owned());
            }
            Answer::Keys { keys, more }
        }
        // The engine sends these to the writer.
        Op::Set { .. } | Op::Delete { .. } | Op::Increment { .. } | Op::Swap { .. } => Answer::Done,
    }))
}

/// All values of all buckets from the one after `after` on, up to some bytes; for backups.
pub(crate) fn page(
    read: &ReadTransaction,
    after: Option<&(String, String)>,
    bytes_max: usize,
) -> Result<Vec<(String, String, Value)>, redb::Error> {
    let values = match read.open_table(VALUES) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        values => values?,
    };
    let from = after.map_or(("", ""), |(bucket, key)| (bucket.as_str(), key.as_str()));
    let (mut page, mut bytes) = (Vec::new(), 0);
    for entry in values.range(from..)? {
        let (key, value) = entry?;
        let (bucket, key) = key.value();
        if after.is_some_and(|after| (after.0.as_str(), after.1.as_str()) == (bucket, key)) {
            continue;
        }
        bytes += bucket.len() + key.len() + value.value().len();
        page.push((bucket.to_owned(), key.to_owned(), Value(value.value().to_vec())));
        if bytes >= bytes_max {
            break;
        }
    }
    Ok(page)
}

/// The tables while a group of operations is written.
pub(crate) struct Tables<'txn> {
    values: Table<'txn, (&'static str, &'static str), &'static [u8]>,
    sizes: Table<'txn, &'static str, u64>,
    /// Of all buckets together.
    total: u64,
    limits: Limits,
}

impl<'txn> Tables<'txn> {
    pub(crate) fn open(write: &'txn WriteTransaction, limits: Limits) -> Result<Self, redb::Error> {
        let (values, sizes) = (write.open_table(VALUES)?, write.open_table(SIZES)?);
        let mut total = 0;
        for entry in sizes.iter()? {
            total += entry?.1.value();
        }
        Ok(Self { values, sizes, total, limits })
    }

    /// Does all of an operation or nothing.
    pub(crate) fn apply(&mut self, bucket: &str, op: &Op) -> Result<Result<Answer, Refusal>, redb::Error> {
        match op {
            Op::Set { entries } => {
                let entries: BTreeMap<&str, Option<&[u8]>> =
                    entries.iter().map(|(key, value)| (key.as_str(), Some(value.0.as_slice()))).collect();
                Ok(self.write(bucket, &entries)?.map(|()| Answer::Done))
            }
            Op::Delete { keys } => {
                let entries = keys.iter().map(|key| (key.as_str(), None)).collect();
                Ok(self.write(bucket, &entries)?.map(|()| Answer::Done))
            }
            Op::Increment { key, delta } => {
                let now = match get(&self.values, bucket, key)? {
                    None => 0,
                    Some(value) => match std::str::from_utf8(&value.0).ok().and_then(|text| text.parse::<i64>().ok()) {
                        Some(number) => number,
                        None => return Ok(Err(Refusal::NotANumber)),
                    },
                };
                let Some(sum) = now.checked_add(*delta) else { return Ok(Err(Refusal::OutOfRange)) };
                let text = sum.to_string();
                let entries = BTreeMap::from([(key.as_str(), Some(text.as_bytes()))]);
                Ok(self.write(bucket, &entries)?.map(|()| Answer::Number(sum)))
            }
            Op::Swap { key, seen, value } => {
                let now = get(&self.values, bucket, key)?;
                if now.as_ref().map(Value::print) != *seen {
                    return Ok(Ok(Answer::Swapped { done: false, now }));
                }
                let entries = BTreeMap::from([(key.as_str(), Some(value.0.as_slice()))]);
                Ok(self.write(bucket, &entries)?.map(|()| Answer::Swapped { done: true, now: None }))
            }
            Op::Get { .. } | Op::Exists { .. } | Op::Keys { .. } => Ok(Ok(Answer::Done)),
        }
    }

    /// Sets and deletes values, if there is room.
    fn write(
        &mut self,
        bucket: &str,
        entries: &BTreeMap<&str, Option<&[u8]>>,
    ) -> Result<Result<(), Refusal>, redb::Error> {
        let before = self.sizes.get(bucket)?.map_or(0, |size| size.value());
        let (mut more, mut less) = (0, 0);
        for (key, value) in entries {
            less += self.values.get((bucket, *key))?.map_or(0, |old| (key.len() + old.value().len()) as u64);
            more += value.map_or(0, |value| (key.len() + value.len()) as u64);
        }
        let after = (before + more).saturating_sub(less);
        let total = (self.total + more).saturating_sub(less);
        // What makes it smaller is always done.
        if more > less && after > self.limits.bucket_bytes_max {
            return Ok(Err(Refusal::BucketFull { max: self.limits.bucket_bytes_max }));
        }
        if more > less && total > self.limits.bytes_max {
            return Ok(Err(Refusal::AllFull { max: self.limits.bytes_max }));
        }
        for (key, value) in entries {
            match value {
                Some(value) => drop(self.values.insert((bucket, *key), *value)?),
                None => drop(self.values.remove((bucket, *key))?),
            }
        }
        match after {
            0 => drop(self.sizes.remove(bucket)?),
            after => drop(self.sizes.insert(bucket, after)?),
        }
        self.total = total;
        Ok(Ok(()))
    }
}

fn get(
    values: &impl ReadableTable<(&'static str, &'static str), &'static [u8]>,
    bucket: &str,
    key: &str,
) -> Result<Option<Value>, redb::Error> {
    Ok(values.get((bucket, key))?.map(|value| Value(value.value().to_vec())))
}
