//! See `countersign_fuzz::lineage`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| countersign_fuzz::lineage(data));
