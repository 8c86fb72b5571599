//! Which files to merge: pure, and the same whoever computes it.
//!
//! - While a window is open, files of one level are merged by some dozen into one of the next, oldest first: soon after
//!   arrival a question over the last hour touches few.
//! - Once no more is expected in it, all that is left in a window becomes one run.
//! - Once no more is expected in a *long window* of some hours, the runs of its hours become one. Files that come late
//!   lie in runs of their own until there are several.
//!
//! Files that have their full size are left alone.

use model::Signal;
use model::time::SECOND_NS;

use crate::index::{Window, hours_of_long_window};

/// How files are merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Files of requests that are merged at once, at least, while their window is open.
    pub min_fresh: usize,
    /// Merged files of one level that are merged at once, at least, while their window is open.
    pub min_merged: usize,
    /// Files of a window that one plan is made of, about.
    pub max_files: usize,
    /// Files that one merge reads at most: publishing is one transaction.
    pub max_inputs: usize,
    /// Bytes of files of requests that one merge reads at most: they are decoded at once.
    pub max_fresh_bytes: u64,
    /// Bytes of memory that the inputs of one merge hold at once at most, if they are more than two.
    pub max_held_bytes: u64,
    /// A merged file is closed at about this length, and one that has it is left alone.
    pub target_bytes: u64,
    /// How long after its end more is expected in a window, ns.
    pub settle_ns: i64,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            min_fresh: 32,
            min_merged: 12,
            max_files: 4_096,
            max_inputs: 48,
            max_fresh_bytes: 8 << 20,
            max_held_bytes: 80 << 20,
            target_bytes: 64 << 20,
            settle_ns: 600 * SECOND_NS,
        }
    }
}

impl Rules {
    /// The rules in a window: what is wide is split by long windows, and the parts are held beside the whole.
    #[must_use]
    pub fn for_window(self, window: Window) -> Self {
        let max_held_bytes =
            if window == Window::Wide { self.max_held_bytes / 2 } else { self.max_held_bytes };
        Self { max_held_bytes, ..self }
    }
}

/// Inputs and outputs of one merge into a long window that is larger than others: publishing is one transaction.
const MAX_FILES: u64 = 90;

/// A file is written again when the others together are a part of it, one in so many.
const WORTH: u64 = 4;

/// The level of files in a long window; within an hour levels stay below.
const LONG: u8 = 9;

/// A file that may be merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// 0 as it arrived, higher when merged.
    pub level: u8,
    /// Length in bytes.
    pub size: u64,
    /// Bytes of memory for the part that is decoded at once: all of a request's file, a unit of a merged one.
    pub held_bytes: u64,
    /// Upper halves of the hashes of the first and the last trace, of a merged file of spans.
    pub hashes: Option<(u32, u32)>,
}

/// Files to merge into one run, by their places among the candidates, and its level.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merge {
    /// Places, ascending.
    pub inputs: Vec<usize>,
    /// The outputs' level.
    pub level: u8,
}

/// Whether no more is expected in a window. In `wide` there always may be more.
pub fn is_settled(window: Window, now_ns: i64, rules: &Rules) -> bool {
    window.end_ns().is_some_and(|end_ns| end_ns.saturating_add(rules.settle_ns) <= now_ns)
}

/// What is expected in a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// More.
    Open,
    /// No more, but for what comes late.
    Settled,
    /// Nothing at all: what is left becomes one run, whatever that costs.
    Closed,
}

/// The merges within one window, whose files are given from the oldest to the newest. They have no input in common.
pub fn within(files: &[Candidate], state: State, rules: &Rules) -> Vec<Merge> {
    let is_small = |file: &Candidate| file.size < rules.target_bytes;
    let small: Vec<usize> = (0..files.len()).filter(|&at| is_small(&files[at])).collect();
    let mut merges = Vec::new();
    let greatest = small.iter().map(|&at| files[at].level).max().unwrap_or(0);
    for level in 0..=greatest {
        let of_level: Vec<usize> = small.iter().copied().filter(|&at| files[at].level == level).collect();
        let least = if level == 0 { rules.min_fresh } else { rules.min_merged };
        for inputs in batches(files, &of_level, rules) {
            if inputs.len() >= least.max(2) {
                merges.push(Merge { inputs, level: above(level) });
            }
        }
    }
    // One run out of what is left, when nothing else will join it; what is merged now, next time.
    if state != State::Open && merges.is_empty() {
        let mut left = small;
        let largest = left.iter().copied().max_by_key(|&at| (files[at].size, at));
        if let (State::Settled, Some(largest)) = (state, largest) {
            // What comes late is not worth to write all that came before again: it gathers in a run of its own.
            let others: u64 = left.iter().filter(|&&at| at != largest).map(|&at| files[at].size).sum();
            if others.saturating_mul(WORTH) < files[largest].size {
                left.retain(|&at| at != largest);
            }
        }
        merges = batches(files, &left, rules)
            .into_iter()
            .filter(|inputs| inputs.len() >= 2)
            .map(|inputs| Merge { level: above(greatest), inputs })
            .collect();
    }
    merges
}

