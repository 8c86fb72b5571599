//! What the table says of a window: when a writer named it last.
//!
//! ```text
//! item = decimal seconds since the epoch
//! ```
//! A writer names a window before it writes into it, and again after [`WindowItem::NAMED_FOR_S`]. So a window that nobody
//! named for [`WindowItem::UNUSED_AFTER_S`], in which no file is left, gets none unless it is named anew, and its item may go.

/// The value of a window's item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WindowItem {
    /// When a writer named it last, seconds since the epoch.
    pub(crate) named_at_s: u64,
}

impl WindowItem {
    /// How long a writer may write into a window without naming it again.
    pub(crate) const NAMED_FOR_S: u64 = 600;
    /// How long after the last naming no write may be under way any more: three times as long, because clocks differ and
    /// writes take time.
    pub(crate) const UNUSED_AFTER_S: u64 = 1800;

    pub(crate) fn encode(self) -> Vec<u8> {
        self.named_at_s.to_string().into_bytes()
    }

    /// Reads an item's value; what is no number was named at the beginning of time.
    pub(crate) fn parse(value: &[u8]) -> Self {
        let named_at_s = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
        Self { named_at_s: named_at_s.unwrap_or(0) }
    }
}
