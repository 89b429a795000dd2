//! `wasi:keyvalue`: buckets that the service's manifest names.
//!
//! Every component may import it; a bucket that the manifest does not name is none. While a guest waits for an answer it
//! computes nothing, and is not charged.

use skiff_keyvalue::{Answer, Op, Value};
use wasmtime::component::{HasSelf, Linker, Resource};

use crate::capabilities::{Bucket, Cas};
use crate::sandbox::bindings::wasi::keyvalue::atomics::{self, CasError};
use crate::sandbox::bindings::wasi::keyvalue::batch;
use crate::sandbox::bindings::wasi::keyvalue::store::{self, Error, KeyResponse};
use crate::sandbox::state::State;

type Outcome<T> = wasmtime::Result<Result<T, Error>>;

pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    store::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
    atomics::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
    batch::add_to_linker::<State, HasSelf<State>>(linker, |state| state)
}

/// Nothing else is answered to what was asked.
fn odd() -> Error {
    Error::Other("the answer is none to the question".to_owned())
}

impl State {
    async fn run(&mut self, bucket: &Resource<Bucket>, op: Op) -> wasmtime::Result<Result<Answer, Error>> {
        let bucket = self.table().get(bucket)?.clone();
        Ok(bucket.run(op).await.map_err(Error::Other))
    }
}

/// The value of one key.
async fn look(bucket: &Bucket, key: &str) -> Result<Option<Value>, Error> {
    match bucket.run(Op::Get { keys: vec![key.to_owned()] }).await {
        Ok(Answer::Values(values)) => Ok(values.into_iter().next().flatten()),
        Ok(_) => Err(odd()),
        Err(error) => Err(Error::Other(error)),
    }
}

impl store::Host for State {
    async fn open(&mut self, identifier: String) -> Outcome<Resource<Bucket>> {
        match self.buckets().open(&identifier) {
            Some(bucket) => Ok(Ok(self.table().push(bucket)?)),
            None => Ok(Err(Error::NoSuchStore)),
        }
    }
}

impl store::HostBucket for State {
    async fn get(&mut self, bucket: Resource<Bucket>, key: String) -> Outcome<Option<Vec<u8>>> {
        let bucket = self.table().get(&bucket)?.clone();
        Ok(look(&bucket, &key).await.map(|value| value.map(|value| value.0)))
    }

    async fn set(&mut self, bucket: Resource<Bucket>, key: String, value: Vec<u8>) -> Outcome<()> {
        let op = Op::Set { entries: vec![(key, Value(value))] };
        Ok(self.run(&bucket, op).await?.map(drop))
    }

    async fn delete(&mut self, bucket: Resource<Bucket>, key: String) -> Outcome<()> {
        Ok(self.run(&bucket, Op::Delete { keys: vec![key] }).await?.map(drop))
    }

    async fn exists(&mut self, bucket: Resource<Bucket>, key: String) -> Outcome<bool> {
        match self.run(&bucket, Op::Exists { key }).await? {
            Ok(Answer::Exists(is_there)) => Ok(Ok(is_there)),
            Ok(_) => Ok(Err(odd())),
            Err(error) => Ok(Err(error)),
        }
    }

    async fn list_keys(&mut self, bucket: Resource<Bucket>, cursor: Option<String>) -> Outcome<KeyResponse> {
        let bucket = self.table().get(&bucket)?.clone();
        let page = bucket.keys(cursor).await;
        Ok(page.map(|(keys, cursor)| KeyResponse { keys, cursor }).map_err(Error::Other))
    }

    async fn drop(&mut self, bucket: Resource<Bucket>) -> wasmtime::Result<()> {
        self.table().delete(bucket)?;
        Ok(())
    }
}

impl atomics::Host for State {
    async fn increment(&mut self, bucket: Resource<Bucket>, key: String, delta: i64) -> Outcome<i64> {
        match self.run(&bucket, Op::Increment { key, delta }).await? {
            Ok(Answer::Number(sum)) => Ok(Ok(sum)),
            Ok(_) => Ok(Err(odd())),
            Err(error) => Ok(Err(error)),
        }
    }

    async fn swap(&mut self, cas: Resource<Cas>, value: Vec<u8>) -> wasmtime::Result<Result<(), CasError>> {
        let Cas { bucket, key, seen } = self.table().delete(cas)?;
        let op = Op::Swap { key: key.clone(), seen, value: Value(value) };
        match bucket.run(op).await {
            Ok(Answer::Swapped { done: true, .. }) => Ok(Ok(())),
            Ok(Answer::Swapped { done: false, now }) => {
                let newer = self.table().push(Cas { bucket, key, seen: now.as_ref().map(Value::print) })?;
                Ok(Err(CasError::CasFailed(newer)))
            }
            Ok(_) => Ok(Err(CasError::StoreError(odd()))),
            Err(error) => Ok(Err(CasError::StoreError(Error::Other(error)))),
        }
    }
}

impl atomics::HostCas for State {
    async fn new(&mut self, bucket: Resource<Bucket>, key: String) -> Outcome<Resource<Cas>> {
        let bucket = self.table().get(&bucket)?.clone();
        match look(&bucket, &key).await {
            Ok(now) => Ok(Ok(self.table().push(Cas { bucket, key, seen: now.as_ref().map(Value::print) })?)),
            Err(error) => Ok(Err(error)),
        }
    }

    /// Looks again: what it answers is what is swapped.
    async fn current(&mut self, cas: Resource<Cas>) -> Outcome<Option<Vec<u8>>> {
        let Cas { bucket, key, .. } = self.table().get(&cas)?;
        let (bucket, key) = (bucket.clone(), key.clone());
        match look(&bucket, &key).await {
            Ok(now) => {
                self.table().get_mut(&cas)?.seen = now.as_ref().map(Value::print);
                Ok(Ok(now.map(|value| value.0)))
            }
            Err(error) => Ok(Err(error)),
        }
    }

    async fn drop(&mut self, cas: Resource<Cas>) -> wasmtime::Result<()> {
        self.table().delete(cas)?;
        Ok(())
    }
}

impl batch::Host for State {
    async fn get_many(
        &mut self,
        bucket: Resource<Bucket>,
        keys: Vec<String>,
    ) -> Outcome<Vec<(String, Option<Vec<u8>>)>> {
        match self.run(&bucket, Op::Get { keys: keys.clone() }).await? {
            Ok(Answer::Values(values)) => {
                Ok(Ok(keys.into_iter().zip(values.into_iter().map(|value| value.map(|value| value.0))).collect()))
            }
            Ok(_) => Ok(Err(odd())),
            Err(error) => Ok(Err(error)),
        }
    }

    async fn set_many(&mut self, bucket: Resource<Bucket>, entries: Vec<(String, Vec<u8>)>) -> Outcome<()> {
        let entries = entries.into_iter().map(|(key, value)| (key, Value(value))).collect();
        Ok(self.run(&bucket, Op::Set { entries }).await?.map(drop))
    }

    async fn delete_many(&mut self, bucket: Resource<Bucket>, keys: Vec<String>) -> Outcome<()> {
        Ok(self.run(&bucket, Op::Delete { keys }).await?.map(drop))
    }
}
