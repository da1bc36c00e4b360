//! Recordings that are called `mappings/a.json`, see `countersign_fuzz::recording`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| countersign_fuzz::recording("mappings/a.json", data));
