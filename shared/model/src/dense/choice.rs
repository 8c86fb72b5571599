//! Which attributes have a column of their own.

use std::cmp::Reverse;
use std::collections::HashSet;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::{Dense, DenseKey, MAX_DENSE};
use crate::columns::{AttributeColumns, N_KINDS, ValueKind};

/// An attribute gets a column if one of so many rows has it: below, an empty column costs more than it saves.
const ONE_OF_ROWS: u64 = 32;

/// Longer keys get no column: each unit of a file names all that have one.
const MAX_KEY_BYTES: usize = 128;

/// Counts the attributes of what a file is made of.
#[derive(Debug, Default)]
pub struct Choice {
    n_rows: u64,
    /// By key how many values there are of each kind.
    n_values: HashMap<String, [u64; N_KINDS], RandomState>,
}

impl Choice {
    /// What these rows would have.
    pub fn of(attributes: &AttributeColumns) -> Self {
        let mut choice = Self::default();
        choice.count(attributes);
        choice
    }

    /// Counts the attributes of these rows.
    pub fn count(&mut self, attributes: &AttributeColumns) {
        self.n_rows += attributes.ends.len() as u64;
        let mut of_keys = vec![[0_u32; N_KINDS]; attributes.key.dictionary.len()];
        for (&key, &kind) in attributes.key.rows.iter().zip(&attributes.kind) {
            of_keys[key as usize][kind as usize] += 1;
        }
        for (key, of_key) in attributes.key.dictionary.iter().zip(of_keys) {
            let n_values = self.of_key(key);
            n_values.iter_mut().zip(of_key).for_each(|(all, n): (&mut u64, u32)| *all += u64::from(n));
        }
    }

    /// Counts rows of a file that has columns: what has one is taken for an attribute of all.
    pub fn count_as(&mut self, dense: &Dense, n_rows: u64) {
        self.n_rows += n_rows;
        for one in dense.keys() {
            self.of_key(&one.key)[one.kind as usize] += n_rows;
        }
    }

    fn of_key(&mut self, key: &str) -> &mut [u64; N_KINDS] {
        self.n_values.entry_ref(key).or_insert([0; N_KINDS])
    }

    /// The attributes that are worth a column, those in `wanted` before others if any row has them. The same of what
    /// was counted in any order.
    pub fn choose(self, wanted: &[String]) -> Dense {
        let kinds = [ValueKind::String, ValueKind::Int, ValueKind::Double, ValueKind::Bool, ValueKind::Json];
        let mut candidates: Vec<(bool, u64, DenseKey)> = self
            .n_values
            .into_iter()
            .filter_map(|(key, n_values)| {
                let kind = kinds.into_iter().max_by_key(|&kind| (n_values[kind as usize], Reverse(kind)))?;
                let n = n_values[kind as usize];
                let is_short = key.len() <= MAX_KEY_BYTES;
                let is_wanted = n > 0 && wanted.contains(&key);
                let is_dense = n.saturating_mul(ONE_OF_ROWS) >= self.n_rows && n > 0;
                (is_short && (is_wanted || is_dense)).then_some((is_wanted, n, DenseKey { key, kind }))
            })
            .collect();
        candidates.sort_unstable_by(|(a_wanted, a_n, a), (b_wanted, b_n, b)| {
            (b_wanted, b_n).cmp(&(a_wanted, a_n)).then_with(|| a.key.cmp(&b.key))
        });
        // Keys whose columns would have one name cannot both have one.
        let mut names = HashSet::new();
        candidates.retain(|(_, _, one)| names.insert(one.column_name()));
        candidates.truncate(MAX_DENSE);
        let mut keys: Vec<DenseKey> = candidates.into_iter().map(|(_, _, one)| one).collect();
        keys.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        Dense::new(keys).expect("invariant: keys are distinct and few enough")
    }
}
