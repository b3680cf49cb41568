//! libFuzzer's entry for `h1_request`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| (tulle_fuzz::named("h1_request").run)(data));
