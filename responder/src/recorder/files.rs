//! The files of a recording.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use countersign_engine::{
    formats::write::{Target, Writer},
    snapshot::RrPair,
};

use super::Settings;

/// How pairs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// RRPair JSON, a pair in each line.
    JsonLines,
    /// RRPair markdown, a file for each pair.
    Markdown,
}

/// Where pairs go.
#[derive(Debug)]
pub(super) struct Files {
    dir: PathBuf,
    stem: String,
    rotate: u64,
    form: Form,
    writer: Writer,
    lines: Option<Lines>,
    number: u32,
}

/// A file of lines.
#[derive(Debug)]
struct Lines {
    file: File,
    length: u64,
}

impl Files {
    /// Makes the directory, and the name of this start, which no other has.
    pub(super) fn begin(settings: &Settings) -> io::Result<Self> {
        fs::create_dir_all(&settings.dir)?;
        let now = jiff::Timestamp::now().strftime("%Y-%m-%d_%H-%M-%S%.6fZ");
        let target = match settings.form {
            Form::JsonLines => Target::JsonLines,
            Form::Markdown => Target::Markdown,
        };
        Ok(Self {
            dir: settings.dir.clone(),
            stem: format!("recorded-{now}-{}", std::process::id()),
            rotate: settings.rotate,
            form: settings.form,
            writer: Writer::new(target),
            lines: None,
            number: 0,
        })
    }

    pub(super) fn write(&mut self, pair: &RrPair) -> io::Result<()> {
        let piece = self.writer.pair(pair);
        match self.form {
            Form::Markdown => write_file(&self.dir.join(&piece.path), &piece.bytes),
            Form::JsonLines => self.write_line(&piece.bytes),
        }
    }

    fn write_line(&mut self, line: &[u8]) -> io::Result<()> {
        let size = u64::try_from(line.len()).unwrap_or(u64::MAX);
        if let Some(full) = self
            .lines
            .take_if(|lines| lines.length > 0 && lines.length.saturating_add(size) > self.rotate)
        {
            full.file.sync_all()?;
        }
        let lines = match &mut self.lines {
            Some(lines) => lines,
            none => {
                self.number += 1;
                let path = self.dir.join(format!("{}-{:04}.jsonl", self.stem, self.number));
                let file = private().create_new(true).append(true).open(path)?;
                none.insert(Lines { file, length: 0 })
            }
        };
        if let Err(error) = lines.file.write_all(line) {
            // Half a line would make a line of its own unreadable, and the next one with it.
            lines.file.set_len(lines.length)?;
            return Err(error);
        }
        lines.length += size;
        Ok(())
    }

    pub(super) fn finish(self) -> io::Result<()> {
        if let Some(lines) = self.lines {
            lines.file.sync_all()?;
        }
        // The names of new files are in the directory.
        File::open(&self.dir)?.sync_all()
    }
}

/// Writes a file under another name first, so that nobody sees half of it.
fn write_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let unfinished = path.with_extension("md.part");
    let mut file = private().create(true).truncate(true).write(true).open(&unfinished)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(unfinished, path)
}

/// Recordings hold credentials, so that nobody else may read them.
fn private() -> OpenOptions {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = OpenOptions::new();
    options.mode(0o600);
    options
}
