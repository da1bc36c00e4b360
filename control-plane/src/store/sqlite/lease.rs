//! Leases in SQLite. There is one process at a time, but its successor must not believe a lease of its predecessor for ever.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, params};

use crate::store::{Epoch, Lease};

pub(super) const TABLE: &str = "CREATE TABLE leases (
    name TEXT PRIMARY KEY, holder TEXT NOT NULL, epoch INTEGER NOT NULL, expires INTEGER NOT NULL
) STRICT, WITHOUT ROWID;";

/// The database's clock, in milliseconds.
const NOW: &str = "CAST(unixepoch('subsec') * 1000 AS INTEGER)";

pub(super) fn take(
    connection: &Connection,
    name: &str,
    holder: &str,
    ttl: Duration,
) -> rusqlite::Result<Option<Epoch>> {
    let ttl = i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX / 2);
    let sql = format!(
        "INSERT INTO leases (name, holder, epoch, expires) VALUES (?1, ?2, 1, {NOW} + ?3)
         ON CONFLICT (name) DO UPDATE SET
             epoch = epoch + (holder <> ?2 OR expires <= {NOW}), holder = ?2, expires = {NOW} + ?3
         WHERE holder = ?2 OR expires <= {NOW}
         RETURNING epoch"
    );
    let epoch: Option<i64> = connection
        .prepare_cached(&sql)?
        .query_row(params![name, holder, ttl], |row| row.get(0))
        .optional()?;
    Ok(epoch.map(|epoch| Epoch::try_from(epoch).unwrap_or_default()))
}

pub(super) fn release(connection: &Connection, name: &str, holder: &str) -> rusqlite::Result<()> {
    let sql = "UPDATE leases SET expires = 0 WHERE name = ?1 AND holder = ?2";
    connection.prepare_cached(sql)?.execute(params![name, holder])?;
    Ok(())
}

pub(super) fn read(connection: &Connection, name: &str) -> rusqlite::Result<Lease> {
    let sql = format!("SELECT epoch, expires > {NOW} FROM leases WHERE name = ?1");
    let lease = connection.prepare_cached(&sql)?.query_row([name], |row| {
        let epoch: i64 = row.get(0)?;
        Ok(Lease { epoch: Epoch::try_from(epoch).unwrap_or_default(), held: row.get(1)? })
    });
    Ok(lease.optional()?.unwrap_or(Lease { epoch: 0, held: false }))
}
