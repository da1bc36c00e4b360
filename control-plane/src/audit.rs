//! The audit log: who changed what, and who was refused. One JSON object a line.
//!
//! A line is one write to a file that is opened for appending, before the caller has the end of the answer; once a second what was written is brought to the
//! disk. So a process that is killed loses nothing, and a machine without power the last second. No body and no token is ever in it.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    net::IpAddr,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use serde::Serialize;
use tokio::time::MissedTickBehavior;
use tonic::Code;

use crate::{auth::rights::Principal, code::name};

/// How often what was written is brought to the disk.
const SYNC: Duration = Duration::from_secs(1);
/// So many refusals of strangers are listed a second; the others are counted.
const STRANGERS: u32 = 50;
/// The longest text of a caller's that is listed.
const MAX_TEXT: usize = 256;

/// What is listed of a call.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Entry {
    /// When it ended.
    time: String,
    /// Who called.
    who: Box<str>,
    /// How that is known.
    by: &'static str,
    /// From where, if the listener says.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<IpAddr>,
    /// The id of the project.
    #[serde(skip_serializing_if = "str::is_empty")]
    project: Box<str>,
    /// `/{service}/{method}`.
    method: Box<str>,
    /// What it is about.
    #[serde(skip_serializing_if = "str::is_empty")]
    resource: Box<str>,
    /// The code that it ended with, as gRPC names it.
    outcome: &'static str,
    /// Whether the caller was refused, rather than mistaken.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    refused: bool,
    /// Refusals of strangers before this one that are not listed.
    #[serde(skip_serializing_if = "is_zero")]
    unlisted: u32,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl Entry {
    pub(crate) fn new(who: Option<&Principal>, from: Option<IpAddr>, method: &str) -> Self {
        Self {
            time: String::new(),
            who: who.map_or_else(|| "nobody".into(), |who| shown(&who.name)),
            by: who.map_or("none", |who| who.means.as_str()),
            from,
            project: "".into(),
            method: shown(method),
            resource: "".into(),
            outcome: "",
            refused: false,
            unlisted: 0,
        }
    }

    /// What it is about.
    pub(crate) fn about(&mut self, project: &str, resource: &str) {
        (self.project, self.resource) = (shown(project), shown(resource));
    }

    /// The caller may not do it.
    pub(crate) fn refuse(&mut self) {
        self.refused = true;
    }

    /// Whether the caller was refused.
    pub(crate) fn is_refused(&self) -> bool {
        self.refused
    }
}

/// What somebody else wrote, as far as it is listed.
fn shown(text: &str) -> Box<str> {
    text.chars().filter(|c| !c.is_control()).take(MAX_TEXT).collect::<String>().into()
}

/// Where entries go.
#[derive(Debug, Clone, Default)]
pub(crate) struct Audit(Option<Arc<Log>>, Arc<Mutex<Strangers>>);

#[derive(Debug)]
struct Log {
    path: PathBuf,
    written: Mutex<Written>,
}

#[derive(Debug)]
struct Written {
    file: File,
    /// Whether lines have come since they were brought to the disk.
    is_new: bool,
    failed: bool,
}

/// Bounds what strangers can make us write.
#[derive(Debug, Default)]
struct Strangers {
    since: Option<Instant>,
    listed: u32,
    unlisted: u32,
}

impl Audit {
    /// Opens the file, which is made for its owner only; without one, entries go to the process's log under the target `audit`.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub(crate) fn open(path: Option<&Path>) -> io::Result<Self> {
        let log = |path: &Path| {
            let written = Written { file: append(path)?, is_new: false, failed: false };
            Ok::<_, io::Error>(Log { path: path.to_owned(), written: Mutex::new(written) })
        };
        Ok(Self(path.map(log).transpose()?.map(Arc::new), Arc::default()))
    }

    /// Counts a refusal of a stranger that is not listed.
    pub(crate) fn pass_over(&self) {
        let mut strangers = self.1.lock().unwrap_or_else(PoisonError::into_inner);
        strangers.unlisted = strangers.unlisted.saturating_add(1);
    }

    /// Lists a call that has ended.
    pub(crate) fn list(&self, mut entry: Entry, code: Code) {
        if entry.by == "none" && !self.counted(&mut entry) {
            return;
        }
        entry.time = Timestamp::now().to_string();
        entry.outcome = name(code);
        let Some(log) = &self.0 else {
            let Entry { who, by, project, method, resource, outcome, refused, .. } = &entry;
            tracing::info!(target: "audit", who, by, from = ?entry.from, project, method, resource, outcome, refused, "call");
            return;
        };
        let Ok(mut line) = serde_json::to_vec(&entry) else { return };
        line.push(b'\n');
        log.write(&line);
    }

    /// Whether a stranger's call is listed.
    fn counted(&self, entry: &mut Entry) -> bool {
        let mut strangers = self.1.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if strangers.since.is_none_or(|since| now.saturating_duration_since(since) >= SYNC) {
            (strangers.since, strangers.listed) = (Some(now), 0);
        }
        if strangers.listed >= STRANGERS {
            strangers.unlisted = strangers.unlisted.saturating_add(1);
            return false;
        }
        strangers.listed += 1;
        entry.unlisted = std::mem::take(&mut strangers.unlisted);
        true
    }

    /// Brings lines to the disk, for ever, and opens the file anew when another one took its name.
    pub(crate) async fn run(self) {
        let Some(log) = self.0 else { return };
        let mut ticks = tokio::time::interval(SYNC);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let log = Arc::clone(&log);
            // That the runtime ends is no failure.
            drop(tokio::task::spawn_blocking(move || log.sync()).await);
        }
    }

    /// Brings the last lines to the disk.
    pub(crate) fn finish(&self) {
        if let Some(log) = &self.0 {
            log.sync();
        }
    }
}

