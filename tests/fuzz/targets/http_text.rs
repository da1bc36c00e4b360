//! Recordings that are called `Req1.txt`, see `countersign_fuzz::recording`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| countersign_fuzz::recording("Req1.txt", data));
