# The same commands as CI: `just` lists them.
default:
    @just --list

# Format, clippy, documentation, unit tests and layering.
check:
    tests/run lint unit

# Everything that CI runs: check, release build, Lambda zips, system tests with real clients.
test:
    tests/run

# `kill -9` under load, ten times.
kill:
    tests/run build kill

# A minute of each fuzz target; needs a nightly toolchain and `cargo install cargo-fuzz --locked`.
fuzz:
    tests/run fuzz

# The zips for AWS Lambda, into target/lambda.
package:
    tests/run build

# Throughput and latency of the release binary.
bench *arguments:
    cargo run --release -- bench {{arguments}}
