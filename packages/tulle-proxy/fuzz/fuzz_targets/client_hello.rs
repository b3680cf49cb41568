//! libFuzzer's entry for `client_hello`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| (tulle_fuzz::named("client_hello").run)(data));
