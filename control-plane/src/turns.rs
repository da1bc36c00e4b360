//! Turns at work that is heavy: so many at a time, and of one project fewer, so that whoever keeps the control plane busy does not keep it from the others.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

/// Imports and compilations of one project that run at the same time, and of all together.
pub(crate) const HEAVY: (usize, usize) = (2, 3);
/// Imports that read along with an upload at a time, of one project and of all together; others wait until theirs is there.
pub(crate) const FOLLOWING: (usize, usize) = (2, 4);
/// Pages of snapshots and previews that are made at a time, of one project and of all together.
pub(crate) const LOOKING: (usize, usize) = (4, 8);

/// Watches that are open at a time, each of which looks at the store whenever something changes.
pub(crate) const WATCHES: (usize, usize) = (256, 1024);
/// Subscriptions of responders: ten thousand of one project are promised.
pub(crate) const SUBSCRIPTIONS: (usize, usize) = (12 * 1024, 16 * 1024);

/// Turns that are shared by projects.
#[derive(Debug)]
pub(crate) struct Turns {
    /// How many of one project run at a time.
    each: usize,
    all: Arc<Semaphore>,
    projects: Mutex<HashMap<Box<str>, Arc<Semaphore>>>,
}

/// A turn, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    #[expect(dead_code, reason = "they end with their owner")]
    permits: [OwnedSemaphorePermit; 2],
}

impl Turns {
    /// `each` turns of one project at a time, and `all` together.
    pub(crate) fn new(each: usize, all: usize) -> Self {
        Self { each, all: Arc::new(Semaphore::new(all)), projects: Mutex::default() }
    }

    /// Waits for a turn. Projects take their turns in the order in which they ask: of each, no more wait in the common queue than may run.
    pub(crate) async fn take(&self, project: &str) -> Result<Turn, AcquireError> {
        self.take_many(project, 1).await
    }

    /// Waits for so many turns together.
    pub(crate) async fn take_many(&self, project: &str, many: u32) -> Result<Turn, AcquireError> {
        let own = self.of(project).acquire_many_owned(many).await?;
        let common = Arc::clone(&self.all).acquire_many_owned(many).await?;
        Ok(Turn { permits: [own, common] })
    }

    /// So many turns together, if they are free.
    pub(crate) fn try_many(&self, project: &str, many: u32) -> Option<Turn> {
        let own = self.of(project).try_acquire_many_owned(many).ok()?;
        let common = Arc::clone(&self.all).try_acquire_many_owned(many).ok()?;
        Some(Turn { permits: [own, common] })
    }

    fn of(&self, project: &str) -> Arc<Semaphore> {
        let mut projects = self.projects.lock().unwrap_or_else(PoisonError::into_inner);
        // Each turn, and whoever waits for one, holds on to its project's.
        projects.retain(|_, turns| Arc::strong_count(turns) > 1);
        let own = projects.entry(project.into());
        Arc::clone(own.or_insert_with(|| Arc::new(Semaphore::new(self.each))))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_busy_project_leaves_a_turn_to_the_others() {
        let turns = Turns::new(2, 3);
        let take = |project: &'static str| turns.take(project).now_or_never();
        let busy = [take("a").unwrap().unwrap(), take("a").unwrap().unwrap()];
        assert!(take("a").is_none());
        let other = take("b").unwrap().unwrap();
        assert!(take("b").is_none());
        let mut waiting = Box::pin(turns.take("c"));
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(busy);
        // Who has waited comes before who asks now.
        assert!(waiting.as_mut().now_or_never().is_some());
        drop(other);
        assert!(take("a").is_some());
    }

    #[tokio::test]
    async fn projects_that_want_nothing_are_forgotten() {
        let turns = Turns::new(2, 3);
        let kept = turns.take("kept").await.unwrap();
        for nth in 0..100 {
            drop(turns.take(&format!("p{nth}")).await.unwrap());
        }
        assert!(turns.projects.lock().unwrap().len() <= 2);
        drop(kept);
    }
}
