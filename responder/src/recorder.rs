//! Writes what went through to files that an import takes: one file for each start, rotated by size, or one file for each pair.
//!
//! A line is written whole or not at all, and what was written is on the disk when the recorder has ended. One thread writes; who records
//! waits for it, so that nothing is lost and memory stays bounded.

mod files;

use std::{
    collections::BTreeMap,
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
};

use countersign_engine::{
    dlp::{Redactor, Tally, strip::Stripper},
    recording::Exchange,
    snapshot::Direction,
};
use tokio::sync::mpsc;

use files::Files;
pub use files::Form;

/// Exchanges that wait to be written.
const WAITING: usize = 16;

/// What is recorded, and where.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The directory; it is made when it is missing.
    pub dir: PathBuf,
    /// How pairs are written.
    pub form: Form,
    /// A file of lines that has come to this size is followed by another.
    pub rotate: u64,
    /// The most of a body that is kept, in bytes.
    pub body: usize,
    /// Redacts before anything is written.
    pub redactor: Option<Redactor>,
    /// Takes the signatures out of all JWS.
    pub strip: bool,
    /// Which way the traffic goes.
    pub direction: Direction,
    /// What is recorded; the host when empty.
    pub service: String,
    /// Tags of every pair.
    pub tags: BTreeMap<String, String>,
}

impl Settings {
    /// Lines in this directory, as they are.
    #[must_use]
    pub fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            form: Form::JsonLines,
            rotate: 64 * 1024 * 1024,
            body: 10 * 1024 * 1024,
            redactor: None,
            strip: false,
            direction: Direction::Out,
            service: String::new(),
            tags: BTreeMap::new(),
        }
    }
}

/// Takes exchanges and writes them.
#[derive(Debug)]
pub(crate) struct Recorder {
    sender: mpsc::Sender<Exchange>,
    pub(crate) settings: Settings,
    counts: Arc<Counts>,
    sequence: AtomicU64,
}

#[derive(Debug, Default)]
struct Counts {
    written: AtomicU64,
    failed: AtomicU64,
}

/// The thread that writes; it ends when every recorder is gone.
#[derive(Debug)]
pub(crate) struct Writing {
    thread: JoinHandle<io::Result<()>>,
    counts: Arc<Counts>,
}

impl Recorder {
    /// Begins a recording.
    pub(crate) fn start(settings: Settings) -> io::Result<(Arc<Self>, Writing)> {
        let mut files = Files::begin(&settings)?;
        let (sender, mut exchanges) = mpsc::channel::<Exchange>(WAITING);
        let counts = Arc::new(Counts::default());
        let (own, redactor, strip) =
            (Arc::clone(&counts), settings.redactor.clone(), settings.strip);
        let write = move || {
            let stripper = Stripper::all();
            while let Some(exchange) = exchanges.blocking_recv() {
                let mut pair = exchange.into_pair();
                if strip {
                    stripper.strip(&mut pair);
                }
                if let Some(redactor) = &redactor {
                    redactor.redact_pair(&mut pair, &mut Tally::off());
                }
                match files.write(&pair) {
                    Ok(()) => drop(own.written.fetch_add(1, Ordering::Relaxed)),
                    Err(error) => {
                        own.failed.fetch_add(1, Ordering::Relaxed);
                        tracing::error!(%error, "a pair could not be written to the recording");
                    }
                }
            }
            files.finish()
        };
        let thread = thread::Builder::new().name("recorder".to_owned()).spawn(write)?;
        let sequence = AtomicU64::new(0);
        let recorder = Arc::new(Self { sender, settings, counts: Arc::clone(&counts), sequence });
        Ok((recorder, Writing { thread, counts }))
    }

    /// The number of the next exchange.
    pub(crate) fn next(&self) -> u64 {
        self.sequence.fetch_add(1, Ordering::Relaxed)
    }

    /// Takes an exchange to be written; waits when many others wait.
    pub(crate) async fn take(&self, exchange: Exchange) {
        if self.sender.send(exchange).await.is_err() {
            self.counts.failed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many pairs were written, and how many could not be.
    pub(crate) fn counts(&self) -> (u64, u64) {
        self.counts.get()
    }
}

impl Counts {
    fn get(&self) -> (u64, u64) {
        (self.written.load(Ordering::Relaxed), self.failed.load(Ordering::Relaxed))
    }
}

impl Writing {
    /// Waits until everything is on the disk; returns how many pairs were written, and how many could not be.
    pub(crate) fn finish(self) -> io::Result<(u64, u64)> {
        let ended = self
            .thread
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the recorder has a defect")));
        ended.map(|()| self.counts.get())
    }
}
