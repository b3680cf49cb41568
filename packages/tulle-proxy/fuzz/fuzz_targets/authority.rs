//! libFuzzer's entry for `authority`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| (tulle_fuzz::named("authority").run)(data));
