//! libFuzzer's entry for `jwt`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| (tulle_fuzz::named("jwt").run)(data));
