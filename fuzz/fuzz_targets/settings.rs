//! The target `settings` of `tests/src/fuzz`, for libFuzzer.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| ptn_tests::fuzz::settings(data));
