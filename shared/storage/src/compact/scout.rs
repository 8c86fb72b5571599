//! Looks at every trace of a set of files once, whole, in the order of merged files.
//!
//! Operations are counted in a pass of their own, if a policy asks for rare ones. Then each file is read unit by unit, and
//! the spans of a trace become facts as soon as they are decoded: memory is bounded by the facts of one unit of each file,
//! however many spans a trace has.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use model::sampling::policy::{Gatherer, Keep, Operations};
use model::sampling::{Policy, TraceFacts};
use model::search::Condition;
use model::{SpanColumns, TenantId, TraceId};

use super::matching::spans_that_meet;
use super::units::Units;
use crate::block::parquet::Invalid;
use crate::block::spans::{ATTRIBUTES, Projection, column};
use crate::index::fingerprint::hash_id;
use crate::read::index::IndexedFile;
use crate::{Result, Store};

/// What is fetched at once, of all files together.
const MAX_FETCHED_BYTES: u64 = 32 << 20;
/// What is fetched at once of one file, at most.
const MAX_FETCHED_OF_ONE: u64 = 4 << 20;

const OPERATION_COLUMNS: Projection =
    Projection::of(&[column::SERVICE_NAME, column::NAME, column::TRACE_STATE]);
const FACT_COLUMNS: Projection =
    OPERATION_COLUMNS.and(Projection::of(&[column::START_TIME, column::DURATION_NS, column::STATUS_CODE]));

/// Where a trace has its place.
type Place = (u64, TraceId);

/// What was found of a trace: in one unit, or in all files.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) hash: u64,
    pub(super) facts: TraceFacts,
    /// The first rule that any of its spans meets.
    pub(super) rule: Option<usize>,
    /// By file the spans that it has there.
    pub(super) n_spans: Vec<(usize, u64)>,
}

/// The traces of some files.
pub(super) struct Scout<'a> {
    policy: &'a Policy,
    rules: &'a [Vec<Condition>],
    operations: Operations,
    cursors: Vec<Cursor<'a>>,
    heads: BinaryHeap<Reverse<(Place, usize)>>,
}

struct Cursor<'a> {
    units: Units<'a>,
    of_unit: std::vec::IntoIter<Found>,
}

impl<'a> Scout<'a> {
    /// Begins to look at the traces of `files` for a policy, and for rules on what one span of a trace must meet.
    ///
    /// # Errors
    /// As the object store; a file is corrupt.
    pub(super) async fn begin(
        store: &'a Store,
        tenant: &TenantId,
        files: &'a [IndexedFile],
        policy: &'a Policy,
        rules: &'a [Vec<Condition>],
    ) -> Result<Self> {
        let mut operations = Operations::default();
        if policy.keep.iter().any(|rule| matches!(rule, Keep::Rare { .. })) {
            for file in files {
                let mut units = Units::of(store, tenant, file, MAX_FETCHED_OF_ONE)?;
                while let Some(columns) = units.next(OPERATION_COLUMNS).await? {
                    operations.add(&columns);
                }
            }
        }
        let max_fetched_bytes = (MAX_FETCHED_BYTES / files.len().max(1) as u64).min(MAX_FETCHED_OF_ONE);
        let mut scout = Self { policy, rules, operations, cursors: Vec::new(), heads: BinaryHeap::new() };
        for file in files {
            let units = Units::of(store, tenant, file, max_fetched_bytes)?;
            scout.cursors.push(Cursor { units, of_unit: Vec::new().into_iter() });
        }
        for at in 0..files.len() {
            scout.advance(at).await?;
        }
        Ok(scout)
    }

    /// The next trace; `None` behind the last.
    ///
    /// # Errors
    /// As [`Scout::begin`].
    pub(super) async fn next(&mut self) -> Result<Option<Found>> {
        let mut found: Option<Found> = None;
        while let Some(Reverse((place, at))) = self.heads.peek().copied() {
            if found.as_ref().is_some_and(|found| (found.hash, found.facts.trace_id) != place) {
                break;
            }
            self.heads.pop();
            if let Some(part) = self.cursors[at].of_unit.next() {
                match &mut found {
                    Some(found) => {
                        found.facts.join(&part.facts);
                        found.rule = found.rule.into_iter().chain(part.rule).min();
                        found.n_spans.extend(part.n_spans);
                    }
                    None => found = Some(part),
                }
            }
            self.advance(at).await?;
        }
        Ok(found)
    }

    /// Puts the next trace of a file among the heads.
    async fn advance(&mut self, at: usize) -> Result<()> {
        let is_listed = |rule: &Keep| matches!(rule, Keep::Attribute { .. });
        let is_attribute = |condition: &Condition| matches!(condition, Condition::Attribute { .. });
        let needs_attributes =
            self.policy.keep.iter().any(is_listed) || self.rules.iter().flatten().any(is_attribute);
        let projection = if needs_attributes { FACT_COLUMNS.and(ATTRIBUTES) } else { FACT_COLUMNS };
        loop {
            let cursor = &mut self.cursors[at];
            if let Some(next) = cursor.of_unit.as_slice().first() {
                self.heads.push(Reverse(((next.hash, next.facts.trace_id), at)));
                return Ok(());
            }
            let Some(columns) = cursor.units.next(projection).await? else { return Ok(()) };
            let found = facts(self.policy, self.rules, &self.operations, &columns, at);
            let found = found.map_err(|err| cursor.units.file().corrupt(err))?;
            cursor.of_unit = found.into_iter();
        }
    }
}

/// What a unit of the file `at` has of each trace, in the order of merged files.
fn facts(
    policy: &Policy,
    rules: &[Vec<Condition>],
    operations: &Operations,
    columns: &SpanColumns,
    at: usize,
) -> Result<Vec<Found>, Invalid> {
    let gatherer = Gatherer::new(policy, columns, operations);
    let mut traces: BTreeMap<Place, Found> = BTreeMap::new();
    for (row, &id) in columns.trace_id.iter().enumerate() {
        let hash = hash_id(&id.0);
        let unknown = || Found { hash, facts: TraceFacts::of(id), rule: None, n_spans: vec![(at, 0)] };
        let found = traces.entry((hash, id)).or_insert_with(unknown);
        gatherer.add(row, &mut found.facts);
        found.n_spans[0].1 += 1;
    }
    for (rule, conditions) in rules.iter().enumerate().rev() {
        let meets = spans_that_meet(columns, conditions)?;
        for (&id, _) in columns.trace_id.iter().zip(meets).filter(|(_, meets)| *meets) {
            if let Some(found) = traces.get_mut(&(hash_id(&id.0), id)) {
                // From the last rule to the first.
                found.rule = Some(rule);
            }
        }
    }
    Ok(traces.into_values().collect())
}
