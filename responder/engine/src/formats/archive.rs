//! Zip archives of recordings, read in memory: each file in it is read like one of a directory.
//!
//! Nothing is unpacked to anywhere, so a name in the archive is only a name. The number of entries, what they unfold to and how much
//! larger that is than the archive are bounded; encrypted entries, and archives in archives, are refused.

use std::{collections::HashSet, io::Read as _};

use flate2::{Crc, bufread::DeflateDecoder};

use crate::{
    diagnostic::Diagnostic,
    formats::{
        FileReader, Half, Joiner, Sink, is_recording,
        reader::tell,
        verdict::{self, Left},
    },
    snapshot::RrPair,
};

/// The most entries of an archive.
const MAX_ENTRIES: usize = 100_000;
/// The most that all entries together may unfold to.
const MAX_UNFOLDED: u64 = 1024 * 1024 * 1024;
/// How many times its size an entry may unfold to, once it is larger than a megabyte.
const MAX_RATIO: u64 = 200;
const RATIO_FREE: u64 = 1024 * 1024;
/// How far from the end the end record may begin: its own size and a comment.
const END_WITHIN: usize = 22 + 65_535;

/// One file of an archive.
#[derive(Debug, Clone)]
struct Entry {
    name: String,
    method: u16,
    encrypted: bool,
    crc: u32,
    packed: u64,
    size: u64,
    /// Where its local header begins.
    at: u64,
    /// It is a symbolic link, a device or another thing that is no file.
    special: bool,
}

/// Reads an archive; its files in the order of their names.
pub(super) fn read(path: &str, bytes: &[u8], sink: &mut dyn Sink) {
    let mut entries = match directory(bytes) {
        Ok(entries) => entries,
        Err(left) => return tell(sink, path, 1, left),
    };
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    let unsafe_entries = refuse_unsafe(&mut entries, path, sink);
    entries.retain(|entry| {
        !entry.name.ends_with('/') && !is_private(&entry.name) && is_recording(&entry.name)
    });
    if entries.is_empty() && unsafe_entries > 0 {
        return;
    }
    if entries.is_empty() {
        let left = Left::skipped("empty_file", "", "the archive holds no recording");
        return tell(sink, path, 1, left);
    }
    let mut inside = Inside { sink, joiner: Joiner::default() };
    let mut left = MAX_UNFOLDED;
    for entry in &entries {
        let name = format!("{path}/{}", printable(&entry.name));
        inside.sink.unpacked(&name);
        if let Err(problem) = unpack(bytes, entry, &name, &mut left, &mut inside) {
            tell(inside.sink, &name, 0, problem);
        }
    }
    let Inside { sink, joiner } = inside;
    joiner.finish(sink);
}

/// Refuses entries that only somebody would make who wants to write to other places, or to be understood in two ways; tells how many they are.
fn refuse_unsafe(entries: &mut Vec<Entry>, path: &str, sink: &mut dyn Sink) -> usize {
    let twice: HashSet<String> = entries
        .windows(2)
        .filter_map(|pair| match pair {
            [a, b] if a.name == b.name => Some(a.name.clone()),
            _ => None,
        })
        .collect();
    let before = entries.len();
    entries.retain(|entry| {
        let what = if leads_out(&entry.name) {
            "its name leads out of the archive"
        } else if entry.special {
            "it is a link or a device"
        } else if twice.contains(&entry.name) {
            "its name stands twice"
        } else {
            return true;
        };
        tell(sink, &format!("{path}/{}", printable(&entry.name)), 0, unsafe_entry(what));
        false
    });
    before - entries.len()
}

/// Whether a name would lead out of the directory that an archive were unpacked to.
fn leads_out(name: &str) -> bool {
    let drive = name.as_bytes().get(1) == Some(&b':');
    drive
        || name.starts_with('/')
        || name.contains('\0')
        || name.split('/').any(|part| part == "..")
}

/// Whether an archive made on Unix says of an entry that it is neither a file nor a directory.
fn is_special(made_by: u16, attributes: u32) -> bool {
    const UNIX: u16 = 3;
    let kind = (attributes >> 16) & 0o170_000;
    made_by >> 8 == UNIX && !matches!(kind, 0 | 0o100_000 | 0o040_000)
}

/// Joins halves within the archive, and hands on everything else.
struct Inside<'s> {
    sink: &'s mut dyn Sink,
    joiner: Joiner,
}

