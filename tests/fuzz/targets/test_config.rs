//! See `countersign_fuzz::test_config`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| countersign_fuzz::test_config(data));
