//! Records in one SQLite table, written ahead and synced in full.
//!
//! One connection writes, so that revisions are given in commit order; the row `meta.rev` is read and raised inside each write. All work
//! runs on the blocking pool.

mod dump;
mod lease;

use std::{
    fs, io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use rusqlite::{
    Connection, OptionalExtension as _, Row, Transaction, TransactionBehavior, ffi, params,
};
use tokio::sync::watch;

use super::{
    CommitError, Committed, Dump, Epoch, Kind, Lease, ListQuery, MetaStore, Op, Page, Record,
    StoreError, Txn, Weight,
    blob::{io_error, sync_dir},
    blocking, now,
};

/// Each brings the database from one layout to the next; the first makes it.
const MIGRATIONS: [&str; 2] = [
    "CREATE TABLE meta (one INTEGER PRIMARY KEY CHECK (one = 1), store_uid TEXT NOT NULL, rev INTEGER NOT NULL) STRICT;
    CREATE TABLE resources (
        kind TEXT NOT NULL,
        name TEXT NOT NULL,
        etag TEXT NOT NULL,
        rev INTEGER NOT NULL,
        created INTEGER NOT NULL,
        updated INTEGER NOT NULL,
        body BLOB NOT NULL,
        PRIMARY KEY (kind, name)
    ) STRICT, WITHOUT ROWID;",
    lease::TABLE,
];

/// A SQLite database of records.
#[derive(Debug)]
pub struct SqliteMeta {
    uid: String,
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    writer: Mutex<Connection>,
    reader: Mutex<Connection>,
    revision: watch::Sender<u64>,
    /// Something that was written could not be brought to the disk. Nothing is written any more before the process is started again: the system may
    /// have forgotten it, and would say of the next attempt that all is well.
    unsynced: AtomicBool,
}

impl SqliteMeta {
    /// Opens the database, makes it when it is absent, and checks it.
    ///
    /// # Errors
    /// When the file cannot be opened or written, is damaged, or was written by a newer version.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let failed =
            |doing| move |source| StoreError::Database { doing, path: path.to_owned(), source };
        let mut writer = connect(path).map_err(failed("open"))?;
        // The check comes first: migrations must not touch a damaged file.
        let verdict: String = writer
            .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
            .map_err(failed("check"))?;
        if verdict != "ok" {
            return Err(StoreError::Damaged { path: path.to_owned(), what: verdict });
        }
        let layout: i64 = writer
            .query_row("PRAGMA user_version", [], |row| row.get(0))
            .map_err(failed("read"))?;
        let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
        let Ok(done) = usize::try_from(layout) else {
            return Err(StoreError::Damaged {
                path: path.to_owned(),
                what: format!("its layout is {layout}"),
            });
        };
        if layout > known {
            return Err(StoreError::Layout { path: path.to_owned(), found: layout, known });
        }
        if (1..MIGRATIONS.len()).contains(&done) {
            keep(path, &writer, done)?;
        }
        migrate(&mut writer, done).map_err(failed("migrate"))?;
        let (uid, revision): (String, i64) = writer
            .query_row("SELECT store_uid, rev FROM meta", [], |row| Ok((row.get(0)?, row.get(1)?)))
            .map_err(failed("read"))?;
        // A write that changes nothing shows now, not at the first user's request, that the file can be written.
        writer.execute("UPDATE meta SET rev = rev", []).map_err(failed("write"))?;
        let reader = connect(path).map_err(failed("open"))?;
        reader.pragma_update(None, "query_only", true).map_err(failed("open"))?;
        let revision = watch::Sender::new(u64::try_from(revision).unwrap_or_default());
        let inner = Inner {
            path: path.to_owned(),
            writer: Mutex::new(writer),
            reader: Mutex::new(reader),
            revision,
            unsynced: AtomicBool::new(false),
        };
        Ok(Self { uid, inner: Arc::new(inner) })
    }
}

#[async_trait]
impl MetaStore for SqliteMeta {
    fn identity(&self) -> &str {
        &self.uid
    }

    async fn commit(&self, txn: Txn) -> Result<Committed, CommitError> {
        let inner = Arc::clone(&self.inner);
        blocking(move || inner.commit(&txn)).await?
    }

    async fn get(&self, kind: Kind, name: &str) -> Result<Option<Record>, StoreError> {
        let (inner, name) = (Arc::clone(&self.inner), name.to_owned());
        blocking(move || {
            let reader = inner.reader.lock().unwrap_or_else(PoisonError::into_inner);
            read(&reader, kind, &name).map_err(inner.failed("read"))
        })
        .await?
    }

    async fn list(&self, query: ListQuery) -> Result<Page, StoreError> {
        let inner = Arc::clone(&self.inner);
        blocking(move || {
            let mut reader = inner.reader.lock().unwrap_or_else(PoisonError::into_inner);
            list(&mut reader, &query).map_err(inner.failed("read"))
        })
        .await?
    }

