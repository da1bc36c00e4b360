//! Parts of uploads: `<prefix>/uploads/<snapshot>/<upload>/<first piece>`, names by their digests because clients choose them.

use std::{collections::HashSet, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use countersign_engine::snapshot::digest::Digest;
use futures_util::TryStreamExt as _;
use object_store::{Error, ObjectStoreExt as _, path::Path};

use super::{S3Blobs, millis, written};
use crate::store::{Parts, StoreError};

impl S3Blobs {
    fn uploads(&self, snapshot: &str) -> Path {
        self.root.clone().join("uploads").join(Digest::of(snapshot.as_bytes()).to_hex())
    }

    fn upload(&self, snapshot: &str, upload_id: &str) -> Path {
        self.uploads(snapshot).join(Digest::of(upload_id.as_bytes()).to_hex())
    }

    fn part(&self, snapshot: &str, upload_id: &str, first: u64) -> Path {
        self.upload(snapshot, upload_id).join(format!("{first:020}"))
    }
}

#[async_trait]
impl Parts for S3Blobs {
    async fn put_part(
        &self,
        snapshot: &str,
        upload_id: &str,
        first: u64,
        bytes: Bytes,
    ) -> Result<(), StoreError> {
        let path = self.part(snapshot, upload_id, first);
        self.store.put(&path, bytes.into()).await.map_err(self.failed("write"))?;
        Ok(())
    }

    async fn list_parts(&self, snapshot: &str, upload_id: &str) -> Result<Vec<u64>, StoreError> {
        let all = self.store.list(Some(&self.upload(snapshot, upload_id)));
        let all = all.map_ok(|part| part.location.filename().and_then(|name| name.parse().ok()));
        let all: Vec<Option<u64>> = all.try_collect().await.map_err(self.failed("list"))?;
        let mut firsts: Vec<u64> = all.into_iter().flatten().collect();
        firsts.sort_unstable();
        Ok(firsts)
    }

    async fn get_part(
        &self,
        snapshot: &str,
        upload_id: &str,
        first: u64,
    ) -> Result<Option<Bytes>, StoreError> {
        match self.store.get(&self.part(snapshot, upload_id, first)).await {
            Ok(found) => Ok(Some(found.bytes().await.map_err(self.failed("read"))?)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failed("read")(error)),
        }
    }

    async fn remove_parts(&self, snapshot: &str) -> Result<(), StoreError> {
        let all = self.store.list(Some(&self.uploads(snapshot)));
        let all: Vec<_> = all
            .map_ok(|part| Ok(part.location))
            .try_collect()
            .await
            .map_err(self.failed("list"))?;
        self.remove(all).await.map(drop)
    }

    async fn retain_parts(&self, snapshots: &[String], grace: Duration) -> Result<(), StoreError> {
        let until = self.clock().await?.saturating_sub(millis(grace));
        let kept: HashSet<Path> = snapshots.iter().map(|snapshot| self.uploads(snapshot)).collect();
        let all = self.store.list(Some(&self.root.clone().join("uploads")));
        let dead = all.try_filter_map(|part| {
            // Two levels up from the part.
            let names: Vec<_> = part.location.parts().collect();
            let of = names.len().checked_sub(2).and_then(|above| names.get(..above));
            let of: Option<Path> = of.map(|names| names.iter().cloned().collect());
            let dead = written(&part) <= until && of.is_none_or(|of| !kept.contains(&of));
            std::future::ready(Ok(dead.then_some(Ok(part.location))))
        });
        let dead = dead.try_collect().await.map_err(self.failed("list"))?;
        self.remove(dead).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::servers::S3Server;

    #[tokio::test]
    async fn parts_come_back_in_order_until_their_snapshot_goes() {
        let Some(server) = S3Server::start() else { return };
        let url = server.bucket("parts") + "/p";
        let store = S3Blobs::open(&url, server.environment()).await.unwrap();
        for first in [1000, 1, 30] {
            store.put_part("s", "u", first, first.to_string().into()).await.unwrap();
        }
        store.put_part("s", "v", 7, "x".into()).await.unwrap();
        store.put_part("t", "u", 8, "x".into()).await.unwrap();
        assert_eq!(store.list_parts("s", "u").await.unwrap(), [1, 30, 1000]);
        assert_eq!(store.get_part("s", "u", 30).await.unwrap(), Some("30".into()));
        assert_eq!(store.get_part("s", "u", 31).await.unwrap(), None);
        store.retain_parts(&["s".into()], Duration::from_secs(3600)).await.unwrap();
        assert_eq!(store.list_parts("t", "u").await.unwrap(), [8], "the young are spared");
        store.retain_parts(&["s".into()], Duration::ZERO).await.unwrap();
        assert!(store.list_parts("t", "u").await.unwrap().is_empty());
        assert_eq!(store.list_parts("s", "u").await.unwrap().len(), 3);
        store.remove_parts("s").await.unwrap();
        assert!(store.list_parts("s", "u").await.unwrap().is_empty());
        assert!(store.list_parts("s", "v").await.unwrap().is_empty());
    }
}
