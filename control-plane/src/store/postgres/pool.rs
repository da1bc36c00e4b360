//! A few connections that are used again. One that broke is thrown away, and the next caller connects anew, so that a restart of the server
//! needs none of ours.

use std::{
    ops::{Deref, DerefMut},
    sync::{Mutex, PoisonError},
};

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};
use tokio_postgres::Client;

use super::server::{PATIENCE, Server};
use crate::store::StoreError;

/// Connections that a control plane has at most, besides the one that listens.
const CONNECTIONS: usize = 8;

#[derive(Debug)]
pub(super) struct Pool {
    server: Server,
    turns: Semaphore,
    idle: Mutex<Vec<Client>>,
}

impl Pool {
    pub(super) fn new(server: Server) -> Self {
        Self { server, turns: Semaphore::new(CONNECTIONS), idle: Mutex::default() }
    }

    pub(super) fn server(&self) -> &Server {
        &self.server
    }

    /// Waits for a turn, and lends a connection.
    pub(super) async fn get(&self) -> Result<Lent<'_>, StoreError> {
        let turn = timeout(PATIENCE, self.turns.acquire()).await.map_err(|late| {
            let (server, doing) = (self.server.to_string(), "answer");
            StoreError::Unavailable { server, doing, source: late.into() }
        })?;
        let turn = turn.map_err(|_| StoreError::Stopped)?;
        if let Some(client) = self.reuse() {
            return Ok(Lent { pool: self, client: Some(client), sound: false, _turn: turn });
        }
        let (client, connection) = self.server.connect().await?;
        let name = self.server.to_string();
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(server = name, %error, "a connection to the database broke");
            }
        });
        Ok(Lent { pool: self, client: Some(client), sound: false, _turn: turn })
    }

    fn reuse(&self) -> Option<Client> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|client| !client.is_closed());
        idle.pop()
    }
}

/// A connection, until it is dropped. It is used again only if it was said to be sound: work that was given up half-way leaves it unsound.
#[derive(Debug)]
pub(super) struct Lent<'p> {
    pool: &'p Pool,
    client: Option<Client>,
    sound: bool,
    _turn: SemaphorePermit<'p>,
}

impl Lent<'_> {
    /// Says that whatever was asked was answered.
    pub(super) fn sound(mut self) {
        self.sound = true;
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        if let Some(client) = self.client.take().filter(|client| self.sound && !client.is_closed())
        {
            self.pool.idle.lock().unwrap_or_else(PoisonError::into_inner).push(client);
        }
    }
}

impl Deref for Lent<'_> {
    type Target = Client;

    #[expect(clippy::expect_used, reason = "it is taken out by the drop only")]
    fn deref(&self) -> &Client {
        self.client.as_ref().expect("lent")
    }
}

impl DerefMut for Lent<'_> {
    #[expect(clippy::expect_used, reason = "it is taken out by the drop only")]
    fn deref_mut(&mut self) -> &mut Client {
        self.client.as_mut().expect("lent")
    }
}
