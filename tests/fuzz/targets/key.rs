//! See `countersign_fuzz::key`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| countersign_fuzz::key(data));
