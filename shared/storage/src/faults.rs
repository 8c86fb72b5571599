//! Decorators that make storage calls fail, hang or come late, as a test's script says.
//!
//! Every call that goes through [`FaultyObject`] or [`FaultyTable`] takes the next number of its script and meets the
//! faults that are planned for that number, its kind, or all. Nothing here is random: where a test wants many
//! scripts, it enumerates them, [`Faults::crash_at`] by [`Faults::crash_at`], or counts up the seed of
//! [`Faults::seeded`].

use std::future::Future;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

use crate::kv::{Condition, Item, Key, KeyValue, NewItem, Outcome, Page, SortRange, Write};
use crate::object::{Object, ObjectMeta, PutOutcome};
use crate::{Error, Result};

/// A kind of storage call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Call {
    /// [`Object::put_if_absent`]
    ObjectPut,
    /// [`Object::get_range`]
    ObjectGetRange,
    /// [`Object::get`]
    ObjectGet,
    /// [`Object::head`]
    ObjectHead,
    /// [`Object::delete`]
    ObjectDelete,
    /// [`Object::list`]
    ObjectList,
    /// [`KeyValue::get`]
    TableGet,
    /// [`KeyValue::batch_get`]
    TableBatchGet,
    /// [`KeyValue::range`]
    TableRange,
    /// [`KeyValue::put`]
    TablePut,
    /// [`KeyValue::transact`]
    TableTransact,
    /// [`KeyValue::delete`]
    TableDelete,
}

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is done, and the caller gets [`Error::Unavailable`].
    FailBefore,
    /// It is done, but the answer is lost: the caller gets [`Error::Unavailable`].
    FailAfter,
    /// Nothing is done, and the caller gets [`Error::Refused`].
    Refuse,
    /// Waits until [`Faults::release`], then goes on.
    Stall,
    /// It is done, and its answer waits until [`Faults::release`].
    StallAfter,
    /// Waits, then goes on.
    Delay(Duration),
}

/// Whether the call at which a process dies takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// The process died before it made the call.
    Before,
    /// The store did it; the process died before it knew.
    After,
}

/// The script that decorators follow. Clones share it.
#[derive(Debug, Clone)]
pub struct Faults {
    script: Arc<Mutex<Script>>,
    /// Counts the releases.
    releases: Arc<watch::Sender<u64>>,
}

#[derive(Debug, Default)]
struct Script {
    rules: Vec<Rule>,
    crash: Option<(usize, Crash)>,
    latency: Duration,
    seed: Option<(u64, u64)>,
    made: Vec<Call>,
}

/// A fault for the `n`-th call from `since` on that `of` names, or for all of these.
#[derive(Debug)]
struct Rule {
    of: Option<Call>,
    since: usize,
    n: Option<usize>,
    fault: Fault,
}

impl Default for Faults {
    fn default() -> Self {
        Self::new()
    }
}

impl Faults {
    /// A script without faults.
    pub fn new() -> Self {
        Self { script: Arc::default(), releases: Arc::new(watch::Sender::new(0)) }
    }

    /// A script in which about one call in `one_in` fails, before or after its effect, as `seed` decides:
    /// the same seed picks the same call numbers.
    pub fn seeded(seed: u64, one_in: u64) -> Self {
        let faults = Self::new();
        faults.lock().seed = Some((seed, one_in.max(1)));
        faults
    }

    /// Plans a fault for the `n`-th call of a kind, counted from now, the next being 0.
    pub fn on_nth(&self, call: Call, n: usize, fault: Fault) {
        self.add(Some(call), Some(n), fault);
    }

    /// Plans a fault for the `n`-th call of any kind, counted from now, the next being 0.
    pub fn on_nth_of_all(&self, n: usize, fault: Fault) {
        self.add(None, Some(n), fault);
    }

    /// Plans a fault for every call of a kind.
    pub fn on_every(&self, call: Call, fault: Fault) {
        self.add(Some(call), None, fault);
    }

    /// Lets the process die at the `n`-th call of any kind, counted from now, the next being 0:
    /// that call and all later ones fail, and none takes effect but this one with [`Crash::After`].
    pub fn crash_at(&self, n: usize, crash: Crash) {
        let mut script = self.lock();
        script.crash = Some((script.made.len() + n, crash));
    }

    /// Delays each call by `latency`, before any fault.
    pub fn delay_all(&self, latency: Duration) {
        self.lock().latency = latency;
    }

    /// Lets all calls go on that are stalled now.
    pub fn release(&self) {
        self.releases.send_modify(|n_releases| *n_releases += 1);
    }

    /// Forgets all that is planned, also a crash and a seed, and releases the stalled.
    pub fn heal(&self) {
        let mut script = self.lock();
        *script = Script { made: std::mem::take(&mut script.made), ..Script::default() };
        drop(script);
        self.release();
    }

    /// Whether the process has died.
    pub fn has_crashed(&self) -> bool {
        let script = self.lock();
        script.crash.is_some_and(|(at, _)| script.made.len() > at)
    }

