//! See `countersign_fuzz::chaos`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| countersign_fuzz::chaos(data));
