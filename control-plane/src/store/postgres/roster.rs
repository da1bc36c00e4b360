//! The roster in PostgreSQL: a row for each replica, which numbers its reports, and one for each responder of it.

use std::{collections::BTreeMap, iter};

use async_trait::async_trait;
use tokio::sync::watch;
use tokio_postgres::types::Type;

use super::{PgMeta, Values};
use crate::store::{Entry, Reported, Roster, StoreError};

pub(super) const TABLES: &str = r#"
    CREATE TABLE replicas (
        replica text COLLATE "C" PRIMARY KEY,
        reports bigint NOT NULL,
        seen timestamptz NOT NULL
    );
    CREATE TABLE responders (
        replica text COLLATE "C" NOT NULL REFERENCES replicas ON DELETE CASCADE,
        project text COLLATE "C" NOT NULL,
        name text COLLATE "C" NOT NULL,
        report bigint NOT NULL,
        body bytea NOT NULL,
        PRIMARY KEY (replica, project, name)
    );
    CREATE INDEX responders_by_report ON responders (replica, report);
"#;

/// What reports notify.
pub(super) const CHANNEL: &str = "countersign_reported";

#[async_trait]
impl Roster for PgMeta {
    async fn report(&self, replica: &str, changed: Vec<Entry>) -> Result<(), StoreError> {
        let server = self.shared.pool.server();
        let mut client = self.shared.pool.get().await?;
        let tx = server.bounded("begin a transaction", client.transaction()).await?;
        // The row's lock makes the order of reports the order of commits.
        let sql = "INSERT INTO replicas (replica, reports, seen) VALUES ($1, 1, clock_timestamp())
             ON CONFLICT (replica) DO UPDATE SET reports = replicas.reports + $2, seen = clock_timestamp()
             RETURNING reports";
        let more = i64::from(!changed.is_empty());
        let values: Values<'_> = &[(&replica, Type::TEXT), (&more, Type::INT8)];
        let row = server.bounded("write", tx.query_typed_one(sql, values)).await?;
        let report: i64 = row.get(0);
        if !changed.is_empty() {
            let projects: Vec<&str> = changed.iter().map(|entry| &*entry.project).collect();
            let names: Vec<&str> = changed.iter().map(|entry| &*entry.name).collect();
            let bodies: Vec<&[u8]> = changed.iter().map(|entry| &*entry.body).collect();
            let sql = "INSERT INTO responders (replica, project, name, report, body)
                 SELECT $1, project, name, $2, body FROM unnest($3, $4, $5) AS changed (project, name, body)
                 ON CONFLICT (replica, project, name) DO UPDATE SET report = excluded.report, body = excluded.body";
            let values: Values<'_> = &[
                (&replica, Type::TEXT),
                (&report, Type::INT8),
                (&projects, Type::TEXT_ARRAY),
                (&names, Type::TEXT_ARRAY),
                (&bodies, Type::BYTEA_ARRAY),
            ];
            server.bounded("write", tx.execute_typed(sql, values)).await?;
            let values: Values<'_> = &[(&CHANNEL, Type::TEXT)];
            server.bounded("notify", tx.query_typed("SELECT pg_notify($1, '')", values)).await?;
        }
        let dead = "DELETE FROM replicas WHERE seen < clock_timestamp() - interval '10 minutes'";
        server.bounded("write", tx.execute_typed(dead, &[])).await?;
        server.bounded("commit", tx.commit()).await?;
        client.sound();
        Ok(())
    }

    async fn leave(&self, replica: &str) -> Result<(), StoreError> {
        let sql = "DELETE FROM replicas WHERE replica = $1";
        self.shared.rows(sql, &[(&replica, Type::TEXT)]).await.map(drop)
    }

    async fn others(
        &self,
        replica: &str,
        known: &BTreeMap<String, u64>,
    ) -> Result<Vec<Reported>, StoreError> {
        // One statement, so that the rows belong to the number of reports. Who is alive is judged by the newest sign of anybody: after an
        // outage of the database nobody has given one for a while.
        let sql = "SELECT r.replica, r.reports, r.seen > (SELECT max(seen) FROM replicas) - interval '6 seconds', s.project, s.name, s.body
             FROM replicas r
             LEFT JOIN unnest($2, $3) AS known (replica, reports) ON known.replica = r.replica
             LEFT JOIN responders s ON s.replica = r.replica AND s.report > coalesce(known.reports, 0)
             WHERE r.replica <> $1 ORDER BY r.replica";
        let names: Vec<&str> = known.keys().map(String::as_str).collect();
        let reports: Vec<i64> =
            known.values().map(|reports| i64::try_from(*reports).unwrap_or(i64::MAX)).collect();
        let values: Values<'_> =
            &[(&replica, Type::TEXT), (&names, Type::TEXT_ARRAY), (&reports, Type::INT8_ARRAY)];
        let mut others: Vec<Reported> = Vec::new();
        for row in self.shared.rows(sql, values).await? {
            let replica: String = row.get(0);
            let entry = row.get::<_, Option<String>>(3).map(|project| {
                let body: Vec<u8> = row.get(5);
                Entry { project, name: row.get(4), body: body.into() }
            });
            match others.last_mut().filter(|last| last.replica == replica) {
                Some(last) => last.changed.extend(entry),
                None => others.push(Reported {
                    replica,
                    reports: super::revision(row.get(1)),
                    alive: row.get(2),
                    changed: iter::empty().chain(entry).collect(),
                }),
            }
        }
        Ok(others)
    }

    fn hints(&self) -> watch::Receiver<u64> {
        self.shared.reported.subscribe()
    }
}
