//! How many series a tenant may begin.
//!
//! Counted per process and hour, by fingerprints of label sets: a function that keeps nothing between requests cannot
//! know what others see. It stops an explosion of labels where it arrives; it is no exact quota.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::{Mutex, PoisonError};

use foldhash::fast::RandomState;
use model::{SeriesBatch, TenantId};

/// Fingerprints that are kept at most, all tenants together: 8 bytes each, and what the table around them takes.
const MAX_FINGERPRINTS: usize = 8_000_000;
const HOUR_MS: i64 = 3_600_000;

/// The series of the present hour.
#[derive(Debug, Default)]
pub(crate) struct SeriesGuard {
    hasher: RandomState,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    hour: i64,
    n_fingerprints: usize,
    tenants: HashMap<TenantId, HashSet<u64, RandomState>>,
}

impl SeriesGuard {
    /// Drops the series with which `tenant` would have more than `max` in the hour of `now_ms`; returns how many
    /// samples, histograms and exemplars that were.
    pub(crate) fn admit(&self, tenant: &TenantId, now_ms: i64, max: usize, batch: &mut SeriesBatch) -> u64 {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let hour = now_ms.div_euclid(HOUR_MS);
        if seen.hour != hour || seen.n_fingerprints > MAX_FINGERPRINTS {
            *seen = Seen { hour, ..Seen::default() };
        }
        let Seen { n_fingerprints, tenants, .. } = &mut *seen;
        let known = tenants.entry(tenant.clone()).or_default();
        batch.retain(|batch, series| {
            let fingerprint = self.fingerprint(batch, series);
            if known.contains(&fingerprint) {
                return true;
            }
            let is_admitted = known.len() < max;
            if is_admitted {
                known.insert(fingerprint);
                *n_fingerprints += 1;
            }
            is_admitted
        })
    }

    fn fingerprint(&self, batch: &SeriesBatch, series: usize) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        for &(name, value) in batch.labels_of(series) {
            for text in [batch.symbols.get(name), batch.symbols.get(value)] {
                hasher.write(text.as_bytes());
                hasher.write_u8(0xff);
            }
        }
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use model::series::{SeriesBuilder, Temporality};

    use super::*;

    fn batch(names: &[&str]) -> SeriesBatch {
        let mut builder = SeriesBuilder::default();
        for name in names {
            builder.label("__name__", name);
            let series = builder.close_labels(Temporality::Cumulative).expect("labels");
            builder.sample(series, 0, 1.0, 0);
        }
        builder.finish()
    }

    #[test]
    fn known_series_stay_and_new_ones_wait_for_the_next_hour() {
        let (guard, tenant) = (SeriesGuard::default(), TenantId::default_tenant());
        let admit = |names: &[&str], now_ms| guard.admit(&tenant, now_ms, 2, &mut batch(names));
        assert_eq!(admit(&["a", "b", "c"], 0), 1);
        assert_eq!(admit(&["b", "a", "d", "e"], HOUR_MS - 1), 2);
        assert_eq!(admit(&["d", "e"], HOUR_MS), 0);
        let other: TenantId = "other".parse().expect("a tenant");
        assert_eq!(guard.admit(&other, HOUR_MS, 2, &mut batch(&["x", "y"])), 0);
    }
}
