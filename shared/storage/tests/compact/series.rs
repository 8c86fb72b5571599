//! Merging of series.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use model::histogram::{BucketSpan, Buckets};
use model::series::{Exemplar, HistogramSample, STALE_BITS, SeriesBuilder, Temporality};
use model::{Labels, MatchOp, Matcher, NativeHistogram, Series, SeriesBatch, Signal};
use storage::compact::{self, Settings};
use storage::faults::{Call, Crash, Fault, Faults};
use storage::read::{self, Selection, SeriesLimits};
use storage::write::{Writer, content_hash};
use storage::{Error, Store};

use super::{
    FIRST_HOUR, HOUR_MS, NOW_S, Random, assert_sound, everything, faulty, let_grace_pass, memory, mended,
    run, settings, tenant, wait,
};

/// What a request brings: some series of each kind with samples in one hour, some of which others bring too.
fn batch(random: &mut Random, first_hour: i64, n_hours: u64) -> SeriesBatch {
    let mut builder = SeriesBuilder::default();
    let hour = first_hour + random.below(n_hours) as i64;
    let time = |random: &mut Random| hour * HOUR_MS + random.below(240) as i64 * 15_000;
    for _ in 0..=random.below(12) {
        let (metric, pod) = (random.below(4), random.below(5));
        builder.label("__name__", &format!("metric_{metric}"));
        builder.label("pod", &format!("pod-{pod}"));
        let is_delta = metric == 3;
        let temporality = if is_delta { Temporality::Delta } else { Temporality::Cumulative };
        let Ok(series) = builder.close_labels(temporality) else { continue };
        for _ in 0..random.below(6) {
            let time_ms = time(random);
            // The same for each time, but for a few that contradict each other.
            let value = match random.below(20) {
                0 => f64::from_bits(STALE_BITS),
                1 => random.below(1000) as f64 / 7.0,
                _ => (time_ms / 15_000 % 1000) as f64 / 10.0,
            };
            let start_ms = if random.below(3) == 0 { time_ms - 5 } else { 0 };
            builder.sample(series, time_ms, value, start_ms);
        }
        if metric == 2 {
            let count = random.below(50) as f64;
            let counts = vec![count, 1.0];
            let histogram = NativeHistogram {
                schema: 3,
                count: count + 1.0,
                sum: count / 3.0,
                positive: Buckets { spans: vec![BucketSpan { offset: 0, length: 2 }], counts },
                ..NativeHistogram::default()
            };
            let time_ms = time(random);
            builder
                .histogram(series, HistogramSample { time_ms, start_ms: 0, histogram: Arc::new(histogram) });
        }
        if random.below(4) == 0 {
            let labels = Labels::from_pairs([("trace_id", format!("{:x}", random.below(100)))]);
            builder.exemplar(series, Exemplar { time_ms: time(random), value: 0.5, labels });
        }
    }
    builder.finish()
}

async fn write(writer: &Writer, batch: &SeriesBatch, now_s: u64) -> storage::Result<()> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let Some(encoded) = storage::block::series::encode(batch) else { return Ok(()) };
    let content = content_hash(&tenant(), Signal::Metrics, &NUMBER.fetch_add(1, Relaxed).to_le_bytes());
    writer.series(&tenant(), content, encoded, now_s, &Arc::default()).await.map(|_| ())
}

type Answers = (Vec<Vec<Series>>, Vec<Labels>, Vec<(Labels, Vec<Exemplar>)>);

/// What every question gives, in an order of its own.
async fn answers(store: &Store) -> storage::Result<String> {
    let matching = |pattern: &str| vec![Matcher::new("__name__", MatchOp::Regex, pattern).expect("valid")];
    let named = |metric: &str| vec![Matcher::new("__name__", MatchOp::Equal, metric).expect("valid")];
    let first_ms = FIRST_HOUR * HOUR_MS;
    let all = (first_ms - 1, first_ms + 100 * HOUR_MS);
    let selections = [
        (matching("metric_[0-2]"), all),
        (named("metric_1"), (first_ms + HOUR_MS / 2, first_ms + HOUR_MS)),
        (named("metric_3"), (first_ms - 1, first_ms + 3 * HOUR_MS)),
        (named("metric_3"), (first_ms + 3 * HOUR_MS, all.1)),
    ];
    let selections = selections.map(|(matchers, (start_ms_exclusive, end_ms))| Selection {
        matchers,
        start_ms_exclusive,
        end_ms,
        steps: None,
    });
    let limits = SeriesLimits::default();
    let mut selected = read::select(store, &tenant(), &selections, &limits).await?;
    for series in &mut selected {
        series.sort_by(|a, b| a.labels.cmp(&b.labels));
    }
    let sets = read::label_sets(store, &tenant(), &[], all, &limits).await?;
    let exemplars = read::exemplars(store, &tenant(), &[matching(".+")], all, &limits).await?;
    let answers: Answers = (selected, sets, exemplars);
    Ok(format!("{answers:?}"))
}

