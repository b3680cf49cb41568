//! libFuzzer's entry for `h2_client`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| (tulle_fuzz::named("h2_client").run)(data));
