//! Hears of changes of replays at the control plane, one stream for each, and has them looked at.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::StreamExt as _;
use kube::runtime::reflector::ObjectRef;
use tokio::{sync::mpsc, task::JoinHandle, time::sleep};

use crate::{crd::TrafficReplay, plane::Plane};

/// So many changes may wait to be looked at.
const WAITING: usize = 256;
/// After a stream has broken.
const PAUSE: Duration = Duration::from_secs(2);

/// What changed, in the order in which it did.
pub type Changes = mpsc::Receiver<ObjectRef<TrafficReplay>>;

/// The streams.
#[derive(Debug)]
pub struct Watches {
    streams: Mutex<HashMap<(String, String), (String, Stream)>>,
    changes: mpsc::Sender<ObjectRef<TrafficReplay>>,
}

/// A task that ends when nobody holds it any more.
#[derive(Debug)]
struct Stream(JoinHandle<()>);

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Watches {
    /// No streams yet, and where their changes come out.
    #[must_use]
    pub fn new() -> (Self, Changes) {
        let (changes, told) = mpsc::channel(WAITING);
        (Self { streams: Mutex::default(), changes }, told)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(String, String), (String, Stream)>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hears of a replay from now on, and of the one before no more.
    pub fn watch(&self, plane: &Plane, namespace: &str, name: &str, id: &str) {
        let mut streams = self.lock();
        let key = (namespace.to_owned(), name.to_owned());
        if streams.get(&key).is_some_and(|(known, stream)| known == id && !stream.0.is_finished()) {
            return;
        }
        let replay = ObjectRef::new(name).within(namespace);
        let task = listen(plane.clone(), id.to_owned(), replay, self.changes.clone());
        streams.insert(key, (id.to_owned(), Stream(tokio::spawn(task))));
    }

    /// Hears of it no more.
    pub fn forget(&self, namespace: &str, name: &str) {
        self.lock().remove(&(namespace.to_owned(), name.to_owned()));
    }
}

async fn listen(
    plane: Plane,
    id: String,
    replay: ObjectRef<TrafficReplay>,
    changes: mpsc::Sender<ObjectRef<TrafficReplay>>,
) {
    loop {
        match plane.watch(&id).await {
            Ok(stream) => {
                let mut stream = std::pin::pin!(stream);
                while stream.next().await.is_some() {
                    if changes.send(replay.clone()).await.is_err() {
                        return;
                    }
                }
            }
            Err(error) => tracing::debug!(id, %error, "the replay cannot be watched"),
        }
        sleep(PAUSE).await;
    }
}
