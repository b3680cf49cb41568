//! libFuzzer's entry for `h2_server`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| (tulle_fuzz::named("h2_server").run)(data));
