//! Leases in PostgreSQL, by the clock of its server.

use std::time::Duration;

use tokio_postgres::{Error, GenericClient, types::Type};

use crate::store::{Epoch, Lease};

pub(super) async fn take(
    client: &impl GenericClient,
    name: &str,
    holder: &str,
    ttl: Duration,
) -> Result<Option<Epoch>, Error> {
    let ttl = i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX);
    let sql = "INSERT INTO leases (name, holder, epoch, expires)
         VALUES ($1, $2, 1, clock_timestamp() + $3 * interval '1 millisecond')
         ON CONFLICT (name) DO UPDATE SET
             epoch = leases.epoch + (leases.holder <> $2 OR leases.expires <= clock_timestamp())::int,
             holder = $2, expires = clock_timestamp() + $3 * interval '1 millisecond'
         WHERE leases.holder = $2 OR leases.expires <= clock_timestamp()
         RETURNING epoch";
    let values: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 3] =
        [(&name, Type::TEXT), (&holder, Type::TEXT), (&ttl, Type::INT8)];
    let row = client.query_typed(sql, &values).await?;
    Ok(row.first().map(|row| epoch(row.get(0))))
}

pub(super) async fn release(
    client: &impl GenericClient,
    name: &str,
    holder: &str,
) -> Result<(), Error> {
    let sql = "UPDATE leases SET expires = '-infinity' WHERE name = $1 AND holder = $2";
    client.query_typed(sql, &[(&name, Type::TEXT), (&holder, Type::TEXT)]).await.map(drop)
}

/// How it stands; within a transaction it stays so until the end of it.
pub(super) async fn read(client: &impl GenericClient, name: &str) -> Result<Lease, Error> {
    let sql = "SELECT epoch, expires > clock_timestamp() FROM leases WHERE name = $1 FOR SHARE";
    let rows = client.query_typed(sql, &[(&name, Type::TEXT)]).await?;
    let lease = rows.first().map(|row| Lease { epoch: epoch(row.get(0)), held: row.get(1) });
    Ok(lease.unwrap_or(Lease { epoch: 0, held: false }))
}

fn epoch(value: i64) -> Epoch {
    Epoch::try_from(value).unwrap_or_default()
}
