//! stub

/// How each index window is spread over partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableLayout {
    /// Partitions per window; may grow, never shrink. 1 locally; in DynamoDB one partition takes 1,000 writes a second.
    pub shards: u8,
}

/// stub
#[derive(Debug, Clone, PartialEq)]
pub struct Descriptor {
    /// Rows.
    pub rows: u64,
}
