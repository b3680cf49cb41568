//! libFuzzer's entry for `access_log`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| (tulle_fuzz::named("access_log").run)(data));
