//! Records in PostgreSQL, for several control planes at a time.
//!
//! Each write transaction first raises `meta.rev`. The lock of that row makes the order of revisions the order of commits, so that whoever has
//! seen a revision has missed none before it. When the connection breaks in a commit, nobody knows whether it happened: the answer is an
//! error that says so, never an acknowledgement.

mod follow;
mod lease;
mod migrate;
mod pool;
mod roster;
mod server;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
};
use tokio_postgres::{
    Error, Row, Transaction,
    types::{ToSql, Type},
};
use tokio_util::sync::CancellationToken;

use self::{
    pool::{Lent, Pool},
    server::Server,
};
use super::{
    CommitError, Committed, Dump, Epoch, Kind, Lease, ListQuery, MetaStore, Op, Page, Record,
    Roster, StoreError, Txn, Weight,
};

/// A PostgreSQL database of records.
#[derive(Debug)]
pub struct PgMeta {
    shared: Arc<Shared>,
    tasks: [JoinHandle<()>; 2],
}

#[derive(Debug)]
struct Shared {
    uid: String,
    pool: Pool,
    revision: watch::Sender<u64>,
    hint: Notify,
    reported: watch::Sender<u64>,
    replaced: CancellationToken,
}

impl PgMeta {
    /// Connects, makes or migrates the tables, and follows what others commit.
    ///
    /// # Errors
    /// When the URL is of no use, the server does not answer or refuses, or its tables are of a newer version.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        let server = Server::parse(url)?;
        let pool = Pool::new(server);
        let (uid, revision) = migrate::run(&pool).await?;
        let shared = Arc::new(Shared {
            uid,
            pool,
            revision: watch::Sender::new(revision),
            hint: Notify::new(),
            reported: watch::Sender::new(0),
            replaced: CancellationToken::new(),
        });
        let tasks = [
            tokio::spawn(follow::poll(Arc::clone(&shared))),
            tokio::spawn(follow::listen(Arc::clone(&shared))),
        ];
        Ok(Self { shared, tasks })
    }
}