#[test]
fn every_question_has_the_same_answer_after_merging() {
    wait(async {
        for seed in 0..20 {
            let mut random = Random(seed);
            let store = memory();
            let writer = Writer::new(store.clone());
            for _ in 0..40 {
                write(&writer, &batch(&mut random, FIRST_HOUR, 10), NOW_S).await.expect("memory");
            }
            let before = answers(&store).await.expect("memory");
            let report = run(&store, &settings(), NOW_S).await.expect("memory");
            assert!(report.merges > 0 && report.failed == 0, "{report:?}");
            assert_eq!(answers(&store).await.expect("memory"), before, "seed {seed}");
            let again = run(&store, &everything(), NOW_S).await.expect("memory");
            assert_eq!((again.failed, again.merges), (0, 0), "all was settled: {again:?}");
            let_grace_pass(&store, NOW_S).await;
            assert_eq!(answers(&store).await.expect("memory"), before, "seed {seed}");
            assert_sound(&store).await;
        }
    });
}

/// Of merged chunks a question takes out what it looks at, or keeps them whole: nothing that steps see differs.
#[test]
fn steps_see_the_same_after_merging() {
    const STEPS: i64 = 40;
    wait(async {
        for seed in 0..6 {
            let mut random = Random(seed);
            let store = memory();
            let writer = Writer::new(store.clone());
            for _ in 0..40 {
                write(&writer, &batch(&mut random, FIRST_HOUR, 6), NOW_S).await.expect("memory");
            }
            let questions: Vec<(i64, i64)> = (0..12)
                .map(|_| {
                    let step_ms = [15_000, 60_000, 600_000, HOUR_MS][random.below(4) as usize];
                    (FIRST_HOUR * HOUR_MS + random.below(480) as i64 * 15_000, step_ms)
                })
                .collect();
            let ask = async || {
                let mut seen = String::new();
                for &(first_ms, step_ms) in &questions {
                    let selection = Selection {
                        matchers: vec![Matcher::new("__name__", MatchOp::Regex, ".+").expect("valid")],
                        start_ms_exclusive: first_ms - HOUR_MS / 2,
                        end_ms: first_ms + STEPS * step_ms,
                        steps: Some(read::Steps { first_ms, step_ms }),
                    };
                    let found = read::select(&store, &tenant(), &[selection], &SeriesLimits::default()).await;
                    for series in &found.expect("memory")[0] {
                        write!(seen, "\n{:?}", series.labels).expect("a text");
                        for step in 0..=STEPS {
                            let at = series.time_ms.partition_point(|&ms| ms <= first_ms + step * step_ms);
                            let last =
                                at.checked_sub(1).map(|at| (series.time_ms[at], series.value[at].to_bits()));
                            write!(seen, " {last:?}").expect("a text");
                        }
                    }
                }
                seen
            };
            let before = ask().await;
            let report = run(&store, &settings(), NOW_S).await.expect("memory");
            assert!(report.merges > 0 && report.failed == 0, "{report:?}");
            assert_eq!(ask().await, before, "seed {seed}");
            let_grace_pass(&store, NOW_S).await;
            assert_eq!(ask().await, before, "seed {seed}");
        }
    });
}

#[test]
fn late_requests_are_merged_too() {
    wait(async {
        let store = memory();
        let writer = Writer::new(store.clone());
        let mut random = Random(7);
        for round in 0..12 {
            for _ in 0..5 {
                write(&writer, &batch(&mut random, FIRST_HOUR, 6), NOW_S).await.expect("memory");
            }
            let before = answers(&store).await.expect("memory");
            let report = run(&store, &everything(), NOW_S + round).await.expect("memory");
            assert_eq!(report.failed, 0);
            assert_eq!(answers(&store).await.expect("memory"), before, "round {round}");
        }
        let windows = read::windows(&store, &tenant()).await.expect("memory");
        let n_files: usize = windows.iter().map(|window| window.objects.len()).sum();
        assert!(n_files < 16, "{windows:?}");
    });
}

