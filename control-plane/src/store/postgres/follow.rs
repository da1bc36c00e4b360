//! What others commit. The truth is the revision in the database, asked for each second; notifications only make it quicker, so that it does
//! not matter when one is lost.

use std::{
    future::{pending, poll_fn},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use futures_util::future::{Either, select};
use tokio::time::sleep;
use tokio_postgres::AsyncMessage;

use super::{Shared, roster};
use crate::{
    service::chain,
    store::{StoreError, jitter},
};

/// What commits notify.
pub(super) const CHANNEL: &str = "countersign_changed";

const BACKOFF: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// Asks for the revision, each second and when there is a hint.
pub(super) async fn poll(shared: Arc<Shared>) {
    let mut answers = true;
    loop {
        // A fifth more or less, so that control planes which started together do not ask together.
        let pause = Duration::from_millis(800) + jitter(Duration::from_millis(400));
        tokio::select! {
            () = shared.hint.notified() => {}
            () = sleep(pause) => {}
        }
        match shared.look().await {
            Ok(_) if answers => {}
            Ok(_) => {
                answers = true;
                tracing::info!(server = %shared.pool.server(), "the database answers again");
            }
            Err(error) => {
                if answers {
                    tracing::warn!(
                        error = chain(&error),
                        "cannot ask the database for its revision, trying again"
                    );
                }
                answers = false;
            }
        }
    }
}

/// Hears notifications, for as long as the process runs.
pub(super) async fn listen(shared: Arc<Shared>) {
    let mut ceiling = BACKOFF;
    loop {
        let heard = hear(&shared, &mut ceiling).await;
        let error = heard.as_ref().err().map(|error| chain(error));
        tracing::debug!(error, "notifications broke off");
        sleep(jitter(ceiling)).await;
        ceiling = ceiling.saturating_mul(2).min(BACKOFF_MAX);
    }
}

async fn hear(shared: &Shared, ceiling: &mut Duration) -> Result<(), StoreError> {
    let server = shared.pool.server();
    let (client, mut connection) = server.connect().await?;
    let hearing = async {
        while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
            match message? {
                AsyncMessage::Notification(of) if of.channel() == roster::CHANNEL => {
                    shared.reported.send_modify(|count| *count = count.wrapping_add(1));
                }
                AsyncMessage::Notification(_) => shared.hint.notify_one(),
                _ => {}
            }
        }
        Ok(())
    };
    let asking = async {
        client.batch_execute(&format!("LISTEN {CHANNEL}; LISTEN {}", roster::CHANNEL)).await?;
        *ceiling = BACKOFF;
        // Something may have been committed before.
        shared.hint.notify_one();
        pending().await
    };
    let ended = match select(pin!(hearing), pin!(asking)).await {
        Either::Left((ended, _)) | Either::Right((ended, _)) => ended,
    };
    ended.map_err(|error| server.failed("notify", error))
}
