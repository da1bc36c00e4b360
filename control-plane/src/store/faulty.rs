//! Stores that fail when a test says so: before what was asked for was done, or after it, when only the answer is lost.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use countersign_engine::snapshot::digest::{Digest, Function};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    BlobStore, CommitError, Committed, Dump, Epoch, Kind, Lease, ListQuery, MetaStore, Page,
    Record, Scrubbed, StoreError, Txn, Weight,
};

/// When a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing was done.
    Before,
    /// It was done, and nobody was told.
    After,
}

/// A store that does what it should, except where a fault was planned.
#[derive(Debug)]
pub(crate) struct Faulty<S> {
    inner: S,
    planned: Mutex<BTreeMap<&'static str, VecDeque<Fault>>>,
}

impl<S> Faulty<S> {
    pub(crate) fn new(inner: S) -> Self {
        Self { inner, planned: Mutex::default() }
    }

    /// Has the next call of a method fail, or the one after those that are planned already.
    pub(crate) fn plan(&self, method: &'static str, fault: Fault) {
        let mut planned = self.planned.lock().unwrap_or_else(PoisonError::into_inner);
        planned.entry(method).or_default().push_back(fault);
    }

    async fn call<T, E: From<StoreError>>(
        &self,
        method: &'static str,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let fault = {
            let mut planned = self.planned.lock().unwrap_or_else(PoisonError::into_inner);
            planned.get_mut(method).and_then(VecDeque::pop_front)
        };
        let failure = || StoreError::Unavailable {
            server: "the store".to_owned(),
            doing: "answer",
            source: "a fault was planned".into(),
        };
        match fault {
            Some(Fault::Before) => Err(failure().into()),
            Some(Fault::After) => {
                work.await?;
                Err(failure().into())
            }
            None => work.await,
        }
    }
}

#[async_trait]
impl<S: MetaStore> MetaStore for Faulty<S> {
    fn identity(&self) -> &str {
        self.inner.identity()
    }

    async fn commit(&self, txn: Txn) -> Result<Committed, CommitError> {
        self.call("commit", self.inner.commit(txn)).await
    }

    async fn get(&self, kind: Kind, name: &str) -> Result<Option<Record>, StoreError> {
        self.call("get", self.inner.get(kind, name)).await
    }

    async fn list(&self, query: ListQuery) -> Result<Page, StoreError> {
        self.call("list", self.inner.list(query)).await
    }

    async fn weigh(&self, kind: Kind, prefix: &str) -> Result<Weight, StoreError> {
        self.call("weigh", self.inner.weigh(kind, prefix)).await
    }

    fn revision(&self) -> watch::Receiver<u64> {
        self.inner.revision()
    }

    async fn refresh(&self) -> Result<u64, StoreError> {
        self.call("refresh", self.inner.refresh()).await
    }

    async fn lease(
        &self,
        name: &str,
        holder: &str,
        ttl: Duration,
    ) -> Result<Option<Epoch>, StoreError> {
        self.call("lease", self.inner.lease(name, holder, ttl)).await
    }

    async fn release(&self, name: &str, holder: &str) -> Result<(), StoreError> {
        self.call("release", self.inner.release(name, holder)).await
    }

    async fn leased(&self, name: &str) -> Result<Lease, StoreError> {
        self.call("leased", self.inner.leased(name)).await
    }

    async fn dump(&self) -> Result<Dump, StoreError> {
        self.inner.dump().await
    }

    async fn load(&self, dump: Dump) -> Result<(), StoreError> {
        self.inner.load(dump).await
    }
}

#[async_trait]
impl<S: BlobStore> BlobStore for Faulty<S> {
    fn function(&self) -> Function {
        self.inner.function()
    }

    async fn put(&self, bytes: Bytes) -> Result<Digest, StoreError> {
        self.call("put", self.inner.put(bytes)).await
    }

    async fn put_all(&self, blobs: Vec<Bytes>) -> Result<Vec<Digest>, StoreError> {
        self.call("put_all", self.inner.put_all(blobs)).await
    }

    async fn put_named(&self, blobs: Vec<(Digest, Bytes)>) -> Result<(), StoreError> {
        self.call("put_named", self.inner.put_named(blobs)).await
    }

    async fn get(&self, digest: &Digest) -> Result<Option<Bytes>, StoreError> {
        self.call("get", self.inner.get(digest)).await
    }

    async fn missing(&self, digests: &[Digest]) -> Result<Vec<Digest>, StoreError> {
        self.inner.missing(digests).await
    }

    async fn retain(&self, live: HashSet<Digest>, grace: Duration) -> Result<u64, StoreError> {
        self.call("retain", self.inner.retain(live, grace)).await
    }

    async fn scrub(
        &self,
        put_aside: bool,
        stop: &CancellationToken,
    ) -> Result<Scrubbed, StoreError> {
        self.inner.scrub(put_aside, stop).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{blob::FileBlobs, conformance, sqlite::SqliteMeta};

    #[tokio::test]
    async fn conforms_where_nothing_is_planned() {
        let dir = tempfile::tempdir().unwrap();
        let meta = Faulty::new(SqliteMeta::open(&dir.path().join("meta.db")).unwrap());
        conformance::meta(&meta).await;
        conformance::blobs(&Faulty::new(FileBlobs::open(&dir.path().join("blobs")).unwrap())).await;
    }
}