impl Log {
    fn write(&self, line: &[u8]) {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let done = written.file.write_all(line);
        written.is_new = true;
        self.tell(&mut written, done);
    }

    fn sync(&self) {
        let moved = || {
            let named = fs::metadata(&self.path).ok()?;
            let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
            let ours = written.file.metadata().ok()?;
            let is_new = std::mem::take(&mut written.is_new);
            let file = is_new.then(|| written.file.try_clone().ok()).flatten();
            Some((file, (named.dev(), named.ino()) != (ours.dev(), ours.ino())))
        };
        let (file, moved) = moved().unwrap_or((None, true));
        // Without the lock, so that calls do not wait for the disk.
        let mut done = file.map_or(Ok(()), |file| file.sync_data());
        let anew = moved.then(|| append(&self.path));
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        match anew {
            Some(Ok(file)) => written.file = file,
            Some(Err(error)) => done = Err(error),
            None => {}
        }
        self.tell(&mut written, done);
    }

    /// Tells once when lines are lost, and once when they are no more.
    fn tell(&self, written: &mut Written, done: io::Result<()>) {
        match done {
            Err(error) if !written.failed => {
                written.failed = true;
                tracing::error!(%error, path = %self.path.display(), "the audit log cannot be written");
            }
            Ok(()) if std::mem::take(&mut written.failed) => {
                tracing::info!(path = %self.path.display(), "the audit log is written again");
            }
            _ => {}
        }
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn lines(path: &Path) -> Vec<Value> {
        let text = fs::read_to_string(path).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn a_call_is_one_line_whatever_its_caller_wrote() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit");
        let audit = Audit::open(Some(&path)).unwrap();
        let mut entry = Entry::new(Some(&Principal::open()), None, "/a/B");
        entry.about("shop", &format!("x\n\u{1b}[31m{}", "y".repeat(1000)));
        audit.list(entry, Code::AlreadyExists);
        let [line] = &lines(&path)[..] else { panic!() };
        assert_eq!((&line["who"], &line["by"]), (&"anybody".into(), &"open".into()));
        assert_eq!(
            (&line["outcome"], &line["project"]),
            (&"ALREADY_EXISTS".into(), &"shop".into())
        );
        let resource = line["resource"].as_str().unwrap();
        assert!(resource.len() == MAX_TEXT && !resource.contains(['\n', '\u{1b}']), "{resource}");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_file_that_was_moved_away_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let (path, old) = (dir.path().join("audit"), dir.path().join("audit.1"));
        let audit = Audit::open(Some(&path)).unwrap();
        let list = || audit.list(Entry::new(Some(&Principal::open()), None, "/a/B"), Code::Ok);
        list();
        fs::rename(&path, &old).unwrap();
        list();
        assert_eq!(lines(&old).len(), 2);
        audit.finish();
        list();
        assert_eq!((lines(&old).len(), lines(&path).len()), (2, 1));
    }

    #[test]
    fn what_is_not_listed_is_told_with_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit");
        let audit = Audit::open(Some(&path)).unwrap();
        audit.pass_over();
        audit.pass_over();
        audit.list(Entry::new(None, None, "/a/B"), Code::Unauthenticated);
        assert_eq!(lines(&path)[0]["unlisted"].as_u64(), Some(2));
    }

    #[test]
    fn strangers_do_not_fill_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit");
        let audit = Audit::open(Some(&path)).unwrap();
        for _ in 0..STRANGERS + 7 {
            audit.list(Entry::new(None, None, "/a/B"), Code::Unauthenticated);
        }
        let listed = u32::try_from(lines(&path).len()).unwrap();
        assert!(listed >= STRANGERS, "{listed}");
        let left = audit.1.lock().unwrap().unlisted;
        let told: u64 = lines(&path).iter().filter_map(|line| line["unlisted"].as_u64()).sum();
        assert_eq!(u64::from(listed) + u64::from(left) + told, u64::from(STRANGERS) + 7);
    }
}
