//! libFuzzer's entry for `hpack`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| (tulle_fuzz::named("hpack").run)(data));
