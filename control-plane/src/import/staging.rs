//! Uploads in progress: one append-only log per upload, synced before each acknowledgement.
//!
//! A frame is its payload's length and checksum, then the payload: sequence, path, bytes. Opening a log cuts it behind its last whole frame,
//! so that what a crash left half-written is sent again, and what was acknowledged is there.

mod pieces;

use std::{
    fs,
    io::{self, BufReader, Seek as _, Write as _},
    path::PathBuf,
};

pub use self::pieces::{Following, Pieces};
use bytes::Bytes;
use countersign_engine::snapshot::digest::Digest;
use rapidhash::v3::rapidhash_v3;

use crate::store::{
    StoreError,
    blob::{io_error, make_dir, sync_dir},
};

/// A piece holds at most so many bytes of a file.
pub const MAX_DATA: usize = 1024 * 1024;
/// A file's path has at most so many bytes.
pub const MAX_PATH: usize = 4096;
const MAX_PAYLOAD: usize = MAX_DATA + MAX_PATH + FIXED;
/// Sequence and length of the path.
const FIXED: usize = 8 + 2;
/// Length and checksum of the payload. The checksum tells what was torn, not what somebody forged: a log is read where it was written.
const HEAD: usize = 4 + 8;

/// A piece of an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Counts the pieces from 1.
    pub sequence: u64,
    /// The file that the bytes belong to.
    pub path: String,
    /// The next bytes of that file.
    pub data: Bytes,
}

/// Why a piece is not taken.
#[derive(Debug, thiserror::Error)]
pub enum StagingError {
    /// Pieces between the last one and this one are missing.
    #[error("piece {got} came when piece {expected} was due")]
    Gap {
        /// The sequence that is due.
        expected: u64,
        /// The sequence that came.
        got: u64,
    },
    /// The piece is larger than allowed.
    #[error(
        "a piece may hold {MAX_DATA} bytes of data and a path of {MAX_PATH} bytes; this one has {data} and {path}"
    )]
    TooLarge {
        /// The bytes of data.
        data: usize,
        /// The bytes of the path.
        path: usize,
    },
    /// The upload is larger than allowed.
    #[error("the upload is larger than {limit} bytes")]
    OverQuota {
        /// The limit.
        limit: u64,
    },
    /// The project has no room for more.
    #[error("the project of the upload has no room for more")]
    NoRoom,
    /// Nothing came of an upload that was to be read as it comes.
    #[error("the upload paused before its end; send the rest, and commit again")]
    Paused,
    /// The log cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The directory of all uploads.
#[derive(Debug, Clone)]
pub struct Staging {
    root: PathBuf,
    limit: u64,
}

impl Staging {
    /// Uses a directory; `limit` bounds the bytes of one upload.
    #[must_use]
    pub fn new(root: PathBuf, limit: u64) -> Self {
        Self { root, limit }
    }

    /// How many bytes an upload may have.
    #[must_use]
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Opens the log of an upload for appending, makes it when it is absent, and cuts a torn end.
    ///
    /// # Errors
    /// When the file cannot be used.
    pub fn open(&self, snapshot: &str, upload_id: &str) -> Result<Log, StoreError> {
        let dir = self.directory(snapshot);
        make_dir(&dir)?;
        sync_dir(&self.root)?;
        let path = self.path(snapshot, upload_id);
        let file =
            fs::File::options().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = file.map_err(io_error("open", &path))?;
        let end = scan(&mut file).map_err(io_error("read", &path))?;
        file.set_len(end.offset).map_err(io_error("cut", &path))?;
        file.seek(io::SeekFrom::Start(end.offset)).map_err(io_error("seek in", &path))?;
        file.sync_all().map_err(io_error("sync", &path))?;
        sync_dir(&dir)?;
        Ok(Log {
            path,
            file,
            committed: end.sequence,
            accepted: end.sequence,
            bytes: end.offset,
            limit: self.limit,
            room: u64::MAX,
            broken: false,
            pending: Vec::new(),
        })
    }

