//! The home of tests that belong to no crate: see `tests/README.md`.
//!
//! `system/` reads the workspace itself, `python/` and `js/` drive the release binary with real clients,
//! `fuzz/` feeds the decoders with noise. There is no code in here.
