//! Why a store failed, whatever it is built on. No error holds a password: servers are named without it.

use std::{error::Error, io, path::PathBuf};

/// Why a store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory or a file in it cannot be used.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Another process uses the directory.
    #[error("the data directory {} is in use by another process{}", path.display(), holder.as_ref().map(|pid| format!(" (pid {pid})")).unwrap_or_default())]
    Locked {
        /// The directory.
        path: PathBuf,
        /// The other process, where it said so.
        holder: Option<String>,
    },
    /// The database cannot be used.
    #[error("cannot {doing} the database {}", path.display())]
    Database {
        /// What was tried.
        doing: &'static str,
        /// The database's file.
        path: PathBuf,
        /// What SQLite said.
        #[source]
        source: rusqlite::Error,
    },
    /// The database was written by a newer version.
    #[error("the database {} has layout {found}, this version knows layouts up to {known}", path.display())]
    Layout {
        /// The database's file.
        path: PathBuf,
        /// The layout found.
        found: i64,
        /// The newest layout known.
        known: i64,
    },
    /// Stored bytes are not what was stored.
    #[error("{} is damaged: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// What was written before may be lost, so that nothing is written any more.
    #[error("an earlier write to {} could not be brought to the disk, so that nothing more is written before the control plane is started again", path.display())]
    Unsynced {
        /// The database's file, or the directory.
        path: PathBuf,
    },
    /// A server that stores for us does not answer, or broke off: what was asked of it may have happened or not, and a retry can succeed.
    #[error("{server} does not {doing} now")]
    Unavailable {
        /// The server, without credentials.
        server: String,
        /// What was tried.
        doing: &'static str,
        /// What was seen.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// A server that stores for us refused.
    #[error("{server} refuses to {doing}")]
    Refused {
        /// The server, without credentials.
        server: String,
        /// What was tried.
        doing: &'static str,
        /// What it said.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// A server that stores for us has no room.
    #[error("{server} has no room to {doing}")]
    Full {
        /// The server, without credentials.
        server: String,
        /// What was tried.
        doing: &'static str,
        /// What it said.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The store's address or its settings cannot be used.
    #[error("{0}")]
    Settings(String),
    /// The store holds something already.
    #[error("{0} is not empty; it takes a backup only when it never held anything")]
    NotEmpty(String),
    /// Another store is where ours was.
    #[error("{server} is another store now: it was {was} and is {now}")]
    Replaced {
        /// The server, without credentials.
        server: String,
        /// The identity at the start.
        was: String,
        /// The identity now.
        now: String,
    },
    /// The work was cut off by a shutdown.
    #[error("the store is shutting down")]
    Stopped,
}

impl StoreError {
    /// Whether the disk or a quota is full, so that a retry after making room can succeed.
    #[must_use]
    pub fn is_full(&self) -> bool {
        match self {
            Self::Io { source, .. } => {
                matches!(
                    source.kind(),
                    io::ErrorKind::StorageFull
                        | io::ErrorKind::QuotaExceeded
                        | io::ErrorKind::FileTooLarge
                )
            }
            Self::Database { source, .. } => {
                source.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull)
            }
            Self::Full { .. } => true,
            _ => false,
        }
    }

    /// Whether a retry can succeed; what was tried may have happened.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }

    /// Whether trying again is of no use before somebody has seen to what lies there: it cannot be read or written, is damaged, or is a newer version's.
    #[must_use]
    pub fn is_unusable(&self) -> bool {
        match self {
            Self::Io { .. } => !self.is_full(),
            Self::Database { source, .. } => {
                let code = source.sqlite_error_code();
                let passes = [rusqlite::ErrorCode::DatabaseBusy, rusqlite::ErrorCode::OutOfMemory];
                !self.is_full() && !code.is_some_and(|code| passes.contains(&code))
            }
            Self::Layout { .. } | Self::Damaged { .. } => true,
            _ => false,
        }
    }

    /// Whether stored bytes were found damaged.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Damaged { .. } => true,
            Self::Database { source, .. } => {
                matches!(
                    source.sqlite_error_code(),
                    Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase)
                )
            }
            _ => false,
        }
    }
}
