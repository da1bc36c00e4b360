//! Blobs as objects of an S3-compatible store, for several control planes at a time: `<prefix>/blobs/ab/abcd…`, named by their digest.
//!
//! An object appears whole or not at all, and each read is verified. A blob that is there already is not sent again, unless it is so old
//! that a removal might take it for left over: then it is written anew, which makes it young.

mod parts;

use std::{
    collections::HashSet,
    fmt,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use bytes::Bytes;
use countersign_engine::snapshot::digest::{Digest, Function};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use object_store::{
    BackoffConfig, ClientOptions, Error, ObjectMeta, ObjectStore, ObjectStoreExt as _, PutMode,
    PutOptions, RetryConfig,
    aws::{AmazonS3Builder, AmazonS3ConfigKey, Checksum},
    path::Path,
};
use tokio_util::sync::CancellationToken;

use super::{BlobStore, Parts, Scrubbed, StoreError};

/// Requests at a time for one call.
const AT_ONCE: usize = 16;
/// A blob of this age is written anew instead of being taken for granted; well below any sensible grace.
const REFRESH: Duration = Duration::from_secs(6 * 3600);

/// A bucket of blobs, or a part of one.
#[derive(Clone)]
pub struct S3Blobs {
    store: Arc<dyn ObjectStore>,
    root: Path,
    name: Arc<str>,
    function: Function,
}

impl fmt::Debug for S3Blobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("S3Blobs").field(&self.name).finish()
    }
}

impl S3Blobs {
    /// Opens `s3://bucket/prefix` and writes a probe to it. Endpoint, region and credentials come from the variables `AWS_…` that are handed in.
    ///
    /// # Errors
    /// When the URL is of no use, or the bucket cannot be written.
    pub async fn open(
        url: &str,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, StoreError> {
        let (bucket, prefix) = split(url)?;
        let mut builder = AmazonS3Builder::new();
        for (name, value) in environment.into_iter().filter(|(name, _)| name.starts_with("AWS_")) {
            // A variable that is none of the store's is somebody else's.
            if let Ok(key) = name.to_ascii_lowercase().parse() {
                builder = builder.with_config(key, value);
            }
        }
        let endpoint = [AmazonS3ConfigKey::S3Endpoint, AmazonS3ConfigKey::Endpoint]
            .iter()
            .find_map(|key| builder.get_config_value(key));
        let client = ClientOptions::new()
            .with_connect_timeout(Duration::from_secs(5))
            .with_timeout(Duration::from_secs(30))
            .with_allow_http(endpoint.is_some_and(|endpoint| endpoint.starts_with("http://")));
        let retry = RetryConfig {
            backoff: BackoffConfig::default(),
            max_retries: 4,
            retry_timeout: Duration::from_secs(20),
        };
        let store = builder
            .with_bucket_name(bucket)
            .with_checksum_algorithm(Checksum::SHA256)
            .with_client_options(client)
            .with_retry(retry)
            .build()
            .map_err(|error| {
                StoreError::Settings(format!("the object store cannot be set up: {error}"))
            })?;
        let root = Path::parse(prefix).map_err(|error| StoreError::Settings(error.to_string()))?;
        let function = Function::default();
        let blobs = Self { store: Arc::new(store), root, name: url.into(), function };
        blobs.clock().await?;
        Ok(blobs)
    }

    /// The same, where addresses are made with this function from now on.
    #[must_use]
    pub fn by(self, function: Function) -> Self {
        Self { function, ..self }
    }

    /// The server's time in milliseconds since the epoch. Asking for it shows too whether the bucket can be written.
    async fn clock(&self) -> Result<i64, StoreError> {
        let path = self.root.clone().join("clock");
        self.store.put(&path, Bytes::new().into()).await.map_err(self.failed("write"))?;
        let probe = self.store.head(&path).await.map_err(self.failed("read"))?;
        Ok(written(&probe))
    }

    fn path(&self, digest: &Digest) -> Path {
        let shelf: String = digest.to_hex().chars().take(2).collect();
        self.root.clone().join("blobs").join(shelf).join(digest.file_name())
    }

    async fn find(&self, digest: &Digest) -> Result<Option<ObjectMeta>, StoreError> {
        match self.store.head(&self.path(digest)).await {
            // One of another size is damaged: whoever has its bytes writes it anew.
            Ok(found) => Ok(Some(found).filter(|found| found.size == digest.size())),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failed("read")(error)),
        }
    }

    async fn put_one(&self, digest: Digest, bytes: Bytes) -> Result<(), StoreError> {
        let found = self.find(&digest).await?;
        if found.is_some_and(|found| now().saturating_sub(written(&found)) < millis(REFRESH)) {
            return Ok(());
        }
        self.store.put(&self.path(&digest), bytes.into()).await.map_err(self.failed("write"))?;
        Ok(())
    }

