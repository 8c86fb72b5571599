//! The crate through its public functions.

mod compression;
mod generate;
mod hostile;
mod json;
mod logs;
mod protobuf;
mod round_trip;
mod rules;
mod sample;
