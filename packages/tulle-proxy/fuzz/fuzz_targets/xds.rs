//! libFuzzer's entry for `xds`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| (tulle_fuzz::named("xds").run)(data));
