//! Turns from Redis: a counter for each list, which all nodes raise. Who takes part does not matter, and nothing is handed over.

use std::{collections::HashSet, sync::Arc, time::Duration};

use async_trait::async_trait;
use countersign_engine::turns::ListId;
use redis::{
    Client, Pipeline, RedisError,
    aio::{ConnectionManager, ConnectionManagerConfig},
};
use tokio::{
    runtime::Handle,
    time::{Instant, sleep, timeout_at},
};

use super::{Given, Lost, SequenceStore, ledger::Ledger, register::Step};
use crate::config::RedisUrl;

const CONNECT: Duration = Duration::from_millis(500);
const ANSWER: Duration = Duration::from_secs(1);
/// How soon it is asked again.
const AGAIN: Duration = Duration::from_millis(50);
/// A list that nobody has asked for in so many seconds begins anew, so that Redis does not fill up.
const KEPT: u64 = 7 * 24 * 3600;
/// So many lists begin anew in one command.
const PART: usize = 1000;

/// Redis, over one connection that carries the commands of all requests one behind the other.
pub(super) struct Redis {
    manager: ConnectionManager,
    handle: Handle,
}

impl std::fmt::Debug for Redis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Redis")
    }
}

impl Redis {
    /// It is connected to when it is first asked.
    pub(super) fn new(url: &RedisUrl, handle: &Handle) -> Result<Self, RedisError> {
        let _entered = handle.enter();
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(Some(ANSWER))
            .set_number_of_retries(1)
            .set_max_delay(ANSWER);
        let manager = ConnectionManager::new_lazy_with_config(Client::open(url.text())?, config)?;
        Ok(Self { manager, handle: handle.clone() })
    }

    /// Has commands carried out on the runtime that the connection lives on.
    async fn ask<T: redis::FromRedisValue + Send + 'static>(
        &self,
        commands: Pipeline,
    ) -> Result<T, RedisError> {
        let mut manager = self.manager.clone();
        let asked = self.handle.spawn(async move { commands.query_async(&mut manager).await });
        asked.await.unwrap_or_else(|_| Err((redis::ErrorKind::Client, "the runtime ends").into()))
    }
}

fn key(replay: &str, list: ListId) -> String {
    format!("countersign:{replay}:{list}")
}

/// How many turns of a list this node has seen.
fn seen(ledger: &Ledger, list: ListId) -> u64 {
    ledger.lock().cursor(list).map_or(0, |cursor| cursor.taken)
}

#[async_trait]
impl SequenceStore for Redis {
    async fn advance(
        &self,
        ledger: &Ledger,
        list: ListId,
        step: Step,
        deadline: Instant,
    ) -> Result<Given, Lost> {
        let mut skipped = 0;
        // Whoever has no time to wait does not ask: the answer would come to nothing.
        while Instant::now() < deadline {
            let before = seen(ledger, list);
            let key = key(&ledger.replay, list);
            let mut commands = redis::pipe();
            match step {
                Step::Take(count) => commands.cmd("INCRBY").arg(&key).arg(count),
                Step::Put(to) => {
                    commands.cmd("SET").arg(&key).arg(to).ignore().cmd("GET").arg(&key)
                }
            };
            commands.cmd("EXPIRE").arg(&key).arg(KEPT).ignore();
            match timeout_at(deadline, self.ask::<(u64,)>(commands)).await {
                Ok(Ok((taken,))) => {
                    let first = taken.saturating_sub(step.count());
                    ledger.lock().stand(list, taken);
                    // What was seen before it was asked can only be undone by a Redis that has lost it.
                    let breaks = step.count() > 0 && first < before;
                    return Ok(Given { first, breaks, skipped });
                }
                Ok(Err(error)) => {
                    tracing::debug!(%error, "redis gave no turn");
                    skipped += u64::from(!error.is_connection_refusal());
                }
                Err(_) => skipped += 1,
            }
            sleep(AGAIN).await;
        }
        Err(Lost { skipped })
    }

    async fn reset(&self, ledger: &Ledger, lists: &[ListId]) {
        let all = if lists.is_empty() { ledger.lists() } else { lists.to_vec() };
        let begun: HashSet<ListId> = all.iter().copied().collect();
        ledger.change(|register| register.retain(|list| !begun.contains(&list)));
        for part in all.chunks(PART) {
            let keys: Vec<String> = part.iter().map(|list| key(&ledger.replay, *list)).collect();
            let mut commands = redis::pipe();
            commands.cmd("DEL").arg(keys).ignore();
            if let Err(error) = self.ask::<()>(commands).await {
                tracing::warn!(%error, "turns were not begun anew in redis");
            }
        }
    }

    fn owner(&self, _: &Ledger, _: ListId) -> Option<Arc<str>> {
        Some("redis".into())
    }
}
