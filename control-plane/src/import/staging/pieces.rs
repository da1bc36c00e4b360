//! Reading an upload: from a log that is whole, or along with one that still grows.

use std::{
    fmt, fs,
    io::{self, Seek as _, SeekFrom},
    num::NonZeroU64,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use rustix::{fs::Advice, io::Errno};

use super::{Frames, Piece, StagingError};
use crate::{
    import::uploads::Growth,
    store::{StoreError, blob::io_error},
};

/// How often a reader that waits looks whether anybody still wants what it reads.
const LOOK: Duration = Duration::from_millis(250);
/// The system is told so often that it need not keep what was read.
const FORGET: u64 = 8 * 1024 * 1024;

/// How an upload is read that still grows.
pub struct Following {
    /// How many pieces it will have.
    pub pieces: u64,
    /// Tells of its growth.
    pub growth: Arc<Growth>,
    /// How long it may pause.
    pub patience: Duration,
    /// Nobody wants it any more.
    pub gone: Box<dyn Fn() -> bool + Send>,
}

impl fmt::Debug for Following {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Following").field("pieces", &self.pieces).finish_non_exhaustive()
    }
}

impl Following {
    /// Waits for more than there was.
    fn wait(&self, times: u64) -> Result<(), StagingError> {
        let mut left = self.patience;
        while !self.growth.wait(times, LOOK.min(left)) {
            if (self.gone)() {
                return Err(StoreError::Stopped.into());
            }
            left = left.saturating_sub(LOOK);
            if left.is_zero() {
                return Err(StagingError::Paused);
            }
        }
        Ok(())
    }
}

/// The pieces of an upload, in order.
#[derive(Debug)]
pub struct Pieces {
    path: PathBuf,
    /// The size of a log that is whole.
    bytes: u64,
    frames: Option<Frames<fs::File>>,
    following: Option<Following>,
    last: u64,
    /// Up to here the system need not keep the log in memory.
    forgotten: u64,
}

impl Pieces {
    /// Reads a log that is whole; `None` when there is none.
    pub(super) fn open(path: PathBuf) -> Result<Option<Self>, StoreError> {
        let mut pieces =
            Self { path, bytes: 0, frames: None, following: None, last: 0, forgotten: 0 };
        if !pieces.opened()? {
            return Ok(None);
        }
        if let Some(frames) = &pieces.frames {
            let metadata = frames.source.get_ref().metadata();
            pieces.bytes = metadata.map_err(io_error("read", &pieces.path))?.len();
        }
        Ok(Some(pieces))
    }

    /// Reads a log that may not be there yet.
    pub(super) fn follow(path: PathBuf, following: Following) -> Self {
        Self { path, bytes: 0, frames: None, following: Some(following), last: 0, forgotten: 0 }
    }

    /// The size of the log; 0 while it grows.
    #[must_use]
    pub fn bytes_total(&self) -> u64 {
        self.bytes
    }

    /// How much of the log was read.
    #[must_use]
    pub fn bytes_done(&self) -> u64 {
        self.frames.as_ref().map_or(0, |frames| frames.offset)
    }

    /// Checks, after the last piece, that nothing follows that could not be read.
    ///
    /// # Errors
    /// When the log does not end here.
    pub fn check_end(&self) -> Result<(), StoreError> {
        // One that was followed was read up to the piece that was asked for.
        if self.following.is_some() || self.bytes_done() == self.bytes {
            return Ok(());
        }
        let what = format!(
            "the upload cannot be read behind byte {}; reopen it and send the rest again",
            self.bytes_done()
        );
        Err(StoreError::Damaged { path: self.path.clone(), what })
    }

    /// Opens the log; says whether it is there.
    fn opened(&mut self) -> Result<bool, StoreError> {
        if self.frames.is_none() {
            match fs::File::open(&self.path) {
                Ok(file) => self.frames = Some(Frames::new(file)),
                Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(false),
                Err(source) => return Err(io_error("open", &self.path)(source)),
            }
        }
        Ok(true)
    }

    /// The next piece that is there whole.
    pub(super) fn whole(&mut self) -> Result<Option<Piece>, StoreError> {
        if !self.opened()? {
            return Ok(None);
        }
        let Some(frames) = &mut self.frames else { return Ok(None) };
        let piece = frames.next().map_err(io_error("read", &self.path))?;
        if piece.is_none() && self.following.is_some() {
            // Part of the next frame may have been read; it is read again when the rest is there.
            let start = SeekFrom::Start(frames.offset);
            frames.source.seek(start).map_err(io_error("seek in", &self.path))?;
        }
        Ok(piece)
    }

    /// What was read is not read again soon. Memory that the system gets back is what the next pieces are written to; else an upload would go
    /// through all there is.
    fn forget(&mut self) {
        let Some(frames) = &self.frames else { return };
        let length = frames.offset.saturating_sub(self.forgotten);
        if let Some(length) = NonZeroU64::new(length).filter(|length| length.get() >= FORGET) {
            // It is no more than advice.
            let file = frames.source.get_ref();
            let _: Result<(), Errno> =
                rustix::fs::fadvise(file, self.forgotten, Some(length), Advice::DontNeed);
            self.forgotten = frames.offset;
        }
    }

    fn advance(&mut self) -> Result<Option<Piece>, StagingError> {
        loop {
            let times = match &self.following {
                Some(following) if self.last >= following.pieces => return Ok(None),
                following => following.as_ref().map(|following| following.growth.times()),
            };
            match (self.whole()?, times.zip(self.following.as_ref())) {
                (Some(piece), _) => {
                    self.last = piece.sequence;
                    self.forget();
                    return Ok(Some(piece));
                }
                (None, Some((times, following))) => following.wait(times)?,
                (None, None) => return Ok(None),
            }
        }
    }
}

impl Iterator for Pieces {
    type Item = Result<Piece, StagingError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.advance().transpose()
    }
}