    /// Reads an upload from its start; `None` when there is no such upload.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn read(&self, snapshot: &str, upload_id: &str) -> Result<Option<Pieces>, StoreError> {
        Pieces::open(self.path(snapshot, upload_id))
    }

    /// Reads an upload from its start while it still grows.
    #[must_use]
    pub fn follow(&self, snapshot: &str, upload_id: &str, following: Following) -> Pieces {
        Pieces::follow(self.path(snapshot, upload_id), following)
    }

    /// How many bytes the uploads to a snapshot have.
    ///
    /// # Errors
    /// When they cannot be looked at.
    pub fn size(&self, snapshot: &str) -> Result<u64, StoreError> {
        let dir = self.directory(snapshot);
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(0),
            Err(source) => return Err(StoreError::Io { doing: "read", path: dir, source }),
        };
        let sizes = entries.map(|entry| entry.and_then(|entry| entry.metadata()).map(|m| m.len()));
        sizes.sum::<io::Result<u64>>().map_err(io_error("read", &dir))
    }

    /// Removes all uploads of a snapshot.
    ///
    /// # Errors
    /// When they cannot be removed.
    pub fn remove(&self, snapshot: &str) -> Result<(), StoreError> {
        let dir = self.directory(snapshot);
        match fs::remove_dir_all(&dir) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(StoreError::Io { doing: "remove", path: dir, source })
            }
            _ => Ok(()),
        }
    }

    /// Removes the uploads of all snapshots but these.
    ///
    /// # Errors
    /// When the directory cannot be made or read, or uploads cannot be removed.
    pub fn retain(&self, snapshots: &[String]) -> Result<(), StoreError> {
        let keep: Vec<PathBuf> = snapshots.iter().map(|name| self.directory(name)).collect();
        make_dir(&self.root)?;
        for entry in fs::read_dir(&self.root).map_err(io_error("read", &self.root))? {
            let path = entry.map_err(io_error("read", &self.root))?.path();
            if !keep.contains(&path) {
                fs::remove_dir_all(&path).map_err(io_error("remove", &path))?;
            }
        }
        Ok(())
    }

    // Names and ids come from clients, so files are named by their digests.
    fn directory(&self, snapshot: &str) -> PathBuf {
        self.root.join(Digest::of(snapshot.as_bytes()).to_hex())
    }

    fn path(&self, snapshot: &str, upload_id: &str) -> PathBuf {
        self.directory(snapshot).join(Digest::of(upload_id.as_bytes()).to_hex())
    }
}

/// The log of one upload, open for appending. One at a time: the caller holds the upload's lock.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    file: fs::File,
    committed: u64,
    accepted: u64,
    bytes: u64,
    limit: u64,
    room: u64,
    broken: bool,
    pending: Vec<u8>,
}

impl Log {
    /// Every piece up to this one is durable.
    #[must_use]
    pub fn committed(&self) -> u64 {
        self.committed
    }

    /// How many bytes it has, with what was taken and is not durable yet.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many bytes a piece takes whose path and data have so many.
    #[must_use]
    pub fn frame(path: usize, data: usize) -> usize {
        HEAD + FIXED + path + data
    }

    /// Takes so many bytes more, and then nothing.
    pub fn bound(&mut self, more: u64) {
        self.room = self.bytes.saturating_add(more);
    }

    /// Takes a piece; it is durable after the next [`Log::sync`]. A piece that was taken before is ignored.
    ///
    /// # Errors
    /// When a piece is missing in between, or it or the upload is too large.
    pub fn append(&mut self, piece: &Piece) -> Result<(), StagingError> {
        let expected = self.accepted.saturating_add(1);
        if piece.sequence > expected {
            return Err(StagingError::Gap { expected, got: piece.sequence });
        }
        if piece.sequence < expected {
            return Ok(());
        }
        let (data, path) = (piece.data.len(), piece.path.len());
        if data > MAX_DATA || path > MAX_PATH {
            return Err(StagingError::TooLarge { data, path });
        }
        let frame = Self::frame(path, data);
        let bytes = self.bytes.saturating_add(frame.try_into().unwrap_or(u64::MAX));
        if bytes > self.limit {
            return Err(StagingError::OverQuota { limit: self.limit });
        }
        if bytes > self.room {
            return Err(StagingError::NoRoom);
        }
        self.bytes = bytes;
        self.accepted = piece.sequence;
        encode(piece, &mut self.pending);
        Ok(())
    }