#[test]
fn what_reaches_over_many_hours_is_split_among_windows() {
    wait(async {
        let store = memory();
        let writer = Writer::new(store.clone());
        let mut builder = SeriesBuilder::default();
        for pod in 0..3 {
            builder.label("__name__", "metric_1");
            builder.label("pod", &format!("pod-{pod}"));
            let series = builder.close_labels(Temporality::Cumulative).expect("labels");
            for at in 0..50 {
                builder.sample(series, (FIRST_HOUR + at) * HOUR_MS + pod, at as f64, at);
            }
        }
        write(&writer, &builder.finish(), NOW_S).await.expect("memory");
        let before = answers(&store).await.expect("memory");
        let report = run(&store, &settings(), NOW_S).await.expect("memory");
        assert_eq!((report.merges, report.outputs, report.failed), (1, 9, 0));
        assert_eq!(answers(&store).await.expect("memory"), before);
        let_grace_pass(&store, NOW_S).await;
        assert_eq!(answers(&store).await.expect("memory"), before);
        let windows = read::windows(&store, &tenant()).await.expect("memory");
        assert!(windows.iter().all(|window| window.window.end_ns().is_some()), "nothing is wide any more");
    });
}

#[test]
fn a_retried_request_is_not_doubled_and_its_object_is_never_missing() {
    wait(async {
        let store = memory();
        let batch = batch(&mut Random(3), FIRST_HOUR, 1);
        let encoded = storage::block::series::encode(&batch).expect("samples");
        let content = content_hash(&tenant(), Signal::Metrics, b"again");
        let send = || {
            let (writer, encoded, store) = (Writer::new(store.clone()), encoded.clone(), store.clone());
            async move {
                writer.series(&tenant(), content, encoded, NOW_S, &Arc::default()).await.expect("memory");
                answers(&store).await.expect("memory")
            }
        };
        let first = send().await;
        let writer = Writer::new(store.clone());
        write(&writer, &self::batch(&mut Random(3), FIRST_HOUR, 1), NOW_S).await.expect("memory");
        assert_eq!(run(&store, &everything(), NOW_S).await.expect("memory").merges, 1);
        assert_eq!(send().await, first, "merged, and the inputs still there");
        assert_eq!(
            run(&store, &everything(), NOW_S + 1).await.expect("memory").merges,
            0,
            "nothing came anew"
        );
        let_grace_pass(&store, NOW_S).await;
        assert_eq!(send().await, first, "merged, and the inputs gone");
        read::verify(&store, &tenant()).await.expect("sound");
        run(&store, &everything(), NOW_S + 200_000).await.expect("memory");
        let_grace_pass(&store, NOW_S + 200_000).await;
        assert_eq!(answers(&store).await.expect("memory"), first);
    });
}

/// A pass dies while it deletes, a request is sent again, and the next pass finds the note of what was to be deleted.
#[test]
fn a_request_that_is_sent_again_while_its_old_self_is_deleted_stays() {
    wait(async {
        let encoded = storage::block::series::encode(&batch(&mut Random(3), FIRST_HOUR, 1)).expect("samples");
        let content = content_hash(&tenant(), Signal::Metrics, b"again");
        for step in 0.. {
            let store = memory();
            let send = || async {
                let writer = Writer::new(store.clone());
                writer
                    .series(&tenant(), content, encoded.clone(), NOW_S, &Arc::default())
                    .await
                    .expect("memory");
                answers(&store).await.expect("memory")
            };
            let first = send().await;
            run(&store, &everything(), NOW_S).await.expect("memory");
            let faults = Faults::new();
            faults.crash_at(step, Crash::After);
            let _ = run(&faulty(&store, &faults), &everything(), NOW_S + 5000).await;
            if !faults.has_crashed() {
                break;
            }
            assert_eq!(send().await, first, "sent again after a crash at {step}");
            run(&store, &everything(), NOW_S + 7000).await.expect("memory");
            assert_eq!(answers(&store).await.expect("memory"), first, "crash at {step}");
            assert_sound(&store).await;
        }
    });
}