    async fn weigh(&self, kind: Kind, prefix: &str) -> Result<Weight, StoreError> {
        let (inner, prefix) = (Arc::clone(&self.inner), prefix.to_owned());
        blocking(move || {
            let reader = inner.reader.lock().unwrap_or_else(PoisonError::into_inner);
            weigh(&reader, kind, &prefix).map_err(inner.failed("read"))
        })
        .await?
    }

    fn revision(&self) -> watch::Receiver<u64> {
        self.inner.revision.subscribe()
    }

    async fn refresh(&self) -> Result<u64, StoreError> {
        self.inner.check()?;
        // Only this process writes.
        Ok(*self.inner.revision.borrow())
    }

    async fn lease(
        &self,
        name: &str,
        holder: &str,
        ttl: Duration,
    ) -> Result<Option<Epoch>, StoreError> {
        let (name, holder) = (name.to_owned(), holder.to_owned());
        self.write(move |writer| lease::take(writer, &name, &holder, ttl)).await
    }

    async fn release(&self, name: &str, holder: &str) -> Result<(), StoreError> {
        let (name, holder) = (name.to_owned(), holder.to_owned());
        self.write(move |writer| lease::release(writer, &name, &holder)).await
    }

    async fn dump(&self) -> Result<Dump, StoreError> {
        let inner = Arc::clone(&self.inner);
        blocking(move || {
            let mut reader = inner.reader.lock().unwrap_or_else(PoisonError::into_inner);
            dump::read(&mut reader).map_err(inner.failed("read"))
        })
        .await?
    }

    async fn load(&self, dump: Dump) -> Result<(), StoreError> {
        let inner = Arc::clone(&self.inner);
        blocking(move || {
            let mut writer = inner.writer.lock().unwrap_or_else(PoisonError::into_inner);
            let loaded = dump::load(&mut writer, &dump).map_err(inner.failed("write"))?;
            let Some(revision) = loaded else {
                return Err(StoreError::NotEmpty(inner.path.display().to_string()));
            };
            inner.revision.send_replace(revision);
            Ok(())
        })
        .await?
    }

    async fn leased(&self, name: &str) -> Result<Lease, StoreError> {
        let name = name.to_owned();
        self.write(move |writer| lease::read(writer, &name)).await
    }
}

impl SqliteMeta {
    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let inner = Arc::clone(&self.inner);
        blocking(move || {
            let writer = inner.writer.lock().unwrap_or_else(PoisonError::into_inner);
            inner.check()?;
            work(&writer).map_err(inner.failed("write"))
        })
        .await?
    }
}

impl Inner {
    fn commit(&self, txn: &Txn) -> Result<Committed, CommitError> {
        // A panic while the lock was held rolled its transaction back, so the connection is sound.
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        self.check()?;
        let failed = |source| CommitError::Store(self.failed("write")(source));
        let tx =
            writer.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        let revision: i64 = tx
            .query_row("UPDATE meta SET rev = rev + 1 RETURNING rev", [], |row| row.get(0))
            .map_err(failed)?;
        let revision = u64::try_from(revision).unwrap_or_default();
        for guard in &txn.guards {
            guard.check(lease::read(&tx, &guard.lease).map_err(failed)?)?;
        }
        let (mut records, now) = (Vec::new(), now());
        for op in &txn.ops {
            let current = read(&tx, op.kind, &op.name).map_err(failed)?;
            op.check(current.as_ref())?;
            let written = op.written(current.as_ref(), revision, now);
            apply(&tx, op, written.as_ref()).map_err(failed)?;
            records.extend(written);
        }
        tx.commit().map_err(failed)?;
        // Still under the lock, so that the hint never goes backwards.
        self.revision.send_replace(revision);
        Ok(Committed { revision, records })
    }

    /// Whether anything may be written.
    fn check(&self) -> Result<(), StoreError> {
        if self.unsynced.load(Ordering::Relaxed) {
            return Err(StoreError::Unsynced { path: self.path.clone() });
        }
        Ok(())
    }

    fn failed(&self, doing: &'static str) -> impl FnOnce(rusqlite::Error) -> StoreError {
        move |source| {
            if is_sync(&source) {
                self.unsynced.store(true, Ordering::Relaxed);
            }
            StoreError::Database { doing, path: self.path.clone(), source }
        }
    }
}

/// Whether what was written could not be brought to the disk.
fn is_sync(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error().map(|error| error.extended_code);
    [ffi::SQLITE_IOERR_FSYNC, ffi::SQLITE_IOERR_DIR_FSYNC].map(Some).contains(&code)
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    if !path.exists() {
        // For its owner alone; SQLite gives the files beside it the same mode. What is wrong with the path SQLite says.
        drop(fs::File::options().create_new(true).append(true).mode(0o600).open(path));
    }
    let connection = Connection::open(path)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    Ok(connection)
}

