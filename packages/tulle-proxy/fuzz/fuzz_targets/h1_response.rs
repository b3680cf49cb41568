//! libFuzzer's entry for `h1_response`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| (tulle_fuzz::named("h1_response").run)(data));
