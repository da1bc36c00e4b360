//! Everything at once, for backups.

use rusqlite::{Connection, TransactionBehavior};

use super::{record, write};
use crate::store::{Dump, Kind};

pub(super) fn read(reader: &mut Connection) -> rusqlite::Result<Dump> {
    let tx = reader.transaction()?;
    let revision: i64 = tx.query_row("SELECT rev FROM meta", [], |row| row.get(0))?;
    let mut records = Vec::new();
    let mut statement = tx.prepare(
        "SELECT name, etag, rev, created, updated, body, kind FROM resources ORDER BY kind, name",
    )?;
    let found = statement.query_map([], |row| Ok((row.get::<_, String>(6)?, record(row)?)))?;
    for found in found {
        let (kind, record) = found?;
        records.extend(Kind::parse(&kind).map(|kind| (kind, record)));
    }
    Ok(Dump { revision: u64::try_from(revision).unwrap_or_default(), records })
}

/// Returns the new revision, or `None` when there is something already.
pub(super) fn load(writer: &mut Connection, dump: &Dump) -> rusqlite::Result<Option<u64>> {
    let tx = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let empty: bool = tx.query_row(
        "SELECT rev = 1 AND NOT EXISTS (SELECT 1 FROM resources) FROM meta",
        [],
        |row| row.get(0),
    )?;
    if !empty {
        return Ok(None);
    }
    for (kind, record) in &dump.records {
        write(&tx, *kind, record)?;
    }
    let revision = dump.revision.saturating_add(1);
    tx.execute("UPDATE meta SET rev = ?1", [i64::try_from(revision).unwrap_or(i64::MAX)])?;
    tx.commit()?;
    Ok(Some(revision))
}
