//! Fuzzes one law; see `laws.rs`.

#![no_main]

#[path = "../laws.rs"]
mod laws;

libfuzzer_sys::fuzz_target!(|input: &[u8]| laws::websocket(input));