impl Drop for PgMeta {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

type Values<'v> = &'v [(&'v (dyn ToSql + Sync), Type)];

#[async_trait]
impl MetaStore for PgMeta {
    fn identity(&self) -> &str {
        &self.shared.uid
    }

    async fn commit(&self, txn: Txn) -> Result<Committed, CommitError> {
        let mut client = self.shared.pool.get().await?;
        let committed = self.shared.commit(&mut client, &txn).await;
        // A refusal is an answer too, and its rollback is on its way.
        if !matches!(&committed, Err(CommitError::Store(_))) {
            client.sound();
        }
        committed
    }

    async fn get(&self, kind: Kind, name: &str) -> Result<Option<Record>, StoreError> {
        let sql = "SELECT name, etag, rev, created, updated, body FROM resources WHERE kind = $1 AND name = $2";
        let values: Values<'_> = &[(&kind.as_str(), Type::TEXT), (&name, Type::TEXT)];
        let rows = self.shared.rows(sql, values).await?;
        Ok(rows.first().map(|row| record(row, 0)))
    }

    async fn list(&self, query: ListQuery) -> Result<Page, StoreError> {
        // One statement, so that the revision belongs to the rows.
        let sql = "SELECT m.rev, r.* FROM meta m LEFT JOIN LATERAL (
                 SELECT name, etag, rev, created, updated, body FROM resources
                 WHERE kind = $1 AND name >= $2 AND name < $2 || chr(1114111) AND name > $3 ORDER BY name LIMIT $4
             ) r ON true ORDER BY r.name";
        let limit = i64::try_from(query.limit.saturating_add(1)).unwrap_or(i64::MAX);
        let values: Values<'_> = &[
            (&query.kind.as_str(), Type::TEXT),
            (&query.prefix, Type::TEXT),
            (&query.after, Type::TEXT),
            (&limit, Type::INT8),
        ];
        let rows = self.shared.rows(sql, values).await?;
        let revision = rows.first().map_or(0, |row| revision(row.get(0)));
        let found = rows.iter().filter(|row| row.get::<_, Option<&str>>(1).is_some());
        let mut records: Vec<Record> = found.map(|row| record(row, 1)).collect();
        let more = records.len() > query.limit;
        records.truncate(query.limit);
        Ok(Page { records, more, revision })
    }

    async fn weigh(&self, kind: Kind, prefix: &str) -> Result<Weight, StoreError> {
        let sql = "SELECT count(*), coalesce(sum(length(body)), 0)::int8 FROM resources
             WHERE kind = $1 AND name >= $2 AND name < $2 || chr(1114111)";
        let values: Values<'_> = &[(&kind.as_str(), Type::TEXT), (&prefix, Type::TEXT)];
        let rows = self.shared.rows(sql, values).await?;
        let number = |row: &Row, at| u64::try_from(row.get::<_, i64>(at)).unwrap_or_default();
        Ok(rows.first().map_or_else(Weight::default, |row| Weight {
            records: number(row, 0),
            bytes: number(row, 1),
        }))
    }

    fn revision(&self) -> watch::Receiver<u64> {
        self.shared.revision.subscribe()
    }

    async fn refresh(&self) -> Result<u64, StoreError> {
        self.shared.look().await
    }

    async fn lease(
        &self,
        name: &str,
        holder: &str,
        ttl: Duration,
    ) -> Result<Option<Epoch>, StoreError> {
        let client = self.shared.pool.get().await?;
        let taken = lease::take(&*client, name, holder, ttl);
        let taken = self.shared.pool.server().bounded("take a lease", taken).await?;
        client.sound();
        Ok(taken)
    }

    async fn release(&self, name: &str, holder: &str) -> Result<(), StoreError> {
        let client = self.shared.pool.get().await?;
        let released = lease::release(&*client, name, holder);
        self.shared.pool.server().bounded("release a lease", released).await?;
        client.sound();
        Ok(())
    }

    fn roster(&self) -> Option<&dyn Roster> {
        Some(self)
    }

    fn replaced(&self) -> CancellationToken {
        self.shared.replaced.clone()
    }

    async fn dump(&self) -> Result<Dump, StoreError> {
        // One statement, so that everything is of one revision.
        let sql = "SELECT m.rev, r.kind, r.name, r.etag, r.rev, r.created, r.updated, r.body
             FROM meta m LEFT JOIN resources r ON true ORDER BY r.kind, r.name";
        let rows = self.shared.rows(sql, &[]).await?;
        let kind = |row: &Row| row.get::<_, Option<&str>>(1).and_then(Kind::parse);
        let records = rows.iter().filter_map(|row| Some((kind(row)?, record(row, 2)))).collect();
        Ok(Dump { revision: rows.first().map_or(0, |row| revision(row.get(0))), records })
    }

    async fn load(&self, dump: Dump) -> Result<(), StoreError> {
        let mut client = self.shared.pool.get().await?;
        self.shared.load(&mut client, dump).await?;
        client.sound();
        Ok(())
    }

    async fn leased(&self, name: &str) -> Result<Lease, StoreError> {
        let client = self.shared.pool.get().await?;
        let lease = lease::read(&*client, name);
        let lease = self.shared.pool.server().bounded("read a lease", lease).await?;
        client.sound();
        Ok(lease)
    }
}

impl Shared {
    async fn rows(&self, sql: &str, values: Values<'_>) -> Result<Vec<Row>, StoreError> {
        let client = self.pool.get().await?;
        let rows = self.pool.server().bounded("read", client.query_typed(sql, values)).await?;
        client.sound();
        Ok(rows)
    }

    /// Asks for the revision, and makes it known.
    async fn look(&self) -> Result<u64, StoreError> {
        let known = *self.revision.borrow();
        let rows = self.rows("SELECT store_uid, rev FROM meta", &[]).await?;
        let (uid, now) =
            rows.first().map_or((String::new(), 0), |row| (row.get(0), revision(row.get(1))));
        // Whoever restored an older state of the same store made another store of it: revisions would name other things than before.
        if uid != self.uid || now < known {
            return Err(self.replaced(&uid, known, now));
        }
        self.know(now);
        Ok(now)
    }

    fn know(&self, revision: u64) {
        // Answers overtake each other.
        self.revision.send_if_modified(|known| {
            let newer = revision > *known;
            *known = revision.max(*known);
            newer
        });
    }

    fn replaced(&self, uid: &str, known: u64, now: u64) -> StoreError {
        self.replaced.cancel();
        StoreError::Replaced {
            server: self.pool.server().to_string(),
            was: format!("{} at revision {known}", self.uid),
            now: format!("{uid} at revision {now}"),
        }
    }

