//! libFuzzer's entry for `grpc_timeout`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| (tulle_fuzz::named("grpc_timeout").run)(data));
