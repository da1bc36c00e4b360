//! Setting passthrough up from its settings, and ending it with nothing lost.

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

use super::{Passthrough, Settings};
use crate::{
    recorder::{self, Recorder, Writing},
    upstream::{
        client::{TrustError, Upstream},
        policy::Policy,
    },
};

/// Why misses cannot be passed through.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The certificates that are to be trusted cannot be used.
    #[error("hosts cannot be reached with TLS")]
    Trust(#[source] TrustError),
    /// The directory of a recording cannot be used.
    #[error("the directory {} cannot be recorded to", dir.display())]
    Record {
        /// The directory.
        dir: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

/// What passes misses through, and the thread that records them.
#[derive(Debug)]
pub(crate) struct Passing {
    passthrough: Arc<Passthrough>,
    recording: Option<Writing>,
}

impl Passing {
    /// `own` are the addresses that this process listens on. `None` when no host may be reached.
    pub(crate) fn start(
        settings: &Settings,
        own: Vec<SocketAddr>,
    ) -> Result<Option<Self>, StartError> {
        if settings.allow.is_empty() {
            return Ok(None);
        }
        let policy = Policy::of(settings.allow.clone(), own);
        let upstream = Upstream::new(policy, settings.trust.clone(), settings.head)
            .map_err(StartError::Trust)?;
        let record = |dir: PathBuf| {
            Recorder::start(recorder::Settings::new(dir.clone()))
                .map_err(|source| StartError::Record { dir, source })
        };
        let (recorder, recording) = settings.record.clone().map(record).transpose()?.unzip();
        let passthrough = Passthrough {
            upstream,
            always: settings.always,
            pause: settings.pause,
            recorder,
            control: Handle::current(),
            bodies: TaskTracker::new(),
        };
        Ok(Some(Self { passthrough: Arc::new(passthrough), recording }))
    }

    pub(crate) fn passthrough(&self) -> Arc<Passthrough> {
        Arc::clone(&self.passthrough)
    }

    /// Waits for bodies that are on their way, then for what was recorded to be on the disk.
    pub(crate) async fn finish(self, limit: Duration) {
        self.passthrough.bodies.close();
        if tokio::time::timeout(limit, self.passthrough.bodies.wait()).await.is_err() {
            tracing::warn!("bodies that passed through were given up");
        }
        drop(self.passthrough);
        let Some(recording) = self.recording else { return };
        let written = tokio::task::spawn_blocking(move || recording.finish()).await;
        match written.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Ok((pairs, 0)) => tracing::info!(pairs, "recorded what passed through"),
            Ok((pairs, lost)) => tracing::error!(pairs, lost, "the recording is not complete"),
            Err(error) => tracing::error!(%error, "the recording is not complete"),
        }
    }
}
