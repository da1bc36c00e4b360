//! Log lines that nobody waits for: a thread writes them, and when that cannot keep up, for its pipe is full, lines are dropped and counted.
//!
//! A panic is told the same way, by its place alone: what it says may hold what belongs into no log.

use std::{
    io, panic,
    sync::{
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

static DROPPED: AtomicU64 = AtomicU64::new(0);
static PANICS: AtomicU64 = AtomicU64::new(0);

/// Lines on their way to standard error.
#[derive(Debug)]
pub struct Lines(SyncSender<Item>);

/// Takes the text of one line at a time.
#[derive(Debug)]
pub struct Writer(SyncSender<Item>);

#[derive(Debug)]
enum Item {
    Line(Vec<u8>),
    /// Everything before it was written.
    Mark(SyncSender<()>),
}

/// How many lines were dropped so far.
pub(crate) fn dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

/// How many panics there were so far.
pub(crate) fn panics() -> u64 {
    PANICS.load(Ordering::Relaxed)
}

/// Starts to write lines to standard error, of which so many may wait, and has panics told as lines.
#[must_use]
pub fn start(most: usize) -> Lines {
    let (sender, items) = sync_channel(most);
    let writing = thread::Builder::new().name("log".to_owned());
    // Without a thread all lines are dropped and counted; there is nobody to tell.
    drop(writing.spawn(move || write(&items, &mut io::stderr())));
    panic::set_hook(Box::new(|info| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        let place = info.location().map(ToString::to_string);
        tracing::error!(place = place.as_deref().unwrap_or_default(), "a thread panicked");
    }));
    Lines(sender)
}

impl Lines {
    /// What makes a writer for each line.
    pub fn writer(&self) -> impl Fn() -> Writer + Send + Sync + 'static {
        let sender = self.0.clone();
        move || Writer(sender.clone())
    }

    /// Waits until everything is written, but not longer than this.
    pub fn flush(&self, limit: Duration) {
        let (mark, written) = sync_channel(1);
        if self.0.try_send(Item::Mark(mark)).is_ok() {
            // Nobody reads what is left when it takes longer.
            let _late = written.recv_timeout(limit);
        }
    }
}

impl io::Write for Writer {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.0.try_send(Item::Line(line.to_vec())).is_err() {
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes what comes; when lines were dropped meanwhile, that is told, too.
fn write(items: &Receiver<Item>, out: &mut impl io::Write) {
    let mut told = dropped();
    for item in items {
        match item {
            // A pipe that was closed takes nothing any more.
            Item::Line(line) => drop(out.write_all(&line)),
            Item::Mark(written) => drop(written.try_send(())),
        }
        let now = dropped();
        if now > told {
            drop(writeln!(out, "{} log lines were dropped", now - told));
            told = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn lines_that_find_no_room_are_dropped_and_told() {
        let (sender, items) = sync_channel(2);
        let before = dropped();
        for line in ["one\n", "two\n", "three\n"] {
            Writer(sender.clone()).write_all(line.as_bytes()).unwrap();
        }
        assert_eq!(dropped() - before, 1);
        let (mark, written) = sync_channel(1);
        let mut out = Vec::new();
        drop(sender);
        DROPPED.fetch_sub(1, Ordering::Relaxed);
        write(&items, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), "one\ntwo\n");
        let (sender, items) = sync_channel(1);
        sender.send(Item::Mark(mark)).unwrap();
        drop(sender);
        write(&items, &mut Vec::new());
        assert!(written.try_recv().is_ok());
    }
}
