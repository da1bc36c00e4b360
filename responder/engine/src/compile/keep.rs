//! What a compiled snapshot keeps of a recording: copies that many answers share, so that the chunks they came in can be forgotten.
//!
//! A body that is a slice of its chunk would keep the whole chunk, with all that serving never asks for. Copies lie close together in
//! large buffers; equal bodies, and equal sets of header fields, are kept once.

use std::{collections::HashMap, sync::Arc};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue};
use rapidhash::{fast::RandomState, v3::rapidhash_v3};

use super::headers;
use crate::{diagnostic::Diagnostics, snapshot::Header};

/// The size of a buffer that copies share. Longer bytes have a buffer of their own.
const BUFFER: usize = 256 * 1024;
/// So many different sets of header fields are recognised when they come again.
const MAX_MAPS: usize = 65_536;

/// The copies of a snapshot that is being compiled.
#[derive(Debug, Default)]
pub(super) struct Keep {
    open: BytesMut,
    by_hash: HashMap<u64, Bytes, RandomState>,
    maps: HashMap<Box<[u8]>, Arc<HeaderMap>, RandomState>,
    /// Where keys and signatures are written before it is known whether they are new.
    pub(super) scratch: Vec<u8>,
}

impl Keep {
    /// A copy of these bytes, shared with those that are equal.
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> Bytes {
        if bytes.is_empty() {
            return Bytes::new();
        }
        let hash = rapidhash_v3(bytes);
        // Two different texts may have one hash.
        if let Some(known) = self.by_hash.get(&hash)
            && **known == *bytes
        {
            return known.clone();
        }
        let copy = self.copy(bytes);
        self.by_hash.insert(hash, copy.clone());
        copy
    }

    fn copy(&mut self, bytes: &[u8]) -> Bytes {
        if bytes.len() > BUFFER / 4 {
            return Bytes::copy_from_slice(bytes);
        }
        if self.open.capacity() < bytes.len() {
            self.open = BytesMut::with_capacity(BUFFER);
        }
        self.open.extend_from_slice(bytes);
        self.open.split().freeze()
    }

    /// The fields that are served of these, shared with equal ones.
    pub(super) fn headers(
        &mut self,
        recorded: &[Header],
        subject: &dyn Fn() -> String,
        found: &mut Diagnostics,
    ) -> Arc<HeaderMap> {
        let fields = self.write(recorded);
        if let Some(known) = self.maps.get(&*self.scratch) {
            return Arc::clone(known);
        }
        let served = headers::served(recorded, subject, found);
        let sound = served.len() == fields;
        let served = Arc::new(self.map(&served));
        // What is said of fields that are left out is said of each pair.
        if sound && self.maps.len() < MAX_MAPS {
            self.maps.insert(self.scratch.as_slice().into(), Arc::clone(&served));
        }
        served
    }

    /// The same when there is nothing to be said of them.
    pub(super) fn sound_headers(&mut self, recorded: &[Header]) -> Option<Arc<HeaderMap>> {
        let mut found = Diagnostics::default();
        let served = self.headers(recorded, &String::new, &mut found);
        found.as_slice().is_empty().then_some(served)
    }

    /// Writes the fields that are served, so that equal ones are found; tells how many they are.
    fn write(&mut self, recorded: &[Header]) -> usize {
        self.scratch.clear();
        let mut fields = 0;
        for field in recorded.iter().filter(|field| headers::is_served(field)) {
            fields += 1;
            for part in [field.name.as_bytes(), &field.value] {
                self.scratch.extend_from_slice(&part.len().to_le_bytes());
                self.scratch.extend_from_slice(part);
            }
        }
        fields
    }

    /// The same fields, shared with equal ones.
    pub(super) fn shared(&mut self, fields: &HeaderMap) -> Arc<HeaderMap> {
        self.scratch.clear();
        // No name of a field begins so.
        self.scratch.push(0);
        for (name, value) in fields {
            for part in [name.as_str().as_bytes(), value.as_bytes()] {
                self.scratch.extend_from_slice(&part.len().to_le_bytes());
                self.scratch.extend_from_slice(part);
            }
        }
        if let Some(known) = self.maps.get(&*self.scratch) {
            return Arc::clone(known);
        }
        let kept = Arc::new(self.map(fields));
        if self.maps.len() < MAX_MAPS {
            self.maps.insert(self.scratch.as_slice().into(), Arc::clone(&kept));
        }
        kept
    }

    /// The trailers that are served.
    pub(super) fn trailers(
        &mut self,
        recorded: &[Header],
        subject: &dyn Fn() -> String,
        found: &mut Diagnostics,
    ) -> Option<Box<HeaderMap>> {
        let served = headers::trailers(recorded, subject, found)?;
        Some(Box::new(self.map(&served)))
    }

    /// The same fields with copies of their values.
    pub(super) fn map(&mut self, fields: &HeaderMap) -> HeaderMap {
        let mut copies = HeaderMap::with_capacity(fields.keys_len());
        for (name, value) in fields {
            let copy = HeaderValue::from_maybe_shared(self.bytes(value.as_bytes()));
            let mut copy = copy.unwrap_or_else(|_| value.clone());
            copy.set_sensitive(value.is_sensitive());
            copies.append(name.clone(), copy);
        }
        copies
    }

    /// The same fields with copies of their values.
    pub(super) fn fields(&mut self, fields: &mut [Header]) {
        for field in fields {
            field.value = self.bytes(&field.value);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn copies_are_equal_to_what_they_are_of(texts in prop::collection::vec("[ab]{0,3}|[a-z]{9,60}", 0..40)) {
            let mut keep = Keep::default();
            let copies: Vec<Bytes> = texts.iter().map(|text| keep.bytes(text.as_bytes())).collect();
            prop_assert_eq!(copies, texts.into_iter().map(Bytes::from).collect::<Vec<_>>());
        }
    }

    #[test]
    fn equal_fields_are_kept_once_and_unsound_ones_are_told_of_each_time() {
        let field = |name: &str, value: &'static [u8]| Header {
            name: name.into(),
            value: Bytes::from_static(value),
        };
        let (mut keep, mut found) = (Keep::default(), Diagnostics::default());
        let subject = || "GET /p".to_owned();
        let mut served = |fields: &[Header]| keep.headers(fields, &subject, &mut found);
        let first = served(&[field("X-A", b"1"), field("Date", b"then"), field("x-a", b"2")]);
        let again = served(&[field("X-A", b"1"), field("x-a", b"2"), field("Date", b"later")]);
        assert!(Arc::ptr_eq(&first, &again));
        assert_eq!(first.get_all("x-a").iter().count(), 2);
        let unsound = [field("X-A", b"1"), field("x-b", b"\n")];
        assert_eq!(served(&unsound), served(&unsound));
        assert_eq!(found.as_slice().iter().map(|found| found.count).sum::<u64>(), 2);
    }
}