    /// The calls made so far, also those that failed, in order.
    pub fn calls(&self) -> Vec<Call> {
        self.lock().made.clone()
    }

    fn add(&self, of: Option<Call>, n: Option<usize>, fault: Fault) {
        let mut script = self.lock();
        let since = script.made.len();
        script.rules.push(Rule { of, since, n, fault });
    }

    fn lock(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a call as the script says.
    async fn around<T>(
        &self,
        store: &'static str,
        call: Call,
        key: &str,
        work: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        let mut releases = self.releases.subscribe();
        releases.mark_unchanged();
        let (latency, fault) = self.lock().next(call);
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        let doing = || format!("{call:?} {key}");
        match fault {
            None => work.await,
            Some(Fault::FailBefore) => Err(Error::unavailable(store, doing(), "injected, nothing done")),
            Some(Fault::Refuse) => Err(Error::refused(store, doing(), "injected")),
            Some(Fault::FailAfter) => {
                work.await?;
                Err(Error::unavailable(store, doing(), "injected, answer lost"))
            }
            Some(Fault::Stall) => {
                // An error means that the script is gone, and with it the test.
                let _ = releases.changed().await;
                work.await
            }
            Some(Fault::StallAfter) => {
                let answer = work.await;
                let _ = releases.changed().await;
                answer
            }
            Some(Fault::Delay(wait)) => {
                tokio::time::sleep(wait).await;
                work.await
            }
        }
    }
}

impl Script {
    /// Counts a call, and returns what it meets.
    fn next(&mut self, call: Call) -> (Duration, Option<Fault>) {
        let n = self.made.len();
        let planned = self.rules.iter().find(|rule| rule.meets(call, &self.made)).map(|rule| rule.fault);
        self.made.push(call);
        let crashed = match self.crash {
            Some((at, Crash::After)) if n == at => Some(Fault::FailAfter),
            Some((at, _)) if n >= at => Some(Fault::FailBefore),
            _ => None,
        };
        (self.latency, crashed.or(planned).or_else(|| self.seeded_fault(n)))
    }

