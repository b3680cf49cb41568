//! libFuzzer's entry for `path`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| (tulle_fuzz::named("path").run)(data));