/// The merge of the oldest files of requests, however few.
pub fn oldest_fresh(files: &[Candidate], rules: &Rules) -> Option<Merge> {
    let fresh: Vec<usize> = (0..files.len()).filter(|&at| files[at].level == 0).collect();
    let inputs = batches(files, &fresh, rules).into_iter().next()?;
    Some(Merge { inputs, level: 1 })
}

fn above(level: u8) -> u8 {
    (level + 1).min(LONG - 1)
}

/// The merges that bring what lies in the hours of a long window into it: `hours` are the files there, none of which is
/// about to be merged, `long` those in the long window already. Places count `hours` first, then `long`.
///
/// A day of spans is one run where one transaction can publish it, and no file of its hours is left: a question by trace
/// reads once for each run. Others wait for company.
pub fn into_long(signal: Signal, hours: &[Candidate], long: &[Candidate], rules: &Rules) -> Vec<Merge> {
    let least = if signal == Signal::Traces { 1 } else { 2 };
    let rules = &Rules { max_inputs: rules.max_inputs * 3 / 2, ..*rules };
    let all: Vec<Candidate> = hours.iter().chain(long).copied().collect();
    let from_hours: Vec<usize> = (0..hours.len()).collect();
    let mut merges: Vec<Merge> = batches(&all, &from_hours, rules)
        .into_iter()
        .filter(|inputs| inputs.len() >= least)
        .map(|inputs| Merge { inputs, level: LONG })
        .collect();
    let small: Vec<usize> =
        (hours.len()..all.len()).filter(|&at| all[at].size < rules.target_bytes).collect();
    if merges.is_empty() && small.len() >= rules.min_merged.min(4) {
        let together = batches(&all, &small, rules).into_iter().filter(|inputs| inputs.len() >= 2);
        merges.extend(together.map(|inputs| Merge { inputs, level: LONG }));
    }
    merges
}

/// Splits files into groups that one merge may read and publish.
fn batches(files: &[Candidate], places: &[usize], rules: &Rules) -> Vec<Vec<usize>> {
    let mut batches: Vec<Vec<usize>> = Vec::new();
    for &at in places {
        match batches.last_mut() {
            Some(batch) if may_join(files, batch, at, rules) => batch.push(at),
            _ => batches.push(vec![at]),
        }
    }
    batches
}

/// Whether a file may be merged with a group.
fn may_join(files: &[Candidate], batch: &[usize], at: usize, rules: &Rules) -> bool {
    let joined: Vec<Candidate> = batch.iter().chain([&at]).map(|&at| files[at]).collect();
    let fresh_bytes: u64 = joined.iter().filter(|file| file.level == 0).map(|file| file.size).sum();
    let bytes: u64 = joined.iter().map(merged_size).sum();
    let n_outputs = bytes / rules.target_bytes.max(1) + 1;
    joined.len() <= rules.max_inputs
        && (joined.len() <= Rules::default().max_inputs || joined.len() as u64 + n_outputs <= MAX_FILES)
        && fresh_bytes <= rules.max_fresh_bytes
        // Two may hold any amount: else nothing large would ever be merged.
        && (joined.len() <= 2 || holds(&joined, bytes, rules))
}

/// About how many bytes a file's rows take in the output: files of the first merge are compressed less than others.
fn merged_size(file: &Candidate) -> u64 {
    if file.level == 1 { file.size / 5 * 4 } else { file.size }
}

/// Whether what a merge into so many bytes holds at once is within bounds: less of the inputs where the output is
/// large, which is in memory until it is stored.
fn holds(files: &[Candidate], bytes: u64, rules: &Rules) -> bool {
    let (held, max) = (held_together(files), rules.max_held_bytes);
    let is_output_small = held + bytes.min(rules.target_bytes) <= max + rules.target_bytes / 2;
    held <= max / 2 || held <= max && is_output_small
}