    fn seeded_fault(&self, n: usize) -> Option<Fault> {
        let (seed, one_in) = self.seed?;
        // SplitMix64.
        let mut mixed = seed.wrapping_add((n as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        let fails = (mixed >> 1).is_multiple_of(one_in);
        fails.then_some(if mixed & 1 == 0 { Fault::FailBefore } else { Fault::FailAfter })
    }
}

impl Rule {
    /// Whether it is for the call that comes after `made`.
    fn meets(&self, call: Call, made: &[Call]) -> bool {
        let is_of = |call: Call| self.of.is_none_or(|of| of == call);
        let n_before = || made[self.since..].iter().filter(|&&made| is_of(made)).count();
        is_of(call) && self.n.is_none_or(|n| n_before() == n)
    }
}

/// An object store that follows a script of faults.
pub struct FaultyObject {
    inner: Arc<dyn Object>,
    faults: Faults,
}

impl FaultyObject {
    /// `inner`, with the faults of a script.
    pub fn new(inner: Arc<dyn Object>, faults: Faults) -> Self {
        Self { inner, faults }
    }

    async fn around<T>(
        &self,
        call: Call,
        key: &str,
        work: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        self.faults.around("object store", call, key, work).await
    }
}

#[async_trait::async_trait]
impl Object for FaultyObject {
    async fn put_if_absent(&self, key: &str, body: Bytes) -> Result<PutOutcome> {
        self.around(Call::ObjectPut, key, self.inner.put_if_absent(key, body)).await
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Option<Bytes>> {
        self.around(Call::ObjectGetRange, key, self.inner.get_range(key, range)).await
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        self.around(Call::ObjectGet, key, self.inner.get(key)).await
    }

    async fn head(&self, key: &str) -> Result<Option<u64>> {
        self.around(Call::ObjectHead, key, self.inner.head(key)).await
    }

    async fn delete(&self, key: &str) -> Result<()> {
        self.around(Call::ObjectDelete, key, self.inner.delete(key)).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<ObjectMeta>> {
        self.around(Call::ObjectList, prefix, self.inner.list(prefix, after, limit)).await
    }
}

/// A table that follows a script of faults.
pub struct FaultyTable {
    inner: Arc<dyn KeyValue>,
    faults: Faults,
}

impl FaultyTable {
    /// `inner`, with the faults of a script.
    pub fn new(inner: Arc<dyn KeyValue>, faults: Faults) -> Self {
        Self { inner, faults }
    }

    async fn around<T>(
        &self,
        call: Call,
        key: &str,
        work: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        self.faults.around("table", call, key, work).await
    }
}

#[async_trait::async_trait]
impl KeyValue for FaultyTable {
    async fn get(&self, key: &Key) -> Result<Option<Item>> {
        self.around(Call::TableGet, &key.partition, self.inner.get(key)).await
    }

    async fn batch_get(&self, keys: &[Key]) -> Result<Vec<Option<Item>>> {
        let partition = keys.first().map_or("", |key| &key.partition);
        self.around(Call::TableBatchGet, partition, self.inner.batch_get(keys)).await
    }

    async fn range(
        &self,
        partition: &str,
        range: SortRange<'_>,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page> {
        self.around(Call::TableRange, partition, self.inner.range(partition, range, after, limit)).await
    }

    async fn put(&self, key: Key, item: NewItem, condition: Condition) -> Result<Outcome> {
        let partition = key.partition.clone();
        self.around(Call::TablePut, &partition, self.inner.put(key, item, condition)).await
    }

    async fn transact(&self, writes: Vec<Write>) -> Result<Outcome> {
        let doing = format!("of {} writes", writes.len());
        self.around(Call::TableTransact, &doing, self.inner.transact(writes)).await
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        self.around(Call::TableDelete, &key.partition, self.inner.delete(key)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::memory::MemoryObjects;

    fn store(faults: &Faults) -> (FaultyObject, Arc<MemoryObjects>) {
        let inner = Arc::new(MemoryObjects::new());
        (FaultyObject::new(Arc::clone(&inner) as Arc<dyn Object>, faults.clone()), inner)
    }

    async fn put(store: &FaultyObject, key: &str) -> bool {
        store.put_if_absent(key, Bytes::from_static(b"x")).await.is_ok()
    }

    async fn keys(store: &MemoryObjects) -> Vec<String> {
        let found = store.list("", None, 100).await.expect("memory does not fail");
        found.into_iter().map(|meta| meta.key).collect()
    }

    #[tokio::test]
    async fn nth_call_of_a_kind_fails_before_or_after_its_effect() {
        let faults = Faults::new();
        let (store, inner) = store(&faults);
        assert!(put(&store, "a").await);
        faults.on_nth(Call::ObjectPut, 1, Fault::FailBefore);
        faults.on_nth(Call::ObjectPut, 2, Fault::FailAfter);
        assert!(put(&store, "b").await);
        assert!(store.head("b").await.is_ok());
        assert!(!put(&store, "c").await);
        assert!(!put(&store, "d").await);
        assert!(put(&store, "e").await);
        assert_eq!(keys(&inner).await, ["a", "b", "d", "e"]);
        assert_eq!(faults.calls()[1..3], [Call::ObjectPut, Call::ObjectHead]);
    }

    #[tokio::test]
    async fn nothing_takes_effect_after_a_crash() {
        for (crash, expected) in [(Crash::Before, &["a"][..]), (Crash::After, &["a", "b"])] {
            let faults = Faults::new();
            let (store, inner) = store(&faults);
            faults.crash_at(1, crash);
            assert!(put(&store, "a").await);
            assert!(!faults.has_crashed());
            assert!(!put(&store, "b").await);
            assert!(faults.has_crashed());
            assert!(!put(&store, "c").await);
            assert!(store.get("a").await.is_err());
            assert_eq!(keys(&inner).await, expected);
            faults.heal();
            assert!(put(&store, "d").await);
        }
    }

    #[tokio::test]
    async fn stalled_call_waits_for_its_release() {
        let faults = Faults::new();
        let (store, inner) = store(&faults);
        faults.on_nth(Call::ObjectPut, 0, Fault::Stall);
        faults.on_nth(Call::ObjectPut, 1, Fault::StallAfter);
        // A release before the call is none for it.
        faults.release();
        let (a, b, (seen, ())) = tokio::join!(put(&store, "a"), put(&store, "b"), async {
            tokio::task::yield_now().await;
            (keys(&inner).await, faults.release())
        });
        assert!(a && b);
        assert_eq!(seen, ["b"]);
        assert_eq!(keys(&inner).await, ["a", "b"]);
    }

    #[tokio::test]
    async fn same_seed_fails_the_same_calls() {
        let mut outcomes = Vec::new();
        for seed in [1, 1, 2] {
            let (store, _) = store(&Faults::seeded(seed, 4));
            let mut failed = Vec::new();
            for i in 0..200 {
                failed.push(!put(&store, &format!("{i}")).await);
            }
            outcomes.push(failed);
        }
        assert_eq!(outcomes[0], outcomes[1]);
        assert_ne!(outcomes[0], outcomes[2]);
        let n_failed = outcomes[0].iter().filter(|&&failed| failed).count();
        assert!((25..=75).contains(&n_failed), "{n_failed} of 200 failed");
    }

    #[tokio::test]
    async fn rule_for_every_call_holds_until_healed() {
        let faults = Faults::new();
        let (store, _) = store(&faults);
        faults.on_every(Call::ObjectGet, Fault::Refuse);
        for _ in 0..3 {
            assert!(matches!(store.get("a").await, Err(Error::Refused { .. })));
            assert!(store.head("a").await.is_ok());
        }
        faults.heal();
        assert!(store.get("a").await.is_ok());
    }
}
