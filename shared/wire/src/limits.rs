//! What a request may cost.

use model::series::SeriesBuilder;

use crate::error::Error;

/// Bounds of one request; all of them are checked before memory is taken.
///
/// Two bounds follow from these. The JSON text of one value or one map of attributes takes no further entry beyond four
/// times `max_string_bytes`. A request has at most one attribute per 8, one event and one link per 16, and one log record per 64
/// bytes of `max_body_bytes`, because what says nothing costs the sender 2 bytes and the columns up to 40, a log record 100.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The longest compressed body.
    pub max_compressed_bytes: usize,
    /// The longest body that is not, or no longer, compressed.
    pub max_body_bytes: usize,
    /// The deepest nesting of values: an attribute's own value is at 1, an element of its array at 2.
    pub max_depth: usize,
    /// The longest list of attributes, of events, and of links of one row, and of attributes of anything else.
    pub max_attributes_per_span: usize,
    /// The longest key, text or bytes.
    pub max_string_bytes: usize,
    /// The most labels of a series.
    pub max_labels: usize,
    /// The longest value of a label.
    pub max_label_value_bytes: usize,
    /// The most samples of series in one request.
    pub max_samples: usize,
    /// The most series in one request.
    pub max_series: usize,
    /// No sample is earlier, ms since the epoch.
    pub min_time_ms: i64,
    /// No sample is later, ms since the epoch.
    pub max_time_ms: i64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_compressed_bytes: 20 << 20,
            max_body_bytes: 64 << 20,
            max_depth: 32,
            max_attributes_per_span: 4096,
            max_string_bytes: 1 << 20,
            max_labels: 128,
            max_label_value_bytes: 16 << 10,
            max_samples: 1 << 20,
            max_series: 1 << 18,
            min_time_ms: i64::MIN,
            max_time_ms: i64::MAX,
        }
    }
}

impl Limits {
    /// What there is more of than a request may hold: then it is refused as a whole.
    pub(crate) fn excess(&self, builder: &SeriesBuilder) -> Option<Error> {
        let over = |n: usize, limit: usize, what| (n > limit).then_some(Error::TooMany { limit, what });
        over(builder.n_samples(), self.max_samples, "samples")
            .or_else(|| over(builder.n_series(), self.max_series, "series"))
    }

    /// Why a sample of this time is left out, if it is.
    pub(crate) fn fault_of_time(&self, time_ms: i64) -> Option<&'static str> {
        if time_ms < self.min_time_ms {
            Some("is older than allowed")
        } else if time_ms > self.max_time_ms {
            Some("lies further in the future than allowed")
        } else {
            None
        }
    }

    /// The longest JSON text of one value or one map.
    pub(crate) fn max_json_bytes(&self) -> usize {
        self.max_string_bytes.saturating_mul(4)
    }

    /// The most attributes of rows in one request.
    pub(crate) fn max_attributes(&self) -> usize {
        self.max_body_bytes / 8
    }

    /// The most log records in one request.
    pub(crate) fn max_log_records(&self) -> usize {
        self.max_body_bytes / 64
    }

    /// The most events, and the most links, in one request.
    pub(crate) fn max_entries(&self) -> usize {
        self.max_body_bytes / 16
    }
}