/// Bytes of memory that the inputs of a merge hold at once: files of one run are read one after the other.
fn held_together(files: &[Candidate]) -> u64 {
    let hashes: Vec<Option<(u32, u32)>> = files.iter().map(|file| file.hashes).collect();
    let of_run = |run: &Vec<usize>| run.iter().map(|&at| files[at].held_bytes).max().unwrap_or(0);
    runs(&hashes).iter().map(of_run).sum()
}

/// As few runs as these files make, by their places: the traces of files in one run follow each other. A file whose traces
/// are in no order is a run of its own. Takes the hashes of their first and last traces.
pub fn runs(hashes: &[Option<(u32, u32)>]) -> Vec<Vec<usize>> {
    let mut runs: Vec<Vec<usize>> = Vec::new();
    let mut ordered = Vec::new();
    for (at, hashes) in hashes.iter().enumerate() {
        match hashes {
            Some((first, last)) => ordered.push((*first, *last, at)),
            None => runs.push(vec![at]),
        }
    }
    ordered.sort_unstable();
    let mut open: Vec<(u32, Vec<usize>)> = Vec::new();
    for (first, last, at) in ordered {
        match open.iter_mut().find(|(end, _)| *end < first) {
            Some((end, run)) => {
                *end = last;
                run.push(at);
            }
            None => open.push((last, vec![at])),
        }
    }
    runs.extend(open.into_iter().map(|(_, run)| run));
    runs
}

