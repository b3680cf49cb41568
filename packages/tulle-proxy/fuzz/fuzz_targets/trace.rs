//! libFuzzer's entry for `trace`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| (tulle_fuzz::named("trace").run)(data));