/// Kills a pass at each of its storage calls, before and after it took effect: nothing is missing then, nor after the next
/// pass.
#[test]
fn a_crash_at_any_step_changes_no_answer() {
    wait(async {
        let mut n_steps = 0;
        for crash in [Crash::Before, Crash::After] {
            for step in 0.. {
                let store = memory();
                let writer = Writer::new(store.clone());
                let mut random = Random(11);
                for _ in 0..12 {
                    write(&writer, &batch(&mut random, FIRST_HOUR, 3), NOW_S).await.expect("memory");
                }
                let before = answers(&store).await.expect("memory");
                // So that there is something to delete, too.
                run(&store, &Settings { max_merges: 1, ..settings() }, NOW_S).await.expect("memory");
                let faults = Faults::new();
                faults.crash_at(step, crash);
                let later_s = NOW_S + 5000;
                let died = run(&faulty(&store, &faults), &everything(), later_s).await;
                if !faults.has_crashed() {
                    n_steps += step;
                    break;
                }
                assert!(died.map_or(true, |report| report.failed > 0), "a crash shows");
                assert_eq!(answers(&store).await.expect("memory"), before, "{crash:?} at {step}");
                // Once the lease of the dead has run out.
                let report = run(&store, &everything(), later_s + 1000).await.expect("memory");
                assert_eq!((report.failed, report.held), (0, 0), "{crash:?} at {step}");
                assert_eq!(answers(&store).await.expect("memory"), before, "{crash:?} at {step}");
                let_grace_pass(&store, later_s).await;
                assert_eq!(answers(&store).await.expect("memory"), before, "{crash:?} at {step}");
                let damage = mended(&store).await;
                assert!(damage.orphans.is_empty(), "the next pass takes what the dead one left: {damage:?}");
                assert_eq!(answers(&store).await.expect("memory"), before, "{crash:?} at {step}");
                assert_sound(&store).await;
            }
        }
        assert!(n_steps > 100, "only {n_steps} steps");
    });
}

#[test]
fn one_lost_answer_changes_no_answer() {
    wait(async {
        for seed in 0..60 {
            let store = memory();
            let mut random = Random(seed);
            let writer = Writer::new(store.clone());
            for _ in 0..15 {
                write(&writer, &batch(&mut random, FIRST_HOUR, 8), NOW_S).await.expect("memory");
            }
            let before = answers(&store).await.expect("memory");
            let faults = Faults::seeded(seed, 9);
            for round in 0..4 {
                let _ = run(&faulty(&store, &faults), &everything(), NOW_S + round * 1000).await;
                assert_eq!(answers(&store).await.expect("memory"), before, "seed {seed}");
            }
            let report = run(&store, &everything(), NOW_S + 10_000).await.expect("memory");
            assert_eq!(report.failed, 0, "seed {seed}");
            let_grace_pass(&store, NOW_S + 10_000).await;
            assert_eq!(answers(&store).await.expect("memory"), before, "seed {seed}");
        }
    });
}

#[test]
fn of_two_compactors_one_publishes() {
    wait(async {
        let store = memory();
        let writer = Writer::new(store.clone());
        let mut random = Random(5);
        for _ in 0..10 {
            write(&writer, &batch(&mut random, FIRST_HOUR, 1), NOW_S).await.expect("memory");
        }
        let before = answers(&store).await.expect("memory");
        // The first has read everything and is stalled before it publishes.
        let faults = Faults::new();
        faults.on_nth(Call::TableTransact, 0, Fault::Stall);
        let stalled = faulty(&store, &faults);
        let settings = everything();
        let calls = Arc::default();
        let first = compact::run(&stalled, &settings, "first", &|| NOW_S, &calls);
        let second = async {
            let soon = compact::run(&store, &settings, "second", &|| NOW_S + 1, &Arc::default())
                .await
                .expect("memory");
            assert_eq!((soon.held, soon.merges), (1, 0), "the lease is held");
            let late = compact::run(&store, &settings, "second", &|| NOW_S + 1000, &Arc::default()).await;
            assert!(late.expect("memory").merges > 0, "the lease ran out");
            faults.release();
        };
        let (first, ()) = Box::pin(futures::future::join(first, second)).await;
        let first = first.expect("memory");
        assert_eq!((first.merges, first.forestalled, first.failed), (0, 1, 0));
        assert_eq!(answers(&store).await.expect("memory"), before);
        let_grace_pass(&store, NOW_S + 1000).await;
        assert_eq!(answers(&store).await.expect("memory"), before);
    });
}

