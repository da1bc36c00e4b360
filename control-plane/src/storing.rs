//! Storing blobs that a later commit names, while another control plane may be removing blobs that nothing names.
//!
//! Whoever removes holds a lease. Whoever stores looks at it first, and commits on the condition that it is as it was: then nothing was removed
//! in between. Otherwise what the commit names is looked for once more, when the removal is over, and the commit comes after that.

use std::time::Duration;

use tokio::time::{Instant, interval};

use crate::{
    content::{self, ContentError, Root},
    service::{Plane, Problem},
    store::{CommitError, Committed, Guard, Lease, Txn},
};

/// The lease of whoever removes blobs.
pub(crate) const SWEEP: &str = "sweep";

/// A commit waits so long until a removal is over.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it looks.
const LOOK: Duration = Duration::from_millis(200);

/// How the lease stood before the first blob was stored.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Storing {
    before: Lease,
}

impl Plane {
    /// Says that blobs are going to be stored.
    pub(crate) async fn storing(&self) -> Result<Storing, Problem> {
        Ok(Storing { before: self.meta.leased(SWEEP).await? })
    }

    /// Commits what names blobs that were stored since.
    pub(crate) async fn commit_stored(
        &self,
        storing: Storing,
        txn: Txn,
        root: Root,
    ) -> Result<Committed, Problem> {
        let end = Instant::now() + PATIENCE;
        let mut lease = storing.before;
        let mut sure = !lease.held;
        loop {
            if lease.held {
                lease = self.quiet(end).await?;
                sure = false;
            }
            if !sure {
                self.look_for(root.clone()).await?;
            }
            let guard = Guard { lease: SWEEP.to_owned(), epoch: lease.epoch, held: false };
            match self.meta.commit(txn.clone().guarded(guard)).await {
                Err(CommitError::Fenced { .. }) => {
                    lease = self.meta.leased(SWEEP).await?;
                    sure = false;
                }
                done => return Ok(done?),
            }
        }
    }

    /// Waits until nobody removes blobs.
    async fn quiet(&self, end: Instant) -> Result<Lease, Problem> {
        let mut looks = interval(LOOK);
        loop {
            looks.tick().await;
            let lease = self.meta.leased(SWEEP).await?;
            if !lease.held {
                return Ok(lease);
            }
            if Instant::now() >= end {
                let message = "blobs that nothing names are being removed; try again".to_owned();
                return Err(Problem::Unavailable { reason: "SWEEPING", message });
            }
        }
    }

    async fn look_for(&self, root: Root) -> Result<(), Problem> {
        let missing = match content::named(&*self.blobs, root).await {
            Ok(named) => {
                let named: Vec<_> = named.into_iter().collect();
                self.blobs.missing(&named).await?.len()
            }
            Err(ContentError::Missing { .. }) => 1,
            Err(error) => return Err(error.into()),
        };
        if missing == 0 {
            return Ok(());
        }
        let message = format!("{missing} blobs were removed before they were named; try again");
        Err(Problem::Unavailable { reason: "BLOBS_REMOVED", message })
    }
}