    /// Makes what was taken durable and returns the last durable sequence.
    ///
    /// # Errors
    /// When the file cannot be written. The log takes nothing more then: what the system has of it is unknown until it is opened again.
    pub fn sync(&mut self) -> Result<u64, StoreError> {
        if self.broken {
            let what = "an earlier write failed; the upload has to be reopened".to_owned();
            return Err(StoreError::Damaged { path: self.path.clone(), what });
        }
        if !self.pending.is_empty() {
            let written = self.file.write_all(&self.pending).and_then(|()| self.file.sync_data());
            self.broken = written.is_err();
            written.map_err(io_error("write", &self.path))?;
            self.pending.clear();
            self.committed = self.accepted;
        }
        Ok(self.committed)
    }
}

#[derive(Debug)]
struct Frames<R> {
    source: BufReader<R>,
    offset: u64,
}

impl<R: io::Read> Frames<R> {
    fn new(source: R) -> Self {
        Self { source: BufReader::with_capacity(MAX_DATA, source), offset: 0 }
    }

    /// The next whole frame; `None` at the end and at a torn frame.
    fn next(&mut self) -> io::Result<Option<Piece>> {
        let mut head = [0; HEAD];
        if !fill(&mut self.source, &mut head)? {
            return Ok(None);
        }
        let (length, sum) = head.split_at(4);
        let length = <[u8; 4]>::try_from(length)
            .ok()
            .and_then(|l| usize::try_from(u32::from_le_bytes(l)).ok());
        let Some(length) = length.filter(|length| *length <= MAX_PAYLOAD) else { return Ok(None) };
        let mut payload = vec![0; length];
        if !fill(&mut self.source, &mut payload)? || checksum(&payload) != sum {
            return Ok(None);
        }
        let piece = decode(&payload.into());
        if piece.is_some() {
            self.offset =
                self.offset.saturating_add((HEAD + length).try_into().unwrap_or(u64::MAX));
        }
        Ok(piece)
    }
}

struct End {
    offset: u64,
    sequence: u64,
}

fn scan(file: &mut fs::File) -> io::Result<End> {
    let mut frames = Frames::new(file);
    let mut end = End { offset: 0, sequence: 0 };
    while let Some(piece) =
        frames.next()?.filter(|piece| piece.sequence == end.sequence.saturating_add(1))
    {
        end = End { offset: frames.offset, sequence: piece.sequence };
    }
    Ok(end)
}

fn fill(source: &mut impl io::Read, buffer: &mut [u8]) -> io::Result<bool> {
    match source.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// Appends the frame of a piece.
fn encode(piece: &Piece, out: &mut Vec<u8>) {
    let length = FIXED + piece.path.len() + piece.data.len();
    out.reserve(HEAD + length);
    out.extend(u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
    let sum = out.len();
    out.extend([0; HEAD - 4]);
    let payload = out.len();
    out.extend(piece.sequence.to_le_bytes());
    out.extend(u16::try_from(piece.path.len()).unwrap_or(u16::MAX).to_le_bytes());
    out.extend(piece.path.as_bytes());
    out.extend_from_slice(&piece.data);
    let of_payload = checksum(out.get(payload..).unwrap_or_default());
    if let Some(place) = out.get_mut(sum..payload) {
        place.copy_from_slice(&of_payload);
    }
}

fn checksum(payload: &[u8]) -> [u8; 8] {
    rapidhash_v3(payload).to_le_bytes()
}

fn decode(payload: &Bytes) -> Option<Piece> {
    let (sequence, rest) = payload.split_first_chunk::<8>()?;
    let (length, rest) = rest.split_first_chunk::<2>()?;
    let length = usize::from(u16::from_le_bytes(*length));
    let path = String::from_utf8(rest.get(..length)?.to_vec()).ok()?;
    Some(Piece {
        sequence: u64::from_le_bytes(*sequence),
        path,
        data: payload.slice(FIXED + length..),
    })
}

#[cfg(test)]
mod tests;