/// The long window in which an hour lies, if a signal's hours are merged further.
pub fn long_window(signal: Signal, window: Window) -> Option<Window> {
    match window {
        Window::Wide => None,
        Window::Hour(hour) => Some(Window::of_hours(hour, hours_of_long_window(signal))),
        Window::Hours { .. } => Some(window),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules {
        min_fresh: 4,
        min_merged: 3,
        max_files: 100,
        max_inputs: 6,
        max_fresh_bytes: 100,
        max_held_bytes: 60,
        target_bytes: 1000,
        settle_ns: 10,
    };

    fn files(of: &[(u8, u64)]) -> Vec<Candidate> {
        of.iter().map(|&(level, size)| Candidate { level, size, held_bytes: 0, hashes: None }).collect()
    }

    fn check(of: &[(u8, u64)], state: State, expected: &[(&[usize], u8)]) {
        let merges = within(&files(of), state, &RULES);
        let found: Vec<(&[usize], u8)> = merges.iter().map(|merge| (&*merge.inputs, merge.level)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn some_dozen_files_of_a_level_are_merged_while_a_window_is_open() {
        check(&[], State::Open, &[]);
        check(&[(0, 1); 3], State::Open, &[]);
        check(&[(0, 1); 4], State::Open, &[(&[0, 1, 2, 3], 1)]);
        check(&[(0, 1); 9], State::Open, &[(&[0, 1, 2, 3, 4, 5], 1)]);
        check(&[(0, 40); 5], State::Open, &[]);
        check(&[(0, 1), (1, 5), (1, 5), (1, 5), (2, 9)], State::Open, &[(&[1, 2, 3], 2)]);
        check(&[(1, 5000), (1, 5), (1, 5)], State::Open, &[]);
    }

    #[test]
    fn what_is_left_in_a_settled_window_becomes_one_run() {
        check(&[(0, 1), (0, 1)], State::Closed, &[(&[0, 1], 1)]);
        check(&[(0, 1)], State::Closed, &[]);
        check(&[(0, 1), (1, 9), (2, 9), (2, 5000)], State::Closed, &[(&[0, 1, 2], 3)]);
        check(&[(0, 90), (0, 90), (1, 1)], State::Closed, &[(&[1, 2], 2)]);
    }

    #[test]
    fn what_comes_late_does_not_have_all_written_again() {
        check(&[(0, 1), (0, 1)], State::Settled, &[(&[0, 1], 1)]);
        check(&[(3, 900), (0, 10)], State::Settled, &[]);
        check(&[(3, 900), (0, 10), (0, 10)], State::Settled, &[(&[1, 2], 4)]);
        check(&[(3, 900), (0, 10), (4, 250)], State::Settled, &[(&[0, 1, 2], 5)]);
        check(&[(3, 900), (0, 10)], State::Closed, &[(&[0, 1], 4)]);
    }

    #[test]
    fn what_holds_much_memory_is_merged_by_few() {
        let held = |of: &[u64]| -> Vec<Candidate> {
            of.iter().map(|&held_bytes| Candidate { level: 1, size: 1, held_bytes, hashes: None }).collect()
        };
        let check = |of: &[u64], expected: &[&[usize]]| {
            let merges = within(&held(of), State::Closed, &RULES);
            let found: Vec<&[usize]> = merges.iter().map(|merge| &*merge.inputs).collect();
            assert_eq!(found, expected, "{of:?}");
        };
        check(&[20; 5], &[&[0, 1, 2]]);
        check(&[70; 5], &[&[0, 1], &[2, 3]]);
        check(&[70, 10, 10, 40, 10], &[&[2, 3, 4]]);
    }

    #[test]
    fn what_is_wide_does_not_wait_for_company() {
        let oldest = |of: &[(u8, u64)]| oldest_fresh(&files(of), &RULES).map(|merge| merge.inputs);
        assert_eq!(oldest(&[(1, 5), (2, 5)]), None);
        assert_eq!(oldest(&[(1, 5), (0, 5)]), Some(vec![1]));
        assert_eq!(oldest(&[(0, 60), (0, 30), (0, 30)]), Some(vec![0, 1]));
        assert_eq!(RULES.for_window(Window::Wide).max_held_bytes, 30);
        assert_eq!(RULES.for_window(Window::Hour(1)), RULES);
    }

    #[test]
    fn files_of_one_run_are_held_one_at_a_time() {
        let file = |first, last| Candidate { level: 9, size: 1, held_bytes: 30, hashes: Some((first, last)) };
        let hours = [file(0, 5), file(6, 9), file(0, 6), file(7, 9), file(3, 9)];
        assert_eq!(runs(&hours.map(|file| file.hashes)), [vec![0, 1], vec![2, 3], vec![4]]);
        assert_eq!((held_together(&hours[..4]), held_together(&hours)), (60, 90));
        let merges = into_long(Signal::Traces, &hours, &[], &RULES);
        assert_eq!(merges.iter().map(|merge| merge.inputs.len()).collect::<Vec<_>>(), [4, 1]);
        assert_eq!(runs(&[None, Some((0, u32::MAX)), None, Some((0, 0))]).len(), 4);
    }

    #[test]
    fn a_day_is_one_run_where_one_transaction_can_publish_it() {
        let rules = Rules::default();
        let n_inputs = |n_hours: usize, size: u64| -> Vec<usize> {
            let hour = Candidate { level: 4, size, held_bytes: 1, hashes: None };
            let merges = into_long(Signal::Traces, &vec![hour; n_hours], &[], &rules);
            merges.iter().map(|merge| merge.inputs.len()).collect()
        };
        assert_eq!(n_inputs(48, 40 << 20), [48]);
        assert_eq!(n_inputs(60, 30 << 20), [60]);
        assert_eq!(n_inputs(80, 1 << 20), [72, 8]);
        assert_eq!(n_inputs(60, 64 << 20), [48, 12]);
    }

    #[test]
    fn runs_of_hours_become_one_and_late_ones_wait_for_company() {
        let into_long = |hours: &[_], long: &[_]| into_long(Signal::Logs, hours, long, &RULES);
        let merges = into_long(&files(&[(1, 5), (2, 5), (1, 5000)]), &[]);
        assert_eq!(merges, [Merge { inputs: vec![0, 1, 2], level: LONG }]);
        assert!(into_long(&files(&[(1, 5)]), &files(&[(9, 9)])).is_empty());
        let merges = into_long(&[], &files(&[(9, 9), (9, 9), (9, 5000), (9, 9)]));
        assert_eq!(merges, [Merge { inputs: vec![0, 1, 3], level: LONG }]);
        assert!(into_long(&[], &files(&[(9, 9), (9, 9)])).is_empty());
    }

    #[test]
    fn inputs_of_a_large_output_hold_less() {
        let n_joined_of = |level: u8, size: u64, held_bytes: u64| {
            let file = Candidate { level, size, held_bytes, hashes: None };
            let batches = batches(&[file; 6], &[0, 1, 2, 3, 4, 5], &RULES);
            batches[0].len()
        };
        let n_joined = |size, held_bytes| n_joined_of(2, size, held_bytes);
        assert_eq!([n_joined(1, 10), n_joined(1, 12), n_joined(1, 20)], [6, 5, 3]);
        assert_eq!([n_joined(500, 5), n_joined(500, 10), n_joined(100, 10), n_joined(500, 50)], [6, 3, 5, 2]);
        assert_eq!([n_joined_of(1, 150, 10), n_joined(150, 10)], [4, 3], "files of the first merge shrink");
    }

    #[test]
    fn a_late_file_of_spans_does_not_stay_in_its_hour() {
        let merges = into_long(Signal::Traces, &files(&[(0, 5)]), &files(&[(9, 9)]), &RULES);
        assert_eq!(merges, [Merge { inputs: vec![0], level: LONG }]);
    }
}
