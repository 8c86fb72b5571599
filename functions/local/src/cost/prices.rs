//! What the provider charges: one table of list prices.
//!
//! Region us-east-1, on-demand, without free tiers, discounts and taxes, as of 2026-11. Not counted: data transfer
//! (none within a region through gateway endpoints; out to the internet it is $0.09 a GB after the first 100 GB a
//! month), the door in front of the functions (a function URL is free, an HTTP API costs $1.00 a million requests),
//! keys of KMS, alarms, backups.

/// Dollars. Sizes are binary: a GB is 2^30 bytes, in S3 as in DynamoDB.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Prices {
    /// A million PUT or LIST requests of S3 Standard; DELETE is free.
    /// Source: aws.amazon.com/s3/pricing, "Requests & data retrievals", 2026-11.
    pub million_object_puts: f64,
    /// A million GET or HEAD requests of S3 Standard.
    /// Source: as [`Prices::million_object_puts`].
    pub million_object_gets: f64,
    /// A GB for a month in S3 Standard, in the first 50 TB of a month; more costs up to 9 % less, which is not counted.
    /// Source: aws.amazon.com/s3/pricing, "Storage", 2026-11.
    pub object_gb_month: f64,
    /// A million write request units: 1 KB each, rounded up; a write in a transaction takes two for each.
    /// Source: aws.amazon.com/dynamodb/pricing/on-demand, 2026-11.
    pub million_write_units: f64,
    /// A million read request units: 4 KB each, rounded up; half a unit where a read need not be consistent (ours all
    /// have to be), two in a transaction.
    /// Source: as [`Prices::million_write_units`].
    pub million_read_units: f64,
    /// A GB of the table for a month; the first 25 GB are free, which is not counted.
    /// Source: as [`Prices::million_write_units`].
    pub table_gb_month: f64,
    /// A GB of memory for a second of a Lambda function on arm64, in the first 7.5 billion a month.
    /// Source: aws.amazon.com/lambda/pricing, 2026-11.
    pub function_gb_s: f64,
    /// A million invocations of Lambda functions.
    /// Source: as [`Prices::function_gb_s`].
    pub million_function_requests: f64,
    /// A GB of log lines taken in by CloudWatch Logs, class Standard.
    /// Source: aws.amazon.com/cloudwatch/pricing, "Logs", 2026-11.
    pub log_gb: f64,
}

/// The list prices of us-east-1.
pub const US_EAST_1: Prices = Prices {
    million_object_puts: 5.00,
    million_object_gets: 0.40,
    object_gb_month: 0.023,
    million_write_units: 0.625,
    million_read_units: 0.125,
    table_gb_month: 0.25,
    function_gb_s: 0.000_013_333_4,
    million_function_requests: 0.20,
    log_gb: 0.50,
};
