//! What of a request's samples is left out, and why.

/// Why a sample, a histogram or an exemplar is left out. What surrounds it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Its labels are no identity, or its metric's name cannot be used.
    Labels,
    /// Its series has too many labels, or too long ones.
    LabelLimits,
    /// Its tenant has as many series as it may.
    SeriesLimit,
    /// It is older or newer than allowed.
    Time,
    /// Its value contradicts itself, or is not there.
    Value,
}

impl Reason {
    /// All reasons, with their names in metrics.
    pub const ALL: [(Self, &'static str); 5] = [
        (Self::Labels, "labels"),
        (Self::LabelLimits, "label_limits"),
        (Self::SeriesLimit, "series_limit"),
        (Self::Time, "time"),
        (Self::Value, "value"),
    ];
}

/// How much is left out, by reason, and what the first of it was.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rejected {
    counts: [u64; Reason::ALL.len()],
    message: String,
}

impl Rejected {
    /// Counts `n` more; the first reason that comes with any is the message.
    #[cold]
    pub fn add(&mut self, reason: Reason, n: u64, why: impl FnOnce() -> String) {
        self.counts[reason as usize] += n;
        if self.message.is_empty() && n > 0 {
            self.message = why();
        }
    }

    /// How many are left out.
    pub fn n(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// How many are left out for this reason.
    pub fn of(&self, reason: Reason) -> u64 {
        self.counts[reason as usize]
    }

    /// Why the first of them were, empty if none was; for the sender.
    pub fn message(&self) -> &str {
        &self.message
    }
}
