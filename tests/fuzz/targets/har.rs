//! Recordings that are called `a.har`, see `countersign_fuzz::recording`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| countersign_fuzz::recording("a.har", data));