    async fn commit(&self, client: &mut Lent<'_>, txn: &Txn) -> Result<Committed, CommitError> {
        let server = self.pool.server();
        let tx = server.bounded("begin a transaction", client.transaction()).await?;
        let raise = tx.query_typed_one(
            "UPDATE meta SET rev = rev + 1
             RETURNING store_uid, rev, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint * 1000",
            &[],
        );
        let row = server.bounded("write", raise).await?;
        let (uid, rev, now): (String, i64, i64) = (row.get(0), row.get(1), row.get(2));
        let new = revision(rev);
        // Nobody commits a later one while this transaction has the row, so that only a server that has forgotten some is behind.
        let known = *self.revision.borrow();
        if uid != self.uid || new <= known {
            return Err(self.replaced(&uid, known, new).into());
        }
        for guard in &txn.guards {
            guard.check(server.bounded("read a lease", lease::read(&tx, &guard.lease)).await?)?;
        }
        let mut records = Vec::new();
        for op in &txn.ops {
            let current = server.bounded("read", read(&tx, op)).await?;
            op.check(current.as_ref())?;
            let written = op.written(current.as_ref(), new, now);
            server.bounded("write", apply(&tx, op, written.as_ref())).await?;
            records.extend(written);
        }
        let told = rev.to_string();
        let values: Values<'_> = &[(&follow::CHANNEL, Type::TEXT), (&told, Type::TEXT)];
        let notify = tx.query_typed("SELECT pg_notify($1, $2)", values);
        server.bounded("notify", notify).await?;
        server.bounded("commit", tx.commit()).await?;
        self.know(new);
        Ok(Committed { revision: new, records })
    }

    async fn load(&self, client: &mut Lent<'_>, dump: Dump) -> Result<(), StoreError> {
        let server = self.pool.server();
        let new = dump.revision.saturating_add(1);
        let tx = server.bounded("begin a transaction", client.transaction()).await?;
        let rev = i64::try_from(new).unwrap_or(i64::MAX);
        let values: Values<'_> = &[(&rev, Type::INT8)];
        let sql = "UPDATE meta SET rev = $1
             WHERE rev = 1 AND NOT EXISTS (SELECT 1 FROM resources) RETURNING rev";
        if server.bounded("write", tx.query_typed(sql, values)).await?.is_empty() {
            return Err(StoreError::NotEmpty(server.to_string()));
        }
        for (kind, record) in &dump.records {
            server.bounded("write", write(&tx, *kind, record)).await?;
        }
        server.bounded("commit", tx.commit()).await?;
        self.know(new);
        Ok(())
    }
}

async fn read(tx: &Transaction<'_>, op: &Op) -> Result<Option<Record>, Error> {
    let sql = "SELECT name, etag, rev, created, updated, body FROM resources WHERE kind = $1 AND name = $2";
    let values: Values<'_> = &[(&op.kind.as_str(), Type::TEXT), (&op.name, Type::TEXT)];
    Ok(tx.query_typed(sql, values).await?.first().map(|row| record(row, 0)))
}

async fn apply(tx: &Transaction<'_>, op: &Op, written: Option<&Record>) -> Result<(), Error> {
    if let Some(written) = written {
        return write(tx, op.kind, written).await;
    }
    let values: Values<'_> = &[(&op.kind.as_str(), Type::TEXT), (&op.name, Type::TEXT)];
    let sql = "DELETE FROM resources WHERE kind = $1 AND name = $2";
    tx.execute_typed(sql, values).await.map(drop)
}

async fn write(tx: &Transaction<'_>, kind: Kind, record: &Record) -> Result<(), Error> {
    let Record { name, etag, revision, created, updated, body } = record;
    let revision = i64::try_from(*revision).unwrap_or(i64::MAX);
    let sql = "INSERT INTO resources (kind, name, etag, rev, created, updated, body) VALUES ($1, $2, $3, $4, $5, $6, $7)
         ON CONFLICT (kind, name) DO UPDATE SET etag = $3, rev = $4, updated = $6, body = $7";
    let values: Values<'_> = &[
        (&kind.as_str(), Type::TEXT),
        (name, Type::TEXT),
        (etag, Type::TEXT),
        (&revision, Type::INT8),
        (created, Type::INT8),
        (updated, Type::INT8),
        (&&body[..], Type::BYTEA),
    ];
    tx.execute_typed(sql, values).await.map(drop)
}

/// The record in the columns from this one on.
fn record(row: &Row, at: usize) -> Record {
    Record {
        name: row.get(at),
        etag: row.get(at + 1),
        revision: revision(row.get(at + 2)),
        created: row.get(at + 3),
        updated: row.get(at + 4),
        body: row.get::<_, Vec<u8>>(at + 5).into(),
    }
}

fn revision(value: i64) -> u64 {
    u64::try_from(value).unwrap_or_default()
}

#[cfg(test)]
mod tests;
