//! Where the columns of a file are.

/// Where the columns of a file are: `C` of a file of one request, `M` of a merged one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Places<C, M> {
    /// Of a file of one request: in one row group.
    OfRequest(C),
    /// Of a merged file: in units.
    Merged(M),
}
