//! The tables, and how older ones become them: in order, once, under a lock, so that several control planes may start at a time.

use std::path::PathBuf;

use tokio_postgres::{Transaction, types::Type};

use super::{pool::Pool, roster, server::Server};
use crate::store::StoreError;

/// Each brings the database from one layout to the next; the first makes it. What was shipped never changes.
const MIGRATIONS: [&str; 2] = [
    r#"
    CREATE TABLE meta (one integer PRIMARY KEY CHECK (one = 1), store_uid text NOT NULL, rev bigint NOT NULL);
    CREATE TABLE resources (
        kind text COLLATE "C" NOT NULL,
        name text COLLATE "C" NOT NULL,
        etag text NOT NULL,
        rev bigint NOT NULL,
        created bigint NOT NULL,
        updated bigint NOT NULL,
        body bytea NOT NULL,
        PRIMARY KEY (kind, name)
    );
    CREATE TABLE leases (
        name text COLLATE "C" PRIMARY KEY,
        holder text NOT NULL,
        epoch bigint NOT NULL,
        expires timestamptz NOT NULL
    );
"#,
    roster::TABLES,
];

/// Any number that nobody else locks with.
const LOCK: i64 = 0x636f_756e_7465_7273;

/// Brings the database to the newest layout, and returns the store's identity and revision.
pub(super) async fn run(pool: &Pool) -> Result<(String, u64), StoreError> {
    let server = pool.server();
    let mut client = pool.get().await?;
    let encoding = client.query_typed_one("SHOW server_encoding", &[]);
    let encoding: String = server.bounded("answer", encoding).await?.get(0);
    if encoding != "UTF8" {
        return Err(StoreError::Settings(format!(
            "the encoding of {server} is {encoding}, and has to be UTF8: createdb --encoding=UTF8 --template=template0"
        )));
    }
    let tx = server.bounded("begin a transaction", client.transaction()).await?;
    let identity = migrate(&tx, server).await?;
    server.bounded("commit a migration", tx.commit()).await?;
    client.sound();
    Ok(identity)
}

async fn migrate(tx: &Transaction<'_>, server: &Server) -> Result<(String, u64), StoreError> {
    let doing = "make its tables";
    let lock = tx.execute_typed("SELECT pg_advisory_xact_lock($1)", &[(&LOCK, Type::INT8)]);
    server.bounded(doing, lock).await?;
    let table = "CREATE TABLE IF NOT EXISTS countersign_layout (layout bigint NOT NULL)";
    server.bounded(doing, tx.batch_execute(table)).await?;
    let layout = tx.query_typed_one("SELECT coalesce(max(layout), 0) FROM countersign_layout", &[]);
    let found: i64 = server.bounded(doing, layout).await?.get(0);
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    if found > known {
        return Err(StoreError::Layout { path: PathBuf::from(server.to_string()), found, known });
    }
    for (number, migration) in (1_i64..).zip(MIGRATIONS).filter(|(number, _)| *number > found) {
        server.bounded(doing, tx.batch_execute(migration)).await?;
        let note = "INSERT INTO countersign_layout (layout) VALUES ($1)";
        server.bounded(doing, tx.execute_typed(note, &[(&number, Type::INT8)])).await?;
    }
    let uid = uuid::Uuid::new_v4().to_string();
    let insert =
        "INSERT INTO meta (one, store_uid, rev) VALUES (1, $1, 1) ON CONFLICT (one) DO NOTHING";
    server.bounded(doing, tx.execute_typed(insert, &[(&uid, Type::TEXT)])).await?;
    // A write that changes nothing shows now, not at the first user's request, that the tables can be written.
    let touch = tx.query_typed_one("UPDATE meta SET rev = rev RETURNING store_uid, rev", &[]);
    let row = server.bounded(doing, touch).await?;
    Ok((row.get(0), u64::try_from(row.get::<_, i64>(1)).unwrap_or_default()))
}
