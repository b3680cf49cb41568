//! libFuzzer's entry for `path_template`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| (tulle_fuzz::named("path_template").run)(data));
