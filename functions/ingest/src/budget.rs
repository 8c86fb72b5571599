//! Bounds the bytes that all requests together hold.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::refusal::Refusal;

/// A permit's size: semaphores count in `u32`.
const UNIT_BYTES: usize = 1024;

/// Bytes that may be in flight at once.
pub(crate) struct Budget {
    units: Arc<Semaphore>,
    n_units: usize,
    wait: Duration,
}

/// A part of the budget, given back when dropped.
pub(crate) struct Held {
    units: Arc<Semaphore>,
    permit: OwnedSemaphorePermit,
    n_units: usize,
    wait: Duration,
}

impl Budget {
    /// A budget of `bytes`, for whose parts a request waits at most `wait`.
    pub(crate) fn new(bytes: usize, wait: Duration) -> Self {
        let n_units = bytes.div_ceil(UNIT_BYTES).clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        Self { units: Arc::new(Semaphore::new(n_units)), n_units, wait }
    }

    /// The bytes in flight.
    pub(crate) fn held_bytes(&self) -> usize {
        (self.n_units - self.units.available_permits()) * UNIT_BYTES
    }

    /// Takes `bytes`, or all there ever is if that is less.
    pub(crate) async fn hold(&self, bytes: usize) -> Result<Held, Refusal> {
        let n_units = bytes.div_ceil(UNIT_BYTES).clamp(1, self.n_units);
        let permit = take(&self.units, n_units, self.wait).await?;
        Ok(Held { units: Arc::clone(&self.units), permit, n_units: self.n_units, wait: self.wait })
    }
}

impl Held {
    /// Takes as much more as makes it `bytes` in all.
    ///
    /// Two requests that hold a part and wait for more may wait for each other; the wait's end frees one.
    pub(crate) async fn grow(&mut self, bytes: usize) -> Result<(), Refusal> {
        let n_units = bytes.div_ceil(UNIT_BYTES).clamp(1, self.n_units);
        if let Some(n_more) = n_units.checked_sub(self.permit.num_permits()).filter(|&n_more| n_more > 0) {
            self.permit.merge(take(&self.units, n_more, self.wait).await?);
        }
        Ok(())
    }
}

async fn take(
    units: &Arc<Semaphore>,
    n_units: usize,
    wait: Duration,
) -> Result<OwnedSemaphorePermit, Refusal> {
    let n_units = n_units as u32;
    if let Ok(permit) = Arc::clone(units).try_acquire_many_owned(n_units) {
        return Ok(permit);
    }
    let permit = tokio::time::timeout(wait, Arc::clone(units).acquire_many_owned(n_units)).await;
    permit.ok().and_then(Result::ok).ok_or(Refusal::Busy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_request_waits_for_its_part_and_then_gives_up() {
        let budget = Budget::new(10 << 10, Duration::from_secs(2));
        let first = budget.hold(8 << 10).await.expect("free");
        assert!(matches!(budget.hold(4 << 10).await, Err(Refusal::Busy)));
        assert_eq!(budget.held_bytes(), 8 << 10);
        let (second, ()) = tokio::join!(budget.hold(4 << 10), async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            drop(first);
        });
        let mut second = second.expect("freed in time");
        second.grow(9 << 10).await.expect("free");
        assert_eq!(budget.held_bytes(), 9 << 10);
        drop(second);
        assert_eq!(budget.held_bytes(), 0);
    }

    #[tokio::test]
    async fn more_than_the_budget_means_all_of_it() {
        let budget = Budget::new(10 << 10, Duration::ZERO);
        let all = budget.hold(1 << 30).await.expect("free");
        assert_eq!(budget.held_bytes(), 10 << 10);
        assert!(budget.hold(1).await.is_err());
        drop(all);
    }
}
