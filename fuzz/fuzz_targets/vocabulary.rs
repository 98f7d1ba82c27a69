#![no_main]

#[path = "../../tests/src/parsers.rs"]
#[allow(dead_code)]
mod parsers;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    parsers::vocabulary(bytes);
});