    /// The blobs that were stored at this time or before, but not these.
    async fn others(
        &self,
        live: &HashSet<Digest>,
        until: i64,
    ) -> Result<Vec<Result<Path, Error>>, StoreError> {
        let names: HashSet<String> = live.iter().map(Digest::file_name).collect();
        let all = self.store.list(Some(&self.root.clone().join("blobs")));
        let dead = all.try_filter_map(|object| {
            let kept = object.location.filename().is_some_and(|name| names.contains(name))
                || written(&object) > until;
            std::future::ready(Ok((!kept).then_some(Ok(object.location))))
        });
        dead.try_collect().await.map_err(self.failed("list"))
    }

    async fn check(&self, path: &Path, put_aside: bool) -> Result<Scrubbed, StoreError> {
        let read = async { self.store.get(path).await?.bytes().await };
        let bytes = match read.await {
            Ok(bytes) => bytes,
            // Removed since it was listed.
            Err(Error::NotFound { .. }) => return Ok(Scrubbed::default()),
            Err(error) => return Err(self.failed("read")(error)),
        };
        let name = path.filename().unwrap_or_default();
        let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let mut found = Scrubbed { blobs: 1, bytes: size, ..Scrubbed::default() };
        let named = Digest::from_file_name(name, size);
        if !named.is_some_and(|digest| digest.matches(&bytes)) {
            found.damaged.push(format!("{}: {path}", self.name));
            found.hashes.extend(named.map(|digest| *digest.hash()));
            if put_aside {
                let aside = self.root.clone().join("damaged").join(name);
                self.store.rename(path, &aside).await.map_err(self.failed("put aside"))?;
                found.put_aside = 1;
            }
        }
        Ok(found)
    }

    async fn remove(&self, dead: Vec<Result<Path, Error>>) -> Result<u64, StoreError> {
        let removed = self.store.delete_stream(stream::iter(dead).boxed());
        let removed = removed.try_fold(0_u64, |count, _| std::future::ready(Ok(count + 1)));
        removed.await.map_err(self.failed("remove"))
    }

    fn failed(&self, doing: &'static str) -> impl FnOnce(Error) -> StoreError {
        let server = self.name.to_string();
        move |error| match error {
            // What the client gave up after it had tried again.
            Error::Generic { .. } | Error::JoinError { .. } => {
                StoreError::Unavailable { server, doing, source: error.into() }
            }
            error => StoreError::Refused { server, doing, source: error.into() },
        }
    }
}

#[async_trait]
impl BlobStore for S3Blobs {
    fn function(&self) -> Function {
        self.function
    }

    async fn put_named(&self, blobs: Vec<(Digest, Bytes)>) -> Result<(), StoreError> {
        let mut seen = HashSet::new();
        let mut once = blobs;
        once.retain(|(digest, _)| seen.insert(*digest));
        let puts = once.into_iter().map(|(digest, bytes)| self.put_one(digest, bytes));
        let puts: Vec<_> = puts.collect();
        stream::iter(puts).buffer_unordered(AT_ONCE).try_collect::<()>().await
    }