impl Sink for Inside<'_> {
    fn pair(&mut self, pair: RrPair) {
        self.sink.pair(pair);
    }
    fn skipped(&mut self, why: Diagnostic) {
        self.sink.skipped(why);
    }
    fn refused(&mut self, why: Diagnostic) {
        self.sink.refused(why);
    }
    fn noted(&mut self, why: Diagnostic) {
        self.sink.noted(why);
    }
    fn half(&mut self, half: Half) {
        self.joiner.join(half, self.sink);
    }
}

/// The same that walkers of directories never enter.
fn is_private(name: &str) -> bool {
    name.split(['/', '\\'])
        .any(|part| part.starts_with('.') || part == "secrets" || part == "__MACOSX")
}

/// A name without what would disturb a terminal.
fn printable(name: &str) -> String {
    name.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).take(1024).collect()
}

fn unpack(
    bytes: &[u8],
    entry: &Entry,
    name: &str,
    left: &mut u64,
    inside: &mut Inside<'_>,
) -> Result<(), Left> {
    if entry.encrypted {
        return Err(unsafe_entry("it is encrypted"));
    }
    let packed = packed(bytes, entry).ok_or_else(|| damaged("an entry lies outside of it"))?;
    if packed.starts_with(b"PK\x03\x04") && entry.method == 0 {
        return Err(unsafe_entry("it is an archive itself"));
    }
    let limit = entry.packed.saturating_mul(MAX_RATIO).max(RATIO_FREE).min(*left);
    let mut plain: Box<dyn std::io::Read> = match entry.method {
        0 => Box::new(packed),
        8 => Box::new(DeflateDecoder::new(packed)),
        _ => return Err(unsafe_entry("it is compressed in a way other than deflate")),
    };
    let mut reader = FileReader::new(name, inside);
    let mut crc = Crc::new();
    let mut buffer = vec![0; 64 * 1024];
    let mut read = 0_u64;
    loop {
        let more = match plain.read(&mut buffer) {
            Ok(0) => break,
            Ok(more) => more,
            Err(_) => return Err(damaged("an entry does not unfold")),
        };
        let piece = buffer.get(..more).unwrap_or_default();
        if read == 0 && piece.starts_with(b"PK\x03\x04") {
            return Err(unsafe_entry("it is an archive itself"));
        }
        read = read.saturating_add(u64::try_from(more).unwrap_or(u64::MAX));
        if read > limit {
            return Err(verdict::limit(
                "the entry unfolds to far more than its size, or the archive to more than 1 GiB"
                    .to_owned(),
            )
            .hint("unpack the archive and import its directory"));
        }
        crc.update(piece);
        reader.push(piece);
    }
    *left = left.saturating_sub(read);
    if read != entry.size || crc.sum() != entry.crc {
        return Err(damaged("the checksum of an entry is wrong"));
    }
    reader.finish();
    Ok(())
}

fn unsafe_entry(what: &str) -> Left {
    Left::refused("archive_unsafe_entry", "", format!("the entry is not read: {what}"))
        .hint("unpack the archive and import its directory")
}

fn damaged(what: &str) -> Left {
    Left::refused("archive_damaged", "", format!("the archive is damaged: {what}"))
}

/// The bytes of an entry as they are stored.
fn packed<'b>(bytes: &'b [u8], entry: &Entry) -> Option<&'b [u8]> {
    let local = bytes.get(usize::try_from(entry.at).ok()?..)?;
    if !local.starts_with(b"PK\x03\x04") {
        return None;
    }
    let skip = usize::from(u16_at(local, 26)?)
        .checked_add(usize::from(u16_at(local, 28)?))?
        .checked_add(30)?;
    local.get(skip..)?.get(..usize::try_from(entry.packed).ok()?)
}

/// The entries that the central directory names.
fn directory(bytes: &[u8]) -> Result<Vec<Entry>, Left> {
    let (count, at) = end(bytes).ok_or_else(|| damaged("its directory is not there"))?;
    if count > MAX_ENTRIES {
        return Err(verdict::limit(format!("the archive has more than {MAX_ENTRIES} entries"))
            .hint("unpack the archive and import its directory"));
    }
    let mut rest = bytes.get(at..).unwrap_or_default();
    let mut entries = Vec::new();
    for _ in 0..count {
        let (entry, after) = central(rest).ok_or_else(|| damaged("its directory is cut short"))?;
        entries.push(entry);
        rest = after;
    }
    Ok(entries)
}

