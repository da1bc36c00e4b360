//! Zip archives as no tool makes them: any name, any kind of entry, any damage.

use std::io::Write as _;

use flate2::{Compression, Crc, write::DeflateEncoder};

/// One entry.
pub(super) struct Entry<'e> {
    pub(super) name: &'e str,
    pub(super) content: Vec<u8>,
    /// The kind and the permissions, as on Unix.
    pub(super) mode: u32,
}

impl<'e> Entry<'e> {
    pub(super) fn file(name: &'e str, content: impl Into<Vec<u8>>) -> Self {
        Self { name, content: content.into(), mode: 0o100_644 }
    }

    pub(super) fn of_mode(self, mode: u32) -> Self {
        Self { mode, ..self }
    }
}

/// An archive of these entries.
pub(super) fn zip(entries: &[Entry<'_>]) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX).to_le_bytes();
    let short = |value: usize| u16::try_from(value).unwrap_or(u16::MAX).to_le_bytes();
    for Entry { name, content, mode } in entries {
        let (mut crc, mut packer) =
            (Crc::new(), DeflateEncoder::new(Vec::new(), Compression::best()));
        crc.update(content);
        // Writing to memory does not fail.
        drop(packer.write_all(content));
        let packed = packer.finish().unwrap_or_default();
        let sizes = [crc.sum().to_le_bytes(), number(packed.len()), number(content.len())].concat();
        // Version 2.0, a name in UTF-8, deflate, no time.
        let common =
            [&[20, 0, 0, 8, 8, 0, 0, 0, 0, 0][..], &sizes, &short(name.len()), &[0, 0]].concat();
        let begins = number(out.len());
        out.extend([&b"PK\x03\x04"[..], &common, name.as_bytes(), &packed].concat());
        let attributes = (mode << 16).to_le_bytes();
        let made_on_unix = b"PK\x01\x02\x14\x03";
        let fields = [&made_on_unix[..], &common, &[0; 6], &attributes, &begins, name.as_bytes()];
        directory.extend(fields.concat());
    }
    let count = short(entries.len());
    let (size, begins) = (number(directory.len()), number(out.len()));
    let end = [&b"PK\x05\x06\0\0\0\0"[..], &count, &count, &size, &begins, &[0, 0]].concat();
    [out, directory, end].concat()
}

/// The end of an archive with a million entries, in the form for large ones.
pub(super) fn million_entries() -> Vec<u8> {
    let count = 1_000_000_u64.to_le_bytes();
    let record = [&b"PK\x06\x06"[..], &[0; 20], &count, &count, &[0; 16]].concat();
    let locator = [&b"PK\x06\x07"[..], &[0; 4], &0_u64.to_le_bytes(), &[0; 4]].concat();
    let end = [&b"PK\x05\x06\0\0\0\0"[..], &[0xff; 4], &[0; 4], &[0xff; 4], &[0, 0]].concat();
    [record, locator, end].concat()
}