    async fn get(&self, digest: &Digest) -> Result<Option<Bytes>, StoreError> {
        let path = self.path(digest);
        let bytes = match self.store.get(&path).await {
            Ok(found) => found.bytes().await.map_err(self.failed("read"))?,
            Err(Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(self.failed("read")(error)),
        };
        if digest.matches(&bytes) {
            return Ok(Some(bytes));
        }
        Err(StoreError::Damaged {
            path: PathBuf::from(format!("{}: {path}", self.name)),
            what: "its bytes do not have the digest that names it".to_owned(),
        })
    }

    async fn missing(&self, digests: &[Digest]) -> Result<Vec<Digest>, StoreError> {
        let asked: Vec<_> = digests
            .iter()
            .map(|digest| async move { Ok((*digest, self.find(digest).await?.is_none())) })
            .collect();
        let missing = stream::iter(asked)
            .buffered(AT_ONCE)
            .try_filter_map(|(digest, missing)| std::future::ready(Ok(missing.then_some(digest))));
        missing.try_collect().await
    }

    async fn retain(&self, live: HashSet<Digest>, grace: Duration) -> Result<u64, StoreError> {
        let until = self.clock().await?.saturating_sub(millis(grace));
        let dead = self.others(&live, until).await?;
        self.remove(dead).await
    }

    async fn scrub(
        &self,
        put_aside: bool,
        stop: &CancellationToken,
    ) -> Result<Scrubbed, StoreError> {
        let all = self.store.list(Some(&self.root.clone().join("blobs")));
        let all: Vec<Path> = all
            .map_ok(|object| object.location)
            .try_collect()
            .await
            .map_err(self.failed("list"))?;
        let checks: Vec<_> = all.iter().map(|path| self.check(path, put_aside)).collect();
        let found = stream::iter(checks).buffered(AT_ONCE);
        let found = found.try_fold(Scrubbed::default(), |mut sum, found: Scrubbed| {
            sum.blobs += found.blobs;
            sum.bytes += found.bytes;
            sum.damaged.extend(found.damaged);
            sum.hashes.extend(found.hashes);
            sum.put_aside += found.put_aside;
            std::future::ready(Ok(sum))
        });
        tokio::select! {
            found = found => found,
            () = stop.cancelled() => Err(StoreError::Stopped),
        }
    }

    async fn claim(&self, store_uid: &str) -> Result<(), StoreError> {
        let path = self.root.clone().join("store");
        let claim = Bytes::copy_from_slice(store_uid.as_bytes());
        let create = PutOptions::from(PutMode::Create);
        match self.store.put_opts(&path, claim.into(), create).await {
            Ok(_) => return Ok(()),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => {}
            Err(error) => return Err(self.failed("write")(error)),
        }
        let read = async { self.store.get(&path).await?.bytes().await };
        let owner = read.await.map_err(self.failed("read"))?;
        if owner == store_uid.as_bytes() {
            return Ok(());
        }
        let (name, owner) = (&self.name, String::from_utf8_lossy(&owner));
        Err(StoreError::Settings(format!(
            "{name} has the blobs of another store, {owner}, and this one, {store_uid}, would remove them: name another bucket or prefix"
        )))
    }

    fn parts(&self) -> Option<&dyn Parts> {
        Some(self)
    }
}

/// Bucket and prefix of `s3://bucket/prefix`.
fn split(url: &str) -> Result<(&str, &str), StoreError> {
    let rest = url.strip_prefix("s3://").unwrap_or_default();
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.is_empty() || rest.contains(['@', '?', '#']) {
        // Somebody may have written credentials into it.
        let what = "the URL of the object store has to be s3://BUCKET or s3://BUCKET/PREFIX; endpoint, region and credentials come from AWS_… variables";
        return Err(StoreError::Settings(what.to_owned()));
    }
    Ok((bucket, prefix))
}

fn written(object: &ObjectMeta) -> i64 {
    object.last_modified.timestamp_millis()
}

fn now() -> i64 {
    SystemTime::UNIX_EPOCH.elapsed().map_or(0, millis)
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{conformance, servers::S3Server};

    #[tokio::test]
    async fn conforms() {
        let Some(server) = S3Server::start() else { return };
        let url = server.bucket("conforms") + "/some/prefix";
        let blobs = S3Blobs::open(&url, server.environment()).await.unwrap();
        conformance::blobs(&blobs).await;
    }

    #[tokio::test]
    async fn damage_is_found_by_the_reader_and_one_that_was_cut_is_mended_by_the_next_write() {
        let Some(server) = S3Server::start() else { return };
        let blobs = S3Blobs::open(&server.bucket("damage"), server.environment()).await.unwrap();
        let digest = blobs.put("abc".into()).await.unwrap();
        for damage in ["abx", "ab"] {
            let path = blobs.path(&digest);
            blobs.store.put(&path, damage.into()).await.unwrap();
            assert_eq!(
                blobs.scrub(false, &CancellationToken::new()).await.unwrap().damaged.len(),
                1
            );
            let error = blobs.get(&digest).await.unwrap_err();
            assert!(error.is_damage() && error.to_string().contains(path.as_ref()), "{error}");
        }
        blobs.put("abc".into()).await.unwrap();
        assert_eq!(blobs.get(&digest).await.unwrap(), Some("abc".into()));
        // One of the right size is mended when it was put aside.
        blobs.store.put(&blobs.path(&digest), "abx".into()).await.unwrap();
        assert_eq!(blobs.scrub(true, &CancellationToken::new()).await.unwrap().put_aside, 1);
        assert_eq!(blobs.missing(&[digest]).await.unwrap(), [digest]);
        blobs.put("abc".into()).await.unwrap();
        assert!(blobs.scrub(true, &CancellationToken::new()).await.unwrap().damaged.is_empty());
    }

    #[tokio::test]
    async fn a_place_is_that_of_one_store() {
        let Some(server) = S3Server::start() else { return };
        let bucket = server.bucket("claims");
        let blobs = S3Blobs::open(&format!("{bucket}/a"), server.environment()).await.unwrap();
        for _ in 0..2 {
            blobs.claim("first").await.unwrap();
        }
        let error = blobs.claim("second").await.unwrap_err();
        assert!(error.to_string().contains("another store, first"), "{error}");
        let other = S3Blobs::open(&format!("{bucket}/b"), server.environment()).await.unwrap();
        other.claim("second").await.unwrap();
    }

    #[tokio::test]
    async fn what_cannot_be_used_is_named_without_credentials() {
        for url in ["s3://", "s3:///x", "s3://key:s3cret@bucket", "http://x", "s3://b?s3cret=1"] {
            let error = S3Blobs::open(url, []).await.unwrap_err();
            assert!(!format!("{error:?}").contains("s3cret"), "{error:?}");
        }
        let Some(server) = S3Server::start() else { return };
        let error = S3Blobs::open("s3://absent", server.environment()).await.unwrap_err();
        assert!(error.to_string().contains("s3://absent"), "{error}");
        let gone = [
            ("AWS_ENDPOINT_URL", "http://127.0.0.1:1"),
            ("AWS_ACCESS_KEY_ID", "a"),
            ("AWS_SECRET_ACCESS_KEY", "s3cret"),
        ];
        let gone = gone.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let error = S3Blobs::open("s3://bucket", gone).await.unwrap_err();
        assert!(error.is_unavailable() && !format!("{error:?}").contains("s3cret"), "{error:?}");
    }
}
