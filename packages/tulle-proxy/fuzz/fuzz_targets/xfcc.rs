//! libFuzzer's entry for `xfcc`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| (tulle_fuzz::named("xfcc").run)(data));