/// The number of entries and where the directory begins.
fn end(bytes: &[u8]) -> Option<(usize, usize)> {
    let from = bytes.len().saturating_sub(END_WITHIN);
    let tail = bytes.get(from..)?;
    let at = tail.windows(4).rposition(|window| window == b"PK\x05\x06")?;
    let record = tail.get(at..)?;
    let (count, start) = (u16_at(record, 10)?, u32_at(record, 16)?);
    if count != u16::MAX && start != u32::MAX {
        return Some((count.into(), usize::try_from(start).ok()?));
    }
    // Zip64: a locator right before the record leads to a larger one.
    let locator = bytes.get(from.checked_add(at)?.checked_sub(20)?..)?;
    if !locator.starts_with(b"PK\x06\x07") {
        return None;
    }
    let large = bytes.get(usize::try_from(u64_at(locator, 8)?).ok()?..)?;
    if !large.starts_with(b"PK\x06\x06") {
        return None;
    }
    Some((usize::try_from(u64_at(large, 32)?).ok()?, usize::try_from(u64_at(large, 48)?).ok()?))
}

/// One entry of the directory, and what follows.
fn central(bytes: &[u8]) -> Option<(Entry, &[u8])> {
    if !bytes.starts_with(b"PK\x01\x02") {
        return None;
    }
    let (name, extra, comment) = (
        usize::from(u16_at(bytes, 28)?),
        usize::from(u16_at(bytes, 30)?),
        usize::from(u16_at(bytes, 32)?),
    );
    let rest = bytes.get(46..)?;
    let (name, rest) = rest.split_at_checked(name)?;
    let (extra, rest) = rest.split_at_checked(extra)?;
    let mut entry = Entry {
        name: String::from_utf8_lossy(name).replace('\\', "/"),
        encrypted: u16_at(bytes, 8)? & 1 != 0,
        method: u16_at(bytes, 10)?,
        crc: u32_at(bytes, 16)?,
        packed: u32_at(bytes, 20)?.into(),
        size: u32_at(bytes, 24)?.into(),
        at: u32_at(bytes, 42)?.into(),
        special: is_special(u16_at(bytes, 4)?, u32_at(bytes, 38)?),
    };
    widen(&mut entry, extra);
    Some((entry, rest.get(comment..)?))
}

