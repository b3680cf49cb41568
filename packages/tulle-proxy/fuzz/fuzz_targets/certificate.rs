//! libFuzzer's entry for `certificate`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| (tulle_fuzz::named("certificate").run)(data));
