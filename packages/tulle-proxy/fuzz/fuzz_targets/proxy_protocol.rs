//! libFuzzer's entry for `proxy_protocol`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| (tulle_fuzz::named("proxy_protocol").run)(data));
