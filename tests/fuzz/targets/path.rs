//! See `countersign_fuzz::path`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| countersign_fuzz::path(data));
