//! libFuzzer's entry for `spiffe_id`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| (tulle_fuzz::named("spiffe_id").run)(data));
