//! Any bytes as an export request in Json: an error or columns that survive storage, never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::otlp::Format;

fuzz_target!(|body: &[u8]| spandrel_fuzz::check_request(body, Format::Json));
