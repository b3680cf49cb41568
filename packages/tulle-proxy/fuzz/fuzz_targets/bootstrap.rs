//! libFuzzer's entry for `bootstrap`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| (tulle_fuzz::named("bootstrap").run)(data));