/// Takes sizes that do not fit 32 bits from the zip64 field.
fn widen(entry: &mut Entry, mut extra: &[u8]) {
    while let (Some(id), Some(size)) = (u16_at(extra, 0), u16_at(extra, 2)) {
        let Some((mut field, rest)) =
            extra.get(4..).and_then(|rest| rest.split_at_checked(usize::from(size)))
        else {
            return;
        };
        extra = rest;
        if id != 1 {
            continue;
        }
        for value in [&mut entry.size, &mut entry.packed, &mut entry.at] {
            if *value == u64::from(u32::MAX)
                && let Some(wide) = u64_at(field, 0)
            {
                *value = wide;
                field = field.get(8..).unwrap_or_default();
            }
        }
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|bytes| u16::from_le_bytes(*bytes))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compression, write::DeflateEncoder};
    use proptest::prelude::*;

    use crate::formats::tests::read;

    /// Files as a zip archive; `deflate` compresses them.
    fn zip(files: &[(&str, &[u8])], deflate: bool) -> Vec<u8> {
        let (mut out, mut directory) = (Vec::new(), Vec::new());
        for (name, content) in files {
            let mut crc = flate2::Crc::new();
            crc.update(content);
            let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
            encoder.write_all(content).unwrap();
            let data = if deflate { encoder.finish().unwrap() } else { content.to_vec() };
            let at = u32::try_from(out.len()).unwrap();
            let mut fields = vec![20, 0, 0, 8, if deflate { 8 } else { 0 }, 0, 0, 0, 0, 0];
            fields.extend(crc.sum().to_le_bytes());
            fields.extend(u32::try_from(data.len()).unwrap().to_le_bytes());
            fields.extend(u32::try_from(content.len()).unwrap().to_le_bytes());
            fields.extend(u16::try_from(name.len()).unwrap().to_le_bytes());
            fields.extend([0, 0]);
            out.extend(b"PK\x03\x04");
            out.extend(&fields);
            out.extend(name.as_bytes());
            out.extend(&data);
            directory.extend(b"PK\x01\x02\x14\x03");
            directory.extend(&fields);
            directory.extend([0; 6]);
            let mode: u32 = if name.starts_with("link") { 0o120_777 } else { 0o100_644 };
            directory.extend((mode << 16).to_le_bytes());
            directory.extend(at.to_le_bytes());
            directory.extend(name.as_bytes());
        }
        let start = u32::try_from(out.len()).unwrap();
        out.extend(&directory);
        out.extend(b"PK\x05\x06\0\0\0\0");
        let count = u16::try_from(files.len()).unwrap().to_le_bytes();
        out.extend(count);
        out.extend(count);
        out.extend(u32::try_from(directory.len()).unwrap().to_le_bytes());
        out.extend(start.to_le_bytes());
        out.extend([0, 0]);
        out
    }

    const REQUEST: &[u8] = b"GET /a HTTP/1.1\r\nHost: api.test\r\n\r\n";
    const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    const LINE: &[u8] = br#"{"msgType":"rrpair","http":{"req":{"method":"GET","url":"/x"},"res":{"statusCode":200}}}"#;

    #[test]
    fn files_in_an_archive_are_read_like_those_of_a_directory() {
        let files: [(&str, &[u8]); 7] = [
            ("d/Res1.txt", RESPONSE),
            ("d/Req1.txt", REQUEST),
            ("d/Req2.txt", REQUEST),
            ("raw.jsonl", LINE),
            ("notes.txt", b"hello"),
            ("secrets/k.json", b"{}"),
            ("__MACOSX/._raw.jsonl", b"{}"),
        ];
        for deflate in [false, true] {
            for path in ["a.zip", "a.json", "a"] {
                let seen = read(path, &[&zip(&files, deflate)]);
                assert_eq!((seen.pairs.len(), seen.refused.len()), (2, 0), "{seen:?}");
                assert_eq!(seen.skipped.len(), 1);
                assert_eq!(seen.skipped[0].subject, format!("{path}/d/Req2.txt"));
            }
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused_by_name() {
        let nested = zip(&[("raw.jsonl", LINE)], true);
        let zeros = vec![b' '; 4 * 1024 * 1024];
        let cases: [(&str, &[u8], &str); 2] = [
            ("b/inner.zip", &nested, "archive_unsafe_entry"),
            ("b/bomb.json", &zeros, "limit_exceeded"),
        ];
        for (name, content, code) in cases {
            let seen = read("a.zip", &[&zip(&[(name, content), ("c.jsonl", LINE)], true)]);
            assert_eq!(seen.pairs.len(), 1, "the others are read");
            assert_eq!(
                (seen.refused[0].code, seen.refused[0].subject.as_str()),
                (code, format!("a.zip/{name}").as_str())
            );
        }
        let good = zip(&[("raw.jsonl", LINE)], false);
        assert_eq!(read("a.zip", &[&good[..good.len() - 30]]).refused[0].code, "archive_damaged");
        let mut wrong = good.clone();
        wrong[45] ^= 1;
        assert_eq!(read("a.zip", &[&wrong]).refused[0].code, "archive_damaged");
        let mut encrypted = good;
        let directory = encrypted.windows(4).position(|window| window == b"PK\x01\x02").unwrap();
        encrypted[directory + 8] |= 1;
        assert_eq!(read("a.zip", &[&encrypted]).refused[0].code, "archive_unsafe_entry");
        for (name, shown) in [
            ("../x.jsonl", "a.zip/../x.jsonl"),
            ("d/../../x.jsonl", "a.zip/d/../../x.jsonl"),
            ("..\\x.jsonl", "a.zip/../x.jsonl"),
            ("/etc/x.jsonl", "a.zip//etc/x.jsonl"),
            ("C:\\x.jsonl", "a.zip/C:/x.jsonl"),
            ("link.jsonl", "a.zip/link.jsonl"),
            ("../\u{1b}[2J.log", "a.zip/../\u{fffd}[2J.log"),
        ] {
            let seen = read("a.zip", &[&zip(&[(name, LINE), ("raw.jsonl", LINE)], true)]);
            let refused = &seen.refused[0];
            assert_eq!((refused.code, &*refused.subject), ("archive_unsafe_entry", shown));
            assert_eq!((seen.pairs.len(), seen.refused.len()), (1, 1), "{name}");
        }
        let twice = read("a.zip", &[&zip(&[("raw.jsonl", LINE), ("raw.jsonl", LINE)], true)]);
        assert_eq!((twice.pairs.len(), twice.refused.len(), twice.skipped.len()), (0, 2, 0));
        assert_eq!(read("a.zip", &[&zip(&[("x.log", b"")], false)]).skipped[0].code, "empty_file");
        assert_eq!(read("a.zip", &[&zip(&[], false)]).skipped[0].code, "empty_file");
    }

    proptest! {
        #[test]
        fn damage_does_not_panic(at in 0_usize..400, byte: u8, cut in 0_usize..400) {
            let mut bytes = zip(&[("d/Req1.txt", REQUEST), ("d/Res1.txt", RESPONSE), ("raw.jsonl", LINE)], true);
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
            bytes.truncate(bytes.len().saturating_sub(cut / 4));
            read("a.zip", &[&bytes]);
        }
    }
}
