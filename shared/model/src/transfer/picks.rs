//! Rows of several batches, column by column.

use super::{Positions, SpanTransfer, each};
use crate::dictionary::DictColumn;
use crate::spans::SpanColumns;

/// A row of one of several batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pick {
    /// Place of the batch among all.
    pub batch: u32,
    /// The row.
    pub row: u32,
}

/// Picks by batch: a column is first brought together batch by batch, in which rows that follow each other lie side by
/// side, and then put in order where it is small enough to stay near. Looked up row by row, each would be a wait for
/// memory.
#[derive(Debug)]
pub struct Picks<'p> {
    /// The picks, in the order of the rows that are filled.
    pub(super) in_order: &'p [Pick],
    /// The batches that are picked from, each with the end of its rows in `rows`.
    batches: Vec<(usize, usize)>,
    /// Rows by batch, in the order in which they were picked.
    rows: Vec<u32>,
    /// Per pick its place in `rows`.
    places: Vec<u32>,
}

impl<'p> Picks<'p> {
    /// These picks from so many batches.
    pub fn of(picks: &'p [Pick], n_batches: usize) -> Self {
        let mut next = vec![0; n_batches];
        for pick in picks {
            next[pick.batch as usize] += 1;
        }
        let mut batches = Vec::with_capacity(n_batches);
        let mut n_before = 0;
        for (batch, next) in next.iter_mut().enumerate().filter(|(_, n)| **n > 0) {
            let n = *next;
            *next = n_before;
            n_before += n;
            batches.push((batch, n_before as usize));
        }
        let mut rows = vec![0; picks.len()];
        let mut places = Vec::with_capacity(picks.len());
        for pick in picks {
            let next = &mut next[pick.batch as usize];
            rows[*next as usize] = pick.row;
            places.push(*next);
            *next += 1;
        }
        Self { in_order: picks, batches, rows, places }
    }

    /// The batches that are picked from, and the rows of each.
    pub(crate) fn batches(&self) -> impl Iterator<Item = (usize, &[u32])> {
        let mut start = 0;
        self.batches.iter().map(move |&(batch, end)| {
            let rows = &self.rows[start..end];
            start = end;
            (batch, rows)
        })
    }

    /// Per pick its place among the rows of [`Picks::batches`], one batch behind the other.
    pub(crate) fn places(&self) -> impl ExactSizeIterator<Item = usize> {
        self.places.iter().map(|&place| place as usize)
    }

    /// Appends what the column has in these rows.
    pub(super) fn gather<'a, T: Copy + 'a>(
        &self,
        batches: &[&'a SpanColumns],
        column: impl Fn(&'a SpanColumns) -> &'a Vec<T>,
        into: &mut Vec<T>,
    ) {
        if let [(only, _)] = self.batches[..] {
            let column = column(batches[only]);
            into.extend(each(&self.rows).map(|row| column[row]));
            return;
        }
        let mut found: Vec<T> = Vec::with_capacity(self.rows.len());
        for (batch, rows) in self.batches() {
            let column = column(batches[batch]);
            found.extend(each(rows).map(|row| column[row]));
        }
        into.extend(self.places().map(|place| found[place]));
    }
}

/// The rows that are moved, and what is known of the batches in which they are.
pub(super) struct Texts<'a, 't> {
    pub(super) batches: &'a [&'a SpanColumns],
    pub(super) picks: &'t Picks<'t>,
    pub(super) transfers: &'t mut [SpanTransfer],
}

impl<'a> Texts<'a, '_> {
    /// Appends the texts of a column.
    pub(super) fn gather(
        &mut self,
        column: impl Fn(&'a SpanColumns) -> &'a DictColumn,
        positions: impl Fn(&mut SpanTransfer) -> &mut Positions,
        into: &mut DictColumn,
    ) {
        let mut found: Vec<u32> = Vec::with_capacity(self.picks.rows.len());
        let mut only = None;
        for (batch, rows) in self.picks.batches() {
            let (from, positions) = (column(self.batches[batch]), positions(&mut self.transfers[batch]));
            positions.begin(&from.dictionary, &into.dictionary);
            if from.dictionary.len() == 1 {
                let text = positions.of(&from.dictionary, 0, &mut into.dictionary);
                only = if found.is_empty() || only == Some(text) { Some(text) } else { None };
                found.resize(found.len() + rows.len(), text);
            } else {
                only = None;
                found.extend(
                    each(rows)
                        .map(|row| positions.of(&from.dictionary, from.rows[row], &mut into.dictionary)),
                );
            }
        }
        // Of many columns, all batches have one text.
        match only {
            Some(text) => into.rows.resize(into.rows.len() + found.len(), text),
            None => into.rows.extend(self.picks.places().map(|place| found[place])),
        }
    }
}
