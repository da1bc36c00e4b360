//! See `countersign_fuzz::template`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| countersign_fuzz::template(data));
