//! libFuzzer's entry for `jwks`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| (tulle_fuzz::named("jwks").run)(data));
