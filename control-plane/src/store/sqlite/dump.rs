//! Everything at once, for backups.

use rusqlite::{Connection, TransactionBehavior};

use super::{record, write};
use crate::store::{Dump, Kind};

pub(super) fn read(reader: &mut Connection) -> rusqlite::Result<Dump> {
    let tx = reader.transaction()?;
    let revision: i64 = tx.query_row("SELECT rev FROM meta", [], |row| row.get(0))?;
    let mut records = Vec::new();
    for kind in Kind::ALL {
        let sql = "SELECT name, etag, rev, created, updated, body FROM resources WHERE kind = ?1 ORDER BY name";
        let mut statement = tx.prepare(sql)?;
        for found in statement.query_map([kind.as_str()], record)? {
            records.push((kind, found?));
        }
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