/// Copies the database as it is before its layout is changed, for who goes back to the version before. A crash on the way leaves the old one in place.
fn keep(path: &Path, writer: &Connection, layout: usize) -> Result<(), StoreError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let copy = path.with_file_name(format!("{name}.layout-{layout}"));
    // What an attempt that was cut off has left.
    match fs::remove_file(&copy) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(io_error("remove", &copy)(error));
        }
        _ => {}
    }
    let copied = writer.execute("VACUUM INTO ?1", [copy.to_string_lossy()]);
    copied.map_err(|source| StoreError::Database {
        doing: "copy",
        path: path.to_owned(),
        source,
    })?;
    let synced = fs::File::open(&copy).and_then(|file| file.sync_all());
    synced.map_err(io_error("sync", &copy))?;
    copy.parent().map_or(Ok(()), sync_dir)?;
    tracing::info!(copy = %copy.display(), layout, "the database was copied before its layout is changed; remove the copy once you do not go back");
    Ok(())
}

fn migrate(writer: &mut Connection, done: usize) -> rusqlite::Result<()> {
    let tx = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for migration in MIGRATIONS.iter().skip(done) {
        tx.execute_batch(migration)?;
    }
    if done == 0 {
        tx.execute(
            "INSERT INTO meta (one, store_uid, rev) VALUES (1, ?1, 1)",
            [uuid::Uuid::new_v4().to_string()],
        )?;
    }
    tx.pragma_update(None, "user_version", i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX))?;
    tx.commit()
}

fn read(connection: &Connection, kind: Kind, name: &str) -> rusqlite::Result<Option<Record>> {
    connection
        .prepare_cached("SELECT name, etag, rev, created, updated, body FROM resources WHERE kind = ?1 AND name = ?2")?
        .query_row(params![kind.as_str(), name], record)
        .optional()
}

fn weigh(reader: &Connection, kind: Kind, prefix: &str) -> rusqlite::Result<Weight> {
    let number = |number: i64| u64::try_from(number).unwrap_or_default();
    reader
        .prepare_cached(
            "SELECT count(*), coalesce(sum(length(body)), 0) FROM resources
             WHERE kind = ?1 AND name >= ?2 AND name < ?2 || char(1114111)",
        )?
        .query_row(params![kind.as_str(), prefix], |row| {
            Ok(Weight { records: number(row.get(0)?), bytes: number(row.get(1)?) })
        })
}

fn list(reader: &mut Connection, query: &ListQuery) -> rusqlite::Result<Page> {
    // One read transaction, so that the revision belongs to the rows.
    let tx = reader.transaction()?;
    let revision: i64 = tx.query_row("SELECT rev FROM meta", [], |row| row.get(0))?;
    let wanted = query.limit.saturating_add(1);
    let mut records: Vec<Record> = tx
        .prepare_cached(
            "SELECT name, etag, rev, created, updated, body FROM resources
             WHERE kind = ?1 AND name >= ?2 AND name < ?2 || char(1114111) AND name > ?3 ORDER BY name LIMIT ?4",
        )?
        .query_map(
            params![query.kind.as_str(), query.prefix, query.after, i64::try_from(wanted).unwrap_or(i64::MAX)],
            record,
        )?
        .collect::<rusqlite::Result<_>>()?;
    let more = records.len() > query.limit;
    records.truncate(query.limit);
    Ok(Page { records, more, revision: u64::try_from(revision).unwrap_or_default() })
}

fn record(row: &Row<'_>) -> rusqlite::Result<Record> {
    Ok(Record {
        name: row.get(0)?,
        etag: row.get(1)?,
        revision: u64::try_from(row.get::<_, i64>(2)?).unwrap_or_default(),
        created: row.get(3)?,
        updated: row.get(4)?,
        body: row.get::<_, Vec<u8>>(5)?.into(),
    })
}

fn apply(tx: &Transaction<'_>, op: &Op, written: Option<&Record>) -> rusqlite::Result<()> {
    if let Some(written) = written {
        return write(tx, op.kind, written);
    }
    tx.prepare_cached("DELETE FROM resources WHERE kind = ?1 AND name = ?2")?
        .execute(params![op.kind.as_str(), op.name])?;
    Ok(())
}

fn write(tx: &Transaction<'_>, kind: Kind, record: &Record) -> rusqlite::Result<()> {
    let Record { name, etag, revision, created, updated, body } = record;
    let revision = i64::try_from(*revision).unwrap_or(i64::MAX);
    tx.prepare_cached(
        "INSERT INTO resources (kind, name, etag, rev, created, updated, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT (kind, name) DO UPDATE SET etag = ?3, rev = ?4, updated = ?6, body = ?7",
    )?
    .execute(params![kind.as_str(), name, etag, revision, created, updated, &body[..]])?;
    Ok(())
}

#[cfg(test)]
mod power;
#[cfg(test)]
mod tests;
