//! Something that is waited for beside work that goes on all the time, such as the end of a process beside a connection.
//!
//! A task that waits for two things is polled for either of them, and asking the one that never happens again and again costs locks. Here
//! it is asked only when it was the one that woke the task.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

/// What the work came to, or what happened before it was done.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum First<W, E> {
    Done(W),
    Happened(E),
}

/// Does work until it is done or something happens. The work stays the caller's, who may go on with it.
pub(crate) async fn until<W, E>(
    event: impl Future<Output = E>,
    mut work: Pin<&mut impl Future<Output = W>>,
) -> First<W, E> {
    let mut event = pin!(event);
    let mut bell: Option<(Arc<Bell>, Waker)> = None;
    poll_fn(|context| {
        if let Poll::Ready(done) = work.as_mut().poll(context) {
            return Poll::Ready(First::Done(done));
        }
        bell.take_if(|(bell, _)| !bell.task.will_wake(context.waker()));
        let (bell, waker) = bell.get_or_insert_with(|| {
            let bell = Arc::new(Bell::of(context.waker()));
            (Arc::clone(&bell), Waker::from(bell))
        });
        if bell.rung.load(Ordering::Relaxed) && bell.rung.swap(false, Ordering::Acquire) {
            return event.as_mut().poll(&mut Context::from_waker(waker)).map(First::Happened);
        }
        Poll::Pending
    })
    .await
}

/// Wakes a task and tells it by whom it was woken.
#[derive(Debug)]
struct Bell {
    rung: AtomicBool,
    task: Waker,
}

impl Bell {
    /// One that has rung, so that the first question is asked.
    fn of(task: &Waker) -> Self {
        Self { rung: AtomicBool::new(true), task: task.clone() }
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        self.task.wake_by_ref();
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, rc::Rc};

    use tokio::sync::Notify;

    use super::*;

    /// Counts how often a future is polled.
    async fn counted<F: Future>(future: F, polls: Rc<Cell<usize>>) -> F::Output {
        let mut future = pin!(future);
        poll_fn(|context| {
            polls.set(polls.get() + 1);
            future.as_mut().poll(context)
        })
        .await
    }

    async fn yields(times: usize) {
        for _ in 0..times {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn an_event_that_does_not_happen_is_asked_once() {
        let polls = Rc::new(Cell::new(0));
        let event = counted(std::future::pending::<()>(), Rc::clone(&polls));
        assert_eq!(until(event, pin!(yields(100))).await, First::Done(()));
        assert_eq!(polls.get(), 1);
    }

    #[tokio::test]
    async fn an_event_ends_the_wait_and_the_work_can_go_on() {
        let (happens, goes_on) = (Notify::new(), Notify::new());
        let mut work = pin!(async {
            happens.notify_one();
            goes_on.notified().await;
            7
        });
        assert_eq!(until(happens.notified(), work.as_mut()).await, First::Happened(()));
        goes_on.notify_one();
        assert_eq!(work.await, 7);
    }

    #[tokio::test]
    async fn an_event_that_has_happened_is_seen_at_once() {
        let first = until(std::future::ready(1), pin!(std::future::pending::<()>())).await;
        assert_eq!(first, First::Happened(1));
    }

    #[tokio::test]
    async fn a_task_that_is_moved_to_another_waker_is_still_woken() {
        let happens = Arc::new(Notify::new());
        let mut waiting = Box::pin({
            let happens = Arc::clone(&happens);
            async move { until(happens.notified(), pin!(std::future::pending::<()>())).await }
        });
        let polled = waiting.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(polled.is_pending());
        let waiting = tokio::task::spawn(waiting);
        yields(3).await;
        happens.notify_one();
        assert_eq!(waiting.await.unwrap(), First::Happened(()));
    }
}
