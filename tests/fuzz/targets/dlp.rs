//! See `countersign_fuzz::dlp`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| countersign_fuzz::dlp(data));
