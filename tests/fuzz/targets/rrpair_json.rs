//! See `countersign_fuzz::rrpair_json`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| countersign_fuzz::rrpair_json(data));
