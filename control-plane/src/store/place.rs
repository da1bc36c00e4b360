//! Where the stores are: one process's own, below its data directory, or servers that several control planes share.

use std::{
    env, fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use countersign_engine::snapshot::digest::Function;

use super::{
    BlobStore, MetaStore, StoreError, blob::FileBlobs, blocking, postgres::PgMeta, s3::S3Blobs,
    sqlite::SqliteMeta,
};

/// Where records and blobs are kept.
#[derive(Debug, Clone)]
pub struct Places {
    meta: MetaPlace,
    blobs: BlobPlace,
    digest: Function,
}

#[derive(Debug, Clone)]
enum MetaPlace {
    Sqlite(PathBuf),
    Postgres(Url),
    #[cfg(test)]
    Given(Arc<dyn MetaStore>),
}

#[derive(Debug, Clone)]
enum BlobPlace {
    Files(PathBuf),
    S3(String, Variables),
    #[cfg(test)]
    Given(Arc<dyn BlobStore>),
}

/// Variables of which some are secret.
#[derive(Clone)]
struct Variables(Vec<(String, String)>);

impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

/// A URL that may hold a password.
#[derive(Clone)]
struct Url(String);

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("postgres://…")
    }
}

impl Places {
    /// Below a data directory.
    #[must_use]
    pub fn embedded(data_dir: &Path) -> Self {
        Self {
            meta: MetaPlace::Sqlite(data_dir.join("meta.db")),
            blobs: BlobPlace::Files(data_dir.join("blobs")),
            digest: Function::default(),
        }
    }

    /// The same, where what is stored from now on is addressed by this function.
    #[must_use]
    pub fn by(self, digest: Function) -> Self {
        Self { digest, ..self }
    }

    /// Stores that are open, for tests.
    #[cfg(test)]
    pub(crate) fn given(meta: Arc<dyn MetaStore>, blobs: Arc<dyn BlobStore>) -> Self {
        let (meta, blobs) = (MetaPlace::Given(meta), BlobPlace::Given(blobs));
        Self { meta, blobs, digest: Function::default() }
    }

    /// What the settings say; what they do not say is below the data directory. An object store is reached by the variables `AWS_…`.
    ///
    /// # Errors
    /// When a setting cannot be understood, or the two do not go together. No error repeats a setting, which may hold a password.
    pub fn parse(
        meta: Option<&str>,
        blobs: Option<&str>,
        data_dir: &Path,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, StoreError> {
        let embedded = Self::embedded(data_dir);
        let unknown = |what: &str| Err(StoreError::Settings(what.to_owned()));
        let meta = match meta.map(|meta| (meta, meta.split_once(':'))) {
            None => embedded.meta,
            Some((_, Some(("sqlite", path)))) if !path.is_empty() => MetaPlace::Sqlite(path.into()),
            Some((url, Some(("postgres" | "postgresql", _)))) => {
                MetaPlace::Postgres(Url(url.to_owned()))
            }
            Some(_) => {
                return unknown("--meta has to be sqlite:PATH or postgres://USER@HOST/DATABASE");
            }
        };
        let blobs = match blobs {
            None => embedded.blobs,
            Some(url) if url.starts_with("s3://") => {
                let aws = variables.into_iter().filter(|(name, _)| name.starts_with("AWS_"));
                BlobPlace::S3(url.to_owned(), Variables(aws.collect()))
            }
            Some(path) if path.is_empty() || path.contains("://") => {
                return unknown("--blobs has to be a directory or s3://BUCKET/PREFIX");
            }
            Some(path) => BlobPlace::Files(path.into()),
        };
        if matches!((&meta, &blobs), (MetaPlace::Postgres(_), BlobPlace::Files(_))) {
            return unknown(
                "with --meta postgres://… the blobs have to be in an object store, where every control plane finds them: --blobs s3://BUCKET/PREFIX",
            );
        }
        Ok(Self { meta, blobs, digest: Function::default() })
    }

    /// Whether other control planes may use the same stores at the same time.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        matches!(self.meta, MetaPlace::Postgres(_))
    }

    /// What keeps records and blobs, in words.
    pub(crate) fn kinds(&self) -> (&'static str, &'static str) {
        let meta = match self.meta {
            MetaPlace::Sqlite(_) => "sqlite",
            MetaPlace::Postgres(_) => "postgres",
            #[cfg(test)]
            MetaPlace::Given(_) => "given",
        };
        let blobs = match self.blobs {
            BlobPlace::Files(_) => "files",
            BlobPlace::S3(..) => "s3",
            #[cfg(test)]
            BlobPlace::Given(_) => "given",
        };
        (meta, blobs)
    }

    /// Opens both. Whoever opens what is not shared has locked the data directory.
    ///
    /// # Errors
    /// When one of them cannot be opened.
    pub async fn open(&self) -> Result<(Arc<dyn MetaStore>, Arc<dyn BlobStore>), StoreError> {
        let meta: Arc<dyn MetaStore> = match &self.meta {
            MetaPlace::Sqlite(path) => {
                let path = path.clone();
                Arc::new(blocking(move || SqliteMeta::open(&path)).await??)
            }
            MetaPlace::Postgres(url) => Arc::new(PgMeta::open(&url.0).await?),
            #[cfg(test)]
            MetaPlace::Given(meta) => Arc::clone(meta),
        };
        let blobs: Arc<dyn BlobStore> = match &self.blobs {
            BlobPlace::Files(path) => {
                let path = path.clone();
                Arc::new(blocking(move || FileBlobs::open(&path)).await??.by(self.digest))
            }
            BlobPlace::S3(url, variables) => {
                let opened = S3Blobs::open(url, variables.0.iter().cloned()).await?;
                Arc::new(opened.by(self.digest))
            }
            #[cfg(test)]
            BlobPlace::Given(blobs) => Arc::clone(blobs),
        };
        blobs.claim(meta.identity()).await?;
        Ok((meta, blobs))
    }
}

/// The variables of this process that are text.
pub fn variables() -> impl Iterator<Item = (String, String)> {
    env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_is_below_the_data_directory() {
        let parse = |meta, blobs| Places::parse(meta, blobs, Path::new("d"), []);
        let places = format!("{:?}", parse(None, None).unwrap());
        assert_eq!(places, format!("{:?}", Places::embedded(Path::new("d"))));
        assert!(places.contains("d/meta.db") && places.contains("d/blobs"));
        let places = parse(Some("sqlite:elsewhere.db"), Some("b")).unwrap();
        assert!(!places.is_shared() && format!("{places:?}").contains("elsewhere.db"));
        assert!(parse(Some("postgres://u@h/d"), Some("s3://b/p")).unwrap().is_shared());
    }

    #[test]
    fn no_error_and_no_debug_output_repeats_a_password() {
        let url = "postgres://u:s3cret@h/d";
        let secret = [("AWS_SECRET_ACCESS_KEY".to_owned(), "s3cret".to_owned())];
        let places = Places::parse(Some(url), Some("s3://b"), Path::new("d"), secret).unwrap();
        assert!(!format!("{places:?}").contains("s3cret"));
        for (meta, blobs) in [
            (Some(url), None),
            (Some("mysql://u:s3cret@h/d"), None),
            (Some("s3cret"), None),
            (Some("sqlite:"), None),
            (None, Some("http://s3cret@h")),
            (None, Some("")),
        ] {
            let error = Places::parse(meta, blobs, Path::new("d"), []).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("s3cret"), "{error:?}");
        }
    }
}
