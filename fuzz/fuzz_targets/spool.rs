//! The target `spool` of `tests/src/fuzz`, for libFuzzer.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| ptn_tests::fuzz::spool(data));
