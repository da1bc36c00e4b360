//! Sending an answer as chaos has it: whole, cut off, or not at all.

use std::time::Duration;

use countersign_engine::answer::{Fate, Hit};

use crate::server::{
    read::Trailing,
    write::{self, Response},
};

/// Nobody waits longer than this for an answer that does not come.
const STALL: Duration = Duration::from_secs(60);

/// An exchange that ends without an answer. HTTP/1 ends with its connection, HTTP/2 with its stream.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    /// It is closed.
    #[error("the exchange was closed without an answer")]
    Closed,
    /// It is reset.
    #[error("the exchange was reset")]
    Reset,
    /// It is reset, and in HTTP/2 the client is told that nothing has been done.
    #[error("the exchange was refused")]
    Refused(#[source] h2::Error),
}

impl Broken {
    /// Whether the connection is reset, rather than closed.
    pub(crate) fn resets(&self) -> bool {
        !matches!(self, Self::Closed)
    }
}

/// The response as it is sent, or how the exchange ends without one.
pub(crate) async fn meet(hit: Hit, trailing: Trailing) -> Result<Response, Broken> {
    match hit.touched.as_deref().map_or(Fate::Sent, |touched| touched.fate) {
        Fate::Sent => Ok(write::hit(hit, trailing)),
        Fate::Cut(after) => Ok(write::cut(hit, after)),
        Fate::Refused => Err(Broken::Refused(h2::Reason::REFUSED_STREAM.into())),
        Fate::Reset => Err(Broken::Reset),
        Fate::Dropped => Err(Broken::Closed),
        Fate::Stalled => {
            // A client that gives up takes the exchange with it.
            tokio::time::sleep(STALL).await;
            Err(Broken::Closed)
        }
    }
}