#[test]
fn what_the_dead_left_is_found_and_removed() {
    wait(async {
        let store = memory();
        let mut random = Random(9);
        let faults = Faults::new();
        faults.on_nth(Call::TablePut, 3, Fault::FailBefore);
        let writer = Writer::new(faulty(&store, &faults));
        let died = write(&writer, &batch(&mut random, FIRST_HOUR, 1), NOW_S).await;
        assert!(died.is_err(), "the object is stored, its item is not");
        let writer = Writer::new(store.clone());
        for _ in 0..3 {
            write(&writer, &batch(&mut random, FIRST_HOUR, 1), NOW_S).await.expect("memory");
        }
        let before = answers(&store).await.expect("memory");
        // A merge stores its output and dies; then its inputs are merged with others.
        let faults = Faults::new();
        faults.on_nth(Call::TableTransact, 0, Fault::FailBefore);
        let died = run(&faulty(&store, &faults), &everything(), NOW_S).await.expect("windows");
        assert_eq!(died.failed, 1);
        write(&writer, &batch(&mut Random(9), FIRST_HOUR, 1), NOW_S).await.expect("memory");
        run(&store, &everything(), NOW_S + 1000).await.expect("memory");
        let_grace_pass(&store, NOW_S + 1000).await;
        let after = answers(&store).await.expect("memory");
        assert!(after.len() >= before.len());
        let damage = mended(&store).await;
        let levels: Vec<bool> = damage.orphans.iter().map(|orphan| orphan.key.contains("/l0-")).collect();
        assert_eq!(levels, [true, false], "{damage:?}");
        assert_eq!(answers(&store).await.expect("memory"), after);
        assert_sound(&store).await;
    });
}

#[test]
fn what_is_too_old_goes_with_its_objects() {
    wait(async {
        let store = memory();
        let writer = Writer::new(store.clone());
        let mut random = Random(4);
        for hour in [0, 0, 0, 1, 30, 30] {
            write(&writer, &batch(&mut random, FIRST_HOUR + hour, 1), NOW_S).await.expect("memory");
        }
        run(&store, &settings(), NOW_S).await.expect("memory");
        let keep = |retention: &str| Settings { retention: retention.parse().expect("rules"), ..settings() };
        for retention in ["49h", "1h,metrics=forever", "1h,default/=49h", "traces=1h", ""] {
            let report = run(&store, &keep(retention), NOW_S + 1).await.expect("memory");
            assert_eq!((report.expired, report.failed), (0, 0), "{retention}");
        }
        let report = run(&store, &keep("20h"), NOW_S + 2).await.expect("memory");
        assert!(report.expired > 0 && report.failed == 0, "{report:?}");
        let first_ms = FIRST_HOUR * HOUR_MS;
        let windows = read::windows(&store, &tenant()).await.expect("memory");
        let hours = windows.iter().map(|window| (window.min_start_ns / 1_000_000 - first_ms) / HOUR_MS);
        let hours: Vec<i64> = hours.collect();
        assert!(!hours.is_empty() && hours.iter().all(|&hour| hour == 30), "{hours:?}");
        let_grace_pass(&store, NOW_S).await;
        assert_sound(&store).await;
    });
}

#[test]
fn an_input_that_is_missing_fails_its_window_only() {
    wait(async {
        let store = memory();
        let writer = Writer::new(store.clone());
        for hour in 0..2 {
            for seed in 0..3 {
                let batch = batch(&mut Random(seed), FIRST_HOUR + hour, 1);
                write(&writer, &batch, NOW_S).await.expect("memory");
            }
        }
        let all = store.objects.list("", None, 100).await.expect("memory");
        store.objects.delete(&all[0].key).await.expect("memory");
        let report = run(&store, &settings(), NOW_S).await.expect("memory");
        assert_eq!((report.merges, report.failed), (1, 1), "{report:?}");
        let missing = answers(&store).await;
        assert!(matches!(missing, Err(Error::Missing { .. })));
        let damage = mended(&store).await;
        assert_eq!((damage.dangling.len(), damage.dangling[0].1.as_str()), (1, all[0].key.as_str()));
        answers(&store).await.expect("what is left");
    });
}
