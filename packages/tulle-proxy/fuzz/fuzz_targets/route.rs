//! libFuzzer's entry for `route`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| (tulle_fuzz::named("route").run)(data));
