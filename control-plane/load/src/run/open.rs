//! An open loop: each request has its moment, and goes to a user who is free.
//!
//! Whoever became free last goes on first, so that as few sessions are under way as the rate needs. Where nobody is free and no further user
//! may come, requests are late, and their wait is part of their response time.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Instant,
};

use tokio::{
    sync::{Notify, oneshot},
    task::JoinSet,
};

use super::{Shared, drive::Worker, wait};
use crate::schedule::Curve;

/// Where users wait for their next request.
#[derive(Debug, Default)]
pub(super) struct Desk {
    idle: RefCell<Vec<oneshot::Sender<Instant>>>,
    /// Somebody has come, or has gone.
    changed: Notify,
    /// Users that have a session.
    active: Cell<usize>,
    /// There is no further session.
    exhausted: Cell<bool>,
}

impl Desk {
    /// Waits until a request is due; when that was, or `None` when no more will be.
    pub(super) async fn turn(&self, shared: &Shared) -> Option<Instant> {
        let (sender, moment) = oneshot::channel();
        self.idle.borrow_mut().push(sender);
        self.changed.notify_one();
        tokio::select! {
            biased;
            () = shared.ended.cancelled() => None,
            moment = moment => moment.ok(),
        }
    }

    /// A user has no session any more; `none_left` when there was none to begin.
    fn leave(&self, none_left: bool) {
        self.active.set(self.active.get().saturating_sub(1));
        self.exhausted.set(self.exhausted.get() || none_left);
        self.changed.notify_one();
    }

    /// Forgets who waits, so that they end.
    fn close(&self) {
        self.idle.borrow_mut().clear();
    }
}

/// Hands out this thread's requests, each at its moment, to at most so many users.
pub(super) async fn dispatch(
    users: &mut JoinSet<()>,
    worker: &Rc<Worker>,
    rate: &Curve,
    most: usize,
) {
    let (shared, desk) = (&worker.shared, &worker.desk);
    while let Some(at) = rate.moment(shared.ticket()) {
        let moment = shared.begin + at;
        if !wait::until(shared, moment).await {
            break;
        }
        loop {
            let free = desk.idle.borrow_mut().pop();
            if let Some(user) = free {
                // Whoever has gone meanwhile takes nothing.
                if user.send(moment).is_ok() {
                    break;
                }
                continue;
            }
            if desk.exhausted.get() && desk.active.get() == 0 {
                return;
            }
            if !desk.exhausted.get() && desk.active.get() < most {
                desk.active.set(desk.active.get() + 1);
                while users.try_join_next().is_some() {}
                let worker = Rc::clone(worker);
                users.spawn_local(async move {
                    let none_left = worker.sessions().await;
                    worker.desk.leave(none_left);
                });
            }
            tokio::select! {
                biased;
                () = shared.ended.cancelled() => return desk.close(),
                () = desk.changed.notified() => {}
            }
        }
    }
    desk.close();
}
