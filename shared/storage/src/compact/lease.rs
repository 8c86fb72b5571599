//! Who merges in a window.
//!
//! A lease spares work, it does not guard anything: publishing checks the version of the lease's item, which is the fencing
//! token, and the version of each input. A compactor that was stalled until another took over publishes nothing.
//!
//! ```text
//! item = u64 LE seconds since the epoch until when  owner, UTF-8
//! ```

use crate::index::keys;
use crate::kv::{Condition, Key, KeyValue, NewItem, Outcome, Write};
use crate::{Error, Result};

/// How long a lease lasts: as long as a function may run.
pub(super) const LEASE_S: u64 = 900;

/// A lease that is held, or was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lease {
    key: Key,
    version: u64,
}

impl Lease {
    /// Takes the lease with this name; `None` if another owner has it.
    ///
    /// # Errors
    /// As the table.
    pub(super) async fn take(
        table: &dyn KeyValue,
        name: &str,
        owner: &str,
        now_s: u64,
    ) -> Result<Option<Self>> {
        let key = Key::new(keys::LEASES_PARTITION, name);
        let held = table.get(&key).await?;
        let condition = match &held {
            Some(item) if until_s(&item.value)? > now_s && !is_of(&item.value, owner) => return Ok(None),
            Some(item) => Condition::Version(item.version),
            None => Condition::Absent,
        };
        let until = now_s.saturating_add(LEASE_S);
        let value = [&until.to_le_bytes(), owner.as_bytes()].concat();
        let item = NewItem { value: value.into(), expires_at_s: Some(until + LEASE_S) };
        if table.put(key.clone(), item, condition).await? == Outcome::ConditionFailed {
            return Ok(None);
        }
        let item = table.get(&key).await?;
        Ok(item.filter(|item| is_of(&item.value, owner)).map(|item| Self { key, version: item.version }))
    }

    /// Must hold for what the lease's holder writes.
    pub(super) fn check(&self) -> Write {
        Write::Check(self.key.clone(), Condition::Version(self.version))
    }

    /// Gives the lease back, if it is still held.
    ///
    /// # Errors
    /// As the table.
    pub(super) async fn release(self, table: &dyn KeyValue) -> Result<()> {
        table.transact(vec![Write::Delete(self.key, Condition::Version(self.version))]).await?;
        Ok(())
    }
}

/// Until when the lease of an item lasts.
pub(super) fn until_s(value: &[u8]) -> Result<u64> {
    let until = value.first_chunk::<8>().ok_or_else(|| Error::corrupt("lease", "value is too short"))?;
    Ok(u64::from_le_bytes(*until))
}

fn is_of(value: &[u8], owner: &str) -> bool {
    value.get(8..) == Some(owner.as_bytes())
}
